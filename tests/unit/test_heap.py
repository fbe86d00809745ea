"""The heap: blocks of every size, taken, let go, recycled, given back to the system."""

from __future__ import annotations

import gc
import os
import platform
import random
import resource
import threading
from collections.abc import Callable, Iterator

import pytest

import shmkit
from shmkit import _heap_size
from shmkit._heap import Heap, process_heap
from support import Processes


@pytest.fixture
def heap() -> Heap:
    return process_heap()


def test_blocks_of_every_size(heap: Heap) -> None:
    """A block has the bytes that were asked for, wastes at most an eighth beyond 4 KiB, and keeps what is written."""
    blocks = []
    for size in [1, 511, 512, 513, 4095, 4096, 5000, 65_535, 65_536, 65_537, 10**6, 2**20, 10**7]:
        block = heap.allocate(size)
        assert len(memoryview(block)) == size <= block.size
        assert block.size <= max(512, size * 9 / 8)
        memoryview(block)[:] = bytes([size % 251]) * size
        blocks.append((block, size))
    for block, size in blocks:
        assert bytes(block) == bytes([size % 251]) * size


def test_no_two_blocks_overlap(heap: Heap) -> None:
    """Whatever is taken and let go, in whatever order."""
    chance = random.Random(5)
    held: list[tuple[memoryview, int]] = []
    for number in range(3000):
        if held and chance.random() < 0.45:
            view, mark = held.pop(chance.randrange(len(held)))
            assert view[0] == view[-1] == mark
            view.release()
        else:
            view = memoryview(heap.allocate(chance.choice([10, 600, 3000, 40_000, 70_000]) + chance.randrange(64)))
            view[0] = view[-1] = number % 256
            held.append((view, number % 256))
    for view, mark in held:
        assert view[0] == view[-1] == mark


def test_blocks_are_recycled(heap: Heap) -> None:
    """What was let go is taken next, so steady use touches no new page."""
    before = heap.statistics()["resident"]  # what others of this process use, or have used
    numbers = {heap.allocate("1 MiB").number for _ in range(100)}
    assert len(numbers) <= 2
    assert heap.statistics()["resident"] - before <= 3 << 20


@pytest.mark.skipif(
    tuple(map(int, platform.release().split(".")[:2])) < (5, 14), reason="the kernel maps no pages at once"
)
def test_pages_are_mapped_at_once(heap: Heap) -> None:
    """What another process has written to costs this one no fault for each page, when it first writes there."""
    size, count = 1 << 20, 8
    pages = size // resource.getpagesize() * count
    with memoryview(heap.allocate(size)) as first:
        first[:] = bytes(size)
    blocks = [heap.allocate(size) for _ in range(count)]
    for block in blocks:
        memoryview(block)[:] = bytes(size)
    del block, blocks
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            data = bytes(size)
            views = [memoryview(heap.allocate(size)) for _ in range(count)]
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for view in views:
                view[:] = data
            code = 0 if resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < pages // 8 else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_thousands_of_small_blocks(heap: Heap) -> None:
    """Taking stays quick when hardly any is free, and everything comes back."""
    gc.collect()
    heap.collect()  # what earlier tests' children have left
    before = heap.statistics()["blocks_held"]
    blocks = [heap.allocate(600) for _ in range(20_000)]
    assert len({block.number for block in blocks}) == 20_000
    assert heap.statistics()["blocks_held"] >= 20_000
    blocks.clear()
    assert heap.statistics()["blocks_held"] == before


def test_trimming(heap: Heap) -> None:
    """Pages of what is free go back to the system; what is held stays as it is."""
    kept = heap.allocate(100_000)
    memoryview(kept)[:3] = b"abc"
    del [heap.allocate("4 MiB") for _ in range(5)][:]
    before = os.fstat(heap_fd(heap)).st_blocks
    assert heap.trim() >= 20 << 20
    assert os.fstat(heap_fd(heap)).st_blocks * 512 < before * 512 - (20 << 20) + 4096
    assert heap.trim() == 0
    assert bytes(kept)[:3] == b"abc"
    again = heap.allocate("4 MiB")
    memoryview(again)[-1:] = b"x"


def heap_fd(heap: Heap) -> int:
    """The descriptor of its memory: the largest of those that are named like it."""
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    known = [link for link in links if os.path.exists(link) and os.readlink(link).startswith("/memfd:shmkit")]
    return int(max(known, key=lambda link: os.stat(link).st_size).rsplit("/", 1)[1])


def test_its_limit(name: str) -> None:
    """No more than the limit is ever resident; what is too large for it is refused at once."""
    queue = shmkit.Queue.create(name, capacity="4 MiB")
    try:
        heap = queue.heap
        blocks = []
        with pytest.raises(shmkit.HeapFull, match="limit is 4 MiB"):
            while True:
                blocks.append(heap.allocate("1 MiB"))
        assert len(blocks) in (3, 4)
        assert heap.statistics()["resident"] <= 4 << 20
        with pytest.raises(shmkit.RecordTooLarge):
            heap.allocate("5 MiB")
        blocks.pop()
        blocks.append(heap.allocate("1 MiB"))
        blocks.clear()
        # Memory that lies idle as blocks of one size can be had as those of another.
        assert len([heap.allocate("100 KiB") for _ in range(20)]) == 20
    finally:
        queue.unlink()
    with pytest.raises(ValueError, match="a heap has at least 1 MiB"):
        shmkit.Queue.create(name, capacity=1000)


