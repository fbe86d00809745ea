"""Signals during a ring's waits: a storm of them, Ctrl-C, and handlers that raise or that use the ring themselves.

Timers run in children only (the tests' own time-out is one).  A child has failed unless it ends with status 0.
"""

from __future__ import annotations

import itertools
import mmap
import multiprocessing
import os
import random
import signal
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

import shmkit
from support import Processes, wait_until

WATCHDOG = 40.0
Action = Callable[[], object]
ROW = 24  # bytes of a record, where all have to be of one size


@pytest.fixture
def ring() -> Iterator[shmkit.Ring]:
    with shmkit.Ring.create(capacity=1024) as ring:
        yield ring


# ── records with a number and a checksum; every way to send and to receive them ─────────────────────────────────────


def record(number: int, size: int = ROW) -> bytes:
    body = random.Random(number).randbytes(size - 8)
    return struct.pack("<II", number, zlib.crc32(body)) + body


def check(received: bytes, number: int) -> None:
    assert struct.unpack_from("<II", received) == (number, zlib.crc32(received[8:]))


def take_view(ring: shmkit.Ring, timeout: float | None) -> list[bytes]:
    with ring.recv_view(timeout) as inside:
        return [bytes(inside)]


def take_into(ring: shmkit.Ring, timeout: float | None, many: bool = False) -> list[bytes]:
    buffer = bytearray(ROW * 10)
    if many:
        return [bytes(buffer[ROW * n :][:ROW]) for n in range(ring.recv_many_into(buffer, ROW, timeout))]
    return [bytes(buffer[: ring.recv_into(buffer, timeout)])]


def put_reserved(ring: shmkit.Ring, items: list[bytes], timeout: float | None) -> None:
    with ring.reserve((len(items[0]),), "u1", timeout=timeout) as inside:
        inside[:] = np.frombuffer(items[0], "u1")


TAKES: dict[str, Callable[[shmkit.Ring, float | None], list[bytes]]] = {
    "recv": lambda ring, timeout: [bytes(ring.recv(timeout))],
    "recv_view": take_view,
    "recv_into": take_into,
    "recv_many": lambda ring, timeout: [bytes(item) for item in ring.recv_many(7, timeout)],
    "recv_many_into": lambda ring, timeout: take_into(ring, timeout, many=True),
    "iteration": lambda ring, timeout: [bytes(next(ring))],
}
PUTS: dict[str, Callable[[shmkit.Ring, list[bytes], float | None], object]] = {
    "send": lambda ring, items, timeout: ring.send(items[0], timeout),
    "send_many": lambda ring, items, timeout: ring.send_many(items, timeout),
    "send_many rows": lambda ring, items, timeout: ring.send_many(b"".join(items), timeout, itemsize=len(items[0])),
    "reserve": put_reserved,
}


def step(ring: shmkit.Ring, how: str, timeout: float | None = WATCHDOG, size: int = ROW) -> None:
    """Sends the record that is next, or a few, or receives and checks them."""
    now = ring.statistics()
    if how in PUTS:
        PUTS[how](ring, [record(now.sent + n, size) for n in range(4)], timeout)
    else:
        for number, item in enumerate(TAKES[how](ring, timeout), now.received):
            check(item, number)


def fill(ring: shmkit.Ring) -> None:
    while ring.try_send(record(ring.statistics().sent)):
        pass


# ── children and storms ─────────────────────────────────────────────────────────────────────────────────────────────


def start(process: Processes, target: Callable[[Connection], object]) -> tuple[BaseProcess, Connection]:
    """Forks a child that runs `target` with its end of a pipe."""
    ours, theirs = multiprocessing.Pipe()
    with theirs:
        return process(target, theirs), ours


def hear(pipe: Connection, word: str) -> None:
    assert pipe.poll(WATCHDOG)
    assert pipe.recv() == word


def end_well(*children: BaseProcess) -> None:
    for child in children:
        child.join(WATCHDOG)
        assert child.exitcode == 0


def waits_of(ring: shmkit.Ring) -> int:
    return ring.statistics().consumer_waits + ring.statistics().producer_waits


