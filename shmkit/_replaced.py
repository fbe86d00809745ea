"""Which of the standard library's classes have one of shmkit's in their place: the one table that contexts and
``shmkit.install()`` go by.

A replacement is a subclass of what it replaces, takes the same arguments, and stands in the module of the same name in
this package.  ``Pipe`` is a function, and so is what stands in its place.  A class is added here, and nowhere else.
"""

from __future__ import annotations

from collections import namedtuple

__all__ = ["REPLACED", "STATISTICS", "Replaced", "groups"]

# What the environment calls the segment in which a run counts (multiprocessing/_statistics.py); not there: none does.
STATISTICS = "SHMKIT_RUN_STATISTICS"

# ``<theirs>.<name>`` has ``shmkit.multiprocessing.<module>.<name>`` in its place; `group` is what install(only={…})
# calls it.  Not a typing.NamedTuple: a child that is spawned need not import typing for it.
# It may have a method `_stands_for`, of the class: whether it takes the place of one that is derived from the other.
Replaced = namedtuple("Replaced", ["group", "module", "name", "theirs"])  # noqa: PYI024


def _replaced(group: str, module: str, name: str) -> Replaced:
    """Where both have the same module."""
    return Replaced(group, module, name, f"multiprocessing.{module}")


REPLACED = (
    _replaced("lock", "synchronize", "Lock"),
    _replaced("lock", "synchronize", "RLock"),
    _replaced("lock", "synchronize", "Semaphore"),
    _replaced("lock", "synchronize", "BoundedSemaphore"),
    _replaced("lock", "synchronize", "Condition"),
    _replaced("lock", "synchronize", "Event"),
    _replaced("lock", "synchronize", "Barrier"),
    _replaced("queue", "queues", "Queue"),
    _replaced("queue", "queues", "JoinableQueue"),
    _replaced("queue", "queues", "SimpleQueue"),
    _replaced("pipe", "connection", "Connection"),
    _replaced("pipe", "connection", "Pipe"),
    _replaced("pool", "pool", "Pool"),
    _replaced("manager", "managers", "SyncManager"),
    _replaced("shared_memory", "shared_memory", "SharedMemory"),
    _replaced("shared_memory", "shared_memory", "ShareableList"),
    Replaced("executor", "_futures", "ProcessPoolExecutor", "concurrent.futures.process"),
)


def groups() -> frozenset[str]:
    """What can be chosen."""
    return frozenset(entry.group for entry in REPLACED)
