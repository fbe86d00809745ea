"""Many records at once: lists, and rows of one buffer."""

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


# ── send_many ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_send_many_sends_each_item_and_says_how_many(ring: shmkit.Ring) -> None:
    """Bytes, buffers and arrays, each a record of its own."""
    assert ring.send_many([b"a", bytearray(b"b"), np.arange(2), b"c"]) == 4
    first, second, third, fourth = ring.recv_many()
    assert (first, second, third.tolist(), fourth) == (b"a", b"b", [0, 1], b"c")


def test_send_many_takes_any_iterable(ring: shmkit.Ring) -> None:
    """Generators, tuples, nothing at all."""
    assert ring.send_many(b"%d" % n for n in range(100)) == 100
    assert ring.recv_many() == [b"%d" % n for n in range(100)]
    assert ring.send_many(()) == 0
    assert ring.try_recv() is None


@pytest.mark.parametrize("items", [5, None, b"bytes are integers"])
def test_send_many_refuses_what_holds_no_records(ring: shmkit.Ring, items: object) -> None:
    """TypeError; nothing is sent."""
    with pytest.raises(TypeError):
        ring.send_many(items)
    assert len(ring) == 0


def test_send_many_says_how_many_got_through_before_the_time_was_up(ring: shmkit.Ring) -> None:
    """TimeoutError.sent counts the records that are in the ring, all of which arrive."""
    items = [bytes([n]) * 500 for n in range(20)]
    with pytest.raises(TimeoutError, match="full") as caught:
        ring.send_many(items, timeout=0.01)
    assert caught.value.sent == 8  # type: ignore[attr-defined]
    assert ring.recv_many() == items[:8]
    assert ring.send_many(items[8:16], timeout=0) == 8


def test_what_was_sent_before_an_item_that_can_never_fit_arrives(ring: shmkit.Ring) -> None:
    """RecordTooLarge at once, with the items before it sent."""
    with pytest.raises(shmkit.RecordTooLarge):
        ring.send_many([b"a", b"b", bytes(5000), b"c"], timeout=60)
    assert ring.recv_many() == [b"a", b"b"]


def test_what_was_sent_before_the_iterable_failed_arrives(ring: shmkit.Ring) -> None:
    """The iterable's own exception comes out; the ring serves on."""

    def items() -> Iterator[bytes]:
        yield b"a"
        yield b"b"
        raise KeyError("c")

    with pytest.raises(KeyError):
        ring.send_many(items())
    assert ring.recv_many() == [b"a", b"b"]
    ring.send(b"d")
    assert ring.recv() == b"d"


def test_an_iterable_that_sends_through_the_same_ring_is_refused(ring: shmkit.Ring) -> None:
    """RuntimeError: the thread would wait for itself."""

    def items() -> Iterator[bytes]:
        yield b"a"
        ring.send(b"inner")

    with pytest.raises(RuntimeError, match="in use by this very thread"):
        ring.send_many(items())
    assert ring.recv_many() == [b"a"]


def test_an_iterable_may_receive_from_the_same_ring(ring: shmkit.Ring) -> None:
    """The ends are separate: what is sent may depend on what came before."""
    received = []

    def items() -> Iterator[bytes]:
        for number in range(100):
            yield bytes([number]) * 30
            received.extend(item for item in [ring.try_recv()] if item is not None)

    assert ring.send_many(items(), timeout=0) == 100
    received += ring.recv_many()
    assert received == [bytes([number]) * 30 for number in range(100)]


def test_an_iterable_that_closes_the_ring_ends_the_sending() -> None:
    """Closed: who has left sends nothing more."""
    ring = shmkit.Ring.create(capacity=1024)

    def items() -> Iterator[bytes]:
        yield b"a"
        ring.close()
        yield b"b"

    with pytest.raises(shmkit.Closed):
        ring.send_many(items())


