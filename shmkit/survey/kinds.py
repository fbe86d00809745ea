"""The kinds of segments, as a table: a new one is a line here, and a module that looks into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmkit.survey import arrays, cells, heaps, rings, topics
from shmkit.survey.details import Details, Gauge, Kind

if TYPE_CHECKING:
    from shmkit.survey.heading import Heading
    from shmkit.survey.reading import Reading

__all__ = ["FOREIGN", "KINDS", "details_of", "gauge_of"]


def _nothing(reading: Reading, heading: Heading) -> Details:
    return Details()


KINDS: dict[str, Kind] = {
    "bytes": Kind(_nothing),
    "array": Kind(arrays.details),
    "ring": Kind(rings.details, rings.gauge),
    "sync": Kind(cells.details),
    "heap": Kind(heaps.details, heaps.gauge),
    "topic": Kind(topics.details, topics.gauge),
    "idle": Kind(_nothing),
}
# What is not shmkit's: shared memory without a header, and the kernel's semaphores and message queues.
FOREIGN = ("raw", "semaphore", "queue")


def details_of(reading: Reading, heading: Heading) -> Details:
    """What the payload tells, if the header is to be believed and its kind is known."""
    if heading.state != "whole":
        return Details()
    return KINDS.get(heading.kind, Kind(_nothing)).details(reading, heading)


def gauge_of(reading: Reading, kind: str, payload_at: int) -> Gauge | None:
    """The counters of one that has any."""
    look = KINDS[kind].gauge if kind in KINDS else None
    return None if look is None else look(reading, payload_at)
