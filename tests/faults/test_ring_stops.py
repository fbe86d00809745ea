"""A stopped end of a ring is slow, not dead: time-outs hold, and nothing is lost or doubled when it goes on."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

import shmkit
from faults.killing import number_of, record
from support import Processes, wait_until
from support.log import Log

WATCHDOG = 30.0
CAPACITY = 4096
RECORDS = 60
# What the ends tell each other and the test, in a Log.
THERE, GO, DONE, TIMED_OUT = range(4)


def stop(pid: int | None) -> None:
    """Stops a child, and returns when the kernel says that it stands still (or has ended)."""
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def go_on(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGCONT)


def fill(ring: shmkit.Ring, number: int) -> int:
    while ring.try_send(record(number)):
        number += 1
    return number


# ── producers, each of which is to be stopped where it says so ──────────────────────────────────────────────────────


def at_rest(ring: shmkit.Ring, log: Log) -> int:
    """Between two calls."""
    ring.send(record(0), timeout=WATCHDOG)
    log[THERE] = 1
    wait_until(lambda: log[GO])
    return 1


def parked_for_room(ring: shmkit.Ring, log: Log) -> int:
    """In send, asleep: the ring is full."""
    number = fill(ring, 0)
    log[THERE] = 1
    ring.send(record(number), timeout=WATCHDOG)
    return number + 1


def with_a_reservation(ring: shmkit.Ring, log: Log) -> int:
    """Within reserve, half of the payload written."""
    ring.send(record(0), timeout=WATCHDOG)
    data = record(1)
    with ring.reserve(len(data), timeout=WATCHDOG) as slot:
        slot[: len(data) // 2] = data[: len(data) // 2]
        log[THERE] = 1
        wait_until(lambda: log[GO])
        slot[len(data) // 2 :] = data[len(data) // 2 :]
    return 2


@pytest.mark.parametrize("where", [at_rest, parked_for_room, with_a_reservation])
def test_a_stopped_producer_is_waited_for(process: Processes, where: Callable[[shmkit.Ring, Log], int]) -> None:
    """What it had committed arrives; then there is nothing, and no PeerDied; then it goes on where it was."""
    log = Log()
    with shmkit.Ring.create(capacity=CAPACITY) as ring:

        def produce() -> None:
            for number in range(where(ring, log), RECORDS):
                ring.send(record(number), timeout=WATCHDOG)
            ring.close()

        child = process(produce)
        wait_until(lambda: log[THERE])
        wait_until(lambda: where is not parked_for_room or ring.statistics().producer_waits)
        stop(child.pid)
        committed = ring.statistics().sent
        for number in range(committed):
            assert number_of(ring.recv(timeout=WATCHDOG)) == number
        for _ in range(600):  # those who never wait ask the kernel now and then, too
            assert ring.try_recv() is None
        for wait in (ring.recv, ring.recv_view, ring.recv_many):
            with pytest.raises(TimeoutError):
                wait(timeout=0.06)
        go_on(child.pid)
        log[GO] = 1
        expected = committed
        for item in ring:
            assert number_of(item) == expected
            expected += 1
        assert expected == RECORDS
        child.join(WATCHDOG)
        assert child.exitcode == 0


# ── and consumers ───────────────────────────────────────────────────────────────────────────────────────────────────


def idle(ring: shmkit.Ring, log: Log) -> int:
    """In recv, asleep: the ring is empty."""
    assert number_of(ring.recv(timeout=WATCHDOG)) == 0
    log[THERE] = 1
    assert number_of(ring.recv(timeout=WATCHDOG)) == 1
    return 2


def between_calls(ring: shmkit.Ring, log: Log) -> int:
    assert number_of(ring.recv(timeout=WATCHDOG)) == 0
    log[THERE] = 1
    wait_until(lambda: log[GO])
    return 1


def with_a_view(ring: shmkit.Ring, log: Log) -> int:
    """What it views is not written over meanwhile."""
    with ring.recv_view(timeout=WATCHDOG) as view:
        log[THERE] = 1
        wait_until(lambda: log[GO])
        assert number_of(view) == 0
    return 1


@pytest.mark.parametrize("where", [idle, between_calls, with_a_view])
def test_a_stopped_consumer_is_waited_for(process: Processes, where: Callable[[shmkit.Ring, Log], int]) -> None:
    """The ring fills up, and the producer's time-outs hold; no PeerDied; all arrives when it goes on."""
    log = Log()
    with shmkit.Ring.create(capacity=CAPACITY) as ring:

        def consume() -> None:
            expected = where(ring, log)
            for item in ring:
                assert number_of(item) == expected
                expected += 1
            assert expected == log[DONE]

        child = process(consume)
        ring.send(record(0), timeout=WATCHDOG)
        wait_until(lambda: log[THERE])
        slept = ring.statistics().consumer_waits
        wait_until(lambda: where is not idle or ring.statistics().consumer_waits > slept)
        stop(child.pid)
        number = fill(ring, 1)
        assert number > CAPACITY // 340
        for _ in range(600):
            assert not ring.try_send(record(number))
        with pytest.raises(TimeoutError):
            ring.send(record(number), timeout=0.06)
        with pytest.raises(TimeoutError):
            ring.reserve(300, timeout=0.06)
        with pytest.raises(TimeoutError) as cut:
            ring.send_many([record(number)], timeout=0.06)
        assert cut.value.sent == 0  # type: ignore[attr-defined]
        go_on(child.pid)
        log[GO] = 1
        for _ in range(RECORDS):
            ring.send(record(number), timeout=WATCHDOG)
            number += 1
        log[DONE] = number
        ring.close()
        child.join(WATCHDOG)
        assert child.exitcode == 0


