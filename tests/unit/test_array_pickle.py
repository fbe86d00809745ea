"""SharedArrays in pickles: by reference, in any pickler, however the other process came to be."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest

import shmkit
from shmkit import SharedArray, _map
from support import Processes, wait_until

VIEWS: list[Any] = [
    lambda a: a,
    lambda a: a[1],
    lambda a: a[1:, ::-2, 1::2],
    lambda a: a.T,
    lambda a: a.transpose(2, 0, 1)[::-1],
    lambda a: a.reshape(12, 5),
    lambda a: a[..., 0:0],
    lambda a: a[::-1][3:],
    lambda a: a[1, 2, 3, ...],
    lambda a: np.broadcast_to(a, (2, 3, 4, 5), subok=True),
    lambda a: a.view("u1")[..., 1::8],
    lambda a: a.view([("x", "f8")])["x"],
]


def sixty() -> SharedArray:
    """No fixture: pytest would hold it until after the books are balanced."""
    return shmkit.array(np.arange(60.0).reshape(3, 4, 5))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_view_arrives_as_the_same_memory(view: Any, protocol: int) -> None:
    """Offset, shape, strides, dtype and all; a hundred-odd bytes of pickle."""
    array = sixty()
    mine = view(array)
    data = pickle.dumps(mine, protocol)
    found = pickle.loads(data)
    assert type(found) is SharedArray
    assert (found.shape, found.dtype) == (mine.shape, mine.dtype)
    assert found.strides == mine.strides or mine.size == 0
    assert np.array_equal(found, mine)
    if mine.size:
        assert found.__array_interface__["data"][0] == mine.__array_interface__["data"][0]
    assert len(data) < 500


@pytest.mark.parametrize(
    "dtype", [">u4", "S7", "U3", "M8[ns]", "m8[3D]", [("a", "i4"), ("b", "f8", (2, 2))], "c8", "V3"], ids=str
)
def test_every_dtype_arrives(dtype: Any) -> None:
    """As NumPy itself pickles it."""
    mine = shmkit.zeros((2, 3), dtype, order="F")
    found = pickle.loads(pickle.dumps(mine))
    assert (found.dtype, found.strides, found.flags.f_contiguous) == (mine.dtype, mine.strides, True)
    assert np.shares_memory(found, mine)


def test_what_is_not_shared_travels_by_value() -> None:
    """Results and copies pickle as ordinary arrays, as do views of foreign memory of this type."""
    array = sixty()
    for plain in (array + 1, array[array > 5], np.arange(3.0).view(SharedArray)):
        found = pickle.loads(pickle.dumps(plain))
        assert type(found) is np.ndarray
        assert np.array_equal(found, plain)


def test_a_segments_array_travels_by_reference_as_a_shared_array() -> None:
    """`view(SharedArray)` is all it takes; the plain one goes by value, as plain ones do."""
    with shmkit.Segment.create(None, 80) as segment:
        plain = segment.ndarray(10)
        assert not np.shares_memory(pickle.loads(pickle.dumps(plain)), plain)
        assert np.shares_memory(pickle.loads(pickle.dumps(plain.view(SharedArray))), plain)


def test_a_readonly_view_arrives_readonly(name: str) -> None:
    """Whether the array is, or its whole segment."""
    array = sixty()
    array.flags.writeable = False
    assert not pickle.loads(pickle.dumps(array)).flags.writeable
    assert not pickle.loads(pickle.dumps(array[1:])).flags.writeable
    made = shmkit.create(name, 3)
    reader = shmkit.attach(name, readonly=True)
    shmkit.unlink(name)
    again = pickle.loads(pickle.dumps(reader[1:]))
    assert not again.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        again.flags.writeable = True
    made[1] = 4
    assert again[0] == 4


def test_out_of_band_buffers_are_none() -> None:
    """Protocol 5 has nothing to move."""
    buffers: list[pickle.PickleBuffer] = []
    pickle.dumps(sixty(), 5, buffer_callback=buffers.append)
    assert not buffers
    _map.forget_references()


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps], ids=["pickle", "cloudpickle"])
def test_an_unrelated_program_opens_it(dumps: Any, process: Processes) -> None:
    """Slices too; what it writes is here."""
    array = sixty()
    code = "import pickle, sys; a = pickle.load(sys.stdin.buffer); a *= 2; print(a.sum(), type(a).__name__)"
    program = process.python(code, stdin=subprocess.PIPE, text=False)
    said = program.communicate(dumps(array[1:, ::2, ::-1]))[0].decode()
    expected = np.arange(60.0).reshape(3, 4, 5)
    expected[1:, ::2] *= 2
    assert said == f"{expected[1:, ::2].sum()} SharedArray\n"
    assert np.array_equal(array, expected)


def _double(array: SharedArray, end: Connection) -> None:
    array *= 2
    end.send((type(array).__name__, array.shared, array.shape))
    end.recv()


def test_an_array_is_an_argument_of_a_process(start_method: BaseContext, process: Processes) -> None:
    """By fork, spawn and forkserver: the same memory."""
    array = sixty()
    here, there = multiprocessing.Pipe()
    child = process(_double, array[1:], there, context=start_method)
    assert here.recv() == ("SharedArray", True, (2, 4, 5))
    assert array.sum() == np.arange(20.0).sum() + 2 * np.arange(20.0, 60.0).sum()
    here.send(None)
    child.join()
    assert child.exitcode == 0
    here.close()
    there.close()


def _add(job: tuple[SharedArray, int]) -> float:
    array, number = job
    array[number] += number
    return float(array.sum())


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_works_on_one_array(method: str) -> None:
    """Each job gets a reference, and all write to the same memory."""
    array = shmkit.zeros(64)
    with multiprocessing.get_context(method).Pool(2) as pool:
        pool.map(_add, [(array, number) for number in range(64)])
        pool.close()
        pool.join()
    assert array.tolist() == [float(number) for number in range(64)]


def _make(number: int) -> SharedArray:
    return shmkit.full(1000, float(number))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_results_that_workers_made_arrive(method: str) -> None:
    """The worker drops its array at once: it is kept until the result was received."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as executor:
        results = list(executor.map(_make, range(40)))
    assert all(type(result) is SharedArray and result.shared for result in results)
    assert [result[999] for result in results] == [float(number) for number in range(40)]


