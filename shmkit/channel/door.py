"""Where an end that listens lets its other end in."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from shmkit._turns import Turn
from shmkit.channel.base import Channel, generation
from shmkit.errors import Closed
from shmkit.socket import Listener
from shmkit.waiting import Deadline

__all__ = ["Door", "Listening"]


class Door:
    """Lets one in, once, though several threads may wait there.

    ``let_in`` is called with the socket, and with None where a handler has closed the end meanwhile.
    """

    def __init__(self, listener: Listener, let_in: Callable[[socket.socket | None], None], where: str) -> None:
        self._listener = listener
        self._let_in = let_in
        self._where = where
        self._turn = Turn()
        self._generation = generation()
        self._met = False
        # It was closed by a handler that interrupted the very look which then lets go of it.
        self._within = False

    def _take_turn(self) -> Turn:
        # In a forked child it is another one: a thread of the parent's may have had it at that moment.
        if self._generation != generation():
            self._turn, self._generation = Turn(), generation()
        self._turn.take(Deadline(None), self._where)
        return self._turn

    def look(self) -> bool:
        """Whether the other end is in by now.  RuntimeError: this very thread is looking (it is in a handler)."""
        turn = self._take_turn()
        found = None
        try:
            if not self._met:
                found = self._listener.try_accept()
                if found is not None:
                    # First, while nobody else knows of it.
                    self._listener.stop(found)
                    self._let_in(found)
                    self._met = True
        finally:
            turn.give()
            if self._within:
                self._listener.close()
                if found is not None:
                    self._let_in(None)
                    found.close()
        if self._within:
            raise Closed(f"{self._where} was closed by this process")
        return self._met

    def fileno(self) -> int:
        """Readable when it is worth a look; -1: it was closed."""
        return -1 if self._listener.closed else self._listener.fileno()

    def close(self) -> None:
        """Lets nobody in any more."""
        if self._generation == generation() and self._turn.mine:
            self._within = True
            return
        turn = self._take_turn()
        try:
            self._listener.close()
        finally:
            turn.give()


class Listening(Channel):
    """An end that may listen: the first who connects is the other end."""

    _door: Door | None = None

    def _link(self) -> object | None:
        """The connection; None: nobody has connected yet."""
        raise NotImplementedError

    def _connect_step(self) -> bool:
        """Whether there is one by now."""
        return self._link() is not None or (self._door is not None and self._door.look())

    def _meet(self, timeout: float | None) -> None:
        # Everybody who waits here is told by the same descriptor.
        deadline = Deadline(timeout)
        while not self._connect_step():
            if not self._wait_in(deadline):
                raise TimeoutError(f"{self._where}: nobody has connected within {timeout} s")

    def _alone(self) -> str:
        return "nobody has connected" if self._link() is None else ""

    # A listener becomes readable, also for those who want to send.

    def _wait_out(self, deadline: Deadline) -> bool:
        return self._wait_in(deadline) if self._link() is None else super()._wait_out(deadline)

    async def _until(
        self, step: Callable[[], Any], descriptor: Callable[[], int], out: bool, deadline: Deadline, *rest: Any
    ) -> Any:
        if out and self._link() is None:
            await super()._until(self._connect_step, self._in_fd, False, deadline, *rest)
        return await super()._until(step, descriptor, out, deadline, *rest)
