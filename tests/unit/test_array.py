"""SharedArray: made in every way, viewed, computed with, shared by name."""

from __future__ import annotations

import contextlib
import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmkit
from shmkit import SharedArray

DTYPES: list[Any] = [
    "?",
    "i1",
    ">u4",
    "f2",
    "c16",
    "S7",
    "U3",
    "V5",
    "M8[ns]",
    "m8[3D]",
    [("a", "i4"), ("b", "f8", (2, 2))],
    np.dtype([("x", "u1"), ("y", "f8")], align=True),
]


def sixty() -> SharedArray:
    """An array of three dimensions.  No fixture: pytest would hold it until after the books are balanced."""
    return shmkit.array(np.arange(60.0).reshape(3, 4, 5))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), 3, (4,), (2, 3), (0,), (3, 0, 2)], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_constructors_make_what_numpys_make(dtype: Any, shape: Any, order: Any) -> None:
    """The same shape, dtype, strides and contents, in shared memory."""
    for mine, plain in (
        (shmkit.zeros(shape, dtype, order), np.zeros(shape, dtype, order)),
        (shmkit.empty(shape, dtype, order), np.empty(shape, dtype, order)),
        (SharedArray(shape, dtype, order), np.empty(shape, dtype, order)),
    ):
        assert type(mine) is SharedArray
        assert mine.shared
        assert (mine.shape, mine.dtype, mine.flags.f_contiguous) == (plain.shape, plain.dtype, plain.flags.f_contiguous)
        assert mine.strides == plain.strides or mine.size == 0
    zeros = shmkit.zeros(shape, dtype, order)
    assert not any(zeros.segment.buf[: zeros.nbytes])


def test_values_are_filled_in() -> None:
    """ones, full, and the forms that take after another array."""
    prototype = np.zeros((2, 3), "i2", order="F")
    assert (shmkit.ones((2, 2), "u1") == np.ones((2, 2), "u1")).all()
    assert shmkit.full((2, 2), 7).dtype == np.full((2, 2), 7).dtype
    assert (shmkit.full(3, 2.5, "f4") == np.float32(2.5)).all()
    assert (shmkit.full_like(prototype, 4) == 4).all()
    assert (shmkit.ones_like(prototype) == 1).all()
    assert (shmkit.zeros_like(prototype) == 0).all()
    assert shmkit.zeros_like(prototype, dtype="f8", shape=5).shape == (5,)


@pytest.mark.parametrize("order", ["C", "F", "A", "K"])
def test_like_keeps_the_layout_as_numpy_does(order: Any) -> None:
    """C, Fortran, and axes in any order."""
    for prototype in (
        np.zeros((2, 3, 4)),
        np.zeros((2, 3, 4), order="F"),
        np.zeros((2, 3, 4)).transpose(1, 2, 0),
        np.zeros((4, 6))[::2, ::-1],
    ):
        assert shmkit.empty_like(prototype, order=order).strides == np.empty_like(prototype, order=order).strides


def test_array_copies_and_asarray_does_not_where_it_need_not() -> None:
    """A list, a plain array, a shared one, a view of a segment."""
    assert shmkit.array([[1, 2], [3, 4]], "f4").tolist() == [[1, 2], [3, 4]]
    plain = np.arange(6).reshape(2, 3)[:, ::-1]
    mine = shmkit.array(plain)
    assert (mine == plain).all()
    assert not np.shares_memory(mine, plain)
    assert shmkit.asarray(mine) is mine
    assert shmkit.asarray(mine, mine.dtype) is mine
    assert not np.shares_memory(shmkit.asarray(mine, "f4"), mine)
    assert np.shares_memory(shmkit.asarray(mine.view(np.ndarray)), mine)
    with shmkit.Segment.create(None, 80) as segment:
        view = segment.ndarray(10)
        assert np.shares_memory(shmkit.asarray(view), view)


@pytest.mark.parametrize("dtype", ["O", [("a", object)], np.dtype((object, 3))], ids=str)
def test_python_objects_are_refused(dtype: Any) -> None:
    """Everywhere, and clearly."""
    for make in (shmkit.empty, shmkit.zeros, shmkit.ones, lambda shape, dtype: shmkit.create("never", shape, dtype)):
        with pytest.raises(TypeError, match="Python objects cannot live in shared memory"):
            make((2, 2), dtype)
    with pytest.raises(TypeError, match="Python objects"):
        shmkit.array([None, "x"])


