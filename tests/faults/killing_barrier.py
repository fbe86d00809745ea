"""A program that kills users of a Barrier, again and again, and sees what the others find.

    killing_barrier.py failpoints NAME…       the victim dies by SIGKILL where it passes NAME (debug build)
    killing_barrier.py instants TRIALS SEED   the parent kills the victim after a random time

Three processes meet at a barrier: the victim and two survivors, which check after each round that neither is behind.
In half of the trials somebody else had come before and was killed while it waited.  When the survivors know that the
barrier is broken, and who died, the parent resets it, somebody takes the place of the dead, and the barrier has to be
whole again.  Prints a line of JSON per trial; any broken promise is a traceback and exit status 1.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import re
import signal
import sys
import time
import zlib
from collections.abc import Callable

import numpy as np

import shmkit
from faults.killing import fork

WATCHDOG = 30.0
SKIPS = (0, 1, 6)
EPOCH, FINISH, STARTED, ACTIONS = range(4)
STATE = 8  # of each survivor: the epoch that it has come to the end of
BROKE = 16  # of each: the last epoch in which the barrier broke
STEP = 24  # of each: how far it is
DIED = 32  # of each: the pid that it was told last


def until(condition: Callable[[], object], what: str) -> None:
    give_up = time.monotonic() + WATCHDOG
    while not condition():
        assert time.monotonic() < give_up, f"did not happen: {what}"
        time.sleep(0.0003)


def victim(barrier: shmkit.Barrier, log: np.ndarray, first: bool) -> None:
    """Comes until it is killed.  `first`: it finds that somebody died before, and resets the barrier."""
    if first:
        try:
            barrier.wait(WATCHDOG)
        except shmkit.BrokenBarrier as error:
            assert error.pid, error
            barrier.reset()
    log[STARTED] = 1
    while True:
        barrier.wait(WATCHDOG)


def newcomer(barrier: shmkit.Barrier) -> None:
    """Takes the place of the dead, also where there is another one to be told of."""
    while True:
        try:
            barrier.wait(WATCHDOG)
        except shmkit.BrokenBarrier as error:  # noqa: PERF203
            assert error.pid, error
            until(lambda: not barrier.broken, "the next reset")


def survivor(barrier: shmkit.Barrier, log: np.ndarray, number: int, rounds: int, dead: set[int]) -> None:
    epoch = 0
    while not log[FINISH]:
        try:
            for step in range(rounds if epoch == 0 else 20):
                log[STEP + number] = epoch << 32 | step
                barrier.wait(WATCHDOG)
                other = log[STEP + 1 - number]
                assert other >= epoch << 32 | step, f"passed {step} of {epoch}, the other is at {other:#x}"
        except shmkit.BrokenBarrier as error:
            assert error.pid in dead | {log[DIED + 7]}, f"{error}: {dead} and {log[DIED + 7]} died"
            assert re.search(f"process {error.pid} died", str(error))
            log[DIED + number] = error.pid
            log[BROKE + number] = epoch + 1
        epoch += 1
        log[STATE + number] = epoch
        until(lambda epoch=epoch: log[EPOCH] >= epoch or log[FINISH], "the next epoch")  # type: ignore[misc]


def come_and_die(barrier: shmkit.Barrier) -> None:
    """While it waits."""

    def die(*_: object) -> None:
        if barrier.n_waiting:
            os.kill(os.getpid(), signal.SIGKILL)

    signal.signal(signal.SIGALRM, die)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    barrier.wait(WATCHDOG)


def reap(pid: int, block: bool = False) -> int | None:
    done, status = os.waitpid(pid, 0 if block else os.WNOHANG)
    return status if done else None


def trial(seed: int, failpoint: str = "", after: float | None = None) -> dict[str, object]:
    chance = random.Random(seed)
    log = np.frombuffer(mmap.mmap(-1, mmap.PAGESIZE), "i8")  # each store is one, unlike those of struct
    before = chance.random() < 0.5

    def action() -> None:
        log[ACTIONS] += 1

    barrier = shmkit.Barrier(3, action if chance.random() < 0.5 else None)
    what = f"failpoint {failpoint!r}, after {after}, seed {seed}"
    dead: set[int] = set()
    if before:
        pid = fork(lambda: come_and_die(barrier))
        assert reap(pid, block=True) == signal.SIGKILL, what
        dead.add(pid)

    def as_victim() -> None:
        if failpoint:
            os.environ["SHMKIT_FAILPOINT"] = failpoint
        victim(barrier, log, before)

    pid = log[DIED + 7] = fork(as_victim)
    status: int | None = None
    # Who dies before it has come once is nobody that anybody could wait for.
    while status is None and not (log[STARTED] and barrier.n_waiting):
        status = reap(pid)
        time.sleep(0.0002)
    rounds = 60 if failpoint else 1_000_000
    children = [fork(lambda number=number: survivor(barrier, log, number, rounds, dead)) for number in range(2)]  # type: ignore[misc]
    if after is not None and status is None:
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)
    comes = broke = 0
    give_up = time.monotonic() + 3 * WATCHDOG
    for epoch in range(1, 5):
        while not all(log[STATE + number] >= epoch for number in range(2)):
            for child in children:
                assert reap(child) is None, f"a survivor has ended ({what})"
            if status is None:
                status = reap(pid)
            assert time.monotonic() < give_up, f"a survivor hangs: {barrier!r} ({what})"
            time.sleep(0.0002)
        if not any(log[BROKE + number] == epoch for number in range(2)):
            break
        broke += 1
        if status is None:
            status = reap(pid, block=True)
        # Not by this process, which would have its children know of no failpoint.
        assert reap(fork(barrier.reset), block=True) == 0, what
        comes = comes or fork(lambda: newcomer(barrier))
        log[EPOCH] = epoch
    else:
        raise AssertionError(f"the barrier is not whole again: {barrier!r} ({what})")
    if status is None:
        status = reap(pid)
    killed = status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    log[FINISH] = 1
    for child in children:
        assert reap(child, block=True) == 0, f"a survivor failed ({what})"
    for other in (comes, 0 if status is not None else pid):
        if other:
            os.kill(other, signal.SIGKILL)
            reap(other, block=True)
    return {"before": before, "killed": killed, "broke": broke}


def main(kind: str, *words: str) -> None:
    if kind == "failpoints":
        for name in words:
            for skip in SKIPS:
                for turn in range(4):
                    found = trial(zlib.crc32(name.encode()) + 10 * skip + turn, failpoint=f"{name}:{skip}")
                    print(json.dumps({"failpoint": name, "skip": skip, **found}), flush=True)
    else:
        trials, seed = int(words[0]), int(words[1])
        chance = random.Random(seed)
        for number in range(trials):
            found = trial(seed + 5 * number, after=chance.random() ** 2 * 0.02)
            print(json.dumps({"trial": number, **found}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
