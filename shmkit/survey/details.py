"""What a look at a segment's payload tells: the same few words for every kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmkit.survey.heading import Heading
    from shmkit.survey.reading import Reading

__all__ = ["Details", "Gauge", "Kind"]


@dataclass(frozen=True)
class Details:
    """``words``: it, in a few of them.  ``facts``: by name, fit for JSON.  ``dead``: who is gone that played a part."""

    words: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    dead: tuple[str, ...] = ()


class Gauge(NamedTuple):
    """A moment's counters of something that messages go through; each only goes up, but for the first four.

    None: nobody counts that.
    """

    used: int
    """Of ``capacity``, what is in use now."""
    capacity: int
    """In bytes, or in messages where bytes mean nothing; 0: unbounded."""
    waiting: int | None
    """Messages that were sent and not yet received."""
    asleep: int
    """Processes that sleep until there is something, or room, now."""
    sent: int
    """Messages sent, ever."""
    received: int | None
    """Messages received, ever."""
    bytes_sent: int | None
    """Payload bytes sent, ever."""
    sleeps: int | None
    """Waits that slept, ever, on either side."""
    dropped: int
    """Messages that were let go, ever, because nobody took them in time."""


class Kind(NamedTuple):
    """How segments of a kind are looked into.  Neither function raises, whatever they read."""

    details: Callable[[Reading, Heading], Details]
    gauge: Callable[[Reading, int], Gauge | None] | None = None
    """From the counters that stand where the payload begins; None: there are none to be believed."""
