"""Rings in an event loop of asyncio: what waits for a record, or for room, without a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmkit import errors
from shmkit._awaiting import Source, awaiting_in

if TYPE_CHECKING:
    from shmkit._ring import Ring

__all__ = ["awaiting_in", "next_record", "recv", "send"]

ALL = 1 << 30  # tasks: each of them can be served, if only with an exception


class _Nothing(Exception):
    """No record, or no room, was there."""


def _served(ring: Ring) -> int:
    """How many tasks to wake that wait for a record; those for whom there is none wait on."""
    return len(ring) or ALL


async def recv(ring: Ring, timeout: float | None) -> Any:
    """The next record; TimeoutError after `timeout` seconds, EndOfStream, PeerDied."""

    def attempt() -> Any:
        item = ring.try_recv()
        if item is None:
            raise _Nothing
        return item

    try:
        try:
            return attempt()
        except _Nothing:
            if timeout is not None and timeout <= 0:
                raise
        source = Source(ring.fileno, lambda: True, lambda: _served(ring))
        return await ring._tasks(0).until(source, attempt, _Nothing, timeout)
    except _Nothing:
        raise TimeoutError(f"{ring!r} was empty for all of {timeout} s") from None


async def send(ring: Ring, data: Any, timeout: float | None) -> None:
    """Sends one record; TimeoutError after `timeout` seconds, and what `send` raises."""

    def attempt() -> None:
        if not ring.try_send(data):
            raise _Nothing

    tasks = ring._tasks(1)
    try:
        if not tasks.waiting:  # else it is their turn
            try:
                attempt()
            except _Nothing:
                if timeout is not None and timeout <= 0:
                    raise
            else:
                return
        await tasks.until(Source(ring._room_fileno, lambda: True, lambda: 1), attempt, _Nothing, timeout)
    except _Nothing:
        raise TimeoutError(f"{ring!r} was full for all of {timeout} s") from None


async def next_record(ring: Ring) -> Any:
    """What `async for` gets."""
    try:
        return await recv(ring, None)
    except errors.EndOfStream:
        raise StopAsyncIteration from None
