"""Memory that runs out in the middle of a call: what was to be received is returned, or stays in the ring."""

from __future__ import annotations

import pickle
import resource
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import shmkit
from support import Processes

WATCHDOG = 60.0
MANY = 80 * 2**20  # bytes that a process which is short of memory cannot have: malloc has up to 64 MiB in reserve
PATTERN = bytes(range(256)) * (MANY // 256)


@contextmanager
def short_of_memory(spare: int = 8 * 2**20) -> Iterator[None]:
    """So much may still be mapped, and no more, for the rest of the block; in children only."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + spare, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def in_a_child(process: Processes, action: Callable[[], None]) -> None:
    child = process(action)
    child.join(WATCHDOG)
    assert child.exitcode == 0


@pytest.fixture
def ring() -> Iterator[shmkit.Ring]:
    with shmkit.Ring.create(capacity="128 MiB") as ring:
        yield ring


LARGE = {"bytes": PATTERN, "array": np.frombuffer(PATTERN, "<u4").reshape(-1, 64), "fortran": None}
LARGE["fortran"] = np.asfortranarray(LARGE["array"])
RECEIVES: dict[str, Callable[[shmkit.Ring], object]] = {
    "recv": lambda ring: ring.recv(timeout=WATCHDOG),
    "try_recv": lambda ring: ring.try_recv(),
    "peek": lambda ring: ring.peek(),
    "recv_many": lambda ring: ring.recv_many(timeout=WATCHDOG),
    "iteration": next,
}


@pytest.mark.parametrize("kind", LARGE)
@pytest.mark.parametrize("how", RECEIVES)
def test_a_record_for_which_there_is_no_memory_stays(
    process: Processes, ring: shmkit.Ring, how: str, kind: str
) -> None:
    """MemoryError, again and again; it can still be looked at in place, and is received once there is memory."""
    sent = LARGE[kind]
    ring.send(b"before")
    ring.send(sent)
    ring.send(b"after")

    def consume() -> None:
        assert ring.recv(timeout=WATCHDOG) == b"before"
        with short_of_memory():
            for _ in range(3):
                with pytest.raises(MemoryError):
                    RECEIVES[how](ring)
                now = ring.statistics()
                assert (now.received, now.waiting) == (1, 2)
        item = ring.peek()
        assert np.array_equal(item, sent) if isinstance(sent, np.ndarray) else item == sent  # type: ignore[arg-type]
        with short_of_memory():
            with ring.recv_view(timeout=WATCHDOG) as view:
                assert np.array_equal(np.asarray(view)[300:303], np.asarray(memoryview(item))[300:303])
            assert ring.recv(timeout=WATCHDOG) == b"after"

    in_a_child(process, consume)
    assert ring.statistics().used == 0


def test_what_a_batch_had_received_is_returned(process: Processes, ring: shmkit.Ring) -> None:
    """The record for which there is no memory is the next call's; that one raises, and the one with memory gets it."""
    small = [bytes([number]) * 100 for number in range(70)]
    ring.send_many([*small, PATTERN, b"after"])

    def consume() -> None:
        with short_of_memory():
            assert ring.recv_many(timeout=WATCHDOG) == small
            assert len(ring) == 2
            for _ in range(2):
                with pytest.raises(MemoryError):
                    ring.recv_many(timeout=WATCHDOG)
        assert ring.recv_many(timeout=WATCHDOG) == [PATTERN, b"after"]

    in_a_child(process, consume)
    assert ring.statistics().used == 0


def test_no_small_record_is_lost_where_memory_runs_out_somewhere(process: Processes, ring: shmkit.Ring) -> None:
    """In a copy or in the list of them, wherever it happens to be, among two million: each comes once, in order."""
    count = 2_000_000
    ring.send_many(np.arange(count, dtype="<u8"), itemsize=8)

    def consume() -> None:
        expected = calls = 0
        number_of = struct.Struct("<Q").unpack
        with short_of_memory():
            while expected < count:
                calls += 1
                items = ring.recv_many(timeout=WATCHDOG)
                while items:  # from the end, so that memory becomes free
                    assert number_of(items.pop()) == (expected + len(items),)
                expected = ring.statistics().received
        assert calls > 1, "memory never ran out"

    in_a_child(process, consume)
    assert ring.statistics().used == 0


def test_a_batch_that_cannot_be_made_sends_what_it_had(process: Processes, ring: shmkit.Ring) -> None:
    """MemoryError comes out of send_many; what it was given before that arrives, and the ring goes on."""

    def items() -> Iterator[bytes]:
        yield b"one"
        yield b"two"
        yield bytes(MANY)

    def produce() -> None:
        with short_of_memory(), pytest.raises(MemoryError):
            ring.send_many(items())
        ring.send(b"three")

    in_a_child(process, produce)
    assert ring.recv_many(timeout=WATCHDOG) == [b"one", b"two", b"three"]


def test_whatever_needs_memory_of_its_own_is_sent_without(process: Processes, ring: shmkit.Ring) -> None:
    """Strided arrays and reservations are copied straight into the ring: there need not be memory for another copy."""
    matrix = np.frombuffer(PATTERN, "<u4").reshape(-1, 64)

    def produce() -> None:
        with short_of_memory():
            with pytest.raises(MemoryError):
                matrix[::-1].copy()
            ring.send(matrix[::-1], timeout=WATCHDOG)
            with ring.reserve((1000, 1000), "<u4", timeout=WATCHDOG) as slot:
                slot[:] = 7

    in_a_child(process, produce)
    assert np.array_equal(ring.recv(timeout=WATCHDOG), matrix[::-1])
    assert (ring.recv(timeout=WATCHDOG) == 7).all()


def test_a_ring_that_is_closed_while_a_batch_is_taken_has_given_each_record_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By whatever runs while a record is being understood: what had been copied is returned, the rest is the heir's."""
    restore = np.lib.format.descr_to_dtype
    fields = np.dtype([("number", "<u4"), ("a field that nobody has seen yet", "<f8")])
    with shmkit.Ring.create(capacity=4096) as heir:
        ring = pickle.loads(pickle.dumps(heir))
        sent = [b"one", b"two", np.zeros(3, fields), b"four"]
        assert heir.send_many(sent) == 4

        def closing(description: object) -> np.dtype:
            ring.close()
            dtype: np.dtype = restore(description)
            return dtype

        monkeypatch.setattr(np.lib.format, "descr_to_dtype", closing)
        assert ring.recv_many(timeout=WATCHDOG) == [b"one", b"two"]
        with pytest.raises(shmkit.Closed):
            ring.recv_many(timeout=WATCHDOG)
        monkeypatch.undo()
        array, last = heir.recv_many(timeout=WATCHDOG)
        assert array.dtype == fields
        assert last == b"four"
        assert heir.statistics().used == 0
        assert heir.statistics().received == 4


@pytest.mark.parametrize("how", ["recv", "recv_view", "recv_many", "try_recv"])
def test_a_record_stays_when_the_ring_is_closed_while_it_is_understood(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Closed comes out of the call, and the record goes to the heir; with views held or not."""
    restore = np.lib.format.descr_to_dtype
    fields = np.dtype([("number", "<u4"), (f"field of {how}", "<f8")])
    with shmkit.Ring.create(capacity=4096) as heir:
        ring = pickle.loads(pickle.dumps(heir))
        heir.send_many([b"one", np.ones(3, fields)])
        view = ring.recv_view(timeout=WATCHDOG)

        def closing(description: object) -> np.dtype:
            ring.close()
            dtype: np.dtype = restore(description)
            return dtype

        monkeypatch.setattr(np.lib.format, "descr_to_dtype", closing)
        with pytest.raises(shmkit.Closed):
            getattr(ring, how)()
        monkeypatch.undo()
        assert not view.valid
        assert heir.recv(timeout=WATCHDOG).dtype == fields
        assert heir.statistics().used == 0


def test_a_consumer_killed_for_want_of_memory_leaves_all_but_what_it_had_in_hand(
    process: Processes, ring: shmkit.Ring
) -> None:
    """What the kernel does when memory runs out is SIGKILL: the record that could not be copied is the successor's."""
    ring.send(b"before")
    ring.send(PATTERN)

    def consume() -> None:
        assert ring.recv(timeout=WATCHDOG) == b"before"
        with short_of_memory():
            try:
                ring.recv(timeout=WATCHDOG)
            except MemoryError:
                signal.raise_signal(signal.SIGKILL)

    child = process(consume)
    child.join(WATCHDOG)
    assert child.exitcode == -signal.SIGKILL
    assert ring.recv(timeout=WATCHDOG) == PATTERN
