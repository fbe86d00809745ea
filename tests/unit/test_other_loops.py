"""Queues, rings and topics in the event loops of trio and anyio, which wait for their descriptors."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import trio

import shmkit
from support import Processes

WATCHDOG = 30.0
COUNT = 100


def put_all(queue: shmkit.Queue) -> None:
    for number in range(COUNT):
        queue.put(number)


def send_all(ring: shmkit.Ring) -> None:
    for number in range(COUNT):
        ring.send(b"%d" % number)
    ring.close()


def publish_all(name: str) -> None:
    with shmkit.Publisher.attach(name) as publisher:
        for number in range(COUNT):
            publisher.publish(number)


async def gather(wait_readable: Any, source: Any) -> list[Any]:
    """All that comes, taken without waiting whenever the descriptor says so."""
    got: list[Any] = []
    while len(got) < COUNT:
        await wait_readable(source.fileno())
        try:
            item = source.get(False) if isinstance(source, shmkit.Queue) else source.try_recv()
        except (shmkit.Empty, shmkit.EndOfStream):  # the topic's last publisher had left, and the next had not come yet
            continue
        if item is not None:
            got.append(int(item))
    return got


def run(loop: str, source: Any) -> list[Any]:
    async def in_trio() -> list[Any]:
        with trio.fail_after(WATCHDOG):
            return await gather(trio.lowlevel.wait_readable, source)

    async def in_anyio() -> list[Any]:
        with anyio.fail_after(WATCHDOG):
            return await gather(anyio.wait_readable, source)

    return trio.run(in_trio) if loop == "trio" else anyio.run(in_anyio, backend=loop.split("-")[1])


@pytest.mark.parametrize("loop", ["trio", "anyio-trio", "anyio-asyncio"])
def test_each_is_waited_for(process: Processes, loop: str) -> None:
    """A descriptor is all that they need."""
    queue = shmkit.Queue()
    process(put_all, queue)
    assert run(loop, queue) == list(range(COUNT))
    with shmkit.Ring.create(capacity="4 KiB") as ring:
        process(send_all, ring)
        assert run(loop, ring) == list(range(COUNT))
    with shmkit.Publisher.create("other-loops", slots=256, slot_size=100) as publisher:
        try:
            subscriber = shmkit.Subscriber.attach("other-loops")
            subscriber.fileno()
            publisher.close()
            process(publish_all, "other-loops")
            assert run(loop, subscriber) == list(range(COUNT))
        finally:
            publisher.unlink()
