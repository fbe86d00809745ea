"""Patterns of locks and signals: one process alone, several that contend, and one that wakes another.

::

    one process: acquire, release        2 or 4 processes ──> one lock       signaller ──> waiter
"""

from __future__ import annotations

import os
import time
from itertools import repeat
from typing import Any

from shmkit.cli.bench.face import Job
from shmkit.cli.bench.patterns.base import End, Measured, Pattern, WrongMessage
from shmkit.cli.bench.patterns.waits import RoundTrip, WakeUp

__all__ = ["Asking", "Contended", "Pairs", "SignalRoundTrip", "SignalWakeUp", "WithBlocks"]

CHECKED = 64  # contended acquisitions between two that are checked


class Pairs(Pattern):
    """Acquire and release, as two calls, by one process alone."""

    kind = "lock"
    laps = False

    def title(self, job: Job) -> str:
        return "a lock alone: acquire, release"

    def first(self, end: End, count: int) -> Any:
        acquire, release = end.sender.lock.acquire, end.sender.lock.release
        for _ in repeat(None, count):
            acquire()
            release()

    def second(self, end: End, count: int) -> Any:
        return None


class WithBlocks(Pairs):
    """The same in a ``with`` statement."""

    def title(self, job: Job) -> str:
        return "a lock alone: with"

    def first(self, end: End, count: int) -> Any:
        lock = end.sender.lock
        for _ in repeat(None, count):
            with lock:
                pass


class Contended(Pattern):
    """So many processes acquire and release one lock as often as they can; exclusion is checked now and then.

    ``seconds`` of the result is the time per acquisition of all together; ``fairness`` the least of what one process
    got, as a share of the most.
    """

    kind = "contended"
    calibrated = traceable = False
    first_count = 1

    def __init__(self, seconds: float = 0.15, *, split: bool = True, workers: int = 2) -> None:
        super().__init__(max(seconds, 0.3), split=split)
        self.workers = workers

    def title(self, job: Job) -> str:
        return f"a contended lock, {self.workers} processes"

    def first(self, end: End, count: int) -> Any:
        return self.work(end.sender, 0)

    def second(self, end: End, count: int) -> Any:
        return self.work(end.receiver, 1)

    def work(self, contest: Any, role: int) -> None:
        """This role's share of the workers, itself among them."""
        mine = range(role, contest.workers(self.workers), 2)
        helpers = []
        for index in mine[1:]:
            pid = os.fork()
            if pid == 0:
                try:
                    self.worker(contest, index)
                finally:
                    os._exit(0)
            helpers.append(pid)
        self.worker(contest, role)
        for pid in helpers:
            os.waitpid(pid, 0)

    def worker(self, contest: Any, index: int) -> None:
        acquire, release, words = contest.lock.acquire, contest.lock.release, contest.words
        workers = contest.workers(self.workers)
        words[contest.READY + index] = 1
        while sum(words[contest.READY : contest.READY + workers]) < workers:
            os.sched_yield()
        end = time.monotonic() + self.seconds
        pairs = checks = 0
        while time.monotonic() < end:
            for _ in repeat(None, CHECKED):
                acquire()
                release()
            acquire()
            words[contest.CHECK] += 1
            release()
            checks += 1
            pairs += CHECKED + 1
        words[contest.CHECKS + index] = checks
        words[contest.PAIRS + index] = pairs

    def tally(self, contest: Any) -> Measured:
        """What all workers together did."""
        workers = contest.workers(self.workers)
        words = contest.words
        if sum(words[contest.CHECKS : contest.CHECKS + workers]) != words[contest.CHECK]:
            raise WrongMessage("two processes were in the lock at once")
        pairs = list(words[contest.PAIRS : contest.PAIRS + workers])
        return Measured(self.seconds / sum(pairs), extra={"fairness": min(pairs) / max(pairs)})


class SignalRoundTrip(RoundTrip):
    """Two semaphores to and fro: each side answers at once, so whoever waits is found while it still spins."""

    kind = "signals to and fro"

    def title(self, job: Job) -> str:
        return "a signal to and fro, answered at once"


class SignalWakeUp(WakeUp):
    """From the signaller's call to the return of a waiter that had been waiting for longer than anybody spins."""

    kind = "signals"

    def title(self, job: Job) -> str:
        return f"wake-up by a signal, {'split cores' if self.split else 'unpinned'}"


class Asking(Pairs):
    """Asking whether another process lives."""

    kind = "asks"

    def title(self, job: Job) -> str:
        return "asking whether a process lives"

    def first(self, end: End, count: int) -> Any:
        ask = end.sender.ask
        for _ in repeat(None, count):
            if not ask():
                raise WrongMessage("a living process was declared dead")
