"""Queues with the standard library's words: ``Queue``, ``SimpleQueue`` and ``JoinableQueue``.

They take the arguments, and answer and raise what those of ``multiprocessing`` do, and more: names, ``put_many``,
``get_many``, ``shutdown``, a choice of what a full queue does.
"""

from __future__ import annotations

from functools import partial
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex
from weakref import WeakKeyDictionary

from shmkit import errors
from shmkit._queue import QueueBase
from shmkit._queue_named import create_named, find_named

if TYPE_CHECKING:
    from typing_extensions import Self

    from shmkit._awaiting import Awaiting, InLoops
    from shmkit.segment.base import Backing, Lifetime

__all__ = ["Backpressure", "JoinableQueue", "Queue", "SimpleQueue"]

Backpressure = Literal["block", "raise", "drop_oldest", "drop_newest"]


class _Face(QueueBase):
    """What all of them have: names, and what an event loop waits for."""

    __class_getitem__ = classmethod(GenericAlias)  # type: ignore[var-annotated]

    @classmethod
    def _create(
        cls,
        name: str,
        maxsize: int,
        capacity: SupportsIndex | str | None,
        backpressure: Backpressure,
        backing: Backing | None,
        mode: int,
        lifetime: Lifetime | None,
    ) -> Self:
        if backing == "sysv":
            raise ValueError(
                f"queue {name!r}: its heap takes memory as it needs it, which a System V segment cannot: backing is "
                "'posix' or 'file', or None: got 'sysv'"
            )
        made = cls.__new__(cls)
        create_named(made, name, maxsize, capacity, backpressure, backing, mode, lifetime)
        return made

    @classmethod
    def attach(cls, name: str, *, backing: Backing | None = None, owner: int | None = None) -> Self:
        """Find the one that was created under ``name``.  SegmentNotFound, SegmentPermission, LayoutMismatch."""
        found = cls.__new__(cls)
        find_named(found, name, backing, owner)
        return found

    @property
    def name(self) -> str | None:
        """What it is attached by; None: it is anonymous."""
        return self._name()

    def unlink(self) -> None:
        """Remove its name; whoever is attached goes on.  ValueError for one that has none."""
        if self._name() is None:
            raise ValueError(f"{self!r} has no name to remove")
        self._unlink()

    async def get_async(self, timeout: float | None = None) -> Any:
        """`get`, in an event loop of asyncio, for any number of tasks at a time.  Empty after ``timeout`` seconds.

        The task that waits longest is the first to get an item; one that is cancelled while it waits has got nothing.
        """
        from shmkit._awaiting import Source

        source = Source(partial(self._watched, 0), self._look, self.qsize)
        return await self._tasks(0).once(source, partial(QueueBase.get, self, False), errors.Empty, timeout)

    async def put_async(self, obj: Any, timeout: float | None = None) -> None:
        """`put`, in an event loop of asyncio.  Full after ``timeout`` seconds; at once where the queue says "raise"."""
        from shmkit._awaiting import Source

        if not self._waits:
            timeout = 0
        source = Source(partial(self._watched, 1), self._look_for_room, self._room)
        await self._tasks(1).once(source, partial(QueueBase.put, self, obj, False), errors.Full, timeout)

    def _tasks(self, which: int) -> Awaiting:
        from shmkit._awaiting import awaiting_in

        known: tuple[InLoops, InLoops] = self.__dict__.setdefault(
            "_awaiting", (WeakKeyDictionary(), WeakKeyDictionary())
        )
        return awaiting_in(known[which])

    def close(self) -> None:
        """End the use of this handle; what is in the queue stays, for others.  Idempotent.

        Arrays that were received stay valid, and tasks that wait for the queue raise Closed.  An anonymous queue goes
        with its last handle, and with it what is in it.
        """
        QueueBase.close(self)
        known: tuple[InLoops, InLoops] | None = self.__dict__.get("_awaiting")
        if known is not None:
            from shmkit._awaiting import end_all

            for tasks in known:
                end_all(tasks)


