"""What is sent arrives: bytes and arrays of every kind, whole, with dtype, shape and order."""

from __future__ import annotations

import array
import ctypes
import mmap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import shmkit
from stateful.strategies import arrays

POINT = np.dtype([("x", "<f8"), ("y", "<f8"), ("label", "S5")])
NESTED = np.dtype([("id", "<u4"), ("where", POINT), ("pixels", "<u2", (2, 3))])

ARRAYS = {
    "float64": np.arange(12.0).reshape(3, 4),
    "bool": np.array([True, False, True]),
    "int8": np.arange(-3, 4, dtype="i1"),
    "uint64": np.array([2**64 - 1, 0], "u8"),
    "float16": np.arange(5, dtype="f2"),
    "longdouble": np.arange(3, dtype="longdouble"),
    "complex128": np.arange(4) * (1 + 2j),
    "nan": np.array([np.nan, -0.0, np.inf]),
    "bytes": np.array([b"abc", b"", b"\0z"], "S3"),
    "text": np.array(["é", "", "日本"]),
    "void": np.arange(6, dtype="u1").view("V3"),
    "datetime": np.array(["2024-02-29T12:00", "NaT"], "M8[ns]"),
    "datetime of 25 s": np.arange(3).astype("M8[25s]"),
    "timedelta": np.array([1, -1], "m8[D]"),
    "structured": np.array([(1, 2, b"one"), (3, 4, b"five5")], POINT),
    "nested": np.zeros(3, NESTED),
    "aligned": np.zeros(2, np.dtype([("a", "u1"), ("b", "f8")], align=True)),
    "big-endian": np.arange(5, dtype=">i4"),
    "big-endian structured": np.zeros(2, [("a", ">u2"), ("b", "<u2")]),
    "0-d": np.array(7.5),
    "0-d structured": np.zeros((), POINT),
    "empty": np.zeros(0),
    "zero-size": np.zeros((3, 0, 5), "f4"),
    "Fortran order": np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
    "transposed": np.arange(6).reshape(2, 3).T,
    "sliced": np.arange(20)[3:17:3],
    "strided planes": np.arange(60).reshape(3, 4, 5)[:, ::2, 1:4],
    "reversed": np.arange(9)[::-1],
    "broadcast": np.broadcast_to(np.arange(4), (3, 4)),
    "permuted": np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
    "field": np.zeros(4, NESTED)["where"]["y"],
    "many dimensions": np.zeros((1,) * 31 + (2,)),
    "unaligned": np.frombuffer(b"x" + np.arange(3.0).tobytes(), "u1")[1:].view("f8"),
}
ARRAYS["read-only"] = np.arange(3)
ARRAYS["read-only"].flags.writeable = False

BYTES_LIKE = {
    "bytes": b"abc",
    "no bytes": b"",
    "one byte": b"\xff",
    "bytes subclass": type("Tag", (bytes,), {})(b"tagged"),
    "bytearray": bytearray(b"abcdefghi"),
    "memoryview": memoryview(b"0123456789")[2:7],
    "memoryview of doubles": memoryview(array.array("d", [1.0, 2.0])),
    "array": array.array("H", [1, 2, 3]),
    "ctypes": (ctypes.c_uint32 * 3)(1, 2, 3),
}


def by_recv(ring: shmkit.Ring, data: Any) -> Any:
    ring.send(data)
    return ring.recv()


def by_try(ring: shmkit.Ring, data: Any) -> Any:
    assert ring.try_send(data)
    return ring.try_recv()


def by_many(ring: shmkit.Ring, data: Any) -> Any:
    assert ring.send_many([data, data]) == 2
    first, second = ring.recv_many()
    assert type(first) is type(second)
    return second


def by_peek(ring: shmkit.Ring, data: Any) -> Any:
    ring.send(data)
    seen = ring.peek()
    ring.recv()
    return seen


def by_view(ring: shmkit.Ring, data: Any) -> Any:
    ring.send(data)
    with ring.recv_view() as inside:
        return inside.copy(order="K") if isinstance(inside, np.ndarray) else bytes(inside)


