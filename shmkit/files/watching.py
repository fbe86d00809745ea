"""Being told of changes to files and folders, by the kernel (inotify) and not by looking again and again.

The kernel tells of what this machine's processes do: not of what another machine does to a network file system, nor of
what is stored through a mapping.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NamedTuple

from shmkit._owned import Owner
from shmkit.errors import Closed, NoSpace
from shmkit.waiting import Deadline, readable, still_readable, still_readable_async

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Change", "Hint", "Watcher", "wait_for_file"]

_libc = ctypes.CDLL(None, use_errno=True)
_EVENT = struct.Struct("=iIII")
_READ = 65536
_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK

_OPENED, _UNMOUNT, _OVERFLOW, _IGNORED, _FOLDER = 0x20, 0x2000, 0x4000, 0x8000, 0x40000000
_KINDS = {
    0x2: "modified",
    0x4: "attributes",
    0x8: "written",
    _OPENED: "opened",
    0x40: "moved_from",
    0x80: "moved_to",
    0x100: "created",
    0x200: "deleted",
    0x400: "gone",
    0x800: "gone",
    _UNMOUNT: "gone",
    _OVERFLOW: "overflow",
}
_MASKS: dict[str, int] = {}
for _bit, _kind in _KINDS.items():
    _MASKS[_kind] = _MASKS.get(_kind, 0) | _bit
_USUAL = frozenset(_MASKS) - {"opened"}
_LIMITS = "/proc/sys/fs/inotify"


class Change(NamedTuple):
    """What the kernel told of."""

    kind: str
    """One of "created", "deleted", "moved_from", "moved_to" (in a folder), "modified", "written" (somebody closed it
    who could write), "attributes", "opened", "gone" (what is watched itself), and "overflow" (some were lost)."""
    path: str
    """Which file; "" with an overflow."""
    folder: bool
    """Whether it is a folder."""


def _limit(name: str) -> str:
    try:
        with open(f"{_LIMITS}/{name}") as text:
            return text.read().strip()
    except OSError:
        return "unknown"


def _refused(number: int, what: str) -> OSError:
    if number == errno.ENOSPC:
        return NoSpace(
            f"{what}: this user's processes watch as many files as they may (fs.inotify.max_user_watches is "
            f"{_limit('max_user_watches')}, in {_LIMITS}); root raises it with `sysctl fs.inotify.max_user_watches=…`"
        )
    if number == errno.EMFILE:
        return OSError(
            number,
            f"{what}: this user's processes have as many watchers as they may (fs.inotify.max_user_instances is "
            f"{_limit('max_user_instances')}, in {_LIMITS}; root raises it with `sysctl "
            "fs.inotify.max_user_instances=…`), or this process as many files open as it may",
        )
    return OSError(number, f"{what}: {os.strerror(number)}")


class Watcher(Owner):
    """Tells of changes to the files and folders that it watches, in their order.

    ``wait(timeout)``, ``try_wait()``, ``await wait_async()``, ``for change in watcher`` (which never ends by itself),
    ``async for``, and ``fileno()`` for select.  A folder is watched for what happens to its files, not for what happens
    further down.  ``kinds`` are those of Change: all but "opened", unless told.

    FileNotFoundError, PermissionError; NoSpace and OSError (EMFILE): a limit of the kernel is reached, which the
    message names.  In a forked child it is closed: the changes are the parent's.
    """

    def __init__(self, *paths: str | os.PathLike[str], kinds: frozenset[str] | set[str] | None = None) -> None:
        self._fd = -1
        self._pid = os.getpid()
        self._mask = 0
        for kind in _USUAL if kinds is None else kinds:
            if kind not in _MASKS:
                raise ValueError(f"a kind of change is one of {', '.join(sorted(_MASKS))}: got {kind!r}")
            self._mask |= _MASKS[kind]
        self._paths: dict[int, str] = {}
        self._come: deque[Change] = deque()
        fd = _libc.inotify_init1(_FLAGS)
        if fd < 0:
            raise _refused(ctypes.get_errno(), "a watcher cannot be made")
        self._fd = fd
        try:
            for path in paths:
                self.add(path)
        except BaseException:
            self.close()
            raise

    def add(self, path: str | os.PathLike[str]) -> None:
        """Watch this file or folder, too."""
        name = os.fspath(path)
        number = _libc.inotify_add_watch(self.fileno(), os.fsencode(name), ctypes.c_uint32(self._mask & ~_OVERFLOW))
        if number < 0:
            code = ctypes.get_errno()
            raise _refused(code, f"{name!r} cannot be watched")
        self._paths[number] = name

    def remove(self, path: str | os.PathLike[str]) -> None:
        """Watch it no longer; what was told of it before is still to come.  KeyError: it is not watched."""
        name = os.fspath(path)
        for number, watched in self._paths.items():
            if watched == name:
                del self._paths[number]
                _libc.inotify_rm_watch(self.fileno(), number)
                return
        raise KeyError(f"{name!r} is not watched")

    @property
    def paths(self) -> list[str]:
        """What is watched."""
        return list(self._paths.values())

    def fileno(self) -> int:
        """A descriptor that is readable when there is a change.  Closed."""
        if self._fd < 0 or self._pid != os.getpid():
            why = "closed" if self._fd < 0 else f"made by process {self._pid}, of which this is a forked child"
            raise Closed(f"this watcher was {why}")
        return self._fd

    def _read(self) -> bool:
        """Takes what the kernel has; whether that was anything."""
        try:
            text = os.read(self.fileno(), _READ)
        except BlockingIOError:
            return False
        at = 0
        while at < len(text):
            number, mask, _, length = _EVENT.unpack_from(text, at)
            name = text[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
            at += _EVENT.size + length
            self._told(number, mask, name)
        return True

    def _told(self, number: int, mask: int, name: bytes) -> None:
        if mask & _OVERFLOW:
            self._come.append(Change("overflow", "", False))
            return
        path = self._paths.get(number)
        if mask & _IGNORED:
            self._paths.pop(number, None)
            return
        if path is None:
            return  # of what is not watched any more
        for bit, kind in _KINDS.items():
            if mask & bit:
                full = os.path.join(path, os.fsdecode(name)) if name else path
                self._come.append(Change(kind, full, bool(mask & _FOLDER)))

    def try_wait(self) -> Change | None:
        """The next change that there was; None."""
        if not self._come:
            self._read()
        return self._come.popleft() if self._come else None

    def wait(self, timeout: float | None = None) -> Change:
        """The next change; waits for it.  TimeoutError."""
        deadline = Deadline(timeout)
        while True:
            change = self.try_wait()
            if change is not None:
                return change
            if not still_readable(self, deadline):
                raise TimeoutError(f"nothing happened to {', '.join(self.paths) or 'nothing'} within {timeout} s")

    async def wait_async(self, timeout: float | None = None) -> Change:
        """``wait`` for coroutines: the event loop goes on meanwhile.  One at a time."""
        deadline = Deadline(timeout)
        while True:
            change = self.try_wait()
            if change is not None:
                return change
            if not await still_readable_async(self, deadline):
                raise TimeoutError(f"nothing happened to {', '.join(self.paths)} within {timeout} s")

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change:
        return self.wait()

    async def __aiter__(self) -> AsyncIterator[Change]:
        while True:
            yield await self.wait_async()

    def __repr__(self) -> str:
        return f"<Watcher of {', '.join(self.paths) or 'nothing'}{', closed' if self._fd < 0 else ''}>"


class Hint:
    """When it is worth to look again at a file, or at a name that is to appear in a folder.

    ``pause(deadline)`` returns when something has happened there, or a pause is over: the pauses grow, to half a second
    where the kernel tells, and to ``most`` where it cannot (no watches are left, or there is no such folder).
    """

    _TOLD_MOST = 0.5

    def __init__(
        self, path: str | os.PathLike[str] | None, name: str = "", first: float = 0.0005, most: float = 0.02
    ) -> None:
        self._path, self._name = path, name
        self._first, self._untold_most = first, most
        self._pause = first
        self._pid = 0
        self._watcher: Watcher | None = None
        self.begin()

    def begin(self) -> None:
        """A new wait: its pauses are short at first."""
        self._pause = self._first
        if self._path is None or (self._watcher is not None and self._pid == os.getpid()):
            return
        # In a forked child as well: the parent's watcher tells the parent.
        self.close()
        self._pid = os.getpid()
        self._watcher = None
        kinds = {"created", "moved_to", "attributes", "opened"} if self._name else {"modified", "written", "gone"}
        # Where the kernel cannot tell, looking again and again does as well, a little later.
        with contextlib.suppress(OSError):
            self._watcher = Watcher(self._path, kinds=kinds)

    @classmethod
    def of_name(cls, path: str | os.PathLike[str]) -> Self:
        """Of a file that is to appear, or to be opened, at ``path``."""
        folder, name = os.path.split(os.path.abspath(path))
        return cls(folder, name)

    @property
    def told(self) -> bool:
        """Whether the kernel tells."""
        return self._watcher is not None

    def pause(self, deadline: Deadline, also: int = -1) -> None:
        """Waits for a reason to look again, or until the descriptor ``also`` is readable."""
        moment = Deadline(min(self._pause, deadline.left()))
        watcher = self._watcher
        self._pause = min(self._pause * 1.5, self._untold_most if watcher is None else self._TOLD_MOST)
        if watcher is None:
            readable(-1, moment, also)
            return
        while readable(watcher.fileno(), moment, also):
            happened = self._happened(watcher)
            if also >= 0 and readable(also, Deadline(0)):
                return
            if happened:
                # It comes a little before what it is about can be used: a socket is bound, and not yet listened at.
                self._pause = self._first
                return

    def _happened(self, watcher: Watcher) -> bool:
        found = False
        while (change := watcher.try_wait()) is not None:
            found = found or not self._name or change.kind == "overflow" or os.path.basename(change.path) == self._name
        return found

    def close(self) -> None:
        """Watch no longer."""
        if self._watcher is not None:
            self._watcher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def wait_for_file(path: str | os.PathLike[str], timeout: float | None = None) -> None:
    """Wait until there is a file at ``path``: the kernel tells when.  TimeoutError."""
    deadline = Deadline(timeout)
    with Hint.of_name(path) as hint:
        while not os.path.lexists(path):
            if deadline.passed:
                raise TimeoutError(f"there was no file {os.fspath(path)!r} within {timeout} s")
            hint.pause(deadline)
