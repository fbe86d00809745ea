"""Whose a log is: who may have written to the file, and who appends to it now."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

from shmkit.errors import Refused, RoleTaken

__all__ = ["check_file", "sign", "take_writer", "writer_lives"]

# The byte whose lock the writer holds, and where it leaves its pid for those who come second.
_LOCK_AT, _PID_AT = 1024, 1028
_LOCK = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _LOCK_AT, 1, 0)


def writer_lives(fd: int) -> bool:
    """Whether a process has the log open for appending."""
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _LOCK)
    return bool(struct.unpack_from("h", answer)[0] != fcntl.F_UNLCK)


def take_writer(fd: int, path: str) -> None:
    """Becomes the writer, until the descriptor is closed; RoleTaken: there is one."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _LOCK)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        pid = int.from_bytes(os.pread(fd, 4, _PID_AT), "little")
        raise RoleTaken(f"process {pid} appends to log {path!r}, until it closes it or ends") from None


def sign(fd: int) -> None:
    """Leaves the writer's pid."""
    os.pwrite(fd, os.getpid().to_bytes(4, "little"), _PID_AT)


def check_file(fd: int, path: str, trust: bool) -> None:
    """Refused, unless only this user (or root) can have written to the file; ValueError: it is none."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path!r} is no regular file")
    if trust:
        return
    if status.st_uid not in (os.geteuid(), 0):
        raise Refused(f"log {path!r} belongs to user {status.st_uid}, and this process to user {os.geteuid()}")
    if status.st_mode & 0o022:
        raise Refused(
            f"log {path!r} can be written by others than its owner (mode {stat.S_IMODE(status.st_mode):04o}): chmod "
            "it, or say trust=True"
        )
