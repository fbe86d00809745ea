"""Locks, semaphores and events in one thread, against threading's own objects and plain numbers, call by call."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import shmkit

# Arguments of acquire with which nobody waits.
at_once = st.sampled_from([(False,), (0, None), (True, 0), (True, -1), (True, 0.0), (1, -0.5)])


class Handles(RuleBasedStateMachine):
    """Each call goes through one of several handles, which are all the same primitive."""

    handles: list[Any]

    def any_of(self, which: int) -> Any:
        return self.handles[which % len(self.handles)]

    @rule(which=st.integers(0, 9))
    def one_more_handle(self, which: int) -> None:
        self.handles.append(pickle.loads(pickle.dumps(self.any_of(which))))

    @rule(which=st.integers(0, 9))
    def one_handle_fewer(self, which: int) -> None:
        if len(self.handles) > 1:
            self.handles.pop(which % len(self.handles)).close()

    def teardown(self) -> None:
        self.handles = []


class LockMachine(Handles):
    """Lock against threading.Lock, RLock against a count."""

    @initialize(recursive=st.booleans())
    def make(self, recursive: bool) -> None:
        self.recursive = recursive
        self.handles = [shmkit.RLock() if recursive else shmkit.Lock()]
        self.model = threading.Lock()
        self.depth = 0

    @rule(which=st.integers(0, 9), args=at_once)
    def acquire(self, which: int, args: tuple[Any, ...]) -> None:
        expected = True if self.recursive else self.model.acquire(False)
        self.depth += expected
        assert self.any_of(which).acquire(*args) is expected

    @rule(which=st.integers(0, 9))
    def release(self, which: int) -> None:
        lock = self.any_of(which)
        if self.depth == 0:
            with pytest.raises(shmkit.NotOwner if self.recursive else shmkit.ReleasedTooOften):
                lock.release()
            return
        lock.release()
        self.depth -= 1
        if not self.recursive:
            self.model.release()

    @rule(which=st.integers(0, 9), inside=st.integers(0, 9))
    def within(self, which: int, inside: int) -> None:
        if self.recursive or self.depth == 0:
            with self.any_of(which):
                assert self.any_of(inside).locked()
                assert self.any_of(inside).acquire(False) is self.recursive
                if self.recursive:
                    self.any_of(inside).release()

    @rule(which=st.integers(0, 9))
    def recover(self, which: int) -> None:
        with pytest.raises(shmkit.NotOwner):
            self.any_of(which).recover()

    @invariant()
    def all_handles_agree(self) -> None:
        for lock in self.handles:
            assert lock.locked() is (self.depth > 0)
            assert lock._is_owned() is (self.depth > 0)
            if self.recursive:
                assert lock._recursion_count() == self.depth


class SemaphoreMachine(Handles):
    """Counted, bounded, or with undo, against a number."""

    @initialize(value=st.integers(0, 5), kind=st.sampled_from(["counted", "bounded", "undo"]))
    def make(self, value: int, kind: str) -> None:
        self.kind, self.value = kind, max(value, kind == "undo")
        self.most = 2**31 - 1 if kind == "counted" else self.value
        make = shmkit.BoundedSemaphore if kind == "bounded" else shmkit.Semaphore
        self.handles = [make(self.value, undo=kind == "undo")]

    @rule(which=st.integers(0, 9), args=at_once)
    def acquire(self, which: int, args: tuple[Any, ...]) -> None:
        assert self.any_of(which).acquire(*args) is (self.value > 0)
        self.value -= self.value > 0

    @rule(which=st.integers(0, 9), n=st.integers(-1, 4))
    def release(self, which: int, n: int) -> None:
        semaphore = self.any_of(which)
        if n < 1:
            with pytest.raises(ValueError, match="one or more"):
                semaphore.release(n)
        elif n > self.most - self.value:
            with pytest.raises(shmkit.ReleasedTooOften):
                semaphore.release(n)
        else:
            semaphore.release(n)
            self.value += n

    @invariant()
    def all_handles_agree(self) -> None:
        for semaphore in self.handles:
            assert semaphore.get_value() == self.value
            assert semaphore.locked() is (self.value == 0)
            assert semaphore.undo is (self.kind == "undo")


class EventMachine(Handles):
    """Event and Condition against threading's."""

    @initialize()
    def make(self) -> None:
        self.handles = [shmkit.Event()]
        self.model = threading.Event()
        self.condition = shmkit.Condition()

    @rule(which=st.integers(0, 9), what=st.sampled_from(["set", "clear", "is_set"]))
    def call(self, which: int, what: str) -> None:
        assert getattr(self.any_of(which), what)() is getattr(self.model, what)()

    @rule(which=st.integers(0, 9), timeout=st.sampled_from([0, -1, 0.0]))
    def wait(self, which: int, timeout: float) -> None:
        assert self.any_of(which).wait(timeout) is self.model.wait(0)

    @rule(n=st.integers(-2, 70), depth=st.integers(1, 3))
    def nobody_is_notified(self, n: int, depth: int) -> None:
        for _ in range(depth):
            self.condition.acquire()
        self.condition.notify(n)
        assert self.condition.wait(0) is False
        assert self.condition.waiting == 0
        assert self.condition.lock._recursion_count() == depth
        for _ in range(depth):
            self.condition.release()
        with pytest.raises(shmkit.NotOwner):
            self.condition.notify(n)

    @invariant()
    def all_handles_agree(self) -> None:
        assert all(event.is_set() is self.model.is_set() for event in self.handles)

    def teardown(self) -> None:
        self.handles = []
        self.condition = None  # type: ignore[assignment]


few = settings(max_examples=60, stateful_step_count=40)
TestLocks = LockMachine.TestCase
TestLocks.settings = few
TestSemaphores = SemaphoreMachine.TestCase
TestSemaphores.settings = few
TestEvents = EventMachine.TestCase
TestEvents.settings = few