def send_signal(ring: shmkit.Ring, child: BaseProcess, number: int, waits: int = 1) -> None:
    """Once somebody sleeps on the ring, for so many rounds; nobody else moves it meanwhile."""
    end = waits_of(ring) + waits
    wait_until(lambda: waits_of(ring) >= end, WATCHDOG)
    os.kill(child.pid or 0, number)


class Stop(Exception):
    """Raised by a handler."""


class Storm:
    """A timer signal every so often, with a handler in Python that raises Stop, once, whenever it is armed."""

    def __init__(self, period: float = 0.001) -> None:
        self.signals = self.raised = self.armed = 0
        signal.signal(signal.SIGALRM, self._handle)
        signal.setitimer(signal.ITIMER_REAL, period, period)

    def _handle(self, *_: object) -> None:
        self.signals += 1
        if self.armed:
            self.armed = False
            self.raised += 1
            raise Stop

    def let_pass(self, signals: int) -> None:
        end = self.signals + signals
        while self.signals < end:
            signal.pause()


@pytest.mark.parametrize("timeout", [None, WATCHDOG])
def test_nothing_is_lost_in_a_storm(process: Processes, ring: shmkit.Ring, timeout: float | None) -> None:
    """A signal each millisecond at both ends, every way of sending and receiving: no gap, no TimeoutError."""

    def end(ways: list[str]) -> None:
        chance = random.Random(ways[0])
        storm = Storm()
        while ring.statistics().sent < 3000 or "recv" in ways:
            try:
                step(ring, chance.choice(ways), timeout, chance.choice([ROW, chance.randrange(8, 200)]))
            except (shmkit.EndOfStream, StopIteration):
                break
            except ValueError:  # recv_many_into, and the next record is not of ROW bytes
                continue
            if chance.random() < 0.05:
                storm.let_pass(3)

    end_well(process(end, list(PUTS)), process(end, list(TAKES)))
    now = ring.statistics()
    assert now.received == now.sent >= 3000
    assert min(now.producer_waits, now.consumer_waits) > 0


@pytest.mark.parametrize("how", [way for way in (*TAKES, *PUTS) if way != "iteration"])
def test_a_time_out_holds_in_a_storm(process: Processes, ring: shmkit.Ring, how: str) -> None:
    """It comes, and not before its time, however often the wait is interrupted; nothing is lost by it."""

    def child() -> None:
        if how in PUTS:
            fill(ring)
        Storm()
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="full" if how in PUTS else "empty"):
            step(ring, how, 0.25)
        assert time.monotonic() - began >= 0.25
        while ring.statistics().waiting:
            step(ring, "recv", 0)
        step(ring, how if how in PUTS else "send")
        step(ring, how if how in TAKES else "recv")

    end_well(process(child))


@pytest.mark.parametrize("how", ["recv", "send"])
def test_a_death_is_noticed_in_a_storm(process: Processes, ring: shmkit.Ring, how: str) -> None:
    """PeerDied comes out of a wait without time-out that is interrupted all the time."""

    def survive() -> None:
        Storm(0.005)
        with pytest.raises(shmkit.PeerDied):
            while True:
                step(ring, how, None)

    def die(pipe: Connection) -> None:
        step(ring, "send" if how == "recv" else "recv")
        pipe.send("ready")
        signal.pause()

    survivor = process(survive)
    victim, pipe = start(process, die)
    hear(pipe, "ready")
    send_signal(ring, victim, signal.SIGKILL, waits=40)
    limit = waits_of(ring) + 500
    end_well(survivor)
    assert waits_of(ring) < limit  # each signal ends a round of waiting: this counts signals, not time


