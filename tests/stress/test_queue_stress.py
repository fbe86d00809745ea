"""Queues under traffic of random sizes: each item is checked to the last bit, and nothing that it takes grows.

A minute with the suite, an hour with `make soak`, or as many seconds as SHMKIT_SOAK_SECONDS in its environment says.
"""

from __future__ import annotations

import ctypes
import os
import random
import resource
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmkit
from support import Processes

SECONDS = float(os.environ.get("SHMKIT_SOAK_SECONDS", "3600"))
SIZES = (0, 40, 300, 1024, 5_000, 70_000, 1_000_000)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT = 8  # arrays that a consumer keeps at a time
DEPTH = 32
# What a consumer may have more of in the end than after half of the time: page faults for each second, pages.
FAULTS_A_SECOND = 20
PAGES_MORE = 64 << 20 >> 12
SAMPLES = 240  # of a run
MORE = 4 << 10  # KiB of its own memory, or of the heap's, in the last quarter of the time over the second


def made(producer: int, number: int) -> Any:
    size = SIZES[zlib.crc32(struct.pack("<QQ", producer, number)) % len(SIZES)]
    body = np.resize(np.array([producer, number], np.uint64), size // 8)
    return producer, number, body if number % 3 else body.tobytes()


def check(item: Any) -> None:
    producer, number, body = item
    expected = made(producer, number)[2]
    assert type(body) is type(expected)
    assert body == expected if isinstance(body, bytes) else np.array_equal(body, expected)


def produce(queue: Any, me: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        queue.put(made(me, number), timeout=60)
        number += 1
    queue.put((me, number, None), timeout=60)


def now() -> dict[str, int]:
    return {
        "faults": resource.getrusage(resource.RUSAGE_SELF).ru_minflt,
        "pages": int(Path("/proc/self/statm").read_text().split()[1]),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def consume(queue: Any, results: Any, seconds: float) -> None:
    """Until told to stop; says how many items came of each producer, and what grew since half of the time was over."""
    # What is expected is made of ordinary memory, which is to come from the system once only, too.
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, 1 << 30)
    chance = random.Random(os.getpid())
    kept: list[Any] = []
    counts = {0: 0, 1: 0}
    last = {0: -1, 1: -1}
    warm_at = time.monotonic() + seconds / 2
    warm: dict[str, int] | None = None
    ends = []
    while True:
        item = queue.get(timeout=60)
        if item is None:
            break
        producer, number, body = item
        if body is None:
            ends.append((producer, number))
            results.put(("end", producer, number))
            continue
        check(item)
        assert number > last[producer], "out of order"
        last[producer] = number
        counts[producer] += 1
        kept.append(item)
        if len(kept) > KEPT:
            check(kept.pop(chance.randrange(KEPT)))
        if warm is None and time.monotonic() > warm_at:
            warm = now()
    del item, body
    kept.clear()
    then = now()
    results.put(("counts", counts, {key: then[key] - (warm or then)[key] for key in then}))


def looked_at(pid: int) -> dict[str, int]:
    """What a process has at this moment: KiB of its own and of shared memory, descriptors, mapped segments.

    Nothing, once it has ended.
    """
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    if "RssAnon" not in status:
        return {}
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {
        "own": int(status["RssAnon"].split()[0]),
        "shared": int(status["RssShmem"].split()[0]),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "segments": sum("memfd:shmkit" in line for line in maps),
    }


def got_within(seconds: float, queue: Any) -> Any:
    """What came; None: nothing did."""
    try:
        return queue.get(timeout=seconds)
    except shmkit.Empty:
        return None


def show(samples: list[dict[str, dict[str, int]]]) -> None:
    """Prints a line for each of a dozen moments, which pytest shows with -rP, or where the test fails."""
    for index in sorted({len(samples) * part // 12 for part in range(12)} | {len(samples) - 1}):
        told = (
            f"{who}: {' '.join(f'{key} {value}' for key, value in what.items())}"
            for who, what in samples[index].items()
        )
        print(f"{index + 1:4} of {len(samples)}  {'; '.join(told)}")


def flat(samples: list[dict[str, dict[str, int]]]) -> None:
    """The last quarter of the time has no more of anything than the second had."""
    quarter = len(samples) // 4
    for who in samples[0]:
        for key, room in (("own", MORE), ("descriptors", 0), ("segments", 0), ("resident", MORE)):
            values = [sample[who].get(key, 0) for sample in samples]
            before, after = max(values[quarter : 2 * quarter]), max(values[-quarter:])
            assert after <= before + room, f"{who}: {key} grew from {before} to {after}"


def run(process: Processes, seconds: float) -> None:
    queue: Any = shmkit.Queue(DEPTH)
    results: Any = shmkit.Queue()
    producers = [process(produce, queue, me, seconds) for me in range(2)]
    consumers = [process(consume, queue, results, seconds) for _ in range(2)]
    samples: list[dict[str, dict[str, int]]] = []
    named = {f"producer {me}": child.pid for me, child in enumerate(producers)}
    named |= {f"consumer {me}": child.pid for me, child in enumerate(consumers)}
    put: dict[int, int] = {}
    until = time.monotonic() + seconds + 60
    while len(put) < len(producers):
        end = got_within(seconds / SAMPLES, results)
        if end is not None:
            put[end[1]] = end[2]
        elif not put:
            sample = {who: looked_at(pid) for who, pid in named.items()}
            sample["heap"] = {"resident": queue.statistics()["heap"]["resident"] >> 10}
            if all(sample.values()):
                samples.append(sample)
        assert time.monotonic() < until, "a producer does not come to its end"
    show(samples)
    assert len(samples) > SAMPLES // 2, "too few moments were seen to go by"
    flat(samples)
    for child in producers:
        child.join(60)
        assert child.exitcode == 0
    queue.put_many([None, None])
    came = {0: 0, 1: 0}
    for _ in consumers:
        _, counts, grown = results.get(timeout=60)
        for producer in came:
            came[producer] += counts[producer]
        assert grown["faults"] <= FAULTS_A_SECOND * seconds + 4000, grown
        assert grown["pages"] <= PAGES_MORE, grown
        assert grown["descriptors"] <= 0, grown
    for child in consumers:
        child.join(60)
        assert child.exitcode == 0
    assert came == put, "each item comes once"
    queue.heap.collect()
    said = queue.statistics()["heap"]
    assert said["blocks_queued"] == 0
    assert said["blocks_held"] == 2 + queue.rings + results.rings
    # Each producer writes one, each consumer reads one and keeps some; the rest is what the queue holds.
    most = (DEPTH + 2 * (KEPT + 2) + 4) * (9 * max(SIZES) // 8)
    assert said["resident"] <= most, "the heap grows without need"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_traffic_of_random_sizes_takes_no_more_as_it_goes_on(process: Processes) -> None:
    """Two producers, two consumers that keep some arrays for a while: counts, bytes, faults, memory, descriptors."""
    run(process, 60.0)


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 300)
def test_traffic_of_random_sizes_takes_no_more_for_long(process: Processes) -> None:
    """The same for an hour, or as long as SHMKIT_SOAK_SECONDS says."""
    run(process, SECONDS)
