"""A program that kills who uses a primitive, again and again, and sees what the others find.

    lock_killing.py failpoints CASE NAME…        the victim dies by SIGKILL where it passes NAME (debug build)
    lock_killing.py instants CASE TRIALS SEED    the parent kills the victim after a random time

Each trial forks a victim and a survivor from this process, which itself uses no primitive, so that children read
SHMKIT_FAILPOINT anew.  Both do the same, over and over: what the primitive guards is two words that differ only while
somebody is within.  Prints a line of JSON per trial; a broken promise is a traceback and exit status 1.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import shmkit
from support.log import Log
from support.processes import die_with_parent

WATCHDOG = 20.0
SKIPS = (0, 1, 5)
BEGUN, INSIDE, FIRST, SECOND, GONE, TOLD = range(6)


def critical(log: Log) -> None:
    """Only one is ever here, or was killed here and its heir knows of it."""
    me = os.getpid()
    assert log[INSIDE] in (0, me), f"{log[INSIDE]} is within, too"
    log[INSIDE] = me
    log[FIRST] += 1
    assert log[INSIDE] == me, "somebody came in"
    log[SECOND] = log[FIRST]
    log[INSIDE] = 0


def repair(log: Log) -> None:
    log[INSIDE] = 0
    log[SECOND] = log[FIRST]


@contextlib.contextmanager
def within(lock: Any, log: Log) -> Iterator[None]:
    """Acquires in one of the ways that there are; repairs what a dead one left."""
    try:
        while not lock.acquire(timeout=WATCHDOG):
            raise AssertionError(f"hangs: {lock!r}")
    except shmkit.OwnerDied as death:
        assert death.pid != os.getpid()
        log[TOLD] += 1
        repair(log)
        lock.recover()
    try:
        yield
    finally:
        lock.release()


def use_lock(lock: Any, log: Log) -> None:
    with within(lock, log):
        assert log[FIRST] == log[SECOND]
        critical(log)
        if isinstance(lock, shmkit.RLock):
            with within(lock, log):
                critical(log)


def use_quiet_lock(lock: Any, log: Log) -> None:
    """Nobody is told, so whoever comes in finds out by itself."""
    assert lock.acquire(timeout=WATCHDOG)
    repair(log)
    critical(log)
    lock.release()


def use_semaphore(semaphore: Any, log: Log) -> None:
    """Two permits, of which each holds one at a time; all are there at the end (see `settled`)."""
    assert semaphore.acquire(timeout=WATCHDOG), f"hangs: {semaphore!r}"
    semaphore.release()


def use_event(event: Any, log: Log) -> None:
    """Somebody may clear the flag between the set and the wait, and be killed before setting it again."""
    give_up = time.monotonic() + WATCHDOG
    event.set()
    while not event.wait(0.005):
        assert time.monotonic() < give_up, f"hangs: {event!r}"
        event.set()
    event.clear()


def use_condition(condition: Any, log: Log) -> None:
    """Takes turns: a number grows by one per notification, or when a waiter lost patience."""
    with within(condition, log):
        critical(log)
        condition.notify()
        try:
            condition.wait(0.002)
        except shmkit.OwnerDied:
            log[TOLD] += 1
            repair(log)
            condition.recover()


def settled_lock(lock: Any, log: Log) -> None:
    with within(lock, log):
        assert log[FIRST] == log[SECOND]
    assert lock.acquire(False)
    lock.release()


def settled_quiet(lock: Any, log: Log) -> None:
    for _ in range(3):
        assert lock.acquire(timeout=WATCHDOG)
        lock.release()


def settled_semaphore(semaphore: Any, log: Log) -> None:
    for _ in range(2):
        assert semaphore.acquire(timeout=WATCHDOG), "a permit was lost"
    assert not semaphore.acquire(True, 0.002), "a permit too many"
    semaphore.release(2)


def settled_event(event: Any, log: Log) -> None:
    event.clear()
    assert not event.wait(0.002)
    event.set()
    assert event.wait(WATCHDOG)


def settled_condition(condition: Any, log: Log) -> None:
    with within(condition, log):
        # A notification that the dead one did not live to take is had at once, and once.
        assert [condition.wait(0.004) for _ in range(3)][1:] == [False, False]
        condition.notify_all()
        assert condition.waiting == 0


Use = Callable[[Any, Log], None]
CASES: dict[str, tuple[Callable[[], Any], Use, Use]] = {
    "Lock": (shmkit.Lock, use_lock, settled_lock),
    "RLock": (shmkit.RLock, use_lock, settled_lock),
    "quiet": (lambda: shmkit.Lock(on_owner_death="recover"), use_quiet_lock, settled_quiet),
    "undo": (lambda: shmkit.Semaphore(2, undo=True), use_semaphore, settled_semaphore),
    "Event": (shmkit.Event, use_event, settled_event),
    "Condition": (shmkit.Condition, use_condition, settled_condition),
}


def fork(action: Callable[[], object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        die_with_parent()
        action()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def reap(pid: int, what: str) -> int:
    give_up = time.monotonic() + 2 * WATCHDOG
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        if time.monotonic() > give_up:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"hangs: {what}")
        time.sleep(0.0002)


def trial(case: str, seed: int, failpoints: tuple[str, ...] = (), after: float | None = None) -> dict[str, int]:
    """Victims, killed one after the other or at once, and one survivor among them."""
    make, use, settled = CASES[case]
    primitive = make()
    log = Log()
    victims_count = len(failpoints) or 1 + (seed % 4 == 0)

    def victim(failpoint: str) -> None:
        if failpoint:
            os.environ["SHMKIT_FAILPOINT"] = failpoint
        for _ in range(300 if failpoint else 10**9):
            log[BEGUN] += 1
            use(primitive, log)

    def survivor() -> None:
        while not log[GONE]:
            use(primitive, log)
        for _ in range(3):
            use(primitive, log)

    victims = [fork(lambda name=name: victim(name)) for name in failpoints or [""] * victims_count]  # type: ignore[misc]
    other = fork(survivor)
    what = f"{case}, {failpoints or after}, seed {seed}"
    if after is not None:
        while log[BEGUN] == 0:
            pass
        until = time.perf_counter() + after
        while time.perf_counter() < until:
            pass
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
    killed = 0
    for pid in victims:
        status = reap(pid, f"a victim of {what}")
        assert status in (0, signal.SIGKILL), f"a victim failed with {status}: {what}"
        killed += status == signal.SIGKILL
    log[GONE] = 1
    status = reap(other, f"the survivor of {what}")
    assert status == 0, f"the survivor failed: {what}"
    end = fork(lambda: settled(primitive, log))
    assert reap(end, f"who comes after {what}") == 0, f"who comes after failed: {what}"
    assert log[TOLD] <= killed, f"told of {log[TOLD]} deaths, and {killed} died: {what}"
    return {"killed": killed, "told": log[TOLD]}


def main(kind: str, case: str, *words: str) -> None:
    if kind == "failpoints":
        for name in words:
            for skip in SKIPS:
                names = (f"{name}:{skip}",)
                result = trial(case, zlib.crc32(name.encode()) + skip, names)
                print(json.dumps({"failpoint": name, "skip": skip, **result}), flush=True)
    elif kind == "rows":
        # Holder and heir, one after the other or both at once: the second one dies where it inherits, if it does.
        for number, name in enumerate(words):
            names = (f"{name}:{number % 3}", "lock.inherited:0", f"{name}:0")
            result = trial(case, number, names)
            print(json.dumps({"failpoint": name, **result}), flush=True)
    else:
        trials, seed = int(words[0]), int(words[1])
        chance = random.Random(seed)
        for number in range(trials):
            result = trial(case, seed + number, after=chance.random() ** 2 * 0.01)
            print(json.dumps({"trial": number, **result}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