class Queue(_Face):
    """A queue that any number of processes and threads put into and get from, first in, first out for each producer.

    ``Queue()`` makes an anonymous one, which children inherit or are passed (under any start method);
    ``Queue.create`` and ``Queue.attach`` share one by name.  ``maxsize`` 0 or less: as many items as there is memory
    for.  ``backpressure`` says what `put` does when ``maxsize`` items are there, or there is no memory for one more:
    "block" (waits), "raise" (Full at once), "drop_oldest" or "drop_newest" (what is
    dropped is counted: ``statistics()["dropped"]``).

    An item is copied once, into shared memory, when it is put.  Arrays arrive as arrays that own that memory: no copy
    is made of them, they can be written to, and they stay valid as long as they are kept, whatever becomes of the
    queue.

    A process that is killed stops nobody: what it was putting is there or is not, what it was getting goes to another.
    """

    def __init__(self, maxsize: int = 0, *, ctx: object = None, backpressure: Backpressure = "block") -> None:
        self._make(maxsize, backpressure, None)

    @classmethod
    def create(
        cls,
        name: str,
        maxsize: int = 0,
        *,
        capacity: SupportsIndex | str | None = None,
        backpressure: Backpressure = "block",
        backing: Backing | None = None,
        mode: int = 0o600,
        lifetime: Lifetime | None = None,
    ) -> Self:
        """Make one under a name, with a heap of its own, of at most ``capacity`` bytes (None: half of the memory,
        or an eighth of RLIMIT_AS where that is less).

        SegmentExists, NoSpace; ValueError: ``backing`` is "sysv", whose room is taken at once.  Whoever may write to it
        (``mode``) can have those run any code who get from it, as items may be pickles: so these are refused where
        others than the owner may.
        """
        return cls._create(name, maxsize, capacity, backpressure, backing, mode, lifetime)

    def join_thread(self) -> None:
        """Return at once: what was put is in the queue already, and no thread has to be waited for.

        Also before `close`, as faster-fifo's; the standard library's, and the drop-in's, assert that this is closed.
        """

    def cancel_join_thread(self) -> None:
        """Do nothing: exiting never waits for a reader."""


class JoinableQueue(Queue):
    """A Queue that counts what has been done: each item that was got is to be followed by one ``task_done()``.

    An item that a full queue drops (``backpressure="drop_oldest"``), or an immediate ``shutdown`` removes, counts as
    done, whoever is killed at that; but no more are done than were put, so one that is dropped after all were declared
    done leaves what is put later to be done.
    """

    _counts_tasks = True

    def task_done(self) -> None:
        """Declare that an item that was got has been dealt with.  ValueError if there were not that many."""
        self._task_done()

    def join(self) -> None:
        """Wait until every item that was put has been declared done."""
        self._join()


class SimpleQueue(_Face):
    """A queue without a limit, and with few words: ``put``, ``get``, ``empty``, ``close``."""

    def __init__(self, *, ctx: object = None) -> None:
        self._make(0, "block", None)

    @classmethod
    def create(
        cls,
        name: str,
        *,
        capacity: SupportsIndex | str | None = None,
        backing: Backing | None = None,
        mode: int = 0o600,
        lifetime: Lifetime | None = None,
    ) -> Self:
        """Make one under a name, with a heap of its own: see ``Queue.create``."""
        return cls._create(name, 0, capacity, "block", backing, mode, lifetime)

    if TYPE_CHECKING:

        def put(self, obj: Any) -> None:  # type: ignore[override]
            """Put ``obj``.  What pickling raises, if it cannot be pickled; HeapFull."""

        def get(self) -> Any:  # type: ignore[override]
            """Remove an item and return it; wait for one."""

    else:  # without a step in between
        put = QueueBase._put_simple
        get = QueueBase._get_simple

    def put_nowait(self, obj: Any) -> None:
        """``put``, which never waits but for memory: HeapFull if there is none."""
        QueueBase.put(self, obj, False)

    def get_nowait(self) -> Any:
        """Remove an item and return it; Empty if there is none."""
        return QueueBase.get(self, False)
