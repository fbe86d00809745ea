"""Shared memory segments of every kind behind one face: see ``Segment``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmkit.segment.base import Segment, unlink
from shmkit.segment.collect import collect

if TYPE_CHECKING:
    from shmkit.segment.listing import SegmentInfo

__all__ = ["Segment", "SegmentInfo", "collect", "unlink"]


def __getattr__(name: str) -> Any:
    # Only tools look at all the segments that there are; what that takes (dataclasses) slows every import.
    if name == "SegmentInfo":
        from shmkit.segment.listing import SegmentInfo

        return SegmentInfo
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
