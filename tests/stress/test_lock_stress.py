"""Primitives under contention, between processes and threads; SCENARIOS.md says why each of these."""

from __future__ import annotations

import os
import random
import re
import threading
import zlib
from collections.abc import Callable
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmkit
from support import Processes

WATCHDOG = 60.0
SCENARIOS = Path(__file__).with_name("SCENARIOS.md")
EXCLUSIVE: dict[str, Callable[[], Any]] = {
    "Lock": shmkit.Lock,
    "RLock": shmkit.RLock,
    "Semaphore": lambda: shmkit.Semaphore(1),
    "BoundedSemaphore": lambda: shmkit.BoundedSemaphore(1),
    "undo": lambda: shmkit.Semaphore(1, undo=True),
    "Condition": shmkit.Condition,
}


def in_threads(count: int, action: Callable[[int], None]) -> None:
    """Runs it in so many threads; the process fails if one of them did."""
    failed: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            action(number)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        os._exit(1)


def all_well(children: list[Any]) -> None:
    for child in children:
        child.join(WATCHDOG)
        assert child.exitcode == 0


def count_up(primitive: Any, words: Any, threads: int, rounds: int, seed: int) -> None:
    def action(number: int) -> None:
        chance = random.Random(seed * 10 + number)
        for _ in range(rounds):
            way = chance.randrange(4)
            if way == 0:
                while not primitive.acquire(False):
                    pass
            elif way == 1:
                while not primitive.acquire(True, 0.001):
                    pass
            else:
                assert primitive.acquire(timeout=WATCHDOG)
            value = words[0]
            words[1] = seed
            words[0] = value + 1
            assert words[1] == seed
            primitive.release()

    in_threads(threads, action)


@pytest.mark.parametrize("kind", EXCLUSIVE)
def test_one_at_a_time(kind: str, start_method: BaseContext, process: Processes) -> None:
    """Three processes of two threads count together, in two steps: the sum is exact."""
    primitive, words = EXCLUSIVE[kind](), shmkit.zeros(2, np.int64)
    children = [process(count_up, primitive, words, 2, 300, number + 1, context=start_method) for number in range(3)]
    all_well(children)
    assert words[0] == 3 * 2 * 300


def test_more_processes_than_cores(process: Processes) -> None:
    """Four on two cores: each gets its share done."""
    lock, words = shmkit.Lock(), shmkit.zeros(2, np.int64)
    all_well([process(count_up, lock, words, 1, 2000, number + 1) for number in range(4)])
    assert words[0] == 4 * 2000


def produce(room: Any, items: Any, guard: Any, cells: Any, state: Any, count: int, seed: int) -> None:
    for number in range(count):
        assert room.acquire(timeout=WATCHDOG)
        with guard:
            at = state[0] % len(cells)
            value = seed << 32 | number
            cells[at] = (value, zlib.crc32(value.to_bytes(8, "little")))
            state[0] += 1
        items.release()


def consume(room: Any, items: Any, guard: Any, cells: Any, state: Any, sums: Any, count: int, me: int) -> None:
    for _ in range(count):
        assert items.acquire(timeout=WATCHDOG)
        with guard:
            value, check = (int(word) for word in cells[state[1] % len(cells)])
            state[1] += 1
        room.release()
        assert zlib.crc32(value.to_bytes(8, "little")) == check
        sums[me] += value


def test_semaphores_hand_over(start_method: BaseContext, process: Processes) -> None:
    """Two producers and two consumers over a pair of semaphores: every item, once and whole."""
    room, items, guard = shmkit.BoundedSemaphore(4), shmkit.Semaphore(0), shmkit.Lock()
    cells, state, sums = shmkit.zeros((4, 2), np.int64), shmkit.zeros(2, np.int64), shmkit.zeros(2, np.int64)
    children = [process(produce, room, items, guard, cells, state, 500, seed, context=start_method) for seed in (1, 2)]
    children += [
        process(consume, room, items, guard, cells, state, sums, 500, me, context=start_method) for me in (0, 1)
    ]
    all_well(children)
    assert int(sums.sum()) == sum(seed << 32 | number for seed in (1, 2) for number in range(500))
    assert (room.get_value(), items.get_value()) == (4, 0)