def test_bad_sizes(heap: Heap) -> None:
    for size in (-1, "x", 2.5, None):
        with pytest.raises((TypeError, ValueError)):
            heap.allocate(size)  # type: ignore[arg-type]
    with pytest.raises(shmkit.RecordTooLarge):
        heap.allocate(2**60)


def test_threads(heap: Heap) -> None:
    """Each has its own blocks."""
    broken: list[int] = []

    def use(me: int) -> None:
        for _ in range(500):
            view = memoryview(heap.allocate(5000))
            view[:] = bytes([me]) * 5000
            if bytes(view) != bytes([me]) * 5000:
                broken.append(me)

    threads = [threading.Thread(target=use, args=(me,)) for me in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not broken


def hold_and_die(heap: Heap) -> None:
    blocks = [heap.allocate(size) for size in (100, 10_000, 1_000_000)]
    os._exit(len(blocks) - 3)


def test_what_the_dead_held_comes_back(heap: Heap, process: Processes) -> None:
    for _ in range(5):
        child = process(hold_and_die, heap, context="fork")
        child.join(60)
        assert child.exitcode == 0
    heap.collect()
    said = heap.statistics()
    assert said["blocks_held"] == 0
    assert said["members"] == 1


def test_a_hundred_processes_that_end_without_a_word(heap: Heap, process: Processes) -> None:
    """One after the other and some at a time (`tests/stress/test_heap_crowds.py` has a thousand, and thousands)."""
    for _ in range(20):
        children = [process(hold_and_die, heap, context="fork") for _ in range(5)]
        for child in children:
            child.join(60)
            assert child.exitcode == 0
    heap.collect()
    assert heap.statistics()["deaths"] >= 90


def hold_and_wait(heap: Heap, me: int, come: shmkit.Queue, go: shmkit.Event) -> None:
    view = memoryview(heap.allocate(5000))
    view[:] = bytes([me]) * 5000
    come.put(me)
    assert go.wait(60)
    assert bytes(view) == bytes([me]) * 5000


def test_sixty_four_processes_at_one_time(process: Processes) -> None:
    """Each is a member, and has its block for itself."""
    come, go = shmkit.Queue(), shmkit.Event()
    heap = come.heap
    children = [process(hold_and_wait, heap, me, come, go, context="fork") for me in range(64)]
    assert sorted(come.get(timeout=60) for _ in children) == list(range(64))
    said = heap.statistics()
    assert said["members"] >= 65
    go.set()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    heap.collect()
    assert heap.statistics()["members"] == 1


@pytest.fixture
def address_limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Has RLIMIT_AS be that many bytes, as far as Python is asked."""
    real = resource.getrlimit

    def limit(nbytes: int) -> None:
        monkeypatch.setattr(
            resource, "getrlimit", lambda what: (nbytes, -1) if what == resource.RLIMIT_AS else real(what)
        )

    yield limit
    monkeypatch.undo()


@pytest.mark.parametrize("addresses", [resource.RLIM_INFINITY, 2**30, 2**32, 2**36])
def test_sizes_that_are_tried(addresses: int, address_limit: Callable[[int], None]) -> None:
    """More addresses than memory while there are enough; down to 64 MiB where nobody said how much it should be."""
    address_limit(addresses)
    most, spans, entries = zip(*_heap_size.sizes(None), strict=True)
    assert most[0] == _heap_size.default_limit()
    assert all(span >= limit for span, limit in zip(spans, most, strict=True))
    assert list(most) == sorted(most, reverse=True)
    assert list(spans) == sorted(spans, reverse=True)
    assert 64 << 20 <= most[-1] == min(most) < 256 << 20
    assert min(entries) >= 1 << 16
    if addresses != resource.RLIM_INFINITY:
        assert spans[0] <= addresses // 4
        assert most[0] <= addresses // 8


def test_a_size_that_was_asked_for_is_tried_with_fewer_addresses(address_limit: Callable[[int], None]) -> None:
    """And never made less."""
    for addresses in (resource.RLIM_INFINITY, 2**32):
        address_limit(addresses)
        tried = list(_heap_size.sizes("3 GiB"))
        assert {most for most, _, _ in tried} == {3 << 30}
        assert 3 << 30 <= tried[-1][1] < 6 << 30


def test_too_few_addresses(process: Processes) -> None:
    """The error says which limit it was."""
    code = """
import resource, shmkit
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
try:
    shmkit.Queue.create("never", capacity="4 GiB")
except OSError as error:
    print(error)
"""
    said = process.python(code).communicate()[0]
    assert "'never' of 4" in said
    assert "ulimit -v" in said
