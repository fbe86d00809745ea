"""A heap beside its model: blocks of any size, that are taken, written, kept in pieces, and let go in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import shmkit
from support.names import unique_name

LIMIT = 8 << 20
SLAB = 64 << 10
sizes = st.one_of(
    st.integers(1, 700),
    st.integers(1, 40_000),
    st.integers(1, LIMIT // 2),
    st.sampled_from([512, 513, 4096, 4097, 32_767, 32_768, 32_769, 65_536, 1 << 20, (1 << 20) + 1]),
)
picks = st.integers(0, 1000)


class Held:
    """An array that stands in a block, and what is in it."""

    def __init__(self, array: np.ndarray, fill: int) -> None:
        self.array = array
        self.fill = fill
        array[:] = fill

    @property
    def where(self) -> tuple[int, int]:
        begin = self.array.__array_interface__["data"][0]
        return begin, begin + self.array.nbytes


class HeapMachine(RuleBasedStateMachine):
    """The heap of a queue with a name, in one process."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: Any = None
        self.held: list[Held] = []
        self.fills = 0

    @initialize()
    def make(self) -> None:
        self.queue = shmkit.Queue.create(unique_name(), capacity=LIMIT)

    def teardown(self) -> None:
        self.held.clear()
        if self.queue is not None:
            self.queue.heap.collect()
            said = self.queue.heap.statistics()
            assert said["blocks_queued"] == 0
            assert said["blocks_held"] == 1 + self.queue.rings, "nothing is left but the queue"
            self.queue.heap.trim()
            assert self.queue.heap.statistics()["resident"] <= 2 * SLAB, "what is idle was given back"
            self.queue.unlink()
            self.queue.close()

    def most_needed(self, size: int) -> int:
        """What `size` more can take at the very most: small blocks may each be the last one of a slab that is there."""
        small = sum(held.array.nbytes <= 32_768 for held in self.held)
        large = sum(held.array.nbytes * 9 // 8 + 4096 for held in self.held if held.array.nbytes > 32_768)
        return (small + 4) * SLAB + large + size * 9 // 8 + 4096

    @rule(size=sizes)
    def take(self, size: int) -> None:
        try:
            block = self.queue.heap.allocate(size)
        except shmkit.HeapFull:
            assert self.most_needed(size) > LIMIT, "there was room"
            return
        assert len(block) == size
        self.fills = self.fills % 255 + 1
        self.held.append(Held(np.frombuffer(block, np.uint8), self.fills))

    @rule(more=st.integers(1, LIMIT))
    def take_too_much(self, more: int) -> None:
        with pytest.raises(shmkit.RecordTooLarge):
            self.queue.heap.allocate(LIMIT + more)

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def let_go(self, pick: int) -> None:
        self.held.pop(pick % len(self.held))

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def keep_a_piece(self, pick: int) -> None:
        """A view of it is enough to keep all of it."""
        held = self.held[pick % len(self.held)]
        held.array = held.array[len(held.array) // 2 :]

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def send_and_get(self, pick: int) -> None:
        """Through the queue it is copied into another block, which is the array's."""
        held = self.held[pick % len(self.held)]
        try:
            self.queue.put(held.array, timeout=0)
        except shmkit.HeapFull:
            assert self.most_needed(held.array.nbytes) > LIMIT, "there was room"
            return
        got = self.queue.get(timeout=0)
        assert (got == held.fill).all()
        if held.array.nbytes >= 1024:
            self.held.append(Held(got, held.fill))

    @rule()
    def let_all_go(self) -> None:
        self.held.clear()

    @rule(keep=st.sampled_from([0, SLAB, 1 << 20]))
    def trim(self, keep: int) -> None:
        self.queue.heap.trim(keep)

    @rule()
    def collect(self) -> None:
        self.queue.heap.collect()

    @invariant()
    def nothing_overlaps(self) -> None:
        end = 0
        for begin, then in sorted(held.where for held in self.held):
            assert begin >= end
            end = then
        for held in self.held:
            assert (held.array == held.fill).all()

    @invariant()
    def counts(self) -> None:
        if self.queue is None:
            return
        said = self.queue.heap.statistics()
        assert said["blocks_held"] == len(self.held) + 1 + self.queue.rings
        assert said["resident"] <= LIMIT
        assert said["members"] == 1


TestHeap = HeapMachine.TestCase
TestHeap.settings = settings(max_examples=12, stateful_step_count=40, deadline=None)