def test_a_masked_array_is_refused() -> None:
    """Its mask would be lost."""
    with pytest.raises(TypeError, match="mask"):
        shmkit.array(np.ma.masked_array([1, 2], [True, False]))


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        (-1, ValueError),
        ((2, -1), ValueError),
        ((-1, -1), ValueError),
        (1.5, TypeError),
        ("3", TypeError),
        ((2, None), TypeError),
        ((2**62, 2**62), ValueError),
        ((2**70,), ValueError),
        ((1,) * 65, ValueError),
    ],
    ids=str,
)
def test_a_shape_that_is_none_is_refused(shape: Any, error: type[Exception]) -> None:
    """Before any memory is taken, or giving it back."""
    for make in (shmkit.empty, lambda shape: shmkit.create("never", shape)):
        with pytest.raises(error):
            make(shape)
    assert not Path("/dev/shm/never").exists()


def test_more_than_there_is_is_an_error() -> None:
    """NoSpace, which is a MemoryError's better: it says what is free."""
    with pytest.raises(shmkit.NoSpace, match=r"asked for 16 TiB .* free in memory"):
        shmkit.zeros(2**41)


# ------------------------------------------------------------------------------------------------------ what is shared


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[1],
        lambda a: a[1:, ::-2],
        lambda a: a[..., None],
        lambda a: a.T,
        lambda a: a.transpose(2, 0, 1),
        lambda a: a.reshape(12, 5),
        lambda a: a.ravel(),
        lambda a: a.swapaxes(0, 1),
        lambda a: a.squeeze(),
        lambda a: a.view("i8"),
        lambda a: np.broadcast_to(a, (2, 3, 4, 5), subok=True),
        lambda a: a.diagonal(),
        lambda a: a[1][2][3:],
        lambda a: np.moveaxis(a, 0, 2),
        lambda a: a.astype("f8", copy=False),
    ],
)
def test_views_are_shared(view: Any) -> None:
    """Slices, transposes, reshapes and all that shows the same memory."""
    array = sixty()
    seen = view(array)
    assert type(seen) is SharedArray
    assert seen.shared
    assert np.shares_memory(seen, array)
    assert seen.segment.size >= array.nbytes


@pytest.mark.parametrize(
    "compute",
    [
        lambda a: a + 1,
        lambda a: 1 + a,
        lambda a: -a,
        lambda a: a > 3,
        np.sin,
        lambda a: a @ a.swapaxes(1, 2),
        lambda a: a.sum(axis=0),
        lambda a: a.mean(axis=(0, 1)),
        lambda a: a.cumsum(),
        lambda a: a.copy(),
        lambda a: a.astype("f4"),
        lambda a: a.flatten(),
        lambda a: a[a > 3],
        lambda a: a[[0, 2]],
        lambda a: a.take([1, 2]),
        lambda a: a.repeat(2),
        lambda a: a.round(1),
        lambda a: a.T.reshape(-1),
        lambda a: a.argsort(),
        lambda a: a.max(axis=0),
        lambda a: a.argmax(axis=0),
        lambda a: a.clip(2, 3),
        lambda a: np.concatenate([a, a]),
        lambda a: np.stack([a, a]),
        np.sort,
        lambda a: np.where(a > 3, a, 0),
        lambda a: np.copy(a, subok=True),
        np.unique,
        lambda a: np.full_like(a, 2),
        lambda a: np.add.outer(a[0, 0], a[0, 0]),
        copy.copy,
        copy.deepcopy,
        lambda a: np.split(a * 2, 3)[0],
    ],
)
def test_results_are_plain(compute: Any) -> None:
    """What is computed, and every copy, is an ordinary array with the same values."""
    array = sixty()
    mine, plain = compute(array), compute(array.view(np.ndarray))
    assert type(mine) is np.ndarray
    assert mine.dtype == plain.dtype
    assert np.array_equal(mine, plain)


@pytest.mark.parametrize(
    "compute",
    [lambda a: a.sum(), lambda a: a[0, 0, 0], lambda a: a.max(), lambda a: np.add(a[0, 0, 0], 1), lambda a: a.mean()],
)
def test_scalars_stay_scalars(compute: Any) -> None:
    """No array without dimensions where NumPy gives a number."""
    array = sixty()
    assert isinstance(compute(array), np.float64)
    assert compute(array) == compute(array.view(np.ndarray))


def test_in_place_operations_stay_in_place() -> None:
    """The memory, and the type, remain."""
    array = sixty()
    alias = array
    array += 1
    array[0] *= 2
    np.multiply(array, 3, out=array)
    assert array is alias
    assert array.shared
    assert np.array_equal(array[0], (np.arange(20.0).reshape(4, 5) + 1) * 6)
    assert type(np.add(array, 1, out=np.empty_like(array))) is np.ndarray


def test_every_method_that_makes_something_new_makes_it_plain() -> None:
    """Also those that NumPy will add."""
    array = sixty()
    strange = []
    for name in dir(np.ndarray):
        if name in {"sort", "fill", "tofile", "dump", "dumps", "setflags", "resize", "imag"} or name.startswith("__"):
            continue
        # Some were removed but are still remembered, for a better message.
        value = getattr(array, name, None)
        for arguments in ((), (0,), (1,)) if callable(value) else ():
            with contextlib.suppress(TypeError, ValueError, AttributeError, DeprecationWarning):
                result = value(*arguments)
                if type(result) is SharedArray and not result.shared:
                    strange.append((name, arguments))
    assert not strange


