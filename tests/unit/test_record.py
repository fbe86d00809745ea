"""Records as they stand in memory, byte by byte as _layout.h has them, and the two handles on them."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator

import numpy as np
import pytest

import shmkit
from shmkit import RecordView, Reservation

# Offsets from _layout.h: a ring's data follow its header.
DATA_AT = 4096
HEADER = struct.Struct("<QQ")


@pytest.fixture
def ring() -> Iterator[shmkit.Ring]:
    with shmkit.Ring.create(capacity=4096) as ring:
        yield ring


def data(ring: shmkit.Ring) -> bytes:
    return bytes(ring.segment.buf)[DATA_AT:]


def word(span: int, tailpad: int, kind: int, data_at: int) -> bytes:
    """A record word: span8 in 45 bits, tailpad in 3, kind in 4, data_at8 in 12."""
    return struct.pack("<Q", span // 8 | tailpad << 45 | kind << 48 | data_at // 8 << 52)


BYTES, ARRAY, PAD = 1, 2, 3


def test_the_header_says_capacity_and_where_the_data_are(ring: shmkit.Ring) -> None:
    """The first two words of the payload."""
    assert HEADER.unpack_from(ring.segment.buf) == (4096, DATA_AT)
    assert ring.segment.size == DATA_AT + 4096


def test_bytes_are_a_word_and_a_payload(ring: shmkit.Ring) -> None:
    """The payload follows the word; unused bytes up to a multiple of 8 are counted."""
    ring.send(b"abcde")
    ring.send(b"12345678")
    memory = data(ring)
    assert memory[:13] == word(16, 3, BYTES, 8) + b"abcde"
    assert memory[16:32] == word(16, 0, BYTES, 8) + b"12345678"


def test_an_array_is_a_word_a_description_and_a_payload_on_a_multiple_of_64(ring: shmkit.Ring) -> None:
    """ndim, order, length of the dtype's text, shape, text."""
    array = np.arange(6, dtype="<i4").reshape(2, 3)
    ring.send(array)
    memory = data(ring)
    description = struct.pack("<BBHI2q", 2, ord("C"), 3, 0, 2, 3) + b"<i4"
    assert memory[: 8 + len(description)] == word(88, 0, ARRAY, 64) + description
    assert memory[64:88] == array.tobytes()


def test_the_payload_of_every_array_stands_on_a_multiple_of_64(ring: shmkit.Ring) -> None:
    """Wherever its record begins; so it does for reserved bytes."""
    for size in range(0, 70, 7):
        ring.send(bytes(size))
        ring.send(np.zeros(size, "f4"))
        with ring.reserve(size) as inside:
            assert np.frombuffer(inside, "u1").ctypes.data % 64 == 0 or size == 0
        ring.recv()
        with ring.recv_view() as frame:
            assert frame.ctypes.data % 64 == 0
        ring.recv()


def test_a_pad_is_a_record_of_its_own(ring: shmkit.Ring) -> None:
    """From where the last record ends to the lap's end."""
    ring.send(bytes(3000))
    ring.recv()
    ring.send(bytes(2000))
    start = 3008
    assert data(ring)[start : start + 8] == word(4096 - start, 0, PAD, 8)
    assert data(ring)[:8] == word(2008, 0, BYTES, 8)


def test_fortran_order_is_said(ring: shmkit.Ring) -> None:
    """By its letter; the payload is as it lies in the sender's memory."""
    array = np.asfortranarray(np.arange(6, dtype="<i2").reshape(2, 3))
    ring.send(array)
    memory = data(ring)
    assert memory[9:10] == b"F"
    assert memory[64:76] == array.tobytes(order="A") == array.T.tobytes()


def test_nothing_of_an_uncommitted_record_counts(ring: shmkit.Ring) -> None:
    """Whatever is written there is overwritten by the next record."""
    with pytest.raises(KeyError), ring.reserve(16) as inside:
        inside[:] = b"never to be sent"
        raise KeyError
    assert ring.try_recv() is None
    ring.send(b"sent")
    assert data(ring)[:12] == word(16, 4, BYTES, 8) + b"sent"


# ── the handles ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [RecordView, Reservation])
def test_a_handle_is_made_by_a_ring_only(kind: type) -> None:
    """TypeError: one made by hand would have nothing to show."""
    with pytest.raises(TypeError, match=kind.__name__):
        kind()


def test_handles_cannot_be_pickled(ring: shmkit.Ring) -> None:
    """They are of this process: what a pickle would hold is the ring, and a copy of the record."""
    ring.send(b"x")
    for handle in (ring.recv_view(), ring.reserve(8)):
        with pytest.raises(TypeError):
            pickle.dumps(handle)


def test_a_view_is_writable_memory_and_says_so(ring: shmkit.Ring) -> None:
    """As a buffer: one dimension of bytes, contiguous."""
    ring.send(b"abc")
    with ring.recv_view() as inside:
        assert (inside.readonly, inside.ndim, inside.itemsize, inside.contiguous) == (False, 1, 1, True)
        inside[0:1] = b"X"
        assert bytes(inside) == b"Xbc"


def test_with_of_a_released_view_shows_what_is_there_now(ring: shmkit.Ring) -> None:
    """It is memory still; entering it again holds nothing."""
    ring.send(b"abc")
    view = ring.recv_view()
    view.release()
    with view:
        assert not view.valid
    assert ring.free == ring.capacity
