"""Locks that are files, with time-outs; the kernel takes them back from the dead."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from shmkit._modes import permissions
from shmkit.alarm import blocking
from shmkit.errors import Closed, NotOwner
from shmkit.sizes import whole_number
from shmkit.waiting import Deadline

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["FileLock"]

# The standard library's fcntl and flock try again when they are interrupted, and so cannot be woken by an alarm.
_libc = ctypes.CDLL(None, use_errno=True)
_FLOCK = struct.Struct("hhqqi4x")

_locks: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _forked() -> None:
    # The lock belongs to the open file, which a child has too: it must not keep what its parent held when it died.
    for lock in list(_locks):
        lock._forget()


os.register_at_fork(after_in_child=_forked)


class FileLock:
    """A lock that is a file, or a range of its bytes: one holder at a time, or many that share it.

    ``acquire`` waits for it, ``acquire(shared=True)`` for sharing it; ``with lock:`` and ``with lock.sharing():``.  The
    kernel takes it back when its holder ends, however it ends; a forked child does not have it.  The file is made if
    there is none (with ``mode``), and stays: removing a lock's file lets two hold it.

    ``start`` and ``length`` (0: to the end, however far that moves) say which bytes; ``how``: "fcntl", which also keeps
    out programs that use ``fcntl`` or ``lockf``, or "flock", which keeps out those that use ``flock``, for whole files.

    Each FileLock is a holder of its own, also within a process: threads that keep each other out have one each.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, start: int = 0, length: int = 0, how: str = "fcntl", mode: int = 0o600
    ) -> None:
        self._fd = -1
        self._path = os.fspath(path)
        if how not in ("fcntl", "flock"):
            raise ValueError(f"a file is locked by 'fcntl' or by 'flock': got {how!r}")
        start, length = whole_number(start, "start"), whole_number(length, "length")
        if how == "flock" and (start or length):
            raise ValueError("flock locks whole files: ranges are for how='fcntl'")
        if start < 0 or length < 0:
            raise ValueError(f"a range begins at 0 or later, and has 0 bytes (to the end) or more: {start}, {length}")
        if start + length >= 2**63:
            raise ValueError(f"a range ends before byte 2**63: got start {start}, length {length}")
        self._range = start, length
        self._how = how
        self._mode = permissions(mode)
        self._held = ""

    def _open(self) -> int:
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, self._mode)
            _locks.add(self)
        return self._fd

    def _attempt(self, kind: int, wait: bool) -> bool | None:
        """Whether it has the lock now; None: it has not (yet)."""
        fd = self._open()
        if self._how == "flock":
            what = fcntl.LOCK_SH if kind == fcntl.F_RDLCK else fcntl.LOCK_EX
            result = _libc.flock(fd, what if wait else what | fcntl.LOCK_NB)
        else:
            words = ctypes.create_string_buffer(_FLOCK.pack(kind, os.SEEK_SET, *self._range, 0), _FLOCK.size)
            result = _libc.fcntl(fd, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, words)
        if result == 0:
            if self._fd != fd:
                raise Closed(f"lock {self._path!r} was closed by another thread, and what it waited for is given back")
            return True
        number = ctypes.get_errno()
        if number in (errno.EAGAIN, errno.EACCES, errno.EINTR):
            return None
        raise OSError(number, f"{os.strerror(number)}: lock {self._path!r}")

    def acquire(self, timeout: float | None = None, *, shared: bool = False) -> None:
        """Wait for the lock, and have it.

        TimeoutError; RuntimeError: this FileLock has it already; Closed: another thread closed it meanwhile.
        """
        deadline = Deadline(timeout)
        self._check_free()
        kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
        try:
            if (
                self._attempt(kind, False) is None
                and blocking(lambda wait: self._attempt(kind, wait), deadline) is None
            ):
                raise TimeoutError(f"lock {self._path!r} was held by somebody else for {timeout} s")
            self._held = "shared" if shared else "alone"
        finally:
            # Interrupted when the kernel had given it, but before that was known here.
            if not self._held and self._fd >= 0:
                self._unlock()

    def try_acquire(self, *, shared: bool = False) -> bool:
        """Have it, if it is free now; whether it was."""
        self._check_free()
        if self._attempt(fcntl.F_RDLCK if shared else fcntl.F_WRLCK, False) is None:
            return False
        self._held = "shared" if shared else "alone"
        return True

    def _check_free(self) -> None:
        if self._held:
            raise RuntimeError(f"lock {self._path!r} is held by this very FileLock: a second one is another holder")

    def release(self) -> None:
        """Give it back.  NotOwner: this FileLock does not have it."""
        if not self._held:
            raise NotOwner(f"lock {self._path!r} is not held by this FileLock")
        self._held = ""
        self._unlock()

    def _unlock(self) -> None:
        if self._how == "flock":
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        else:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, *self._range, 0))

    @property
    def held(self) -> bool:
        """Whether this FileLock has it."""
        return bool(self._held)

    @property
    def path(self) -> str:
        """The file."""
        return self._path

    def fileno(self) -> int:
        """The file's descriptor, while the lock is held.  Closed."""
        if self._fd < 0:
            raise Closed(f"lock {self._path!r} is not open")
        return self._fd

    @contextlib.contextmanager
    def sharing(self, timeout: float | None = None) -> Iterator[Self]:
        """``with lock.sharing():`` others may share it, and nobody has it alone meanwhile."""
        self.acquire(timeout, shared=True)
        try:
            yield self
        finally:
            self.release()

    def close(self) -> None:
        """Give it back, if it is held, and close the file.  It may be acquired again."""
        self._forget()

    def _forget(self) -> None:
        fd, self._fd, self._held = self._fd, -1, ""
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self._forget()

    def __reduce__(self) -> tuple[Any, ...]:
        # Who receives it is another holder.
        return _again, (type(self), self._path, *self._range, self._how, self._mode)

    def __repr__(self) -> str:
        return f"<FileLock {self._path!r}: {f'held {self._held}' if self._held else 'not held'}>"


def _again(kind: type[FileLock], path: str, start: int, length: int, how: str, mode: int) -> FileLock:
    return kind(path, start=start, length=length, how=how, mode=mode)
