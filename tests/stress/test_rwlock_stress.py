"""RWLocks under load from real processes; every scenario stands in SCENARIOS.md under its test's name."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

import shmkit
from support import Processes, wait_until

WATCHDOG = 100.0
scale = pytest.mark.parametrize(
    "scale", [1, pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(3600)], id="soak")]
)
STOP, READS, WRITES = range(3)


def fresh() -> shmkit.RWLock:
    """One in a segment of its own, which goes with the test."""
    return shmkit.RWLock.create_at(shmkit.Segment.create(size=2048))


def check(table: np.ndarray) -> int:
    """All of the table says the same."""
    first = int(table[0])
    assert (table == first).all(), "torn: seen between two steps of a writer"
    return first


def read(lock: shmkit.RWLock, table: np.ndarray, counts: np.ndarray, rounds: int, pause: float) -> None:
    seen = 0
    while rounds > 0 or (rounds < 0 and not counts[STOP]):
        assert lock.read.acquire(timeout=WATCHDOG)
        now = check(table)
        time.sleep(pause)
        assert check(table) == now
        lock.read.release()
        assert now >= seen, "time ran backwards"
        seen = now
        rounds -= 1
        counts[READS] += 1  # a hint: readers overwrite each other's


def write(lock: shmkit.RWLock, table: np.ndarray, counts: np.ndarray, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    while rounds > 0 or (rounds < 0 and not counts[STOP]):
        with lock.write:
            half = chance.randrange(len(table))
            number = check(table) + 1
            table[:half] = number
            if chance.random() < 0.02:
                time.sleep(0.0005)
            table[half:] = number
            counts[WRITES] += 1
        rounds -= 1


def end_well(children: list[object], watchdog: float = WATCHDOG) -> None:
    def settled() -> bool:
        """all have ended, or one has failed"""
        codes = [child.exitcode for child in children]  # type: ignore[attr-defined]
        return None not in codes or any(codes)

    wait_until(settled, watchdog)
    assert [child.exitcode for child in children] == [0] * len(children)  # type: ignore[attr-defined]


@scale
def test_nobody_reads_what_is_half_written(process: Processes, scale: int) -> None:
    """Three readers, three writers, each as fast as it can: nothing torn, no write lost."""
    lock, table, counts = fresh(), shmkit.zeros(257, "i8"), shmkit.zeros(3, "i8")
    children = [process(write, lock, table, counts, 1000 * scale, seed) for seed in range(3)]
    children += [process(read, lock, table, counts, 1000 * scale, 0.0) for _ in range(3)]
    end_well(children, WATCHDOG * scale)  # type: ignore[arg-type]
    assert check(table) == counts[WRITES] == 3000 * scale
    assert not lock.locked()


@scale
def test_writers_get_in_between_readers_that_never_stop(process: Processes, scale: int) -> None:
    """At any instant somebody reads; each of the writers gets its turns all the same."""
    lock, table, counts = fresh(), shmkit.zeros(257, "i8"), shmkit.zeros(3, "i8")
    readers = [process(read, lock, table, counts, -1, 0.001) for _ in range(4)]
    wait_until(lambda: lock.readers >= 2)
    writers = [process(write, lock, table, counts, 50 * scale, seed) for seed in range(2)]
    end_well(writers, WATCHDOG * scale)  # type: ignore[arg-type]
    counts[STOP] = 1
    end_well(readers)  # type: ignore[arg-type]
    assert check(table) == 100 * scale


@scale
def test_readers_get_in_between_writers_that_never_stop(process: Processes, scale: int) -> None:
    """At any instant somebody writes or is about to; each of the readers gets its turns all the same."""
    lock, table, counts = fresh(), shmkit.zeros(257, "i8"), shmkit.zeros(3, "i8")
    writers = [process(write, lock, table, counts, -1, seed) for seed in range(4)]
    wait_until(lambda: counts[WRITES] > 100)
    readers = [process(read, lock, table, counts, 200 * scale, 0.0) for _ in range(2)]
    end_well(readers, WATCHDOG * scale)  # type: ignore[arg-type]
    counts[STOP] = 1
    end_well(writers)  # type: ignore[arg-type]
    assert check(table) == counts[WRITES]
