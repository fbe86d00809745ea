"""shmkit, used as its documentation does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from face import Channel, Contender, Job


class _Ring(Channel):
    """An anonymous ring that both children inherit; each takes its role with its first call."""

    def __init__(self, job: Job) -> None:
        import shmkit

        self.size = job.size
        self.warm = 2 * job.slots + 2
        self.ring = shmkit.Ring.create(capacity=job.capacity)

    def _open(self) -> Any:
        ring = self.ring
        self.send, self.send_many, self.send_array = ring.send, ring.send_many, ring.send
        self.recv, self.try_recv, self.recv_many = ring.recv, ring.try_recv, ring.recv_many
        return self

    sender = receiver = _open

    def send_block(self, block: np.ndarray[Any, Any]) -> None:
        self.ring.send_many(block, itemsize=self.size)

    def recv_block(self, into: np.ndarray[Any, Any]) -> int:
        return self.ring.recv_many_into(into, self.size)

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


class Shmkit(Contender):
    """``shmkit.Ring`` by its defaults: bytes with ``send`` and ``recv``, frames with ``recv_view`` and ``reserve``."""

    name = "shmkit"
    family = "shmkit"
    kinds = frozenset({"one by one", "polled", "round trip", "sleeps", "lists", "blocks", "frames", "in place"})

    def missing(self) -> str | None:
        try:
            import shmkit
        except ImportError as error:
            return f"shmkit is not installed: {error}"
        return None if hasattr(shmkit, "Ring") else "this shmkit has no Ring"

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Ring(job)


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


class ShmkitQueue(Contender):
    """``shmkit.Queue`` by its defaults.  Bounded for frames only, so that memory is."""

    name = "shmkit.Queue"
    family = "shmkit"
    kinds = frozenset({"one by one", "round trip", "sleeps", "lists", "frames", "objects", "crowd"})

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Queue(job.slots if pattern.kind == "frames" else 0)
