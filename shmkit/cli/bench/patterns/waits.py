"""Patterns in which somebody waits: round trips, wake-ups, and a long wait.

::

    client ──8 bytes──> server          sender ──8 bytes──> parked receiver
           <──8 bytes──
"""

from __future__ import annotations

import statistics
import time
from itertools import repeat
from typing import Any

from shmkit.cli.bench.face import Job, Link
from shmkit.cli.bench.patterns.base import End, Measured, Pattern, WrongMessage, messages

clock = time.monotonic_ns


class RoundTrip(Pattern):
    """Both answer at once.

    Most trips are timed in blocks of 64, for the median: reading the clock costs a tenth of the fastest trip.  Some are
    timed one by one, for the percentiles.
    """

    kind = "round trip"
    both_ways = True
    block = 64
    first_count = multiple = 2 * 64
    most_singles = 256  # blocks
    gap = 0.0

    def title(self, job: Job) -> str:
        where = "split cores" if self.split else "unpinned"
        return f"round trip of {job.size} B, {self.group}, {where}"

    group = "default waiting"

    def prepare(self, job: Job) -> Any:
        return messages(job.size, self.block)

    def singles(self, count: int) -> int:
        """How many of the blocks are timed trip by trip."""
        return min(count // self.multiple, self.most_singles)

    def first(self, end: End, count: int) -> Any:
        send, recv, block = end.sender.send, end.receiver.recv, end.data
        blocks, singles = [], []
        single = self.singles(count)
        for _ in repeat(None, count // self.block - single):
            start = clock()
            for message in block:
                send(message)
                if recv() != message:
                    raise WrongMessage("the answer is not what was sent")
            blocks.append((clock() - start) / self.block)
        for _ in repeat(None, single):
            for message in block:
                start = clock()
                send(message)
                answer = recv()
                singles.append(clock() - start)
                if answer != message:
                    raise WrongMessage("the answer is not what was sent")
        return blocks, singles

    def second(self, end: End, count: int) -> Any:
        send, recv = end.sender.send, end.receiver.recv
        for _ in repeat(None, count):
            send(recv())

    def result(self, count: int, elapsed: float, first: Any, second: Any) -> Measured:
        blocks, singles = first["samples"]
        return Measured(statistics.median(blocks) / 1e9, [sample / 1e9 for sample in singles])


class PolledRoundTrip(RoundTrip):
    """Both spin: the non-blocking call in a Python loop, or whatever the contender spins with."""

    kind = "polled"
    group = "both spinning"

    def open(self, role: int, link: Link) -> End:
        end = super().open(role, link)
        if end.native is None:
            end.receiver = _Spinning(end.receiver)
        return end


class _Spinning:
    """A receiver that never waits in the library."""

    def __init__(self, receiver: Any) -> None:
        self._receiver = receiver
        self._try_recv = receiver.try_recv

    def recv(self) -> bytes:
        try_recv = self._try_recv
        while (message := try_recv()) is None:
            pass
        return message  # type: ignore[no-any-return]

    def leave(self) -> None:
        self._receiver.leave()


class AsleepRoundTrip(RoundTrip):
    """Each side lets the other wait, for longer than anybody spins, before it sends; that delay is not counted."""

    kind = "sleeps"
    group = "both asleep"
    first_count = 8
    laps = False  # a fault is a hundredth of what is timed, and the laps would last for seconds
    multiple = 1

    def __init__(self, seconds: float = 0.3, *, split: bool = True, gap: float = 0.002) -> None:
        super().__init__(seconds, split=split)
        self.gap = gap

    def first(self, end: End, count: int) -> Any:
        send, recv, gap = end.sender.send, end.receiver.recv, int(self.gap * 1e9)
        message, trips = end.data[0], []
        for _ in repeat(None, count):
            start = clock()
            while clock() - start < gap:
                pass
            start = clock()
            send(message)
            answer = recv()
            trips.append(clock() - start)
            if answer != message:
                raise WrongMessage("the answer is not what was sent")
        return trips

    def second(self, end: End, count: int) -> Any:
        send, recv, gap = end.sender.send, end.receiver.recv, int(self.gap * 1e9)
        held = []
        for _ in repeat(None, count):
            message = recv()
            start = clock()
            while (now := clock()) - start < gap:
                pass
            held.append(now - start)
            send(message)
        return held

    def result(self, count: int, elapsed: float, first: Any, second: Any) -> Measured:
        trips = [(trip - held) / 1e9 for trip, held in zip(first["samples"], second["samples"], strict=True)]
        return Measured(statistics.median(trips), trips)


class WakeUp(Pattern):
    """From the sender's call to the return of a receiver that had been waiting for longer than anybody spins."""

    kind = "sleeps"
    first_count = 8
    laps = False  # a fault is a hundredth of what is timed, and the laps would last for seconds

    def __init__(self, seconds: float = 0.3, *, split: bool = True, gap: float = 0.002) -> None:
        super().__init__(seconds, split=split)
        self.gap = gap

    def title(self, job: Job) -> str:
        return f"wake-up of a parked receiver, {'split cores' if self.split else 'unpinned'}"

    def first(self, end: End, count: int) -> Any:
        send, message, gap, called = end.sender.send, bytes(end.job.size), int(self.gap * 1e9), []
        for _ in repeat(None, count):
            start = clock()
            while clock() - start < gap:
                pass
            called.append(clock())
            send(message)
        return called

    def second(self, end: End, count: int) -> Any:
        recv, message, awake = end.receiver.recv, bytes(end.job.size), []
        for _ in repeat(None, count):
            got = recv()
            awake.append(clock())
            if got != message:
                raise WrongMessage("not what was sent")
        return awake

    def result(self, count: int, elapsed: float, first: Any, second: Any) -> Measured:
        waits = [(awake - called) / 1e9 for called, awake in zip(first["samples"], second["samples"], strict=True)]
        return Measured(statistics.median(waits), waits)


class Parked(Pattern):
    """One wait of so many seconds; ``seconds`` of the result is the share of a core that the waiter used.

    A message goes ahead, so that what is done once (taking a role, say) is not counted.
    """

    kind = "sleeps"
    calibrated = traceable = False
    first_count = 1

    def title(self, job: Job) -> str:
        return "share of a core used by a parked receiver"

    def first(self, end: End, count: int) -> Any:
        message = bytes(end.job.size)
        end.sender.send(message)
        time.sleep(self.seconds)
        end.sender.send(message)

    def second(self, end: End, count: int) -> Any:
        recv, message = end.receiver.recv, bytes(end.job.size)
        early = recv()
        start, used = time.monotonic(), time.process_time()
        late = recv()
        share = (time.process_time() - used) / (time.monotonic() - start)
        if (early, late) != (message, message):
            raise WrongMessage("not what was sent")
        return share

    def result(self, count: int, elapsed: float, first: Any, second: Any) -> Measured:
        return Measured(second["samples"])
