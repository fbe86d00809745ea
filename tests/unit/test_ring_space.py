"""Room: capacities, laps and pads, exact fits, the largest record, and what can never fit."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import shmkit
from support import Processes, wait_until

LEAST = 1024
# A record of bytes has its word before it, an array also its description, up to a multiple of 64.
MOST_BYTES = LEAST - 8
MOST_ARRAY = LEAST - 64
MOST_RESERVED = LEAST - 64


@pytest.fixture
def ring() -> Iterator[shmkit.Ring]:
    with shmkit.Ring.create(capacity=LEAST) as ring:
        yield ring


def go_to(ring: shmkit.Ring, index: int, consumer: shmkit.Ring | None = None) -> None:
    """Have both ends stand at an index of the lap, with nothing in the ring."""
    for _ in range(index // 8):
        ring.send(b"")
    for _ in range(index // 8):
        (consumer or ring).recv()


# ── capacities ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("capacity", [1024, 2048, "4 KiB", "1 MiB", np.int64(65536)])
def test_a_capacity_is_a_power_of_two_in_bytes_or_words(capacity: object) -> None:
    """From 1 KiB up, as a number or as people write it."""
    with shmkit.Ring.create(capacity=capacity) as ring:
        assert ring.capacity in (1024, 2048, 4096, 65536, 2**20)
        assert ring.free == ring.capacity


def test_the_capacity_is_64_mib_unless_said() -> None:
    """Enough for frames."""
    with shmkit.Ring.create() as ring:
        assert ring.capacity == 64 * 2**20


@pytest.mark.parametrize("capacity", [0, 1, 512, 1000, 1023, 1025, 3000, "10 MB", "1.5 KiB"])
def test_other_capacities_are_refused_by_value_and_rule(capacity: object) -> None:
    """ValueError that says what was given, what is wanted, and the next one that would do."""
    with pytest.raises(ValueError, match="power of two, at least 1024") as caught:
        shmkit.Ring.create(capacity=capacity)
    assert repr(capacity) in str(caught.value)
    assert "next" in str(caught.value)


@pytest.mark.parametrize(
    ("capacity", "error"),
    [
        (-1024, ValueError),
        (2**62, (ValueError, OSError)),
        (2**63, ValueError),
        (2**200, ValueError),
        ("much", ValueError),
        ("", ValueError),
        ("-1 KiB", ValueError),
        (1024.0, TypeError),
        (True, TypeError),
        (None, TypeError),
        ([1024], TypeError),
    ],
)
def test_what_is_no_capacity_is_refused(name: str, capacity: object, error: type[Exception]) -> None:
    """TypeError, ValueError, or no room; nothing is left behind."""
    with pytest.raises(error):
        shmkit.Ring.create(name, capacity)
    with pytest.raises(shmkit.SegmentNotFound):
        shmkit.Ring.attach(name)


def test_a_capacity_that_no_machine_has_room_for_is_no_space(name: str) -> None:
    """NoSpace, an OSError, with what was asked; the name is free."""
    with pytest.raises(shmkit.NoSpace):
        shmkit.Ring.create(name, 2**50)
    shmkit.Ring.create(name, LEAST, lifetime="leased").close()


# ── exact fits ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [0, 8, 24, 56, 120])
def test_records_may_fill_the_ring_to_the_last_byte(ring: shmkit.Ring, size: int) -> None:
    """As many as the capacity divides into, and one more as soon as one is received."""
    count = LEAST // (8 + size)
    for lap in range(3):
        for number in range(count):
            assert ring.try_send(bytes([lap + number & 255]) * size)
        assert (ring.free, len(ring)) == (0, count)
        assert not ring.try_send(b"")
        assert ring.recv() == bytes([lap]) * size
        assert ring.try_send(bytes(size))
        assert not ring.try_send(b"")
        assert len(ring.recv_many()) == count


def test_a_payload_is_rounded_up_to_eight_bytes(ring: shmkit.Ring) -> None:
    """Word and payload together take a multiple of 8."""
    for size, used in [(0, 8), (1, 16), (7, 16), (8, 16), (9, 24)]:
        ring.send(bytes(size))
        assert ring.statistics().used == used
        assert ring.recv() == bytes(size)


def test_a_record_that_ends_with_the_lap_needs_no_pad(ring: shmkit.Ring) -> None:
    """The next one starts the next lap."""
    go_to(ring, 1024 - 64)
    ring.send(bytes(56))
    assert ring.statistics().used == 64
    ring.send(b"next lap")
    assert ring.statistics().used == 80
    assert ring.recv_many() == [bytes(56), b"next lap"]


def test_a_record_never_wraps_a_pad_fills_the_lap(ring: shmkit.Ring) -> None:
    """Eight bytes too near the lap's end: the pad is in use too, until it is passed."""
    go_to(ring, 1024 - 64)
    ring.send(bytes(57))
    assert ring.statistics().used == 64 + 72
    assert ring.recv() == bytes(57)
    assert ring.free == LEAST


