"""Pipes of the kernel, with their own powers: capacity, atomic writes, time-outs, and moving pages without copying.

``pipe()`` makes a reader and a writer, ``duplex()`` two ends that do both.  They stay what the kernel has: a stream of
bytes without boundaries (``shmkit.pair("pipe:")`` keeps messages apart).  Descriptors do not block, so that every call
can keep its time-out, and are closed in programs that are started (exec); a child gets one by inheritance (fork), or
pickled while it is being started.

A write of up to ``PIPE_BUF`` bytes (4096) is never mixed with another writer's, and never half done.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import struct
import termios

# The signal module's own getsignal makes an enum of the answer, which takes longer than the write.
from _signal import SIG_IGN, getsignal  # type: ignore[import-not-found]
from multiprocessing import reduction
from pathlib import Path
from pickle import PickleBuffer
from types import TracebackType
from typing import TYPE_CHECKING, Any, SupportsIndex

from shmkit._owned import Owner
from shmkit.errors import Broken, EndOfStream
from shmkit.sizes import format_size, parse_size, whole_number
from shmkit.waiting import Deadline, readable, still_readable, still_writable, writable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer, Self

__all__ = ["PIPE_BUF", "Duplex", "Reader", "Writer", "duplex", "most_capacity", "pipe", "splice", "tee"]

PIPE_BUF = 4096
# What <fcntl.h> says on every Linux; Python names them since 3.10 only.
_F_SETPIPE_SZ, _F_GETPIPE_SZ = 1031, 1032
_SIGPIPE = int(signal.SIGPIPE)


def most_capacity() -> int:
    """The largest capacity, in bytes, that a process without privileges may give a pipe."""
    try:
        return int(Path("/proc/sys/fs/pipe-max-size").read_text())
    except OSError:
        return 2**20


def set_capacity(fd: int, capacity: SupportsIndex | str) -> int:
    """Sets how many bytes the pipe holds; returns how many it does (the kernel rounds up to a power of two pages)."""
    nbytes = parse_size(capacity)
    if nbytes > 2**31:
        raise ValueError(f"a pipe's capacity is at most 2 GiB: got {capacity!r}")
    try:
        return fcntl.fcntl(fd, _F_SETPIPE_SZ, nbytes)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise PermissionError(
                errno.EPERM,
                f"a pipe of {format_size(nbytes)} is more than this user may have: fs.pipe-max-size is "
                f"{format_size(most_capacity())}, and all pipes of a user together have fs.pipe-user-pages-soft pages; "
                f"root raises them with `sysctl fs.pipe-max-size={nbytes}`",
            ) from None
        if error.errno == errno.EBUSY:
            raise OSError(errno.EBUSY, f"a pipe cannot shrink to {nbytes} bytes: it holds more at present") from None
        raise


def _check_size(size: Any) -> None:
    if not 0 <= whole_number(size, "size") < 2**63:
        raise ValueError(f"size is a number of bytes from 0 to 2**63 - 1: got {size!r}")


def _bytes_of(data: Any, written: bool = False) -> memoryview:
    """The bytes of what has a buffer, as they lie in memory, row by row; ``written``: to be written to."""
    kind = type(data).__name__
    dtype = getattr(getattr(data, "obj", data), "dtype", None)
    if dtype is not None and getattr(dtype, "hasobject", False):
        raise TypeError(f"bytes go through a pipe: got {kind} of objects (dtype {dtype}), which are addresses")
    try:
        view = memoryview(data)
    except ValueError:
        # Of dates NumPy gives no buffer.
        view = memoryview(data.view(f"V{dtype.itemsize}"))  # type: ignore[union-attr]
    except TypeError:
        raise TypeError(f"bytes go through a pipe, or what has a buffer of them: got {data!r:.80}, a {kind}") from None
    if not view.c_contiguous:
        raise ValueError(f"what goes through a pipe lies in one piece, row by row: got {kind} that does not")
    if written and view.readonly:
        raise TypeError(f"buffer is memory that may be written: got {kind} that may not")
    return PickleBuffer(view).raw()


class _End(Owner):
    """What readers and writers have in common: a descriptor."""

    __slots__ = ("_where",)

    def __init__(self, fd: int, where: str = "the pipe") -> None:
        self._fd = fd
        self._where = where
        os.set_blocking(fd, False)

    def _what(self) -> str:
        return f"this end of {self._where}"

    @property
    def capacity(self) -> int:
        """How many bytes the pipe holds.  Set it to have another: PermissionError says what the limit is."""
        return fcntl.fcntl(self.fileno(), _F_GETPIPE_SZ)

    @capacity.setter
    def capacity(self, capacity: SupportsIndex | str) -> None:
        set_capacity(self.fileno(), capacity)

    def __len__(self) -> int:
        """How many bytes are in the pipe now."""
        return int(struct.unpack("i", fcntl.ioctl(self.fileno(), termios.FIONREAD, bytes(4)))[0])

    def __bool__(self) -> bool:
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), reduction.DupFd(self.fileno()), self._where)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._where}, {'closed' if self.closed else f'descriptor {self._fd}'}>"


def _rebuilt(kind: type[_End], given: Any, where: str) -> _End:
    return kind(given.detach(), where)


class Reader(_End):
    """The end that reads."""

    __slots__ = ()

    def read(self, size: int = 65536, timeout: float | None = None) -> bytes:
        """Up to ``size`` bytes, at least one; waits for them.  EndOfStream when all writers have gone; TimeoutError."""
        try:
            data = os.read(self._fd, size)
        except BlockingIOError:
            data = self._read_later(size, timeout)
        except (OSError, OverflowError, TypeError):
            self.fileno()
            _check_size(size)
            raise
        if not data and size:
            raise EndOfStream(f"no process writes to {self._where} any more")
        return data

    def _read_later(self, size: int, timeout: float | None) -> bytes:
        deadline = Deadline(timeout)
        while still_readable(self, deadline):
            with contextlib.suppress(BlockingIOError):  # another reader was faster
                return os.read(self.fileno(), size)
        raise TimeoutError(f"nothing came through {self._where} within {timeout} s")

    def try_read(self, size: int = 65536) -> bytes | None:
        """What is there, up to ``size`` bytes; None: nothing.  EndOfStream."""
        try:
            data = os.read(self.fileno(), size)
        except BlockingIOError:
            return None
        except (OSError, OverflowError, TypeError):
            _check_size(size)
            raise
        if not data and size:
            raise EndOfStream(f"no process writes to {self._where} any more")
        return data

    def read_into(self, buffer: Buffer, timeout: float | None = None) -> int:
        """Reads up to as many bytes as ``buffer`` has; returns how many.  EndOfStream, TimeoutError.

        TypeError: it is no memory that may be written; ValueError: it does not lie in one piece, row by row.
        """
        deadline: Deadline | None = None
        with _bytes_of(buffer, True) as flat:
            while True:
                try:
                    count = os.readv(self.fileno(), [flat])
                except BlockingIOError:
                    deadline = deadline or Deadline(timeout)
                    if not still_readable(self, deadline):
                        raise TimeoutError(f"nothing came through {self._where} within {timeout} s") from None
                    continue
                if not count and flat.nbytes:
                    raise EndOfStream(f"no process writes to {self._where} any more")
                return count

    def read_exactly(self, size: int, timeout: float | None = None) -> bytearray:
        """So many bytes.  EndOfStream and TimeoutError have what came before as their ``partial`` attribute."""
        _check_size(size)
        deadline = Deadline(timeout)
        buffer = bytearray(size)
        done = 0
        try:
            with memoryview(buffer) as view:
                while done < size:
                    done += self.read_into(view[done:], deadline.left_or_none())
        except EndOfStream as error:
            error.partial = bytes(buffer[:done])  # type: ignore[attr-defined]
            raise
        except TimeoutError:
            late = TimeoutError(f"{done} of {size} bytes came through {self._where} within {timeout} s")
            late.partial = bytes(buffer[:done])  # type: ignore[attr-defined]
            raise late from None
        return buffer


class Writer(_End):
    """The end that writes.  Where nobody reads any more it is Broken, never SIGPIPE."""

    __slots__ = ()

    def write(self, data: Buffer, timeout: float | None = None) -> int:
        """Writes all of it, and returns how much that is.

        Broken; TimeoutError, with the number of bytes that went before as its ``written`` attribute: 0 or all, if there
        are no more than ``PIPE_BUF``.  TypeError, ValueError: these are no bytes, or not in one piece, row by row.
        """
        if type(data) is not bytes:
            with _bytes_of(data) as flat:
                return self._write(flat, timeout)
        return self._write(data, timeout)

    def _write(self, data: bytes | memoryview, timeout: float | None) -> int:
        try:
            count = write_quietly(self._fd, data)
        except BlockingIOError:
            count = 0
        except BrokenPipeError:
            raise Broken(f"no process reads from {self._where} any more") from None
        except OSError:
            self.fileno()
            raise
        if count == len(data):
            return count
        with memoryview(data) as flat:
            return self._write_rest(flat, count, Deadline(timeout))

    def _write_rest(self, flat: memoryview, count: int, deadline: Deadline) -> int:
        while count < flat.nbytes:
            if not still_writable(self, deadline):
                error = TimeoutError(
                    f"no room in {self._where} within {deadline.timeout} s: {count} of {flat.nbytes} bytes are written"
                )
                error.written = count  # type: ignore[attr-defined]
                raise error
            try:
                count += write_quietly(self.fileno(), flat[count:])
            except BlockingIOError:
                pass
            except BrokenPipeError:
                raise Broken(f"no process reads from {self._where} any more") from None
        return count

    def try_write(self, data: Buffer) -> int:
        """Writes as much as there is room for, and returns how much: 0 or all, up to ``PIPE_BUF``.  Broken."""
        try:
            if type(data) is bytes:
                return write_quietly(self.fileno(), data)
            with _bytes_of(data) as flat:
                return write_quietly(self.fileno(), flat)
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            raise Broken(f"no process reads from {self._where} any more") from None


def write_quietly(fd: int, data: Buffer | Sequence[Buffer]) -> int:
    """``os.write`` (of a list: ``os.writev``) that never ends the process by SIGPIPE."""
    if getsignal(_SIGPIPE) == SIG_IGN:
        return os.writev(fd, data) if isinstance(data, list) else os.write(fd, data)  # type: ignore[arg-type]
    # Blocked, the signal waits for this thread, where it is taken back; one that was there before stays.
    waiting = signal.SIGPIPE in signal.sigpending()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])
    try:
        return os.writev(fd, data) if isinstance(data, list) else os.write(fd, data)  # type: ignore[arg-type]
    except BrokenPipeError:
        if not waiting:
            signal.sigtimedwait([signal.SIGPIPE], 0)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class Duplex:
    """An end that reads from one pipe and writes to another: ``reader`` and ``writer`` have all the rest."""

    __slots__ = ("reader", "writer")

    def __init__(self, reader: Reader, writer: Writer) -> None:
        self.reader = reader
        self.writer = writer

    def read(self, size: int = 65536, timeout: float | None = None) -> bytes:
        """See Reader."""
        return self.reader.read(size, timeout)

    def write(self, data: Buffer, timeout: float | None = None) -> int:
        """See Writer."""
        return self.writer.write(data, timeout)

    def close(self) -> None:
        """Close both."""
        self.writer.close()
        self.reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def pipe(capacity: SupportsIndex | str | None = None) -> tuple[Reader, Writer]:
    """A pipe: the end that reads, and the end that writes.  ``capacity``: see ``Reader.capacity``; 64 KiB if None."""
    receiving, sending = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    reader, writer = Reader(receiving), Writer(sending)
    if capacity is not None:
        try:
            writer.capacity = capacity
        except BaseException:
            reader.close()
            writer.close()
            raise
    return reader, writer


def duplex(capacity: SupportsIndex | str | None = None) -> tuple[Duplex, Duplex]:
    """Two pipes, one each way: two ends that read what the other writes."""
    here, to_here = pipe(capacity)
    there, to_there = pipe(capacity)
    return Duplex(here, to_there), Duplex(there, to_here)


_SPLICE_F_MOVE, _SPLICE_F_NONBLOCK = 1, 2


def splice(source: Any, target: Any, size: int, timeout: float | None = None) -> int:
    """Moves up to ``size`` bytes between two descriptors, one of which is a pipe, without copying them into Python.

    ``source`` and ``target`` are descriptors or have one (a file, a socket, a Reader or Writer).  Returns how many, 0
    at the end of ``source``.  TimeoutError, Broken.
    """
    return _move(_call("splice"), source, target, size, Deadline(timeout))


def tee(source: Reader, target: Writer, size: int, timeout: float | None = None) -> int:
    """Lets up to ``size`` bytes of one pipe be in another too, without taking them out; returns how many."""
    return _move(_call("tee"), source, target, size, Deadline(timeout))


def _move(call: Any, source: Any, target: Any, size: int, deadline: Deadline) -> int:
    _check_size(size)
    incoming = source if isinstance(source, int) else source.fileno()
    outgoing = target if isinstance(target, int) else target.fileno()
    while True:
        try:
            return int(call(incoming, outgoing, size))
        except BlockingIOError:
            pass
        except BrokenPipeError:
            raise Broken("nobody reads what is spliced") from None
        # One of the two is not ready, and the kernel does not say which.
        if not (readable(incoming, deadline) and writable(outgoing, deadline)):
            raise TimeoutError(f"nothing could be moved within {deadline.timeout} s")


def _call(name: str) -> Any:
    """splice or tee of the C library, told not to wait: Python has the first since 3.10, and the second not at all."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    function = getattr(libc, name)
    function.restype = ctypes.c_ssize_t
    size, flags = ctypes.c_size_t, ctypes.c_uint(_SPLICE_F_MOVE | _SPLICE_F_NONBLOCK)

    def call(incoming: int, outgoing: int, nbytes: int) -> int:
        ends = (incoming, outgoing) if name == "tee" else (incoming, None, outgoing, None)
        waiting = signal.SIGPIPE in signal.sigpending()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])
        try:
            moved = function(*ends, size(nbytes), flags)
            number = ctypes.get_errno()
            if moved < 0 and number == errno.EPIPE and not waiting:
                signal.sigtimedwait([signal.SIGPIPE], 0)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if moved < 0:
            raise OSError(number, f"{name}: {os.strerror(number)}")
        return int(moved)

    return call
