"""Records written in the ring itself: reserved, then committed or aborted."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np
import pytest

import shmkit


@pytest.fixture
def ring() -> Iterator[shmkit.Ring]:
    with shmkit.Ring.create(capacity="16 KiB") as ring:
        yield ring


def assert_untouched(ring: shmkit.Ring) -> None:
    """Nothing was sent, and the ring serves on."""
    assert len(ring) == 0
    assert ring.try_recv() is None
    ring.send(b"next")
    assert ring.recv() == b"next"
    assert ring.free == ring.capacity


# ── with ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((10, 20, 3), "uint8"),
        ((7,), np.float64),
        ([2, 3], np.dtype(">i2")),
        (5, "f4"),
        (np.int64(5), "f4"),
        ((), "complex128"),
        ((0, 4), "f4"),
        ((4,), [("x", "f8"), ("label", "S3")]),
        ((3,), "M8[us]"),
    ],
)
def test_an_array_is_written_in_place_and_sent_on_exit(ring: shmkit.Ring, shape: object, dtype: object) -> None:
    """`with` gives a writable ndarray in the ring; a clean exit commits it."""
    rng = np.random.default_rng(1)
    with ring.reserve(shape, dtype, timeout=1.0) as inside:
        assert isinstance(inside, np.ndarray)
        assert inside.flags.writeable
        assert inside.flags.c_contiguous
        assert not inside.flags.owndata
        content = rng.bytes(inside.nbytes)
        if inside.size:
            inside.reshape(-1).view("u1")[:] = np.frombuffer(content, "u1")
        assert len(ring) == 0
    got = ring.recv()
    assert got.dtype == np.dtype(dtype)
    assert got.shape == inside.shape
    assert got.tobytes() == content


def test_fortran_order_can_be_reserved(ring: shmkit.Ring) -> None:
    """order="F" makes columns contiguous, there and here."""
    with ring.reserve((3, 4), "i4", order="F") as inside:
        assert inside.flags.f_contiguous
        assert not inside.flags.c_contiguous
        inside[:] = np.arange(12).reshape(3, 4)
    got = ring.recv()
    assert got.flags.f_contiguous
    assert (got == np.arange(12).reshape(3, 4)).all()


def test_bytes_are_written_in_place_and_sent_on_exit(ring: shmkit.Ring) -> None:
    """Without a dtype `with` gives a writable memoryview of so many bytes; it arrives as bytes."""
    with ring.reserve(6) as inside:
        assert isinstance(inside, memoryview)
        assert (inside.nbytes, inside.readonly, inside.format) == (6, False, "B")
        inside[:] = b"abcdef"
    with ring.reserve("1 KiB") as inside:
        inside[:] = b"k" * 1024
    with ring.reserve(0):
        pass
    assert ring.recv_many() == [b"abcdef", b"k" * 1024, b""]


def test_an_exception_sends_nothing(ring: shmkit.Ring) -> None:
    """It comes out of the with block, and the room is given back."""
    with pytest.raises(KeyError):
        with ring.reserve((8,), "f8") as inside:
            inside[:] = 1
            raise KeyError("camera")
    assert_untouched(ring)


def test_the_slot_may_be_settled_inside_the_block(ring: shmkit.Ring) -> None:
    """commit() or abort() by hand; the exit then has nothing to do."""
    slot = ring.reserve(100)
    with slot as inside:
        inside[:4] = b"four"
        slot.commit(4)
    slot = ring.reserve(100)
    with slot:
        slot.abort()
    assert ring.recv_many() == [b"four"]


# ── by hand ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_slot_shows_its_memory_as_buf_and_as_array(ring: shmkit.Ring) -> None:
    """The same bytes both ways; nbytes, len and valid say how much and whether still."""
    slot = ring.reserve((2, 2), "u2")
    assert (slot.nbytes, len(slot), slot.valid) == (8, 8, True)
    slot.array[:] = 0x0101
    assert bytes(slot.buf) == b"\1" * 8
    assert slot.array.shape == (2, 2)
    slot.commit()
    assert not slot.valid
    assert ring.recv().tolist() == [[257, 257], [257, 257]]


def test_a_slot_of_bytes_is_an_array_of_uint8(ring: shmkit.Ring) -> None:
    """For those who compute into it."""
    slot = ring.reserve(5)
    assert slot.array.dtype == np.uint8
    slot.array[:] = np.arange(5)
    slot.commit()
    assert ring.recv() == bytes(range(5))


@pytest.mark.parametrize("nbytes", [0, 1, 7, 8, 9, 99, 100])
def test_fewer_bytes_than_reserved_can_be_committed(ring: shmkit.Ring, nbytes: int) -> None:
    """The rest is free again at once."""
    slot = ring.reserve(100)
    slot.buf[:] = bytes(range(100))
    slot.commit(nbytes)
    used = ring.statistics().used
    ring.send(b"")
    # The payload of a reservation stands on a multiple of 64.
    assert used <= 64 + (nbytes + 7) // 8 * 8
    assert ring.recv_many() == [bytes(range(nbytes)), b""]


@pytest.mark.parametrize(
    ("nbytes", "error"), [(-1, ValueError), (101, ValueError), (2**64, ValueError), (1.5, TypeError)]
)
def test_a_commit_of_more_than_reserved_is_refused(ring: shmkit.Ring, nbytes: object, error: type[Exception]) -> None:
    """The reservation stays open, and can still be committed."""
    slot = ring.reserve(100)
    with pytest.raises(error):
        slot.commit(nbytes)
    assert slot.valid
    slot.abort()
    assert_untouched(ring)


def test_an_array_is_committed_whole(ring: shmkit.Ring) -> None:
    """Part of an array has no shape."""
    slot = ring.reserve((4,), "f8")
    with pytest.raises(ValueError, match="whole"):
        slot.commit(8)
    slot.abort()
    assert_untouched(ring)


def test_a_slot_is_settled_once(ring: shmkit.Ring) -> None:
    """A second commit is a ValueError, a second abort nothing; neither touches what follows."""
    slot = ring.reserve(8)
    slot.commit()
    with pytest.raises(ValueError, match="committed or aborted"):
        slot.commit()
    slot.abort()
    aborted = ring.reserve(8)
    aborted.abort()
    aborted.abort()
    with pytest.raises(ValueError, match="committed or aborted"):
        aborted.commit()
    current = ring.reserve(8)
    slot.abort()
    aborted.abort()
    assert current.valid
    current.commit()
    assert ring.statistics().sent == 2


def test_a_dropped_slot_has_not_happened(ring: shmkit.Ring) -> None:
    """When slot and array are gone, the room is free; as long as an array lives, it is not."""
    kept = ring.reserve((8,), "f8").array
    with pytest.raises(RuntimeError):
        ring.send(b"x")
    del kept
    assert_untouched(ring)
    ring.reserve(100)
    gc.collect()
    assert_untouched(ring)


# ── one at a time ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_else_is_sent_during_a_reservation(ring: shmkit.Ring) -> None:
    """RuntimeError from every way of sending, a second reservation included; receiving goes on."""
    ring.send(b"before")
    slot = ring.reserve(8)
    for send in (
        lambda: ring.send(b"x"),
        lambda: ring.try_send(b"x"),
        lambda: ring.send_many([b"x"]),
        lambda: ring.send_many(b"x", itemsize=1),
        lambda: ring.reserve(8),
        lambda: ring.reserve((2,), "u1"),
    ):
        with pytest.raises(RuntimeError, match=r"ring has an open reservation"):
            send()
    assert ring.recv() == b"before"
    slot.buf[:] = b"12345678"
    slot.commit()
    assert ring.recv() == b"12345678"


def test_a_close_during_a_reservation_sends_nothing() -> None:
    """The slot is void; its memory can still be written, and nothing comes of it."""
    ring = shmkit.Ring.create(capacity=1024)
    slot = ring.reserve((8,), "f8")
    inside = slot.array
    ring.close()
    assert not slot.valid
    inside[:] = 3
    with pytest.raises(ValueError, match="closed"):
        slot.commit()
    slot.abort()
    del ring, slot
    assert inside.sum() == 24


def test_a_slot_keeps_its_ring_alive() -> None:
    """The handle may be dropped: what is reserved can still be committed."""
    with shmkit.Ring.create(capacity=1024) as ring:
        other = shmkit.Ring.create(capacity=1024)
        slot = other.reserve(4)
        slot.buf[:] = b"kept"
        del other
        gc.collect()
        slot.commit()
        assert not slot.valid
        ring.send(b"unrelated")


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((-1,), ValueError),
        (("much",), ValueError),
        ((1.5,), TypeError),
        ((None,), TypeError),
        (((2, 3),), TypeError),
        (((2, -3), "u1"), ValueError),
        (((2, 1.5), "u1"), TypeError),
        ((("a",), "u1"), TypeError),
        (((2,), "no such dtype"), TypeError),
        (((2,), object), TypeError),
        (((2,), [("a", "O")]), TypeError),
        (((1,) * 70, "u1"), ValueError),
    ],
)
def test_a_reservation_of_nonsense_is_refused(
    ring: shmkit.Ring, args: tuple[object, ...], error: type[Exception]
) -> None:
    """TypeError or ValueError, and nothing is reserved."""
    with pytest.raises(error):
        ring.reserve(*args)
    assert_untouched(ring)


def test_an_order_other_than_c_and_f_is_refused(ring: shmkit.Ring) -> None:
    """A record is contiguous one way or the other."""
    for order in ("A", "K", "c", None):
        with pytest.raises(ValueError, match="'C' or 'F'"):
            ring.reserve((2, 2), "u1", order=order)
    assert_untouched(ring)


@pytest.mark.parametrize(
    "args", [(16384,), ("16 KiB",), ((128, 129), "u1"), ((2**31, 2**31), "f8"), ((2**62,), "f8"), ((2**70,), "u1")]
)
def test_what_can_never_fit_is_refused_at_once(ring: shmkit.Ring, args: tuple[object, ...]) -> None:
    """RecordTooLarge, whatever the time-out."""
    with pytest.raises(shmkit.RecordTooLarge):
        ring.reserve(*args, timeout=60)
    assert_untouched(ring)


def test_renamed_fields_are_reserved_under_their_new_names(ring: shmkit.Ring) -> None:
    """dtype.names may be assigned in place between two reservations."""
    point = np.dtype([("a", "i4"), ("b", "i4")])
    with ring.reserve((1,), point):
        pass
    point.names = ("x", "y")
    with ring.reserve((1,), point) as inside:
        assert inside.dtype.names == ("x", "y")
    assert [item.dtype.names for item in ring.recv_many()] == [("a", "b"), ("x", "y")]


def test_frames_written_in_place_go_round_the_ring(ring: shmkit.Ring) -> None:
    """Many laps of arrays and bytes of changing sizes, each with its own content."""
    for number in range(500):
        with ring.reserve((number % 40, 3), "u4") as frame:
            frame[:] = number
        with ring.reserve(number % 97) as text:
            text[:] = bytes([number % 256]) * len(text)
        got, text_got = ring.recv_many()
        assert got.shape == (number % 40, 3)
        assert (got == number).all()
        assert text_got == bytes([number % 256]) * (number % 97)


@pytest.mark.parametrize("refused", [(2.0, 3), (2, "3"), 6.0, (2, -3), (2, 1 << 70)])
def test_a_shape_is_not_taken_for_the_last_one_that_it_only_resembles(ring: shmkit.Ring, refused: object) -> None:
    """2.0 == 2, but it is no length; and after the refusal the former shape serves again."""
    for shape in ((2, 3), 6):
        ring.reserve(shape, "f8").abort()
        with pytest.raises((TypeError, ValueError)):
            ring.reserve(refused, "f8")
        with ring.reserve(shape, "f8") as frame:
            assert frame.shape == np.empty(shape).shape
        assert ring.recv().shape == np.empty(shape).shape


def test_the_next_reservation_is_what_it_is_asked_to_be_whatever_the_last_one_was(ring: shmkit.Ring) -> None:
    """Same numbers, another dtype, order, or count of dimensions; equal shapes that are other objects."""
    for shape, dtype, order in [
        ((6,), "f8", "C"),
        ((6,), "i8", "C"),
        ((6, 2), "i8", "C"),
        ((6, 2), "i8", "F"),
        ((np.int64(6), np.int8(1)), "i8", "F"),
        ((6, 1), "i8", "F"),
        (6, "i8", "C"),
        ((np.int64(6),), "i8", "C"),
    ]:
        with ring.reserve(shape, dtype, order=order) as frame:
            frame[...] = 7
        for got in (frame, ring.recv()):
            assert got.shape == np.empty(shape).shape
            assert got.dtype == dtype
            assert got.flags.f_contiguous or order == "C"
            assert (got == 7).all()
