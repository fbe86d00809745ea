"""Topics in select, epoll and event loops: a descriptor that is readable while `recv` would not wait."""

from __future__ import annotations

import asyncio
import os
import select

import numpy as np
import pytest

import shmkit
from support import Processes, wait_until

WATCHDOG = 30.0


def readable(subscriber: object, timeout: float = 0) -> bool:
    return bool(select.select([subscriber], [], [], timeout)[0])


def publish_all(name: str, count: int) -> None:
    with shmkit.Publisher.attach(name) as publisher:
        for number in range(count):
            publisher.publish(number)


def test_readable_exactly_while_there_is_something() -> None:
    """Also what was published before, and to each subscriber for itself."""
    publisher = shmkit.Publisher(slots=4, slot_size=1000)
    subscribers = [publisher.subscriber() for _ in range(3)]
    publisher.publish("before")
    for subscriber in subscribers:
        assert readable(subscriber)
        assert subscriber.recv() == "before"
        assert not readable(subscriber)
        with pytest.raises(TimeoutError):
            subscriber.recv(0)
        assert not readable(subscriber)
    publisher.publish(1)
    publisher.publish(None)
    for subscriber in subscribers:
        assert readable(subscriber)
        assert subscriber.recv() == 1
        assert readable(subscriber)
        assert subscriber.recv() is None
        assert not readable(subscriber)
    publisher.publish(3)
    assert subscribers[0].latest() == 3
    assert not readable(subscribers[0])
    with publisher.loan(8, "uint8") as array:
        array[:] = 7
        assert subscribers[1].recv() == 3
        assert not readable(subscribers[1]), "what is being written is not there yet"
    assert readable(subscribers[1])
    publisher.close()
    for subscriber in subscribers:
        assert readable(subscriber), "the end is there"


def test_as_many_watch_as_there_are_places() -> None:
    """One more raises, until one has gone."""
    publisher = shmkit.Publisher(slots=4, slot_size=1000)
    subscribers = [publisher.subscriber() for _ in range(65)]
    for subscriber in subscribers[:64]:
        subscriber.fileno()
    with pytest.raises(shmkit.ChannelError, match="64 processes"):
        subscribers[64].fileno()
    subscribers[0].close()
    publisher.publish(1)
    assert all(readable(subscriber) for subscriber in subscribers[1:])


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_each_value_is_announced(process: Processes, context: str) -> None:
    """To several, of whom nobody need be quick."""
    with shmkit.Publisher.create("watched-topic", slots=5000, slot_size=100) as publisher:
        try:
            subscribers = [shmkit.Subscriber.attach("watched-topic") for _ in range(2)]
            for subscriber in subscribers:
                subscriber.fileno()
            publisher.close()
            child = process(publish_all, "watched-topic", 2000, context=context)
            for subscriber in subscribers:
                while subscriber.published == 0:  # until it is taken over it has ended
                    assert readable(subscriber, WATCHDOG)
                for number in range(2000):
                    assert readable(subscriber, WATCHDOG)
                    assert subscriber.try_recv() == number
                assert readable(subscriber, WATCHDOG)
                with pytest.raises(shmkit.EndOfStream):
                    subscriber.try_recv()
            child.join(WATCHDOG)
        finally:
            shmkit.unlink("watched-topic")


def test_async_for(process: Processes) -> None:
    """Ends when the publisher has left; many tasks, one loop."""

    async def listen(subscriber: shmkit.Subscriber) -> int:
        total = 0
        async for array in subscriber:
            total += int(array.sum())
        return total

    async def main() -> list[int]:
        publisher = shmkit.Publisher(slots=64, slot_size="1 KiB")
        tasks = [asyncio.create_task(listen(publisher.subscriber())) for _ in range(20)]
        await asyncio.sleep(0)
        for number in range(50):
            publisher.publish(np.full(10, number))
            if number % 10 == 0:
                await asyncio.sleep(0)
        publisher.close()
        return list(await asyncio.wait_for(asyncio.gather(*tasks), WATCHDOG))

    assert asyncio.run(main()) == [sum(range(50)) * 10] * 20


def test_time_out_and_cancellation() -> None:
    """Nothing is lost by either."""

    async def main() -> None:
        publisher = shmkit.Publisher(slots=4, slot_size=1000)
        subscriber = publisher.subscriber()
        for timeout in (0, -1, 0.01):
            with pytest.raises(TimeoutError, match="no value is there"):  # however long it was
                await subscriber.recv_async(timeout)
        task = asyncio.create_task(subscriber.recv_async())
        await asyncio.sleep(0)
        task.cancel()
        publisher.publish(1)
        assert await subscriber.recv_async(WATCHDOG) == 1

    asyncio.run(main())


def _publishes_for_ever(name: str) -> None:
    publisher = shmkit.Publisher.attach(name)
    while True:
        publisher.publish(b"x" * 50)


def test_publishers_that_are_killed(process: Processes) -> None:
    """Whatever they were at, the descriptor does not stay readable without a value; and a successor is heard."""
    with shmkit.Publisher.create("killed-topic", slots=8, slot_size=100) as first:
        try:
            subscriber = shmkit.Subscriber.attach("killed-topic")
            subscriber.fileno()
            first.close()
            for _ in range(10):
                before = subscriber.published
                child = process(_publishes_for_ever, "killed-topic")
                wait_until(lambda before=before: subscriber.published > before + 100)
                child.kill()
                child.join(WATCHDOG)
                while subscriber.try_recv() is not None:
                    pass
                assert not readable(subscriber) or subscriber.pending
            with shmkit.Publisher.attach("killed-topic") as last:
                last.publish("after all")
                assert readable(subscriber, WATCHDOG)
                assert subscriber.try_recv() == "after all"
                assert not readable(subscriber)
        finally:
            shmkit.unlink("killed-topic")


def test_a_forked_child_has_its_own(process: Processes) -> None:
    """And takes nothing from the parent's."""
    publisher = shmkit.Publisher(slots=8, slot_size=100)
    subscriber = publisher.subscriber()
    subscriber.fileno()
    publisher.publish(1)
    child = process(_receives_one, subscriber)
    child.join(WATCHDOG)
    assert child.exitcode == 0
    assert readable(subscriber)
    assert subscriber.try_recv() == 1
    assert not readable(subscriber)


def _receives_one(subscriber: shmkit.Subscriber) -> None:
    assert readable(subscriber)
    assert subscriber.try_recv() == 1
    assert not readable(subscriber)


def test_no_descriptor_is_left() -> None:
    """Neither of who publishes nor of who listens."""
    before = set(os.listdir("/proc/self/fd"))
    publisher = shmkit.Publisher(slots=8, slot_size=100)
    subscriber = publisher.subscriber()
    for number in range(10):
        assert not readable(subscriber)
        publisher.publish(number)
        subscriber.recv()
    subscriber.close()
    publisher.close()
    del subscriber, publisher
    wait_until(lambda: set(os.listdir("/proc/self/fd")) <= before)
