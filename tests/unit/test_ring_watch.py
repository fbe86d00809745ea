"""Rings in select, epoll and event loops: a descriptor that is readable while `recv` would not wait."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Iterator

import numpy as np
import pytest

import shmkit
from support import Processes, wait_until

WATCHDOG = 30.0


def readable(ring: object, timeout: float = 0) -> bool:
    return bool(select.select([ring], [], [], timeout)[0])


@pytest.fixture
def ring() -> Iterator[shmkit.Ring]:
    with shmkit.Ring.create(capacity="64 KiB") as made:
        yield made


def receive(ring: shmkit.Ring) -> object:
    """One record, whenever the descriptor says so; it also speaks when a producer has come."""
    while True:
        assert readable(ring, WATCHDOG)
        if (record := ring.try_recv()) is not None:
            return record


def send_all(ring: shmkit.Ring, first: int, count: int, *, close: bool = True) -> None:
    for number in range(first, first + count):
        ring.send(b"%d" % number)
    if close:
        ring.close()
    else:
        os._exit(0)  # the role is left as one who was killed leaves it


# -------------------------------------------------------------------------------------------------- one descriptor


def test_readable_exactly_while_there_is_something(ring: shmkit.Ring) -> None:
    """Also when what is there was sent before the descriptor was made, however it is received."""
    ring.send(b"before")
    assert readable(ring)
    assert ring.recv() == b"before"
    assert not readable(ring)
    for receive in (
        ring.recv,
        ring.try_recv,
        lambda: ring.recv_into(bytearray(10)),
        lambda: ring.recv_many(1),
        lambda: ring.recv_many_into(bytearray(1), 1),
        lambda: ring.recv_view().release(),
    ):
        ring.send(b"1")
        ring.send(b"2")
        assert readable(ring)
        receive()
        assert readable(ring)
        assert ring.recv() == b"2"
        assert not readable(ring)
        assert ring.try_recv() is None
        assert not readable(ring)
    assert ring.peek() is None
    ring.send(b"3")
    assert ring.peek() == b"3"
    assert readable(ring)
    assert ring.fileno() == ring.fileno()


def test_a_time_out_leaves_it_as_it_was(ring: shmkit.Ring) -> None:
    """Who slept meanwhile is told afterwards."""
    assert not readable(ring)
    with pytest.raises(TimeoutError):
        ring.recv(timeout=0.01)
    assert not readable(ring)
    ring.send(b"1")
    assert readable(ring)


def test_it_goes_with_the_ring(ring: shmkit.Ring) -> None:
    """Whichever descriptors it was made of."""
    before = set(os.listdir("/proc/self/fd"))
    other = shmkit.Ring.create(capacity="4 KiB")
    fd = other.fileno()
    other.send(b"1")
    other.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(shmkit.Closed):
        other.fileno()
    wait_until(lambda: set(os.listdir("/proc/self/fd")) <= before)


def test_descriptors_that_the_program_closed_are_made_anew(ring: shmkit.Ring) -> None:
    """And what took their numbers is let alone."""
    before = set(os.listdir("/proc/self/fd"))
    ring.fileno()
    ring.send(b"1")
    opened = [int(fd) for fd in set(os.listdir("/proc/self/fd")) - before]
    opened = [fd for fd in opened if os.path.exists(f"/proc/self/fd/{fd}")]
    for fd in opened:
        os.close(fd)
    taken = [os.pipe() for _ in opened]
    try:
        ring.recv()
        ring.send(b"2")
        assert readable(ring)
        assert ring.recv() == b"2"
        assert not readable(ring)
        for reader, writer in taken:
            os.write(writer, b"x")
            assert os.read(reader, 1) == b"x"
    finally:
        for end in sum(taken, ()):
            os.close(end)


def test_only_the_consumer_has_one(ring: shmkit.Ring, process: Processes) -> None:
    """Another process is refused while this one receives."""
    ring.fileno()
    ring.send(b"1")
    child = process(_is_refused, ring)
    child.join(WATCHDOG)
    assert child.exitcode == 0
    assert readable(ring)


def _is_refused(ring: shmkit.Ring) -> None:
    with pytest.raises(shmkit.RoleTaken):
        ring.fileno()


# ----------------------------------------------------------------------------------------------- between processes


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_each_record_is_announced_and_the_end_too(ring: shmkit.Ring, process: Processes, context: str) -> None:
    """Who receives without waiting, whenever the descriptor says so, gets everything."""
    ring.fileno()
    child = process(send_all, ring, 0, 2000, context=context)
    got = []
    with pytest.raises(shmkit.EndOfStream):
        while True:
            assert readable(ring, WATCHDOG)
            if (record := ring.try_recv()) is not None:
                got.append(int(record))
    assert got == list(range(2000))
    assert readable(ring), "the end is there for as long as nobody takes over"
    child.join(WATCHDOG)


@pytest.mark.parametrize("count", [0, 3])
def test_death_is_announced(ring: shmkit.Ring, process: Processes, count: int) -> None:
    """After what the dead one had sent; and a successor ends that."""
    ring.fileno()
    ready = shmkit.Event()
    child = process(_sends_and_waits, ring, count, ready)
    assert ready.wait(WATCHDOG)
    for number in range(count):
        assert receive(ring) == b"%d" % number
    assert ring.try_recv() is None
    assert not readable(ring)
    child.kill()
    assert readable(ring, WATCHDOG)
    for _ in range(2):
        with pytest.raises(shmkit.PeerDied, match=str(child.pid)):
            ring.try_recv()
        assert readable(ring)
    child.join(WATCHDOG)
    with pytest.raises(shmkit.PeerDied):
        ring.try_recv()
    assert readable(ring), "also once nothing is left of the process"
    ring.send(b"successor")
    assert ring.try_recv() == b"successor"
    assert ring.try_recv() is None
    assert not readable(ring)


def _sends_and_waits(ring: shmkit.Ring, count: int, ready: shmkit.Event) -> None:
    for number in range(count):
        ring.send(b"%d" % number)
    if not count:
        with ring.reserve(8, timeout=1.0):
            ready.set()
            signal.pause()
    ready.set()
    signal.pause()


def test_one_who_was_dead_before(ring: shmkit.Ring, process: Processes) -> None:
    """The descriptor is readable from the beginning."""
    child = process(send_all, ring, 0, 0, close=False)
    child.join(WATCHDOG)
    child = process(_dies_as_producer, ring)
    child.join(WATCHDOG)
    assert readable(ring)
    with pytest.raises(shmkit.PeerDied):
        ring.try_recv()


def test_a_successor_of_one_who_was_killed_at_the_bell(
    process: Processes, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds the bell cleared by one who never came to tell; who waits is told of its records all the same."""
    watched = 2  # what the consumer's bell says then: see "bells" in shmkit/_layout.h
    opened = os.pidfd_open
    told, ready, go = shmkit.Event(), shmkit.Event(), shmkit.Event()
    with shmkit.Ring.create(name, "64 KiB") as ring, shmkit.Segment.attach(name) as segment, segment.buf as memory:
        first = process(_sends_and_waits, ring, 1, ready)

        def meanwhile(pid: int, flags: int = 0) -> int:
            """The bell is armed, and it is about to be looked out for the first one's death."""
            monkeypatch.setattr(os, "pidfd_open", opened)
            assert (pid, memory[5 * 128]) == (first.pid, watched)
            memory[5 * 128] = 0
            first.kill()
            first.join(WATCHDOG)
            process(_takes_over, ring, told, go)
            assert told.wait(WATCHDOG)
            return opened(pid, flags)

        assert ready.wait(WATCHDOG)
        monkeypatch.setattr(os, "pidfd_open", meanwhile)
        ring.fileno()
        assert receive(ring) == b"0"
        assert told.is_set()
        go.set()
        assert receive(ring) == b"later"
    shmkit.unlink(name)


