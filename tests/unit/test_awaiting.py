"""Tasks of an event loop that wait for a queue, a ring or a topic: who is served first, and what a close does."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import shmkit

WATCHDOG = 30.0


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def empty_queue() -> tuple[Any, Callable[[], Awaitable[Any]]]:
    queue = shmkit.Queue()
    return queue, queue.get_async


def full_queue() -> tuple[Any, Callable[[], Awaitable[Any]]]:
    queue = shmkit.Queue(1)
    queue.put(0)
    return queue, lambda: queue.put_async(1)


def empty_ring() -> tuple[Any, Callable[[], Awaitable[Any]]]:
    ring = shmkit.Ring.create(capacity=4096, role="consumer")
    return ring, ring.recv_async


def full_ring() -> tuple[Any, Callable[[], Awaitable[Any]]]:
    ring = shmkit.Ring.create(capacity=4096, role="producer")
    while ring.try_send(bytes(1000)):
        pass
    return ring, lambda: ring.send_async(bytes(1000))


def quiet_topic() -> tuple[Any, Callable[[], Awaitable[Any]]]:
    publisher = shmkit.Publisher(slot_size=1024)
    subscriber = publisher.subscriber()
    return subscriber, lambda: _of(publisher, subscriber.recv_async())


async def _of(publisher: shmkit.Publisher, waiting: Awaitable[Any]) -> Any:
    """Waits, with the publisher alive."""
    return await waiting


WAITED_FOR = [empty_queue, full_queue, empty_ring, full_ring, quiet_topic]


@pytest.mark.parametrize("make", WAITED_FOR)
@pytest.mark.parametrize("where", ["here", "thread"])
def test_a_close_ends_the_tasks_that_wait(make: Callable[[], tuple[Any, Any]], where: str) -> None:
    """Each of them is told that the handle is closed, whichever thread closed it; nothing is left in the loop."""

    async def main() -> list[object]:
        handle, attempt = make()
        tasks = [asyncio.ensure_future(attempt()) for _ in range(3)]
        await turns()
        assert not any(task.done() for task in tasks)
        if where == "here":
            handle.close()
        else:
            thread = threading.Thread(target=handle.close)
            thread.start()
            thread.join(WATCHDOG)
        got = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), WATCHDOG)
        selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
        assert len(selector.get_map()) == 1  # the loop's own
        return got

    assert [type(error) for error in asyncio.run(main())] == [shmkit.Closed] * 3


@pytest.mark.parametrize("make", WAITED_FOR)
def test_a_close_leaves_other_descriptors_of_the_loop_alone(make: Callable[[], tuple[Any, Any]]) -> None:
    """Those that come to have the numbers of the closed ones are read as any others."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        handle, attempt = make()
        task = asyncio.ensure_future(attempt())
        await turns()
        handle.close()
        pipes = [os.pipe() for _ in range(8)]  # one of them has the number
        came = [loop.create_future() for _ in pipes]
        for (reader, _), future in zip(pipes, came, strict=True):
            loop.add_reader(reader, lambda future=future: future.done() or future.set_result(None))
        with pytest.raises(shmkit.Closed):
            await asyncio.wait_for(task, WATCHDOG)
        for _, writer in pipes:
            os.write(writer, b"x")
        await asyncio.wait_for(asyncio.gather(*came), WATCHDOG)
        for reader, writer in pipes:
            assert loop.remove_reader(reader)
            os.close(reader)
            os.close(writer)

    asyncio.run(main())


def test_a_closed_loop_is_no_hindrance() -> None:
    """Whoever waited there is gone."""
    queue = shmkit.Queue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(queue.get_async())
    loop.run_until_complete(turns())
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    queue.close()


def test_a_forked_child_that_closes_does_not_disturb_its_parents_tasks() -> None:
    queue = shmkit.Queue()

    async def main() -> object:
        task = asyncio.ensure_future(queue.get_async())
        await turns()
        child = os.fork()
        if child == 0:
            queue.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        await turns()
        assert not task.done()
        queue.put("to the parent")
        return await asyncio.wait_for(task, WATCHDOG)

    assert asyncio.run(main()) == "to the parent"


def test_who_came_first_gets_first() -> None:
    """Also where another process takes what some of them were woken for, and where newcomers find something there."""
    queue = shmkit.Queue()
    order: list[int] = []

    async def getter(number: int) -> None:
        assert await queue.get_async() >= 0
        order.append(number)

    async def main() -> None:
        tasks = [asyncio.ensure_future(getter(number)) for number in range(4)]
        await turns()
        queue.put_many([0, 1])
        # The loop has not run: who looks now is quicker than those whom it will wake.
        assert queue.get_many(2) == [0, 1]
        await turns()
        tasks += [asyncio.ensure_future(getter(number)) for number in range(4, 8)]
        queue.put_many(range(8))
        await asyncio.wait_for(asyncio.gather(*tasks), WATCHDOG)

    asyncio.run(main())
    assert order == list(range(8))


def test_who_came_first_puts_first() -> None:
    queue = shmkit.Queue(1)

    async def main() -> list[int]:
        queue.put(-1)
        tasks = [asyncio.ensure_future(queue.put_async(number)) for number in range(6)]
        await turns()
        got = [await asyncio.wait_for(queue.get_async(), WATCHDOG) for _ in range(7)]
        await asyncio.gather(*tasks)
        return got

    assert asyncio.run(main()) == [-1, 0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("timeout", ["soon", float("nan"), True])
def test_a_time_out_is_a_number(timeout: object) -> None:
    queue = shmkit.Queue()
    queue.put(1)
    with pytest.raises((TypeError, ValueError), match="timeout must be a number of seconds"):
        asyncio.run(queue.get_async(timeout))  # type: ignore[arg-type]
    assert queue.get() == 1
