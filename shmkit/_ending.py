"""The end of a process that ends in order: what it uses is closed, so that nobody takes it for killed."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import Protocol

__all__ = ["close_at_end", "look_up"]


class Closable(Protocol):
    """What can be closed."""

    def close(self) -> None: ...


_things: weakref.WeakSet[Closable] = weakref.WeakSet()
_registered_in: list[int] = []  # the processes that did, of which the last may be this one


def close_at_end(thing: Closable) -> None:
    """Have ``thing.close()`` called when this process ends in order, unless the thing is gone by then.

    That is registered once per process: with atexit, and where multiprocessing's children end without atexit.
    """
    _things.add(thing)
    if _registered_in[-1:] == [os.getpid()]:
        return
    if not _registered_in:
        atexit.register(_close_all)
    _registered_in.append(os.getpid())
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, _close_all, exitpriority=-100)


def _close_all() -> None:
    for thing in list(_things):
        thing.close()


def look_up() -> None:
    """Runs Python, as a thread must, without a GIL, to free what it made and others dropped."""