def test_a_pad_may_be_as_small_as_a_record_word(ring: shmkit.Ring) -> None:
    """The last eight bytes of a lap."""
    go_to(ring, 1024 - 8)
    ring.send(b"x")
    assert ring.statistics().used == 8 + 16
    assert ring.recv() == b"x"


# ── the largest record ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("index", range(0, LEAST, 8))
def test_the_largest_records_fit_wherever_the_ring_stands(ring: shmkit.Ring, index: int) -> None:
    """Nearly the capacity, at any index of an empty ring: bytes, arrays, reservations."""
    go_to(ring, index)
    ring.send(b"a" * MOST_BYTES, timeout=0)
    assert ring.recv() == b"a" * MOST_BYTES
    ring.send(np.full(MOST_ARRAY, 7, "u1"), timeout=0)
    assert (ring.recv() == np.full(MOST_ARRAY, 7)).all()
    with ring.reserve(MOST_RESERVED, timeout=0) as inside:
        inside[:] = b"r" * MOST_RESERVED
    assert ring.recv() == b"r" * MOST_RESERVED
    assert ring.send_many(b"m" * MOST_BYTES, timeout=0, itemsize=MOST_BYTES) == 1
    assert ring.try_recv() == b"m" * MOST_BYTES
    assert ring.free == LEAST


@pytest.mark.parametrize("index", [0, 8, 512, 1016])
def test_the_largest_record_is_accepted_at_the_second_try_of_one_who_never_waits(ring: shmkit.Ring, index: int) -> None:
    """try_send may have to send a pad first; once the consumer has passed it, the whole lap is free."""
    go_to(ring, index)
    if not ring.try_send(bytes(MOST_BYTES)):
        assert ring.try_recv() is None
        assert ring.try_send(bytes(MOST_BYTES))
    assert ring.recv() == bytes(MOST_BYTES)


# ── what a refused record leaves ────────────────────────────────────────────────────────────────────────────────────

REFUSALS: dict[str, Callable[[shmkit.Ring, int], bool]] = {
    "try_send": lambda ring, size: ring.try_send(bytes(size)),
    "send": lambda ring, size: in_time(lambda: ring.send(bytes(size), timeout=0)),
    "send_many": lambda ring, size: in_time(lambda: ring.send_many([bytes(size)], timeout=0)),
    "send_many rows": lambda ring, size: in_time(lambda: ring.send_many(bytes(size), timeout=0, itemsize=size)),
    "reserve": lambda ring, size: in_time(lambda: ring.reserve(size, timeout=0)),
}


