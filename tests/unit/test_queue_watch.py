"""Queues in select, epoll and event loops: a descriptor that is readable while there is something to get."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import selectors
import signal
from multiprocessing.connection import wait

import pytest

import shmkit
from support import Processes, wait_until

WATCHDOG = 30.0


def readable(queue: object, timeout: float = 0) -> bool:
    return bool(select.select([queue], [], [], timeout)[0])


def put_all(queue: shmkit.Queue, first: int, count: int) -> None:
    for number in range(first, first + count):
        queue.put(number)


# -------------------------------------------------------------------------------------------------- one descriptor


def test_readable_exactly_while_there_is_something() -> None:
    """Also when what is there was put before the descriptor was made."""
    queue = shmkit.Queue()
    queue.put("before")
    assert readable(queue)
    assert queue.get() == "before"
    assert not readable(queue)
    queue.put(1)
    queue.put(b"x" * 10_000)
    assert readable(queue)
    assert queue.get() == 1
    assert readable(queue)
    queue.get()
    assert not readable(queue)
    with pytest.raises(shmkit.Empty):
        queue.get(False)
    assert not readable(queue)
    assert queue.fileno() == queue.fileno()


def test_get_many_leaves_it_unreadable() -> None:
    """As it leaves nothing to get."""
    queue = shmkit.Queue()
    assert not readable(queue)
    queue.put_many(range(10))
    assert readable(queue)
    assert queue.get_many(4) == [0, 1, 2, 3]
    assert readable(queue)
    assert queue.get_many() == [4, 5, 6, 7, 8, 9]
    assert not readable(queue)


def test_in_every_kind_of_waiting() -> None:
    """select, poll, epoll, selectors and multiprocessing.connection.wait."""
    queue = shmkit.SimpleQueue()
    poll, epoll, selector = select.poll(), select.epoll(), selectors.DefaultSelector()
    poll.register(queue, select.POLLIN)
    epoll.register(queue, select.EPOLLIN)
    selector.register(queue, selectors.EVENT_READ)
    assert not poll.poll(0)
    assert not epoll.poll(0)
    assert not selector.select(0)
    assert not wait([queue], 0)
    queue.put(1)
    assert poll.poll(0) == [(queue.fileno(), select.POLLIN)]
    assert epoll.poll(0) == [(queue.fileno(), select.EPOLLIN)]
    assert [key.fileobj for key, _ in selector.select(0)] == [queue]
    assert wait([queue], 0) == [queue]
    selector.close()
    epoll.close()


def test_a_queue_that_is_shut_is_readable() -> None:
    """Who waits is to find out."""
    queue = shmkit.Queue()
    assert not readable(queue)
    queue.shutdown()
    assert readable(queue)
    with pytest.raises(shmkit.ShutDown):
        queue.get(False)


def test_the_descriptor_goes_with_the_handle() -> None:
    """And the place that it had is somebody else's."""
    queue = shmkit.Queue()
    fd = queue.fileno()
    queue.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(shmkit.Closed):
        queue.fileno()


def test_a_descriptor_that_the_program_closed_is_made_anew() -> None:
    """And what took its number is let alone."""
    queue = shmkit.Queue()
    fd = queue.fileno()
    os.close(fd)
    reader, writer = os.pipe()
    try:
        taken = [end for end in (reader, writer) if end == fd]
        assert taken, "the number is used again"
        queue.put(1)
        assert queue.get() == 1
        assert queue.fileno() not in (reader, writer)
        queue.put(2)
        assert readable(queue)
        os.write(writer, b"x")
        assert os.read(reader, 1) == b"x"
    finally:
        os.close(reader)
        os.close(writer)


def test_as_many_watch_as_there_are_places() -> None:
    """One more raises, until one has gone."""
    queue = shmkit.Queue.create("many-watch", capacity="16 MiB")
    try:
        others = [shmkit.Queue.attach("many-watch") for _ in range(64)]
        for other in others:
            other.fileno()
        with pytest.raises(shmkit.ChannelError, match="64 processes"):
            queue.fileno()
        others.pop().close()
        queue.put(1)
        assert readable(queue)
        assert all(readable(other) for other in others)
        for other in others:
            other.close()
    finally:
        queue.unlink()
        queue.close()


