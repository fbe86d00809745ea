"""Which of the standard library's classes have one of shmkit's in their place: the one table that contexts and
``shmkit.install()`` go by.

A replacement is a subclass of what it replaces, takes the same arguments, and stands in the module of the same name in
this package.  ``Pipe`` is a function, and so is what stands in its place.  A class is added here, and nowhere else.
"""

from __future__ import annotations

from collections import namedtuple

__all__ = ["REPLACED", "Replaced", "groups"]


# ``multiprocessing.<module>.<name>`` has ``shmkit.multiprocessing.<module>.<name>`` in its place; `group` is what
# install(only={…}) calls it.  Not a typing.NamedTuple: a child that is spawned need not import typing for it.
Replaced = namedtuple("Replaced", ["group", "module", "name"])  # noqa: PYI024

REPLACED = (
    Replaced("lock", "synchronize", "Lock"),
    Replaced("lock", "synchronize", "RLock"),
    Replaced("lock", "synchronize", "Semaphore"),
    Replaced("lock", "synchronize", "BoundedSemaphore"),
    Replaced("lock", "synchronize", "Condition"),
    Replaced("lock", "synchronize", "Event"),
    Replaced("lock", "synchronize", "Barrier"),
    Replaced("queue", "queues", "Queue"),
    Replaced("queue", "queues", "JoinableQueue"),
    Replaced("queue", "queues", "SimpleQueue"),
    Replaced("pipe", "connection", "Connection"),
    Replaced("pipe", "connection", "Pipe"),
    Replaced("shared_memory", "shared_memory", "SharedMemory"),
    Replaced("shared_memory", "shared_memory", "ShareableList"),
)


def groups() -> frozenset[str]:
    """What can be chosen."""
    return frozenset(entry.group for entry in REPLACED)