def _takes_over(ring: shmkit.Ring, told: shmkit.Event, go: shmkit.Event) -> None:
    ring.reserve(8).abort()
    told.set()
    go.wait(WATCHDOG)
    ring.send(b"later")
    signal.pause()


def _dies_as_producer(ring: shmkit.Ring) -> None:
    ring.reserve(8)
    os.kill(os.getpid(), signal.SIGKILL)


def test_between_programs_that_know_only_the_name(process: Processes) -> None:
    """One waits in select for what the other sends."""
    with shmkit.Ring.create("named-ring-watch", capacity="64 KiB") as ring:
        try:
            program = process.python(
                "import shmkit, sys\nring = shmkit.Ring.attach('named-ring-watch')\n"
                "for line in sys.stdin: ring.send(line.encode())\nring.close()",
                stdin=-1,
            )
            assert program.stdin is not None
            for number in range(20):
                assert not readable(ring)
                program.stdin.write(f"{number}\n")
                program.stdin.flush()
                assert receive(ring) == b"%d\n" % number
            program.stdin.close()
            assert readable(ring, WATCHDOG)
            assert program.wait(WATCHDOG) == 0
        finally:
            ring.unlink()


# ------------------------------------------------------------------------------------------------------ event loops


def test_send_and_recv_are_awaited(ring: shmkit.Ring) -> None:
    """Both ends in one loop, with more than the ring holds; arrays keep their shape."""

    async def main() -> None:
        got: list[np.ndarray] = []

        async def produce() -> None:
            for number in range(200):
                await ring.send_async(np.full((10, 100), number))

        async def consume() -> None:
            got.extend([await ring.recv_async() for _ in range(200)])

        await asyncio.wait_for(asyncio.gather(produce(), consume()), WATCHDOG)
        for number, array in enumerate(got):
            np.testing.assert_array_equal(array, np.full((10, 100), number))

    asyncio.run(main())


def test_async_for(ring: shmkit.Ring, process: Processes) -> None:
    """Ends when the producer has closed."""

    async def main() -> list[int]:
        process(send_all, ring, 0, 500)
        return [int(record) async for record in ring]

    assert asyncio.run(main()) == list(range(500))