def by_next(ring: shmkit.Ring, data: Any) -> Any:
    ring.send(data)
    return next(ring)


each_way = pytest.mark.parametrize("way", [by_recv, by_try, by_many, by_peek, by_view, by_next])


@pytest.fixture
def ring() -> Iterator[shmkit.Ring]:
    with shmkit.Ring.create(capacity="64 KiB") as ring:
        yield ring


def assert_same(got: Any, sent: np.ndarray) -> None:
    """An ndarray proper, equal in everything that a receiver can see."""
    assert type(got) is np.ndarray
    assert got.dtype == sent.dtype
    assert got.shape == sent.shape
    if sent.dtype.isalignedstruct:  # what stands between its fields NumPy does not copy
        assert got.tolist() == sent.tolist()
    else:
        assert got.tobytes() == sent.tobytes()
    assert got.flags.c_contiguous or sent.flags.f_contiguous
    if sent.flags.c_contiguous or sent.flags.f_contiguous:
        assert got.flags.c_contiguous == sent.flags.c_contiguous
        assert got.flags.f_contiguous == sent.flags.f_contiguous


@each_way
@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_arrives_with_dtype_shape_and_order(
    ring: shmkit.Ring, kind: str, way: Callable[[shmkit.Ring, Any], Any]
) -> None:
    """Any array without Python objects arrives equal; C and Fortran order are kept, all others arrive in C order."""
    assert_same(way(ring, ARRAYS[kind]), ARRAYS[kind])
    assert len(ring) == 0


@each_way
@pytest.mark.parametrize("kind", BYTES_LIKE)
def test_bytes_of_any_kind_arrive_as_bytes(
    ring: shmkit.Ring, kind: str, way: Callable[[shmkit.Ring, Any], Any]
) -> None:
    """Whatever exports contiguous bytes arrives as a bytes object with the same content."""
    got = way(ring, BYTES_LIKE[kind])
    assert type(got) is bytes
    assert got == bytes(memoryview(BYTES_LIKE[kind]).cast("B"))


def test_a_memory_map_is_bytes_too(ring: shmkit.Ring) -> None:
    """An mmap is sent as what it shows."""
    with mmap.mmap(-1, 4096) as source:
        source[:5] = b"pages"
        ring.send(source)
    assert ring.recv() == b"pages".ljust(4096, b"\0")


@given(array=arrays())
def test_every_array_that_hypothesis_thinks_of_arrives(array: np.ndarray) -> None:
    """Any dtype, shape, order and stride."""
    with shmkit.Ring.create(capacity="64 KiB") as ring:
        ring.send(array)
        ring.send(array)
        assert_same(ring.recv(), array)
        with ring.recv_view() as inside:
            assert_same(inside, array)


@pytest.mark.parametrize("nbytes", [262_143, 262_144, 3_000_000])
def test_records_of_megabytes_arrive_whole(nbytes: int) -> None:
    """Large copies are made without the GIL, and are the same copies."""
    payload = np.random.default_rng(nbytes).bytes(nbytes)
    frame = np.frombuffer(payload, "u1")
    with shmkit.Ring.create(capacity="8 MiB") as ring:
        ring.send(payload)
        ring.send(frame)
        assert ring.recv() == payload
        assert_same(ring.recv(), frame)


def test_a_received_array_is_the_receivers_own(ring: shmkit.Ring) -> None:
    """It is writable, and what is sent later does not show in it."""
    ring.send(np.arange(100))
    got = ring.recv()
    got += 1
    for value in range(200):
        ring.send(np.full(100, value))
        ring.recv()
    assert got.tolist() == list(range(1, 101))


def test_a_scalar_arrives_as_an_array_without_dimensions(ring: shmkit.Ring) -> None:
    """NumPy's scalars are arrays of no dimension."""
    ring.send(np.float32(2.5))
    got = ring.recv()
    assert (got.shape, got.dtype, float(got)) == ((), np.float32, 2.5)