def _produce(queue: Any, count: int, done: Any) -> None:
    for number in range(count):
        queue.put(shmkit.full(100, float(number)))
    done.wait()
    # Everything was received, and so nothing is kept any more.
    wait_until(lambda: _map.parked() == (0, 0))


def test_a_queue_carries_references(process: Processes) -> None:
    """The producer drops each array as soon as it was put."""
    context = multiprocessing.get_context("fork")
    queue, done = context.Queue(), context.Event()
    child = process(_produce, queue, 50, done)
    for number in range(50):
        assert queue.get()[99] == number
    done.set()
    child.join()
    assert child.exitcode == 0
    queue.close()
    queue.join_thread()


def _sum(array: SharedArray) -> tuple[float, bool]:
    array[0] = -1
    return float(array.sum()), bool(getattr(array, "shared", False))


def test_joblib_passes_references() -> None:
    """Its worker processes see the same memory, whatever joblib does with large plain arrays."""
    array = shmkit.ones(300_000)
    parts = np.split(array, 3)
    assert all(type(part) is SharedArray for part in parts)
    with joblib.parallel_config(backend="loky", n_jobs=2, inner_max_num_threads=1):
        results = joblib.Parallel()(joblib.delayed(_sum)(part) for part in parts)
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)
    assert results == [(99_998.0, True)] * 3
    assert array[::100_000].tolist() == [-1, -1, -1]


def test_a_named_array_is_referred_to_by_its_name(name: str, process: Processes) -> None:
    """And lives on without its maker."""
    code = f"import pickle, shmkit, sys; a = shmkit.create({name!r}, 4); a[:] = 3; "
    maker = process.python(code + "sys.stdout.buffer.write(pickle.dumps(a[1:]))", text=False)
    data = maker.communicate()[0]
    assert pickle.loads(data).tolist() == [3, 3, 3]
    shmkit.unlink(name)
    with pytest.raises(shmkit.SegmentNotFound):
        pickle.loads(data)


def test_another_user_cannot_open_a_reference(process: Processes) -> None:
    """It fails clearly, not silently and not by a crash."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    array = sixty()
    code = """
import os, pickle, sys, shmkit, shmkit.array
shmkit.SegmentPermission  # imported while the files can be read
os.setuid(65534)
try:
    pickle.load(sys.stdin.buffer)
except shmkit.SegmentPermission as error:
    print(error)
"""
    program = process.python(code, stdin=subprocess.PIPE, text=False)
    assert b"was received by user 65534" in program.communicate(pickle.dumps(array))[0]
    del array
    _map.forget_references()


def test_a_reference_beyond_its_segment_is_refused() -> None:
    """A pickle that was tampered with does not reach outside."""
    array = shmkit.zeros(16)
    restore, (handle, _, _, strides, dtype, writeable) = array.__reduce_ex__(5)
    for offset, shape in ((0, (10**6,)), (-8, (1,)), (2**62, (1,)), (4096, (1,))):
        with pytest.raises(ValueError, match="beyond"):
            restore(handle, offset, shape, strides, dtype, writeable)
    del array
    _map.forget_references()