@pytest.mark.parametrize("how", [*TAKES, *PUTS])
def test_ctrl_c_comes_out_of_every_wait(process: Processes, ring: shmkit.Ring, how: str) -> None:
    """KeyboardInterrupt out of a wait without time-out, time and again; no record is lost, torn or sent twice."""

    def run(pipe: Connection) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        while True:
            try:
                step(ring, how, None)
            except KeyboardInterrupt:  # noqa: PERF203
                pipe.send("interrupted")
            except (shmkit.EndOfStream, StopIteration, shmkit.Broken):
                break

    child, pipe = start(process, run)
    for _ in range(3):
        send_signal(ring, child, signal.SIGINT)
        hear(pipe, "interrupted")
        for _ in range(50):  # more than the ring holds
            step(ring, "send" if how in TAKES else "recv")
        wait_until(lambda: how in PUTS or not ring.statistics().waiting)
    ring.close()
    end_well(child)


@pytest.mark.parametrize("stream", ["items", "rows"])
def test_ctrl_c_comes_out_of_a_stream_that_hardly_waits(process: Processes, stream: str) -> None:
    """Where the consumer keeps up, and no bytecode runs: little more is sent once the signal is there."""

    def produce() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # 32 GiB of the kernel's one page of zeros
        with mmap.mmap(-1, 2**35, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ) as rows:
            with pytest.raises(KeyboardInterrupt):
                if stream == "rows":
                    ring.send_many(rows, itemsize=64)
                ring.send_many(itertools.repeat(bytes(64)))

    buffer = bytearray(64 * 1024)
    with shmkit.Ring.create(capacity="64 KiB") as ring:
        child = process(produce)
        while ring.statistics().received < 100_000:
            ring.recv_many_into(buffer, 64, WATCHDOG)
        os.kill(child.pid or 0, signal.SIGINT)
        limit = ring.statistics().sent + 200_000
        with pytest.raises(shmkit.EndOfStream):
            while True:
                ring.recv_many_into(buffer, 64, WATCHDOG)
                # A process that does not run sends nothing: this counts what it did, not how long it took.
                assert ring.statistics().sent < limit
        end_well(child)


def test_recv_many_ends_while_the_producer_goes_on(process: Processes) -> None:
    """It takes what is there, at most what the ring holds, and so keeps no signal waiting."""
    with shmkit.Ring.create(capacity="64 KiB") as ring:
        process(lambda: ring.send_many(itertools.repeat(bytes(64))))
        for _ in range(300):
            assert len(ring.recv_many(timeout=WATCHDOG)) <= ring.capacity // 72


@pytest.mark.parametrize("how", ["send", "send_many", "reserve"])
def test_a_handler_that_raises_leaves_the_ring_usable(process: Processes, ring: shmkit.Ring, how: str) -> None:
    """Again and again, at both ends: a record was sent (received) or it was not, and the counters say which."""
    buffer = bytearray(ROW)
    seen = 0

    def produce() -> bool:
        step(ring, how, None)
        return ring.statistics().sent < 500

    def consume() -> bool:
        nonlocal seen
        # What recv_into has stored is there even where the exception comes between its return and the next line.
        if ring.statistics().received == seen:
            ring.recv_into(buffer, None)
        check(bytes(buffer), seen)
        seen += 1
        return True

    def through_it(end: Callable[[], bool]) -> None:
        storm = Storm()
        goes_on = True
        while goes_on or storm.raised < 20:
            ended = False
            try:
                try:
                    storm.armed = True
                    goes_on = end()
                except shmkit.EndOfStream:
                    ended = True
                storm.armed = False
            except Stop:
                continue
            if ended:
                break
            if ring.statistics().sent % 8 == 0:
                storm.let_pass(3)  # so that the other end waits
        storm.armed = False
        ring.close()

    end_well(process(through_it, produce), process(through_it, consume))


# ── handlers that use the ring ──────────────────────────────────────────────────────────────────────────────────────


def in_a_wait(process: Processes, ring: shmkit.Ring, wait: Action, handler: Action) -> BaseProcess:
    """Starts a child that runs `handler` as a signal handler while it is in `wait`; returns when it has."""

    def run(pipe: Connection) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: (handler(), pipe.send("handled")))
        wait()

    child, pipe = start(process, run)
    send_signal(ring, child, signal.SIGUSR1)
    hear(pipe, "handled")
    return child


