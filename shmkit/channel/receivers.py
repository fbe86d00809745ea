"""Who receives from a System V message queue, which itself knows no locks.

A queue that channels receive from has a companion, ``/dev/shm/shmkit.lease.queue-<user>-<namespace>-<key>``.  Each
receiving end has a share in it (``flock``), so that the last one knows that it is the last; and it has locked the byte
of the type that it takes, or all bytes, so that no two take the same.  The kernel lets go of both for who dies.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Callable

from shmkit.errors import NoSpace, Refused, RoleTaken, SegmentNotFound, SegmentPermission
from shmkit.segment import posix

__all__ = ["Receivers"]

_LOCK = struct.Struct("hhqqi4x")


def _bytes_of(mtype: int) -> bytes:
    """A lock of the byte of that type; 0: of all."""
    return _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, mtype, 1 if mtype else 0, 0)


def _there(fd: int, mtype: int) -> tuple[int, int] | None:
    """Which bytes another end has locked, of those that a receiver of that type locks."""
    kind, _, start, length, _ = _LOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _bytes_of(mtype)))
    return None if kind == fcntl.F_UNLCK else (start, length)


class Receivers:
    """Those who receive from the queue of that key, and this end's place among them."""

    __slots__ = ("_fd", "_path")

    def __init__(self, key: int) -> None:
        space = os.stat("/proc/self/ns/ipc").st_ino
        self._path = f"{posix.FOLDER}/{posix.QUEUE_COMPANION}{os.geteuid()}-{space}-{key:08x}"
        self._fd = -1

    def join(self, mtype: int, where: str) -> None:
        """Becomes the one that takes messages of that type (0: all that there are); RoleTaken."""
        while True:
            fd = self._made(where)
            try:
                # First: one that is refused has never had a share, which would make the last one think that it is not.
                self._lock(fd, mtype, where)
                fcntl.flock(fd, fcntl.LOCK_SH)
                if self._named(fd):
                    self._fd = fd
                    return
            finally:
                if self._fd != fd:
                    os.close(fd)  # refused; or the last one took the companion away meanwhile

    def _lock(self, fd: int, mtype: int, where: str) -> None:
        while True:
            try:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _bytes_of(mtype))
            except (BlockingIOError, PermissionError):
                found = _there(fd, mtype)
                if found is None:
                    continue  # it has just left
                what = "" if not found[1] else f" messages of type {found[0]}"
                raise RoleTaken(
                    f"another end receives{what} from {where}, until it closes it or ends: several may receive from a "
                    "queue if each says another type=…"
                ) from None
            return

    def anybody(self, mtype: int) -> bool:
        """Whether an end takes messages of that type."""
        try:
            fd = self._opened(0)
        except FileNotFoundError:
            return False
        try:
            return _there(fd, mtype) is not None
        finally:
            os.close(fd)

    def leave(self, last: Callable[[], None] | None = None) -> None:
        """Another may have its place; ``last`` is called if this end is the last, and nobody joins meanwhile."""
        try:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if last is not None:
                    last()
                if self._named(self._fd):
                    os.unlink(self._path)
        finally:
            self.drop()

    def drop(self) -> None:
        """Closes what it has open; its place is still that of the process that this one was forked from."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _made(self, where: str) -> int:
        """It is open, and was made if it was not there.  SegmentNotFound, SegmentPermission, NoSpace: it cannot be."""
        need = f"listen({where!r}) makes a file there, which says who receives"
        try:
            return self._opened(os.O_CREAT)
        except FileNotFoundError:
            raise SegmentNotFound(
                f"there is no {posix.FOLDER}: {need}.  Mount a tmpfs on it, or use mq:// or unix://, which need none"
            ) from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace(
                    f"no room for another file in {posix.FOLDER}: {need}.  `shmkit gc` removes what the dead left; "
                    f"root gives more with `mount -o remount,nr_inodes=0,size=… {posix.FOLDER}`, a container gets it "
                    "by --shm-size; mq:// and unix:// need none"
                ) from None
            if error.errno in (errno.EROFS, errno.EACCES) and not os.path.lexists(self._path):
                raise SegmentPermission(
                    f"user {os.geteuid()} may make no files in {posix.FOLDER} ({os.strerror(error.errno)}): {need}.  "
                    "Mount a tmpfs on it that may be written to (mode 1777), or use mq:// or unix://, which need none"
                ) from None
            raise

    def _opened(self, flags: int) -> int:
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | flags, 0o600)
        except PermissionError:
            if not os.path.lexists(self._path):
                raise
            raise self._foreign() from None
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise self._foreign()
        return fd

    def _foreign(self) -> Refused:
        return Refused(f"{self._path!r} says who receives from a message queue, and is another user's: remove it")

    def _named(self, fd: int) -> bool:
        status = os.fstat(fd)
        try:
            named = os.lstat(self._path)
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == (status.st_dev, status.st_ino)
