"""Heaps and the queues in them, looked into: items that wait, blocks in use, and what the dead still hold."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from shmkit import _fields
from shmkit._fields import BLOCK, HEAP, QUEUE
from shmkit.sizes import format_size
from shmkit.survey.details import Details, Gauge
from shmkit.survey.reading import number_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shmkit.survey.heading import Heading
    from shmkit.survey.reading import Reading

__all__ = ["details", "gauge"]

_PAGE = 4096
# Of a larger table only the beginning is looked through: so many blocks.
_MOST = 2**17
# What stands before the classes, of which nothing is read.
_HEAD = HEAP["room_gate"][0] + HEAP["room_gate"][1]
_ID = struct.Struct("<Q")


class _Heap(NamedTuple):
    """A header that can be believed, and of the table what was ever given out and does not contradict itself."""

    reading: Reading
    payload_at: int
    fields: dict[str, int]
    words: Any
    uses: Any
    places: Any
    """Where each block stands, from the payload's beginning; 0: nowhere."""
    sizes: Any

    @property
    def blocks(self) -> int:
        return len(self.words)


class _Queue(NamedTuple):
    """A queue's counters, of slightly different moments: it goes on while it is read."""

    items: int
    most: int
    put: int
    got: int
    dropped: int
    lost: int
    asleep: int
    state: str


def _open(reading: Reading, payload_at: int) -> _Heap | None:
    raw = reading.read(payload_at, _HEAD)
    if len(raw) < _HEAD:
        return None
    found = {name: number_at(raw, place) for name, place in HEAP.items() if place[0] < _HEAD}
    if not 0 < found["blocks_most"] <= _fields.HEAP_BLOCKS_LIMIT:
        return None
    if not _fields.HEAP_SIZE <= found["table_at"] < found["data_at"] <= found["span"] <= reading.size - payload_at:
        return None
    if found["table_at"] + found["blocks_most"] * _fields.BLOCK_SIZE > found["data_at"]:
        return None
    blocks = min(found["top"] >> 40, found["blocks_most"], _MOST)
    return _table(reading, payload_at, found, reading.read(payload_at + found["table_at"], blocks * _fields.BLOCK_SIZE))


