"""Queues beside their model, a deque: any order of calls, by two handles in one process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import shmkit
from stateful.strategies import arrays
from support.names import unique_name


class Pickled:
    """What only pickle can carry."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pickled) and same(self.value, other.value)

    __hash__ = None  # type: ignore[assignment]


plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=60), st.binary(max_size=60)
)
large = st.builds(lambda size, fill: bytes([fill]) * size, st.integers(0, 9000), st.integers(0, 255))
containers = st.recursive(
    plain | large,
    lambda inner: (
        st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
items = st.one_of(plain, large, arrays(), containers, containers.map(Pickled), st.tuples(st.integers(), arrays()))

policies = st.sampled_from(["block", "raise", "drop_oldest", "drop_newest"])


def same(got: Any, item: Any) -> bool:
    if type(got) is not type(item):
        return False
    if isinstance(item, np.ndarray):
        assert isinstance(got, np.ndarray)
        return (got.dtype, got.shape, got.tobytes()) == (item.dtype, item.shape, item.tobytes())
    if isinstance(item, (list, tuple)):
        return len(got) == len(item) and all(map(same, got, item))
    if isinstance(item, dict):
        return got.keys() == item.keys() and all(same(got[key], item[key]) for key in item)
    return bool(got == item)


class QueueMachine(RuleBasedStateMachine):
    """Who would have to wait says so with a time-out of 0."""

    def __init__(self) -> None:
        super().__init__()
        self.handles: list[shmkit.JoinableQueue] = []
        self.model: deque[object] = deque()
        self.most = 0
        self.policy = "block"
        self.shut = self.void = False
        self.put_count = self.done = self.dropped = 0

    @initialize(most=st.sampled_from([0, 1, 2, 5, 70, 200]), policy=policies)
    def make(self, most: int, policy: shmkit.queue.Backpressure) -> None:
        self.most = most
        self.policy = policy if most else "block"
        name = unique_name()
        made = shmkit.JoinableQueue.create(name, most, capacity="64 MiB", backpressure=self.policy)
        self.handles = [made, shmkit.JoinableQueue.attach(name)]

    def teardown(self) -> None:
        if not self.handles:
            return
        left = []
        if not self.void:
            while not self.handles[0].empty():
                left.append(self.handles[0].get(timeout=0))
        assert all(map(same, left, self.model))
        assert len(left) == len(self.model)
        del left
        self.handles[0].heap.collect()
        said = self.handles[0].heap.statistics()
        assert said["blocks_queued"] == 0
        assert said["blocks_held"] == 1 + self.handles[0].rings, "nothing is left but the queue"
        self.handles[0].unlink()
        for handle in self.handles:
            handle.close()

    def handle(self, which: bool) -> shmkit.JoinableQueue:
        return self.handles[which]

    @property
    def is_full(self) -> bool:
        return self.most != 0 and len(self.model) >= self.most

    # ── putting ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def takes(self, item: object) -> bool:
        """Whether the model takes it; what a policy does."""
        if self.is_full:
            if self.policy == "drop_newest":
                self.dropped += 1
                return True
            if self.policy != "drop_oldest":
                return False
            self.model.popleft()
            self.dropped += 1
            # Not if as many were declared done ahead: what comes next is still to be done.
            self.done = min(self.put_count, self.done + 1)
        self.model.append(item)
        self.put_count += 1
        return True

    @precondition(lambda self: not self.shut)
    @rule(item=items, which=st.booleans(), how=st.integers(0, 2))
    def put(self, item: object, which: bool, how: int) -> None:
        queue = self.handle(which)
        calls: list[Callable[[], Any]] = [
            lambda: queue.put(item, timeout=0),
            lambda: queue.put(item, False),
            lambda: queue.put_nowait(item),
        ]
        call = calls[how]
        if self.takes(item):
            call()
        else:
            with pytest.raises(shmkit.Full):
                call()

    @precondition(lambda self: not self.shut)
    @rule(batch=st.lists(items, max_size=9), times=st.sampled_from([1, 1, 1, 20]), which=st.booleans())
    def put_many(self, batch: list[object], times: int, which: bool) -> None:
        batch = batch * times
        sent = 0
        while sent < len(batch) and self.takes(batch[sent]):
            sent += 1
        if sent == len(batch):
            self.handle(which).put_many(batch, timeout=0)
        else:
            with pytest.raises(shmkit.Full) as caught:
                self.handle(which).put_many(batch, timeout=0)
            assert caught.value.sent == sent  # type: ignore[attr-defined]

    @precondition(lambda self: not self.shut)
    @rule(which=st.booleans())
    def put_what_cannot_be_pickled(self, which: bool) -> None:
        with pytest.raises(Exception, match=r"pickle|local object"):
            self.handle(which).put((1, b"x" * 2000, lambda: None))

    @precondition(lambda self: self.shut)
    @rule(item=items, which=st.booleans())
    def put_into_one_that_was_shut(self, item: object, which: bool) -> None:
        if self.is_full:
            return  # either is right: Full, or ShutDown
        with pytest.raises(shmkit.ShutDown):
            self.handle(which).put(item, timeout=0)

    # ── getting ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(which=st.booleans(), how=st.integers(0, 2))
    def get(self, which: bool, how: int) -> None:
        queue = self.handle(which)
        call = [lambda: queue.get(timeout=0), lambda: queue.get(False), queue.get_nowait][how]
        if self.model:
            assert same(call(), self.model.popleft())
        else:
            with pytest.raises(shmkit.ShutDown if self.shut else shmkit.Empty):
                call()

    @rule(which=st.booleans(), most=st.one_of(st.integers(1, 12), st.just(1000)))
    def get_many(self, which: bool, most: int) -> None:
        if not self.model:
            with pytest.raises(shmkit.ShutDown if self.shut else shmkit.Empty):
                self.handle(which).get_many(most, timeout=0)
            return
        got = self.handle(which).get_many(max_messages_to_get=most, timeout=0)
        assert len(got) == min(most, len(self.model))
        assert all(map(same, got, [self.model.popleft() for _ in got]))

    @precondition(lambda self: self.model)
    @rule(which=st.booleans())
    def change_and_put_again(self, which: bool) -> None:
        """What was received is the receiver's own, to write to and to hand on."""
        got = self.handle(which).get(timeout=0)
        item = self.model.popleft()
        assert same(got, item)
        if self.shut or not isinstance(got, np.ndarray):
            return
        assert got.flags.writeable
        expected = got.copy()
        if self.takes(expected):
            self.handle(not which).put(got, timeout=0, move=True)

    # ── tasks, and the end ──────────────────────────────────────────────────────────────────────────────────────────

    @rule(which=st.booleans())
    def task_done(self, which: bool) -> None:
        if self.done < self.put_count:
            self.handle(which).task_done()
            self.done += 1
        else:
            with pytest.raises(ValueError, match="too many times"):
                self.handle(which).task_done()

    @precondition(lambda self: self.done == self.put_count)
    @rule(which=st.booleans())
    def join(self, which: bool) -> None:
        self.handle(which).join()

    @precondition(lambda self: self.put_count > 30)
    @rule(which=st.booleans(), immediate=st.booleans())
    def shutdown(self, which: bool, immediate: bool) -> None:
        self.handle(which).shutdown(immediate)
        self.shut = True
        if immediate:
            self.void = True
            self.done = min(self.put_count, self.done + len(self.model))
            self.model.clear()

    # ── what always holds ───────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def counts(self) -> None:
        for queue in self.handles:
            assert queue.qsize() == len(self.model)
            assert queue.empty() == (not self.model)
            assert queue.full() == self.is_full
            said = queue.statistics()
            assert said["dropped"] == self.dropped
            assert said["put"] == self.put_count
            assert said["items"] == len(self.model)
            assert said["lost_to_deaths"] == 0
            assert queue._join(0) == (self.done == self.put_count)


class SimpleQueueMachine(RuleBasedStateMachine):
    """Its few words."""

    @initialize()
    def make(self) -> None:
        self.queue = shmkit.SimpleQueue()
        self.model: deque[object] = deque()

    @rule(item=items)
    def put(self, item: object) -> None:
        self.queue.put(item)
        self.model.append(item)

    @precondition(lambda self: self.model)
    @rule()
    def get(self) -> None:
        assert same(self.queue.get(), self.model.popleft())

    @invariant()
    def emptiness(self) -> None:
        if hasattr(self, "queue"):
            assert self.queue.empty() == (not self.model)

    def teardown(self) -> None:
        if hasattr(self, "queue"):
            self.queue.close()


def test_more_done_than_got_and_then_drops() -> None:
    """Two tasks are declared done ahead, what they stood for is dropped, and two more come."""
    state = QueueMachine()
    state.make(most=2, policy="drop_oldest")
    try:
        state.put_many(batch=[1, 2], times=1, which=False)
        state.task_done(which=False)
        state.task_done(which=True)
        state.counts()
        state.join(which=False)
        state.put_many(batch=[3, 4, 5], times=1, which=True)
        state.counts()
        assert state.done == state.put_count - 1
        state.task_done(which=True)
        state.counts()
        state.join(which=False)
        state.task_done(which=True)
    finally:
        state.teardown()


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestSimpleQueue = SimpleQueueMachine.TestCase
TestSimpleQueue.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
