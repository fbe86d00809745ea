"""shmkit's rings, queues and topics, used as its documentation does."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from shmkit.cli.bench.face import Channel, Contender, Job

__all__ = ["Queue", "QueueByReference", "Ring", "RingInPlace", "Topic"]

_serial = itertools.count()


class _Ring(Channel):
    """An anonymous ring that both children inherit; each takes its role with its first call."""

    def __init__(self, job: Job) -> None:
        import shmkit

        self.size = job.size
        self.warm = 2 * job.slots + 2
        self.ring = shmkit.Ring.create(capacity=1 << (job.capacity - 1).bit_length())  # a power of two

    def _open(self) -> Any:
        ring = self.ring
        self.send, self.send_many, self.send_array = ring.send, ring.send_many, ring.send
        self.recv, self.try_recv, self.recv_many = ring.recv, ring.try_recv, ring.recv_many
        return self

    sender = receiver = _open

    def send_block(self, block: np.ndarray[Any, Any]) -> None:
        self.ring.send_many(block, itemsize=self.size)

    def recv_block(self, into: np.ndarray[Any, Any]) -> int:
        return self.ring.recv_many_into(into.data, self.size)

    def slots(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        reserve, shape = self.ring.reserve, (self.size // 8,)
        for _ in range(count):
            with reserve(shape, "float64") as frame:
                yield frame

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        recv_view = self.ring.recv_view
        for _ in range(count):
            with recv_view() as frame:
                yield frame

    def leave(self) -> None:
        self.ring.close()

    def close(self) -> None:
        self.ring.close()


class Ring(Contender):
    """``shmkit.Ring`` by its defaults: bytes with ``send`` and ``recv``, frames with ``recv_view`` and ``reserve``."""

    name = "shmkit.Ring"
    family = "shmkit"
    module = "shmkit"
    kinds = frozenset(
        {"one by one", "polled", "round trip", "sleeps", "lists", "blocks", "frames", "frame trips", "in place"}
    )

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Ring(job)


class _RingInPlace(_Ring):
    def _open(self) -> Any:
        super()._open()
        self.send_array = self.write_in_place  # type: ignore[assignment]
        return self

    sender = receiver = _open

    def write_in_place(self, source: np.ndarray[Any, Any]) -> None:
        """As a program that computes the array where it will be read."""
        with self.ring.reserve(source.shape, "float64") as frame:
            frame[0] = source[0]
            frame[-1] = source[-1]


class RingInPlace(Contender):
    """The same, but that frames are written where they will be read: of what is sent, only the ends are."""

    name = "shmkit.Ring in place"
    family = "shmkit"
    module = "shmkit"
    kinds = frozenset({"frames", "frame trips"})
    copies = False

    def supports(self, pattern: Any, job: Job) -> bool:
        return super().supports(pattern, job) and not getattr(pattern, "summed", False)

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _RingInPlace(job)


class _Queue(Channel):
    """An anonymous queue that both children inherit."""

    def __init__(self, maxsize: int) -> None:
        import shmkit

        self.queue = shmkit.Queue(maxsize)
        self.warm = 2 * maxsize + 2

    def _open(self) -> Any:
        self.send = self.send_array = self.queue.put
        self.recv = self.queue.get
        self.send_many = self.queue.put_many
        self.recv_many = self.queue.get_many
        return self

    sender = receiver = _open

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        get = self.queue.get
        for _ in range(count):
            yield get()

    def close(self) -> None:
        self.queue.close()


class Queue(Contender):
    """``shmkit.Queue`` by its defaults.  Bounded for frames only, so that memory is."""

    name = "shmkit.Queue"
    family = "shmkit"
    module = "shmkit"
    kinds = frozenset({"one by one", "round trip", "sleeps", "lists", "frames", "frame trips", "objects", "crowd"})

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Queue(job.slots if pattern.kind in ("frames", "frame trips") else getattr(pattern, "maxsize", 0))


class _QueueByReference(_Queue):
    """Rows of one shared array, more than can be under way and at the receiver together."""

    def __init__(self, job: Job) -> None:
        import shmkit

        depth = min(job.slots, 16)
        super().__init__(depth)
        self.rows = shmkit.empty((depth + 3, job.size // 8), "float64")
        self.next = itertools.cycle(list(self.rows))
        self.filled = False

    def _open(self) -> Any:
        super()._open()
        self.send_array = self.send_row  # type: ignore[assignment]
        return self

    sender = receiver = _open

    def send_row(self, source: np.ndarray[Any, Any]) -> None:
        """A reference to a row, after its ends were written."""
        if not self.filled:
            self.rows[:] = source
            self.filled = True
        row = next(self.next)
        row[0] = source[0]
        row[-1] = source[-1]
        self.queue.put(row)

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        get = self.queue.get
        for _ in range(count):
            self.kept = get()  # one is always held, so the memory stays open here
            yield self.kept


class QueueByReference(Contender):
    """A ``SharedArray`` through a ``shmkit.Queue``: nothing is copied, whatever its size."""

    name = "SharedArray by Queue"
    family = "shmkit"
    module = "shmkit"
    kinds = frozenset({"frames", "frame trips"})
    copies = False

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _QueueByReference(job)


class _Topic(Channel):
    """A named topic: the child that sends takes the publisher's place.

    The publisher waits for nobody: what was overtaken before the receiver came to it would be waited for in vain.
    """

    def __init__(self, job: Job, slots: int) -> None:
        import shmkit

        self.name = f"shmkit-bench-{os.getpid()}-{next(_serial)}"
        shmkit.Publisher.create(self.name, slots=slots, slot_size=max(4096, job.size + 1024)).close()
        self.warm = 16

    def sender(self) -> Any:
        import shmkit

        self.end: Any = shmkit.Publisher.attach(self.name)
        self.send = self.send_array = self.end.publish
        return self

    def receiver(self) -> Any:
        import shmkit

        self.end = shmkit.Subscriber.attach(self.name)
        self.recv = self.end.recv
        return self

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        recv = self.end.recv
        for _ in range(count):
            yield recv()

    def leave(self) -> None:
        self.end.close()

    def close(self) -> None:
        import shmkit

        shmkit.unlink(self.name, missing_ok=True)


class Topic(Contender):
    """``shmkit.Publisher`` and ``Subscriber``: who publishes never waits, so only what is answered can be compared."""

    name = "shmkit.Topic"
    family = "shmkit"
    module = "shmkit"
    kinds = frozenset({"round trip", "sleeps", "frame trips"})

    def channel(self, job: Job, pattern: Any) -> Channel:
        # What is not answered has room for all that is sent in a round of seconds, as a receiver may be woken late.
        return _Topic(job, 1024 if pattern.kind == "sleeps" else 4)
