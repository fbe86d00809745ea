"""Many of a heap's users and blocks: 1,100 processes over its life, 64 at one time, a million arrays that one keeps.

With `make soak` more processes than there are places for members, so that each place is used again.
"""

from __future__ import annotations

import os
import signal
import zlib
from typing import Any

import numpy as np
import pytest

import shmkit
from shmkit.segment import room
from support import Processes, wait_until
from support.forking import fork

WATCHDOG = 60.0
AT_A_TIME = 20
PLACES = 4096  # HEAP_MEMBERS
SIZES = (8, 100, 700, 5_000, 40_000)  # numbers of eight bytes
ENDS = ("as a child", "os._exit", "SIGKILL")


def array(number: int) -> Any:
    return np.full(SIZES[number % len(SIZES)], number, np.uint64)


def one_of_many(name: str, me: int) -> None:
    """Gets an array, puts one, and ends while it holds others: in order, at once, or killed."""
    queue = shmkit.Queue.attach(name)
    blocks = [queue.heap.allocate(size) for size in (100, 5_000, 100_000)]
    got = queue.get(timeout=WATCHDOG)
    assert (got == got[0]).all()
    assert len(got) == SIZES[int(got[0]) % len(SIZES)]
    queue.put(array(int(got[0])), timeout=WATCHDOG)
    how = ENDS[me % len(ENDS)]
    if how == "as a child":
        blocks.clear()
        del got
    elif how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)


def crowd(name: str, count: int) -> None:
    """So many processes, one batch after the other; then nothing is held, nothing lost, and all of it works."""
    queue: Any = shmkit.Queue.create(name, capacity="64 MiB")
    try:
        queue.put_many([array(number) for number in range(AT_A_TIME)])
        ended = {0: 0, -signal.SIGKILL: 0}
        begun = 0
        while begun < count:
            batch = [fork(lambda me=me: one_of_many(name, me)) for me in range(begun, min(begun + AT_A_TIME, count))]  # type: ignore[misc]
            begun += len(batch)
            for pid in batch:
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                assert status in ended, f"a child failed: {status}"
                ended[status] += 1
        assert ended[-signal.SIGKILL] == count // len(ENDS)
        assert sorted(int(got[0]) for got in queue.get_many(AT_A_TIME + 1)) == list(range(AT_A_TIME))
        queue.heap.collect()
        said = queue.statistics()
        assert said["items"] == 0
        assert said["heap"]["members"] == 1, said
        assert said["heap"]["deaths"] >= count // len(ENDS), said
        assert said["heap"]["blocks_queued"] == 0, said
        assert said["heap"]["blocks_held"] == 1 + queue.rings, said
        queue.put(array(3))
        assert (queue.get(timeout=0) == 3).all()
    finally:
        queue.unlink()


def test_more_than_1024_processes_over_a_heaps_life(name: str) -> None:
    """Each gets and puts an array; a third are killed with blocks in their hands, a third end without a word."""
    crowd(name, 1_100)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_more_processes_than_a_heap_has_places_for(name: str) -> None:
    """Places of the dead are used again, every one of them."""
    crowd(name, PLACES + 1_000)


def hold(queue: Any, come: Any, go: Any) -> None:
    """Has arrays that it got, blocks that it took, and looks at the end that they are as they were."""
    kept = [queue.get(timeout=WATCHDOG) for _ in range(len(SIZES))]
    sums = [zlib.crc32(one.tobytes()) for one in kept]
    views = [memoryview(queue.heap.allocate(size)) for size in (600, 30_000)]
    for view in views:
        view[:] = os.getpid().to_bytes(4, "little") * (len(view) // 4)
    come.put((os.getpid(), [int(one[0]) for one in kept]), timeout=WATCHDOG)
    assert go.wait(WATCHDOG)
    assert [zlib.crc32(one.tobytes()) for one in kept] == sums
    assert all(bytes(view) == os.getpid().to_bytes(4, "little") * (len(view) // 4) for view in views)


@pytest.mark.parametrize("end", ["each ends", "all are killed at once"])
def test_64_processes_at_one_time(process: Processes, end: str) -> None:
    """All hold blocks at the same time, each its own; in the end all of them are free."""
    count, each = 64, len(SIZES)
    queue: Any = shmkit.Queue()
    come: Any = shmkit.Queue()
    go = shmkit.Event()
    heap = queue.heap
    heap.collect()
    before = heap.statistics()["blocks_held"]
    children: list[Any] = [process(hold, queue, come, go) for _ in range(count)]
    for number in range(count * each):
        queue.put(array(number))
    said = [come.get(timeout=WATCHDOG) for _ in children]
    assert {pid for pid, _ in said} == {child.pid for child in children}
    assert sorted(number for _, mine in said for number in mine) == list(range(count * each))
    told = heap.statistics()
    assert told["members"] >= count + 1
    # Smaller arrays are copied when they are got, and their blocks are free then.
    assert told["blocks_held"] - before >= count * (sum(size >= 5_000 for size in SIZES) + 2), told
    if end == "all are killed at once":
        for child in children:
            os.kill(child.pid, signal.SIGKILL)
    go.set()
    for child in children:
        child.join(WATCHDOG)
        assert child.exitcode == (0 if end == "each ends" else -signal.SIGKILL)

    def all_is_free() -> bool:
        """what they held is free"""
        heap.collect()
        told = heap.statistics()
        return told["members"] == 1 and told["blocks_held"] == 2 + queue.rings + come.rings

    wait_until(all_is_free)
    assert heap.statistics()["blocks_queued"] == 0


def keep(queue: Any, answers: Any, count: int) -> None:
    """Gets so many arrays and keeps them all; looks at each, twice, and waits to be ended."""
    kept: list[Any] = []
    while len(kept) < count:
        kept += queue.get_many(count - len(kept), timeout=WATCHDOG)
    for _ in range(2):
        answers.put(sum(one[0] == one[-1] == number for number, one in enumerate(kept)), timeout=WATCHDOG)
        queue.get(timeout=WATCHDOG)
    signal.pause()


@pytest.mark.timeout(300)
def test_a_receiver_that_keeps_a_million_small_arrays(process: Processes) -> None:
    """Each is its own memory, traffic goes on beside them, and when the receiver is killed all of it is free."""
    count = 1_000_000  # of a kibibyte
    if (room.free_bytes("/dev/shm") or 0) < 4 << 30:
        pytest.skip("less than 4 GiB of memory are free")
    queue: Any = shmkit.Queue(10_000)
    answers: Any = shmkit.Queue()
    heap = queue.heap
    child: Any = process(keep, queue, answers, count)
    for begin in range(0, count, 1000):
        queue.put_many([np.full(128, float(number)) for number in range(begin, begin + 1000)], timeout=WATCHDOG)
    assert answers.get(timeout=WATCHDOG) == count
    assert heap.statistics()["blocks_held"] >= count
    for number in range(1000):
        answers.put(np.full(128, -1.0))
        assert answers.get(timeout=0)[0] == -1, number
    queue.put("look again")
    assert answers.get(timeout=WATCHDOG) == count
    child.kill()
    child.join(WATCHDOG)
    heap.collect()
    told = heap.statistics()
    assert told["blocks_held"] == 2 + queue.rings + answers.rings
    assert told["blocks_queued"] == 0
    heap.trim()
    assert heap.statistics()["resident"] < 64 << 20
