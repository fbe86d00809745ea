"""Queues: what they refuse, what they say, and what they do when memory, not room, is short."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import shmkit

MEBIBYTE = 1 << 20


class Interrupts:
    """Ctrl-C is pressed while it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _interrupt, ()


def _interrupt() -> None:
    raise KeyboardInterrupt


# ---------------------------------------------------------------------------------------------------------- refusing


@pytest.mark.parametrize("timeout", ["soon", [1], float("nan")])
def test_a_bad_time_out_is_refused_where_there_is_no_need_to_wait(timeout: Any) -> None:
    """As the standard library's; unless it is not looked at, as the call does not wait."""
    queue = shmkit.Queue(2)
    queue.put(1)
    for attempt in (queue.get, queue.get_many):
        with pytest.raises((TypeError, ValueError)):
            attempt(timeout=timeout)
    with pytest.raises((TypeError, ValueError)):
        queue.put(2, timeout=timeout)
    with pytest.raises((TypeError, ValueError)):
        queue.put_many([2], timeout=timeout)
    assert queue.qsize() == 1
    assert queue.get(False, timeout) == 1


@pytest.mark.parametrize(
    ("maxsize", "error"), [(2.5, TypeError), ("3", TypeError), (2**31, OverflowError), (2**70, OverflowError)]
)
def test_a_maxsize_is_a_number_of_items(name: str, maxsize: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        shmkit.Queue(maxsize)
    with pytest.raises(error):
        shmkit.Queue.create(name, maxsize)
    with pytest.raises(shmkit.SegmentNotFound):
        shmkit.Queue.attach(name)


@pytest.mark.parametrize(("most", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError), ("2", TypeError)])
def test_get_many_wants_at_least_one(most: Any, error: type[Exception]) -> None:
    queue = shmkit.Queue()
    queue.put(1)
    with pytest.raises(error):
        queue.get_many(most)
    assert queue.get_many(1e9) == [1]  # type: ignore[arg-type]  # as faster-fifo has it


def test_who_joins_attaches_what_counts(name: str) -> None:
    with shmkit_queue(shmkit.Queue, name):
        with pytest.raises(shmkit.LayoutMismatch, match="not created as a JoinableQueue"):
            shmkit.JoinableQueue.attach(name)
        shmkit.SimpleQueue.attach(name).put(1)
    with shmkit_queue(shmkit.JoinableQueue, name) as queue:
        shmkit.Queue.attach(name).put(1)
        shmkit.JoinableQueue.attach(name).get()
        queue.task_done()
        queue.join()


class shmkit_queue:  # noqa: N801  # a context manager
    """A queue of a kind under a name, which goes at the end."""

    def __init__(self, kind: Any, name: str) -> None:
        self.queue = kind.create(name)

    def __enter__(self) -> Any:
        return self.queue

    def __exit__(self, *exc: object) -> None:
        self.queue.unlink()
        self.queue.close()


# ---------------------------------------------------------------------------------------------------------- few words


def test_a_simple_queue_by_name(name: str) -> None:
    with shmkit_queue(shmkit.SimpleQueue, name) as queue:
        assert queue.name == name
        other = shmkit.SimpleQueue.attach(name)
        other.put(np.arange(3))
        assert queue.get().tolist() == [0, 1, 2]
        assert queue.empty()


def test_a_simple_queue_without_waiting() -> None:
    queue = shmkit.SimpleQueue()
    queue.put_nowait(1)
    assert queue.get_nowait() == 1
    with pytest.raises(shmkit.Empty):
        queue.get_nowait()


@pytest.mark.parametrize("kind", [shmkit.Queue, shmkit.SimpleQueue, shmkit.JoinableQueue])
def test_what_is_in_it_may_be_said(kind: Any) -> None:
    """As of the standard library's: in an annotation."""
    assert kind[int].__origin__ is kind


# ------------------------------------------------------------------------------------------------------------- saying


def test_an_error_says_which_queue(name: str) -> None:
    queue = shmkit.Queue.create(name, capacity="4 MiB")
    try:
        with pytest.raises(shmkit.RecordTooLarge, match=f"the heap of queue '{name}'"):
            queue.put(bytes(8 * MEBIBYTE))
        with pytest.raises(shmkit.HeapFull, match=f"the heap of queue '{name}'"):
            while True:
                queue.put(bytes(MEBIBYTE))
    finally:
        queue.unlink()