def test_subclasses_arrive_as_plain_arrays(ring: shmkit.Ring) -> None:
    """Record arrays and shared arrays are sent as the data that they are."""
    records = np.rec.array([(1, 2.0), (3, 4.0)], dtype=[("a", "<i4"), ("b", "<f8")])
    shared = shmkit.array([1, 2, 3])
    ring.send_many([records, shared])
    got, plain = ring.recv_many()
    assert got.tolist() == records.tolist()
    assert got.dtype.names == ("a", "b")
    assert_same(plain, np.array([1, 2, 3]))


def test_fields_renamed_in_place_arrive_renamed(ring: shmkit.Ring) -> None:
    """Assigning to dtype.names changes the dtype object itself; what is sent next has the new names."""
    points = np.zeros(2, [("a", "i4"), ("b", "i4")])
    ring.send(points)
    points.dtype.names = ("x", "y")
    ring.send(points)
    assert ring.recv().dtype.names == ("a", "b")
    assert ring.recv().dtype.names == ("x", "y")


def test_renaming_the_fields_of_one_received_array_leaves_the_others_alone(ring: shmkit.Ring) -> None:
    """Each structured array has a dtype of its own."""
    points = np.zeros(2, [("a", "i4"), ("b", "i4")])
    ring.send_many([points, points, points])
    before, mine = ring.recv(), ring.recv()
    mine.dtype.names = ("x", "y")
    assert before.dtype.names == ("a", "b")
    assert ring.recv().dtype.names == ("a", "b")


def test_metadata_of_a_dtype_is_left_behind(ring: shmkit.Ring) -> None:
    """Metadata are Python objects: the bytes arrive without them."""
    ring.send(np.zeros(2, np.dtype("f8", metadata={"unit": "m"})))
    got = ring.recv()
    assert got.dtype == np.float64
    assert got.dtype.metadata is None


REFUSED = {
    "text": "text",
    "nothing": None,
    "integer": 5,
    "float": 1.5,
    "list": [1, 2, 3],
    "array of objects": np.array([1, "two"], object),
    "array of structures with objects": np.zeros(2, [("a", "i4"), ("b", "O")]),
    "object scalar array": np.array(None),
    "masked array": np.ma.masked_array([1, 2], [True, False]),
    "strided memoryview": memoryview(b"abcdef")[::2],
    "Fortran memoryview": memoryview(np.asfortranarray(np.arange(6).reshape(2, 3))),
    # NumPy would make elements of one byte of them where it makes an array of its own.
    "strings without bytes": np.zeros(3, [("text", "S0"), ("rest", "u1")])["text"],
    "overlapping fields": np.zeros(
        2, np.dtype({"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 1], "itemsize": 8})
    ),
}
if hasattr(getattr(np, "dtypes", None), "StringDType"):
    REFUSED["variable strings"] = np.array(["a", "b" * 100], np.dtypes.StringDType())


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("method", ["send", "try_send"])
def test_what_has_no_bytes_of_its_own_is_refused(ring: shmkit.Ring, kind: str, method: str) -> None:
    """TypeError, nothing is sent, and the ring serves on."""
    with pytest.raises(TypeError):
        getattr(ring, method)(REFUSED[kind])
    with pytest.raises(TypeError):
        ring.send_many([b"before", REFUSED[kind], b"never"])
    assert ring.recv_many() == [b"before"]
    ring.send(b"next")
    assert ring.recv() == b"next"
    assert ring.free == ring.capacity


def test_a_refusal_names_the_type(ring: shmkit.Ring) -> None:
    """The message says what may be sent, and what was given."""
    with pytest.raises(TypeError, match=r"bytes-like.*arrays: got dict"):
        ring.send({})


def test_a_released_memoryview_is_refused(ring: shmkit.Ring) -> None:
    """It shows no memory any more; nothing is sent."""
    view = memoryview(b"gone")
    view.release()
    with pytest.raises((TypeError, ValueError)):
        ring.send(view)
    assert len(ring) == 0
