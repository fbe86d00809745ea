"""The calls that faster-fifo documents, unchanged, on ours."""

from __future__ import annotations

from multiprocessing import Process
from queue import Empty, Full
from typing import Any

import numpy as np
import pytest

import shmkit

WATCHDOG = 30.0


@pytest.fixture
def queue() -> Any:
    return shmkit.Queue()


def test_one_by_one(queue: Any) -> None:
    """Any object, with time-outs."""
    message = {"a": 42, "b": np.zeros(10)}
    queue.put(message)
    got = queue.get(timeout=WATCHDOG)
    assert got["a"] == 42
    np.testing.assert_array_equal(got["b"], np.zeros(10))
    queue.put(1, block=True, timeout=WATCHDOG)
    queue.put_nowait(2)
    assert queue.qsize() == 2
    assert not queue.empty()
    assert not queue.full()
    assert queue.get(block=True, timeout=WATCHDOG) == 1
    assert queue.get_nowait() == 2
    assert queue.empty()
    with pytest.raises(Empty):
        queue.get_nowait()
    with pytest.raises(Empty):
        queue.get(timeout=0.01)


def test_many_at_once(queue: Any) -> None:
    """All that there is, or so many."""
    queue.put_many([1, 2, 3])
    queue.put_many_nowait([4, 5, 6, 7])
    assert queue.get_many(max_messages_to_get=2) == [1, 2]
    assert queue.get_many_nowait(max_messages_to_get=1) == [3]
    assert queue.get_many(block=True, timeout=WATCHDOG, max_messages_to_get=2) == [4, 5]
    assert queue.get_many_nowait() == [6, 7]
    with pytest.raises(Empty):
        queue.get_many_nowait()
    with pytest.raises(Empty):
        queue.get_many(block=True, timeout=0.01, max_messages_to_get=10)


def produce(queue: Any, me: int) -> None:
    for number in range(100):
        queue.put_many([(me, number, k) for k in range(10)], timeout=WATCHDOG)


def test_many_producers(queue: Any) -> None:
    """As its own example has it."""
    children = [Process(target=produce, args=(queue, me)) for me in range(3)]
    for child in children:
        child.start()
    got: list[Any] = []
    while len(got) < 3000:
        got += queue.get_many(timeout=WATCHDOG)
    for child in children:
        child.join(WATCHDOG)
    for me in range(3):
        assert [item[1:] for item in got if item[0] == me] == [(n, k) for n in range(100) for k in range(10)]


def test_a_queue_that_is_full_says_so() -> None:
    """As queue.Full; what is meant for `block` is not taken for a number."""
    queue = shmkit.Queue(maxsize=2)
    with pytest.raises(Full):
        queue.put_many_nowait([1, 2, 3])
    assert queue.full()
    with pytest.raises(TypeError, match="max_messages_to_get"):
        queue.get_many(False)
    assert queue.get_many() == [1, 2]
