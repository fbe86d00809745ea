"""Time-outs of every call that waits: what they may be, and that they hold."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import shmkit
from support import wait_until

Call = Callable[[shmkit.Ring, Any], object]

RECEIVING: dict[str, Call] = {
    "recv": lambda ring, timeout: ring.recv(timeout),
    "recv_into": lambda ring, timeout: ring.recv_into(bytearray(8), timeout),
    "recv_many": lambda ring, timeout: ring.recv_many(5, timeout),
    "recv_many_into": lambda ring, timeout: ring.recv_many_into(bytearray(64), 8, timeout),
    "recv_view": lambda ring, timeout: ring.recv_view(timeout),
}
SENDING: dict[str, Call] = {
    "send": lambda ring, timeout: ring.send(bytes(400), timeout),
    "send an array": lambda ring, timeout: ring.send(np.zeros(50), timeout),
    "send_many": lambda ring, timeout: ring.send_many([bytes(400)], timeout),
    "send_many of rows": lambda ring, timeout: ring.send_many(bytes(400), timeout, itemsize=400),
    "reserve": lambda ring, timeout: ring.reserve(400, timeout=timeout),
    "reserve an array": lambda ring, timeout: ring.reserve((50,), "f8", timeout),
}
WAITING = {**RECEIVING, **SENDING}

each_wait = pytest.mark.parametrize("call", WAITING)


def fill(ring: shmkit.Ring) -> None:
    """Two records, each half of the ring."""
    ring.send_many([bytes(504), bytes(504)])


@pytest.fixture
def ring(call: str) -> Iterator[shmkit.Ring]:
    """A ring on which the call has to wait: an empty one, or a full one."""
    with shmkit.Ring.create(capacity=1024) as ring:
        if call in SENDING:
            fill(ring)
        yield ring


def parked(ring: shmkit.Ring) -> bool:
    """a thread sleeps on the ring"""
    now = ring.statistics()
    return now.producer_waits + now.consumer_waits > 0


@each_wait
@pytest.mark.parametrize(
    "timeout", [0, 0.0, -1, -0.5, -math.inf, -(10**400), 0.02, np.float32(0.01), np.float64(0.01), np.int64(0)], ids=str
)
def test_a_timeout_is_a_number_of_seconds(ring: shmkit.Ring, call: str, timeout: Any) -> None:
    """TimeoutError after so long, at once if there is nothing to wait; the ring serves on."""
    before = ring.statistics()
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match="ring"):
        WAITING[call](ring, timeout)
    assert time.monotonic() - begun >= float(max(timeout, -1))
    after = ring.statistics()
    assert (after.sent, after.received) == (before.sent, before.received)
    while ring.try_recv() is not None:
        pass
    ring.send(b"next")
    assert ring.recv() == b"next"


@each_wait
@pytest.mark.parametrize("timeout", [True, False, "1", b"1", [1], 1j, Fraction(1, 2), object], ids=repr)
def test_what_is_no_number_of_seconds_is_refused(ring: shmkit.Ring, call: str, timeout: Any) -> None:
    """TypeError that shows what was given."""
    with pytest.raises(TypeError, match="timeout must be a number of seconds or None"):
        WAITING[call](ring, timeout)


@each_wait
def test_nan_is_refused(ring: shmkit.Ring, call: str) -> None:
    """No instant is so many seconds away."""
    for nan in (math.nan, np.float32("nan")):
        with pytest.raises(ValueError, match="nan"):
            WAITING[call](ring, nan)


@each_wait
@pytest.mark.parametrize("timeout", [None, 30, 1e9, 1e300, math.inf, 10**18, 10**400], ids=repr)
def test_a_long_wait_ends_with_what_was_waited_for(ring: shmkit.Ring, call: str, timeout: Any) -> None:
    """None is for ever, and so is what no clock reaches; a record, or room, ends it."""
    waiter = threading.Thread(target=WAITING[call], args=(ring, timeout))
    waiter.start()
    try:
        wait_until(lambda: parked(ring))
    finally:
        if call in SENDING:
            ring.recv()
        else:
            ring.send(b"12345678")
        waiter.join()
    if call in RECEIVING:
        assert len(ring) == 0
    else:
        assert len(ring) == (1 if call.startswith("reserve") else 2)


@each_wait
def test_a_waiting_call_that_need_not_wait_takes_any_timeout(ring: shmkit.Ring, call: str) -> None:
    """Zero is enough for what is there."""
    if call in SENDING:
        ring.recv_many()
    else:
        ring.send(b"12345678")
    WAITING[call](ring, 0)


@pytest.mark.parametrize("call", SENDING)
def test_a_message_about_time_says_that_the_ring_was_full(name: str, call: str) -> None:
    """And which one it was."""
    with shmkit.Ring.create(name, 1024, lifetime="leased") as ring:
        fill(ring)
        with pytest.raises(TimeoutError, match=rf"{name}.*full"):
            WAITING[call](ring, 0)


@pytest.mark.parametrize("call", RECEIVING)
def test_a_message_about_time_says_that_the_ring_was_empty(name: str, call: str) -> None:
    """And which one it was."""
    with shmkit.Ring.create(name, 1024, lifetime="leased") as ring:
        with pytest.raises(TimeoutError, match=rf"{name}.*empty"):
            WAITING[call](ring, 0)


@pytest.mark.parametrize("call", ["send_many", "send_many of rows"])
def test_the_timeout_of_a_batch_is_for_all_of_it(call: str) -> None:
    """Room that comes again and again does not start the clock again."""
    with shmkit.Ring.create(capacity=1024) as ring:
        ring.recv_many(1) if ring.try_send(b"") else None
        done = threading.Event()

        def drain() -> None:
            while not done.wait(0.01):
                while ring.try_recv() is not None:
                    pass

        drainer = threading.Thread(target=drain)
        drainer.start()
        try:
            with pytest.raises(TimeoutError) as caught:
                if call == "send_many":
                    ring.send_many((bytes(500) for _ in range(10**9)), 0.1)
                else:
                    ring.send_many(bytes(500 * 20_000), 0.1, itemsize=500)
        finally:
            done.set()
            drainer.join()
        assert caught.value.sent > 1  # type: ignore[attr-defined]
        assert ring.statistics().sent == caught.value.sent + 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("call", ["recv", "send"])
def test_waiting_for_another_thread_counts(call: str, ring: shmkit.Ring) -> None:
    """Who waits for its turn behind a thread that waits for the other process has its own time-out."""
    first = threading.Thread(target=WAITING[call], args=(ring, 30))
    first.start()
    try:
        wait_until(lambda: parked(ring))
        with pytest.raises(TimeoutError, match="another thread"):
            WAITING[call](ring, 0.05)
        assert (ring.try_recv() is None) if call == "recv" else not ring.try_send(b"x")
    finally:
        if call == "send":
            ring.recv()
        else:
            ring.send(b"12345678")
        first.join()
