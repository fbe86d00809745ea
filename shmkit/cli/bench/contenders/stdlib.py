"""What Python brings along: multiprocessing's queues and pipe, and a ring by hand on SharedMemory."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from shmkit.cli.bench.face import Channel, Contender, Job

_context = multiprocessing.get_context("fork")
_WAITS = frozenset({"one by one", "round trip", "sleeps", "frames", "frame trips"})
_OBJECTS = frozenset({"objects", "crowd"})


class _Queue(Channel):
    """Both ends of any queue with put and get."""

    def __init__(self, queue: Any, *, late: bool) -> None:
        self.queue = queue
        self.late = late  # pickles in a thread, later: what is sent must not change

    def sender(self) -> Any:
        self.send = self.queue.put
        return self

    def receiver(self) -> Any:
        self.recv = self.queue.get
        return self

    def send_array(self, array: np.ndarray[Any, Any]) -> None:
        self.queue.put(array.copy() if self.late else array)

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        for _ in range(count):
            yield self.queue.get()

    def forked(self) -> None:
        if self.late:
            self.queue._after_fork()  # what multiprocessing's own processes call

    def flush(self) -> None:
        if self.late:
            self.queue.close()
            self.queue.join_thread()

    def close(self) -> None:
        self.queue.close()


class Queue(Contender):
    """``multiprocessing.Queue``: the baseline.  Bounded for frames only, so that memory is."""

    name = "mp.Queue"
    family = "stdlib"
    kinds = _WAITS | _OBJECTS

    def channel(self, job: Job, pattern: Any) -> Channel:
        bounded = job.slots if pattern.kind in ("frames", "frame trips") else getattr(pattern, "maxsize", 0)
        return _Queue(_context.Queue(bounded), late=True)


class SimpleQueue(Contender):
    """``multiprocessing.SimpleQueue``."""

    name = "mp.SimpleQueue"
    family = "stdlib"
    kinds = _WAITS | _OBJECTS

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Queue(_context.SimpleQueue(), late=False)


class _Pipe(Channel):
    def __init__(self, size: int, context: Any = _context) -> None:
        self.reader, self.writer = context.Pipe(duplex=False)
        self.size = size

    def sender(self) -> Any:
        self.send = self.send_array = self.writer.send_bytes
        return self

    def receiver(self) -> Any:
        self.recv = self.reader.recv_bytes
        return self

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        frame = np.zeros(self.size // 8)
        for _ in range(count):
            self.reader.recv_bytes_into(frame)
            yield frame

    def close(self) -> None:
        self.reader.close()
        self.writer.close()


class Pipe(Contender):
    """``multiprocessing.Pipe`` with ``send_bytes`` and ``recv_bytes_into`` one buffer: nothing is pickled."""

    name = "mp.Pipe"
    family = "stdlib"
    kinds = _WAITS

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Pipe(job.size)


class _DropInPipe(_Pipe):
    """Arrays go as objects: those that are sent as bytes are copied by the receiver."""

    def sender(self) -> Any:
        self.send, self.send_array = self.writer.send_bytes, self.writer.send
        return self

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        recv = self.reader.recv
        for _ in range(count):
            yield recv()


class DropIn(Contender):
    """``shmkit.multiprocessing``, called as what it stands for."""

    family = "shmkit"
    module = "shmkit"

    def __init__(self, name: str, kinds: frozenset[str]) -> None:
        self.name = name
        self.kinds = kinds

    def channel(self, job: Job, pattern: Any) -> Channel:
        from shmkit import multiprocessing as ours

        context: Any = ours.get_context("fork")
        if "Pipe" in self.name:
            return _DropInPipe(job.size, context)
        bounded = job.slots if pattern.kind in ("frames", "frame trips") else getattr(pattern, "maxsize", 0)
        return _Queue(context.Queue(bounded), late=False)


DROP_INS: list[Contender] = [
    DropIn("drop-in Queue", _WAITS | _OBJECTS),
    DropIn("drop-in Pipe", _WAITS),
]


class _HandRing(Channel):
    """A ring of slots in Python: two indices, 128 bytes apart, and slots behind them.

    It relies on what Python does not promise, the order of its stores; x86 happens to keep it.
    """

    def __init__(self, job: Job) -> None:
        self.depth, self.size = job.slots, job.size
        self.warm = 2 * self.depth + 2
        self.stride = (self.size + 63) // 64 * 64
        self.memory: Any = SharedMemory(create=True, size=256 + self.depth * self.stride)
        self.position = self.seen = 0

    def _open(self) -> Any:
        self.indices = self.memory.buf[:256].cast("Q")
        self.bytes = self.memory.buf
        at = range(256, 256 + self.depth * self.stride, self.stride)
        if self.size % 8 == 0:
            self.frames = [np.ndarray(self.size // 8, np.float64, self.memory.buf, offset) for offset in at]
        return self

    sender = receiver = _open

    def _room(self) -> int:
        """Where the next message goes, once there is room."""
        while self.position - self.seen >= self.depth:
            self.seen = self.indices[16]
        return self.position % self.depth

    def _next(self) -> int:
        while self.position == self.seen:
            self.seen = self.indices[0]
        return self.position % self.depth

    def send(self, message: bytes) -> None:
        start = 256 + self._room() * self.stride
        self.bytes[start : start + self.size] = message
        self.position += 1
        self.indices[0] = self.position

    def try_recv(self) -> bytes | None:
        if self.position == self.seen:
            self.seen = self.indices[0]
            if self.position == self.seen:
                return None
        start = 256 + self.position % self.depth * self.stride
        message = bytes(self.bytes[start : start + self.size])
        self.position += 1
        self.indices[16] = self.position
        return message

    def recv(self) -> bytes:
        while (message := self.try_recv()) is None:
            pass
        return message

    def send_array(self, array: np.ndarray[Any, Any]) -> None:
        self.frames[self._room()][:] = array
        self.position += 1
        self.indices[0] = self.position

    def slots(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        for _ in range(count):
            yield self.frames[self._room()]
            self.position += 1
            self.indices[0] = self.position

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        for _ in range(count):
            yield self.frames[self._next()]
            self.position += 1
            self.indices[16] = self.position

    def close(self) -> None:
        self.memory.close()
        self.memory.unlink()


class HandRing(Contender):
    """A ring of 40 lines of Python on ``SharedMemory``; both sides spin."""

    name = "hand-made ring"
    family = "stdlib"
    kinds = frozenset({"one by one", "polled", "round trip", "frames", "frame trips", "in place"})

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _HandRing(job)


class _Alternate(Channel):
    """One message at a time in a SharedMemory; a semaphore tells that it is there, another that it was taken."""

    def __init__(self, job: Job) -> None:
        self.size = job.size
        self.slots = min(4, job.slots)
        self.memory: Any = SharedMemory(create=True, size=self.slots * job.size)
        self.there, self.taken = _context.Semaphore(0), _context.Semaphore(self.slots)
        self.number = 0
        self.warm = 2 * self.slots

    def _open(self) -> Any:
        size, buffer = self.size, self.memory.buf
        self.places = [buffer[at * size : (at + 1) * size] for at in range(self.slots)]
        if size % 8 == 0:
            self.frames = [np.frombuffer(place, np.float64) for place in self.places]
        return self

    sender = receiver = _open

    def _next(self) -> int:
        number = self.number % self.slots
        self.number += 1
        return number

    def send(self, message: bytes) -> None:
        self.taken.acquire()
        self.places[self._next()][:] = message
        self.there.release()

    def recv(self) -> bytes:
        self.there.acquire()
        message = bytes(self.places[self._next()])
        self.taken.release()
        return message

    def send_array(self, array: np.ndarray[Any, Any]) -> None:
        self.taken.acquire()
        self.frames[self._next()][:] = array
        self.there.release()

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        for _ in range(count):
            self.there.acquire()
            yield self.frames[self._next()]
            self.taken.release()

    def close(self) -> None:
        self.memory.close()
        self.memory.unlink()


class Semaphores(Contender):
    """``SharedMemory`` and two ``multiprocessing.Semaphore``, as programs are written by hand."""

    name = "SharedMemory, semaphores"
    family = "stdlib"
    kinds = _WAITS

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Alternate(job)
