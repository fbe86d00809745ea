"""Rings and topics in an event loop of asyncio: what waits for a record, a value or room, without a thread."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from shmkit import errors
from shmkit._awaiting import Awaiting, Source, awaiting_in

__all__ = ["awaiting_in", "following", "recv", "send"]


class Receiving(Protocol):
    """One who receives; TimeoutError says that nothing is there."""

    def fileno(self) -> int: ...
    def _recv_now(self) -> Any: ...
    def _served(self) -> int: ...
    def _tasks(self, which: int) -> Awaiting: ...


class Sending(Protocol):
    """One who sends; TimeoutError says that there is no room."""

    def _room_fileno(self) -> int: ...
    def _send_now(self, data: Any) -> None: ...
    def _tasks(self, which: int) -> Awaiting: ...


def _always() -> bool:
    """Looking costs little, and finds the dead."""
    return True


async def recv(end: Receiving, timeout: float | None) -> Any:
    """What comes next; TimeoutError after `timeout` seconds."""
    try:
        return end._recv_now()
    except TimeoutError:
        if timeout is not None and timeout <= 0:
            raise
    source = Source(end.fileno, _always, end._served)
    return await end._tasks(0).until(source, end._recv_now, TimeoutError, timeout)


async def following(end: Receiving) -> Any:
    """What `async for` gets."""
    try:
        return await recv(end, None)
    except errors.EndOfStream:
        raise StopAsyncIteration from None


async def send(end: Sending, data: Any, timeout: float | None) -> None:
    """Sends; TimeoutError after `timeout` seconds without room."""
    tasks = end._tasks(1)
    attempt = partial(end._send_now, data)
    if not tasks.waiting:  # else it is their turn
        try:
            attempt()
        except TimeoutError:
            if timeout is not None and timeout <= 0:
                raise
        else:
            return
    await tasks.until(Source(end._room_fileno, _always, lambda: 1), attempt, TimeoutError, timeout)
