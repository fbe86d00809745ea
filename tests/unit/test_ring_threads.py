"""Threads of one process take turns at an end; close() ends their waits."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest

import shmkit
from support import wait_until

WAITS: dict[str, Callable[[shmkit.Ring], object]] = {
    "recv": lambda ring: ring.recv(),
    "recv_into": lambda ring: ring.recv_into(bytearray(9)),
    "recv_many": lambda ring: ring.recv_many(timeout=30),
    "recv_many_into": lambda ring: ring.recv_many_into(bytearray(9), 3),
    "recv_view": lambda ring: ring.recv_view(),
    "iteration": next,
    "send": lambda ring: ring.send(bytes(900)),
    "send_many": lambda ring: ring.send_many([bytes(900)], timeout=30),
    "rows": lambda ring: ring.send_many(bytes(900), itemsize=900),
    "reserve": lambda ring: ring.reserve(900),
}


@pytest.fixture
def hurried_threads() -> Iterator[None]:
    """Threads change as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("threads", [1, 3])
def test_close_wakes_every_thread_that_waits(wait: str, threads: int) -> None:
    """Closed in each of them: the one that sleeps on the ring, and those that wait for their turn behind it."""
    ring = shmkit.Ring.create(capacity=1024)
    ring.send(bytes(200))
    if "recv" in wait or wait == "iteration":
        ring.recv()
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(WAITS[wait], ring) for _ in range(threads)]
        try:
            wait_until(lambda: ring.statistics().producer_waits + ring.statistics().consumer_waits > 0)
        finally:
            ring.close()
        for future in waiting:
            with pytest.raises(shmkit.Closed, match="closed by this process"):
                future.result(timeout=30)


def claimed_meanwhile(first: Callable[[], object], then: Callable[[], object]) -> None:
    """Calls `first`; `then` in another thread while Python runs in the middle of that one's claim of a role."""
    others: list[threading.Thread] = []

    def hurry(_ring: shmkit.Ring) -> None:
        if not others:
            others.append(threading.Thread(target=then))
            others[0].start()
            others[0].join(1)  # without a GIL it waits for its turn

    with mock.patch("shmkit._end.close_at_end", hurry):
        first()
    others[0].join(30)
    assert not others[0].is_alive()


def test_two_threads_that_become_an_end_at_once_are_the_same_end() -> None:
    """The second finds that the process is it already, and does not begin anew what the first has begun."""
    with shmkit.Ring.create(capacity=4096) as ring:
        claimed_meanwhile(lambda: ring.send(b"first"), ring._room_fileno)
        ring.send(b"second")
        claimed_meanwhile(ring.recv, ring.fileno)
        assert ring.recv() == b"second"


def test_an_end_that_is_closed_while_a_thread_becomes_it_is_not_taken(name: str) -> None:
    """Closed; somebody else may have the role."""
    with shmkit.Ring.create(name, 4096, lifetime="leased") as other:
        ring = shmkit.Ring.attach(name)
        with pytest.raises(shmkit.Closed):
            claimed_meanwhile(ring.recv, ring.close)
        assert other.try_recv() is None


def test_two_threads_may_be_the_two_ends() -> None:
    """A ring within one process is a queue of bytes."""
    records = [random.Random(n).randbytes(n * 37 % 700) for n in range(3000)]
    with shmkit.Ring.create(capacity=2048) as ring, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(lambda: [ring.send(record, timeout=30) for record in records])
        assert [ring.recv(timeout=30) for _ in records] == records
        sending.result()


