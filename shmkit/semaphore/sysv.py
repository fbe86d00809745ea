"""SysVSemaphore: ``semget`` and its kin.

sysv_ipc makes, finds, reads and removes; ``semtimedop`` is called directly, as sysv_ipc may have been built without it,
and keeps its flags in the object, where another thread would change them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from typing import TYPE_CHECKING, Any, SupportsIndex

from shmkit._foreign import sysv_ipc
from shmkit._modes import permissions
from shmkit.errors import NoSpace, NotReady, ReleasedTooOften, SegmentExists, SegmentNotFound, SegmentPermission
from shmkit.segment.sysv import key_of
from shmkit.semaphore.base import KernelSemaphore, permits_of

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SYSV_MOST", "SysVSemaphore", "unlink_sysv"]

SYSV_MOST = 32767
# For how long an attacher believes that the maker of a semaphore is about to give it its value.
PATIENCE = 2.0


class _Operation(ctypes.Structure):
    """struct sembuf."""

    _fields_ = (("number", ctypes.c_ushort), ("change", ctypes.c_short), ("flags", ctypes.c_short))


class _Timespec(ctypes.Structure):
    """struct timespec."""

    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


_IPC_NOWAIT = 0o4000
_SEM_UNDO = 0x1000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.semtimedop.argtypes = (
    ctypes.c_int,
    ctypes.POINTER(_Operation),
    ctypes.c_size_t,
    ctypes.POINTER(_Timespec),
)


def _operate(semid: int, change: int, flags: int, seconds: float = 0.0) -> int:
    """One semop, without the GIL; 0 or an errno."""
    operation = _Operation(0, change, flags if seconds > 0 else flags | _IPC_NOWAIT)
    limit = _Timespec(int(seconds), int(seconds % 1 * 1e9))
    return 0 if _libc.semtimedop(semid, operation, 1, limit) == 0 else ctypes.get_errno()


class SysVSemaphore(KernelSemaphore):
    """A System V semaphore: the first of the set that C programs have from ``semget(key, 1, …)``.

    ``SysVSemaphore.create``, ``attach`` and ``create_or_attach`` make and find it, by a number (its key) or by text
    that is hashed to one; the methods are those of `Semaphore`.  It is pickled by key and id, ``undo`` included.

    The kernel does not know who holds a permit: that of a process that was killed is lost, unless it acquired it
    through a handle with ``undo=True`` (SEM_UNDO).  Then the kernel undoes what a process did when it ends, *whatever*
    it did: acquire and release in one process, or its end takes back a permit that it released for another.  A forked
    child holds nothing of its parent's.
    """

    __slots__ = ("_found", "_key", "_shut", "_undo")
    _found: Any
    _key: int
    _undo: bool
    _shut: bool

    @classmethod
    def _handle(cls, name: str | int, key: int, found: Any, undo: bool) -> Self:
        made = cls.__new__(cls)
        made._name, made._key, made._found, made._undo, made._shut = name, key, found, bool(undo), False
        return made

    @classmethod
    def create(cls, name: str | int, value: SupportsIndex = 1, *, mode: int = 0o600, undo: bool = False) -> Self:
        """Make one under a name or key, with ``value`` permits.  SegmentExists, NoSpace."""
        key, number = key_of(name, "semaphore"), permits_of(value, SYSV_MOST)
        try:
            found = sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX, permissions(mode), 0)
        except sysv_ipc.ExistentialError:
            raise SegmentExists(f"semaphore {name!r} exists (SysV key {key:#x}): attach to it or unlink it") from None
        except sysv_ipc.PermissionsError:
            raise SegmentPermission(f"semaphore {name!r}: user {os.geteuid()} may not use SysV key {key:#x}") from None
        except (OSError, sysv_ipc.Error) as error:
            raise NoSpace(f"no room for semaphore {name!r}: {error} (kernel.sem bounds SysV semaphores)") from None
        try:
            # It has its value, and tells by its otime that it has, in one step: see _wait_for_value.
            failed = _operate(found.id, number, 0)
            if failed:
                raise OSError(failed, f"semaphore {name!r}: {os.strerror(failed)}")
        except BaseException:
            found.remove()
            raise
        return cls._handle(name, key, found, undo)

    @classmethod
    def attach(cls, name: str | int, *, undo: bool = False) -> Self:
        """Find the one of that name or key, whoever made it.

        SegmentNotFound, SegmentPermission; NotReady if its maker has not given it a value (and has died, perhaps).
        """
        key = key_of(name, "semaphore")
        try:
            found = sysv_ipc.Semaphore(key)
            _wait_for_value(found, name)
        except sysv_ipc.ExistentialError:
            raise SegmentNotFound(f"there is no semaphore {name!r} (SysV key {key:#x})") from None
        except sysv_ipc.PermissionsError:
            raise SegmentPermission(f"semaphore {name!r}: user {os.geteuid()} may not use SysV key {key:#x}") from None
        return cls._handle(name, key, found, undo)

    @classmethod
    def create_or_attach(
        cls, name: str | int, value: SupportsIndex = 1, *, mode: int = 0o600, undo: bool = False
    ) -> Self:
        """Find the one of that name or key, whatever its value by now, or make it."""
        while True:
            try:
                return cls.create(name, value, mode=mode, undo=undo)
            except SegmentExists:
                pass
            try:
                return cls.attach(name, undo=undo)
            except SegmentNotFound:
                continue  # it went between the two: make it

    @property
    def key(self) -> int:
        """Its System V key."""
        return self._key

    @property
    def id(self) -> int:
        """Its System V identifier: the number that semop takes."""
        return int(self._found.id)

    @property
    def undo(self) -> bool:
        """Whether the kernel undoes what this process does through this handle, when the process ends."""
        return self._undo

    def _operate(self, change: int, seconds: float = 0.0) -> int:
        if self._shut:
            raise self._closed()
        failed = _operate(self._found.id, change, _SEM_UNDO if self._undo else 0, seconds)
        if failed in (0, errno.EAGAIN, errno.EINTR, errno.ERANGE):
            return failed
        if failed in (errno.EINVAL, errno.EIDRM):
            raise SegmentNotFound(f"semaphore {self._name!r} was removed")
        if failed in (errno.EACCES, errno.EPERM):
            raise SegmentPermission(f"semaphore {self._name!r}: user {os.geteuid()} may not change it")
        raise OSError(failed, f"semaphore {self._name!r}: {os.strerror(failed)}")

    def _take(self, seconds: float) -> bool:
        return self._operate(-1, seconds) == 0

    def _give(self, n: int) -> None:
        if n > SYSV_MOST or self._operate(n) != 0:
            raise ReleasedTooOften(
                f"semaphore {self._name!r} was released too often: a SysV semaphore counts to {SYSV_MOST} (SEMVMX, "
                "which nothing raises: take a PosixSemaphore or a Semaphore for more)"
            )

    def get_value(self) -> int:
        """How many permits are free now."""
        if self._shut:
            raise self._closed()
        try:
            return int(self._found.value)
        except sysv_ipc.ExistentialError:
            raise SegmentNotFound(f"semaphore {self._name!r} was removed") from None

    def close(self) -> None:
        """End the use of this handle; others, here and elsewhere, are not touched.  Idempotent.  Releases nothing."""
        self._shut = True

    @property
    def closed(self) -> bool:
        """Whether this handle was closed."""
        return self._shut

    def unlink(self) -> None:
        """Remove it, at once: System V has no name to remove alone, and whoever waits gets SegmentNotFound."""
        _remove(self._found.id, self._name)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._shut:
            raise self._closed()
        return _attach_same, (type(self), self._name, self._undo, self.id)


def _wait_for_value(found: Any, name: str | int) -> None:
    """Returns once the semaphore has had its value: it is not 0, or somebody has operated on it.

    ``semget`` makes one that has no value yet.  Ours get theirs by an operation, which the kernel notes with the value.
    """
    give_up = time.monotonic() + PATIENCE
    while found.value == 0 and found.o_time == 0:
        if time.monotonic() > give_up:
            raise NotReady(
                f"semaphore {name!r} has no value after {PATIENCE:g} s: its maker was killed at it (unlink_sysv "
                "removes it), or is a program that made it with 0 permits and has not operated on it yet"
            )
        time.sleep(0.0005)


def _attach_same(kind: type[SysVSemaphore], name: str | int, undo: bool, semid: int) -> SysVSemaphore:
    """What a pickle calls."""
    found = kind.attach(name, undo=undo)
    if found.id != semid:
        raise SegmentNotFound(f"semaphore {name!r} is gone: another one has its SysV key {found.key:#x} by now")
    return found


def _remove(semid: int, name: str | int) -> None:
    try:
        sysv_ipc.remove_semaphore(semid)
    except sysv_ipc.ExistentialError:
        raise SegmentNotFound(f"semaphore {name!r} was removed already") from None
    except sysv_ipc.PermissionsError:
        raise SegmentPermission(f"semaphore {name!r}: user {os.geteuid()} may not remove it") from None


def unlink_sysv(name: str | int, missing_ok: bool = False) -> None:
    """Removes the SysV semaphore of that name or key; whoever waits gets SegmentNotFound."""
    try:
        try:
            semid = sysv_ipc.Semaphore(key_of(name, "semaphore")).id
        except sysv_ipc.ExistentialError:
            raise SegmentNotFound(f"there is no semaphore {name!r} (SysV key {key_of(name):#x})") from None
        except sysv_ipc.PermissionsError:
            raise SegmentPermission(f"semaphore {name!r}: user {os.geteuid()} may not remove it") from None
        _remove(semid, name)
    except SegmentNotFound:
        if not missing_ok:
            raise
