"""What children do with message queues; importable, so that spawned ones can do it too."""

from __future__ import annotations

import os
from typing import Any

import shmkit

WATCHDOG = 60.0


def echo(requests: Any, answers: Any, times: int) -> None:
    """Sends back what it receives."""
    for _ in range(times):
        answers.send(requests.recv(WATCHDOG))


def send_numbers(queue: Any, who: int, times: int) -> None:
    """Sends its name and a serial number, again and again."""
    for number in range(times):
        queue.send(b"%d %d" % (who, number), WATCHDOG)


def count_until_end(queue: Any, results: Any) -> None:
    """Receives until an empty message, and tells what came."""
    came = []
    while message := queue.recv(WATCHDOG):
        came.append(message)
    results.put(came)


def wait_for_message(queue: Any, ready: shmkit.Event) -> None:
    """Says so, and waits to be killed."""
    ready.set()
    queue.recv()
    os._exit(0)