@pytest.mark.usefixtures("hurried_threads")
def test_threads_share_an_end_without_mixing_their_records() -> None:
    """Three send, three receive, all ways mixed: each record arrives once and whole, each sender's in order."""
    senders, receivers, count = 3, 3, 1500

    def record(sender: int, number: int) -> bytes:
        return bytes([sender]) + number.to_bytes(3, "big") + bytes([number % 251]) * (number * 13 % 200)

    def send(ring: shmkit.Ring, sender: int) -> None:
        chance = random.Random(sender)
        number = 0
        while number < count:
            way = chance.randrange(4)
            data = record(sender, number)
            try:
                if way == 0:
                    batch = [record(sender, n) for n in range(number, min(number + 5, count))]
                    number += ring.send_many(batch, timeout=30)
                    continue
                if way == 1 and len(data) > 20:
                    with ring.reserve(len(data), timeout=30) as inside:
                        inside[:] = data
                elif way == 2:
                    if not ring.try_send(data):
                        continue
                else:
                    ring.send(data, timeout=30)
            except RuntimeError as error:
                assert "open reservation" in str(error)  # another thread's
                continue
            number += 1

    def receive(ring: shmkit.Ring, seed: int) -> list[bytes]:
        chance = random.Random(seed)
        got: list[bytes] = []
        try:
            while True:
                way = chance.randrange(4)
                if way == 0:
                    got += ring.recv_many(chance.randrange(1, 9))
                elif way == 1:
                    view = ring.recv_view()
                    got.append(bytes(view.buf))
                    view.release()
                elif way == 2:
                    got += [item for item in [ring.try_recv()] if item is not None]
                else:
                    got.append(ring.recv())
        except (shmkit.EndOfStream, shmkit.Closed):
            return got

    with shmkit.Ring.create(capacity=4096) as ring, ThreadPoolExecutor(senders + receivers) as pool:
        receiving = [pool.submit(receive, ring, seed) for seed in range(receivers)]
        sending = [pool.submit(send, ring, sender) for sender in range(senders)]
        try:
            for future in sending:
                future.result(timeout=60)
            wait_until(lambda: len(ring) == 0 and ring.free == ring.capacity)
        finally:
            ring.close()
        got = [future.result(timeout=30) for future in receiving]
    for received in got:
        for sender in range(senders):
            numbers = [int.from_bytes(item[1:4], "big") for item in received if item[0] == sender]
            assert numbers == sorted(numbers)
    everything = sorted(item for received in got for item in received)
    assert everything == sorted(record(sender, n) for sender in range(senders) for n in range(count))


@pytest.mark.usefixtures("hurried_threads")
def test_views_may_end_in_another_thread_than_they_came_in() -> None:
    """While that one receives rows, copies and more views: nothing that is held is overwritten, all room comes back."""
    count = 20_000
    with shmkit.Ring.create(capacity=4096) as ring, ThreadPoolExecutor(3) as pool:
        held: list[tuple[shmkit.RecordView, int]] = []
        done = threading.Event()

        def send() -> None:
            for number in range(count):
                ring.send(number.to_bytes(8, "big"), timeout=30)

        def let_go(seed: int) -> int:
            chance = random.Random(seed)
            ended = 0
            while held or not done.is_set():
                try:
                    view, number = held.pop(chance.randrange(len(held) or 1))
                except IndexError:
                    continue
                assert int.from_bytes(view.buf, "big") == number
                if chance.random() < 0.5:
                    view.release()
                del view
                ended += 1
            return ended

        sending = pool.submit(send)
        ending = [pool.submit(let_go, seed) for seed in range(2)]
        chance = random.Random(0)
        number = taken = 0
        rows = np.zeros(64, ">u8")
        try:
            while number < count:
                if chance.random() < 0.4 and len(held) < 50:
                    view = ring.recv_view(timeout=30)
                    assert int.from_bytes(view.buf, "big") == number
                    held.append((view, number))
                    del view
                    taken += 1
                    number += 1
                else:
                    got = ring.recv_many_into(rows, 8, timeout=30)
                    assert rows[:got].tolist() == list(range(number, number + got))
                    number += got
        finally:
            done.set()
            assert sum(future.result(timeout=30) for future in ending) == taken
            sending.result(timeout=30)
        assert ring.free == ring.capacity
