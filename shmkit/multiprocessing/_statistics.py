"""What ``shmkit run --stats`` counts, over all processes of a program: shared counters that they inherit by name.

Nothing is counted unless the program's environment says so.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

from shmkit._replaced import REPLACED

if TYPE_CHECKING:
    from shmkit._atomic_array import AtomicArray
    from shmkit.segment import Segment

__all__ = ["add", "enabled", "report", "start"]

ENVIRONMENT = "SHMKIT_RUN_STATISTICS"

# What is counted beside the objects of each kind, and how it reads.
TRAFFIC = {"messages": "messages", "bytes": "bytes in them", "spared": "bytes not copied", "waited": "ns waited"}
_PLACES = {name: place for place, name in enumerate([*TRAFFIC, *(entry.name for entry in REPLACED)])}


def start() -> None:
    """Makes the counters, for this process and those that it will start."""
    from shmkit.segment import Segment

    name = f"shmkit-run-{os.getpid()}-{os.urandom(4).hex()}"
    segment = Segment.create(name, 8 * len(_PLACES), lifetime="leased")
    os.environ[ENVIRONMENT] = name
    _counters.cache_clear()
    _keep.append(segment)


_keep: list[Segment] = []


def enabled() -> bool:
    """Whether anything is counted."""
    return ENVIRONMENT in os.environ


@lru_cache(maxsize=1)
def _counters() -> AtomicArray | None:
    """None: the run is over, which this process has outlived."""
    from shmkit._atomic_array import AtomicArray  # which imports NumPy
    from shmkit.errors import SegmentNotFound
    from shmkit.segment import Segment

    try:
        return AtomicArray.attach_at(Segment.attach(os.environ[ENVIRONMENT]))
    except SegmentNotFound:
        return None


def add(name: str, amount: int = 1) -> None:
    """Counts."""
    counters = _counters()
    if counters is not None:
        counters.add(_PLACES[name], amount, "relaxed")


def report() -> str:
    """What was counted, a line for each thing that there was."""
    counters = _counters()
    assert counters is not None
    lines = [f"{counters[_PLACES[name]]:>12} {words}" for name, words in TRAFFIC.items() if counters[_PLACES[name]]]
    made = [(counters[_PLACES[entry.name]], entry.name) for entry in REPLACED]
    lines += [f"{count:>12} {name}" for count, name in made if count]
    return "shmkit: accelerated, in all processes together:\n" + "\n".join(lines or ["    nothing"])
