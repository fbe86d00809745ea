"""Thousands of tasks of one event loop wait at a time: all are served, by no thread, and descriptors are counted."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from itertools import islice
from typing import Any

import pytest

import shmkit
from support import Processes, wait_until

WATCHDOG = 60.0
TASKS = 2_400
DEFAULT_LIMIT = 1024  # of descriptors, on most systems


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def threads() -> tuple[int, int]:
    """Those that Python knows, and those that the kernel does."""
    return threading.active_count(), len(os.listdir("/proc/self/task"))


def no_more_than(before: tuple[int, int]) -> bool:
    """Threads; one that was ending may have gone."""
    return all(now <= then for now, then in zip(threads(), before, strict=True))


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """As many as a program has that asks for no more."""
    yield from limited(DEFAULT_LIMIT)


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Some for each of thousands."""
    yield from limited(4 * TASKS)


def limited(wanted: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"no process here may have more than {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def serve(
    waits: list[Callable[[], Coroutine[Any, Any, Any]]], begin: Callable[[], Awaitable[None] | None], most: int
) -> list[Any]:
    """What the tasks get, all of which wait before `begin` is called; with at most so many descriptors for it."""

    async def main() -> list[Any]:
        await asyncio.sleep(0)
        before, had = threads(), descriptors()
        tasks = [asyncio.create_task(wait()) for wait in waits]
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        taken = descriptors() - had
        assert taken <= most, f"{taken} descriptors for {len(waits)} tasks"
        assert no_more_than(before), "threads were started"
        begun = begin()
        if begun is not None:
            await begun
        results = await asyncio.wait_for(asyncio.gather(*tasks), WATCHDOG)
        assert no_more_than(before), "threads were started"
        return results

    return asyncio.run(main())


def put_in_turn(queues: list[shmkit.Queue], count: int) -> None:
    for number in range(count):
        queues[number % len(queues)].put(number, timeout=WATCHDOG)


@pytest.mark.usefixtures("few_descriptors")
@pytest.mark.parametrize("queues", [1, 40, 600])
def test_thousands_of_tasks_at_few_queues(process: Processes, queues: int) -> None:
    """Each task is served once, by what another process puts; a descriptor for each queue, and none for a task."""
    made = [shmkit.Queue() for _ in range(queues)]
    waits = [made[number % queues].get_async for number in range(TASKS)]
    got = serve(waits, lambda: process(put_in_turn, made, TASKS) and None, queues)
    assert sorted(got) == list(range(TASKS))
    for first in range(queues):
        assert sorted(got[first::queues]) == list(range(first, TASKS, queues)), "from its own queue"
    assert all(queue.empty() for queue in made)


@pytest.mark.usefixtures("many_descriptors")
def test_a_queue_for_each_of_thousands_of_tasks(process: Processes) -> None:
    """A descriptor for each; in the end none."""
    made = [shmkit.Queue() for _ in range(TASKS)]
    had = descriptors()
    got = serve([queue.get_async for queue in made], lambda: process(put_in_turn, made, TASKS) and None, TASKS)
    assert got == list(range(TASKS))
    made.clear()
    wait_until(lambda: descriptors() <= had + 1)  # the child's


@pytest.mark.usefixtures("few_descriptors")
def test_thousands_of_tasks_wait_for_room(process: Processes) -> None:
    """At full queues, until another process gets what is there."""
    made = [shmkit.Queue(1) for _ in range(40)]
    for queue in made:
        queue.put(-1)
    taken: shmkit.Queue = shmkit.Queue()

    def empty_all() -> None:
        for number in range(TASKS + len(made)):
            taken.put(made[number % len(made)].get(timeout=WATCHDOG))

    def one(number: int) -> Callable[[], Coroutine[Any, Any, None]]:
        return lambda: made[number % len(made)].put_async(number)

    serve([one(number) for number in range(TASKS)], lambda: process(empty_all) and None, len(made))
    came = [taken.get(timeout=WATCHDOG) for _ in range(TASKS + len(made))]
    assert sorted(came) == [-1] * len(made) + list(range(TASKS))


@pytest.mark.usefixtures("few_descriptors")
def test_thousands_of_tasks_at_rings(process: Processes) -> None:
    """Which take up to three descriptors each."""
    rings = [shmkit.Ring.create(capacity="64 KiB") for _ in range(40)]

    def send() -> None:
        for number in range(TASKS):
            rings[number % len(rings)].send(number.to_bytes(4, "little"), timeout=WATCHDOG)

    waits = [rings[number % len(rings)].recv_async for number in range(TASKS)]
    got = serve(waits, lambda: process(send) and None, 3 * len(rings))
    assert sorted(int.from_bytes(record, "little") for record in got) == list(range(TASKS))
    for ring in rings:
        ring.close()


@pytest.mark.usefixtures("few_descriptors")
def test_thousands_of_tasks_at_topics(process: Processes) -> None:
    """Each subscriber gets every value once."""
    count = 60
    publisher = shmkit.Publisher(slots=256, slot_size=64)
    subscribers = [publisher.subscriber() for _ in range(TASKS // count)]

    async def publish() -> None:
        for number in range(count):
            publisher.publish(number)
            await asyncio.sleep(0)

    waits = [subscriber.recv_async for subscriber in subscribers for _ in range(count)]
    got = serve(waits, publish, len(subscribers))
    for first in range(0, len(got), count):
        assert sorted(got[first : first + count]) == list(range(count))
    for subscriber in subscribers:
        subscriber.close()
    publisher.close()


def test_one_too_many_queues_for_the_descriptors_there_are() -> None:
    """The tasks that find none are told so, in words; the others are served."""
    room = 100
    made = [shmkit.Queue() for _ in range(2 * room)]

    async def main() -> list[Any]:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = (number for number in range(soft) if number not in set(map(int, os.listdir("/proc/self/fd"))))
        resource.setrlimit(resource.RLIMIT_NOFILE, (next(islice(free, room, None)), hard))
        try:
            tasks = [asyncio.create_task(queue.get_async()) for queue in made]
            await asyncio.sleep(0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number, queue in enumerate(made):
            queue.put(number)
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), WATCHDOG)

    results = asyncio.run(main())
    told = [result for result in results if isinstance(result, OSError)]
    assert room - 10 <= len(told) <= room + 10
    assert all("Too many open files" in str(error) for error in told)
    assert [result for result in results if not isinstance(result, OSError)] == list(range(len(made) - len(told)))
