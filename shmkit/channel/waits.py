"""How a call at an end waits, and how it is ended when another thread, or task, closes the end meanwhile.

Who waits looks at a second descriptor besides, which is made for the first that does, and which ``close`` makes
readable; ``close`` then waits until all others have left, and only then closes the mechanism's descriptors: a number
that somebody still polls could be another file's by the next moment.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import Any

from shmkit.channel.presence import Presence
from shmkit.channel.turn import FIRST_LOOK, LAST_LOOK, Turn, until
from shmkit.errors import Closed
from shmkit.waiting import Deadline, wait_for

__all__ = ["Waits"]


class Waits:
    """The waiting of a Channel."""

    # Who is at the other end, where they say so.
    _presence: Presence | None = None
    _where: str
    _closed: bool
    _send_turn: Turn
    _recv_turn: Turn
    # Readable when the end was closed; -1: nobody has had to wait.
    _waker = -1
    # The thread that closes it, while it takes leave, which nothing interrupts; 0: none.
    _leaving = 0

    def _in_fd(self) -> int:
        """What is readable when ``_recv_step`` is worth a try; -1: nothing can tell."""
        raise NotImplementedError

    def _out_fd(self) -> int:
        """What is writable when ``_send_step`` is worth a try; -1: nothing can tell."""
        raise NotImplementedError

    def _check_open(self) -> None:
        if self._closed and self._leaving != threading.get_ident():
            raise Closed(f"{self._where} was closed by this process")

    def _waker_fd(self) -> int:
        """What to look at besides; -1: nothing."""
        if self._leaving == threading.get_ident():
            return -1
        if self._waker < 0:
            made = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            # In one step: a sender and a receiver may both be the first.
            if self.__dict__.setdefault("_waker", made) != made:
                os.close(made)
        # Made first, looked at then; who closes does it the other way round.
        self._check_open()
        return self._waker

    def _wait_in(self, deadline: Deadline) -> bool:
        return self._wait(self._in_fd(), select.POLLIN, deadline)

    def _wait_out(self, deadline: Deadline) -> bool:
        return self._wait(self._out_fd(), select.POLLOUT, deadline)

    def _wait(self, fd: int, events: int, deadline: Deadline) -> bool:
        found = self._wait_besides(fd, events, deadline, self._waker_fd())
        self._check_open()
        return found

    def _wait_besides(self, fd: int, events: int, deadline: Deadline, waker: int) -> bool:
        presence = self._presence
        if presence is None or not presence.watched:
            return wait_for(fd, events, deadline, waker)
        # The kernel tells that nobody is there any more only if nobody, this process included, has the other end open.
        # So whoever is known to be there is looked at from time to time.
        pause = FIRST_LOOK
        while not wait_for(fd, events, Deadline(min(pause, deadline.left())), waker):
            if deadline.passed:
                return False
            if presence.check():
                return True
            pause = min(pause * 2, LAST_LOOK)
        return True

    def _somebody(self) -> bool:
        """Whether another end has connected, and is there or has sent something; True: nobody is waited for."""
        return True

    def _wait_for_somebody(self, deadline: Deadline) -> None:
        """Waits until it may be so; it is this thread's turn to receive."""
        self._wait_in(deadline)

    def _meet(self, timeout: float | None) -> None:
        deadline = Deadline(timeout)
        while not self._somebody():
            if deadline.passed:
                raise TimeoutError(f"{self._where}: nobody has connected within {timeout} s")
            # Looked at from time to time: whoever receives meanwhile may be the one who hears of it.
            pause = Deadline(min(FIRST_LOOK, deadline.left()))
            if self._recv_turn.take(pause, self._where):
                try:
                    self._check_open()
                    self._wait_for_somebody(pause)
                finally:
                    self._shorten_recv()
                    self._recv_turn.give()

    def _shorten_recv(self) -> None:
        """What has been received is over: says how the next may be."""

    def _alone(self) -> str:
        """That nobody has connected yet, in words; "": that is not so, or cannot be known."""
        return ""

    def _not_sent(self, nbytes: int) -> str:
        return self._alone() or f"no room for {nbytes} bytes"

    async def _until(
        self,
        step: Callable[[], Any],
        descriptor: Callable[[], int],
        out: bool,
        deadline: Deadline,
        what: Callable[[], str],
    ) -> Any:
        def open_step() -> Any:
            self._check_open()
            return step()

        def said() -> str:
            return f"{self._where}: {what()}"

        try:
            return await until(open_step, descriptor, out, deadline, said, self._presence, self._waker_fd())
        finally:
            if self._closed:
                self._drop_waker()

    def _evict(self) -> bool:
        """Has others leave their calls, and waits until they have; whether this very thread is in one.

        That one (it has called this from a signal handler, or from another task) leaves as soon as it goes on.
        """
        if self._waker >= 0:
            os.eventfd_write(self._waker, 1)
        within = False
        for turn in (self._send_turn, self._recv_turn):
            if turn.mine:
                within = True
            else:
                turn.take(Deadline(None), self._where)
                turn.give()
        return within

    def _drop_waker(self) -> None:
        waker = self.__dict__.pop("_waker", -1)
        if waker >= 0:
            os.close(waker)
