"""Reading shared memory as an onlooker: nobody who uses it can tell, and nothing that is in it can hurt.

Files are read, not mapped: a read of a file that is being truncated comes out short, where a mapping would be SIGBUS;
a hole that is read stays a hole, where a mapped one would become memory.  No lease and no role is taken, so whoever is
the last user stays the last.  A SysV segment can only be attached: for reading, and for the moment of the look.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from typing import TYPE_CHECKING

from shmkit import _make

if TYPE_CHECKING:
    from typing_extensions import Self

    from shmkit._map import Mapping

__all__ = ["Reading", "number_at", "open_file", "open_sysv"]

# struct flock: type, whence, start, length, pid.
_FLOCK = struct.Struct("hhqqi4x")


class Reading:
    """One look into a shared object: ``read`` and ``ask``, until it is closed.

    ``ask_fd`` is the descriptor that the kernel is asked through who holds a byte: the file's own, or a companion's.
    """

    def __init__(self, fd: int, size: int, mapping: Mapping | None = None, ask_fd: int = -1) -> None:
        self.size = size
        self._fd = fd
        self._mapping = mapping
        self._ask_fd = ask_fd if ask_fd >= 0 else fd

    def read(self, at: int, size: int) -> bytes:
        """``size`` bytes from ``at`` on; fewer where it ends, or has been truncated."""
        if at < 0 or size <= 0:
            return b""
        if self._mapping is not None:
            return bytes(memoryview(self._mapping)[at : at + size])
        try:
            return os.pread(self._fd, size, at)
        except (OSError, OverflowError):
            return b""

    def ask(self, byte: int) -> bool | None:
        """Whether anybody holds the lease on that byte; None: the kernel cannot be asked."""
        if self._ask_fd < 0:
            return None
        try:
            answer = fcntl.fcntl(self._ask_fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
        except (OSError, OverflowError, struct.error):
            return None
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    def close(self) -> None:
        """Ends the look."""
        for fd in {self._fd, self._ask_fd} - {-1}:
            os.close(fd)
        self._fd = self._ask_fd = -1
        self._mapping = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_file(path: str, follow: bool = False) -> tuple[Reading, os.stat_result]:
    """A regular file; OSError for anything else.  ``follow``: a link of /proc, which leads to the file itself."""
    # Looked at first: to open a device or a FIFO can have effects.
    if not stat.S_ISREG((os.stat(path) if follow else os.lstat(path)).st_mode):
        raise OSError(f"no regular file: {path!r}")
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"no regular file: {path!r}")
    except BaseException:
        os.close(fd)
        raise
    return Reading(fd, status.st_size), status


def open_sysv(shmid: int, size: int, companion: str | None = None) -> Reading:
    """A SysV segment, attached for reading; ``companion`` is the file that bears its leases."""
    mapping = _make.attach_sysv(shmid, size, True)
    ask_fd = -1
    if companion is not None:
        try:
            ask_fd = os.open(companion, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            pass
    return Reading(-1, size, mapping, ask_fd)


def number_at(raw: bytes, place: tuple[int, int], start: int = 0) -> int:
    """The unsigned number of a field, whose place is (offset, bytes); 0 beyond the end."""
    at, size = place
    return int.from_bytes(raw[start + at : start + at + size], "little")
