"""Patterns of queues: any object, and several producers and consumers.

::

    producer ──object object …──> consumer            producer ─┐           ┌─> consumer
                                                      producer ─┴─> queue ──┴─> consumer
"""

from __future__ import annotations

import os
import struct
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
    ) -> None:
        super().__init__(seconds, split=split)
        self.workers = workers
        self.maxsize = maxsize
        self.pickled = pickled
        self.multiple = workers

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
            produce(me)
            end.sender.flush()

        helpers = [_fork(lambda me=me: help_out(me)) for me in range(1, self.workers)]
        produce(0)
        for helper in helpers:
            _wait(*helper)
        for _ in repeat(None, self.workers):
            put(None)

    def second(self, end: End, count: int) -> Any:
        get = end.receiver.recv

        def consume() -> list[int]:
            seen, last = 0, [-1] * self.workers
            while (item := get()) is not None:
                me, number = (item.text, item.number) if self.pickled else item
                if number <= last[me]:
                    raise WrongMessage("doubled or out of order")
                last[me] = number
                seen += 1
            return [seen]

        helpers = [_fork(consume) for _ in range(1, self.workers)]
        shares = [consume()[0]] + [_wait(*helper) for helper in helpers]
        if sum(shares) != count:
            raise WrongMessage(f"{count} were sent, {sum(shares)} came")
        return shares

    def result(self, count: int, elapsed: float, first: Any, second: Any) -> Measured:
        shares = second["samples"]
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
