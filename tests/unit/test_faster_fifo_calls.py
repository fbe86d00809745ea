"""The calls that faster-fifo documents, unchanged, on ours."""

from __future__ import annotations

from importlib.util import find_spec
from multiprocessing import Process
from queue import Empty, Full
from typing import Any

import numpy as np
import pytest

import shmkit
from support import Processes

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


def test_as_its_readme_has_it() -> None:
    """The whole of its example: a queue of a million, one object in and out, many at once, time-outs."""
    q: Any = shmkit.Queue(1000 * 1000)
    py_obj = {"a": 42, "b": 33, "c": (1, 2, 3), "d": [1, 2, 3], "e": "123", "f": b"kkk"}
    q.put(py_obj)
    assert q.qsize() == 1
    assert q.get() == py_obj
    assert q.empty()
    for _ in range(100):
        q.put(py_obj, timeout=0.1)
    num_received = 0
    while num_received < 100:
        messages = q.get_many(max_messages_to_get=100)
        assert messages == [py_obj] * len(messages)
        num_received += len(messages)
    with pytest.raises(Empty):
        q.get(timeout=0.1)


@pytest.mark.parametrize("most", [1e9, int(1e9), 2.0])
def test_keywords_and_counts_as_floats(queue: Any, most: float) -> None:
    """Time-outs and counts in whatever form a number comes; 1e9 is as many as there are."""
    queue.put_many([1, 2, 3], block=True, timeout=10)
    queue.put_many((4, 5), block=True, timeout=float(10))
    queue.put_many([6], block=False)
    queue.put_many_nowait([7])
    queue.put_nowait(8)
    got = queue.get_many(block=True, timeout=10, max_messages_to_get=most)
    assert got == list(range(1, 9))[: int(most)]
    queue.put(9, block=True, timeout=1e3)
    got += queue.get_many(block=True, timeout=1e3, max_messages_to_get=most)
    while len(got) < 9:
        got += queue.get_many_nowait(max_messages_to_get=most)
    assert got == list(range(1, 10))
    with pytest.raises(Empty):
        queue.get_many(block=False, max_messages_to_get=most)
    with pytest.raises(Empty):
        queue.get_many_nowait(max_messages_to_get=most)
    with pytest.raises(Empty):
        queue.get(block=False)
    queue.join_thread()
    queue.cancel_join_thread()
    queue.close()


THE_SAME = """
import faster_fifo, queue, shmkit
answers = []
for q in (faster_fifo.Queue(1000 * 1000), shmkit.Queue(1000 * 1000)):
    q.put_many([1, 2, 3], block=True, timeout=10)
    q.put_many_nowait([4])
    q.put(5, block=True, timeout=10)
    q.put_nowait(6)
    said = [q.qsize(), q.empty(), q.full(), q.get(), q.get_nowait()]
    said.append(q.get_many(block=True, timeout=10, max_messages_to_get=2))
    said.append(q.get_many_nowait())
    for call in (q.get_nowait, q.get_many_nowait, lambda: q.get(timeout=0.01)):
        try:
            said.append(call())
        except queue.Empty:
            said.append("Empty")
    said.append(q.empty())
    answers.append(said)
assert answers[0] == answers[1], answers
print("fine")
"""


def test_their_own_queue_answers_the_same(process: Processes) -> None:
    """Where faster-fifo is installed: the same calls, the same answers."""
    if find_spec("faster_fifo") is None:
        pytest.skip("faster-fifo is not installed")
    assert process.python(THE_SAME).communicate(timeout=60)[0] == "fine\n"
