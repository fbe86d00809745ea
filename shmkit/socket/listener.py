"""Listener: takes connections, and lets only those through that prove who they are.

Several connections prove themselves at a time, so that one that says nothing keeps nobody else waiting; each has
`HANDSHAKE_SECONDS`, and of many the oldest goes first.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from shmkit.errors import Closed, Refused
from shmkit.socket.authentication import HANDSHAKE_SECONDS, Handshake
from shmkit.waiting import Deadline, readable

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Listener"]

# Connections that may be proving themselves at the same time.
_UNPROVEN_MOST = 64


class Listener:
    """A listening socket: ``accept(timeout)`` gives connected ones, each of which has been checked.

    ``admit`` is called with each new connection and returns a `Handshake` for it to go through, or None; Refused from
    it turns the connection away.  ``fileno()`` is readable when ``try_accept`` may have something to do.
    """

    def __init__(
        self,
        sock: socket.socket,
        admit: Callable[[socket.socket], Handshake | None],
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._admit = admit
        self._on_close = on_close
        self._unproven: dict[int, tuple[socket.socket, Handshake, float]] = {}
        self._watch = select.epoll()
        self._watch.register(sock.fileno(), select.EPOLLIN)
        self.refused = 0
        """How many connections were turned away."""
        self.last_refusal: Exception | None = None
        """Why the last one was."""

    def fileno(self) -> int:
        """A descriptor that is readable when ``try_accept`` may have something to do.  Closed."""
        if self._watch.closed:
            raise Closed("this listener was closed by this process")
        return self._watch.fileno()

    @property
    def closed(self) -> bool:
        """Whether this process has closed it."""
        return self._watch.closed

    def accept(self, timeout: float | None = None) -> socket.socket:
        """The next connection that was let through.  TimeoutError."""
        deadline = Deadline(timeout)
        while True:
            found = self.try_accept()
            if found is not None:
                return found
            # The oldest of those that say nothing is turned away in time, not when the next one comes.
            ends = min((end for _, _, end in self._unproven.values()), default=None)
            left = deadline.left() if ends is None else min(deadline.left(), max(0.0, ends - time.monotonic()))
            if not readable(self.fileno(), Deadline(left)) and deadline.passed:
                raise TimeoutError(f"nobody was let through within {timeout} s")

    def try_accept(self) -> socket.socket | None:
        """The same without waiting; None: nobody."""
        for fd, _ in self._watch.poll(0):
            if fd != self.socket.fileno() and fd in self._unproven:
                proven = self._go_on(fd)
                if proven is not None:
                    return proven
        while True:
            try:
                new, _ = self.socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                break
            self._turn_away_late()
            try:
                handshake = self._admit(new)
            except Exception as error:
                self._refuse(new, error)
                continue
            if handshake is None:
                new.setblocking(True)
                return new
            self._unproven[new.fileno()] = (new, handshake, time.monotonic() + HANDSHAKE_SECONDS)
            self._watch.register(new.fileno(), select.EPOLLIN)
            proven = self._go_on(new.fileno())
            if proven is not None:
                return proven
        self._turn_away_late()
        return None

    def _go_on(self, fd: int) -> socket.socket | None:
        sock, handshake, _ = self._unproven[fd]
        try:
            if not handshake.step():
                self._watch.modify(fd, select.EPOLLOUT if handshake.wants_to_write else select.EPOLLIN)
                return None
        except Exception as error:
            self._forget(fd)
            self._refuse(sock, error)
            return None
        self._forget(fd)
        sock.setblocking(True)
        return sock

    def _forget(self, fd: int) -> None:
        del self._unproven[fd]
        self._watch.unregister(fd)

    def _turn_away_late(self) -> None:
        now = time.monotonic()
        while self._unproven:
            fd, (sock, _, end) = next(iter(self._unproven.items()))
            if end > now and len(self._unproven) < _UNPROVEN_MOST:
                return
            self._forget(fd)
            self._refuse(sock, Refused("a connection said too little, too late"))

    def _refuse(self, sock: socket.socket, error: Exception) -> None:
        sock.close()
        self.refused += 1
        self.last_refusal = error

    def stop(self, last: socket.socket) -> None:
        """Listen no longer, as ``last`` was the last one wanted; a socket file goes.

        ``fileno()`` stays, and becomes readable: threads that wait for it look again.
        """
        self._turn_all_away()
        self._watch.unregister(self.socket.fileno())
        self._watch.register(last.fileno(), select.EPOLLIN | select.EPOLLOUT)
        self._on_close()
        self.socket.close()

    def _turn_all_away(self) -> None:
        for fd in list(self._unproven):
            sock = self._unproven[fd][0]
            self._forget(fd)
            sock.close()

    def close(self) -> None:
        """Stop listening; a socket file goes.  Again changes nothing."""
        if self._watch.closed:
            return
        self._turn_all_away()
        self._watch.close()
        if self.socket.fileno() < 0:
            return  # stopped before
        # The name goes first: whoever finds it finds somebody.
        self._on_close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_watch"):
            self.close()
