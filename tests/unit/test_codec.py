"""What becomes of an item on its way through memory: it arrives equal, of the same type, and nothing else does."""

from __future__ import annotations

import collections
import contextlib
import copyreg
import datetime as dt
import functools
import gc
import math
import pickle
import struct
import weakref
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import shmkit
from shmkit._codec import decode, encode


def through(item: object, room: int = 104) -> Any:
    head, body = encode(item, room)
    assert len(head) <= room
    return decode(head, body)


def is_same(left: Any, right: Any) -> bool:
    """Equal, and of the same type, all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        return (
            left.dtype == right.dtype
            and left.shape == right.shape
            and np.ascontiguousarray(left).tobytes() == np.ascontiguousarray(right).tobytes()
        )
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(is_same, left, right))
    if isinstance(left, dict):
        return is_same(list(left.items()), list(right.items()))
    if isinstance(left, np.generic):
        return left.tobytes() == right.tobytes() and left.dtype == right.dtype
    if isinstance(left, (float, complex)):
        return struct.pack("dd", complex(left).real, complex(left).imag) == struct.pack(
            "dd", complex(right).real, complex(right).imag
        )
    return bool(left == right)


PLAIN = [
    None, True, False, 0, 1, -1, 127, 128, -128, -129, 2**31, 2**63 - 1, -(2**63), 2**63, 10**400, -(10**400),
    0.0, -0.0, 1.5, math.inf, math.nan, 1j, complex(math.nan, -0.0),
    b"", b"x", b"x" * 103, b"x" * 104, b"x" * 1023, b"x" * 1024, b"x" * 100_000,
    "", "a", "é", "日", "😀", "a" * 5000, "é" * 5000, "日" * 5000, "😀" * 5000, "\ud800", "a\x00b",
    bytearray(), bytearray(b"abc"), bytearray(5000),
    (), (1,), (1, (2, (3,))), [], [1, [2]], {}, {"a": {"b": 1}}, {1: 2, (3, 4): [5]}, set(), {1, 2}, frozenset(),
    frozenset(range(2)), (1, 2.5, "three", b"four", None, True), ["x" * 2000, b"y" * 2000, 3] * 10,
]  # fmt: skip
NUMPY = [
    np.float64(1.5), np.float32(-0.0), np.int8(-3), np.uint64(2**64 - 1), np.bool_(True), np.complex128(1 + 2j),
    np.float16(2),
    np.longdouble(1.25), np.datetime64("2020-01-01T01:02:03"), np.timedelta64(5, "ms"), np.str_("text"),
    np.bytes_(b"bytes"),
    np.array(5), np.array([]), np.zeros((0, 3)), np.zeros((3, 0, 2), "f4"), np.arange(10), np.arange(10_000.0),
    np.arange(10_000.0)[::2], np.arange(60.0).reshape(3, 4, 5).transpose(2, 0, 1), np.arange(6000.0).reshape(60,
    100)[::2, ::-1],
    np.asfortranarray(np.arange(6000.0).reshape(60, 100)), np.array(["a", "bcd"]), np.array([b"a", b"bcd"]),
    np.arange(5, dtype=">i4"), np.arange(5000, dtype=">f8"), np.zeros(4, "M8[ns]"), np.zeros(400, "m8[3s]"),
    np.zeros(3, [("a", "i4"), ("b", "f8", (2, 2)), ("c", "U5")]), np.zeros(300, [("a", ">i4")]), np.zeros(3, "V7"),
    np.broadcast_to(np.arange(1000.0), (5, 1000)), np.zeros((1,) * 32),
    (1, np.arange(10_000)), [np.zeros(5000), np.ones(3)], {"frame": np.zeros((50, 50)), "number": 3},
]  # fmt: skip


@pytest.mark.parametrize("room", [11, 40, 104])
@pytest.mark.parametrize("item", PLAIN + NUMPY, ids=lambda item: f"{type(item).__name__} {str(item)[:20]!a}")
def test_there_and_back(item: object, room: int) -> None:
    assert is_same(item, through(item, room))


class Custom:
    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Custom) and is_same(self.value, other.value)

    __hash__ = None  # type: ignore[assignment]


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Sequence(list):  # type: ignore[type-arg]
    pass


class Grid(np.ndarray):  # type: ignore[type-arg]
    pass


class Point(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize(
    "item",
    [
        Custom(1), Custom(np.zeros(5000)), Text("x"), Number(5), Sequence([1]), Point(1, 2), [Text("x")],
        {"k": Number(1)},
        np.zeros(5000).view(Grid), collections.OrderedDict(a=1), dt.datetime(2020, 1, 2, tzinfo=dt.timezone.utc),
        range(5), len, functools.partial(int, "5"),
        [Custom(np.zeros((300, 3))), np.zeros(5000)], np.array([1, "a", None], object), np.float64,
    ],
    ids=lambda item: f"{type(item).__name__}",
)  # fmt: skip
def test_what_is_pickled(item: Any) -> None:
    """Subclasses keep their type; anything else that pickle knows arrives as pickle has it."""
    got = through(item)
    if isinstance(item, functools.partial):
        assert got() == item()
    else:
        assert is_same(item, got) or (type(item) is type(got) and bool(np.all(item == got)))


def test_dtypes_keep_their_metadata() -> None:
    for size in (3, 3000):
        got = through(np.zeros(size, np.dtype("f8", metadata={"unit": "m"})))
        assert got.dtype.metadata == {"unit": "m"}
        assert through(np.zeros(size)).dtype.metadata is None


def test_the_order_stays() -> None:
    """Arrays in Fortran's order arrive in it; what is in neither arrives in C's."""
    fortran = np.asfortranarray(np.arange(6000.0).reshape(60, 100))
    assert through(fortran).flags.f_contiguous
    assert not through(fortran).flags.c_contiguous
    assert through(np.arange(8000.0).reshape(20, 20, 20).transpose(1, 0, 2)).flags.c_contiguous


def test_what_arrives_can_be_written_to() -> None:
    """Whether or not what was sent could."""
    for size in (3, 5000):
        array = np.zeros(size)
        array.flags.writeable = False
        got = through(array)
        got[:] = 1
        assert got.flags.owndata == (size == 3)


def test_bytes_within_pickles_stay_what_they_are() -> None:
    """Buffers out of band that could not be written to cannot afterwards either."""
    got = through(Custom(pickle.PickleBuffer(b"x" * 5000)).value)
    with pytest.raises(TypeError):
        memoryview(got)[0] = 1
    writable = through(pickle.PickleBuffer(bytearray(5000)))
    memoryview(writable)[0] = 1


def test_a_memoryview_arrives_as_bytes() -> None:
    assert through(memoryview(b"abcdef" * 1000)[::2]) == bytes(memoryview(b"abcdef" * 1000)[::2])
    assert through(memoryview(np.arange(2000.0))) == np.arange(2000.0).tobytes()
    assert through(memoryview(b"")) == b""


def test_one_object_twice_is_one_object_afterwards() -> None:
    """What may be changed is one object where it was one."""
    inner: list[object] = [1]
    array = np.zeros(5000)
    for twice in ([inner, inner], (array, array), {"a": inner, "b": [inner]}, [bytearray(b"x")] * 2, [[array], array]):
        got = list(twice.values()) if isinstance(twice, dict) else through(twice)
        first, second = got[0], got[1]
        while (
            isinstance(second, list)
            and isinstance(first, np.ndarray) != isinstance(second, np.ndarray)
            and len(second) == 1
        ):
            second = second[0]
        while isinstance(first, list) and isinstance(second, np.ndarray):
            first = first[0]
        assert first is second or first is second[0]


def test_what_holds_itself() -> None:
    items: list[object] = []
    items.append(items)
    got = through(items)
    assert got[0] is got
    deep: list[object] = []
    for _ in range(100):
        deep = [deep]
    got = through(deep)
    for _ in range(100):
        got = got[0]
    assert got == []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        encode(deep)


class Unpicklable:
    def __reduce__(self) -> str:
        raise ZeroDivisionError("on purpose")


@pytest.mark.parametrize(
    "plain",
    [(1,), (2**40, 2**80, 0.5, 1j), (None, True, False), ("a", "é", "日", "😀", b"x", bytearray(b"x"), b"x" * 5000)],
)
def test_the_collector_looks_at_what_may_hold_something(plain: tuple[Any, ...]) -> None:
    """A tuple of numbers and texts is none of its business, as Python finds out of its own in time."""
    assert not gc.is_tracked(through(plain))
    for other in ([], {}, collections.Counter(), ForkingPickler):
        assert gc.is_tracked(through((*plain, other)))
        assert gc.is_tracked(through((other, *plain)))


def test_a_circle_through_what_arrived_is_collected() -> None:
    got = through((1, "a", [2]))
    got[2].append(got)

    class Held:
        pass

    got[2].append(Held())
    gone = weakref.ref(got[2][2])
    del got
    gc.collect()
    assert gone() is None


def test_what_cannot_be_pickled() -> None:
    """Its own error; and the next item goes through."""
    for _ in range(20):
        with pytest.raises(ZeroDivisionError, match="on purpose"):
            encode(Custom(Unpicklable()))
        with pytest.raises((AttributeError, pickle.PicklingError)):
            encode([lambda: 0])
        assert through(Custom(5)) == Custom(5)


class Special:
    pass


def test_registered_reducers_count() -> None:
    ForkingPickler.register(Special, lambda special: (str, ("by ForkingPickler",)))
    try:
        assert through([Special()]) == ["by ForkingPickler"]
    finally:
        ForkingPickler._extra_reducers.pop(Special)  # type: ignore[attr-defined]
    copyreg.pickle(Special, lambda special: (str, ("by copyreg",)))
    try:
        assert through([Special()]) == ["by copyreg"]
    finally:
        copyreg.dispatch_table.pop(Special)
    assert isinstance(through(Special()), Special)


def test_pickles_may_be_refused() -> None:
    """Then nothing is unpickled; what is no pickle arrives all the same."""
    for item in (Custom(1), np.zeros(3, np.dtype("f8", metadata={"a": 1}))):
        head, body = encode(item)
        with pytest.raises(shmkit.PickleRefused):
            decode(head, body, False)
    for item in (1, "x" * 5000, [np.zeros(5000), np.zeros(3, "U4")]):
        head, body = encode(item)
        assert is_same(item, decode(head, body, False))


# ----------------------------------------------------------------------------------------------------- any of them

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.binary(max_size=3000)
    | st.text(max_size=600) | st.binary(max_size=50).map(bytearray)
)  # fmt: skip
# (NumPy itself unpickles some datetimes of foreign byte order as others.)
dtypes = (
    hnp.boolean_dtypes() | hnp.integer_dtypes() | hnp.unsigned_integer_dtypes() | hnp.floating_dtypes() |
    hnp.complex_number_dtypes()
    | hnp.datetime64_dtypes(endianness="<") | hnp.timedelta64_dtypes(endianness="<") |
    hnp.array_dtypes(hnp.integer_dtypes(), max_size=3) | hnp.byte_string_dtypes() | hnp.unicode_string_dtypes()
)  # fmt: skip
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
hashable = st.none() | st.integers() | st.text(max_size=5) | st.binary(max_size=5)
items = st.recursive(
    scalars | arrays,
    lambda inner: (
        st.lists(inner, max_size=5) | st.lists(inner, max_size=5).map(tuple) | st.dictionaries(hashable, inner,
        max_size=4)
        | st.sets(hashable, max_size=4) | st.frozensets(hashable, max_size=4) | inner.map(Custom)
    ),
    max_leaves=12,
)  # fmt: skip


@given(items, st.integers(11, 104))
@settings(max_examples=150)
def test_anything_arrives_as_it_was(item: Any, room: int) -> None:
    assert is_same(item, through(item, room))


@given(items, st.data())
@settings(max_examples=150)
def test_scribbled_bytes_are_an_error_or_some_object(item: Any, data: st.DataObject) -> None:
    """Never a crash, never a huge allocation, and no unpickling of what was changed (that may do anything)."""
    head, body = encode(item)
    scribbled = bytearray(head)
    for _ in range(data.draw(st.integers(1, 4))):
        if body and data.draw(st.booleans()):
            body[data.draw(st.integers(0, min(len(body), 300) - 1))] = data.draw(st.integers(0, 255))
        elif scribbled:
            scribbled[data.draw(st.integers(0, len(scribbled) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(scribbled)))
    for said in (bytes(scribbled), bytes(scribbled[:cut])):
        with contextlib.suppress(shmkit.RecordCorrupt, shmkit.PickleRefused, MemoryError):
            decode(said, body, False)


@given(st.binary(max_size=104), st.binary(max_size=400))
@settings(max_examples=400)
def test_random_bytes_are_an_error_or_some_object(head: bytes, body: bytes) -> None:
    with contextlib.suppress(shmkit.RecordCorrupt, shmkit.PickleRefused, MemoryError):
        decode(head, bytearray(body) if body else None, False)