# ── rows out of one buffer ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "rows",
    [
        b"aabbcc",
        bytearray(b"aabbcc"),
        memoryview(b"aabbcc"),
        array.array("B", b"aabbcc"),
        np.frombuffer(b"aabbcc", "u2"),
    ],
    ids=["bytes", "bytearray", "memoryview", "array", "ndarray"],
)
def test_one_buffer_is_cut_into_records(ring: shmkit.Ring, rows: object) -> None:
    """With itemsize, each so many bytes of the buffer are a record."""
    assert ring.send_many(rows, itemsize=2) == 3
    assert ring.recv_many() == [b"aa", b"bb", b"cc"]


def test_rows_of_datetimes_and_structures_are_rows_too(ring: shmkit.Ring) -> None:
    """Any contiguous array's bytes can be cut."""
    times = np.arange(4).astype("M8[s]")
    assert ring.send_many(times, itemsize=16) == 2
    points = np.zeros(3, [("x", "f8"), ("n", "u1")])
    assert ring.send_many(points, itemsize=9) == 3
    assert b"".join(ring.recv_many()) == times.tobytes() + points.tobytes()


def test_no_rows_are_sent_out_of_an_empty_buffer(ring: shmkit.Ring) -> None:
    """Zero is a multiple of everything."""
    assert ring.send_many(b"", itemsize=64) == 0


@pytest.mark.parametrize("itemsize", [4, 7, 100])
def test_an_itemsize_that_does_not_divide_is_refused(ring: shmkit.Ring, itemsize: int) -> None:
    """ValueError with both numbers; nothing is sent."""
    with pytest.raises(ValueError, match=rf"10 bytes.*{itemsize}"):
        ring.send_many(bytes(10), itemsize=itemsize)
    assert len(ring) == 0


@pytest.mark.parametrize(
    ("itemsize", "error"),
    [(0, ValueError), (-1, ValueError), (2**70, ValueError), (1.5, TypeError), ("8", TypeError), (True, TypeError)],
)
def test_an_itemsize_that_is_no_count_is_refused(ring: shmkit.Ring, itemsize: object, error: type[Exception]) -> None:
    """It is a positive integer, for sending as for receiving."""
    ring.send(bytes(8))
    with pytest.raises(error):
        ring.send_many(bytes(8), itemsize=itemsize)
    with pytest.raises(error):
        ring.recv_many_into(bytearray(8), itemsize)
    assert len(ring) == 1


def test_rows_of_a_strided_array_are_refused(ring: shmkit.Ring) -> None:
    """What is not contiguous cannot be cut."""
    with pytest.raises((TypeError, BufferError, ValueError)):
        ring.send_many(np.zeros((4, 4))[:, 1], itemsize=8)
    with pytest.raises((TypeError, BufferError)):
        ring.send_many(memoryview(b"abcdef")[::2], itemsize=1)
    assert len(ring) == 0


def test_rows_that_can_never_fit_are_refused_at_once(ring: shmkit.Ring) -> None:
    """RecordTooLarge, whatever the time-out."""
    with pytest.raises(shmkit.RecordTooLarge):
        ring.send_many(bytes(8000), timeout=60, itemsize=4000 + 4000)


def test_rows_say_how_many_got_through_before_the_time_was_up(ring: shmkit.Ring) -> None:
    """TimeoutError.sent, and that many arrive."""
    rows = b"".join(n.to_bytes(8, "big") for n in range(1000))
    with pytest.raises(TimeoutError) as caught:
        ring.send_many(rows, timeout=0.01, itemsize=8)
    assert caught.value.sent == 4096 // 16  # type: ignore[attr-defined]
    assert b"".join(ring.recv_many()) == rows[: 256 * 8]


# ── recv_many ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_recv_many_takes_what_is_there(ring: shmkit.Ring) -> None:
    """All of it, or as many as were asked for; never more than are there."""
    ring.send_many([b"%d" % n for n in range(10)])
    assert ring.recv_many(3) == [b"0", b"1", b"2"]
    assert ring.recv_many(max_items=1) == [b"3"]
    assert ring.recv_many(np.int64(100)) == [b"4", b"5", b"6", b"7", b"8", b"9"]
    assert ring.free == ring.capacity


