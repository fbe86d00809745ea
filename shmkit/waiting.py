"""Deadlines, and waiting for a descriptor until one.

A time-out is a number of seconds (None: for ever; negative: 0); a `Deadline` is the instant at which it ends.  Signals
are handled while one waits, and do not lengthen the wait.
"""

from __future__ import annotations

import math
import select
import time
from typing import Protocol

__all__ = [
    "Deadline",
    "readable",
    "readable_async",
    "seconds_of",
    "still_readable",
    "still_readable_async",
    "still_writable",
    "wait_for",
    "writable",
]

# poll counts in milliseconds of 31 bits.
_LONGEST_MS = 2**30
# Slices of a wait through what another thread may close.
_FIRST_MS, _MOST_MS = 50, 1000


def seconds_of(timeout: float | None, name: str = "timeout") -> float | None:
    """A ``timeout`` as a float of at least 0, or None; TypeError and ValueError for what is no time-out."""
    if timeout is None:
        return None
    try:
        if isinstance(timeout, (bool, str, bytes)):
            raise TypeError
        seconds = float(timeout)
    except OverflowError:
        return math.inf if timeout > 0 else 0.0
    except TypeError:
        raise TypeError(f"{name} must be a number of seconds or None: got {timeout!r}") from None
    if seconds != seconds:
        raise ValueError(f"{name} must be a number of seconds or None: got nan")
    return max(0.0, seconds)


class Deadline:
    """The end of a time-out that begins now."""

    __slots__ = ("end", "timeout")

    def __init__(self, timeout: float | None) -> None:
        self.timeout = seconds_of(timeout)
        self.end = math.inf if self.timeout is None else time.monotonic() + self.timeout

    def left(self) -> float:
        """The seconds that are left: 0 at least, ``math.inf`` where there is no end."""
        return self.end if self.end == math.inf else max(0.0, self.end - time.monotonic())

    def left_or_none(self) -> float | None:
        """The same, as a time-out."""
        return None if self.end == math.inf else self.left()

    @property
    def passed(self) -> bool:
        """Whether no time is left."""
        return self.end != math.inf and time.monotonic() >= self.end


def wait_for(fd: int, events: int, deadline: Deadline, also: int = -1) -> bool:
    """Waits until one of the poll ``events`` (or an error, or a hang-up) is there; False: the time is up.

    ``also`` is another descriptor that ends the wait, by becoming readable.
    """
    poller = select.poll()
    if fd >= 0:
        poller.register(fd, events)
    if also >= 0:
        poller.register(also, select.POLLIN)
    while True:
        left = deadline.left()
        # Rounded up: a wait never ends before its time.
        found = poller.poll(None if left == math.inf else min(math.ceil(left * 1000), _LONGEST_MS))
        if found:
            return True
        if deadline.passed:
            return False


def readable(fd: int, deadline: Deadline, also: int = -1) -> bool:
    """Waits until there is something to read, or the end of it."""
    return wait_for(fd, select.POLLIN, deadline, also)


def writable(fd: int, deadline: Deadline) -> bool:
    """Waits until there is room to write, or nobody who reads."""
    return wait_for(fd, select.POLLOUT, deadline)


async def readable_async(fd: int, deadline: Deadline) -> bool:
    """``readable`` for coroutines."""
    import asyncio

    loop = asyncio.get_running_loop()
    came: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, lambda: None if came.done() else came.set_result(None))
    try:
        await asyncio.wait_for(came, deadline.left_or_none())
    except asyncio.TimeoutError:
        return False
    finally:
        loop.remove_reader(fd)
    return True


class _Closable(Protocol):
    """What has a descriptor until it is closed, and raises Closed then."""

    def fileno(self) -> int: ...


def _still(thing: _Closable, events: int, deadline: Deadline) -> bool:
    poller = select.poll()
    fileno = thing.fileno
    poller.register(fileno(), events)
    piece = _FIRST_MS
    while True:
        # Rounded up: a wait never ends before its time.
        found = poller.poll(piece if deadline.end == math.inf else min(piece, math.ceil(deadline.left() * 1000)))
        # Of what was closed meanwhile the number may be another file's by now.
        fileno()
        if found:
            return True
        if deadline.passed:
            return False
        piece = min(2 * piece, _MOST_MS)


def still_readable(thing: _Closable, deadline: Deadline) -> bool:
    """``readable``, through what another thread may close meanwhile: raises what its ``fileno`` does then."""
    return _still(thing, select.POLLIN, deadline)


def still_writable(thing: _Closable, deadline: Deadline) -> bool:
    """``writable``, likewise."""
    return _still(thing, select.POLLOUT, deadline)


async def still_readable_async(thing: _Closable, deadline: Deadline) -> bool:
    """``still_readable`` for coroutines."""
    piece = _FIRST_MS
    while True:
        found = await readable_async(thing.fileno(), Deadline(min(piece / 1000, deadline.left())))
        thing.fileno()
        if found:
            return True
        if deadline.passed:
            return False
        piece = min(2 * piece, _MOST_MS)
