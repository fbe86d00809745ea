"""A program that kills users of an RWLock, again and again, and sees what the others find.

    killing_rwlock.py failpoints NAME…       the victim dies by SIGKILL where it passes NAME (debug build)
    killing_rwlock.py instants TRIALS SEED   the parent kills the victim after a random time

What the lock guards is a pair of equal numbers, which writers change in two steps.  In each trial somebody may have
died before: as a reader, a writer, or one that had only claimed the word.  Then the victim runs, with two others.
Prints a line of JSON per trial; any broken promise is a traceback and exit status 1.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import zlib

import shmkit
from faults.killing import fork
from support.log import Log

WATCHDOG = 20.0
SKIPS = (0, 1, 6)
# A writer has to come between two instructions of the reader.
RARE = "rwlock.read.withdrawn"
BEFORE = ("nobody", "reader", "writer", "claimer")
FIRST, SECOND, STARTED, TOLD = range(4)
DONE = 8  # and on: each survivor's rounds


def repair(lock: shmkit.RWLock, log: Log) -> None:
    """What the heir of a dead writer does."""
    log[TOLD] += 1
    log[SECOND] = log[FIRST]
    lock.recover()


def one_round(lock: shmkit.RWLock, log: Log, chance: random.Random, strict: bool) -> None:
    """Reads or writes, waiting in one of the ways that there are."""
    side = lock.write if chance.random() < 0.4 else lock.read
    way = chance.randrange(4)
    try:
        if way == 0:
            got = side.acquire(block=False)
        elif way == 1:
            got = side.acquire(timeout=chance.random() ** 3 * 0.004)
        else:
            got = side.acquire(timeout=WATCHDOG)
            assert got, f"waited for {WATCHDOG} s: {lock!r}"
    except shmkit.OwnerDied:
        assert strict
        repair(lock, log)
        side.release()
        return
    if not got:
        return
    same = log[FIRST] == log[SECOND]
    assert same or not strict, "a change that was cut short, and nobody was told"
    if lock.writer_pid == os.getpid():
        log[FIRST] += 1
        if chance.random() < 0.1:
            time.sleep(0.0005)
        log[SECOND] = log[FIRST]
    elif chance.random() < 0.1:
        time.sleep(0.0005)
        assert strict is False or log[FIRST] == log[SECOND], "changed under a reader"
    side.release()


def die_before(lock: shmkit.RWLock, how: str) -> None:
    """As the one who had died when the others came."""
    if how == "reader":
        lock.read.acquire()
    elif how == "claimer":
        os.environ["SHMKIT_FAILPOINT"] = "rwlock.claimed:0"
        lock.write.acquire()
    else:
        lock.write.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for(pid: int, what: str) -> int:
    give_up = time.monotonic() + 3 * WATCHDOG
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        if time.monotonic() > give_up:
            os.kill(pid, signal.SIGABRT)
            os.waitpid(pid, 0)
            raise AssertionError(f"{what} hangs")
        time.sleep(0.0003)


def trial(seed: int, failpoint: str = "", after: float | None = None, before: str = "nobody") -> dict[str, object]:
    """Who was killed, and how many were told."""
    chance = random.Random(seed)
    strict = chance.random() < 0.75
    lock = shmkit.RWLock(on_owner_death="raise" if strict else "recover")
    log = Log()
    what = f"failpoint {failpoint!r}, after {after}, {before} before, seed {seed}"
    if before != "nobody":
        status = wait_for(fork(lambda: die_before(lock, before)), "who dies first")
        assert os.WIFSIGNALED(status), f"{before} ended with {status}"

    def victim() -> None:
        if failpoint:
            os.environ["SHMKIT_FAILPOINT"] = failpoint
        own = random.Random(seed + 1)
        for _ in range(300 if failpoint and not failpoint.startswith(RARE) else 100_000):
            one_round(lock, log, own, strict)
            log[STARTED] = 1

    def survivor(number: int) -> None:
        own = random.Random(seed + 2 + number)
        for _ in range(60 if failpoint else 30):
            one_round(lock, log, own, strict)
            log[DONE + number] += 1
        # Whoever is dead by then: both sides can be had.
        while log[DONE + 2] == 0:
            one_round(lock, log, own, strict)

    pid = fork(victim)
    status = None
    while log[STARTED] == 0 and status is None:
        done, found = os.waitpid(pid, os.WNOHANG)
        status = found if done else None
    others = [fork(lambda number=number: survivor(number)) for number in range(2)]  # type: ignore[misc]
    if after is not None and status is None:
        until = time.perf_counter() + after
        while time.perf_counter() < until:
            pass
        os.kill(pid, signal.SIGKILL)
    if status is None:
        status = wait_for(pid, f"the victim ({what})")
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or status == 0, f"the victim ended with {status} ({what})"
    log[DONE + 2] = 1
    for other in others:
        status = wait_for(other, f"a survivor ({what})")
        assert status == 0, f"a survivor ended with {status} ({what})"

    def last() -> None:
        for side in (lock.write, lock.read):
            for _ in range(3):
                try:
                    assert side.acquire(timeout=WATCHDOG), f"not to be had: {lock!r}"
                except shmkit.OwnerDied:
                    repair(lock, log)
                assert log[FIRST] == log[SECOND] or not strict
                side.release()
        assert not lock.locked(), repr(lock)

    status = wait_for(fork(last), f"the last one ({what})")
    assert status == 0, f"the last one ended with {status} ({what})"
    assert log[TOLD] <= killed + (before == "writer"), f"{log[TOLD]} were told ({what})"
    if before == "writer" and strict and not killed:
        assert log[TOLD] == 1, f"{log[TOLD]} were told ({what})"
    return {"before": before, "strict": strict, "killed": killed, "told": log[TOLD]}


def main(kind: str, *words: str) -> None:
    if kind == "failpoints":
        for name in words:
            for skip in SKIPS if name != RARE else SKIPS[:1]:
                for before in BEFORE:
                    seed = zlib.crc32(f"{name}{before}".encode()) + skip
                    found = trial(seed, failpoint=f"{name}:{skip}", before=before)
                    print(json.dumps({"failpoint": name, "skip": skip, **found}), flush=True)
    else:
        trials, seed = int(words[0]), int(words[1])
        chance = random.Random(seed)
        for number in range(trials):
            found = trial(seed + 5 * number, after=chance.random() ** 2 * 0.02, before=BEFORE[number % 3])
            print(json.dumps({"trial": number, **found}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
