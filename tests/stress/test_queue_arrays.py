"""Arrays of one size through a short queue: a few blocks and no fresh page, however many come through.

A few thousand with the suite, a million with `make soak`.
"""

from __future__ import annotations

import resource
from typing import Any

import numpy as np
import pytest

import shmkit
from support import Processes

MIB = 1 << 20
DEPTH = 8
BLOCKS_MOST = 16
FAULTS_MOST = 2000  # of either side, after a tenth of the arrays: a page each would be 256 for every one of them


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def consume(queue: Any, results: Any, count: int) -> None:
    before = 0
    places = set()
    for number in range(count):
        array = queue.get(timeout=60)
        assert array[0] == array[-1] == number
        places.add(array.__array_interface__["data"][0])
        if number == count // 10:
            before = faults()
        del array
    results.put((faults() - before, len(places)))


def run(process: Processes, count: int) -> None:
    queue: Any = shmkit.Queue(DEPTH)
    results: Any = shmkit.Queue()
    child = process(consume, queue, results, count)
    heap = queue.heap
    source = np.zeros(MIB // 8)
    before = 0
    for number in range(count):
        source[0] = source[-1] = number
        queue.put(source, timeout=60)
        if number == count // 10:
            before = faults()
    grown = faults() - before
    theirs, blocks = results.get(timeout=60)
    child.join(60)
    assert child.exitcode == 0
    told = heap.statistics()
    assert blocks <= BLOCKS_MOST, "all arrays lay in so many places"
    assert told["resident"] <= BLOCKS_MOST * MIB * 9 // 8, told
    assert grown <= FAULTS_MOST, grown
    assert theirs <= FAULTS_MOST, theirs


def test_a_few_blocks_for_thousands_of_arrays(process: Processes) -> None:
    run(process, 10_000)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_few_blocks_for_a_million_arrays(process: Processes) -> None:
    """The promise, in full: 1,000,000 arrays of 1 MiB through a queue of depth 8."""
    run(process, 1_000_000)
