"""What the kernel gives as a descriptor and the standard library only as a number: counters, memory, processes.

::

    tasks = EventCounter(semaphore=True)  # an eventfd
    tasks.add(3)
    tasks.wait(timeout=1.0)
    with MemoryFile("scratch", size=2**20) as memory:  # a memfd
        memory.seal("shrink", "grow")
        view = memory.map()
    with ProcessHandle(pid) as process:  # a pidfd
        process.wait(timeout=5.0)

Each has ``fileno()``, for select, poll and event loops, ``close()`` and ``with``, and is handed to a child process as
an argument.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import stat
from multiprocessing import reduction
from typing import IO, TYPE_CHECKING, Any, SupportsIndex

from shmkit._owned import Owner
from shmkit._plain_view import plain_view
from shmkit.errors import Refused
from shmkit.segment.trouble import check_room, explain
from shmkit.signals import ProcessHandle
from shmkit.sizes import parse_size
from shmkit.waiting import Deadline, still_readable, still_readable_async, still_writable

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

__all__ = ["EventCounter", "MemoryFile", "ProcessHandle"]

_MOST = 2**64 - 2
_F_SEAL_FUTURE_WRITE = 0x10
_SEALS = {
    "seal": fcntl.F_SEAL_SEAL,
    "shrink": fcntl.F_SEAL_SHRINK,
    "grow": fcntl.F_SEAL_GROW,
    "write": fcntl.F_SEAL_WRITE,
    "future_write": _F_SEAL_FUTURE_WRITE,
}
_MFD_NOEXEC_SEAL = 8


class _Descriptor(Owner):
    """What has a descriptor of its own."""

    __slots__ = ()

    _kind = "descriptor"

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def _what(self) -> str:
        return f"this {self._kind}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), reduction.DupFd(self.fileno()))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{f', descriptor {self._fd}' if self._fd >= 0 else ', closed'}>"


def _again(kind: Any, given: Any) -> Any:
    fd = given.detach()
    os.set_inheritable(fd, False)
    return kind.of_descriptor(fd)


class EventCounter(_Descriptor):
    """A number in the kernel that processes add to and wait for (an eventfd).

    ``wait`` takes all that was added, or, where it is a ``semaphore``, one at a time.  Readable when there is anything.
    Nothing tells of the death of who would have added: a count has no owner.
    """

    __slots__ = ()

    _kind = "event counter"

    def __init__(self, value: int = 0, *, semaphore: bool = False) -> None:
        if not 0 <= value < 2**32:
            raise ValueError(f"an event counter begins with 0 to {2**32 - 1}: got {value}")
        super().__init__(-1)
        flags = os.EFD_CLOEXEC | os.EFD_NONBLOCK | (os.EFD_SEMAPHORE if semaphore else 0)
        self._fd = os.eventfd(value, flags)

    @classmethod
    def of_descriptor(cls, fd: int) -> Self:
        """Over an eventfd that was received; it is this object's from here on, and does not block from here on."""
        os.set_blocking(fd, False)
        made = cls.__new__(cls)
        made._fd = fd
        return made

    def add(self, value: int = 1, timeout: float | None = None) -> None:
        """Add to it.  Waits where the sum would be more than 2**64 - 2: TimeoutError."""
        deadline = Deadline(timeout)
        while not self.try_add(value):
            if not still_writable(self, deadline):
                raise TimeoutError(f"no room for {value} in an event counter within {timeout} s")
            if deadline.passed:
                raise TimeoutError(f"no room for {value} in an event counter within {timeout} s")

    def try_add(self, value: int = 1) -> bool:
        """Add to it; False: the sum would be too large."""
        if not 0 <= value <= _MOST:
            raise ValueError(f"to an event counter 0 to 2**64 - 2 is added: got {value}")
        try:
            os.eventfd_write(self.fileno(), value)
        except BlockingIOError:
            return False
        return True

    def wait(self, timeout: float | None = None) -> int:
        """Take what was added (of a semaphore: 1), and return it; waits until it is not 0.  TimeoutError."""
        deadline = Deadline(timeout)
        while True:
            value = self.try_wait()
            if value:
                return value
            if not still_readable(self, deadline):
                raise TimeoutError(f"nothing was added to an event counter within {timeout} s")

    def try_wait(self) -> int:
        """The same without waiting; 0: nothing was added."""
        try:
            return os.eventfd_read(self.fileno())
        except BlockingIOError:
            return 0

    async def wait_async(self, timeout: float | None = None) -> int:
        """``wait`` for coroutines: the event loop goes on meanwhile."""
        deadline = Deadline(timeout)
        while True:
            value = self.try_wait()
            if value:
                return value
            if not await still_readable_async(self, deadline):
                raise TimeoutError(f"nothing was added to an event counter within {timeout} s")


