"""Rings, looked into: their counters, and what has become of both ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmkit import _fields
from shmkit._fields import RING
from shmkit.survey.details import Details, Gauge
from shmkit.survey.reading import number_at

if TYPE_CHECKING:
    from shmkit.survey.heading import Heading
    from shmkit.survey.reading import Reading

__all__ = ["details", "gauge"]

_MASK = 2**64 - 1


def _counters(reading: Reading, payload_at: int) -> dict[str, int] | None:
    """Every field of the ring's header; None if it is not one that can be believed."""
    raw = reading.read(payload_at, _fields.RING_SIZE)
    found = {name: number_at(raw, place) for name, place in RING.items()}
    capacity = found["capacity"]
    if len(raw) < _fields.RING_SIZE or found["data_at"] != _fields.RING_DATA or capacity < _fields.RING_MIN:
        return None
    if capacity & (capacity - 1) or payload_at + _fields.RING_DATA + capacity > reading.size:
        return None
    # Of slightly different moments: the ring goes on while it is read.
    found["used"] = min((found["tail"] - found["head"]) & _MASK, capacity) if found["tail"] >= found["head"] else 0
    waiting = found["producer.records"] - found["consumer.records"]
    found["waiting"] = min(max(waiting, 0), capacity // 8)
    return found


def gauge(reading: Reading, payload_at: int) -> Gauge | None:
    """The ring's counters now."""
    found = _counters(reading, payload_at)
    if found is None:
        return None
    return Gauge(
        used=found["used"],
        capacity=found["capacity"],
        waiting=found["waiting"],
        asleep=(found["producer.bell"] == 1) + (found["consumer.bell"] == 1),
        sent=found["producer.records"],
        received=found["consumer.records"],
        bytes_sent=found["producer.bytes"],
        sleeps=found["producer.parks"] + found["consumer.parks"],
        dropped=0,
    )


def details(reading: Reading, heading: Heading) -> Details:
    """The ring's counters, and what has become of its ends."""
    assert heading.header is not None
    payload_at = heading.header.header_size
    found = _counters(reading, payload_at)
    if found is None:
        return Details("it does not hold a ring that this version can read", {"readable": False})
    ends = {end: _end(reading, payload_at, found, end, byte) for end, byte in _BYTES.items()}
    facts: dict[str, Any] = {
        "readable": True,
        "capacity": found["capacity"],
        "used": found["used"],
        "waiting": found["waiting"],
        "sent": found["producer.records"],
        "received": found["consumer.records"],
        "bytes_sent": found["producer.bytes"],
        "bytes_received": found["consumer.bytes"],
        "head": found["head"],
        "tail": found["tail"],
        **ends,
    }
    words = f"{_percent(found['used'], found['capacity'])} full"
    if found["waiting"]:
        words += f", {found['waiting']} waiting"
    dead = tuple(f"{end} {facts['pid']}" for end, facts in ends.items() if facts["state"] == "died")
    return Details(words, facts, dead)


_BYTES = {"producer": _fields.PRODUCER_BYTE, "consumer": _fields.CONSUMER_BYTE}


def _end(reading: Reading, payload_at: int, found: dict[str, int], end: str, byte: int) -> dict[str, Any]:
    held = reading.ask(byte)
    state = _fields.ROLE_STATES.get(found[f"{end}.state"], "?")
    if state == "open" and held is False:
        # Once more, as whoever uses the ring does it: it may have been left, or taken over, before the question.
        raw = reading.read(payload_at, _fields.RING_SIZE)
        state = _fields.ROLE_STATES.get(number_at(raw, RING[f"{end}.state"]), "?")
        if number_at(raw, RING[f"{end}.epoch"]) != found[f"{end}.epoch"]:
            held = True
    if state == "open":
        state = {True: "alive", False: "died", None: "unknown"}[held]
    elif state == "closed":
        state = "left"
    return {
        "state": state,
        "pid": found[f"{end}.pid"] or None,
        "waits": found[f"{end}.parks"],
        "wakes": found[f"{end}.wakes"],
        "asleep": found[f"{end}.bell"] == 1,
        "holders": found[f"{end}.epoch"],
    }


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole if whole else 0.0
    return "<1%" if 0 < share < 1 else f"{share:.0f}%"