@pytest.mark.parametrize(
    ("most", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), ("3", TypeError), (True, TypeError)]
)
def test_recv_many_refuses_a_number_that_is_no_count(ring: shmkit.Ring, most: object, error: type[Exception]) -> None:
    """max_items is a positive integer or None."""
    ring.send(b"x")
    with pytest.raises(error):
        ring.recv_many(most)
    assert len(ring) == 1


def test_recv_many_over_pads_and_laps(ring: shmkit.Ring) -> None:
    """Batches do not notice where the lap ends."""
    sent = []
    received = []
    for n in range(300):
        batch = [bytes([n % 256]) * (k * 97 % 700) for k in range(1 + n % 4)]
        ring.send_many(batch, timeout=0)
        sent += batch
        received += ring.recv_many()
    assert received == sent


def test_recv_many_past_held_views_releases_nothing_of_theirs(ring: shmkit.Ring) -> None:
    """What lies behind a view stays in use until the view goes."""
    ring.send_many([b"%02d" % n for n in range(50)])
    view = ring.recv_view()
    assert len(ring.recv_many()) == 49
    assert ring.free == ring.capacity - 50 * 16
    assert bytes(view.buf) == b"00"
    view.release()
    assert ring.free == ring.capacity


# ── recv_many_into ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_records_of_one_size_go_into_one_buffer(ring: shmkit.Ring) -> None:
    """One after the other; as many as are there, or as there is room for."""
    ring.send_many([b"%04d" % n for n in range(100)])
    target = np.zeros(10, "S4")
    assert ring.recv_many_into(target, 4) == 10
    assert target.tolist() == [b"%04d" % n for n in range(10)]
    large = bytearray(b"-" * 1000)
    assert ring.recv_many_into(large, 4) == 90
    assert bytes(large) == b"".join(b"%04d" % n for n in range(10, 100)).ljust(1000, b"-")
    assert ring.free == ring.capacity


def test_a_buffer_that_is_no_multiple_is_filled_as_far_as_whole_records_go(ring: shmkit.Ring) -> None:
    """No record is cut."""
    ring.send_many([b"aaaa", b"bbbb", b"cccc"])
    target = bytearray(11)
    assert ring.recv_many_into(target, 4) == 2
    assert target == b"aaaabbbb\0\0\0"
    assert ring.recv() == b"cccc"


def test_a_record_of_another_size_ends_the_call_and_stays(ring: shmkit.Ring) -> None:
    """ValueError if it is the first, which names both sizes."""
    ring.send_many([b"aaaa", b"bbbb", b"odd", b"cccc"])
    target = bytearray(64)
    assert ring.recv_many_into(target, 4) == 2
    with pytest.raises(ValueError, match=r"3 bytes.*4"):
        ring.recv_many_into(target, 4)
    assert ring.recv() == b"odd"
    assert ring.recv_many_into(target, 4) == 1


def test_a_buffer_without_room_for_one_record_is_refused(ring: shmkit.Ring) -> None:
    """ValueError at once, though nothing is there to be received."""
    with pytest.raises(ValueError, match=r"7 bytes.*8"):
        ring.recv_many_into(bytearray(7), 8, timeout=60)


def test_arrays_are_rows_by_their_bytes(ring: shmkit.Ring) -> None:
    """What counts is the payload's size."""
    ring.send_many([np.arange(4, dtype="u1") + n for n in range(5)])
    target = np.zeros((5, 4), "u1")
    assert ring.recv_many_into(target, 4) == 5
    assert (target == np.arange(4) + np.arange(5)[:, None]).all()


def test_rows_go_round_the_ring_many_times(ring: shmkit.Ring) -> None:
    """Sizes that divide no lap, batches that divide no size."""
    rows = np.arange(100 * 7, dtype="u4").reshape(100, 7)
    target = np.zeros_like(rows)
    for _ in range(20):
        assert ring.send_many(rows, timeout=0, itemsize=28) == 100
        got = 0
        while got < 100:
            got += ring.recv_many_into(target[got : got + 33], 28)
        assert (target == rows).all()
        target[:] = 0
