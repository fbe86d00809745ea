"""Many threads of one process on one object of each kind, doing at once whatever it can do: nothing tears or crashes.

With a GIL its threads change as often as they can; without one they run at the same time, which is what these are for
(docs/free-threading.md).  A crash is a test that does not end.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import shmkit
import shmkit.multiprocessing as mp
from shmkit._claims import Claims
from support import unique_name

# SHMKIT_STRESS=20 is twenty times as long.
SECONDS = 0.4 * float(os.environ.get("SHMKIT_STRESS", "1"))
ROUNDS = int(4 * float(os.environ.get("SHMKIT_STRESS", "1")))
PATIENCE = 30.0


@pytest.fixture(autouse=True)
def _hurried_threads() -> Iterator[None]:
    """Threads change as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Crowd:
    """Threads that begin together, and go on until they are told to stop; what one raises is raised at the end."""

    def __init__(self, *allowed: type[BaseException]) -> None:
        self.allowed = allowed
        self.stop = threading.Event()
        self.failed: list[BaseException] = []
        self.threads: list[threading.Thread] = []
        self.begin = threading.Event()

    def again(self, action: Callable[[], object], count: int = 1) -> None:
        """`action` over and over, in so many threads."""

        def run() -> None:
            while not self.stop.is_set():
                try:
                    action()
                except self.allowed:  # noqa: PERF203
                    pass

        for _ in range(count):
            self.once(run)

    def once(self, action: Callable[[], object]) -> None:
        """`action` in a thread."""

        def run() -> None:
            self.begin.wait(PATIENCE)
            try:
                action()
            except self.allowed:
                pass
            except BaseException as error:
                self.failed.append(error)
                self.stop.set()

        self.threads.append(threading.Thread(target=run, daemon=True))

    def run(self, seconds: float = SECONDS, at_last: Callable[[], object] = lambda: None) -> None:
        """Lets them go on for so long, then calls `at_last`, and waits for them all."""
        for thread in self.threads:
            thread.start()
        self.begin.set()
        self.stop.wait(seconds)
        try:
            at_last()
        finally:
            self.stop.set()
            for thread in self.threads:
                thread.join(PATIENCE)
        if self.failed:
            raise self.failed[0]
        assert not [thread for thread in self.threads if thread.is_alive()]