def test_what_was_dropped_was_not_got() -> None:
    queue = shmkit.Queue(2, backpressure="drop_oldest")
    queue.put_many(range(5))
    said = queue.statistics()
    assert (said["put"], said["got"], said["dropped"], said["items"]) == (5, 0, 3, 2)
    assert queue.get() == 3
    queue.shutdown(immediate=True)
    said = queue.statistics()
    assert (said["put"], said["got"], said["dropped"], said["items"]) == (5, 1, 3, 0)
    queue = shmkit.Queue(2, backpressure="drop_newest")
    queue.put_many(range(5))
    queue.get()
    said = queue.statistics()
    assert (said["put"], said["got"], said["dropped"], said["items"]) == (2, 1, 3, 1)


# ----------------------------------------------------------------------------------------------------------- batches


def test_an_interrupted_batch_loses_nothing() -> None:
    """What interrupts it is raised at once; what had been got is got by the next call."""
    queue = shmkit.Queue()
    queue.put_many([1, 2, 3, Interrupts(), 4])
    with pytest.raises(KeyboardInterrupt):
        queue.get_many()
    assert queue.get_many(2) == [1, 2]
    assert queue.get_many() == [3, 4]
    with pytest.raises(shmkit.Empty):
        queue.get_many_nowait()


def test_an_item_that_fails_says_so_with_the_next_batch() -> None:
    queue = shmkit.Queue()
    queue.put_many([1, Fails(), 2])
    assert queue.get_many() == [1]
    with pytest.raises(pickle.UnpicklingError, match="no good"):
        queue.get_many()
    assert queue.get_many() == [2]


class Fails:
    def __reduce__(self) -> tuple[Any, ...]:
        return _fail, ()


def _fail() -> None:
    raise pickle.UnpicklingError("no good")


# ------------------------------------------------------------------------------------------------------------- memory


def test_a_queue_that_raises_does_not_wait_for_memory(name: str) -> None:
    """Whoever else has it, and could let something go."""
    queue = shmkit.Queue.create(name, 1000, capacity="4 MiB", backpressure="raise")
    try:
        with pytest.raises(shmkit.HeapFull):
            while True:
                queue.put(bytes(MEBIBYTE))
        assert queue.statistics()["dropped"] == 0
    finally:
        queue.unlink()


def test_a_queue_that_drops_what_is_newest_drops_what_finds_no_memory(name: str) -> None:
    queue = shmkit.Queue.create(name, 1000, capacity="4 MiB", backpressure="drop_newest")
    try:
        for number in range(10):
            queue.put(np.full(MEBIBYTE // 8, float(number)))
        dropped = queue.statistics()["dropped"]
        got = [array[0] for array in queue.get_many()]
        assert got == list(range(10 - dropped))
        assert 5 <= dropped <= 8
    finally:
        queue.unlink()


def test_a_queue_that_drops_what_is_oldest_makes_room_in_memory(name: str) -> None:
    queue = shmkit.Queue.create(name, 1000, capacity="4 MiB", backpressure="drop_oldest")
    try:
        for number in range(10):
            queue.put(np.full(MEBIBYTE // 8, float(number)))
        dropped = queue.statistics()["dropped"]
        kept = queue.get_many()
        assert [array[0] for array in kept] == list(range(dropped, 10))
        with pytest.raises(shmkit.HeapFull):  # what receivers keep, nobody can drop
            queue.put(bytes(3 * MEBIBYTE))
        del kept
        queue.put(bytes(3 * MEBIBYTE))
    finally:
        queue.unlink()


def poll(queue: shmkit.Queue) -> None:
    with pytest.raises(shmkit.Empty):
        queue.get(False)


def wait_a_little(queue: shmkit.Queue) -> None:
    with pytest.raises(shmkit.Empty):
        queue.get(timeout=0.1)


@pytest.mark.parametrize("look", [poll, wait_a_little])
def test_who_looks_now_and_then_gives_idle_memory_back(look: Callable[[shmkit.Queue], None]) -> None:
    """Not only who waits for two seconds at a stretch."""
    queue = shmkit.Queue()
    queue.put_many([np.zeros(MEBIBYTE) for _ in range(4)])
    queue.get_many()
    assert queue.statistics()["heap"]["resident"] > 30 * MEBIBYTE
    until = time.monotonic() + 30
    while queue.statistics()["heap"]["resident"] > MEBIBYTE:
        assert time.monotonic() < until
        look(queue)


def test_who_waits_in_vain_leaves_memory_that_others_use(process: Any) -> None:
    """A heap is not idle because one of its queues is."""
    idle, busy = shmkit.Queue(), shmkit.Queue(4)
    until = time.monotonic() + 5
    least = 1 << 40
    child = process(idle.get)
    while time.monotonic() < until:
        for _ in range(4):
            busy.put(np.zeros(MEBIBYTE))
        for _ in range(4):
            busy.get()
        least = min(least, busy.statistics()["heap"]["resident"])
    idle.put(None)
    child.join(30)
    assert child.exitcode == 0
    assert least >= 8 * MEBIBYTE
