"""Rings and topics in an event loop of asyncio: what waits for a record, a value or room, without a thread."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from shmkit import errors
from shmkit._awaiting import Awaiting, Source, Watched, awaiting_in, end_all

__all__ = ["awaiting_in", "end_all", "following", "recv", "send"]


class Receiving(Protocol):
    """One who receives; TimeoutError says that nothing is there."""

    def _recv_now(self) -> Any: ...
    def _served(self) -> int: ...
    def _tasks(self, which: int) -> Awaiting: ...
    def _watched(self, which: int) -> Watched: ...


class Sending(Protocol):
    """One who sends; TimeoutError says that there is no room."""

    def _send_now(self, data: Any) -> None: ...
    def _tasks(self, which: int) -> Awaiting: ...
    def _watched(self, which: int) -> Watched: ...


def _always() -> bool:
    """Looking costs little, and finds the dead."""
    return True


async def recv(end: Receiving, timeout: float | None) -> Any:
    """What comes next; TimeoutError after `timeout` seconds."""
    source = Source(partial(end._watched, 0), _always, end._served)
    return await end._tasks(0).once(source, end._recv_now, TimeoutError, timeout)


async def following(end: Receiving) -> Any:
    """What `async for` gets."""
    try:
        return await recv(end, None)
    except errors.EndOfStream:
        raise StopAsyncIteration from None


async def send(end: Sending, data: Any, timeout: float | None) -> None:
    """Sends; TimeoutError after `timeout` seconds without room."""
    source = Source(partial(end._watched, 1), _always, lambda: 1)
    await end._tasks(1).once(source, partial(end._send_now, data), TimeoutError, timeout)
