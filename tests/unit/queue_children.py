"""What the children of the queue's tests do."""

from __future__ import annotations

import os
from typing import Any

import numpy as np


def put_all(queue: Any, items: list[object]) -> None:
    for item in items:
        queue.put(item)


def echo(requests: Any, answers: Any) -> None:
    while (item := requests.get()) is not None:
        answers.put(item)


def add_one(requests: Any, answers: Any) -> None:
    """To arrays, in place; alone or beside a number."""
    while (item := requests.get()) is not None:
        array = item[1] if isinstance(item, tuple) else item
        array += 1
        answers.put(array)


def put_arrays(queue: Any, count: int, size: int) -> None:
    for number in range(count):
        queue.put(np.full(size, float(number)))


def put_and_leave(queue: Any, item: object) -> None:
    """Ends at once, as a killed process does."""
    queue.put(item)
    os._exit(0)


def do_tasks(queue: Any, count: int) -> None:
    for _ in range(count):
        queue.get()
        queue.task_done()


def number_by_name(name: str) -> None:
    import shmkit

    with_name = shmkit.Queue.attach(name)
    with_name.put(("from", os.getpid()))


def keep_one(name: str, come: Any, go: Any) -> None:
    """Gets one array by name, closes the queue, and keeps the array until it is told."""
    import shmkit

    queue = shmkit.Queue.attach(name)
    array = queue.get(timeout=60)
    queue.close()
    come.put(len(array))
    go.wait(60)


def put_nothings(queue: Any, count: int) -> None:
    for _ in range(count):
        queue.put(None)
