"""Topics, looked into: how much was published, and what has become of the publisher.  Subscribers store nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmkit import _fields
from shmkit._fields import TOPIC
from shmkit.sizes import format_size
from shmkit.survey.cells import holder_of
from shmkit.survey.details import Details, Gauge
from shmkit.survey.reading import number_at

if TYPE_CHECKING:
    from shmkit.survey.heading import Heading
    from shmkit.survey.reading import Reading

__all__ = ["details", "gauge"]


def _counters(reading: Reading, payload_at: int) -> dict[str, int] | None:
    """Every field of the topic's header; None if it is not one that can be believed."""
    raw = reading.read(payload_at, _fields.TOPIC_SIZE)
    if len(raw) < _fields.TOPIC_SIZE:
        return None
    found = {name: number_at(raw, place) for name, place in TOPIC.items() if name != "publisher"}
    at, _ = TOPIC["publisher"]
    found["word"] = number_at(raw, _fields.LOCK["word"], at)
    if not 1 < found["slots"] <= _fields.TOPIC_SLOTS_LIMIT or found["data_at"] < _fields.TOPIC_SIZE:
        return None
    if found["slot_bytes"] < found["slot_size"]:
        return None
    if payload_at + found["data_at"] + found["slots"] * found["slot_bytes"] > reading.size:
        return None
    return found


def gauge(reading: Reading, payload_at: int) -> Gauge | None:
    """The topic's counters now.  It is never full, and who receives what nobody counts."""
    found = _counters(reading, payload_at)
    if found is None:
        return None
    return Gauge(
        used=0,
        capacity=0,
        waiting=None,
        asleep=int(bool(found["gate"] & _fields.GATE_SLEEPER)),
        sent=found["published"],
        received=None,
        bytes_sent=None,
        sleeps=None,
        dropped=0,
    )


def details(reading: Reading, heading: Heading) -> Details:
    """The topic's sizes and counters, and who publishes."""
    assert heading.header is not None
    payload_at = heading.header.header_size
    found = _counters(reading, payload_at)
    if found is None:
        return Details("it does not hold a topic that this version can read", {"readable": False})
    publisher: dict[str, Any] = {"state": "never" if not found["published"] else "left", "pid": None}
    dead: tuple[str, ...] = ()
    if found["word"] & ~3:
        where = payload_at + TOPIC["publisher"][0] + _fields.LOCK["word"][0]
        pid, alive = holder_of(reading, found["word"], where)
        publisher = {"state": {True: "alive", False: "died", None: "unknown"}[alive], "pid": pid}
        if alive is False:
            dead = (f"publisher {pid}",)
    facts: dict[str, Any] = {
        "readable": True,
        "slots": found["slots"],
        "slot_size": found["slot_size"],
        "published": found["published"],
        "state": _fields.TOPIC_STATES.get(found["state"], "?"),
        "waiters": bool(found["gate"] & _fields.GATE_SLEEPER),
        "producer": publisher,
    }
    words = f"{found['published']} published, {found['slots']} slots of {format_size(found['slot_size'])}"
    return Details(words, facts, dead)
