"""Whose classes CPython's tests get: the standard library's, shmkit's, or shmkit's with a fault of ours.

A run says so in its environment, which its children inherit: a child that is spawned imports ``mp_suite`` to find what
it is to run, and so has the same classes as its parent.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing import context

WHOSE = "SHMKIT_CONFORMANCE_CLASSES"
METHOD = "SHMKIT_CONFORMANCE_METHOD"
COUNT = "SHMKIT_CONFORMANCE_COUNT"


def counted(make: Callable[..., object]) -> Callable[..., object]:
    """`make`, and a byte more in the run's file for each that was made, in whatever process."""

    def factory(*args: object, **options: object) -> object:
        with open(os.environ[COUNT], "ab") as count:
            count.write(b".")
        return make(*args, **options)

    return factory


def chosen() -> dict[str, Callable[..., object]]:
    """The classes of this run, counted, by name; none: the standard library's own."""
    whose = os.environ[WHOSE]
    if whose == "stdlib":
        return {}
    # Not for the standard library's: each child that is spawned would import NumPy.
    from conformance.shared_classes import classes

    return {name: counted(make) for name, make in classes(whose).items()}


def install() -> None:
    """Puts them where multiprocessing's are: in the package, and in every context, so in queues and pools too."""

    def method(make: Callable[..., object]) -> Callable[..., object]:
        return lambda _context, *args, **options: make(*args, **options)

    made = chosen()
    if not made:
        return
    from conformance.shared_classes import QueueBoundedSemaphore, QueueSemaphore

    inside = {"Semaphore": counted(QueueSemaphore), "BoundedSemaphore": counted(QueueBoundedSemaphore)}
    for name, make in made.items():
        setattr(multiprocessing, name, make)
        setattr(context.BaseContext, name, method(inside.get(name, make)))
