"""Patterns in which one process sends as fast as it can: small messages, frames; and segments made by one alone.

::

    producer ──message message message …──> consumer
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import numpy as np

from shmkit.cli.bench.face import Job
from shmkit.cli.bench.patterns import checks
from shmkit.cli.bench.patterns.base import End, Pattern, WrongMessage, messages, size_name


class OneByOne(Pattern):
    """Small messages, a call for each."""

    kind = "one by one"
    first_count = 256

    def title(self, job: Job) -> str:
        return f"messages of {job.size} B, one by one"

    def prepare(self, job: Job) -> Any:
        return messages(job.size)

    @staticmethod
    def _blocks(end: End, count: int) -> Iterator[list[bytes]]:
        block = end.data
        yield from repeat(block, count // len(block))
        yield block[: count % len(block)]

    def first(self, end: End, count: int) -> Any:
        send = end.sender.send
        for block in self._blocks(end, count):
            for message in block:
                send(message)

    def second(self, end: End, count: int) -> Any:
        recv = end.receiver.recv
        for block in self._blocks(end, count):
            if [recv() for _ in block] != block:
                raise WrongMessage("lost, doubled, torn or out of order")


class Batched(Pattern):
    """Lists of messages: the receiver takes what is there."""

    kind = "lists"
    distinct = 7  # lists
    most = 1000

    def __init__(self, seconds: float = 0.15, *, split: bool = True, batch: int = 100) -> None:
        super().__init__(seconds, split=split)
        self.batch = batch
        self.first_count = self.multiple = self.distinct * batch

    def title(self, job: Job) -> str:
        return f"messages of {job.size} B, lists of {self.batch}"

    def prepare(self, job: Job) -> Any:
        lap = messages(job.size, self.multiple)
        lists = [lap[at : at + self.batch] for at in range(0, self.multiple, self.batch)]
        return lists, lap * (2 + self.most // self.multiple)

    def first(self, end: End, count: int) -> Any:
        send_many, (lists, _) = end.sender.send_many, end.data
        for _ in repeat(None, count // self.multiple):
            for batch in lists:
                send_many(batch)

    def second(self, end: End, count: int) -> Any:
        recv_many, (_, expected) = end.receiver.recv_many, end.data
        received = 0
        while received < count:
            got = recv_many(self.most)
            at = received % self.multiple
            if got != expected[at : at + len(got)]:
                raise WrongMessage("lost, doubled, torn or out of order")
            received += len(got)


class Blocks(Pattern):
    """One contiguous buffer cut into messages, received into another."""

    kind = "blocks"

    def __init__(self, seconds: float = 0.15, *, split: bool = True, batch: int = 1000) -> None:
        super().__init__(seconds, split=split)
        self.batch = self.first_count = self.multiple = batch

    def title(self, job: Job) -> str:
        return f"messages of {job.size} B, buffers of {self.batch}"

    def prepare(self, job: Job) -> Any:
        """The block to send, what to expect from any place in it on, and where to receive."""
        block = np.frombuffer(b"".join(messages(job.size, self.batch)), np.uint8)
        return block, np.tile(block, 2), np.zeros_like(block)

    def first(self, end: End, count: int) -> Any:
        send_block, (block, _, _) = end.sender.send_block, end.data
        for _ in repeat(None, count // self.batch):
            send_block(block)

    def second(self, end: End, count: int) -> Any:
        recv_block, (_, expected, into) = end.receiver.recv_block, end.data
        size, received = end.job.size, 0
        while received < count:
            got = recv_block(into)
            if not checks.same_bytes(into, expected[received % self.batch * size :], got * size):
                raise WrongMessage("lost, doubled, torn or out of order")
            received += got


# -- frames -------------------------------------------------------------------------------------------------------


class Frames(Pattern):
    """Arrays of float64 from one that exists, received; ``summed``: and read as a whole."""

    kind = "frames"
    first_count = 2
    least = 4

    def __init__(self, seconds: float = 0.2, *, summed: bool = False, split: bool = True) -> None:
        super().__init__(seconds, split=split)
        self.summed = summed
        if summed:
            self.roles = (self.roles[0], self._role(self.second_summed, 1))

    def title(self, job: Job) -> str:
        return f"frames of {size_name(job.size)}, {'received and summed' if self.summed else 'received'}"

    @staticmethod
    def source(job: Job) -> tuple[np.ndarray[Any, Any], float]:
        """The array to send and the sum of all its items but the first and the last: exact in any order."""
        array = np.arange(job.size // 8, dtype=np.float64) % 1000
        return array, float(array[1:-1].sum())

    def prepare(self, job: Job) -> Any:
        return self.source(job)

    def first(self, end: End, count: int) -> Any:
        send, (source, _), stamp = end.sender.send_array, end.data, checks.stamp
        for number in range(end.number, end.number + count):
            stamp(source, number)
            send(source)
        end.number += count

    def second(self, end: End, count: int) -> Any:
        items, number, is_stamped = end.job.size // 8, end.number, checks.is_stamped
        for frame in end.receiver.arrays(count):
            if not is_stamped(frame, number, items):
                raise WrongMessage(f"frame {number} does not begin and end with its number")
            number += 1
        self._all_came(end, number, count)

    def second_summed(self, end: End, count: int) -> Any:
        items, number, (_, inner), is_stamped = end.job.size // 8, end.number, end.data, checks.is_stamped
        for frame in end.receiver.arrays(count):
            if not is_stamped(frame, number, items) or frame.sum() != inner + 2 * number:
                raise WrongMessage(f"frame {number} is not what was sent")
            number += 1
        self._all_came(end, number, count)

    @staticmethod
    def _all_came(end: End, number: int, count: int) -> None:
        if number != end.number + count:
            raise WrongMessage(f"{number - end.number} frames of {count}")
        end.number = number


class FrameTrips(Frames):
    """Arrays to and fro, each answered at once by another one; the first and the last number of both are checked."""

    kind = "frame trips"
    both_ways = True

    def title(self, job: Job) -> str:
        return f"round trip of frames of {size_name(job.size)}"

    def prepare(self, job: Job) -> Any:
        return self.source(job)[0]

    def first(self, end: End, count: int) -> Any:
        self._there_and_back(end, count, leads=True)

    def second(self, end: End, count: int) -> Any:
        self._there_and_back(end, count, leads=False)

    @staticmethod
    def _there_and_back(end: End, count: int, *, leads: bool) -> None:
        send, source, items = end.sender.send_array, end.data, end.job.size // 8
        stamp, is_stamped = checks.stamp, checks.is_stamped
        frames = end.receiver.arrays(count)
        for number in range(end.number, end.number + count):
            if leads:
                stamp(source, number)
                send(source)
            if not is_stamped(next(frames), number, items):
                raise WrongMessage(f"frame {number} does not begin and end with its number")
            if not leads:
                stamp(source, number)
                send(source)
        next(frames, None)  # so that the last one is given back
        end.number += count


class InPlace(Frames):
    """Arrays that are written where they will be read; nothing is copied."""

    kind = "in place"

    def title(self, job: Job) -> str:
        return f"frames of {size_name(job.size)}, in place"

    def prepare(self, job: Job) -> Any:
        return None

    def first(self, end: End, count: int) -> Any:
        number, stamp = end.number, checks.stamp
        for slot in end.sender.slots(count):
            stamp(slot, number)
            number += 1
        end.number = number


# -- segments -----------------------------------------------------------------------------------------------------


class Cycles(Pattern):
    """Create, map, close and unlink, by one process alone; no page is touched."""

    kind = "cycles"

    def title(self, job: Job) -> str:
        return f"create, map, close, unlink of {size_name(job.size)}"

    def first(self, end: End, count: int) -> Any:
        end.sender.cycles(count)

    def second(self, end: End, count: int) -> Any:
        return None


class Attaches(Cycles):
    """Attach by name, map and close what another process made."""

    kind = "attaches"

    def title(self, job: Job) -> str:
        return f"attach, map, close of {size_name(job.size)}"
