"""NumPy arrays and Python objects between processes at memory speed, and nothing that ``kill -9`` could break.

``Segment`` is shared memory of any kind; ``empty``, ``zeros`` and their kin make arrays that travel by reference;
``Ring`` streams records and frames from one process to another.
"""

from __future__ import annotations

import sys

if not sys.platform.startswith("linux"):
    raise ImportError(f"shmkit runs on Linux: {sys.platform} has not the futexes, memfds and file leases it stands on")

from shmkit._record import RecordView, Reservation
from shmkit._ring import Ring
from shmkit.array import (
    SharedArray,
    array,
    asarray,
    attach,
    create,
    empty,
    empty_like,
    full,
    full_like,
    ones,
    ones_like,
    trim,
    zeros,
    zeros_like,
)
from shmkit.errors import (
    Broken,
    ChannelError,
    Closed,
    Empty,
    EndOfStream,
    Full,
    LayoutMismatch,
    NoSpace,
    NotReady,
    PeerDied,
    RecordCorrupt,
    RecordTooLarge,
    RoleTaken,
    SegmentError,
    SegmentExists,
    SegmentNotFound,
    SegmentPermission,
    ShmkitError,
)
from shmkit.segment import Segment, SegmentInfo, collect, unlink
from shmkit.sizes import format_size, parse_size
from shmkit.statistics import RingStatistics

__version__ = "0.1.0"

__all__ = [
    "Broken",
    "ChannelError",
    "Closed",
    "Empty",
    "EndOfStream",
    "Full",
    "LayoutMismatch",
    "NoSpace",
    "NotReady",
    "PeerDied",
    "RecordCorrupt",
    "RecordTooLarge",
    "RecordView",
    "Reservation",
    "Ring",
    "RingStatistics",
    "RoleTaken",
    "Segment",
    "SegmentError",
    "SegmentExists",
    "SegmentInfo",
    "SegmentNotFound",
    "SegmentPermission",
    "SharedArray",
    "ShmkitError",
    "array",
    "asarray",
    "attach",
    "collect",
    "create",
    "empty",
    "empty_like",
    "format_size",
    "full",
    "full_like",
    "ones",
    "ones_like",
    "parse_size",
    "trim",
    "unlink",
    "zeros",
    "zeros_like",
]