# ------------------------------------------------------------------------------------------------ between processes


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_each_item_is_announced(process: Processes, context: str) -> None:
    """Who gets without waiting, whenever the descriptor says so, gets everything."""
    queue = shmkit.Queue()
    children = [process(put_all, queue, 1000 * k, 1000, context=context) for k in range(2)]
    got = []
    while len(got) < 2000:
        assert readable(queue, WATCHDOG)
        # Said as an item is being put, whose producer may be without a core for longer than a get waits that is not to.
        with contextlib.suppress(shmkit.Empty):
            got.append(queue.get(False))
    assert sorted(got) == list(range(2000))
    assert not readable(queue)
    for child in children:
        child.join(WATCHDOG)


def consume_by_select(queue: shmkit.Queue, results: shmkit.Queue) -> None:
    while True:
        assert readable(queue, WATCHDOG)
        try:
            item = queue.get(False)
        except shmkit.Empty:
            continue
        if item is None:
            return
        results.put(item)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_many_watch_one_queue(process: Processes, context: str) -> None:
    """Each item goes to one of them; a forked child has a descriptor of its own."""
    queue, results = shmkit.Queue(), shmkit.Queue()
    queue.fileno()
    children = [process(consume_by_select, queue, results, context=context) for _ in range(3)]
    for number in range(300):
        queue.put(number)
    assert sorted(results.get(timeout=WATCHDOG) for _ in range(300)) == list(range(300))
    for _ in children:
        queue.put(None)
    for child in children:
        child.join(WATCHDOG)
        assert child.exitcode == 0


def test_between_programs_that_know_only_the_name(process: Processes) -> None:
    """One waits in epoll for what the other puts."""
    queue = shmkit.Queue.create("named-watch", capacity="16 MiB")
    try:
        program = process.python(
            "import shmkit, sys\nqueue = shmkit.Queue.attach('named-watch')\nfor line in sys.stdin: queue.put(line)",
            stdin=-1,
        )
        assert program.stdin is not None
        for number in range(20):
            assert not readable(queue)
            program.stdin.write(f"{number}\n")
            program.stdin.flush()
            assert readable(queue, WATCHDOG)
            assert queue.get(False) == f"{number}\n"
        program.stdin.close()
        assert program.wait(WATCHDOG) == 0
    finally:
        queue.unlink()
        queue.close()


def watch_for_ever(queue: shmkit.Queue, ready: shmkit.Queue) -> None:
    queue.fileno()
    ready.put(os.getpid())
    signal.pause()


def test_the_place_of_one_who_was_killed_is_given_away(process: Processes) -> None:
    """A put tells nobody who has gone, and does not fail by it."""
    queue, ready = shmkit.Queue(), shmkit.Queue()
    children = [process(watch_for_ever, queue, ready) for _ in range(64)]
    for _ in children:
        ready.get(timeout=WATCHDOG)
    with pytest.raises(shmkit.ChannelError, match="64 processes"):
        queue.fileno()
    for child in children:
        child.kill()
        child.join(WATCHDOG)
    queue.put("is told to nobody")
    assert readable(queue)
    assert queue.get(False) == "is told to nobody"


# -------------------------------------------------------------------------------------------------------- event loops


def test_get_and_put_are_awaited() -> None:
    """A bounded queue between twenty producers and twenty consumers in one thread."""

    async def main() -> list[object]:
        queue = shmkit.Queue(maxsize=5)
        got: list[object] = []

        async def produce(who: int) -> None:
            for number in range(50):
                await queue.put_async((who, number))

        async def consume() -> None:
            got.extend([await queue.get_async() for _ in range(50)])

        await asyncio.wait_for(asyncio.gather(*map(produce, range(20)), *(consume() for _ in range(20))), WATCHDOG)
        assert queue.empty()
        return got

    got = asyncio.run(main())
    assert len(got) == len(set(got)) == 1000


