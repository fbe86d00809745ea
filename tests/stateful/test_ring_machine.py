"""A ring beside its model: any order of calls, both ends in one process."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import shmkit
from stateful.models import Item, Need, Record, RingModel
from stateful.strategies import arrays, capacities, payloads

MOST = 4200
# Around what is left of a small ring, of any: sizes, counts, positions in a list.
numbers = st.integers(0, 2**16)
items = st.one_of(payloads(300), payloads(1200), payloads(MOST), arrays())


@dataclass
class Held:
    view: shmkit.RecordView
    shown: np.ndarray | memoryview
    record: Record


def same(got: object, item: Item) -> bool:
    if isinstance(item, bytes):
        return isinstance(got, (bytes, memoryview)) and bytes(got) == item
    assert isinstance(got, np.ndarray)
    return (got.dtype, got.shape, got.tobytes()) == (item.dtype, item.shape, item.tobytes())


class RingMachine(RuleBasedStateMachine):
    """Everything one process can do with both ends; who would have to wait says so with a time-out of 0."""

    def __init__(self) -> None:
        super().__init__()
        self.ring: shmkit.Ring | None = None
        self.model = RingModel(0)
        self.held: list[Held] = []
        self.slot: shmkit.Reservation | None = None
        self.slot_need = Need(8, 0, 8)

    @initialize(capacity=capacities)
    def make(self, capacity: int) -> None:
        self.ring = shmkit.Ring.create(capacity=capacity)
        self.model = RingModel(capacity)
        assert self.ring.peek() is None

    def teardown(self) -> None:
        self.held.clear()
        self.slot = None
        if self.ring is not None:
            self.ring.close()
        self.ring = None

    # ── sending ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def refuses(self, item: Item) -> bool:
        """An open reservation, and what can never fit, are told apart from a full ring."""
        if self.slot is not None:
            with pytest.raises(RuntimeError, match="open reservation"):
                self.ring.try_send(item)
            return True
        if self.model.never_fits(Need.of(item)):
            for send in (self.ring.try_send, self.ring.send, lambda item: self.ring.send_many([item])):
                with pytest.raises(shmkit.RecordTooLarge):
                    send(item)
            return True
        return False

    @rule(item=items)
    def try_send(self, item: Item) -> None:
        if not self.refuses(item):
            was_empty = not self.model.waiting and not self.model.held
            fits = self.model.send(item)
            assert self.ring.try_send(item) == fits
            assert fits or not was_empty, "whatever can ever fit is accepted by an empty ring"

    @rule(item=items)
    def send(self, item: Item) -> None:
        if self.refuses(item):
            return
        if self.model.send(item):
            self.ring.send(item, timeout=0)
        else:
            with pytest.raises(TimeoutError):
                self.ring.send(item, timeout=0)

    @precondition(lambda self: self.slot is None)
    @rule(batch=st.lists(items, max_size=6))
    def send_many(self, batch: list[Item]) -> None:
        batch = [item for item in batch if not self.model.never_fits(Need.of(item))]
        sent = 0
        while sent < len(batch) and self.model.send(batch[sent]):
            sent += 1
        self.sends(sent, len(batch), lambda: self.ring.send_many(batch, timeout=0))

    @precondition(lambda self: self.slot is None)
    @rule(itemsize=st.integers(1, 300), count=st.integers(0, 80), fill=st.binary(min_size=1, max_size=7))
    def send_rows(self, itemsize: int, count: int, fill: bytes) -> None:
        rows = (fill * (itemsize * count))[: itemsize * count]
        sent = 0
        while sent < count and self.model.send(rows[sent * itemsize : (sent + 1) * itemsize]):
            sent += 1
        self.sends(sent, count, lambda: self.ring.send_many(rows, timeout=0, itemsize=itemsize))

    def sends(self, expected: int, of: int, call: object) -> None:
        assert callable(call)
        if expected == of:
            assert call() == of
        else:
            with pytest.raises(TimeoutError) as caught:
                call()
            assert caught.value.sent == expected  # type: ignore[attr-defined]

    # ── reserving ───────────────────────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: self.slot is None)
    @rule(nbytes=st.integers(0, MOST))
    def reserve_bytes(self, nbytes: int) -> None:
        self.reserves(Need.of_reserved_bytes(nbytes), nbytes, None)

    @precondition(lambda self: self.slot is None)
    @rule(array=arrays())
    def reserve_array(self, array: np.ndarray) -> None:
        self.reserves(Need.of(array), array.shape, array.dtype)

    def reserves(self, need: Need, shape: object, dtype: np.dtype | None) -> None:
        if self.model.never_fits(need):
            with pytest.raises(shmkit.RecordTooLarge):
                self.ring.reserve(shape, dtype, timeout=0)
        elif self.model.claim(need) is None:
            with pytest.raises(TimeoutError):
                self.ring.reserve(shape, dtype, timeout=0)
        else:
            self.slot = self.ring.reserve(shape, dtype, timeout=0)
            self.slot_need = need

    @precondition(lambda self: self.slot is not None)
    @rule(fill=st.integers(0, 255), share=st.sampled_from([None, 0.0, 0.3, 1.0]))
    def commit(self, fill: int, share: float | None) -> None:
        slot, self.slot = self.slot, None
        buffer = slot.buf
        buffer[:] = bytes([fill]) * len(buffer)
        if isinstance(inside := slot.__enter__(), np.ndarray):
            self.model.send(inside.copy(order="K"), self.slot_need)
            slot.commit()
        else:
            nbytes = len(buffer) if share is None else int(share * len(buffer))
            self.model.send(bytes([fill]) * nbytes, self.slot_need)
            slot.commit(None if share is None else nbytes)

    @precondition(lambda self: self.slot is not None)
    @rule(drop=st.booleans())
    def give_up(self, drop: bool) -> None:
        slot, self.slot = self.slot, None
        slot.buf[:] = b"\xee" * len(slot)
        if not drop:
            slot.abort()

    # ── receiving ───────────────────────────────────────────────────────────────────────────────────────────────────

    def is_empty(self) -> bool:
        if len(self.model):
            return False
        assert self.ring.try_recv() is None
        assert self.ring.peek() is None
        for recv in (self.ring.recv, self.ring.recv_view, lambda timeout: self.ring.recv_many(timeout=timeout)):
            with pytest.raises(TimeoutError):
                recv(timeout=0)
        return True

    @rule(wait=st.booleans())
    def recv(self, wait: bool) -> None:
        if not self.is_empty():
            assert same(self.ring.recv(timeout=0) if wait else self.ring.try_recv(), self.model.recv())

    @rule()
    def peek(self) -> None:
        if not self.is_empty():
            item = self.model.peek()
            assert item is not None
            assert same(self.ring.peek(), item)

    @rule(less=st.sampled_from([0, 0, 0, 1, 10]))
    def recv_into(self, less: int) -> None:
        if self.is_empty():
            return
        item = self.model.peek()
        assert item is not None
        content = item if isinstance(item, bytes) else item.tobytes(order="A")
        buffer = bytearray(max(len(content) - less, 0))
        if len(buffer) < len(content):
            with pytest.raises(ValueError, match="does not fit"):
                self.ring.recv_into(buffer, timeout=0)
        else:
            self.model.recv()
            assert self.ring.recv_into(buffer, timeout=0) == len(content)
            if isinstance(item, bytes) or item.flags.c_contiguous:
                assert bytes(buffer) == content

    @rule(most=st.one_of(st.none(), st.integers(1, 20)))
    def recv_many(self, most: int | None) -> None:
        if not self.is_empty():
            count = min(len(self.model), most or len(self.model))
            got = self.ring.recv_many(most, timeout=0)
            assert len(got) == count
            assert all(same(one, self.model.recv()) for one in got)

    @rule(room=st.integers(1, 40))
    def recv_rows(self, room: int) -> None:
        if self.is_empty():
            return
        first = self.model.peek()
        assert first is not None
        itemsize = len(first) if isinstance(first, bytes) else first.nbytes
        if itemsize == 0:
            return
        expected = []
        while len(expected) < room and (item := self.model.peek()) is not None:
            if (len(item) if isinstance(item, bytes) else item.nbytes) != itemsize:
                break
            expected.append(self.model.recv())
        buffer = np.zeros((room, itemsize), "u1")
        assert self.ring.recv_many_into(buffer, itemsize, timeout=0) == len(expected)
        for row, item in zip(buffer, expected, strict=False):
            if isinstance(item, bytes) or item.flags.c_contiguous:
                assert row.tobytes() == (item if isinstance(item, bytes) else item.tobytes())

    # ── views ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule()
    def hold(self) -> None:
        if not self.is_empty():
            view = self.ring.recv_view(timeout=0)
            self.held.append(Held(view, view.__enter__(), self.model.hold()))

    @precondition(lambda self: self.held)
    @rule(which=numbers, drop=st.booleans())
    def let_go(self, which: int, drop: bool) -> None:
        held = self.held.pop(which % len(self.held))
        self.model.release(held.record)
        if not drop:
            held.view.release()

    # ── another handle ──────────────────────────────────────────────────────────────────────────────────────────────

    @rule()
    def go_on_through_another_handle(self) -> None:
        """The old one is closed: its views and its reservation are void, what was sent is there."""
        successor = pickle.loads(pickle.dumps(self.ring))
        self.ring.close()
        self.model.release_all()
        assert not any(held.view.valid for held in self.held)
        assert self.slot is None or not self.slot.valid
        self.held.clear()
        self.slot = None
        self.ring = successor
        assert self.ring.send_many([]) == 0
        self.ring.peek()

    # ── always ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def nothing_that_is_held_has_changed(self) -> None:
        for held in self.held:
            assert held.view.valid
            assert held.record.item is not None
            assert same(held.shown, held.record.item)

    @invariant()
    def the_books_agree(self) -> None:
        if self.ring is None:
            return
        now = self.ring.statistics()
        note(f"{now}, model: {self.model.used} used")
        assert len(self.ring) == now.waiting == len(self.model)
        assert (now.sent, now.received) == (self.model.sent, self.model.received)
        assert (now.bytes_sent, now.bytes_received) == (self.model.bytes_sent, self.model.bytes_received)
        assert self.model.used <= now.used <= self.model.used + self.model.pads_used
        assert self.ring.free == self.model.capacity - now.used


TestRing = RingMachine.TestCase
TestRing.settings = settings(max_examples=100, stateful_step_count=60)
