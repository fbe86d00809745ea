"""What children do with primitives.  Importable, so that spawned ones find it."""

from __future__ import annotations

import signal
from multiprocessing.connection import Connection
from typing import Any


def hold(primitive: Any, pipe: Connection) -> None:
    """Acquires, says so, and releases when told to."""
    primitive.acquire()
    pipe.send("held")
    pipe.recv()
    primitive.release()
    pipe.send("released")


def hold_for_ever(primitive: Any, pipe: Connection, times: int = 1) -> None:
    """Acquires, says so, and waits to be killed."""
    for _ in range(times):
        primitive.acquire()
    pipe.send("held")
    signal.pause()


def hold_to_the_end(primitive: Any) -> None:
    """Ends, in order, without a release."""
    primitive.acquire()


def answer(primitive: Any, pipe: Connection) -> None:
    """Calls the methods that it is told to, and answers with the result or with the exception."""
    while (order := pipe.recv()) is not None:
        method, arguments = order
        try:
            pipe.send(getattr(primitive, method)(*arguments))
        except Exception as error:
            pipe.send(error)


def add_up(primitive: Any, counter: Any, count: int) -> None:
    """Adds one to a counter, so often, each time in two steps under the primitive."""
    for _ in range(count):
        with primitive:
            value = counter[0]
            counter[0] = value + 1


def raise_the_flag(event: Any) -> None:
    event.set()


def wait_for_the_flag(event: Any, pipe: Connection) -> None:
    """Says that it is there, then what its wait returned."""
    pipe.send("there")
    pipe.send(event.wait(30))


def stand_in_line(condition: Any, pipe: Connection, timeout: float | None = None) -> None:
    """Waits to be notified; says that it holds the lock, then what the wait returned."""
    with condition:
        pipe.send("there")
        pipe.send(condition.wait(timeout))