def put_all(changed: Any, cells: Any, state: Any, count: int, seed: int) -> None:
    for number in range(count):
        with changed:
            assert changed.wait_for(lambda: state[0] - state[1] < len(cells), WATCHDOG)
            cells[state[0] % len(cells)] = seed << 32 | number
            state[0] += 1
            changed.notify_all()


def get_all(changed: Any, cells: Any, state: Any, sums: Any, count: int, me: int) -> None:
    chance = random.Random(me)
    for _ in range(count):
        with changed:
            while state[0] == state[1]:
                changed.wait(chance.choice([None, 0.001, 0.01]))
            sums[me] += cells[state[1] % len(cells)]
            state[1] += 1
            changed.notify_all()


def test_a_condition_hands_over(start_method: BaseContext, process: Processes) -> None:
    """A bounded buffer under one condition, with waiters that lose patience."""
    changed = shmkit.Condition()
    cells, state, sums = shmkit.zeros(3, np.int64), shmkit.zeros(2, np.int64), shmkit.zeros(2, np.int64)
    children = [process(put_all, changed, cells, state, 300, seed, context=start_method) for seed in (1, 2)]
    children += [process(get_all, changed, cells, state, sums, 300, me, context=start_method) for me in (0, 1)]
    all_well(children)
    assert int(sums.sum()) == sum(seed << 32 | number for seed in (1, 2) for number in range(300))


def wait_and_count(condition: Any, counts: Any, rounds: int, seed: int) -> None:
    def action(number: int) -> None:
        chance = random.Random(seed * 10 + number)
        for _ in range(rounds):
            with condition:
                got = condition.wait(chance.random() * 0.004)
                counts[0] += got

    in_threads(3, action)
    with condition:
        counts[1] += 1


def test_exactly_as_many_return_as_are_notified(process: Processes) -> None:
    """While those who wait time out at random: what was notified, and what returned, agree to the last one."""
    condition, counts = shmkit.Condition(), shmkit.zeros(2, np.int64)
    children = [process(wait_and_count, condition, counts, 150, seed) for seed in range(3)]
    chance = random.Random(0)
    notified = 0
    while counts[1] < 3:
        with condition:
            before = condition.waiting
            condition.notify(chance.randrange(5))
            notified += before - condition.waiting
    all_well(children)
    assert counts[0] == notified > 0
    assert condition.waiting == 0


def wait_forever(condition: Any, counts: Any, threads: int) -> None:
    def action(number: int) -> None:
        with condition:
            assert condition.wait(WATCHDOG)
            counts[0] += 1

    in_threads(threads, action)


def test_many_are_handed_over(process: Processes) -> None:
    """Fifty, in five processes, five at a time."""
    condition, counts = shmkit.Condition(), shmkit.zeros(1, np.int64)
    children = [process(wait_forever, condition, counts, 10) for _ in range(5)]
    notified = 0
    while notified < 50:
        with condition:
            before = condition.waiting
            condition.notify(5)
            notified += before - condition.waiting
    all_well(children)
    assert counts[0] == 50


def test_every_scenario_is_described() -> None:
    """SCENARIOS.md has a section for each test here, in the same order, and no other."""
    (section,) = re.findall(r"^## Locks.*?(?=^## |\Z)", SCENARIOS.read_text(), re.MULTILINE | re.DOTALL)
    here = re.findall(r"^def (test_\w+)", Path(__file__).read_text(), re.MULTILINE)
    assert re.findall(r"^### (test_\w+)$", section, re.MULTILINE) == [name for name in here if "described" not in name]
