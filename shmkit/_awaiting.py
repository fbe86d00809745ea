"""Waiting in an event loop of asyncio for what a descriptor tells of: no thread, and any number of tasks.

One reader per event loop and descriptor, there while tasks wait.  The descriptor is readable as long as there is
something, so each turn of the loop wakes as many tasks as there are things, who came first before the others.  A task
that was woken and finds nothing, as another process was quicker, goes on waiting, and keeps its place.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable
from itertools import count
from typing import NamedTuple, Protocol, TypeVar

from shmkit.errors import ShmkitError
from shmkit.waiting import seconds_of

__all__ = ["Awaiting", "InLoops", "Source", "Watched", "awaiting_in", "end_all"]

T = TypeVar("T")

MISSES = 3  # in a row, before a task sleeps a while: somebody stands still in the middle of a put
PAUSE = 0.001  # seconds, doubled with each miss after that
PAUSE_MOST = 0.1
# Who is killed keeps a datagram from nobody, but has things in its hands: the dead are looked for now and then.
LOOK_FIRST = 0.25
LOOK_MOST = 4.0


class Watched(Protocol):
    """What keeps a descriptor open, as long as it is referred to."""

    def fileno(self) -> int: ...


class Source(NamedTuple):
    """What is waited for."""

    watched: Callable[[], Watched]
    look: Callable[[], bool]  # whether to try, all the same
    room: Callable[[], int]  # how many can be served at present


class Awaiting:
    """The tasks of one event loop that wait for one thing."""

    def __init__(self) -> None:
        self._line: dict[int, asyncio.Future[None]] = {}  # by ticket: in the order in which they came
        self._tickets = count()
        self._asleep: set[int] = set()  # who is to be woken
        self._woken: set[int] = set()  # whose tasks have not run yet
        self._source: Source | None = None  # while somebody sleeps: it is not kept longer
        self._watched: Watched | None = None  # whose descriptor the loop reads
        self._fd = -1
        self._timer: asyncio.TimerHandle | None = None
        self._pid = os.getpid()

    @property
    def waiting(self) -> int:
        """How many tasks wait."""
        return len(self._line)

    async def once(self, source: Source, attempt: Callable[[], T], miss: type[Exception], timeout: float | None) -> T:
        """What `attempt` returns, once it does not raise `miss`; at once, unless others wait: then it is their turn."""
        timeout = seconds_of(timeout)
        if not self._line or timeout == 0:
            try:
                return attempt()
            except miss:
                if timeout == 0:
                    raise
        return await self._until(source, attempt, miss, timeout)

    async def _until(self, source: Source, attempt: Callable[[], T], miss: type[Exception], timeout: float | None) -> T:
        """The same, called first when somebody said that something is there; or `miss`, after `timeout` seconds."""
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        misses = 0
        ticket = next(self._tickets)
        try:
            while True:
                future: asyncio.Future[None] = loop.create_future()
                late = None if end is None else loop.call_at(end, _expire, future)
                try:
                    self._add(loop, source, ticket, future)
                    await future
                finally:
                    if late is not None:
                        late.cancel()
                    self._rouse(loop, ticket)
                try:
                    return attempt()
                except miss:
                    if end is not None and loop.time() >= end:
                        raise
                misses += 1
                if misses >= MISSES:
                    pause = min(PAUSE * 2 ** (misses - MISSES), PAUSE_MOST)
                    await asyncio.sleep(pause if end is None else max(0.0, min(pause, end - loop.time())))
        finally:
            self._line.pop(ticket, None)

    def end(self, loop: asyncio.AbstractEventLoop) -> None:
        """What is waited for is no more: whoever waits tries once more, and is told so.  Any thread may call this."""
        if self._pid != os.getpid():
            return  # these are the parent's tasks, in a loop that does not run here
        try:
            here = asyncio.get_running_loop() is loop
        except RuntimeError:
            here = False
        if here:
            self._wake_all(loop)
            return
        try:
            loop.call_soon_threadsafe(self._wake_all, loop)
        except RuntimeError:
            pass  # the loop is closed, and nobody waits there any more

    def _add(self, loop: asyncio.AbstractEventLoop, source: Source, ticket: int, future: asyncio.Future[None]) -> None:
        if self._source is None:
            watched = source.watched()
            fd = watched.fileno()
            loop.add_reader(fd, self._wake, loop)
            self._watched, self._fd = watched, fd
            self._source = source
            self._timer = loop.call_later(LOOK_FIRST, self._look_again, loop, LOOK_FIRST)
        self._line[ticket] = future  # where it was, if it was there
        self._asleep.add(ticket)

    def _rouse(self, loop: asyncio.AbstractEventLoop, ticket: int) -> None:
        """Its task runs."""
        self._woken.discard(ticket)
        self._asleep.discard(ticket)
        if not self._asleep:
            self._rest(loop)

    def _rest(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nobody sleeps."""
        if self._watched is not None:
            loop.remove_reader(self._fd)
            self._watched, self._fd = None, -1
        self._source = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._source is None:
            return
        try:
            room = self._source.room()
        except ShmkitError:
            self._wake_all(loop)  # each is told why
        else:
            self._wake_some(loop, max(room, 1) - len(self._woken))

    def _wake_all(self, loop: asyncio.AbstractEventLoop) -> None:
        self._wake_some(loop, len(self._line))
        self._rest(loop)

    def _wake_some(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        for ticket, future in self._line.items():
            if most <= 0:
                return
            if ticket in self._asleep:
                self._asleep.remove(ticket)
                if not future.done():
                    self._woken.add(ticket)
                    future.set_result(None)
                    most -= 1
        if not self._asleep:
            self._rest(loop)

    def _look_again(self, loop: asyncio.AbstractEventLoop, after: float) -> None:
        assert self._source is not None  # or the timer would have been cancelled
        after = min(2 * after, LOOK_MOST)
        self._timer = loop.call_later(after, self._look_again, loop, after)
        try:
            found = self._source.look()
        except ShmkitError:
            found = True
        if found:
            self._wake(loop)


InLoops = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Awaiting]


def _expire(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def awaiting_in(known: InLoops) -> Awaiting:
    """That of the event loop that runs, made when there is none yet."""
    loop = asyncio.get_running_loop()
    found = known.get(loop)
    if found is None:
        found = known[loop] = Awaiting()
    return found


def end_all(known: InLoops) -> None:
    """What is waited for in these loops is no more."""
    for reference in known.keyrefs():
        loop = reference()
        found = None if loop is None else known.get(loop)
        if loop is not None and found is not None:
            found.end(loop)
