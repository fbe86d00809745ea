"""Waiting in an event loop of asyncio for what a descriptor tells of: no thread, and any number of tasks.

One reader per event loop and descriptor, there while tasks wait.  The descriptor is readable as long as there is
something, so each turn of the loop wakes as many tasks as there are things; a task that was woken and finds nothing,
as another process was quicker, goes on waiting.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple, TypeVar

__all__ = ["Awaiting", "Source", "awaiting_in"]

T = TypeVar("T")

MISSES = 3  # in a row, before a task sleeps a while: somebody stands still in the middle of a put
PAUSE = 0.001  # seconds, doubled with each miss after that
PAUSE_MOST = 0.1
# Who is killed keeps a datagram from nobody, but has things in its hands: the dead are looked for now and then.
LOOK_FIRST = 0.25
LOOK_MOST = 4.0


class Source(NamedTuple):
    """What is waited for."""

    fileno: Callable[[], int]
    look: Callable[[], bool]  # whether to try, all the same
    room: Callable[[], int]  # how many can be served at present


class Awaiting:
    """The tasks of one event loop that wait for one thing."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._woken: set[asyncio.Future[None]] = set()  # whose tasks have not run yet
        self._source: Source | None = None  # while somebody waits: it is not kept longer
        self._fd = -1  # that the loop reads; -1: none
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many tasks wait."""
        return len(self._waiting) + len(self._woken)

    async def until(self, source: Source, attempt: Callable[[], T], miss: type[Exception], timeout: float | None) -> T:
        """What `attempt` returns, which is called until it does not raise `miss`; then that, after `timeout` seconds.

        It is called first when somebody said that something is there: call it once before.
        """
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + max(timeout, 0)
        misses = 0
        while True:
            future: asyncio.Future[None] = loop.create_future()
            late = None if end is None else loop.call_at(end, _expire, future)
            try:
                self._add(loop, source, future)
                await future
            finally:
                if late is not None:
                    late.cancel()
                self._drop(loop, future)
            try:
                got = attempt()
            except miss:
                if end is not None and loop.time() >= end:
                    raise
                misses += 1
            else:
                return got
            if misses >= MISSES:
                pause = min(PAUSE * 2 ** (misses - MISSES), PAUSE_MOST)
                await asyncio.sleep(pause if end is None else max(0.0, min(pause, end - loop.time())))

    def _add(self, loop: asyncio.AbstractEventLoop, source: Source, future: asyncio.Future[None]) -> None:
        self._waiting[future] = None
        if self._source is None:
            fd = source.fileno()
            loop.add_reader(fd, self._wake, loop)
            self._fd = fd
            self._source = source
            self._timer = loop.call_later(LOOK_FIRST, self._look_again, loop, LOOK_FIRST)

    def _drop(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
        self._woken.discard(future)
        self._waiting.pop(future, None)
        if not self._waiting:
            self._rest(loop)

    def _rest(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nobody waits."""
        if self._fd >= 0:
            loop.remove_reader(self._fd)
            self._fd = -1
        self._source = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._source is None:
            return
        most = max(self._source.room(), 1) - len(self._woken)
        for future in list(islice(self._waiting, max(most, 0))):
            del self._waiting[future]
            if not future.done():
                self._woken.add(future)
                future.set_result(None)
        if not self._waiting:
            self._rest(loop)

    def _look_again(self, loop: asyncio.AbstractEventLoop, after: float) -> None:
        assert self._source is not None  # or the timer would have been cancelled
        after = min(2 * after, LOOK_MOST)
        self._timer = loop.call_later(after, self._look_again, loop, after)
        if self._source.look():
            self._wake(loop)


def _expire(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def awaiting_in(known: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Awaiting]) -> Awaiting:
    """That of the event loop that runs, made when there is none yet."""
    loop = asyncio.get_running_loop()
    found = known.get(loop)
    if found is None:
        found = known[loop] = Awaiting()
    return found
