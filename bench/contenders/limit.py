"""What the machine can do (limits/): C loops without any safety, and a bare ring in Cython for Python to call."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import patterns as p
from contenders import framed
from limits import compiled
from shmkit.cli.bench.contenders import kernel
from shmkit.cli.bench.face import Channel, Contender, Job

Samples = Callable[[int], Any]


def _right(wrong: int) -> None:
    if wrong:
        raise p.WrongMessage(f"{wrong} messages are not what was sent")


class _Memory(Channel):
    """Slots in memory that both children inherit."""

    def __init__(self, job: Job, pauses: int = 1) -> None:
        self.job, self.pauses = job, pauses
        self.warm = 2 * job.slots + 2
        self.memory = mmap.mmap(-1, 256 + job.slots * ((job.size + 63) // 64 * 64))

    def end(self, kind: Any) -> Any:
        return kind(self.memory, self.job.slots, self.job.size, self.pauses)

    def close(self) -> None:
        self.memory.close()


# -- a bare ring in Cython ----------------------------------------------------------------------------------------


class _Bare(_Memory):
    def sender(self) -> Any:
        ring = self.ring = self.end(compiled.BareRing)
        self.send, self.send_many, self.send_block = ring.send, ring.send_many, ring.send_block
        self.send_array = ring.send_array
        return self

    def receiver(self) -> Any:
        ring = self.ring = self.end(compiled.BareRing)
        self.recv, self.try_recv = ring.recv, ring.try_recv
        self.recv_many, self.recv_block = ring.recv_many, ring.recv_block
        return self

    def slots(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        reserve, commit = self.ring.reserve, self.ring.commit
        for _ in range(count):
            yield reserve()
            commit()

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        view, release = self.ring.view, self.ring.release
        for _ in range(count):
            yield view()
            release()


class BareCython(Contender):
    """The index protocol and Python's objects; spins in C, sees no signal, notices no death."""

    name = "LIMIT bare Cython ring"
    family = "limit"
    kinds = frozenset({"one by one", "polled", "round trip", "lists", "blocks", "frames", "in place"})

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Bare(job)


class LingeringCython(Contender):
    """The same; an empty ring is looked at again only after a pause, so that the index line keeps still."""

    name = "LIMIT bare Cython ring, lingers"
    family = "limit"
    kinds = frozenset({"one by one"})

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Bare(job, pauses=20)


# -- loops in C ---------------------------------------------------------------------------------------------------