# ── in the middle of a stream ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("who", ["producer", "consumer", "each", "both"])
def test_a_stream_is_stopped_at_random_instants(process: Processes, who: str) -> None:
    """Sixty times, at whatever instruction: the other end times out and tries again; each record arrives once."""
    log = Log()
    chance = random.Random(who)
    with shmkit.Ring.create(capacity=CAPACITY) as ring:

        def patiently(call: Callable[..., Any], *arguments: object) -> Any:
            while True:
                try:
                    return call(*arguments, timeout=0.004)
                except TimeoutError:  # noqa: PERF203
                    log[TIMED_OUT] = log[TIMED_OUT] + 1

        def produce() -> None:
            number = 0
            while not log[DONE]:
                data = record(number)
                if number % 3:
                    patiently(ring.send, data)
                else:
                    with patiently(ring.reserve, len(data)) as inside:
                        inside[:] = data
                number += 1
            log[GO] = number
            ring.close()

        def consume() -> None:
            expected = 0
            while True:
                try:
                    item = patiently(ring.recv_view if expected % 3 else ring.recv)
                except shmkit.EndOfStream:
                    break
                with item if isinstance(item, shmkit.RecordView) else nullcontext(item) as inside:
                    assert number_of(inside) == expected
                expected += 1
            assert expected == log[GO] > 0

        children = [process(produce), process(consume)]
        wait_until(lambda: ring.statistics().received)
        for round_ in range(60):
            victims = {
                "producer": children[:1],
                "consumer": children[1:],
                "each": [children[round_ % 2]],
                "both": children,
            }[who]
            until = time.perf_counter() + chance.random() ** 2 * 0.004
            while time.perf_counter() < until:
                pass
            for child in victims:
                stop(child.pid)
            if who != "both" and all(child.exitcode is None for child in children):
                # The other end runs into its time-out (it may be its first in this pause).
                before = log[TIMED_OUT]
                wait_until(lambda before=before: log[TIMED_OUT] > before)  # type: ignore[misc]
            for child in victims:
                go_on(child.pid)
        log[DONE] = 1
        for child in children:
            child.join(WATCHDOG)
            assert child.exitcode == 0
