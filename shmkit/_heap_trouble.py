"""What is wrong with a heap, in the words of its user."""

from __future__ import annotations

import errno
import os

from shmkit import errors
from shmkit.sizes import format_size

__all__ = ["contradicts", "full", "too_large", "where"]


def where(name: str | None) -> str:
    """Which heap it is: that of the queue of this name, or of a process's queues that have none."""
    return "the heap of the anonymous queues" if name is None else f"the heap of queue {name!r}"


def contradicts(name: str | None, what: str) -> errors.RecordCorrupt:
    """`what` in it says what cannot be."""
    return errors.RecordCorrupt(f"{what} of {where(name)} contradicts itself")


def too_large(name: str | None, size: int, limit: int) -> errors.RecordTooLarge:
    """No block can ever be that large."""
    return errors.RecordTooLarge(
        f"an item's data must fit into {where(name)}: got {format_size(size)}, the limit is {format_size(limit)}"
    )


def full(name: str | None, what: str, used: int, limit: int, error: int) -> errors.HeapFull:
    """There is no memory for `what` now: its limit is reached (ENOMEM), or the system says `error`."""
    if error == errno.ENOMEM:
        why = f"its limit is {format_size(limit)}, of which {format_size(used)} are in use"
    else:
        why = f"the system has none left ({os.strerror(error)})"
    return errors.HeapFull(
        f"no memory for {what} in {where(name)}: {why}; receivers that keep arrays keep their memory"
    )
