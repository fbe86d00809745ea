"""PosixSemaphore: ``sem_open`` and its kin, through posix_ipc."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, SupportsIndex

from shmkit._foreign import posix_ipc
from shmkit._modes import permissions
from shmkit.errors import NoSpace, ReleasedTooOften, SegmentExists, SegmentNotFound, SegmentPermission
from shmkit.semaphore.base import KernelSemaphore, permits_of

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["POSIX_MOST", "PosixSemaphore", "unlink_posix"]

POSIX_MOST = os.sysconf("SC_SEM_VALUE_MAX")


def _path_of(name: object) -> str:
    """The name as sem_open has it; a leading slash is no part of ours."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a POSIX semaphore is text: got {name!r}")
    bare = name.removeprefix("/")
    # sem_open puts "sem." before it, and posix_ipc does not survive a NUL.
    if not bare or "/" in bare or "\0" in bare or len(os.fsencode(bare)) > 251:
        raise ValueError(f"the name of a POSIX semaphore has 1 to 251 bytes, no slash and no NUL: got {name!r}")
    return f"/{bare}"


class _Opened:
    """What ``sem_open`` gave.  Closed when nobody uses it any more: threads that wait have it in their hands."""

    __slots__ = ("semaphore",)

    def __init__(self, semaphore: Any) -> None:
        self.semaphore = semaphore

    def __del__(self) -> None:
        self.semaphore.close()


class PosixSemaphore(KernelSemaphore):
    """A POSIX named semaphore, as C programs have it from ``sem_open("/name", …)``.

    ``PosixSemaphore.create``, ``attach`` and ``create_or_attach`` make and find it; the methods are those of
    `Semaphore`.  It is pickled by its name.  Any process may release without having acquired.

    The kernel does not know who holds a permit: that of a process that was killed is lost.  Where that matters, take
    `Semaphore` with ``undo=True``, or `SysVSemaphore` with ``undo=True`` if C programs share it.
    """

    __slots__ = ("_opened",)
    _name: str
    _opened: _Opened | None

    @classmethod
    def _open(cls, name: object, flags: int, mode: int, value: int) -> Self:
        path = _path_of(name)
        made = cls.__new__(cls)
        made._name = path[1:]
        try:
            made._opened = _Opened(posix_ipc.Semaphore(path, flags, mode, value))
        except posix_ipc.ExistentialError:
            if flags:
                raise SegmentExists(f"semaphore {path[1:]!r} exists: attach to it or unlink it") from None
            raise SegmentNotFound(f"there is no POSIX semaphore {path[1:]!r}") from None
        except posix_ipc.PermissionsError:
            raise SegmentPermission(f"semaphore {path[1:]!r}: user {os.geteuid()} may not use it") from None
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise NoSpace(f"no room for semaphore {path[1:]!r} in /dev/shm") from None
            raise
        return made

    @classmethod
    def create(cls, name: str, value: SupportsIndex = 1, *, mode: int = 0o600) -> Self:
        """Make one under a name, with ``value`` permits.  SegmentExists.  The umask takes bits from ``mode``."""
        return cls._open(name, posix_ipc.O_CREX, permissions(mode), permits_of(value, POSIX_MOST))

    @classmethod
    def attach(cls, name: str) -> Self:
        """Find the one of that name, whoever made it.  SegmentNotFound, SegmentPermission."""
        return cls._open(name, 0, 0o600, 0)

    @classmethod
    def create_or_attach(cls, name: str, value: SupportsIndex = 1, *, mode: int = 0o600) -> Self:
        """Find the one of that name, whatever its value by now, or make it."""
        while True:
            try:
                return cls.create(name, value, mode=mode)
            except SegmentExists:
                pass
            try:
                return cls.attach(name)
            except SegmentNotFound:
                continue  # it went between the two: make it

    @property
    def _semaphore(self) -> _Opened:
        opened = self._opened
        if opened is None:
            raise self._closed()
        return opened

    def _take(self, seconds: float) -> bool:
        opened = self._semaphore
        try:
            opened.semaphore.acquire(seconds)
        except (posix_ipc.BusyError, posix_ipc.SignalError):
            return False
        return True

    def _give(self, n: int) -> None:
        opened = self._semaphore
        given = 0
        try:
            # All or nothing, unless others release at the same moment.
            if n <= POSIX_MOST - opened.semaphore.value:
                while given < n:
                    opened.semaphore.release()
                    given += 1
                return
        except OSError as error:
            if error.errno != errno.EOVERFLOW:
                raise
        raise ReleasedTooOften(
            f"semaphore {self._name!r} was released too often: a POSIX semaphore counts to {POSIX_MOST} "
            f"(SEM_VALUE_MAX, which nothing raises); {given} of {n} permits were released"
        )

    def get_value(self) -> int:
        """How many permits are free now."""
        return int(self._semaphore.semaphore.value)

    def close(self) -> None:
        """End the use of this handle; others, here and elsewhere, are not touched.  Idempotent.  Releases nothing."""
        self._opened = None

    @property
    def closed(self) -> bool:
        """Whether this handle was closed."""
        return self._opened is None

    def unlink(self) -> None:
        """Remove its name; whoever is attached goes on."""
        unlink_posix(self._name)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._opened is None:
            raise self._closed()
        return type(self).attach, (self._name,)


def unlink_posix(name: str, missing_ok: bool = False) -> None:
    """Removes the POSIX semaphore's name; whoever is attached goes on."""
    path = _path_of(name)
    try:
        posix_ipc.unlink_semaphore(path)
    except posix_ipc.ExistentialError:
        if not missing_ok:
            raise SegmentNotFound(f"there is no POSIX semaphore {path[1:]!r}") from None
    except posix_ipc.PermissionsError:
        raise SegmentPermission(f"semaphore {path[1:]!r}: user {os.geteuid()} may not remove it") from None
