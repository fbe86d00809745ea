"""An RWLock beside its model: any order of calls by one thread, through several handles; nobody waits."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import shmkit

handles = st.integers(0, 2)


class RWLockMachine(RuleBasedStateMachine):
    """The model is how many readings are held, and whether the lock is held for writing, and through which side."""

    def __init__(self) -> None:
        super().__init__()
        self.locks: list[shmkit.RWLock] = []
        self.readers = 0
        self.writing = False

    @initialize(policy=st.sampled_from(["raise", "recover"]))
    def make(self, policy: str) -> None:
        segment = shmkit.Segment.create(size=2048)
        first = shmkit.RWLock.create_at(segment, on_owner_death=policy)  # type: ignore[arg-type]
        self.locks = [first, *(pickle.loads(pickle.dumps(first)) for _ in range(2))]

    @rule(at=handles, patient=st.booleans())
    def read(self, at: int, patient: bool) -> None:
        side = self.locks[at].read
        if self.writing:
            with pytest.raises(RuntimeError, match="this very thread"):
                side.acquire(timeout=0)
            return
        assert side.acquire(timeout=0) if patient else side.acquire(block=False)
        self.readers += 1

    @rule(at=handles, patient=st.booleans())
    def write(self, at: int, patient: bool) -> None:
        side = self.locks[at].write
        if self.writing:
            with pytest.raises(RuntimeError, match="this very thread"):
                side.acquire(block=False)
            return
        got = side.acquire(timeout=0) if patient else side.acquire(block=False)
        assert got == (self.readers == 0)
        self.writing = got

    @rule(at=handles)
    def release_read(self, at: int) -> None:
        if self.readers:
            self.locks[at].read.release()
            self.readers -= 1
        else:
            with pytest.raises(shmkit.NotOwner):
                self.locks[at].read.release()

    @rule(at=handles)
    def release_write(self, at: int) -> None:
        if self.writing:
            self.locks[at].write.release()
            self.writing = False
        else:
            with pytest.raises(shmkit.NotOwner):
                self.locks[at].write.release()

    @rule(at=handles)
    def recover(self, at: int) -> None:
        with pytest.raises(shmkit.NotOwner):
            self.locks[at].recover()

    @rule(at=handles)
    def another_handle(self, at: int) -> None:
        self.locks[at] = pickle.loads(pickle.dumps(self.locks[at - 1]))

    @invariant()
    def as_the_model_says(self) -> None:
        for lock in self.locks:
            assert lock.readers == self.readers
            assert (lock.writer_pid is not None) == self.writing
            assert lock.locked() == (self.writing or self.readers > 0)


TestRWLock = RWLockMachine.TestCase
TestRWLock.settings = settings(max_examples=60, stateful_step_count=40)