def message(number: int, size: int = 64) -> bytes:
    """Bytes that are whole or are not: eight of the number, over and over."""
    return number.to_bytes(8, "little") * (size // 8)


def number_in(data: Any) -> int:
    data = bytes(data)
    assert len(data) % 8 == 0
    assert data == data[:8] * (len(data) // 8), "torn"
    return int.from_bytes(data[:8], "little")


class Tally:
    """Numbers that were sent, and that came: each once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.next = 0
        self.sent: set[int] = set()
        self.came: list[int] = []

    def take(self) -> int:
        with self.lock:
            self.next += 1
            return self.next

    def check(self) -> None:
        assert len(self.came) == len(set(self.came)), "one came twice"
        assert self.sent == set(self.came)


# ---------------------------------------------------------------------------------------------------------------- rings


def test_ring_many_senders_and_receivers() -> None:
    """Each record comes once, and whole, whichever way it is sent and received."""
    ring, tally, crowd = shmkit.Ring.create(capacity="64 KiB"), Tally(), Crowd(TimeoutError)
    ring.send(b"")
    ring.recv()

    def send() -> None:
        number = tally.take()
        data = message(number, 8 * (1 + number % 200))
        if number % 3 == 0:
            ring.send(data, 5)
        elif number % 3 == 1:
            ring.send_many([data], 5)
        else:
            ring.send(np.frombuffer(data, "uint8"), 5)
        tally.sent.add(number)

    def receive(how: int) -> None:
        if how == 0:
            tally.came.append(number_in(ring.recv(0.05)))
        elif how == 1:
            tally.came.extend(map(number_in, ring.recv_many(timeout=0.05)))
        else:
            with ring.recv_view(0.05) as data:
                tally.came.append(number_in(data))

    crowd.again(send, 3)
    for how in range(3):
        crowd.again(lambda how=how: receive(how))  # type: ignore[misc]
    crowd.again(lambda: (len(ring), repr(ring), ring.statistics(), ring.free, ring.peek))
    crowd.run()
    while len(ring):
        tally.came.extend(map(number_in, ring.recv_many(timeout=5)))
    tally.check()
    ring.close()


def test_ring_views_die_anywhere() -> None:
    """Views are dropped by other threads than those that receive: what is held is never written over."""
    ring, crowd = shmkit.Ring.create(capacity="16 KiB"), Crowd(TimeoutError, IndexError)
    held: list[Any] = []
    number = iter(range(1, 1 << 60))

    def receive() -> None:
        view = ring.recv_view(0.05)
        held.append((view, number_in(view.buf)))

    def drop() -> None:
        view, expected = held.pop()
        assert number_in(view.buf) == expected
        if expected % 2:
            view.release()

    crowd.again(lambda: ring.send(message(next(number), 8 * (1 + next(number) % 60)), 0.05))
    crowd.again(receive, 2)
    crowd.again(drop, 2)
    crowd.run()
    held.clear()
    ring.close()


def test_ring_reservations() -> None:
    """One reservation at a time: another thread is refused, not let in; what is committed comes once."""
    ring, tally, crowd = shmkit.Ring.create(capacity="16 KiB"), Tally(), Crowd(TimeoutError, RuntimeError, ValueError)

    def reserve() -> None:
        number = tally.take()
        slot = ring.reserve(64, timeout=0.05)
        slot.buf[:] = message(number)
        both = [threading.Thread(target=slot.commit) for _ in range(1)] if number % 50 == 0 else []
        for thread in both:
            thread.start()
        if number % 5 == 0 and not both:
            slot.abort()
        else:
            if not both:
                slot.commit()
            tally.sent.add(number)
        for thread in both:
            thread.join()

    def send() -> None:
        number = tally.take()
        ring.send(message(number), 0.05)
        tally.sent.add(number)

    crowd.again(reserve, 2)
    crowd.again(send)
    crowd.again(lambda: tally.came.append(number_in(ring.recv(0.05))), 2)
    crowd.run()
    while len(ring):
        tally.came.append(number_in(ring.recv(5)))
    tally.check()
    ring.close()


def reserve_and_commit(ring: shmkit.Ring) -> None:
    slot = ring.reserve(64, timeout=0.1)
    slot.buf[:] = message(7)
    slot.commit()


def test_ring_closed_under_all_of_them() -> None:
    """Whoever is within a call leaves it with Closed; views and reservations outlive it."""
    for _ in range(ROUNDS):
        ring = shmkit.Ring.create(capacity="16 KiB")
        crowd = Crowd(shmkit.Closed, TimeoutError, RuntimeError, ValueError, shmkit.EndOfStream, shmkit.Broken)
        kept: list[Any] = []
        crowd.again(lambda ring=ring: ring.send(message(7)))  # type: ignore[misc]
        crowd.again(lambda ring=ring: ring.try_send(message(7)))  # type: ignore[misc]
        crowd.again(lambda ring=ring: number_in(ring.recv()))  # type: ignore[misc]
        crowd.again(lambda ring=ring, kept=kept: kept.append(ring.recv_view(0.1)))  # type: ignore[misc]
        crowd.again(lambda ring=ring: reserve_and_commit(ring))  # type: ignore[misc]
        crowd.again(lambda ring=ring: (ring.statistics(), ring.fileno(), len(ring)))  # type: ignore[misc]
        crowd.again(lambda ring=ring: repr(ring))  # type: ignore[misc]
        crowd.again(lambda kept=kept: kept.pop().release() if kept else None)  # type: ignore[misc]

        def close(ring: shmkit.Ring = ring) -> None:
            closers = [threading.Thread(target=ring.close) for _ in range(3)]
            for thread in closers:
                thread.start()
            for thread in closers:
                thread.join(PATIENCE)

        crowd.run(0.02, close)
        assert ring.closed


# --------------------------------------------------------------------------------------------------------------- queues


@pytest.mark.parametrize("maxsize", [0, 3])
def test_queue_many_producers_and_consumers(maxsize: int) -> None:
    """Small items, large ones, arrays: each comes once, and whole."""
    queue, tally, crowd = shmkit.Queue(maxsize), Tally(), Crowd(shmkit.Empty, shmkit.Full)

    def put() -> None:
        number = tally.take()
        data = message(number, 64 if number % 3 else 8192)
        queue.put(np.frombuffer(data, "uint8") if number % 2 else data, timeout=0.2)
        tally.sent.add(number)

    crowd.again(put, 3)
    crowd.again(lambda: tally.came.append(number_in(queue.get(timeout=0.05))), 2)
    crowd.again(lambda: tally.came.extend(map(number_in, queue.get_many(timeout=0.05))))
    crowd.again(lambda: (queue.qsize(), repr(queue), queue.statistics(), queue.empty(), queue.full()))
    crowd.again(lambda: queue.put_many([], True))
    crowd.run()
    while not queue.empty():
        tally.came.append(number_in(queue.get(timeout=5)))
    tally.check()
    queue.close()


@pytest.mark.parametrize("kind", ["list", "dict", "set", "bytearray", "nested"])
def test_queue_of_what_others_change(kind: str) -> None:
    """What another thread changes while it is put arrives as something that it may have been, or `put` raises."""
    queue, crowd = shmkit.Queue(), Crowd(RuntimeError, BufferError, shmkit.Empty)
    made: dict[str, Any] = {
        "list": [1] * 40,
        "dict": {str(i): i for i in range(40)},
        "set": set(range(40)),
        "bytearray": bytearray(64),
        "nested": [[i, str(i), float(i)] for i in range(20)],
    }
    thing = made[kind]
    number = iter(range(1 << 60))

    def change() -> None:
        at = next(number)
        if kind == "list":
            thing.append(at)
            del thing[: at % 3]
        elif kind == "dict":
            thing[str(at % 60)] = at
            thing.pop(str((at + 7) % 60), None)
        elif kind == "set":
            thing.add(at % 60)
            thing.discard((at + 7) % 60)
        elif kind == "bytearray":
            thing[at % 8] = at % 256
        else:
            thing[at % len(thing)] = [at, str(at), float(at)]

    def get() -> None:
        got = queue.get(timeout=0.05)
        assert type(got) is type(thing)
        if kind == "list":
            assert all(type(value) is int for value in got)
        elif kind == "dict":
            assert all(type(key) is str and type(value) is int for key, value in got.items())
        elif kind == "nested":
            assert all(str(a) == b and float(a) == c for a, b, c in got)

    crowd.again(change, 2)
    crowd.again(lambda: queue.put(thing) if queue.qsize() < 100 else time.sleep(0), 2)
    crowd.again(get, 2)
    crowd.run()
    queue.close()


def test_queue_closed_under_all_of_them() -> None:
    """Each leaves with Closed, or with what it had got; what came is the receiver's."""
    for turn in range(ROUNDS):
        queue = shmkit.Queue(4 if turn % 2 else 0)
        crowd = Crowd(shmkit.Closed, shmkit.Empty, shmkit.Full, shmkit.ShutDown)
        kept: list[Any] = []
        crowd.again(lambda queue=queue: queue.put(message(3), timeout=0.1))  # type: ignore[misc]
        crowd.again(lambda queue=queue: queue.put(np.full(4096, 5), timeout=0.1))  # type: ignore[misc]
        crowd.again(lambda queue=queue, kept=kept: kept.append(queue.get()), 2)  # type: ignore[misc]
        crowd.again(lambda queue=queue, kept=kept: kept.extend(queue.get_many(3)))  # type: ignore[misc]
        crowd.again(lambda queue=queue: (queue.statistics(), queue.fileno(), queue.qsize()))  # type: ignore[misc]
        crowd.again(lambda queue=queue: queue._poll(0.1))  # type: ignore[misc]
        crowd.again(lambda kept=kept: kept.clear())  # type: ignore[misc]

        def close(queue: Any = queue, turn: int = turn) -> None:
            if turn % 3 == 0:
                queue.shutdown(immediate=turn % 2 == 0)
            closers = [threading.Thread(target=queue.close) for _ in range(3)]
            for thread in closers:
                thread.start()
            for thread in closers:
                thread.join(PATIENCE)

        crowd.run(0.02, close)
        for item in kept:
            assert item == message(3) if isinstance(item, bytes) else (item == 5).all()


def test_an_array_is_handed_on_once() -> None:
    """Two threads that hand on one array, which a queue gave them: it arrives as often, and is nobody else's."""
    queue, other, crowd = shmkit.Queue(), shmkit.Queue(), Crowd()

    def hand_on() -> None:
        queue.put(np.arange(4096))
        array = queue.get()
        threads = [threading.Thread(target=other.put, args=(array,), kwargs={"move": True}) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        got = [other.get(timeout=5) for _ in threads]
        for one in got:
            one[:] = len(one)
        assert len(got[0]) == 4096
        assert not np.shares_memory(*got)

    crowd.again(hand_on)
    crowd.run()
    queue.close()
    other.close()


def test_many_begin_together() -> None:
    """The first queues, locks and pipes of a process, made by all of its threads at once."""

    def everything() -> None:
        queue, lock, event = shmkit.Queue(), shmkit.RLock(), shmkit.Event()
        queue.put([1, 2])
        with lock:
            event.set()
        assert queue.get(timeout=5) == [1, 2]
        one, other = mp.Pipe()
        one.send(np.zeros(5000))
        assert other.recv().shape == (5000,)
        one.close()
        other.close()
        queue.close()

    crowd = Crowd()
    crowd.again(everything, 4)
    crowd.run()


# -------------------------------------------------------------------------------------------------- segments and topics


def test_segment_closed_under_its_views() -> None:
    """Views are made and dropped while it is closed: they stay readable, or there are none any more."""
    for _ in range(ROUNDS):
        segment = shmkit.Segment.create(size=1 << 16)
        crowd = Crowd(shmkit.Closed)
        crowd.again(lambda segment=segment: segment.ndarray(1000, "int64").sum(), 2)  # type: ignore[misc]
        crowd.again(lambda segment=segment: bytes(segment.buf[:100]))  # type: ignore[misc]
        crowd.again(lambda segment=segment: (repr(segment), segment.size, segment.fd))  # type: ignore[misc]
        crowd.run(0.01, segment.close)
        assert segment.closed


def test_shared_arrays_come_and_go() -> None:
    """The memory that one thread's array leaves is another's: never two threads'."""
    crowd = Crowd()

    def use() -> None:
        mine = threading.get_ident() & 0xFFFF
        array = shmkit.full(3000, mine, "int64")
        assert (array == mine).all()
        half = array[::2]
        del array
        assert (half == mine).all()

    crowd.again(use, 4)
    crowd.again(shmkit.trim)
    crowd.run()


def test_topic_many_threads() -> None:
    """Published by several threads, received by several of one subscriber: whole, and none twice."""
    name = unique_name()
    with shmkit.Publisher.create(name, slots=64, slot_size="16 KiB") as publisher:
        subscriber, tally = shmkit.Subscriber.attach(name), Tally()
        crowd = Crowd(TimeoutError, RuntimeError)

        def publish() -> None:
            number = tally.take()
            publisher.publish(message(number, 64 if number % 2 else 8192))

        def lend() -> None:
            with publisher.loan(100, "uint64") as array:
                array[:] = tally.take()

        def receive() -> None:
            tally.came.append(number_in(subscriber.recv(0.05)))

        crowd.again(publish, 2)
        crowd.again(lend)
        crowd.again(receive, 2)
        crowd.again(lambda: (repr(subscriber), subscriber.statistics(), subscriber.fileno(), repr(publisher)))
        crowd.run()
        assert len(tally.came) == len(set(tally.came))
        subscriber.close()
    publisher.unlink()


def test_topic_closed_under_all_of_them() -> None:
    for _ in range(ROUNDS):
        publisher = shmkit.Publisher(slots=8, slot_size="16 KiB")
        subscriber = publisher.subscriber()
        crowd = Crowd(shmkit.Closed, TimeoutError, RuntimeError, shmkit.EndOfStream)
        crowd.again(lambda publisher=publisher: publisher.publish(np.arange(1000)))  # type: ignore[misc]
        crowd.again(lambda subscriber=subscriber: subscriber.recv(0.1))  # type: ignore[misc]
        crowd.again(lambda subscriber=subscriber: (subscriber.fileno(), subscriber.latest(0.1)))  # type: ignore[misc]

        def close(publisher: Any = publisher, subscriber: Any = subscriber) -> None:
            subscriber.close()
            publisher.close()

        crowd.run(0.01, close)


# ----------------------------------------------------------------------------------------------------------- primitives

EXCLUSIVE: dict[str, Callable[[], Any]] = {
    "Lock": shmkit.Lock,
    "RLock": shmkit.RLock,
    "Semaphore": lambda: shmkit.Semaphore(1),
    "undo": lambda: shmkit.Semaphore(1, undo=True),
    "Condition": shmkit.Condition,
    "write": lambda: shmkit.RWLock().write,
}


@pytest.mark.parametrize("kind", EXCLUSIVE)
def test_locks_exclude(kind: str) -> None:
    """One handle, many threads: a count that is not atomic comes out right."""
    lock, counts = EXCLUSIVE[kind](), [0, 0]
    crowd = Crowd()

    def count() -> None:
        with lock:
            before = counts[0]
            counts[0] = before + 1
            assert counts[0] == before + 1
            counts[1] += 1

    crowd.again(count, 4)
    crowd.again(lambda: repr(lock))
    crowd.run()
    assert counts[0] == counts[1]


def test_primitives_closed_under_all_of_them() -> None:
    for _ in range(ROUNDS):
        lock, event, semaphore = shmkit.Lock(), shmkit.Event(), shmkit.Semaphore(2)
        barrier, condition = shmkit.Barrier(3), shmkit.Condition()
        crowd = Crowd(shmkit.Closed, shmkit.BrokenBarrier, shmkit.ReleasedTooOften, shmkit.NotOwner)
        crowd.again(lambda lock=lock: lock.acquire(timeout=0.05) and lock.release(), 2)  # type: ignore[misc]
        crowd.again(lambda event=event: (event.wait(0.05), event.clear()))  # type: ignore[misc]
        crowd.again(lambda event=event: (event.set(), repr(event)))  # type: ignore[misc]
        crowd.again(lambda it=semaphore: it.acquire(timeout=0.05) and it.release(), 2)  # type: ignore[misc]
        crowd.again(lambda barrier=barrier: barrier.wait(0.05), 3)  # type: ignore[misc]
        crowd.again(lambda barrier=barrier: barrier.reset())  # type: ignore[misc]

        def wait(condition: Any = condition) -> None:
            with condition:
                condition.wait(0.05)
                condition.notify_all()

        crowd.again(wait, 2)

        def close(things: Any = (lock, event, semaphore, barrier, condition)) -> None:
            for thing in things:
                thing.close()

        crowd.run(0.02, close)


def test_counts_and_claims() -> None:
    """An atomic counts each; a table of claims gives no place to two."""
    word, claims, crowd = shmkit.AtomicInt64(0), Claims(100), Crowd()
    added, seen = [], Tally()

    def add() -> None:
        word.add(1)
        added.append(None)

    def claim() -> None:
        ticket = claims.offer()
        if ticket:
            assert claims.claim(ticket, 5)
            seen.came.append(ticket)
            claims.settle(ticket)

    crowd.again(add, 2)
    crowd.again(claim, 3)
    crowd.run()
    assert word.load() == len(added)
    assert len(seen.came) == len(set(seen.came))
    assert claims.used == 0


# -------------------------------------------------------------------------------------------------- pipes and channels


@pytest.mark.parametrize("size", [64, 2000, 100_000])
def test_pipe_many_threads_at_each_end(size: int) -> None:
    """The standard library's tears, where several threads send, or receive, at one end; this one takes turns."""
    one, other = mp.Pipe()
    tally, crowd = Tally(), Crowd()
    last = message(0, size)

    def send() -> None:
        while not crowd.stop.is_set():
            number = tally.take()
            tally.sent.add(number)
            one.send(np.frombuffer(message(number, size), "uint8") if number % 2 else message(number, size))

    def receive() -> None:
        while (number := number_in(other.recv())) != 0:
            tally.came.append(number)

    senders = 2
    for _ in range(senders):
        crowd.once(send)
    readers = [threading.Thread(target=receive, daemon=True) for _ in range(2)]
    for thread in readers:
        thread.start()
    crowd.run()
    for _ in readers:
        one.send(last)
    for thread in readers:
        thread.join(PATIENCE)
    tally.check()
    one.close()
    other.close()


@pytest.mark.parametrize("kind", ["pipe", "unix", "ring"])
def test_channel_many_threads(kind: str) -> None:
    """Threads take turns at an end; what is sent comes once, and closing ends their waits."""
    other, one = shmkit.pair(kind)
    tally, crowd = Tally(), Crowd(TimeoutError, shmkit.Closed, shmkit.EndOfStream)

    def send() -> None:
        number = tally.take()
        one.send(message(number, 64 if number % 2 else 8192), 5)
        tally.sent.add(number)

    crowd.again(send, 2)
    crowd.again(lambda: tally.came.append(number_in(other.recv(0.05))), 2)
    crowd.again(lambda: (repr(one), other.statistics(), one.closed))
    crowd.run()
    with contextlib.suppress(TimeoutError):
        while True:
            tally.came.append(number_in(other.recv(0.2)))
    tally.check()
    crowd = Crowd(TimeoutError, shmkit.Closed, shmkit.EndOfStream, shmkit.Broken)
    crowd.again(lambda: one.send(message(1), 5), 2)
    crowd.again(lambda: other.recv(5), 2)
    crowd.run(0.02, lambda: (one.close(0), other.close(0)))
