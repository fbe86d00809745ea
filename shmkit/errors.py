"""The exceptions of shmkit.  Each also inherits the builtin that a caller would already catch.

::

    ShmkitError
    ├─ SegmentError     SegmentExists (FileExistsError) · SegmentNotFound (FileNotFoundError) · NotReady
    │                   LayoutMismatch · SegmentPermission (PermissionError) · NoSpace (OSError, errno ENOSPC)
    ├─ ChannelError     Full (queue.Full) · Empty (queue.Empty) · Closed (ValueError): this end
    │                   EndOfStream (EOFError) · Broken (BrokenPipeError) · PeerDied (a Broken) · RoleTaken
    │                   RecordCorrupt · NoPeer (ConnectionRefusedError) · Refused (PermissionError)
    │                   OneWay (io.UnsupportedOperation)
    ├─ LockError        OwnerDied · NotRecoverable · NotOwner (RuntimeError, AssertionError)
    │                   ReleasedTooOften (ValueError, RuntimeError) · InvalidPermits (ValueError, OSError,
    │                   OverflowError)
    │                   BrokenBarrier (threading.BrokenBarrierError)
    ├─ RecordTooLarge   (ValueError)
    └─ WorkerDied       (RuntimeError)

A wait whose time is up raises the builtin ``TimeoutError``, or ``Full``/``Empty`` where the standard library does.
"""

from __future__ import annotations

import errno
import io
import queue
import sys
import threading

if sys.version_info >= (3, 13):
    _ShutDown = queue.ShutDown
else:
    _ShutDown = Exception

__all__ = [
    "Broken",
    "BrokenBarrier",
    "ChannelError",
    "Closed",
    "Empty",
    "EndOfStream",
    "Full",
    "HeapFull",
    "InvalidPermits",
    "LayoutMismatch",
    "LockError",
    "NoPeer",
    "NoSpace",
    "NotOwner",
    "NotReady",
    "NotRecoverable",
    "OneWay",
    "OwnerDied",
    "PeerDied",
    "PickleRefused",
    "RecordCorrupt",
    "RecordTooLarge",
    "Refused",
    "ReleasedTooOften",
    "RoleTaken",
    "SegmentError",
    "SegmentExists",
    "SegmentNotFound",
    "SegmentPermission",
    "ShmkitError",
    "ShutDown",
    "WorkerDied",
]


class ShmkitError(Exception):
    """The root of every exception that shmkit defines."""


class SegmentError(ShmkitError):
    """Something is wrong with a segment: its name, its header, its room or its owner."""


class _WithErrno(ShmkitError, OSError):
    """Gives an OSError its errno from the class, so that it is raised, and pickled, with the message alone."""

    _errno = 0

    def __init__(self, message: str) -> None:
        super().__init__(self._errno, message)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.strerror,)


class SegmentExists(SegmentError, _WithErrno, FileExistsError):
    """``create`` found a segment of that name."""

    _errno = errno.EEXIST


class SegmentNotFound(SegmentError, _WithErrno, FileNotFoundError):
    """There is no segment of that name, or the process that held an anonymous one has gone."""

    _errno = errno.ENOENT


class SegmentPermission(SegmentError, _WithErrno, PermissionError):
    """The segment belongs to another user, or its mode forbids what was asked."""

    _errno = errno.EACCES


class NoSpace(SegmentError, _WithErrno):
    """There is not enough room to reserve the segment; the message says how much was asked and how much is free."""

    _errno = errno.ENOSPC


class NotReady(SegmentError):
    """The segment exists but its creator has not finished (or was killed while) writing its header."""


class LayoutMismatch(SegmentError):
    """The segment's header is not one that this version can trust: foreign, truncated, older, newer or corrupt."""


class ChannelError(ShmkitError):
    """Something is wrong with a ring, a queue, a topic or a channel."""


class Full(ChannelError, queue.Full):
    """No room, and the caller did not want to wait longer."""


class HeapFull(Full, NoSpace):
    """A queue's items may use no more memory: its limit is reached, or the system has none; the message says which."""