def test_many_queues_in_one_loop(process: Processes) -> None:
    """A task for each, no thread for any."""
    queues = [shmkit.Queue() for _ in range(200)]

    async def main() -> list[int]:
        tasks = [asyncio.create_task(queue.get_async()) for queue in queues]
        await asyncio.sleep(0)
        process(_put_in_each, queues)
        return list(await asyncio.wait_for(asyncio.gather(*tasks), WATCHDOG))

    assert asyncio.run(main()) == list(range(200))


def _put_in_each(queues: list[shmkit.Queue]) -> None:
    for number, queue in enumerate(queues):
        queue.put(number)


def test_time_outs() -> None:
    """Empty and Full, at once where there is no time at all."""

    async def main() -> None:
        queue = shmkit.Queue(maxsize=1)
        for timeout in (0, -1, 0.01):
            with pytest.raises(shmkit.Empty):
                await queue.get_async(timeout=timeout)
        await queue.put_async(1)
        for timeout in (0, -1, 0.01):
            with pytest.raises(shmkit.Full):
                await queue.put_async(2, timeout=timeout)
        assert await queue.get_async(0) == 1
        refuses = shmkit.Queue(maxsize=1, backpressure="raise")
        await refuses.put_async(1)
        with pytest.raises(shmkit.Full):
            await refuses.put_async(2)

    asyncio.run(main())


def test_a_task_that_is_cancelled_has_got_nothing() -> None:
    """Whether it was woken before or not."""

    async def main() -> None:
        queue = shmkit.Queue()
        for early in (True, False):
            tasks = [asyncio.create_task(queue.get_async()) for _ in range(5)]
            for _ in range(3):
                await asyncio.sleep(0)
            for task in tasks[: 4 if early else 0]:
                task.cancel()
            queue.put("for the one that is left")
            if not early:
                await asyncio.sleep(0)
                for task in tasks[:4]:
                    task.cancel()
            done, _ = await asyncio.wait(tasks, timeout=WATCHDOG)
            assert done == set(tasks)
            assert [task.result() for task in tasks if not task.cancelled()] == ["for the one that is left"]

    asyncio.run(main())


def test_shutdown_ends_those_who_await() -> None:
    """Each with ShutDown."""

    async def main() -> None:
        queue = shmkit.Queue()
        tasks = [asyncio.create_task(queue.get_async()) for _ in range(5)]
        for _ in range(3):
            await asyncio.sleep(0)
        queue.shutdown()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), WATCHDOG)
        assert all(type(result) is shmkit.ShutDown for result in results)

    asyncio.run(main())


def test_nothing_is_left_in_a_loop_where_nobody_waits() -> None:
    """No reader that is always ready, no timer."""

    async def main() -> None:
        queue = shmkit.Queue()
        task = asyncio.create_task(queue.get_async())
        await asyncio.sleep(0)
        queue.put(1)
        assert await asyncio.wait_for(task, WATCHDOG) == 1
        queue.put(2)
        loop = asyncio.get_running_loop()
        assert not loop.remove_reader(queue.fileno())

    asyncio.run(main())


async def _echo(queue: shmkit.Queue, back: shmkit.Queue) -> None:
    while (item := await queue.get_async()) is not None:
        await back.put_async(item)


def echo(queue: shmkit.Queue, back: shmkit.Queue) -> None:
    asyncio.run(_echo(queue, back))


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_a_loop_in_another_process(process: Processes, context: str) -> None:
    """It awaits what this one puts, and the other way round."""
    queue, back = shmkit.Queue(), shmkit.Queue(maxsize=3)
    child = process(echo, queue, back, context=context)
    queue.put_many(range(100))
    assert [back.get(timeout=WATCHDOG) for _ in range(100)] == list(range(100))
    queue.put(None)
    child.join(WATCHDOG)
    assert child.exitcode == 0


def test_no_descriptor_is_left() -> None:
    """Neither of who puts nor of who gets."""
    before = set(os.listdir("/proc/self/fd"))
    queue = shmkit.Queue()
    for number in range(10):
        assert not readable(queue)
        queue.put(number)
        queue.get()
    del queue
    wait_until(lambda: set(os.listdir("/proc/self/fd")) <= before)