class _Ring(_Memory):
    number = 0

    def native(self, pattern: Any, role: int, back: Any) -> Samples:
        ring = self.end(compiled.Native)
        if isinstance(pattern, p.RoundTrip):
            other = back.end(compiled.Native)
            return self._client(ring, other, pattern) if role == 0 else lambda count: ring.server(other, count)
        if isinstance(pattern, p.OneByOne):
            return ring.produce_small if role == 0 else lambda count: _right(ring.consume_small(count))
        if isinstance(pattern, p.Blocks):
            block, _, into = pattern.prepare(self.job)
            if role == 0:
                return lambda count: ring.produce_batches(count, block)
            return lambda count: _right(ring.consume_batches(count, block, into))
        return self._frames(ring, pattern, role)

    @staticmethod
    def _client(ring: Any, back: Any, pattern: Any) -> Samples:
        def loop(count: int) -> Any:
            single = pattern.singles(count)
            blocks, singles = np.zeros(count // pattern.block - single), np.zeros(single * pattern.block)
            _right(ring.client(back, pattern.block, blocks) + ring.client(back, 1, singles))
            return blocks.tolist(), singles.tolist()

        return loop

    def _frames(self, ring: Any, pattern: Any, role: int) -> Samples:
        source, inner = p.Frames.source(self.job)
        if not pattern.summed:
            inner = -1.0

        def loop(count: int) -> None:
            if role == 1:
                _right(ring.consume_frames(count, self.number, inner))
            elif isinstance(pattern, p.InPlace):
                ring.produce_in_place(count, self.number)
            else:
                ring.produce_frames(count, source, self.number)
            self.number += count

        return loop


class NativeRing(Contender):
    """Ring of slots with cached indices; memcpy in, the receiver gets a pointer."""

    name = "LIMIT C ring"
    family = "limit"
    kinds = frozenset({"one by one", "polled", "round trip", "blocks", "frames", "in place"})

    def channel(self, job: Job, pattern: Any) -> Channel:
        # Small messages in a row: both sides in lockstep are several times slower, so this one lingers when empty.
        return _Ring(job, pauses=100 if isinstance(pattern, p.OneByOne) else 1)


class _Words(Channel):
    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, mmap.PAGESIZE)

    def close(self) -> None:
        self.memory.close()

    def native(self, pattern: Any, role: int, back: Any) -> Samples:
        words = compiled.Words(self.memory)
        if isinstance(pattern, p.PolledRoundTrip):
            return self._spin(words, pattern) if role == 0 else words.spin_server
        gap = int(pattern.gap * 1e9)
        if isinstance(pattern, p.AsleepRoundTrip):
            loop = words.sleep_client if role == 0 else words.sleep_server
            return lambda count: self._filled(count, lambda samples: loop(gap, samples))
        if isinstance(pattern, p.WakeUp):
            if role == 0:
                return lambda count: self._filled(count, lambda called: words.call(gap, called))
            return lambda count: self._filled(count, words.sleep)
        raise NotImplementedError(pattern.kind)

    @staticmethod
    def _filled(count: int, loop: Callable[[np.ndarray[Any, Any]], None]) -> list[float]:
        samples = np.zeros(count)
        loop(samples)
        return samples.tolist()  # type: ignore[no-any-return]

    def _spin(self, words: Any, pattern: Any) -> Samples:
        def loop(count: int) -> Any:
            single = pattern.singles(count)
            blocks = self._filled(count // pattern.block - single, lambda it: words.spin_client(pattern.block, it))
            return blocks, self._filled(single * pattern.block, lambda it: words.spin_client(1, it))

        return loop


class NativeLine(Contender):
    """One cache line to and fro: no ring can be faster."""

    name = "LIMIT C cache line"
    family = "limit"
    kinds = frozenset({"polled"})

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Words()


class NativeFutex(Contender):
    """A word and a futex: each side sleeps until the other wakes it."""

    name = "LIMIT C futex"
    family = "limit"
    kinds = frozenset({"sleeps", "signals"})

    def supports(self, pattern: Any, job: Job) -> bool:
        return super().supports(pattern, job) and not isinstance(pattern, p.Parked)

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Words()


# -- system calls in C --------------------------------------------------------------------------------------------


class _Descriptors(Channel):
    """Both ends of a way of another contender, whose descriptors the loops in C read and write."""

    send, receive = staticmethod(compiled.stream_send), staticmethod(compiled.stream_receive)

    def __init__(self, way: Any, job: Job) -> None:
        self.way, self.job = way, job
        self.number = 0

    def native(self, pattern: Any, role: int, back: Any) -> Samples:
        source, _ = p.Frames.source(self.job)
        end = self.way.writer if role == 0 else self.way.reader
        fd = end if isinstance(end, int) else end.fileno()

        def loop(count: int) -> None:
            if role == 0:
                self.send(fd, source, count, self.number)
            else:
                _right(self.receive(fd, source, count, self.number))
            self.number += count

        return loop

    def close(self) -> None:
        self.way.close()


class _Framed(_Descriptors):
    """The same of messages that are kept apart."""

    send, receive = staticmethod(compiled.framed_send), staticmethod(compiled.framed_receive)


class _Queues(_Descriptors):
    """The same of a message queue."""

    def native(self, pattern: Any, role: int, back: Any) -> Samples:
        source, _ = p.Frames.source(self.job)
        queue = self.way.queue
        sysv = not hasattr(queue, "mqd")
        number = queue.id if sysv else queue.mqd

        def loop(count: int) -> None:
            if role == 0:
                compiled.queue_send(number, sysv, source, count, self.number)
            else:
                _right(compiled.queue_receive(number, sysv, source, count, self.number))
            self.number += count

        return loop


class NativeStream(Contender):
    """``write`` and ``read`` in C (of a queue, its own calls), on what a contender makes by hand."""

    family = "limit"
    kinds = frozenset({"frames"})

    def __init__(self, name: str, by_hand: Contender, made: type[_Descriptors] = _Descriptors) -> None:
        self.name = name
        self.by_hand = by_hand
        self.made = made
        self.largest = by_hand.largest
        self.module, self.package = by_hand.module, by_hand.package

    def supports(self, pattern: Any, job: Job) -> bool:
        return super().supports(pattern, job) and not pattern.summed

    def channel(self, job: Job, pattern: Any) -> Channel:
        return self.made(self.by_hand.channel(job, pattern), job)


STREAMS: list[Contender] = [
    NativeStream("LIMIT C pipe", kernel.OsPipe()),
    NativeStream("LIMIT C FIFO", kernel.Fifo()),
    NativeStream("LIMIT C UNIX socket", kernel.UnixSocket()),
    NativeStream("LIMIT C UNIX packets", kernel.UnixPackets()),
    NativeStream("LIMIT C TCP socket", kernel.TcpSocket()),
    NativeStream("LIMIT C POSIX queue", kernel.PosixQueue(), _Queues),
    NativeStream("LIMIT C System V queue", kernel.SysVQueue(), _Queues),
    NativeStream("LIMIT C pipe, framed", framed.OsPipe(), _Framed),
    NativeStream("LIMIT C FIFO, framed", framed.Fifo(), _Framed),
    NativeStream("LIMIT C UNIX socket, framed", framed.UnixSocket(), _Framed),
    NativeStream("LIMIT C TCP socket, framed", framed.TcpSocket(), _Framed),
]
