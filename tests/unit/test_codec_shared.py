"""Shared arrays in items of queues: by reference, without pickle, however the other process came to be."""

from __future__ import annotations

import collections
import dataclasses
import gc
import pickle
from fractions import Fraction
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import pytest

import shmkit
from shmkit import SharedArray, _map
from shmkit._codec import decode, encode
from support import Processes

from . import queue_children

CODE_SHARED = 25

VIEWS: list[Any] = [
    lambda a: a,
    lambda a: a[1],
    lambda a: a[1:, ::-2, 1::2],
    lambda a: a.T,
    lambda a: a.transpose(2, 0, 1)[::-1],
    lambda a: a[..., 0:0],
    lambda a: a[1, 2, 3, ...],
    lambda a: np.broadcast_to(a, (2, 3, 4, 5), subok=True),
    lambda a: a.view("u1")[..., 1::8],
    lambda a: a.view([("x", "f8")])["x"],
    lambda a: a.view([("x", "f4"), ("y", "f4")]),
    lambda a: a.reshape(-1).view("u1")[1:9].view("f8"),
]


def sixty() -> SharedArray:
    """No fixture: pytest would hold it until after the books are balanced."""
    return shmkit.array(np.arange(60.0).reshape(3, 4, 5))


def through(item: object) -> Any:
    return decode(*encode(item))


def address(array: np.ndarray[Any, Any]) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_arrives_as_the_same_memory(view: Any) -> None:
    """Offset, shape, strides, dtype and all, within a head."""
    mine = view(sixty())
    for _ in range(2):
        head, body = encode(mine)
        found = decode(head, body)
        assert type(found) is SharedArray
        assert (found.shape, found.dtype) == (mine.shape, mine.dtype)
        assert found.strides == mine.strides or mine.size == 0
        assert found.flags.aligned == mine.flags.aligned
        assert found.flags.writeable == mine.flags.writeable
        assert np.array_equal(found, mine)
        if mine.size:
            assert address(found) == address(mine)
        if mine.dtype.names is None:
            assert body is None
            assert head[0] == CODE_SHARED


def test_pickle_and_item_agree() -> None:
    """On everything that an array has."""
    mine = sixty()[1:, ::2]
    mine.flags.writeable = False
    by_pickle, by_item = pickle.loads(pickle.dumps(mine)), through(mine)
    assert by_pickle.__array_interface__ == by_item.__array_interface__
    assert by_pickle.flags == by_item.flags
    assert by_pickle.base is by_item.base


def test_within_containers() -> None:
    mine = sixty()
    number, found = through((1, [mine, {"a": mine[1]}]))
    assert number == 1
    assert address(found[0]) == address(mine)
    assert address(found[1]["a"]) == address(mine[1])


def test_what_is_not_shared_arrives_as_a_plain_array() -> None:
    """Results, and arrays of this type over foreign memory."""
    for plain in (np.arange(3.0).view(SharedArray), sixty() + 1):
        found = through(plain)
        assert type(found) is np.ndarray
        assert np.array_equal(found, plain)


def test_read_only_and_named_ones_are_pickled(name: str) -> None:
    """And arrive as the same memory."""
    made = shmkit.create(name, 5)
    try:
        seen = shmkit.attach(name, readonly=True)
        for array in (made, seen):
            head, body = encode(array)
            assert head[0] != CODE_SHARED
            found = decode(head, body)
            assert address(found) == address(array)
            assert found.flags.writeable == array.flags.writeable
    finally:
        shmkit.unlink(name)


def test_references_may_be_refused() -> None:
    """With pickles: whoever can write to the queue could have anything opened."""
    head, body = encode(sixty())
    with pytest.raises(shmkit.PickleRefused):
        decode(head, body, False)
    decode(head, body)  # or its memory would wait for that


def references(array: SharedArray) -> tuple[int, int]:
    mapping: Any = array.base
    found: tuple[int, int] = mapping.references
    return found


def test_each_reference_is_counted_once() -> None:
    """When it is encoded, whatever it is in; not if its item had to be pickled after all, beyond pickle's own."""
    array = sixty()
    assert references(array) == (0, 0)
    for count, item in enumerate((array, (array, 1), [array, 2, array[1]], (array, object)), 1):
        head, body = encode(item)
        made, taken = references(array)
        assert made - taken == (2 if isinstance(item, list) else 1), count
        decode(head, body)
        made, taken = references(array)
        assert made == taken


