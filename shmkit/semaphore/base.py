"""What both kinds of kernel semaphore have in common: how one waits, and the words of the face.

Waiting is done in slices: the kernel knows nothing of Python's signal handlers, and a signal that comes between a look
and the system call would wait with us.
"""

from __future__ import annotations

import math
import time
from operator import index
from typing import TYPE_CHECKING, SupportsIndex

from shmkit.errors import Closed, InvalidPermits, SegmentNotFound

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["KernelSemaphore", "deadline_of", "permits_of"]

SLICE_FIRST = 0.001
SLICE_MOST = 0.05


def deadline_of(timeout: float | None) -> float:
    """The monotonic instant that is ``timeout`` seconds away; None: never.  Negative counts as 0."""
    if timeout is None:
        return math.inf
    try:
        seconds = math.ldexp(timeout, 0)  # a float of whatever is a number; text is none
    except OverflowError:
        seconds = math.inf if timeout > 0 else 0.0
    if math.isnan(seconds):
        raise ValueError("timeout must be a number of seconds or None: got nan")
    return time.monotonic() + seconds


def permits_of(value: SupportsIndex, most: int) -> int:
    """The number, if a semaphore that counts to ``most`` can begin with it; InvalidPermits."""
    number = index(value)
    if not 0 <= number <= most:
        raise InvalidPermits(f"a semaphore of this kind has from 0 to {most} permits: got {number}")
    return number


class KernelSemaphore:
    """What both kinds have in common: everything but the system calls."""

    __slots__ = ("__weakref__", "_name")
    _name: str | int

    def __init__(self) -> None:
        what = type(self).__name__
        raise TypeError(f"a {what} is made by {what}.create, attach or create_or_attach")

    def _take(self, seconds: float) -> bool:
        """Takes a permit, waiting so long at most; False: there was none, or a signal came."""
        raise NotImplementedError

    def _give(self, n: int) -> None:
        """Adds permits; ReleasedTooOften."""
        raise NotImplementedError

    def get_value(self) -> int:
        """How many permits are free now."""
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        """Whether this handle was closed."""
        raise NotImplementedError

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquire a permit; True, or False if none was free (``block`` false) or not within ``timeout`` seconds."""
        deadline = deadline_of(timeout)
        if self._take(0.0):
            return True
        if not block:
            return False
        slice_ = SLICE_FIRST
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if self._take(min(slice_, left)):
                return True
            slice_ = min(2 * slice_, SLICE_MOST)

    def release(self, n: SupportsIndex = 1) -> None:
        """Release a permit, or ``n`` of them.  ReleasedTooOften where there would be more than the kernel counts."""
        count = index(n)
        if count < 1:
            raise ValueError(f"n must be one or more: got {n!r}")
        self._give(count)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def locked(self) -> bool:
        """Whether no permit is free now."""
        return self.get_value() == 0

    @property
    def name(self) -> str | int:
        """What it is attached by."""
        return self._name

    def _closed(self) -> Closed:
        return Closed(f"{type(self).__name__} {self._name!r} was closed by this process")

    def __repr__(self) -> str:
        what = f"shmkit.{type(self).__name__} {self._name!r} at {id(self):#x}"
        if self.closed:
            return f"<{what}: closed>"
        try:
            return f"<{what}: value={self.get_value()}>"
        except SegmentNotFound:
            return f"<{what}: removed>"
