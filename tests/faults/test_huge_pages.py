"""Segments and rings in huge pages, where the kernel has some or lets root reserve a few for the time of a test."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import shmkit
from shmkit import Segment
from shmkit.segment import memfd
from support import Processes

WATCHDOG = 30.0
PAGES = 4
RESERVED = Path("/proc/sys/vm/nr_hugepages")


def free_pages() -> int:
    return memfd._from_meminfo("HugePages_Free:")


@pytest.fixture(scope="module", autouse=True)
def _alone() -> Iterator[None]:
    """Whoever else runs these tests waits: the figures are the whole machine's."""
    if not RESERVED.exists():
        pytest.skip("this kernel has no huge pages")
    with open(RESERVED) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def huge_page(_alone: None) -> Iterator[int]:
    """The size of the pages of which there are PAGES now."""
    with contextlib.ExitStack() as stack:
        if free_pages() < PAGES:
            before = RESERVED.read_text()
            stack.callback(RESERVED.write_text, before)
            try:
                RESERVED.write_text(str(int(before) + PAGES))
            except OSError as error:
                stack.pop_all()
                pytest.skip(f"no huge pages are reserved, and none can be: {error}")
            if free_pages() < PAGES:
                pytest.skip(f"the kernel did not find {PAGES} huge pages of contiguous memory")
        yield memfd.huge_page_size()


def large_pages_behind(address: int) -> bool:
    """Whether the kernel says that the mapping at an address is of huge pages."""
    with open("/proc/self/smaps") as maps:
        inside = False
        for line in maps:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                first, last = (int(word, 16) for word in words[0].split("-"))
                inside = first <= address < last
            elif inside and words[0] == "KernelPageSize:":
                return int(words[1]) * 1024 == memfd.huge_page_size()
    return False


def address_of(segment: Segment) -> int:
    return np.frombuffer(segment.buf, "u1").__array_interface__["data"][0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("backing", ["memfd", "sysv"])
def test_a_segment_lies_in_huge_pages(backing: str, huge_page: int) -> None:
    """All of its size can be written, its address is the pages', and they are free again when it has gone."""
    before = free_pages()
    size = huge_page + huge_page // 2
    with Segment.create(None, size, backing=backing, hugepages=True) as segment:
        assert segment.size == size
        assert large_pages_behind(address_of(segment))
        segment.buf[:] = bytes(range(250)) * (size // 250) + bytes(size % 250)
        assert segment.buf[249] == 249
        segment.buf[-1] = 7
        assert segment.buf[-1] == 7
        assert free_pages() <= before - 2
    shmkit.trim()
    assert free_pages() == before


@pytest.mark.parametrize("backing", ["memfd", "sysv"])
def test_more_than_there_are_is_an_error(backing: str) -> None:
    """NoSpace when it is made, never SIGBUS when it is written; it says how many are free, and how to get more."""
    before, reserved = free_pages(), int(RESERVED.read_text())
    says = rf"asked for {before + 1} of .* {before} free of the {reserved} .*vm\.nr_hugepages={reserved + 1}"
    with pytest.raises(shmkit.NoSpace, match=says):
        Segment.create(None, before * memfd.huge_page_size() + 1, backing=backing, hugepages=True)
    assert free_pages() == before


@pytest.mark.parametrize("backing", ["memfd", "sysv"])
def test_a_child_sees_the_same_pages(backing: str, huge_page: int, process: Processes) -> None:
    """Inherited by fork, and found by whoever is handed the segment."""
    with Segment.create(None, huge_page // 2, backing=backing, hugepages=True) as segment:

        def child() -> None:
            segment.buf[:4] = b"seen"

        other = process(child)
        other.join(WATCHDOG)
        assert other.exitcode == 0
        assert bytes(segment.buf[:4]) == b"seen"
        other = process(write_there, segment, context="spawn")
        other.join(WATCHDOG)
        assert other.exitcode == 0
        assert bytes(segment.buf[:4]) == b"away"


def write_there(segment: Segment) -> None:
    assert large_pages_behind(address_of(segment))
    segment.buf[:4] = b"away"


def produce(ring: shmkit.Ring, count: int) -> None:
    for number in range(count):
        ring.send(np.full(50_000 + number, number, "<u4"), timeout=WATCHDOG)


def produce_and_die(ring: shmkit.Ring, count: int) -> None:
    produce(ring, count)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("backing", ["memfd", "sysv"])
@pytest.mark.parametrize("target", [produce, produce_and_die])
def test_a_ring_lies_in_huge_pages(
    backing: str, huge_page: int, target: Callable[[shmkit.Ring, int], None], process: Processes
) -> None:
    """Several laps of arrays; then its end, or the death of the producer, is told: leases work there as elsewhere."""
    before = free_pages()
    with shmkit.Ring.create(capacity=huge_page // 2, backing=backing, hugepages=True) as ring:
        assert large_pages_behind(address_of(ring.segment))
        child = process(target, ring, 100)
        for number in range(100):
            with ring.recv_view(timeout=WATCHDOG) as array:
                assert array.shape == (50_000 + number,)
                assert (array == number).all()
                del array
        with pytest.raises(shmkit.PeerDied if target is produce_and_die else shmkit.EndOfStream):
            ring.recv(timeout=WATCHDOG)
        child.join(WATCHDOG)
        ring.send(bytes(ring.capacity - 8), timeout=WATCHDOG)
        assert ring.recv(timeout=WATCHDOG) == bytes(ring.capacity - 8)
    shmkit.trim()
    assert free_pages() == before
