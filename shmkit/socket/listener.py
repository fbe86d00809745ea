"""Listener: takes connections, and lets only those through that prove who they are.

Several connections prove themselves at a time, so that one that says nothing keeps nobody else waiting; each has
`HANDSHAKE_SECONDS`, and of many the oldest goes first.

A forked child that has its parent's listener takes connections beside it, with an epoll instance of its own; to close
it there takes nothing from the parent, the socket file above all.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from shmkit._owned import exchanged
from shmkit._turns import Turn
from shmkit.errors import Closed, Refused
from shmkit.socket.authentication import HANDSHAKE_SECONDS, Handshake
from shmkit.waiting import Deadline, readable

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Listener"]

# Connections that may be proving themselves at the same time.
_UNPROVEN_MOST = 64

# How many forks lie between the first process and this one, and what of its threads alone renews a listener.
_generation = 0
_renewing = threading.RLock()


def _forked() -> None:
    global _generation, _renewing  # noqa: PLW0603
    _generation += 1
    _renewing = threading.RLock()


os.register_at_fork(after_in_child=_forked)


class Listener:
    """A listening socket: ``accept(timeout)`` gives connected ones, each of which has been checked.

    ``admit`` is called with each new connection and returns a `Handshake` for it to go through, or None; Refused from
    it turns the connection away.  ``on_close`` is called when no more are taken, in the process that made the listener
    only.  ``fileno()`` is readable when ``try_accept`` may have something to do.  Threads take turns.
    """

    _closed = False
    # It was closed by a handler that interrupted the very call which lets go of it when it leaves.
    _within = False
    # Readable when it was closed; -1: nobody has had to wait.
    _waker = -1

    def __init__(
        self,
        sock: socket.socket,
        admit: Callable[[socket.socket], Handshake | None],
        on_close: Callable[[], None] = lambda: None,
        where: str = "this listener",
    ) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._admit = admit
        self._on_close = on_close
        self._where = where
        self._maker = os.getpid()
        self._generation = _generation
        self._turn = Turn()
        self._unproven: dict[int, tuple[socket.socket, Handshake, float]] = {}
        self._watch = select.epoll()
        self._watch.register(sock.fileno(), select.EPOLLIN)
        self.refused = 0
        """How many connections were turned away."""
        self.last_refusal: Exception | None = None
        """Why the last one was."""

    def fileno(self) -> int:
        """A descriptor that is readable when ``try_accept`` may have something to do.  Closed."""
        self._check_open()
        return self._watch.fileno()

    @property
    def closed(self) -> bool:
        """Whether this process has closed it."""
        return self._closed

    def _check_open(self) -> None:
        if self._closed:
            raise Closed(f"{self._where} was closed by this process")
        if self._generation != _generation:
            with _renewing:
                if self._generation != _generation:
                    self._renew()

    def _renew(self) -> None:
        """In a forked child: the parent's epoll instance stays the parent's, and so do those who prove themselves."""
        watch = select.epoll()
        if self.socket.fileno() >= 0:
            watch.register(self.socket.fileno(), select.EPOLLIN)
        os.dup2(watch.fileno(), self._watch.fileno(), inheritable=False)
        watch.close()
        self._drop_copies()
        self._turn = Turn()
        self._generation = _generation

    def _drop_copies(self) -> None:
        """Closes what is the parent's, here."""
        for sock, _, _ in self._unproven.values():
            sock.close()
        self._unproven = {}
        self._drop_waker()

    def accept(self, timeout: float | None = None) -> socket.socket:
        """The next connection that was let through.  TimeoutError; Closed, also by another thread meanwhile."""
        deadline = Deadline(timeout)
        self._check_open()
        if not self._turn.take(deadline, self._where):
            self._check_open()
            raise TimeoutError(f"{self._where}: another thread was accepting for {timeout} s")
        try:
            while True:
                self._check_open()
                found = self._look()
                if found is not None:
                    return found
                # The oldest of those that say nothing is turned away in time, not when the next one comes.
                ends = min((end for _, _, end in self._unproven.values()), default=None)
                left = deadline.left() if ends is None else min(deadline.left(), max(0.0, ends - time.monotonic()))
                if not readable(self._watch.fileno(), Deadline(left), self._waker_fd()) and deadline.passed:
                    raise TimeoutError(f"{self._where}: nobody was let through within {timeout} s")
        finally:
            self._give_turn()

    def _waker_fd(self) -> int:
        if self._waker < 0:
            self._waker = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # Made first, looked at then; who closes does it the other way round.
        self._check_open()
        return self._waker

    def _drop_waker(self) -> None:
        waker, self._waker = self._waker, -1
        if waker >= 0:
            os.close(waker)

    def _give_turn(self) -> None:
        self._turn.give()
        if self._within:
            self._let_go()

    def try_accept(self) -> socket.socket | None:
        """The same without waiting; None: nobody, or another thread waits for them."""
        self._check_open()
        if not self._turn.try_take():
            return None
        try:
            self._check_open()
            return self._look()
        finally:
            self._give_turn()

    def _look(self) -> socket.socket | None:
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
        self._stop()

    def _stop(self) -> None:
        # The name goes first: whoever finds it finds somebody.
        if self._maker == os.getpid():
            self._on_close()
        self.socket.close()

    def _turn_all_away(self) -> None:
        for fd in list(self._unproven):
            sock = self._unproven[fd][0]
            self._forget(fd)
            sock.close()

    def close(self) -> None:
        """Stop listening; a socket file goes, and threads that wait in ``accept`` are told.  Again changes nothing."""
        if exchanged(self, "_closed", True):
            return
        if self._generation != _generation:
            self._drop_copies()
        else:
            if self._waker >= 0:
                os.eventfd_write(self._waker, 1)
            if self._turn.mine:
                self._within = True
                return
            # A number that somebody still polls could be another file's by the next moment.
            self._turn.take(Deadline(None), self._where)
            self._turn.give()
        self._let_go()

    def _let_go(self) -> None:
        self._within = False
        self._turn_all_away()
        self._drop_waker()
        self._watch.close()
        if self.socket.fileno() >= 0:  # else stopped before
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_watch"):
            self.close()
