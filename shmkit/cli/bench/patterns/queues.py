"""Patterns of queues: any object, and several producers and consumers.

::

    producer ──object object …──> consumer            producer ─┐           ┌─> consumer
                                                      producer ─┴─> queue ──┴─> consumer
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Callable
from itertools import repeat
from typing import Any

from shmkit.cli.bench.face import Job
from shmkit.cli.bench.patterns.base import DISTINCT, End, Measured, Pattern, WrongMessage
from shmkit.cli.bench.patterns.streams import OneByOne


class Record:
    """An instance of a class: what others pickle."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.text = "x" * (number % 20)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


class Objects(OneByOne):
    """Small objects, one by one: tuples, which need no pickle, or instances of a class, which others pickle."""

    kind = "objects"

    def __init__(self, seconds: float = 0.15, *, split: bool = True, pickled: bool = False) -> None:
        super().__init__(seconds, split=split)
        self.pickled = pickled

    def title(self, job: Job) -> str:
        return f"objects that {'are pickled' if self.pickled else 'are tuples of int, float, str, bytes'}"

    def prepare(self, job: Job) -> Any:
        if self.pickled:
            return [Record(number) for number in range(DISTINCT)]
        return [(number, number / 3, str(number), b"%d" % number) for number in range(DISTINCT)]


class Crowd(Pattern):
    """Several producers and as many consumers at one queue; each item arrives once, each producer's in order.

    All begin at once, when the last of them is there: what is timed is the traffic, and not the making of processes.
    Where there are more processes than cores it is the scheduler that shares them out, some milliseconds to each in
    turn: how even the consumers' shares are can only be told from many such turns (``at_least``: seconds).

    ``maxsize``: so many items fit, so that everybody has to wait now and then.
    """

    kind = "crowd"
    first_count = 20_000
    laps = False

    def __init__(
        self,
        seconds: float = 0.15,
        *,
        split: bool = False,
        workers: int = 2,
        pickled: bool = False,
        maxsize: int = 0,
        at_least: float = 0.0,
    ) -> None:
        super().__init__(max(seconds, at_least), split=split)
        self.workers = workers
        self.maxsize = maxsize
        self.pickled = pickled
        self.multiple = workers
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._round = 0
        # Of each worker, producers first: the round that it has come to, when it began in it, and when it was done.
        words = memoryview(self._memory).cast("Q")
        self._came, self._begun, self._done = (words[at : at + 2 * workers] for at in (0, 128, 256))

    def _together(self, worker: int, work: Callable[[int], Any]) -> Any:
        """What the worker does of this round, from when all are there."""
        self._came[worker] = self._round
        while min(self._came) < self._round:
            os.sched_yield()
        self._begun[worker] = time.monotonic_ns()
        found = work(worker % self.workers)
        self._done[worker] = time.monotonic_ns()
        return found

    def title(self, job: Job) -> str:
        what = "pickled objects" if self.pickled else "tuples"
        room = f", room for {self.maxsize}" if self.maxsize else ""
        return f"{what}, {self.workers} producers, {self.workers} consumers{room}"

    def first(self, end: End, count: int) -> Any:
        mine, put = count // self.workers, end.sender.send

        def produce(me: int) -> None:
            if self.pickled:
                for number in range(mine):
                    record = Record(number)
                    record.text = me  # type: ignore[assignment]
                    put(record)
            else:
                for number in range(mine):
                    put((me, number))

        def help_out(me: int) -> None:
            end.sender.forked()
            self._together(me, produce)
            end.sender.flush()

        self._round += 1
        helpers = [_fork(lambda me=me: help_out(me)) for me in range(1, self.workers)]
        self._together(0, produce)
        for helper in helpers:
            _wait(*helper)
        for _ in repeat(None, self.workers):
            put(None)

    def second(self, end: End, count: int) -> Any:
        get = end.receiver.recv

        def consume(_: int) -> list[int]:
            seen, last = 0, [-1] * self.workers
            while (item := get()) is not None:
                me, number = (item.text, item.number) if self.pickled else item
                if number <= last[me]:
                    raise WrongMessage("doubled or out of order")
                last[me] = number
                seen += 1
            return [seen]

        self._round += 1
        workers = range(self.workers + 1, 2 * self.workers)
        helpers = [_fork(lambda worker=worker: self._together(worker, consume)) for worker in workers]
        shares = [self._together(self.workers, consume)[0]] + [_wait(*helper) for helper in helpers]
        if sum(shares) != count:
            raise WrongMessage(f"{count} were sent, {sum(shares)} came")
        return shares

    def result(self, count: int, elapsed: float, first: Any, second: Any) -> Measured:
        shares = second["samples"]
        elapsed = (max(self._done) - min(self._begun)) / 1e9
        return Measured(elapsed / count, extra={"balance": min(shares) / max(shares)})


def _fork(work: Any) -> tuple[int, int]:
    """A child that does it, and the pipe on which it says one number."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    status = 1
    try:
        said = work()
        os.write(writer, struct.pack("<q", said[0] if said else 0))
        status = 0
    finally:
        os._exit(status)


def _wait(pid: int, reader: int) -> int:
    said = os.read(reader, 8)
    os.close(reader)
    os.waitpid(pid, 0)
    if len(said) != 8:
        raise WrongMessage("a helper failed")
    return int(struct.unpack("<q", said)[0])