@pytest.mark.parametrize("how", [*TAKES, *PUTS])
def test_a_handler_cannot_use_the_end_that_waits(process: Processes, ring: shmkit.Ring, how: str) -> None:
    """RuntimeError in the handler instead of a hang; the wait goes on, and does its one thing once."""

    def handler() -> None:
        for call in PUTS if how in PUTS else TAKES:
            with pytest.raises(RuntimeError, match="in use by this very thread"):
                step(ring, call, None)
        for refused in [lambda: ring.try_send(b"x")] if how in PUTS else [ring.try_recv, ring.peek]:
            with pytest.raises(RuntimeError, match="in use by this very thread"):
                refused()

    def wait() -> None:
        if how in PUTS:
            fill(ring)
        step(ring, how, None)

    child = in_a_wait(process, ring, wait, handler)
    for _ in range(8):
        step(ring, "recv" if how in PUTS else "send")
    end_well(child)


@pytest.mark.parametrize("case", ["send", "recv", "view"])
def test_a_handler_may_use_the_other_end(process: Processes, ring: shmkit.Ring, case: str) -> None:
    """And other rings: a wait receives what its own handler sends, and sends into the room that its handler makes."""
    views: list[shmkit.RecordView] = []

    def wait() -> None:
        if case != "send":
            fill(ring)
        if case == "view":
            views.append(ring.recv_view())
        step(ring, "recv" if case == "send" else "send", None)

    with shmkit.Ring.create(capacity=1024) as other:

        def handler() -> None:
            step(other, "send_many")
            step(other, "recv_view")
            views.pop().release() if case == "view" else step(ring, case, 0)

        end_well(in_a_wait(process, ring, wait, handler))


def test_a_handler_may_close_the_ring(process: Processes, ring: shmkit.Ring) -> None:
    """Closed comes out of the wait, and the other end is told."""

    def wait() -> None:
        fill(ring)
        with pytest.raises(shmkit.Closed, match="closed by this process"):
            step(ring, "send", None)

    child = in_a_wait(process, ring, wait, ring.close)
    for number, item in enumerate(ring):
        check(item, number)
    end_well(child)


def test_nothing_is_lost_where_threads_wait_in_a_storm(process: Processes, ring: shmkit.Ring) -> None:
    """Four threads at each end, one of them the main one, which handles the signals: each record arrives once."""

    def produce(thread: int) -> None:
        for number in range(thread * 300, thread * 300 + 300):
            ring.send(record(number), WATCHDOG)

    received: list[int] = []

    def consume(_: int) -> None:
        for item in ring:
            check(item, struct.unpack_from("<I", item)[0])
            received.append(struct.unpack_from("<I", item)[0])

    def in_threads(work: Callable[[int], None]) -> None:
        Storm()
        with ThreadPoolExecutor(3) as pool:
            others = pool.map(work, [1, 2, 3])
            work(0)
            assert list(others) == [None] * 3
        assert sorted(received) == (list(range(1200)) if work is consume else [])

    end_well(process(in_threads, produce), process(in_threads, consume))


@pytest.mark.parametrize("first", ["main", "other"])
def test_ctrl_c_comes_out_where_two_threads_wait(process: Processes, ring: shmkit.Ring, first: str) -> None:
    """Of the main thread, whether it sleeps on the ring or behind the other, which gets the next record."""

    def run(pipe: Connection) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def other() -> None:
            wait_until(lambda: first == "other" or ring.statistics().consumer_waits)
            step(ring, "recv", None)

        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(other)
            wait_until(lambda: first == "main" or ring.statistics().consumer_waits)
            with pytest.raises(KeyboardInterrupt):
                pipe.send("waiting")
                ring.recv()
            pipe.send("interrupted")
            waiting.result()

    child, pipe = start(process, run)
    hear(pipe, "waiting")
    wait_until(lambda: Path(f"/proc/{child.pid}/stat").read_text().rpartition(") ")[2][0] == "S")
    send_signal(ring, child, signal.SIGINT)
    hear(pipe, "interrupted")
    step(ring, "send")
    end_well(child)
