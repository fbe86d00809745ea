"""A program that kills who uses a queue, again and again, and sees that the others lose nothing.

    queue_killing.py failpoints CASE NAME…        the victim dies by SIGKILL where it passes NAME (debug build)
    queue_killing.py instants CASE TRIALS SEED    the parent kills one of four after a random time
    queue_killing.py everybody CASE TRIALS SEED   all four, at the same time; CASE is "named" or "leased"

CASE: "bounded", "unbounded", "watched" (consumers wait with a descriptor), "named" or "leased" (each process attaches
to the queue by its name).  Each trial forks two producers and two consumers, of which one is killed.  Items are of all
kinds and sizes, some in a cell and some in a block, and prove themselves (``mixed_items.py``).  A consumer notes an
item before it asks for the next one.  Then: every item whose put returned was got by exactly one consumer, except the
one that the killed consumer had in its hands; nothing is torn, nothing is got twice; each producer's items come in
order to each consumer, but for the one that a dead one gave back; in the end no block is held by anybody but the
queue, and nothing is left of one with a name once it is unlinked, or once its last user has gone.  Prints a line of
JSON per trial; a broken promise is a traceback and exit status 1.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import select
import struct
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import shmkit
from faults.lock_killing import fork, reap
from faults.mixed_items import made, proven
from support.log import Log
from support.names import unique_name
from support.processes import die_with_parent
from support.waiting import wait_until

WATCHDOG = 30.0
SKIPS = (0, 1, 7)
GOT = 300  # items that each trial is over after, by failpoints
# Slots of the log.
GONE, DONE, BEGUN, RETURNED, TAKEN, COUNT = 0, 1, 8, 16, 24, 32
NOTES = 100_000


class Notes:
    """Which items a consumer got: shared memory, so that they survive it."""

    def __init__(self) -> None:
        import mmap

        self.memory = mmap.mmap(-1, 16 * NOTES)

    def add(self, at: int, producer: int, number: int) -> None:
        struct.pack_into("<QQ", self.memory, 16 * at, producer, number)

    def all(self, count: int) -> list[tuple[int, int]]:
        return [struct.unpack_from("<QQ", self.memory, 16 * at) for at in range(count)]  # type: ignore[misc]


def produce(queue: Any, log: Log, me: int, most: int) -> None:
    number = 0
    while not log[GONE] and number < most:
        item = made(me, number)
        log[BEGUN + me] = number + 1
        queue.put(item, timeout=WATCHDOG)
        number += 1
        log[RETURNED + me] = number


def consume(queue: Any, log: Log, notes: Notes, me: int, watching: bool) -> None:
    count = 0
    last = [-1, -1]
    early = 0
    while True:
        try:
            if watching:
                select.select([queue], [], [], 0.02)
            item = queue.get(not watching, 0.02)
        except shmkit.Empty:
            if log[DONE]:
                break
            continue
        producer, number = proven(item)
        notes.add(count, producer, number)
        count += 1
        log[COUNT + me] = count
        early += number < last[producer]
        assert early <= 1, f"out of order: {number} after {last[producer]} of {producer}"
        last[producer] = max(number, last[producer])


def made_queue(name: str | None, case: str, most: int) -> Any:
    if name is None:
        return shmkit.Queue(most)
    return shmkit.Queue.create(name, most, capacity="256 MiB", lifetime="leased" if case == "leased" else None)


def no_trace(name: str, case: str) -> None:
    """Nothing of it is left in /dev/shm, once it is unlinked, or its last user has gone."""
    gc.collect()
    if case == "named":
        assert Path("/dev/shm", name).exists(), f"{name} was gone before its time"
        shmkit.unlink(name)
    left = [path.name for path in Path("/dev/shm").iterdir() if name in path.name]
    assert not left, f"{case}: {left} is left"


def trial(case: str, seed: int, role: int, failpoint: str = "", after: float = 0.0) -> dict[str, int]:
    name = unique_name("queue-killing") if case in ("named", "leased") else None
    said = one_is_killed(name, case, seed, role, failpoint, after)
    if name is not None:
        no_trace(name, case)
    return said


def one_is_killed(name: str | None, case: str, seed: int, role: int, failpoint: str, after: float) -> dict[str, int]:
    chance = random.Random(seed)
    most = 0 if case == "unbounded" else chance.choice((1, 3, 40))
    queue = made_queue(name, case, most)
    log = Log()
    notes = [Notes(), Notes()]
    count = GOT if failpoint else NOTES // 3
    the_queue = queue

    def run(who: int) -> None:
        queue = the_queue if name is None else shmkit.Queue.attach(name)
        if failpoint and who == role:
            os.environ["SHMKIT_FAILPOINT"] = failpoint
        if who < 2:
            produce(queue, log, who, count)
        else:
            consume(queue, log, notes[who - 2], who - 2, case == "watched")

    pids = [fork(lambda who=who: run(who)) for who in range(4)]  # type: ignore[misc]
    what = f"{case}, role {role}, {failpoint or after}, seed {seed}"
    killed = 0
    if not failpoint:
        until = time.perf_counter() + 0.005 + after
        while time.perf_counter() < until:
            time.sleep(0.0002)
        os.kill(pids[role], 9)
        killed += reap(pids[role], f"the victim of {what}") == 9
        # The others go on.
        before = log[COUNT + (role == 2)]
        give_up = time.monotonic() + WATCHDOG
        while log[COUNT + (role == 2)] <= before + 3:
            assert time.monotonic() < give_up, f"the others stand still: {what}"
            time.sleep(0.001)
        log[GONE] = 1
    for who in (0, 1):
        if failpoint or who != role:
            status = reap(pids[who], f"a producer of {what}")
            assert status in (0, 9 if who == role else 0), f"a producer failed with {status}: {what}"
            killed += status == 9
    log[DONE] = 1
    for who in (2, 3):
        if failpoint or who != role:
            status = reap(pids[who], f"a consumer of {what}")
            assert status in (0, 9 if who == role else 0), f"a consumer failed with {status}: {what}"
            killed += status == 9
    got = [item for me in (0, 1) for item in notes[me].all(log[COUNT + me])]
    # Whoever is left over (both consumers may have gone when the last claim of a dead one was undone).
    queue.heap.collect()
    left = rest_of(queue)
    got += left
    assert len(set(got)) == len(got), f"got twice: {what}"
    missing = [(me, number) for me in (0, 1) for number in range(log[RETURNED + me]) if (me, number) not in set(got)]
    assert len(missing) <= (killed and role >= 2), f"lost: {missing[:9]}: {what}"
    for me, number in got:
        assert number < log[BEGUN + me], f"never put: {me}, {number}: {what}"
    queue.heap.collect()
    said = queue.statistics()
    assert said["items"] == 0, f"items are left: {said}: {what}"
    assert said["heap"]["blocks_queued"] == 0, f"blocks are left: {said}: {what}"
    rings = queue.rings
    assert said["heap"]["blocks_held"] == 1 + rings, f"blocks are held, and {rings} are rings: {said}: {what}"
    for number in range(200):  # and all of it works
        queue.put(made(0, number))
        assert proven(queue.get()) == (0, number)
    return {"killed": killed, "items": len(got), "in hand": len(missing), "left": len(left)}


def rest_of(queue: Any) -> list[tuple[int, int]]:
    """All items that are left in it; None is what tells a consumer to end."""
    found: list[tuple[int, int]] = []
    with contextlib.suppress(shmkit.Empty):
        while True:
            item = queue.get(timeout=0)
            if item is not None:
                found.append(proven(item))
    return found


def all_are_killed(case: str, seed: int, after: float) -> dict[str, int]:
    """Nobody has the queue then; of a named one everything is there for who attaches next, of a leased one nothing."""
    chance = random.Random(seed)
    name = unique_name("queue-killing")
    first: Any = made_queue(name, case, chance.choice((1, 3, 40)))
    log, notes = Log(), [Notes(), Notes()]
    attached = Log()

    def run(who: int) -> None:
        nonlocal first
        queue = shmkit.Queue.attach(name)
        first = None
        attached[who] = 1
        if who < 2:
            produce(queue, log, who, NOTES // 3)
        else:
            consume(queue, log, notes[who - 2], who - 2, False)

    what = f"everybody, {case}, seed {seed}"
    pids = [fork(lambda who=who: run(who)) for who in range(4)]  # type: ignore[misc]
    wait_until(lambda: all(attached[who] for who in range(4)))
    first = None  # the four alone have it
    gc.collect()
    until = time.perf_counter() + after
    while time.perf_counter() < until:
        time.sleep(0.0002)
    for pid in chance.sample(pids, 4):
        os.kill(pid, 9)
    for pid in pids:
        assert reap(pid, what) == 9
    got = [item for me in (0, 1) for item in notes[me].all(log[COUNT + me])]
    left: list[tuple[int, int]] = []
    if case == "leased":
        shmkit.collect()
    else:
        queue = shmkit.Queue.attach(name)
        queue.heap.collect()
        left = rest_of(queue)
        got += left
        missing = {(me, number) for me in (0, 1) for number in range(log[RETURNED + me])} - set(got)
        assert len(missing) <= 2, f"lost: {sorted(missing)[:9]}: {what}"
        for me, number in got:
            assert number < log[BEGUN + me], f"never put: {me}, {number}: {what}"
        queue.heap.collect()
        said = queue.statistics()
        assert said["items"] == 0, f"items are left: {said}: {what}"
        assert said["heap"]["members"] == 1, f"somebody is still a member: {said}: {what}"
        assert said["heap"]["blocks_queued"] == 0, f"blocks are left: {said}: {what}"
        assert said["heap"]["blocks_held"] == 1 + queue.rings, f"blocks are held: {said}: {what}"
        queue.close()
        del queue
    assert len(set(got)) == len(got), f"got twice: {what}"
    no_trace(name, case)
    return {"killed": 4, "items": len(got), "left": len(left)}


def main(kind: str, case: str, *words: str) -> None:
    die_with_parent()
    if kind == "failpoints":
        for name in words:
            for skip in SKIPS:
                for role in (0, 2):
                    seed = zlib.crc32(name.encode()) + skip
                    result = trial(case, seed, role, f"{name}:{skip}")
                    print(json.dumps({"failpoint": name, "skip": skip, "role": role, **result}), flush=True)
    else:
        trials, seed = int(words[0]), int(words[1])
        chance = random.Random(seed)
        for number in range(trials):
            if kind == "everybody":
                result = all_are_killed(case, seed + number, chance.random() ** 2 * 0.05)
                print(json.dumps({"trial": number, **result}), flush=True)
                continue
            result = trial(case, seed + number, number % 4, after=chance.random() ** 2 * 0.05)
            print(json.dumps({"trial": number, **result}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