def _table(reading: Reading, payload_at: int, found: dict[str, int], raw: bytes) -> _Heap:
    import numpy as np

    kind = np.dtype(
        {
            "names": list(BLOCK),
            "formats": [f"<u{size}" for _, size in BLOCK.values()],
            "offsets": [at for at, _ in BLOCK.values()],
            "itemsize": _fields.BLOCK_SIZE,
        }
    )
    table = np.frombuffer(raw[: len(raw) // kind.itemsize * kind.itemsize], kind)
    number = np.arange(len(table), dtype="int64")
    sizes_of, counts_of = (np.array((*column, 0), "int64") for column in zip(*_fields.BLOCK_CLASSES, strict=True))
    first = table["first"].astype("int64")
    whole = (first > 0) & (first <= number)
    slab = table[np.where(whole, first, 0)]
    classes = np.minimum(slab["class"], len(sizes_of) - 1)
    sizes = sizes_of[classes]
    places = slab["page"].astype("int64") * _PAGE + (number - first) * sizes
    whole &= (number - first < counts_of[classes]) & (places >= found["data_at"]) & (places + sizes <= found["span"])
    return _Heap(reading, payload_at, found, table["word"], table["use"], np.where(whole, places, 0), sizes)


def _queues(heap: _Heap) -> Iterator[_Queue]:
    """The queue that the heap is for; or all that are in it."""
    own = heap.fields["queue"]
    if own:
        numbers = [own] if own < heap.blocks else []
    else:
        held = heap.words & _fields.BLOCK_TAGS == _fields.BLOCK_IS_HELD
        numbers = ((heap.uses == _fields.BLOCK_OF_QUEUE) & held & (heap.places > 0)).nonzero()[0].tolist()
    for number in numbers:
        at, size = int(heap.places[number]), int(heap.sizes[number])
        if at and size >= _fields.QUEUE_SIZE:
            raw = heap.reading.read(heap.payload_at + at, _fields.QUEUE_SIZE)
            if len(raw) == _fields.QUEUE_SIZE and number_at(raw, QUEUE["kind"]) == _fields.QUEUE_KIND:
                yield _queue(raw)


def _queue(raw: bytes) -> _Queue:
    found = {name: number_at(raw, place) for name, place in QUEUE.items()}
    tail, head = found["tail"] >> 8, found["head"] >> 8
    items = min(max(tail - head, 0), found["most"])
    put = max(tail - found["first"] - found["skipped"], 0)
    gates = (found["items_gate"], found["room_gate"], found["done_gate"])
    return _Queue(
        items=items,
        most=0 if found["most"] >= _fields.QUEUE_MOST else found["most"],
        put=put,
        got=max(put - items, 0),
        dropped=found["dropped"],
        lost=found["skipped"],
        asleep=sum(bool(gate & _fields.GATE_SLEEPER) for gate in gates),
        state=_fields.QUEUE_STATES.get(found["state"], "?"),
    )


def gauge(reading: Reading, payload_at: int) -> Gauge | None:
    """The counters of its queues, added up; None: there is no queue in it."""
    heap = _open(reading, payload_at)
    queues = [] if heap is None else list(_queues(heap))
    if not queues:
        return None
    bounded = all(queue.most for queue in queues)
    return Gauge(
        used=sum(queue.items for queue in queues),
        capacity=sum(queue.most for queue in queues) if bounded else 0,
        waiting=sum(queue.items for queue in queues),
        asleep=sum(queue.asleep for queue in queues),
        sent=sum(queue.put for queue in queues),
        received=sum(queue.got for queue in queues),
        bytes_sent=None,
        sleeps=None,
        dropped=sum(queue.dropped for queue in queues),
    )


def details(reading: Reading, heading: Heading) -> Details:
    """Its queues, its blocks, and who has died with some of them."""
    assert heading.header is not None
    heap = _open(reading, heading.header.header_size)
    if heap is None:
        return Details("it does not hold a heap that this version can read", {"readable": False})
    queues = list(_queues(heap))
    blocks, dead = _blocks(heap)
    facts: dict[str, Any] = {
        "readable": True,
        "limit": heap.fields["limit"],
        "deaths": heap.fields["deaths"],
        **blocks,
        "complete": heap.fields["top"] >> 40 <= heap.blocks,
    }
    if heap.fields["queue"] and queues:
        kind = heading.meta.get("queue")
        (queue,) = queues
        facts |= {"queue": kind if isinstance(kind, str) else "Queue", **_facts(queue)}
        bound = f" of {queue.most}" if queue.most else ""
        words = f"{queue.items}{bound} items wait" if bound else f"{queue.items} {_items(queue.items)}"
        if queue.state != "open":
            words += f", {queue.state}"
    else:
        facts["queues"] = [_facts(queue) for queue in queues]
        waiting = sum(queue.items for queue in queues)
        words = f"{len(queues)} queue{'' if len(queues) == 1 else 's'}, {waiting} {_items(waiting)}"
    if blocks["in_use"]:
        words += f", {format_size(blocks['in_use'])} in use"
    return Details(words, facts, dead)


def _items(number: int) -> str:
    return "item waits" if number == 1 else "items wait"


def _facts(queue: _Queue) -> dict[str, Any]:
    return {
        "items": queue.items,
        "maxsize": queue.most,
        "put": queue.put,
        "got": queue.got,
        "dropped": queue.dropped,
        "lost_to_deaths": queue.lost,
        "asleep": queue.asleep,
        "state": queue.state,
    }


def _blocks(heap: _Heap) -> tuple[dict[str, int], tuple[str, ...]]:
    """How many blocks of items there are, and who holds some and has died."""
    import numpy as np

    items = (heap.places > 0) & (heap.uses == _fields.BLOCK_OF_DATA)
    used = items & (heap.words != 0)
    held = used & (heap.words & _fields.BLOCK_TAGS == _fields.BLOCK_IS_HELD)
    dead = []
    for word in np.unique(heap.words[held]).tolist():
        member = _fields.member_of(word)
        gone = heap.reading.ask(_fields.MEMBER_BYTES + member) is False
        if gone and _still(heap, word, (held & (heap.words == word)).nonzero()[0].tolist()):
            dead.append(f"holder {_fields.pid_of(member)}")
    counts = {
        "in_use": int(heap.sizes[used].sum()),
        "blocks_held": int(held.sum()),
        "blocks_queued": int(used.sum() - held.sum()),
        "blocks_free": int(items.sum() - used.sum()),
    }
    return counts, tuple(dead)


def _still(heap: _Heap, word: int, numbers: list[int]) -> bool:
    """Whether one of the blocks still bears that word: its holder may have let go, and ended, before the question."""
    table = heap.payload_at + heap.fields["table_at"]
    return any(
        heap.reading.read(table + number * _fields.BLOCK_SIZE + BLOCK["word"][0], _ID.size) == _ID.pack(word)
        for number in numbers
    )
