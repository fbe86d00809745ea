"""A program that kills who uses a queue, again and again, and sees that the others lose nothing.

    queue_killing.py failpoints CASE NAME…        the victim dies by SIGKILL where it passes NAME (debug build)
    queue_killing.py instants CASE TRIALS SEED    the parent kills one of four after a random time

CASE: "bounded" or "unbounded".  Each trial forks two producers and two consumers, of which one is killed.  Items are
of mixed sizes, some in a cell and some in a block; each bears its producer, its number and a checksum.  A consumer
notes an item before it asks for the next one.  Then: every item whose put returned was got by exactly one consumer,
except the one that the killed consumer had in its hands; nothing is torn, nothing is got twice; each producer's items
come in order to each consumer, but for the one that a dead one gave back; in the end no block is held by anybody but
the queue.  Prints a line of JSON per trial; a broken promise is a traceback and exit status 1.
"""

from __future__ import annotations

import json
import os
import random
import select
import struct
import sys
import time
import zlib
from typing import Any

import shmkit
from faults.lock_killing import fork, reap
from support.log import Log
from support.processes import die_with_parent

WATCHDOG = 30.0
SKIPS = (0, 1, 7)
SIZES = (16, 40, 88, 300, 5_000, 70_000)
GOT = 400  # items that each trial is over after, by failpoints
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


def made(producer: int, number: int) -> bytes:
    size = SIZES[zlib.crc32(struct.pack("<QQ", producer, number)) % len(SIZES)]
    body = struct.pack("<Q", number * 2654435761 % 2**64) * (size // 8)
    return struct.pack("<QQQ", producer, number, zlib.crc32(body)) + body


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
        producer, number, checksum = struct.unpack_from("<QQQ", item)
        assert zlib.crc32(item[24:]) == checksum, f"torn: {producer}, {number}"
        notes.add(count, producer, number)
        count += 1
        log[COUNT + me] = count
        early += number < last[producer]
        assert early <= 1, f"out of order: {number} after {last[producer]} of {producer}"
        last[producer] = max(number, last[producer])


def trial(case: str, seed: int, role: int, failpoint: str = "", after: float = 0.0) -> dict[str, int]:
    chance = random.Random(seed)
    queue = shmkit.Queue(0 if case == "unbounded" else chance.choice((1, 3, 40)))
    log = Log()
    notes = [Notes(), Notes()]
    most = GOT if failpoint else NOTES // 3

    def run(who: int) -> None:
        if failpoint and who == role:
            os.environ["SHMKIT_FAILPOINT"] = failpoint
        if who < 2:
            produce(queue, log, who, most)
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
    left = 0
    item: object = None
    while True:
        try:
            item = queue.get(timeout=0)
        except shmkit.Empty:
            break
        left += 1
        got.append(struct.unpack_from("<QQ", item))
    assert len(set(got)) == len(got), f"got twice: {what}"
    missing = [(me, number) for me in (0, 1) for number in range(log[RETURNED + me]) if (me, number) not in set(got)]
    assert len(missing) <= (killed and role >= 2), f"lost: {missing[:9]}: {what}"
    for me, number in got:
        assert number < log[BEGUN + me], f"never put: {me}, {number}: {what}"
    item = None
    queue.heap.collect()
    said = queue.statistics()
    assert said["items"] == 0, f"items are left: {said}: {what}"
    assert said["heap"]["blocks_queued"] == 0, f"blocks are left: {said}: {what}"
    rings = queue.rings
    assert said["heap"]["blocks_held"] == 1 + rings, f"blocks are held, and {rings} are rings: {said}: {what}"
    for number in range(200):  # and all of it works
        queue.put(made(0, number))
        assert queue.get() == made(0, number)
    return {"killed": killed, "items": len(got), "in hand": len(missing), "left": left}


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
            result = trial(case, seed + number, number % 4, after=chance.random() ** 2 * 0.05)
            print(json.dumps({"trial": number, **result}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
