"""Arrays that are files: ``numpy.memmap``, with room that is reserved, in a file that is checked first."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import operator
import os
import stat
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np

from shmkit._make_array import array_bytes, check_dtype
from shmkit.errors import LayoutMismatch, NoSpace, SegmentNotFound
from shmkit.segment.room import LARGE, free_bytes
from shmkit.sizes import format_size

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Self

__all__ = ["memmap"]

_LONG_MODES = {"readonly": "r", "copyonwrite": "c", "readwrite": "r+", "write": "w+"}
_ACCESS = {"r": mmap.ACCESS_READ, "c": mmap.ACCESS_COPY, "r+": mmap.ACCESS_WRITE, "w+": mmap.ACCESS_WRITE}
_ZEROS = bytes(2**16)

_libc = ctypes.CDLL(None, use_errno=True)


class memmap(np.memmap[Any, Any]):  # noqa: N801 (named as what it stands for)
    """An array whose memory is a file: ``numpy.memmap``, whose arguments, attributes and ``flush`` it has.

    What it does otherwise: the array's room is reserved on the disk, so that a full disk is NoSpace here and not SIGBUS
    at some assignment; a file that is shorter than the array is LayoutMismatch, also where it could be written, unless
    ``extend`` says that it shall grow; what is at ``filename`` has to be a regular file; a dtype with Python objects is
    TypeError; and an array without elements needs no room.  Who truncates the file later can still end programs.

    ``mode``: "r", "c" (changes stay in this process), "r+" (the default), "w+" (makes the file, or empties it first).
    ``shape`` None: all of the file behind ``offset``.  ``permissions`` are those of a new file, less the umask.  The
    array stays valid for as long as it, or any slice of it, is alive, whatever becomes of the file's name.
    """

    def __new__(
        cls,
        filename: str | os.PathLike[str] | IO[bytes],
        dtype: npt.DTypeLike = np.uint8,
        mode: Literal["r", "c", "r+", "w+", "readonly", "copyonwrite", "readwrite", "write"] = "r+",
        offset: SupportsIndex = 0,
        shape: int | tuple[int, ...] | None = None,
        order: Literal["C", "F"] = "C",
        *,
        extend: bool = False,
        permissions: int = 0o666,
    ) -> Self:
        short = _LONG_MODES.get(mode, mode)
        if short not in _ACCESS:
            raise ValueError(f"mode must be one of 'r', 'c', 'r+' and 'w+': got {mode!r}")
        if short == "w+" and shape is None:
            raise ValueError("a file that is made needs a shape: mode is 'w+', and shape None")
        if order not in ("C", "F"):
            raise ValueError(f"order must be 'C' or 'F': got {order!r}")
        kind = check_dtype(np.dtype(dtype))
        begin = operator.index(offset)
        if begin < 0:
            raise ValueError(f"offset must not be negative: got {begin}")
        path = _path_of(filename)
        with _opened(filename, short, permissions) as fd:
            if short == "w+":
                os.ftruncate(fd, 0)
            size = os.fstat(fd).st_size
            sides = _sides(shape, kind, size - begin, path)
            nbytes = array_bytes(sides, kind.itemsize)
            if begin + nbytes > size and short != "w+" and not (extend and short == "r+"):
                raise LayoutMismatch(
                    f"an array of shape {sides} and dtype {kind} from byte {begin} on needs {begin + nbytes} bytes: "
                    f"got {size} (file {path!r}); mode='r+' with extend=True makes a file longer"
                )
            if short in ("r+", "w+"):
                _reserve(fd, size, begin, begin + nbytes, path)
            # The kernel maps from a page's beginning, and no empty range.
            start = begin - begin % mmap.ALLOCATIONGRANULARITY
            memory = mmap.mmap(fd, begin + nbytes - start, access=_ACCESS[short], offset=start) if nbytes else None
        # NumPy's stubs call an array's own attributes final, or do not know them.
        made: Any = np.ndarray.__new__(cls, sides, kind, memory, begin - start if nbytes else 0, None, order)
        made._mmap = memory
        made.offset, made.mode = begin, short
        made.filename = None if path == "" else os.path.abspath(path)
        return made  # type: ignore[no-any-return]


def _path_of(filename: Any) -> str:
    """What messages call it; "": an open file without a name."""
    name = filename if isinstance(filename, (str, os.PathLike)) else getattr(filename, "name", "")
    return str(os.fspath(name)) if isinstance(name, (str, os.PathLike)) else ""


@contextlib.contextmanager
def _opened(filename: Any, mode: str, permissions: int) -> Iterator[int]:
    if hasattr(filename, "read"):
        filename.flush()
        _check_regular(filename.fileno(), _path_of(filename))
        yield filename.fileno()
        return
    path = os.fspath(filename)
    flags = os.O_RDONLY if mode in ("r", "c") else os.O_RDWR | (os.O_CREAT if mode == "w+" else 0)
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, permissions)
    except FileNotFoundError:
        raise SegmentNotFound(f"there is no file {path!r}: mode='w+' makes it") from None
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}: file {path!r}") from None
    try:
        _check_regular(fd, path)
        yield fd
    finally:
        os.close(fd)


def _check_regular(fd: int, path: str) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise LayoutMismatch(f"an array lies in a regular file: {path!r} is none")


def _sides(shape: Any, kind: np.dtype[Any], room: int, path: str) -> tuple[int, ...]:
    if shape is not None:
        return tuple(map(operator.index, shape)) if isinstance(shape, (tuple, list)) else (operator.index(shape),)
    if room < 0 or kind.itemsize == 0 or room % kind.itemsize:
        raise LayoutMismatch(
            f"without a shape, the array is all that follows the offset, in elements of {kind.itemsize} bytes: got "
            f"{room} bytes (file {path!r}, dtype {kind})"
        )
    return (room // kind.itemsize,)


def _reserve(fd: int, size: int, begin: int, end: int, path: str) -> None:
    """Sees to it that the file has all of [begin, end) on its disk; as long as it was, if there is no room."""
    folder = os.path.dirname(os.path.abspath(path))
    free = free_bytes(folder) if end - size >= LARGE else None
    if free is not None and end - size > free:
        # The kernel would answer on a file system in memory with its out-of-memory killer.
        raise _no_room(path, end, folder, free)
    try:
        if end > size:
            os.ftruncate(fd, end)
        if end > begin and not _allocated(fd, begin, end):
            # A file system that cannot reserve.  What is new is zeros anyhow; what is old is not touched.
            for at in range(size, end, len(_ZEROS)):
                os.pwrite(fd, _ZEROS[: end - at], at)
    except OSError as error:
        if end > size:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, size)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _no_room(path, end, folder, free_bytes(folder)) from None
        raise OSError(error.errno, f"{error.strerror}: file {path!r}") from None


def _no_room(path: str, end: int, folder: str, free: int | None) -> NoSpace:
    return NoSpace(
        f"no room for an array in file {path!r}: it needs {format_size(end)} ({end} bytes)"
        + (f", {format_size(free)} ({free} bytes) are free in {folder}" if free is not None else "")
    )


def _allocated(fd: int, begin: int, end: int) -> bool:
    """Whether the kernel has reserved it; False: this file system cannot (posix_fallocate would imitate it)."""
    while _libc.fallocate(fd, 0, ctypes.c_long(begin), ctypes.c_long(end - begin)) != 0:
        number = ctypes.get_errno()
        if number in (errno.EOPNOTSUPP, errno.ENOSYS):
            return False
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
    return True
