"""What a ring does, said a second time and simply: a deque of records, with the room that they take."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from shmkit._describe import describe

WORD = 8
ARRAY_ALIGN = 64

Item = bytes | np.ndarray


def up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


@dataclass
class Need:
    """The room that a record asks for: bytes before its payload, payload, and what the payload stands on."""

    head: int
    nbytes: int
    align: int

    @classmethod
    def of(cls, item: Item) -> Need:
        if isinstance(item, bytes):
            return cls(WORD, len(item), 8)
        return cls(WORD + 8 + 8 * item.ndim + len(describe(item.dtype)), item.nbytes, ARRAY_ALIGN)

    @classmethod
    def of_reserved_bytes(cls, nbytes: int) -> Need:
        return cls(WORD, nbytes, ARRAY_ALIGN)

    def span(self, index: int, nbytes: int | None = None) -> int:
        """Bytes from the record's start at `index` to the next one's."""
        payload_at = up(index + self.head, self.align) - index
        return up(payload_at + (self.nbytes if nbytes is None else nbytes), 8)


@dataclass
class Record:
    start: int
    span: int
    item: Item | None  # None: a pad


@dataclass
class RingModel:
    """Positions count bytes and never wrap; a record never crosses the end of a lap: a pad fills it."""

    capacity: int
    tail: int = 0
    waiting: deque[Record] = field(default_factory=deque)
    held: list[Record] = field(default_factory=list)
    behind: int = 0  # the position up to which everything is received
    sent: int = 0
    received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

    # ── room ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def head(self) -> int:
        """Everything below is free again: up to the oldest record that a view holds."""
        return min((record.start for record in self.held), default=self.behind)

    @property
    def used(self) -> int:
        return self.tail - self.head

    @property
    def pads_used(self) -> int:
        """How much of that may be pads that were passed already: nobody has to be in a hurry about it."""
        ends = [record.start + record.span for record in self.held]
        return self.behind - max(ends) if ends else self._pads_passed

    _pads_passed: int = 0

    def never_fits(self, need: Need) -> bool:
        return up(need.head, need.align) + need.nbytes > self.capacity

    def claim(self, need: Need) -> tuple[int, int] | None:
        """Where the next record would start and how long it would be; None if there is no room for it now.

        A record that does not fit before the lap's end starts the next lap, behind a pad.  Where both are more than the
        capacity, the pad goes out alone as soon as there is room for it.
        """
        index = self.tail % self.capacity
        rest = self.capacity - index
        span = need.span(index)
        if span > rest:
            free = self.capacity - self.used
            span = need.span(0)
            if rest + span <= self.capacity:
                return (self.tail + rest, span) if free >= rest + span else None
            if free < rest:
                return None
            self._append(rest, None)
            self._pass_pads()
        return (self.tail, span) if self.capacity - self.used >= span else None

    # ── sending ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def send(self, item: Item, need: Need | None = None) -> bool:
        need = need or Need.of(item)
        claimed = self.claim(need)
        if claimed is None:
            return False
        start, _ = claimed
        nbytes = len(item) if isinstance(item, bytes) else item.nbytes
        if start != self.tail:
            self._append(start - self.tail, None)
        self._append(need.span(start % self.capacity, nbytes), item)
        self.sent += 1
        self.bytes_sent += nbytes
        self._pass_pads()
        return True

    def _append(self, span: int, item: Item | None) -> None:
        self.waiting.append(Record(self.tail, span, item))
        self.tail += span

    # ── receiving ───────────────────────────────────────────────────────────────────────────────────────────────────

    def __len__(self) -> int:
        return sum(record.item is not None for record in self.waiting)

    def peek(self) -> Item | None:
        return next((record.item for record in self.waiting if record.item is not None), None)

    def recv(self) -> Item:
        item = self._next().item
        assert item is not None
        self._pass_pads()
        return item

    def hold(self) -> Record:
        record = self._next()
        self.held.append(record)
        self._pass_pads()
        return record

    def release(self, record: Record) -> None:
        self.held.remove(record)

    def release_all(self) -> None:
        self.held.clear()

    def _next(self) -> Record:
        self._pass_pads()
        record = self.waiting.popleft()
        assert record.item is not None
        self.behind = record.start + record.span
        self._pads_passed = 0
        self.received += 1
        self.bytes_received += len(record.item) if isinstance(record.item, bytes) else record.item.nbytes
        return record

    def _pass_pads(self) -> None:
        while self.waiting and self.waiting[0].item is None:
            pad = self.waiting.popleft()
            self.behind = pad.start + pad.span
            self._pads_passed += pad.span
