"""What a user writes, in every part of the package: mypy --strict and pyright in its strict mode agree to all of it.

It is read by the checkers, and not run.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_type

import shmkit
from shmkit.survey import Rate, SharedObject, Survey, Watch


def arrays() -> None:
    array = shmkit.zeros((3, 4), "float32")
    assert_type(array, shmkit.SharedArray)
    array[1:] += 1
    total: float = float(array.sum())
    named = shmkit.create("name", (3,), np.int64, lifetime="leased")
    again = shmkit.attach("name")
    plain: npt.NDArray[Any] = named + again
    copied = shmkit.array([1, 2, 3])
    print(total, plain, copied, shmkit.empty_like(plain))
    shmkit.unlink("name", missing_ok=True)


def segments() -> None:
    with shmkit.Segment.create("name", "1 MiB", backing="posix", mode=0o600) as segment:
        view: npt.NDArray[Any] = segment.ndarray((4,), "u1")
        segment.buf[:4] = view.tobytes()
    other = shmkit.Segment.attach("name", readonly=True)
    print(other.size, other.name, segment.closed)


def rings() -> None:
    with shmkit.Ring.create("name", capacity="256 MiB") as ring:
        with ring.reserve((3, 4), "uint8", timeout=1.0) as frame:
            frame[:] = 0
        ring.send(b"bytes")
        ring.send(np.zeros(3), timeout=None)
        sent: bool = ring.try_send(memoryview(b"x"))
        ring.send_many([b"a", b"b"])
        length: int = ring.recv_into(bytearray(10), timeout=0.5)
        length += ring.recv_into(np.zeros(10, "u1"))
        with ring.recv_view() as seen:
            print(seen)
        for record in ring:
            print(record)
    statistics = ring.statistics()
    assert_type(statistics.sent, int)
    print(sent, length, ring.capacity, len(ring), statistics.producer_pid)


def queues() -> None:
    queue = shmkit.Queue(maxsize=8, backpressure="drop_oldest")
    queue.put({"a": np.zeros(3)}, timeout=1.0)
    queue.put_many([1, 2, 3])
    items: list[Any] = queue.get_many(100, timeout=1.0)
    size: int = queue.qsize()
    named = shmkit.Queue.create("name", capacity="1 GiB")
    assert_type(named, shmkit.Queue)
    joinable = shmkit.JoinableQueue()
    joinable.task_done()
    joinable.join()
    shmkit.SimpleQueue().put(1)
    queue.shutdown(immediate=True)
    print(items, size, named.name)


async def awaiting(queue: shmkit.Queue, end: shmkit.Channel) -> None:
    await queue.put_async(1, timeout=1.0)
    value: Any = await queue.get_async()
    await end.send_async(value)
    print(await asyncio.wait_for(end.recv_async(), 1.0))


def topics() -> None:
    with shmkit.Publisher.create("name", slots=8, slot_size="8 MiB") as publisher:
        publisher.publish({"exposure": 0.01})
        with publisher.loan((3, 4), "uint8") as frame:
            frame[:] = 0
        subscriber = shmkit.Subscriber.attach("name", replay=True)
        assert_type(subscriber, shmkit.Subscriber)
        lost: int = subscriber.lost
        for value in subscriber:
            print(value, subscriber.latest(), lost)


def primitives() -> None:
    lock = shmkit.Lock()
    with lock:
        pass
    taken: bool = lock.acquire(timeout=1.0)
    try:
        lock.acquire()
    except shmkit.OwnerDied as death:
        pid: int | None = death.pid
        lock.recover()
        print(pid, taken)
    semaphore, event = shmkit.Semaphore(2), shmkit.Event()
    with semaphore:
        heard: bool = event.wait(timeout=0.1)
    condition = shmkit.Condition()
    with condition:
        condition.notify_all()
    arrived: int = shmkit.Barrier(2).wait(timeout=1.0)
    guard = shmkit.RWLock()
    total, flag = shmkit.AtomicInt64(0), shmkit.AtomicFlag()
    total.add(1, order="relaxed")
    counts = shmkit.AtomicArray(shmkit.zeros(8, "int64"))
    number: int = counts[0] + total.load()
    print(heard, arrived, guard, flag, number)


def channels() -> None:
    with shmkit.listen("unix://@frames") as inbox, shmkit.connect("unix://@frames", timeout=10) as outbox:
        outbox.send({"frame": np.zeros(3)})
        outbox.send_bytes(np.zeros(3))
        message: Any = inbox.recv(timeout=1.0)
        data: bytes = inbox.recv_bytes()
        print(message, data, inbox.poll(0.1), inbox.statistics())
    receiver, sender = shmkit.pair("pipe:")
    assert_type(receiver, shmkit.Channel)
    print(sender.try_send(1))
    with shmkit.serve("tcp://127.0.0.1:0", key=b"12345678") as server:
        print(server.url, server.accept(timeout=1.0))


def survey() -> None:
    for found in Survey().objects():
        assert_type(found, SharedObject)
        if found.dead:
            print(found.address, found.dead, found.as_json())
    rates: list[Rate] = list(Watch().look())
    print(rates)


def drop_in() -> None:
    from shmkit import multiprocessing as mp

    shmkit.install()
    queue: Any = mp.Queue()
    process = mp.Process(target=print, args=(queue,))
    process.start()
    with mp.Pool(2) as pool:
        squares: list[int] = pool.map(abs, [1, -2])
    print(squares)
    shmkit.uninstall()


def errors(error: BaseException) -> str:
    if isinstance(error, shmkit.PeerDied):
        return f"{error.pid} died"
    if isinstance(error, (shmkit.EndOfStream, shmkit.SegmentNotFound)):
        return str(error)
    return repr(error)


def executes(executor: Executor) -> None:
    print(executor.submit(arrays).result())
