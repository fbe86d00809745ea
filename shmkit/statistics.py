"""What a ring counts."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["RingStatistics"]


class RingStatistics(NamedTuple):
    """A moment's counters of a ring.  They cost the ring's users nothing to read, and are exact when both ends rest."""

    capacity: int
    """Bytes that the ring can hold, record words and alignment included."""
    used: int
    """Bytes of those in use now."""
    waiting: int
    """Records sent and not yet received."""
    sent: int
    """Records sent since the ring was made."""
    received: int
    """Records received since then, those that views still hold included."""
    bytes_sent: int
    """Payload bytes of those sent."""
    bytes_received: int
    """Payload bytes of those received."""
    producer_waits: int
    """Times that a producer slept because the ring was full."""
    consumer_waits: int
    """Times that a consumer slept because it was empty."""
    producer_wakes: int
    """Times that a producer woke a sleeping consumer."""
    consumer_wakes: int
    """Times that a consumer woke a sleeping producer."""
    producer_pid: int | None
    """The process that sends; None: nobody has yet, or it has left."""
    consumer_pid: int | None
    """The process that receives; None: nobody has yet, or it has left."""
