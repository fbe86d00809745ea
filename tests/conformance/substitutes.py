"""Whose classes CPython's tests get: the standard library's, shmkit's, or shmkit's with a fault of ours.

A run says so in its environment, which its children inherit: a child that is spawned imports ``mp_suite`` to find what
it is to run, and so has the same classes as its parent.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from multiprocessing import context

WHOSE = "SHMKIT_CONFORMANCE_CLASSES"
METHOD = "SHMKIT_CONFORMANCE_METHOD"
COUNT = "SHMKIT_CONFORMANCE_COUNT"


# All of multiprocessing, as shmkit.multiprocessing offers it, or with shmkit.install().
FACES = ("drop-in", "install")
# shmkit.Executor in the place of concurrent.futures' ProcessPoolExecutor.
EXECUTOR = "executor"
# shmkit.Queue, SimpleQueue and JoinableQueue themselves, and nothing else.
QUEUES = "queues"


def face() -> str:
    """Which of them this run is about, if any; with a fault of ours it is called ``face+fault``."""
    return os.environ[WHOSE].partition("+")[0]


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
    if whose in ("stdlib", EXECUTOR) or face() in FACES:
        return {}
    if face() == QUEUES:
        from conformance.shared_queues import queues

        return {name: counted(make) for name, make in queues(whose.partition("+")[2]).items()}
    # Not for the standard library's: each child that is spawned would import NumPy.
    from conformance.shared_classes import classes

    return {name: counted(make) for name, make in classes(whose).items()}


def install() -> None:
    """Puts them where multiprocessing's are: in the package, and in every context, so in queues and pools too."""

    def method(make: Callable[..., object]) -> Callable[..., object]:
        return lambda _context, *args, **options: make(*args, **options)

    if face() in FACES:
        count_faces()
    if face() == "install":
        import shmkit

        shmkit.install()
    made = chosen()
    inside: dict[str, Callable[..., object]] = {}
    if "Semaphore" in made:
        from conformance.shared_classes import QueueBoundedSemaphore, QueueSemaphore

        inside = {"Semaphore": counted(QueueSemaphore), "BoundedSemaphore": counted(QueueBoundedSemaphore)}
    for name, make in made.items():
        setattr(multiprocessing, name, make)
        setattr(context.BaseContext, name, method(inside.get(name, make)))


def count_faces() -> None:
    """Has each class of the drop-in note when one is made."""
    from shmkit._replaced import REPLACED

    fault = os.environ[WHOSE].partition("+")[2]
    if fault:
        from conformance import face_faults

        face_faults.FAULTS[fault]()
    for entry in REPLACED:
        kind = getattr(import_module(f"shmkit.multiprocessing.{entry.module}"), entry.name)
        kind.__init__ = noted(kind.__init__)


def noted(initialise: Callable[..., None]) -> Callable[..., None]:
    @wraps(initialise)
    def wrapper(*args: object, **options: object) -> None:
        with open(os.environ[COUNT], "ab") as count:
            count.write(b".")
        initialise(*args, **options)

    return wrapper
