"""The timed loops: one pair per pattern, the same for every contender.

Each receiver checks what it got: every byte of small messages; the first and the last number of every array, which
carry the message's serial number; the sum of the whole array where the pattern sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from shmkit.cli.bench.face import Job, Link

# Distinct messages in a row; a prime, so that a ring that loses or repeats a lap is found out.
DISTINCT = 1021


class WrongMessage(AssertionError):
    """The receiver did not get what was sent."""


@dataclass
class Measured:
    """What a round's figures mean."""

    seconds: float
    samples: list[float] = field(default_factory=list)  # seconds, for percentiles
    extra: dict[str, float] = field(default_factory=dict)  # what else the pattern measures


@dataclass
class End:
    """What a child works with: its sender and receiver, where it has them, and the number of messages so far."""

    job: Job
    sender: Any
    receiver: Any
    native: Callable[[int], Any] | None = None
    data: Any = None  # what the pattern prepared
    number: int = 0

    def leave(self) -> None:
        for one in (self.sender, self.receiver):
            if one is not None:
                one.leave()


class Pattern:
    """Base: how rounds grow, and what a round's figures mean."""

    kind = ""  # the row of the table in face.py that a contender must offer
    group = ""
    both_ways = False
    calibrated = True
    traceable = True  # system calls can be counted for a number of messages
    laps = True  # rounds until every page of the buffer has been touched
    first_count = 16
    multiple = 1
    least = 3

    def __init__(self, seconds: float = 0.15, *, split: bool = True) -> None:
        self.seconds = seconds
        self.pilot = seconds / 10
        self.split = split
        self.roles = (self._role(self.first, 0), self._role(self.second, 1))

    def _role(self, loop: Callable[[End, int], Any], role: int) -> Callable[[End, int], Any]:
        return lambda end, count: end.native(count) if end.native is not None else loop(end, count)

    def open(self, role: int, link: Link) -> End:
        native = link.forth.native(self, role, link.back)
        if native is not None:
            return End(link.job, None, None, native)
        ahead, behind = (link.forth, link.back) if role == 0 else (link.back, link.forth)
        # A publisher may have to wait for its subscriber, so both receivers come first.
        receiver = None if behind is None else behind.receiver()
        sender = None if ahead is None else ahead.sender()
        end = End(link.job, sender, receiver)
        end.data = self.prepare(link.job)
        return end

    def prepare(self, job: Job) -> Any:
        """Makes what the loops need, in the child: ``end.data``."""
        return None

    def first(self, end: End, count: int) -> Any:
        raise NotImplementedError

    def second(self, end: End, count: int) -> Any:
        raise NotImplementedError

    def next_count(self, count: int, elapsed: float, *, done: bool) -> int:
        """The next round's messages: more of them, or as many as take the time that was asked for."""
        pace = elapsed / count
        wanted = self.seconds / pace if done else min(count * 8, max(count * 2, 1.5 * self.pilot / pace))
        return max(math.ceil(max(wanted, self.least if done else 1) / self.multiple), 1) * self.multiple

    def result(self, count: int, elapsed: float, first: Any, second: Any) -> Measured:
        return Measured(elapsed / count)

    def tally(self, channel: Any) -> Measured | None:
        """What the children counted in memory that they share, where the pattern has them do that."""
        return None

    def title(self, job: Job) -> str:
        return self.group


def size_name(size: int) -> str:
    """In the largest unit that divides it."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor and size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} B"


def messages(size: int, count: int = DISTINCT) -> list[bytes]:
    """Distinct messages, every byte of which depends on the number."""
    return [i.to_bytes(8, "little") * (size // 8) for i in range(1, count + 1)]
