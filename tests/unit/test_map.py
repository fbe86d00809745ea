"""Mapping: what owns memory, what keeps it warm, and what forks change about it."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import numpy as np
import pytest

import shmkit
from shmkit import Segment, SharedArray, _map
from support import Processes


@pytest.fixture(autouse=True)
def _cold() -> Iterator[None]:
    """No warm memory before or after."""
    shmkit.trim()
    yield
    shmkit.trim()


def test_mappings_and_facts_are_not_made_by_hand() -> None:
    """Only segments make them."""
    for kind in (_map.Mapping, _map.Facts):
        with pytest.raises(TypeError, match="made by"):
            kind()


def test_a_buffer_is_the_payload() -> None:
    """Contiguous bytes, writable unless the mapping is not."""
    with Segment.create(None, 100) as segment:
        view = memoryview(segment.mapping)
        assert (view.nbytes, view.format, view.contiguous, view.readonly) == (100, "B", True, False)
        assert len(segment.mapping) == 100
        assert np.frombuffer(segment.mapping, "u1").__array_interface__["data"][0] == segment.mapping.address


def test_a_mapping_dies_with_its_last_reference() -> None:
    """Views are references; a weak one tells."""
    segment = Segment.create(None, 100)
    watch = weakref.ref(segment.mapping)
    array = segment.ndarray(10)[2:]
    view = memoryview(array)
    segment.close()
    del array
    gc.collect()
    assert watch() is not None
    view.release()
    assert watch() is None


def test_an_arrays_memory_is_used_again() -> None:
    """The next array of about that size finds pages that are already there."""
    one = shmkit.ones((100, 100))
    address, inode = one.__array_interface__["data"][0], one.segment.mapping.facts.inode
    del one
    assert _map.warm()[0] == 1
    other = shmkit.empty((99, 100))
    assert other.__array_interface__["data"][0] == address
    assert other.segment.mapping.facts.inode == inode
    assert _map.warm() == (0, 0)


def test_zeros_are_zeros_in_used_memory_too() -> None:
    """And new memory is not filled for nothing."""
    assert not shmkit.zeros(1000).segment.mapping.used
    one = shmkit.full(1000, 7.0)
    del one
    other = shmkit.zeros(1000)
    assert other.segment.mapping.used
    assert not other.any()


def test_a_segment_used_again_is_another_one() -> None:
    """A reference to the former cannot be taken for the new."""
    one = shmkit.empty(10)
    identity = one.segment.mapping.facts.identity
    del one
    assert shmkit.empty(10).segment.mapping.facts.identity != identity


def test_warm_memory_is_listed_as_idle() -> None:
    """Who looks sees where it went."""
    del_me = shmkit.empty(123456, "u1")
    inode = del_me.segment.mapping.facts.inode
    del del_me
    mine = [info for info in Segment.list() if info.creator_pid == os.getpid() and info.backing == "memfd"]
    assert inode
    assert [info.kind for info in mine if info.kind not in ("sync", "heap")] == ["idle"]


def test_trim_gives_warm_memory_back() -> None:
    """All of it, and says how much."""
    del_me = [shmkit.empty(10**6, "u1") for _ in range(3)]
    del del_me
    count, nbytes = _map.warm()
    assert count == 3
    assert nbytes >= 3 * 10**6
    assert shmkit.trim() == nbytes
    assert _map.warm() == (0, 0)


def test_warm_memory_is_bounded() -> None:
    """By count and by bytes; the oldest goes first."""
    before = _map.limit_warm(2, 10**7)
    try:
        arrays = [shmkit.empty(10**6 * size, "u1") for size in (1, 2, 3)]
        while arrays:
            del arrays[0]
        assert _map.warm()[0] == 2
        _map.limit_warm(64, 10**7)
        arrays = [shmkit.empty(10**6 * 4, "u1") for _ in range(3)]
        while arrays:
            del arrays[0]
        assert _map.warm()[1] <= 10**7
        _map.limit_warm(0, 10**7)
        shmkit.trim()
        shmkit.empty(10)
        assert _map.warm() == (0, 0)
    finally:
        _map.limit_warm(*before)


def test_a_large_array_is_neither_rounded_nor_kept() -> None:
    """An eighth of a gigabyte is too much to waste."""
    array = shmkit.empty(65 * 2**20, "u1")
    assert array.segment.size == 65 * 2**20
    del array
    assert _map.warm() == (0, 0)


def test_memory_that_was_pickled_is_not_used_again() -> None:
    """Somebody else may have it by then."""
    import pickle

    array = shmkit.empty(10)
    copy = pickle.loads(pickle.dumps(array))
    del array, copy
    assert _map.warm() == (0, 0)


def test_a_segment_whose_handle_was_handed_out_is_used_again() -> None:
    """A handle within the process is no reference to another."""
    array = shmkit.empty(10)
    segment = array.segment
    del array
    assert segment.kind == "array"
    assert _map.warm() == (0, 0)
    segment.close()
    assert _map.warm()[0] == 1


def _hold(array: SharedArray, end: Connection) -> None:
    end.send(float(array[0]))
    end.recv()
    end.send(float(array[0]))


def test_memory_that_a_fork_copied_is_not_used_again(process: Processes) -> None:
    """The child has it: what the parent does afterwards must not show there."""
    here, there = Pipe()
    array = shmkit.full(10, 5.0)
    child = process(_hold, array, there)
    assert here.recv() == 5.0
    del array
    assert _map.warm() == (0, 0)
    other = shmkit.full(10, 6.0)
    here.send(None)
    assert here.recv() == 5.0
    assert other[0] == 6.0
    child.join()
    here.close()
    there.close()


def _warm_in_child(end: Connection) -> None:
    end.send(_map.warm())
    array = shmkit.ones(10)
    end.send(array.segment.mapping.used)


def test_a_child_starts_cold(process: Processes) -> None:
    """Its parent's warm memory is the parent's."""
    here, there = Pipe()
    del_me = shmkit.full(10, 5.0)
    del del_me
    assert _map.warm()[0] == 1
    child = process(_warm_in_child, there)
    assert here.recv() == (0, 0)
    assert here.recv() is False
    child.join()
    assert _map.warm()[0] == 1
    here.close()
    there.close()


def test_an_inherited_mapping_says_so(process: Processes) -> None:
    """The child did not make it."""
    here, there = Pipe()
    with Segment.create(None, 10) as segment:
        assert not segment.mapping.inherited
        child = process(lambda: there.send(segment.mapping.inherited))
        assert here.recv() is True
        child.join()
    here.close()
    there.close()


def test_processes_are_told_apart_by_their_start(process: Processes) -> None:
    """A pid alone may be another process's by now."""
    program = process.python("input()", stdin=-1)
    start = _map.process_start(program.pid)
    assert start >= _map.process_start() == _map.process_start(os.getpid()) > 0
    program.communicate("\n")
    assert _map.process_start(program.pid) == 0


def test_references_are_counted() -> None:
    """Those made, those taken; never more taken than made."""
    with Segment.create(None, 10) as segment:
        mapping = segment.mapping
        assert mapping.references == (0, 0)
        mapping.take()
        assert mapping.references == (0, 0)
        mapping.refer()
        mapping.refer()
        mapping.take()
        assert mapping.references == (2, 1)
        mapping.take()
        mapping.take()
        assert mapping.references == (2, 2)


def test_many_threads_make_and_drop_arrays() -> None:
    """Each has memory of its own for as long as it has it."""
    wrong = []

    def work(number: int) -> None:
        for turn in range(300):
            array = shmkit.full(200 + turn % 7 * 1000, number, "i8")
            if not (array == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
