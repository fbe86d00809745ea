"""A program that kills who sleeps at a queue, again and again, and sees that the others lose nothing.

    idle_killing.py failpoints CASE NAME…        the victim dies by SIGKILL where it passes NAME (debug build)
    idle_killing.py instants CASE TRIALS SEED    the parent kills it while it sleeps, or about when it is woken

CASE: "consumer" (three wait in `get` at an empty queue, without a time-out) or "producer" (three in `put` at a full
one).  The victim is asleep first, so it is the first to be woken.  Then each item that the parent puts is got by
somebody, although all of them are asleep before each; what the others put comes.  Each item comes once and whole
(``mixed_items.py``), but for the one that a killed consumer had in its hands; in the end no block is held by anybody
but the queue.  Prints a line of JSON per trial; a broken promise is a traceback and exit status 1.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import shmkit
from faults.lock_killing import fork, reap
from faults.mixed_items import made, proven
from faults.queue_killing import Notes, rest_of
from support.log import Log
from support.processes import die_with_parent
from support.waiting import wait_until

WATCHDOG = 30.0
OTHERS = 3  # the victim is one of them
SKIPS = (0, 1, 2)
ITEMS = 25  # that the parent puts, or that each producer does
PARENT = 9  # as a producer
# Who is killed there has taken an item, and has not got it.
NOT_GOT = ("queue.taken", "queue.head", "queue.copied", "queue.held")
# Slots of the log.
BEGUN, RETURNED, COUNT = 0, 8, 16


def consume(queue: Any, log: Log, notes: Notes, me: int) -> None:
    count = 0
    log[BEGUN + me] = 1
    while (item := queue.get()) is not None:
        notes.add(count, *proven(item))
        count += 1
        log[COUNT + me] = count


def produce(queue: Any, log: Log, me: int) -> None:
    for number in range(ITEMS):
        item = made(me, number)
        log[BEGUN + me] = number + 1
        queue.put(item)
        log[RETURNED + me] = number + 1


def asleep(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] in "SZ"


def started(run: Any, log: Log, failpoint: str) -> list[int]:
    """Starts them one after the other: each sleeps, or is dead already, before the next one comes."""

    def one(who: int) -> None:
        if who == 0 and failpoint:
            os.environ["SHMKIT_FAILPOINT"] = failpoint
        run(who)

    pids: list[int] = []
    for who in range(OTHERS):
        pids.append(fork(lambda who=who: one(who)))  # type: ignore[misc]
        wait_until(lambda who=who: log[BEGUN + who] and asleep(pids[who]), WATCHDOG)  # type: ignore[misc]
    return pids


def pause(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def consumer_is_killed(seed: int, failpoint: str) -> dict[str, int]:
    chance = random.Random(seed)
    what = f"consumer, {failpoint}, seed {seed}"
    queue: Any = shmkit.Queue(chance.choice((0, 1, 3)))
    log, notes = Log(), [Notes() for _ in range(OTHERS)]
    pids = started(lambda who: consume(queue, log, notes[who], who), log, failpoint)
    killed = 0
    if not failpoint:
        pause(chance.random() * 0.01)
        woken = chance.random() < 0.7
        if woken:
            queue.put(made(PARENT, 0))
            pause(chance.random() ** 2 * 0.0005)
        os.kill(pids[0], 9)
        if not woken:
            queue.put(made(PARENT, 0))
        killed = reap(pids.pop(0), what) == 9
    for number in range(bool(killed), ITEMS):
        # One may have gone with the victim; all the others are got before the next one comes.
        before = sum(log[COUNT + who] for who in range(OTHERS))
        queue.put(made(PARENT, number), timeout=WATCHDOG)
        wait_until(
            lambda before=before: (  # type: ignore[misc]
                sum(log[COUNT + who] for who in range(OTHERS)) > before or not (killed or alive(pids[0]))
            ),
            WATCHDOG,
            f"item {number} is got: {what}",
        )
    if failpoint.partition(":")[0] in NOT_GOT:
        # What the dead one had taken goes to one who sleeps, without anybody's asking for it.
        wait_until(lambda: sum(log[COUNT + who] for who in range(OTHERS)) == ITEMS, WATCHDOG, f"all are got: {what}")
    living = pids if killed or alive(pids[0]) else pids[1:]
    for _ in living:
        queue.put(None, timeout=WATCHDOG)
    for pid in pids:
        status = reap(pid, what)
        assert status in ((0, 9) if failpoint and pid == pids[0] else (0,)), f"{status}: {what}"
        killed += status == 9
    queue.heap.collect()
    got = [item for who in range(OTHERS) for item in notes[who].all(log[COUNT + who])]
    left = rest_of(queue)
    got += left
    assert len(set(got)) == len(got), f"got twice: {what}"
    missing = {(PARENT, number) for number in range(ITEMS)} - set(got)
    assert len(missing) <= killed, f"lost: {missing}: {what}"
    works(queue, what)
    return {"killed": killed, "in hand": len(missing), "left": len(left)}


def producer_is_killed(seed: int, failpoint: str) -> dict[str, int]:
    chance = random.Random(seed)
    what = f"producer, {failpoint}, seed {seed}"
    most = chance.choice((1, 2, 3))
    queue: Any = shmkit.Queue(most)
    log = Log()
    for number in range(most):
        queue.put(made(PARENT, number))
    pids = started(lambda who: produce(queue, log, who), log, failpoint)
    got: list[tuple[int, int]] = []
    killed = 0
    if not failpoint:
        pause(chance.random() * 0.01)
        if chance.random() < 0.7:
            got.append(proven(queue.get(timeout=WATCHDOG)))
            pause(chance.random() ** 2 * 0.0005)
        os.kill(pids[0], 9)
        killed = reap(pids.pop(0), what) == 9
    while any(map(alive, pids)) or queue.qsize():
        with contextlib.suppress(shmkit.Empty):
            got.append(proven(queue.get(timeout=0.05)))
    for pid in pids:
        status = reap(pid, what)
        assert status in ((0, 9) if failpoint and pid == pids[0] else (0,)), f"{status}: {what}"
        killed += status == 9
    assert len(set(got)) == len(got), f"got twice: {what}"
    missing = {(who, number) for who in range(OTHERS) for number in range(log[RETURNED + who])} - set(got)
    assert not missing, f"lost: {missing}: {what}"
    assert all(log[RETURNED + who] == ITEMS for who in range(1, OTHERS)), f"the others stand still: {what}"
    assert {number for who, number in got if who == PARENT} == set(range(most))
    for who, number in got:
        assert who == PARENT or number < log[BEGUN + who], f"never put: {who}, {number}: {what}"
    for who in range(OTHERS):
        numbers = [number for whose, number in got if whose == who]
        assert numbers == sorted(numbers), f"out of order: {what}"
    works(queue, what)
    return {"killed": killed, "in hand": 0, "left": 0}


def alive(pid: int) -> bool:
    """Running, or stopped, or asleep: not a zombie."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def works(queue: Any, what: str) -> None:
    """It is empty, holds nothing, and goes on."""
    queue.heap.collect()
    said = queue.statistics()
    assert said["items"] == 0, f"items are left: {said}: {what}"
    assert said["heap"]["blocks_queued"] == 0, f"blocks are left: {said}: {what}"
    assert said["heap"]["blocks_held"] == 1 + queue.rings, f"blocks are held: {said}: {what}"
    for number in range(100):
        queue.put(made(PARENT, number), timeout=0)
        assert proven(queue.get(timeout=0)) == (PARENT, number)


CASES = {"consumer": consumer_is_killed, "producer": producer_is_killed}


def main(kind: str, case: str, *words: str) -> None:
    die_with_parent()
    if kind == "failpoints":
        for name in words:
            for skip in SKIPS:
                result = CASES[case](zlib.crc32(name.encode()) + skip, f"{name}:{skip}")
                print(json.dumps({"failpoint": name, "skip": skip, **result}), flush=True)
    else:
        trials, seed = int(words[0]), int(words[1])
        for number in range(trials):
            print(json.dumps({"trial": number, **CASES[case](seed + number, "")}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
