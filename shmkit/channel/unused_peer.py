"""The other end of a ring without a name, as long as nobody has used it: whether anybody still can.

An end becomes the ring's producer or consumer when it is first used, so that one process can make both ends, hand one
on, and close its own.  Until then the ring cannot say who has it.  A pair of sockets can: one goes with each end and
with its copies in other processes, and when the last of those has been closed, or its process has ended, the other
hangs up.  What is pickled for others than a child that is being started goes without it: nobody can know then who has
that end, so the other one is told, by a byte, not to count on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import select
import socket
import sys
import termios
from collections.abc import Callable
from multiprocessing import context, reduction
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from shmkit._owned import Owner
from shmkit.channel.turn import FIRST_LOOK, LAST_LOOK
from shmkit.errors import RoleTaken
from shmkit.waiting import Deadline, wait_for

if TYPE_CHECKING:
    from shmkit._ring import Ring

__all__ = ["UnusedPeer", "peer_sockets"]

T = TypeVar("T")


class UnusedPeer(Owner):
    """Who has the other end, as `Presence` would tell it."""

    __slots__ = ("_both", "_pid", "_ring", "_role", "_told", "watched")

    def __init__(self, fd: int, ring: Ring, role: Literal["producer", "consumer"]) -> None:
        self._fd = fd
        self._ring = ring
        self._role: Literal["producer", "consumer"] = role
        # Until the other end has been used: from then on the ring knows.
        self.watched = True
        self._both: select.epoll | None = None
        self._pid = 0
        self._told = False

    def beside(self, fd: int) -> int:
        """A descriptor that is readable when ``fd`` is, and when nobody can use the other end; ``fd``, if that has been
        used before anybody asked: from one who asks again it is never another one.
        """
        both = self._both
        if both is None or self._pid != os.getpid():
            if both is None and (not self.watched or self._used()):
                return fd
            both = select.epoll()
            both.register(fd, select.EPOLLIN)
            both.register(self.fileno(), 0)  # a hang-up is always told
            self._both, self._pid = both, os.getpid()
        return both.fileno()

    def close(self) -> None:
        """Let go of it."""
        super().close()
        if self._both is not None:
            self._both.close()

    def check(self) -> bool:
        """Whether nobody can use the other end any more, and nobody has: the ring says then that it was closed."""
        if not self.watched:
            return False
        # Looked at first: whoever has used the other end, or pickled it, and gone, is seen after that.
        gone = wait_for(self.fileno(), 0, Deadline(0))
        if self._used() or self._with_anybody():
            self._look_away()
        elif gone:
            self._look_away()
            self._close_for_them()
            return True
        return False

    def _look_away(self) -> None:
        self.watched = False
        if self._both is not None and self._pid == os.getpid():
            # A hang-up that says nothing any more would be told for ever.  Another thread may do the same, or close it.
            with contextlib.suppress(OSError, ValueError):
                self._both.unregister(self.fileno())

    def _with_anybody(self) -> bool:
        """Whether the other end was pickled for whoever may come: the byte that says so stays where it is."""
        waiting = fcntl.ioctl(self.fileno(), termios.FIONREAD, bytes(4))
        return int.from_bytes(waiting, sys.byteorder) > 0

    def handed_on(self) -> Any:
        """The descriptor in a pickle for a child that is being started; None in any other."""
        if context.get_spawning_popen() is not None:
            return reduction.DupFd(self.fileno())
        if not self._told:
            # Once, as a byte that is there already says it too, and nobody takes it away; not to one who has gone.
            self._told = True
            with contextlib.suppress(OSError):
                os.write(self.fileno(), b"?")
        return None

    def _used(self) -> bool:
        found = self._ring.statistics()
        return (found.producer_pid if self._role == "producer" else found.consumer_pid) is not None

    def _close_for_them(self) -> None:
        end = pickle.loads(pickle.dumps(self._ring))
        try:
            end._take_role(self._role)
        except RoleTaken:
            pass  # another handle of this end does the same
        finally:
            end.close()

    def wait(self, call: Callable[[float | None], T], timeout: float | None) -> T:
        """What ``call`` gives, which waits at the ring, and looks from time to time; TimeoutError, as it has it."""
        deadline = Deadline(timeout)
        pause = FIRST_LOOK
        while self.watched and not self.check():
            try:
                return call(min(pause, deadline.left()))
            except TimeoutError:
                if deadline.passed:
                    raise
            pause = min(pause * 2, LAST_LOOK)
        return call(deadline.left_or_none())


def peer_sockets() -> tuple[int, int]:
    """A descriptor for each of two ends."""
    here, there = socket.socketpair()
    for end in (here, there):
        end.setblocking(False)
    return here.detach(), there.detach()
