"""Telling the resource tracker of shared memory: what it is to remove if the program ends without doing so.

It is told as the standard library tells it, but in one write each time: the standard library writes another one before,
to learn whether the tracker lives, which the write itself says as well.  Each wakes the tracker, a process that two
cores have to find time for.
"""

from __future__ import annotations

import os
from functools import cache
from multiprocessing import resource_tracker, util
from typing import Any

__all__ = ["begin", "end"]

_KIND = "shared_memory"


class _Created:
    """By this process, tracked, and not unlinked yet as far as it knows."""

    names: set[str] = set()  # noqa: RUF012  (one per process)
    at_end: Any = None


def _in_child() -> None:
    _Created.names = set()
    _Created.at_end = None


os.register_at_fork(after_in_child=_in_child)


def begin(name: str) -> None:
    """From now on the tracker removes ``name`` when the program has ended."""
    _tell("REGISTER", name)
    _Created.names.add(name)
    # What runs at the end of a process is forgotten by a child of `multiprocessing`, and by some tests.
    if _Created.at_end is None or not _Created.at_end.still_active():
        _Created.at_end = util.Finalize(None, _forget_unlinked, exitpriority=-100)


def end(name: str, created: bool) -> None:
    """It was unlinked here, by who created it or by another."""
    tracker: Any = resource_tracker._resource_tracker
    if tracker._fd is not None:
        if not created:
            # If the creator has another tracker, this one must not be told to forget what it never knew.
            _tell("REGISTER", name)
        _tell("UNREGISTER", name)
    _Created.names.discard(name)


def _forget_unlinked() -> None:
    """At the end of their creator: what somebody else has unlinked has not leaked."""
    for name in list(_Created.names):
        if not os.path.exists(f"/dev/shm{name}"):
            resource_tracker.register(name, _KIND)  # who unlinked it may have said so already
            resource_tracker.unregister(name, _KIND)


def _tell(word: str, name: str) -> None:
    tracker: Any = resource_tracker._resource_tracker
    fd = tracker._fd
    if fd is not None and _is_plain(name) and _takes_plain_lines():
        try:
            os.write(fd, f"{word}:{name}:{_KIND}\n".encode("ascii"))
            return
        except OSError:
            pass  # it has ended: below, another is started
    (resource_tracker.register if word == "REGISTER" else resource_tracker.unregister)(name, _KIND)


def _is_plain(name: str) -> bool:
    return name.isascii() and name.isprintable() and ":" not in name


@cache
def _takes_plain_lines() -> bool:
    """Whether this Python's tracker is told by lines of plain text, as that of most versions is: what does it write?"""
    here, there = os.pipe()
    tracker: Any = resource_tracker.ResourceTracker()
    try:
        tracker._fd = there
        tracker.register("/name", _KIND)
        return os.read(here, 4096).endswith(f"REGISTER:/name:{_KIND}\n".encode())
    finally:
        tracker._fd = None
        os.close(here)
        os.close(there)