def in_time(call: Callable[[], object]) -> bool:
    try:
        call()
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("how", REFUSALS)
@pytest.mark.parametrize("index", [0, 8, 256, 600, 1016])
def test_a_refused_record_of_up_to_half_the_capacity_leaves_nothing(ring: shmkit.Ring, index: int, how: str) -> None:
    """No pad either: a smaller record goes where it would have gone, and all the statistics stay."""
    with pickle.loads(pickle.dumps(ring)) as consumer:
        go_to(ring, index, consumer)
        while ring.free >= 200 + 8:
            ring.send(bytes(1))
        before = ring.statistics()
        for size in (LEAST // 2 - 64, LEAST // 2 - 128, 208):
            assert not REFUSALS[how](ring, size)
        assert ring.statistics() == before
        while ring.free:  # to the last byte
            ring.send(b"")
        assert len(ring) == before.waiting + (LEAST - before.used) // 8


def nothing_comes(consumer: shmkit.Ring) -> None:
    assert consumer.peek() is None
    assert consumer.try_recv() is None
    for wait in (consumer.recv, consumer.recv_view, consumer.recv_many):
        with pytest.raises(TimeoutError):
            wait(timeout=0)


@pytest.mark.parametrize("looks", [True, False], ids=["looks", "does not look"])
@pytest.mark.parametrize("how", REFUSALS)
@pytest.mark.parametrize("index", [128, 256, 512, 896])
def test_a_refused_record_of_more_may_leave_a_pad_which_is_nothing_to_the_consumer(
    ring: shmkit.Ring, index: int, how: str, looks: bool
) -> None:
    """It counts for `used` alone; nothing is received, and what is sent next comes next."""
    with pickle.loads(pickle.dumps(ring)) as consumer:
        go_to(ring, index, consumer)
        before = ring.statistics()
        assert not REFUSALS[how](ring, MOST_RESERVED)
        assert ring.statistics() == before._replace(used=LEAST - index)
        assert len(ring) == 0
        if looks:
            nothing_comes(consumer)
            assert ring.free == LEAST
            assert REFUSALS[how](ring, MOST_RESERVED)  # and now it has room
            return
        assert ring.try_send(b"next")
        assert len(ring) == 1
        assert consumer.recv(timeout=0) == b"next"
        assert ring.free == LEAST


TOO_LARGE = {
    "bytes": lambda ring: ring.send(bytes(MOST_BYTES + 1), timeout=60),
    "try": lambda ring: ring.try_send(bytes(MOST_BYTES + 1)),
    "bytearray": lambda ring: ring.send(bytearray(10 * LEAST), timeout=60),
    "array": lambda ring: ring.send(np.zeros(MOST_ARRAY + 1, "u1"), timeout=60),
    "many": lambda ring: ring.send_many([bytes(MOST_BYTES + 1)], timeout=60),
    "rows": lambda ring: ring.send_many(bytes(2 * MOST_BYTES + 2), timeout=60, itemsize=MOST_BYTES + 1),
    "reserved": lambda ring: ring.reserve(MOST_RESERVED + 1, timeout=60),
    "reserved array": lambda ring: ring.reserve((MOST_ARRAY + 1,), "u1", timeout=60),
    "description": lambda ring: ring.send(np.zeros(1, [(f"field {n:03}", "u1") for n in range(100)]), timeout=60),
    "reserved description": lambda ring: ring.reserve((), [(f"field {n:03}", "u1") for n in range(100)], timeout=60),
}


@pytest.mark.parametrize("way", TOO_LARGE)
@pytest.mark.parametrize("index", [0, 512])
def test_what_can_never_fit_is_refused_at_once(ring: shmkit.Ring, way: str, index: int) -> None:
    """RecordTooLarge, a ValueError, however full the ring and however long one would wait; nothing is sent."""
    go_to(ring, 8)
    go_to(ring, index)
    for full in (False, True):
        if full:
            while ring.try_send(b"filled"):
                pass
        before = ring.statistics()
        with pytest.raises(shmkit.RecordTooLarge) as caught:
            TOO_LARGE[way](ring)
        assert isinstance(caught.value, ValueError)
        assert ring.statistics() == before


def test_a_refusal_says_what_would_fit(name: str) -> None:
    """Size, ring, capacity, and the most that it takes."""
    with shmkit.Ring.create(name, LEAST, lifetime="leased") as ring:
        with pytest.raises(shmkit.RecordTooLarge, match=rf"5000 bytes.*{name}.*1024.*at most {MOST_BYTES}"):
            ring.send(bytes(5000))


def test_a_large_ring_takes_nearly_all_of_itself_in_one_record() -> None:
    """Also where copies are made without the GIL."""
    with shmkit.Ring.create(capacity="2 MiB") as ring:
        for _ in range(3):
            ring.send(b"small")
            ring.recv()
            record = np.random.default_rng(0).bytes(2**21 - 8)
            ring.send(record, timeout=0)
            assert ring.recv() == record


# ── waiting for room that must be made first ────────────────────────────────────────────────────────────────────────


def receive(ring: shmkit.Ring, count: int, sizes: list[int]) -> None:
    """A consumer that comes when the producer sleeps."""
    wait_until(lambda: ring.statistics().producer_waits > 0)
    for size in sizes:
        assert len(ring.recv(timeout=20)) == size
    assert len(ring.recv(timeout=20)) == count


@pytest.mark.parametrize("size", [500, 752, 753, 760, 900, 1000, MOST_BYTES])
def test_a_sleeping_producer_gets_room_for_any_record_in_the_end(ring: shmkit.Ring, size: int) -> None:
    """Also where neither the record nor the pad before it has room, as long as the consumer is a lap behind."""
    go_to(ring, 512)
    # head at 512, tail at 1280: the pad of a record that does not end before 2048 would reach into the held bytes
    behind = [248, 248, 248]
    ring.send_many([bytes(length) for length in behind])
    assert ring.statistics().used == 768
    consumer = threading.Thread(target=receive, args=(ring, size, behind))
    consumer.start()
    try:
        ring.send(bytes(size), timeout=20)
    finally:
        consumer.join()
    assert len(ring) == 0


def by_recv(ring: shmkit.Ring) -> None:
    assert ring.recv(timeout=20) == bytes(200)


def by_view(ring: shmkit.Ring) -> None:
    with ring.recv_view(timeout=20) as inside:
        assert bytes(inside) == bytes(200)


def by_dropped_view(ring: shmkit.Ring) -> None:
    assert bytes(ring.recv_view(timeout=20).buf) == bytes(200)


def by_rows(ring: shmkit.Ring) -> None:
    assert ring.recv_many_into(bytearray(400), 200, timeout=20) == 1


def by_list(ring: shmkit.Ring) -> None:
    assert ring.recv_many(1, timeout=20) == [bytes(200)]


each_way = pytest.mark.parametrize("receive_it", [by_recv, by_view, by_dropped_view, by_rows, by_list])


@each_way
def test_a_pad_alone_holds_up_nobody(ring: shmkit.Ring, receive_it: Callable[[shmkit.Ring], None]) -> None:
    """The producer sleeps behind a pad that it sent; once all records are received, no further receiving is needed."""
    ring.send(bytes(200))
    sender = threading.Thread(target=ring.send, args=(bytes(900), 20))
    sender.start()
    wait_until(lambda: ring.statistics().producer_waits > 0)
    receive_it(ring)
    sender.join()
    assert ring.recv(timeout=0) == bytes(900)


@pytest.mark.parametrize("size", [753, 900, MOST_BYTES])
def test_a_producer_in_a_process_of_its_own_gets_room_too(process: Processes, size: int) -> None:
    """Nobody but the consumer can pass the pad here."""
    with shmkit.Ring.create(capacity=LEAST) as ring:

        def produce() -> None:
            for _ in range(5):
                ring.send(bytes(248), timeout=20)
            ring.send(bytes(size), timeout=20)

        process(produce)
        for _ in range(2):
            assert len(ring.recv(timeout=20)) == 248
        wait_until(lambda: ring.statistics().producer_waits > 0)
        for _ in range(3):
            assert len(ring.recv(timeout=20)) == 248
        assert len(ring.recv(timeout=20)) == size
        with pytest.raises(shmkit.EndOfStream):
            ring.recv(timeout=20)


@each_way
def test_a_pad_alone_holds_up_nobody_in_another_process(
    process: Processes, receive_it: Callable[[shmkit.Ring], None]
) -> None:
    """The same where the consumer, which has received all there was, has other things to do."""
    with shmkit.Ring.create(capacity=LEAST) as ring:
        process(lambda: [ring.send(bytes(size), timeout=20) for size in (200, 900)])
        wait_until(lambda: ring.statistics().producer_waits > 0)
        receive_it(ring)
        wait_until(lambda: ring.statistics().sent == 2, watchdog=10)
        assert ring.recv(timeout=0) == bytes(900)
