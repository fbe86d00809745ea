"""A topic beside its model: any order of publishing, lending, giving up, receiving, and leaving."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import shmkit
from support.names import unique_name

SLOT_SIZE = 4096
values = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=20),
    st.binary(max_size=300),
    st.tuples(st.integers(), st.floats(allow_nan=False)),
    st.lists(st.integers(), max_size=3),
    st.integers(0, SLOT_SIZE // 8).map(lambda count: np.arange(float(count))),
)


def same(got: object, value: object) -> bool:
    if isinstance(value, np.ndarray):
        return isinstance(got, np.ndarray) and got.dtype == value.dtype and got.tolist() == value.tolist()
    return type(got) is type(value) and got == value


class Follower:
    """A subscriber, and what it is to say."""

    def __init__(self, subscriber: shmkit.Subscriber, at: int) -> None:
        self.subscriber = subscriber
        self.next = at
        self.lost = 0


class TopicMachine(RuleBasedStateMachine):
    """One publisher at a time, and subscribers that come at any time, in one process."""

    def __init__(self) -> None:
        super().__init__()
        self.name = unique_name()
        self.published: list[object] = []
        self.followers: list[Follower] = []
        self.publisher: Any = None
        self.slots = 0

    @initialize(slots=st.integers(2, 5))
    def make(self, slots: int) -> None:
        self.slots = slots
        self.publisher = shmkit.Publisher.create(self.name, slots=slots, slot_size=SLOT_SIZE)
        self.followers.append(Follower(shmkit.Subscriber.attach(self.name), 0))

    def teardown(self) -> None:
        for follower in self.followers:
            follower.subscriber.close()
        if self.publisher is None and self.slots:
            self.publisher = shmkit.Publisher.attach(self.name)
        if self.publisher is not None:
            self.publisher.unlink()
            self.publisher.close()

    @property
    def oldest(self) -> int:
        return max(len(self.published) - (self.slots - 1), 0)

    # ── publishing ──────────────────────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: self.publisher is not None)
    @rule(value=values)
    def publish(self, value: object) -> None:
        self.publisher.publish(value)
        self.published.append(value)

    @precondition(lambda self: self.publisher is not None)
    @rule(count=st.integers(0, SLOT_SIZE // 8), number=st.integers(0, 9), keep=st.booleans())
    def lend(self, count: int, number: int, keep: bool) -> None:
        try:
            with self.publisher.loan(count) as array:
                array[:] = number
                if not keep:
                    raise KeyError
        except KeyError:
            return
        self.published.append(np.full(count, float(number)))

    @precondition(lambda self: self.publisher is not None)
    @rule(more=st.integers(1, 5000))
    def publish_too_much(self, more: int) -> None:
        with pytest.raises(shmkit.RecordTooLarge):
            self.publisher.publish(b"x" * (SLOT_SIZE + more))

    @precondition(lambda self: self.publisher is not None)
    @rule()
    def publish_what_cannot_be_pickled(self) -> None:
        with pytest.raises(Exception, match=r"pickle|local object"):
            self.publisher.publish(lambda: None)

    @precondition(lambda self: self.publisher is not None)
    @rule()
    def leave(self) -> None:
        self.publisher.close()
        self.publisher = None

    @precondition(lambda self: self.publisher is None)
    @rule()
    def come(self) -> None:
        self.publisher = shmkit.Publisher.attach(self.name)

    # ── subscribing ─────────────────────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: len(self.followers) < 4)
    @rule(replay=st.booleans())
    def subscribe(self, replay: bool) -> None:
        subscriber = shmkit.Subscriber.attach(self.name, replay=replay)
        self.followers.append(Follower(subscriber, self.oldest if replay else len(self.published)))

    @precondition(lambda self: len(self.followers) > 1)
    @rule(which=st.integers(0, 3))
    def unsubscribe(self, which: int) -> None:
        self.followers.pop(which % len(self.followers)).subscriber.close()

    @rule(which=st.integers(0, 3), trying=st.booleans())
    def receive(self, which: int, trying: bool) -> None:
        follower = self.followers[which % len(self.followers)]
        if follower.next == len(self.published):
            if self.publisher is None:
                with pytest.raises(shmkit.EndOfStream):
                    follower.subscriber.recv(0)
            else:
                with pytest.raises(TimeoutError):
                    follower.subscriber.recv(0)
            return
        if follower.next < self.oldest:
            follower.lost += self.oldest - follower.next
            follower.next = self.oldest
        got = follower.subscriber.try_recv() if trying else follower.subscriber.recv(0)
        assert same(got, self.published[follower.next])
        assert follower.subscriber.position == follower.next
        follower.next += 1

    @rule(which=st.integers(0, 3))
    def look_at_the_latest(self, which: int) -> None:
        follower = self.followers[which % len(self.followers)]
        if not self.published:
            with pytest.raises((TimeoutError, shmkit.EndOfStream)):
                follower.subscriber.latest()
            return
        assert same(follower.subscriber.latest(), self.published[-1])
        follower.next = len(self.published)

    # ── what always holds ───────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def counts(self) -> None:
        for follower in self.followers:
            assert follower.subscriber.published == len(self.published)
            assert follower.subscriber.lost == follower.lost
            assert follower.subscriber.pending == len(self.published) - max(follower.next, self.oldest)
            assert follower.subscriber.publisher_alive == (self.publisher is not None)


TestTopic = TopicMachine.TestCase
TestTopic.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
