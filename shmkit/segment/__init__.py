"""Shared memory segments of every kind behind one face: see ``Segment``."""

from __future__ import annotations

from shmkit.segment.base import Segment, unlink
from shmkit.segment.collect import collect
from shmkit.segment.listing import SegmentInfo

__all__ = ["Segment", "SegmentInfo", "collect", "unlink"]
