"""The kernel's message queues as an end has them: without waiting, and with who receives.

The kernel gives a message in one piece, with its header, so its payload is copied once more, to where it belongs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from typing import Any

from shmkit._small import POSIX_QUEUE, SYSV_QUEUE
from shmkit.channel.presence import lives
from shmkit.channel.receivers import Receivers
from shmkit.errors import RoleTaken, SegmentNotFound
from shmkit.mqueue import PosixMessageQueue, SysVMessageQueue
from shmkit.mqueue.limits import sysv_limit, too_large_for_posix, too_large_for_sysv

__all__ = ["PosixEnd", "SysVEnd"]

# The byte of a POSIX queue's descriptor that the receiving end has locked.  Nobody else sees such locks.
_LOCK = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
# The type of what a receiver of a System V queue sends to itself, for the kernel to note who receives.
_MINE = 2**31 - 1


class PosixEnd:
    """A POSIX queue, without waiting."""

    room = "with max_messages and max_message_size"
    quick = POSIX_QUEUE

    def __init__(self, queue: PosixMessageQueue, priority: int = 0) -> None:
        self.queue = queue
        self.most = queue.max_message_size
        self.fd = self.short = queue.fileno()
        self.how = priority

    def too_large(self, nbytes: int) -> str:
        """Which limit so many bytes are beyond, and how it is raised."""
        return str(too_large_for_posix(self.queue.name, nbytes, self.most))

    def put(self, message: bytes) -> bool:
        """Whether there was room."""
        return self.queue.try_send(message, self.how)

    def take(self) -> bytes | None:
        """The next message; None: there is none."""
        return self.queue.try_recv()

    def claim(self) -> bytes | None:
        """Becomes the receiver, until it is closed; RoleTaken."""
        try:
            fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, _LOCK)
        except BlockingIOError:
            raise RoleTaken(
                f"another process receives from message queue {self.queue.name!r}, until it closes it or ends"
            ) from None
        return None

    def receiver_gone(self) -> int | None:
        """Whether nobody receives any more: its pid, as far as it is known, or 0; None: somebody does."""
        answer = fcntl.fcntl(self.fd, fcntl.F_OFD_GETLK, _LOCK)
        return 0 if struct.unpack_from("h", answer)[0] == fcntl.F_UNLCK else None

    def again(self) -> tuple[Any, ...]:
        """What makes it in another process."""
        return self.queue, self.how

    def leave(self, keep: bool, ours: bool) -> None:
        """Receives no longer; the queue goes, if this process is who made the end, and was not told to keep it."""
        if ours and not keep:
            with contextlib.suppress(SegmentNotFound):
                self.queue.unlink()
        self.queue.close()


class SysVEnd:
    """A System V queue, without waiting."""

    room = "by kernel.msgmax and its capacity"
    quick = SYSV_QUEUE
    fd = -1

    def __init__(self, queue: SysVMessageQueue, mtype: int = 0, receivers: Receivers | None = None) -> None:
        self.queue = queue
        self.most = min(queue.capacity, sysv_limit("msgmax"))
        self.short = queue.id
        self.how = mtype
        self._receivers = Receivers(queue.key) if receivers is None else receivers
        # Whether one was there that can be told of.
        self._met = False

    def too_large(self, nbytes: int) -> str:
        """Which limit so many bytes are beyond, and how it is raised."""
        return str(too_large_for_sysv(self.queue.name, nbytes, self.queue.capacity))

    def put(self, message: bytes) -> bool:
        """Whether there was room; SegmentNotFound: it was removed."""
        return self.queue.try_send(message, self.how or 1)

    def put_within(self, message: bytes, seconds: float) -> bool:
        """The same, and waits for room."""
        try:
            self.queue.send(message, seconds, self.how or 1)
        except TimeoutError:
            return False
        return True

    def take(self) -> bytes | None:
        """The next message; None: there is none.  SegmentNotFound: it was removed."""
        return self.queue.try_recv(self.how)

    def take_within(self, seconds: float) -> bytes | None:
        """The same, and waits for it."""
        try:
            return self.queue.recv(seconds, self.how)
        except TimeoutError:
            return None

    def claim(self) -> bytes | None:
        """Has the kernel note that this process receives; the first message, if the queue was full."""
        if not self.queue.try_send(b"", _MINE):
            return self.take()
        self.queue.try_recv(_MINE)
        return None

    def meet(self) -> None:
        """Looks who receives."""
        self._met = self._receivers.anybody(self.how or 1)

    def receiver_gone(self) -> int | None:
        """Whether nobody receives any more: the pid of the process that received last, or 0; None: somebody may."""
        was = self._met
        self.meet()
        if self._met:
            return None
        self._met = was
        pid = self.queue.statistics().last_receive_pid
        if pid and not lives(pid):
            return pid
        return 0 if was else None

    def leave(self, keep: bool, ours: bool) -> None:
        """As above; the queue goes with the last end that receives from it."""
        try:
            if ours:
                self._receivers.leave(None if keep else self._remove)
            else:
                self._receivers.drop()
        finally:
            self.queue.close()

    def _remove(self) -> None:
        with contextlib.suppress(SegmentNotFound):
            self.queue.unlink()

    def again(self) -> tuple[Any, ...]:
        """What makes it in another process."""
        return self.queue, self.how