def test_many_tasks_at_both_ends(ring: shmkit.Ring) -> None:
    """Each record goes to one of them."""

    async def main() -> list[bytes]:
        got: list[bytes] = []

        async def produce(who: int) -> None:
            for number in range(50):
                await ring.send_async(b"%d/%d" % (who, number) + b" " * 5000)

        async def consume() -> None:
            got.extend([await ring.recv_async() for _ in range(50)])

        await asyncio.wait_for(asyncio.gather(*map(produce, range(10)), *(consume() for _ in range(10))), WATCHDOG)
        return got

    got = asyncio.run(main())
    assert len(got) == len(set(got)) == 500


def test_many_rings_in_one_loop(process: Processes) -> None:
    """A task for each, no thread for any."""
    rings = [shmkit.Ring.create(capacity="4 KiB") for _ in range(100)]

    async def main() -> list[bytes]:
        tasks = [asyncio.create_task(ring.recv_async()) for ring in rings]
        await asyncio.sleep(0)
        process(_send_in_each, rings)
        return list(await asyncio.wait_for(asyncio.gather(*tasks), WATCHDOG))

    try:
        assert asyncio.run(main()) == [b"%d" % number for number in range(100)]
    finally:
        for ring in rings:
            ring.close()


def _send_in_each(rings: list[shmkit.Ring]) -> None:
    for number, ring in enumerate(rings):
        ring.send(b"%d" % number)


def test_time_outs(ring: shmkit.Ring) -> None:
    """At once where there is no time at all."""

    async def main() -> None:
        for timeout in (0, -1, 0.01):
            with pytest.raises(TimeoutError, match="empty"):
                await ring.recv_async(timeout=timeout)
        while ring.try_send(b"x" * 1000):
            pass
        for timeout in (0, -1, 0.01):
            with pytest.raises(TimeoutError, match="full"):
                await ring.send_async(b"x" * 1000, timeout=timeout)

    asyncio.run(main())


def test_the_other_end_dies(ring: shmkit.Ring, process: Processes) -> None:
    """Whoever awaits a record, or room, is told; all tasks of it."""

    async def main() -> None:
        ready = shmkit.Event()
        child = process(_sends_and_waits, ring, 1, ready)
        assert await ring.recv_async(WATCHDOG) == b"0"
        tasks = [asyncio.create_task(ring.recv_async()) for _ in range(5)]
        await asyncio.sleep(0)
        child.kill()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), WATCHDOG)
        assert all(type(result) is shmkit.PeerDied for result in results)

    asyncio.run(main())


def test_the_consumer_dies(ring: shmkit.Ring, process: Processes) -> None:
    """Who awaits room is told."""

    async def main() -> None:
        ready = shmkit.Event()
        child = process(_consumes_nothing, ring, ready)
        assert ready.wait(WATCHDOG)
        while ring.try_send(b"x" * 1000):
            pass
        task = asyncio.create_task(ring.send_async(b"x" * 1000))
        await asyncio.sleep(0)
        child.kill()
        with pytest.raises(shmkit.PeerDied):
            await asyncio.wait_for(task, WATCHDOG)

    asyncio.run(main())


def _consumes_nothing(ring: shmkit.Ring, ready: shmkit.Event) -> None:
    assert ring.try_recv() is None
    ready.set()
    signal.pause()


def test_a_task_that_is_cancelled_has_got_nothing(ring: shmkit.Ring) -> None:
    """Whether it was woken before or not."""

    async def main() -> None:
        for early in (True, False):
            tasks = [asyncio.create_task(ring.recv_async()) for _ in range(5)]
            for _ in range(3):
                await asyncio.sleep(0)
            for task in tasks[: 4 if early else 0]:
                task.cancel()
            ring.send(b"for the one that is left")
            if not early:
                await asyncio.sleep(0)
                for task in tasks[:4]:
                    task.cancel()
            done, _ = await asyncio.wait(tasks, timeout=WATCHDOG)
            assert done == set(tasks)
            assert [task.result() for task in tasks if not task.cancelled()] == [b"for the one that is left"]

    asyncio.run(main())


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_a_loop_in_another_process(process: Processes, context: str) -> None:
    """It awaits what this one sends, and the other way round."""
    with shmkit.Ring.create(capacity="4 KiB") as there, shmkit.Ring.create(capacity="4 KiB") as back:
        child = process(_echo_all, there, back, context=context)
        for number in range(500):
            there.send(b"%d" % number)
            if number >= 20:
                assert back.recv(WATCHDOG) == b"%d" % (number - 20)
        there.close()
        assert [int(record) for record in back] == list(range(480, 500))
        child.join(WATCHDOG)
        assert child.exitcode == 0


def _echo_all(there: shmkit.Ring, back: shmkit.Ring) -> None:
    async def main() -> None:
        async for record in there:
            await back.send_async(record)

    asyncio.run(main())
    back.close()