def test_a_shared_arrays_view_of_foreign_memory_is_not_shared() -> None:
    """The type alone says nothing."""
    fake = np.arange(5).view(SharedArray)
    assert not fake.shared
    assert fake.segment is None
    fake.flush()


# ------------------------------------------------------------------------------------------------------------- by name


@pytest.mark.parametrize("backing", ["posix", "file", "sysv"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "order"), [((3, 4), "C"), ((3, 4), "F"), ((), "C"), ((0, 5), "C"), (7, "C")], ids=str
)
def test_a_named_array_comes_with_its_shape_and_dtype(
    backing: str, dtype: Any, shape: Any, order: Any, name: str, tmp_path: Path
) -> None:
    """Whoever attaches has to know its name only."""
    place = str(tmp_path / name) if backing == "file" else name
    made = shmkit.create(place, shape, dtype, order=order, backing=backing)
    try:
        assert not any(made.segment.buf)
        found = shmkit.attach(place, backing=backing)
        assert type(found) is SharedArray
        assert (found.shape, found.dtype, found.strides) == (made.shape, made.dtype, made.strides)
        assert found.flags.f_contiguous == made.flags.f_contiguous
        raw = made.segment.buf
        raw[:] = bytes(number % 2 for number in range(len(raw)))
        assert found.segment.buf == raw
        reader = shmkit.attach(place, backing=backing, readonly=True)
        assert not reader.flags.writeable
        assert reader.segment.kind == "array"
    finally:
        shmkit.unlink(place, backing=backing)


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"descr": "<f8", "fortran_order": False},
        {"descr": "<f8", "fortran_order": False, "shape": (4,)},
        {"descr": "<f8", "fortran_order": False, "shape": (2**61, 16)},
        {"descr": "<f8", "fortran_order": False, "shape": (-1,)},
        {"descr": "<f8", "fortran_order": False, "shape": [1]},
        {"descr": "<f8", "fortran_order": False, "shape": (True,)},
        {"descr": "<f8", "fortran_order": False, "shape": (1,) * 100},
        {"descr": "<f8", "fortran_order": 0, "shape": (1,)},
        {"descr": "|O", "fortran_order": False, "shape": (1,)},
        {"descr": "nonsense", "fortran_order": False, "shape": (1,)},
        {"descr": "V99999999999999", "fortran_order": False, "shape": (1,)},
        {"descr": [("a", "<f8"), ("a", "<f8")], "fortran_order": False, "shape": (1,)},
        {"descr": [("a", "|O")], "fortran_order": False, "shape": (1,)},
        {"descr": None, "fortran_order": False, "shape": (1,)},
        {"descr": ("<f8", (2,) * 99), "fortran_order": False, "shape": (1,)},
    ],
    ids=str,
)
def test_a_hostile_description_is_refused(name: str, meta: dict[str, Any]) -> None:
    """LayoutMismatch, which names the segment."""
    from shmkit import _header

    segment = shmkit.Segment._create(name, 24, kind=_header.KIND_ARRAY, meta=meta)
    try:
        with pytest.raises(shmkit.LayoutMismatch, match=name):
            shmkit.attach(name)
    finally:
        segment.unlink()


def test_a_dtype_that_text_cannot_describe_has_no_name(name: str) -> None:
    """It would come back as another; anonymous arrays of it are fine."""
    union = np.dtype({"names": ["a", "b"], "formats": ["i4", "f4"], "offsets": [0, 0]})
    with pytest.raises((TypeError, ValueError), match=r"describe|overlapping"):
        shmkit.create(name, 3, union)
    assert shmkit.zeros(3, union).dtype == union


def test_a_named_array_lives_as_its_segment_does(name: str) -> None:
    """Until it is unlinked, or leased: with its last user."""
    array = shmkit.create(name, 3, "f8")
    array[:] = 5
    del array
    assert shmkit.attach(name).tolist() == [5, 5, 5]
    shmkit.unlink(name)
    array = shmkit.create(name, 3, "f8", lifetime="leased", mode=0o640)
    assert (array.segment.lifetime, array.segment.creator_pid) == ("leased", os.getpid())
    del array
    assert not Path("/dev/shm", name).exists()


def test_a_file_backed_array_is_flushed_and_reopened(tmp_path: Path) -> None:
    """It is on the disk, with its description."""
    path = tmp_path / "array"
    array = shmkit.create(path, (2, 2), "i4", backing="file")
    array[:] = [[1, 2], [3, 4]]
    array.flush()
    del array
    assert shmkit.attach(path, backing="file").tolist() == [[1, 2], [3, 4]]