class MemoryFile(_Descriptor):
    """A file without a name that is memory (a memfd): it goes with the last process that has it open or mapped.

    It can be mapped, read and written at offsets, sealed, given to other processes by descriptor (`shmkit.socket`), and
    to programs by its ``path``.  Its room is reserved at once: NoSpace here, not SIGBUS later.  Its mode is 0600.
    """

    __slots__ = ()

    _kind = "memory file"

    def __init__(self, name: str = "shmkit", size: SupportsIndex | str = 0, *, huge: bool = False) -> None:
        super().__init__(-1)
        if len(os.fsencode(name)) > 249 or "\0" in name:
            raise ValueError(f"the name of a memory file, which only /proc shows, has up to 249 bytes: got {name!r}")
        nbytes = parse_size(size)
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | (os.MFD_HUGETLB if huge else 0)
        try:
            self._fd = os.memfd_create(name, flags | _MFD_NOEXEC_SEAL)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._fd = os.memfd_create(name, flags)  # before Linux 6.3
        os.fchmod(self._fd, 0o600)
        if nbytes:
            self.resize(nbytes)

    @classmethod
    def of_descriptor(cls, fd: int) -> Self:
        """Over a memfd that was received; it is this object's from here on."""
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError(f"descriptor {fd} is no file of memory")
        made = cls.__new__(cls)
        made._fd = fd
        return made

    @property
    def size(self) -> int:
        """Its bytes."""
        return os.fstat(self.fileno()).st_size

    def resize(self, size: SupportsIndex | str) -> None:
        """Make it longer, with room for all of it, or shorter.  NoSpace; PermissionError: it is sealed."""
        nbytes, before = parse_size(size), self.size
        check_room(None, nbytes - before, None)
        try:
            os.ftruncate(self.fileno(), nbytes)
            if nbytes > before:
                os.posix_fallocate(self._fd, before, nbytes - before)
        except PermissionError:
            raise PermissionError(
                errno.EPERM, f"a memory file of {before} bytes is sealed against becoming {nbytes} bytes long"
            ) from None
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, before)
            raise explain(error, None, nbytes) from None

    def seal(self, *what: str) -> None:
        """Nobody can do it from now on: "shrink", "grow", "write", "future_write" (which mappings that are there still
        can), and "seal", which is to seal it further.

        PermissionError: it is sealed against that; OSError (EBUSY): "write", and it is mapped writable.
        """
        mask = 0
        for seal in what:
            if seal not in _SEALS:
                raise ValueError(f"a seal is one of {', '.join(_SEALS)}: got {seal!r}")
            mask |= _SEALS[seal]
        fcntl.fcntl(self.fileno(), fcntl.F_ADD_SEALS, mask)

    @property
    def seals(self) -> frozenset[str]:
        """What it is sealed against."""
        mask = fcntl.fcntl(self.fileno(), fcntl.F_GET_SEALS)
        return frozenset(name for name, bit in _SEALS.items() if mask & bit)

    def require(self, *what: str) -> None:
        """Refused, unless it is sealed so: what a receiver asks for before it maps what somebody else sent."""
        missing = [seal for seal in what if seal not in self.seals]
        if missing:
            raise Refused(f"a memory file has to be sealed against {', '.join(missing)}: {sorted(self.seals)} it is")

    def map(self, *, readonly: bool = False, size: int = 0, offset: int = 0) -> mmap.mmap:
        """Its memory, or ``size`` bytes of it from ``offset`` on, which has to be a multiple of a page.

        It stays mapped for as long as that object lives, whatever becomes of this one.
        """
        access = mmap.ACCESS_READ if readonly else mmap.ACCESS_WRITE
        if size < 0 or offset < 0 or offset + size > self.size:
            raise ValueError(f"{size} bytes from byte {offset} on are not in a memory file of {self.size} bytes")
        return mmap.mmap(self.fileno(), size, access=access, offset=offset)

    def read(self, size: int = -1, offset: int = 0) -> bytes:
        """Up to ``size`` bytes (-1: all) from ``offset`` on."""
        return os.pread(self.fileno(), max(0, self.size - offset) if size < 0 else size, offset)

    def write(self, data: Buffer, offset: int = 0) -> int:
        """Write all of it at ``offset``, making the file longer as needed; returns how much that is."""
        given = plain_view(data)
        view = given.cast("B") if given.nbytes else memoryview(b"")
        done = 0
        while done < view.nbytes:
            done += os.pwrite(self.fileno(), view[done:], offset + done)
        return done

    def open(self, mode: str = "rb") -> IO[Any]:
        """It as a Python file, with a position of its own."""
        return open(self.path, mode)

    @property
    def path(self) -> str:
        """A name for programs that take one: valid in this process, and in others of this user while it lives."""
        return f"/proc/{os.getpid()}/fd/{self.fileno()}"