def test_what_could_not_be_put_is_no_longer_under_way() -> None:
    array = sixty()
    queue = shmkit.Queue(1)
    queue.put(None)
    for item in (array, (array, 1), [array[1], "x" * 3000]):
        for _ in range(2):
            with pytest.raises(shmkit.Full):
                queue.put(item, block=False)
        made, taken = references(array)
        assert made == taken
    with pytest.raises(shmkit.Full):
        queue.put_many([array], block=False)
    made, taken = references(array)
    assert made == taken


@dataclasses.dataclass
class Pair:
    first: Any
    second: Any


HOLDERS: list[Any] = [
    lambda a: a,
    lambda a: (a, 1),
    lambda a: [a, "x" * 3000, {"key": a[1]}],
    lambda a: {"a": (b"y" * 2000, np.arange(1000), a[:, ::2])},
    lambda a: Pair(a, [1.5, Pair(2, a[0])]),
    lambda a: (Fraction(1, 3), np.float32(2), None, 1 << 70, 1j, "\u20ac", "\U0001f600", frozenset((1, 2)), a),
    lambda a: collections.OrderedDict(a=a, b=collections.Counter("aab")),
    lambda a: (collections.deque([a, 1]), np.array(["text"]), np.arange(4, dtype="u2").reshape(2, 2)),
]


@pytest.mark.parametrize("holder", HOLDERS)
def test_what_is_dropped_is_no_longer_under_way(holder: Any) -> None:
    """Whoever drops it, for whatever reason, and whatever it stands in."""
    array = sixty()
    oldest = shmkit.Queue(1, backpressure="drop_oldest")
    oldest.put(holder(array))
    made, taken = references(array)
    assert made > taken
    oldest.put(None)
    made, taken = references(array)
    assert made == taken
    newest = shmkit.Queue(1, backpressure="drop_newest")
    newest.put(None)
    newest.put(holder(array))
    made, taken = references(array)
    assert made == taken
    shut = shmkit.Queue()
    shut.put_many([holder(array), None, holder(array)])
    shut.shutdown(immediate=True)
    made, taken = references(array)
    assert made == taken


def test_memory_of_what_another_process_drops_goes(start_method: BaseContext, process: Processes) -> None:
    """Not only with the process that had put it."""
    before = _map.parked()
    queue = shmkit.Queue(2, backpressure="drop_oldest")
    for _ in range(2):
        queue.put(shmkit.zeros(1000))
    gc.collect()
    child = process(queue_children.put_nothings, queue, 2, context=start_method)
    child.join(30)
    assert child.exitcode == 0
    assert [queue.get(timeout=30) for _ in range(2)] == [None, None]
    shmkit.zeros(1000)
    assert _map.parked() == before


def test_a_reference_keeps_its_memory_until_it_is_received() -> None:
    queue = shmkit.Queue()
    queue.put(shmkit.array([1.0, 2.0, 3.0]))
    gc.collect()
    assert (queue.get() == [1, 2, 3]).all()


def test_memory_that_was_received_goes_when_nobody_has_it() -> None:
    """What keeps references short keeps nothing alive."""
    before = _map.parked()
    for _ in range(300):
        through(shmkit.zeros(3))
    assert _map.parked() == before


def test_in_other_processes(start_method: BaseContext, process: Processes) -> None:
    """There and back through two queues: the memory stays the same; what one writes the other sees."""
    requests, answers = shmkit.Queue(), shmkit.Queue()
    child = process(queue_children.add_one, requests, answers, context=start_method)
    array = sixty()
    expected = np.arange(60.0).reshape(3, 4, 5)
    for number in range(20):
        requests.put((number, array) if number % 2 else array)
        found = answers.get(timeout=60)
        expected += 1
        assert np.array_equal(array, expected)
        assert address(found) == address(array)
    for _ in range(5):
        requests.put(shmkit.zeros(7))
        assert (answers.get(timeout=60) == 1).all()
    requests.put(None)
    child.join(60)
    assert child.exitcode == 0
