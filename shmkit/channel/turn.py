"""What the ends of all channels count, how their threads take turns, and how coroutines wait for a descriptor."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from shmkit._turns import Turn
from shmkit.channel.presence import Presence
from shmkit.waiting import Deadline

__all__ = ["FIRST_LOOK", "LAST_LOOK", "ChannelStatistics", "Turn", "take_turn", "until"]

# After how many seconds of waiting one looks whether those at the other end live: at first, and at most.
FIRST_LOOK = 0.05
LAST_LOOK = 0.5


class ChannelStatistics(NamedTuple):
    """What an end has counted in this process."""

    sent: int
    """Messages sent."""
    received: int
    """Messages received."""
    bytes_sent: int
    """Bytes of their payloads."""
    bytes_received: int
    """Bytes of theirs."""
    send_waits: int
    """Times that a sender had to wait for room."""
    recv_waits: int
    """Times that a receiver had to wait for a message."""


async def ready(fd: int, out: bool, deadline: Deadline, waker: int) -> bool:
    """Returns when the descriptor is ready, or the waker is readable, or the time is up (False)."""
    loop = asyncio.get_running_loop()
    became: asyncio.Future[bool] = loop.create_future()

    def wake(found: bool = True) -> None:
        if not became.done():
            became.set_result(found)

    add, remove = (loop.add_writer, loop.remove_writer) if out else (loop.add_reader, loop.remove_reader)
    add(fd, wake)
    if waker >= 0 and waker != fd:
        loop.add_reader(waker, wake)
    timer = None if deadline.end == math.inf else loop.call_later(deadline.left(), wake, False)
    try:
        return await became
    finally:
        remove(fd)
        if waker >= 0:
            loop.remove_reader(waker)
        if timer is not None:
            timer.cancel()


async def take_turn(turn: Turn, where: str, deadline: Deadline, doing: str) -> None:
    """Waits for a turn without stopping the event loop; TimeoutError."""
    pause = 0.0005
    while not turn.try_take():
        if deadline.passed:
            raise TimeoutError(f"{where}: another task or thread was {doing} for {deadline.timeout} s")
        await asyncio.sleep(min(pause, deadline.left()))
        pause = min(pause * 1.5, 0.01)


async def until(
    step: Callable[[], Any],
    descriptor: Callable[[], int],
    out: bool,
    deadline: Deadline,
    what: Callable[[], str],
    presence: Presence | None,
    waker: int,
) -> Any:
    """The first true answer of ``step``, which is asked again when the descriptor is ready, or (-1) now and then.

    And when ``waker`` is readable: the end was closed, and ``step`` will say so.
    """
    pause = 0.0005
    look = time.monotonic() + FIRST_LOOK
    while True:
        found = step()
        if found:
            return found
        if deadline.passed:
            raise TimeoutError(f"{what()} within {deadline.timeout} s")
        fd = descriptor()
        if fd < 0:
            await asyncio.sleep(min(pause, deadline.left()))
            pause = min(pause * 1.5, 0.01)
            if presence is not None and presence.watched and time.monotonic() >= look:
                presence.check()
                look = time.monotonic() + LAST_LOOK
        elif presence is None or not presence.watched:
            await ready(fd, out, deadline, waker)
        elif not await ready(fd, out, Deadline(min(max(pause, FIRST_LOOK), deadline.left())), waker):
            presence.check()
            pause = min(max(pause, FIRST_LOOK) * 2, LAST_LOOK)
