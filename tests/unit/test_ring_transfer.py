"""Sending and receiving one record at a time, and what a ring says of itself meanwhile."""

from __future__ import annotations

import array
from collections.abc import Iterator

import numpy as np
import pytest

import shmkit


@pytest.fixture
def ring() -> Iterator[shmkit.Ring]:
    with shmkit.Ring.create(capacity=4096) as ring:
        yield ring


def test_records_arrive_in_the_order_of_sending(ring: shmkit.Ring) -> None:
    """First in, first out, each record by itself."""
    for number in range(50):
        ring.send(b"%d" % number)
    assert [ring.recv() for _ in range(50)] == [b"%d" % number for number in range(50)]


def test_bytes_and_arrays_may_follow_each_other(ring: shmkit.Ring) -> None:
    """Each record says what it is."""
    ring.send(b"head")
    ring.send(np.arange(3))
    ring.send(b"")
    assert ring.recv() == b"head"
    assert ring.recv().tolist() == [0, 1, 2]
    assert ring.recv() == b""


def test_send_returns_nothing_and_try_send_says_whether(ring: shmkit.Ring) -> None:
    """None, True, and False once it is full."""
    assert ring.send(b"a") is None
    assert ring.try_send(b"b") is True
    while ring.try_send(bytes(500)):
        pass
    assert ring.try_send(bytes(500)) is False


def test_try_recv_of_nothing_is_none(ring: shmkit.Ring) -> None:
    """It never waits."""
    assert ring.try_recv() is None
    ring.send(b"x")
    assert ring.try_recv() == b"x"
    assert ring.try_recv() is None


def test_peek_leaves_the_record_where_it_is(ring: shmkit.Ring) -> None:
    """A copy of the next record; None when there is none."""
    assert ring.peek() is None
    ring.send(np.arange(4))
    seen = ring.peek()
    seen += 10
    assert ring.peek().tolist() == [0, 1, 2, 3]
    assert len(ring) == 1
    assert ring.recv().tolist() == [0, 1, 2, 3]
    assert ring.peek() is None


# ── recv_into ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "buffer",
    [
        bytearray(16),
        memoryview(bytearray(40))[8:24],
        array.array("d", [0.0, 0.0]),
        np.zeros(2),
        np.zeros((2, 2), "f4"),
        np.zeros(2, "M8[s]"),
    ],
    ids=["bytearray", "memoryview", "array", "ndarray", "matrix", "datetimes"],
)
def test_recv_into_fills_any_writable_contiguous_buffer(ring: shmkit.Ring, buffer: object) -> None:
    """The record's bytes go where they are wanted, and their number is returned; what is behind them stays."""
    ring.send(b"12345678")
    assert ring.recv_into(buffer) == 8
    shown = buffer.tobytes() if isinstance(buffer, np.ndarray) else bytes(memoryview(buffer).cast("B"))  # type: ignore[arg-type]
    assert shown == b"12345678" + bytes(8)
    assert len(ring) == 0


def test_recv_into_takes_the_bytes_of_an_array(ring: shmkit.Ring) -> None:
    """A frame lands in the array that waits for it."""
    frame = np.arange(12.0).reshape(3, 4)
    ring.send(frame)
    target = np.zeros((3, 4))
    assert ring.recv_into(target) == frame.nbytes
    assert (target == frame).all()


def test_recv_into_of_too_small_a_buffer_keeps_the_record(ring: shmkit.Ring) -> None:
    """ValueError with both sizes and the ring's name; the record is received next time."""
    ring.send(b"0123456789")
    target = bytearray(9)
    with pytest.raises(ValueError, match=r"10 bytes.*of 9 .*ring"):
        ring.recv_into(target)
    assert target == bytearray(9)
    assert len(ring) == 1
    assert ring.recv_into(bytearray(10)) == 10


@pytest.mark.parametrize(
    "buffer",
    [b"read-only", memoryview(bytearray(20))[::2], "text", None, np.zeros((4, 4)).T[::2]],
    ids=["read-only", "strided", "text", "nothing", "strided array"],
)
def test_recv_into_refuses_what_cannot_be_filled(ring: shmkit.Ring, buffer: object) -> None:
    """An exception of the buffer protocol, and the record stays."""
    ring.send(b"ab")
    with pytest.raises((TypeError, BufferError, ValueError)):
        ring.recv_into(buffer)
    assert ring.recv() == b"ab"


