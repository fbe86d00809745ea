"""Several processes at once, through the drop-in, in all start methods: nobody is let in twice, and nothing is lost."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import shmkit
import shmkit.multiprocessing
from support import Processes

WORKERS, ROUNDS = 3, 400
ITEMS = 30


# What install() makes is the same: one start method is enough to see that.
@pytest.fixture(params=["fork", "spawn", "forkserver", "installed"])
def context(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "installed":
        shmkit.install()
        yield multiprocessing.get_context("fork")
        shmkit.uninstall()
    else:
        yield shmkit.multiprocessing.get_context(request.param)


def add(lock: Any, numbers: Any, begin: Any) -> None:
    begin.wait(60)
    for _ in range(ROUNDS):
        with lock:
            numbers[0] += 1  # a load and a store: another one between them would be lost
            numbers[1] += numbers[0]


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "Condition"])
def test_one_at_a_time(kind: str, context: Any, process: Processes) -> None:
    lock, begin = getattr(context, kind)(), context.Barrier(WORKERS)
    numbers = shmkit.zeros(2, "i8")
    children = [process(add, lock, numbers, begin, context=context) for _ in range(WORKERS)]
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    total = WORKERS * ROUNDS
    assert numbers.tolist() == [total, total * (total + 1) // 2]


def item_of(producer: int, number: int) -> Any:
    """Small ones, bytes and arrays beyond a pipe's room, and a few of a megabyte."""
    size = (1, 5_000, 100_000, 1_000_000)[number % 4 if number % 10 else 3]
    filler = (producer * ITEMS + number) % 251
    return np.full(size, filler, "u1") if number % 2 else bytes([filler]) * size


def produce(queue: Any, producer: int, begin: Any) -> None:
    begin.wait(60)
    for number in range(ITEMS):
        queue.put((producer, number, item_of(producer, number)))


def consume(queue: Any, results: Any, begin: Any) -> None:
    begin.wait(60)
    got = []
    while (item := queue.get()) is not None:
        producer, number, value = item
        assert np.array_equal(np.frombuffer(value, "u1"), np.frombuffer(item_of(producer, number), "u1"))
        got.append((producer, number))
    results.put(got)


@pytest.mark.parametrize("kind", ["Queue", "bounded", "JoinableQueue", "SimpleQueue"])
def test_several_producers_and_consumers(kind: str, context: Any, process: Processes) -> None:
    """Each item comes once, whole, and those of one producer to one consumer in their order."""
    queue = context.Queue(4) if kind == "bounded" else getattr(context, kind)()
    results, begin = context.SimpleQueue(), context.Barrier(4)
    producers = [process(produce, queue, number, begin, context=context) for number in range(2)]
    consumers = [process(consume, queue, results, begin, context=context) for _ in range(2)]
    for producer in producers:
        producer.join(60)
        assert producer.exitcode == 0
    for _ in consumers:
        queue.put(None)
    got = [results.get() for _ in consumers]
    for consumer in consumers:
        consumer.join(60)
        assert consumer.exitcode == 0
    assert sorted(got[0] + got[1]) == [(producer, number) for producer in range(2) for number in range(ITEMS)]
    for one in got:
        for producer in range(2):
            numbers = [number for sender, number in one if sender == producer]
            assert numbers == sorted(numbers)
