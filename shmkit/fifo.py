"""FIFOs: pipes with a name in the file system, between programs that need not be related.

``create`` makes one (mode 0600), ``open_reader`` and ``open_writer`` give the ends of `shmkit.pipe`, with time-outs:
nothing waits for ever for a peer that does not come, as ``open`` does.  Several writers may have it open; what each
writes with one call of up to ``PIPE_BUF`` (4096) bytes stays together.

When the last writer has closed, a reader sees the end of the stream; the next writer begins another one, which the same
reader can read on.  What was written and not read goes with the last process that had the FIFO open.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from shmkit._modes import permissions
from shmkit.errors import NoPeer, Refused, SegmentExists, SegmentNotFound
from shmkit.files.watching import Hint
from shmkit.pipe import PIPE_BUF, Reader, Writer
from shmkit.waiting import Deadline, readable, still_readable

if TYPE_CHECKING:
    from typing import SupportsIndex

__all__ = ["PIPE_BUF", "check_owner", "create", "open_reader", "open_writer", "unlink"]

Path = str | os.PathLike[str]


def create(path: Path, mode: int = 0o600, exist_ok: bool = False) -> None:
    """Makes a FIFO with exactly that mode, whatever the umask.

    SegmentExists (a FileExistsError), unless ``exist_ok`` and there is a FIFO already: one that a dead program left is
    as good as new, since what was in it went with the program.  Whatever else stands there is SegmentExists.
    ValueError, TypeError: ``mode`` is no number from 0 to 0o777.
    """
    permissions(mode)
    # Made under another name and linked when it has its mode: the name never shows one that others could open.
    making = os.path.join(os.path.dirname(path), f".{os.getpid()}.{os.urandom(4).hex()}")
    try:
        os.mkfifo(making, mode & 0o600)
        try:
            os.chmod(making, mode)
            os.link(making, path)
        finally:
            os.unlink(making)
    except FileExistsError:
        if not (exist_ok and is_fifo(path)):
            what = "FIFO" if is_fifo(path) else "file that is no FIFO"
            raise SegmentExists(f"there is a {what} at {os.fspath(path)!r} already") from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def is_fifo(path: Path) -> bool:
    """Whether there is a FIFO at that path."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def unlink(path: Path, missing_ok: bool = False) -> None:
    """Removes the name; who has it open goes on.  SegmentNotFound; ValueError for what is no FIFO."""
    try:
        if not stat.S_ISFIFO(os.lstat(path).st_mode):
            raise ValueError(f"{os.fspath(path)!r} is no FIFO, and is left alone")
        os.unlink(path)
    except FileNotFoundError:
        if not missing_ok:
            raise SegmentNotFound(f"there is no FIFO at {os.fspath(path)!r}") from None


def check_owner(fd: int, path: Path) -> None:
    """Refused, unless the FIFO or file behind ``fd`` is one that only this user (or root) can have written to."""
    status = os.fstat(fd)
    if status.st_uid not in (os.geteuid(), 0):
        raise Refused(f"{os.fspath(path)!r} belongs to user {status.st_uid}, and this process to user {os.geteuid()}")
    if status.st_mode & 0o022:
        raise Refused(
            f"{os.fspath(path)!r} can be written by others than its owner (mode {stat.S_IMODE(status.st_mode):04o}): "
            "chmod it to 0600, or say trust=True"
        )


def open_reader(path: Path, timeout: float | None = 0.0, capacity: SupportsIndex | str | None = None) -> Reader:
    """Opens the end that reads, and waits up to ``timeout`` seconds for something to read (None: for ever).

    A reader that has not waited finds nothing as long as no writer has come, not the end (and ``read`` waits for one).
    SegmentNotFound; ValueError for what is no FIFO; TimeoutError: nothing came.
    """
    deadline = Deadline(timeout)
    fd = _opened(path, os.O_RDONLY)
    reader = _FifoReader(fd, f"FIFO {os.fspath(path)!r}")
    try:
        if capacity is not None:
            reader.capacity = capacity
        if deadline.timeout != 0 and not readable(fd, deadline):
            raise TimeoutError(f"nobody wrote to FIFO {os.fspath(path)!r} within {timeout} s")
    except BaseException:
        reader.close()
        raise
    return reader


class _FifoReader(Reader):
    """A reader that takes a FIFO without a writer, so far, for one that is empty."""

    __slots__ = ("_met",)

    def __init__(self, fd: int, where: str) -> None:
        super().__init__(fd, where)
        self._met = False

    def read(self, size: int = 65536, timeout: float | None = None) -> bytes:
        self._meet(timeout)
        return super().read(size, timeout)

    def read_into(self, buffer: object, timeout: float | None = None) -> int:
        self._meet(timeout)
        return super().read_into(buffer, timeout)  # type: ignore[arg-type]

    def try_read(self, size: int = 65536) -> bytes | None:
        if not self._met and not still_readable(self, Deadline(0)):
            return None
        self._met = True
        return super().try_read(size)

    def _meet(self, timeout: float | None) -> None:
        # The kernel reports neither data nor an end before the first writer has come.
        if not self._met:
            if not still_readable(self, Deadline(timeout)):
                raise TimeoutError(f"nothing came through {self._where} within {timeout} s")
            self._met = True

    def wait_for_writer(self, timeout: float | None = None) -> bool:
        """After EndOfStream: waits for the next writer, and for something from it; False: the time is up."""
        # An end that was seen stays, until the FIFO is opened anew.
        again = os.open(f"/proc/self/fd/{self.fileno()}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.dup2(again, self._fd, inheritable=False)
        os.close(again)
        self._met = readable(self._fd, Deadline(timeout))
        return self._met


def open_writer(path: Path, timeout: float | None = 0.0, capacity: SupportsIndex | str | None = None) -> Writer:
    """Opens the end that writes, as soon as there is a reader; waits up to ``timeout`` seconds for one.

    NoPeer: there is none (a FIFO that a dead program left has none).  SegmentNotFound: there is no FIFO, either, by
    then.  ValueError for what is no FIFO.
    """
    deadline = Deadline(timeout)
    fd, error = _try_writer(path)
    if error is not None and not deadline.passed:
        # The kernel tells of a FIFO that is made, or opened, in its folder.
        with Hint.of_name(path) as hint:
            while (found := _try_writer(path))[1] is not None and not deadline.passed:
                hint.pause(deadline)
            fd, error = found
    if error is not None:
        raise error
    writer = Writer(fd, f"FIFO {os.fspath(path)!r}")
    if capacity is not None:
        try:
            writer.capacity = capacity
        except BaseException:
            writer.close()
            raise
    return writer


def _try_writer(path: Path) -> tuple[int, Exception | None]:
    try:
        return _opened(path, os.O_WRONLY), None
    except (SegmentNotFound, NoPeer) as error:
        return -1, error


def _opened(path: Path, flags: int) -> int:
    try:
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        raise SegmentNotFound(f"there is no FIFO at {os.fspath(path)!r}") from None
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise NoPeer(f"no process reads from FIFO {os.fspath(path)!r}") from None
        raise
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise ValueError(f"{os.fspath(path)!r} is no FIFO")
    return fd