def test_recv_into_of_an_empty_record_is_zero(ring: shmkit.Ring) -> None:
    """No bytes are bytes too."""
    ring.send(b"")
    assert ring.recv_into(bytearray(0)) == 0


# ── iteration ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_iteration_gives_each_record_once(ring: shmkit.Ring) -> None:
    """A ring is its own iterator."""
    ring.send_many([b"a", b"b", b"c"])
    assert iter(ring) is ring
    assert [item for item, _ in zip(ring, range(2), strict=False)] == [b"a", b"b"]


# ── what a ring says of itself ──────────────────────────────────────────────────────────────────────────────────────


def test_a_new_ring_is_empty_and_true(ring: shmkit.Ring) -> None:
    """No records, all of it free; a ring without records is no false value."""
    assert len(ring) == 0
    assert ring.free == ring.capacity == 4096
    assert bool(ring)
    assert not ring.closed


def test_len_counts_records_and_free_counts_bytes(ring: shmkit.Ring) -> None:
    """A record of bytes takes 8 more than its payload, rounded up to 8."""
    ring.send(b"")
    assert (len(ring), ring.free) == (1, 4096 - 8)
    ring.send(b"1234567")
    assert (len(ring), ring.free) == (2, 4096 - 24)
    ring.recv_many()
    assert (len(ring), ring.free) == (0, 4096)


def test_statistics_count_what_went_through(ring: shmkit.Ring) -> None:
    """Records, payload bytes, what waits, what is in use; pads are no records."""
    for _ in range(20):
        ring.send(bytes(1000))
        ring.recv()
    ring.send(np.zeros(10))
    now = ring.statistics()
    assert isinstance(now, shmkit.RingStatistics)
    assert (now.capacity, now.waiting, now.sent, now.received) == (4096, 1, 21, 20)
    assert (now.bytes_sent, now.bytes_received) == (20_080, 20_000)
    assert now.capacity - now.used == ring.free
    assert (now.producer_waits, now.consumer_waits, now.producer_wakes, now.consumer_wakes) == (0, 0, 0, 0)


def test_statistics_name_the_processes_at_the_ends() -> None:
    """None until somebody comes, and again when it has left."""
    import os

    with shmkit.Ring.create(capacity=1024) as ring:
        assert ring.statistics()[-2:] == (None, None)
        ring.send(b"x")
        assert ring.statistics()[-2:] == (os.getpid(), None)
        ring.recv()
        assert ring.statistics()[-2:] == (os.getpid(), os.getpid())


def test_a_view_counts_as_received_but_its_bytes_stay_in_use(ring: shmkit.Ring) -> None:
    """Records wait until they are received; room comes back when they are released."""
    ring.send_many([bytes(8), bytes(8), bytes(8)])
    view = ring.recv_view()
    assert (len(ring), ring.free) == (2, 4096 - 48)
    ring.recv()
    now = ring.statistics()
    assert (len(ring), now.waiting, now.received, now.used) == (1, 1, 2, 48)
    view.release()
    now = ring.statistics()
    assert (len(ring), now.waiting, now.received, now.used) == (1, 1, 2, 16)


def test_the_repr_says_name_capacity_and_what_waits(ring: shmkit.Ring, name: str) -> None:
    """And, later, that it is closed.  One without a name is the anonymous ring."""
    ring.send_many([b"a", b"b"])
    assert "the anonymous ring" in repr(ring)
    assert "4 KiB" in repr(ring)
    assert "2 records" in repr(ring)
    ring.close()
    assert "closed" in repr(ring)
    with shmkit.Ring.create(name, 1024, lifetime="leased") as named:
        assert repr(name) in repr(named)


def test_positions_go_on_for_many_laps() -> None:
    """The ring is used again and again, with records that divide no lap."""
    with shmkit.Ring.create(capacity=1024) as ring:
        for number in range(5000):
            record = number.to_bytes(4, "little") * (number % 29)
            ring.send(record)
            assert ring.recv() == record
        assert ring.statistics().sent == 5000
        assert ring.free == 1024