class ShutDown(ChannelError, _ShutDown):
    """The queue was shut down, by ``shutdown()`` in any of its processes."""


class Empty(ChannelError, queue.Empty):
    """Nothing there, and the caller did not want to wait longer."""


class Closed(ChannelError, ValueError):
    """This end was closed by its own process."""


class EndOfStream(ChannelError, EOFError):
    """The other end closed, and everything it sent has been received."""


class Broken(ChannelError, _WithErrno, BrokenPipeError):
    """Nobody will receive what is sent: the other end has closed."""

    _errno = errno.EPIPE


class PeerDied(Broken):
    """The process at the other end ended without closing it (it was killed, say).

    ``pid`` is the process id it had.
    """

    def __init__(self, message: str, pid: int = 0) -> None:
        super().__init__(message)
        self.pid = pid

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.strerror, self.pid)


class RoleTaken(ChannelError):
    """Another living process already is this ring's producer (or consumer), or a log's writer."""


class RecordCorrupt(ChannelError):
    """A record in shared memory, in a file or from a stream contradicts its header; nothing beyond can be trusted."""


class NoPeer(ChannelError, _WithErrno, ConnectionRefusedError):
    """Nobody is at the other end: no listener, no reader, or only what a dead one left behind."""

    _errno = errno.ECONNREFUSED


class Refused(ChannelError, _WithErrno, PermissionError):
    """The other side is somebody else: another user, or one who does not know the key.  Nothing was read from it."""

    _errno = errno.EACCES


class OneWay(ChannelError, io.UnsupportedOperation):
    """This end of a one-way channel only sends, or only receives."""


class PickleRefused(ChannelError):
    """What was received is a pickle, from memory that other users may write to: it is not unpickled."""


class LockError(ShmkitError):
    """Something is wrong with a lock, a semaphore, a condition or a barrier."""


class OwnerDied(LockError):
    """The lock was acquired, from a process that died while it held it.

    The caller holds the lock.  What the lock guards may be in the middle of a change: repair it, then call
    ``recover()``, or give the lock up for good by releasing it without.  ``pid`` is the process id of the dead one.
    """

    def __init__(self, message: str, pid: int = 0) -> None:
        super().__init__(message)
        self.pid = pid

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.args[0], self.pid)


class NotRecoverable(LockError):
    """A lock whose owner died was released without ``recover()``: what it guards is lost, and so is the lock."""


class NotOwner(LockError, RuntimeError, AssertionError):
    """Only who holds the lock may.  (``multiprocessing`` raises AssertionError, ``threading`` RuntimeError.)"""


class ReleasedTooOften(LockError, ValueError, RuntimeError):
    """Nobody holds what was to be released.  (``multiprocessing`` raises ValueError, ``threading`` RuntimeError.)"""


class InvalidPermits(LockError, _WithErrno, ValueError, OverflowError):
    """A semaphore cannot have that many permits.

    (``multiprocessing`` raises OSError, or OverflowError for more than a C int holds, ``threading`` ValueError.)
    """

    _errno = errno.EINVAL


class BrokenBarrier(LockError, threading.BrokenBarrierError):
    """Not all will come: the barrier was aborted or reset, somebody had no more time, or died; the message says which.

    ``pid`` is the process id of who died; 0: nobody.
    """

    def __init__(self, message: str, pid: int = 0) -> None:
        super().__init__(message)
        self.pid = pid

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.args[0], self.pid)


class RecordTooLarge(ShmkitError, ValueError):
    """The record can never fit, however long one waits."""


class WorkerDied(ShmkitError, RuntimeError):
    """The worker of a Pool ended while it ran this task (it was killed, say), which is not run again.

    ``pid`` is the process id that it had, ``exitcode`` how it ended: its status, or a signal's number, negative.
    """

    def __init__(self, message: str, pid: int = 0, exitcode: int = 0) -> None:
        super().__init__(message)
        self.pid = pid
        self.exitcode = exitcode

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.args[0], self.pid, self.exitcode)
