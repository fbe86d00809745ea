"""Channels over pipes and FIFOs."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from typing import Any

from shmkit import fifo
from shmkit._small import PIPE
from shmkit.channel.base import Channel
from shmkit.channel.frame import HEADER, Frame
from shmkit.channel.options import Rules, file_mode, one_of, size, yes_no
from shmkit.channel.stream import StreamChannel
from shmkit.channel.transport import PipeStream
from shmkit.channel.url import Address
from shmkit.errors import Broken, NoPeer, RecordTooLarge, Refused, RoleTaken, SegmentExists, SegmentNotFound
from shmkit.pipe import PIPE_BUF, set_capacity
from shmkit.waiting import Deadline, readable

__all__ = ["connect_fifo", "listen_fifo", "pair_pipe"]

# The kernel's default of 64 KiB makes a large message a hundred switches between two processes.
CAPACITY = 2**20
_SIZE = size(1, 2**31)
FIFO_OPTIONS: Rules = {"capacity": _SIZE, "mode": file_mode, "trust": yes_no, "writers": one_of("one", "many")}
PIPE_OPTIONS: Rules = {"capacity": _SIZE, "duplex": yes_no}
# Who sends alone has all bytes of the FIFO locked, each of several one byte of its own: the kernel lets no two of them
# go together that must not, and lets go of the locks of who dies.  (A shared lock takes a descriptor that reads.)
_LOCK = struct.Struct("hhqqi4x")


def _widen(fd: int, capacity: int | None) -> None:
    if capacity is not None:
        set_capacity(fd, capacity)
        return
    # Where this user's pipes have used up what they may, the kernel's default has to do.
    with contextlib.suppress(OSError):
        set_capacity(fd, CAPACITY)


def pair_pipe(address: Address, options: dict[str, Any], common: dict[str, Any]) -> tuple[Channel, Channel]:
    """The end that receives and the end that sends; with ``duplex``, two ends that do both."""
    duplex = options.get("duplex", False)
    receiving, sending = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    fds = [receiving, sending]
    try:
        _widen(sending, options.get("capacity"))
        if duplex:
            fds += os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            _widen(fds[3], options.get("capacity"))
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    if duplex:
        return (
            StreamChannel(PipeStream(fds[0], fds[3]), address.url, sends=True, receives=True, **common),
            StreamChannel(PipeStream(fds[2], fds[1]), address.url, sends=True, receives=True, **common),
        )
    return (
        StreamChannel(PipeStream(receiving, -1), address.url, sends=False, receives=True, **common),
        StreamChannel(PipeStream(-1, sending), address.url, sends=True, receives=False, **common),
    )


class _FifoStream(PipeStream):
    """A FIFO whose end is not seen before the first writer has come."""

    met = False

    @property
    def quick(self) -> int:  # type: ignore[override]
        return PIPE if self.met else 0

    def read(self, views: list[memoryview]) -> int | None:
        if not self.met:
            if not readable(self.receiving, Deadline(0)):
                return None
            self.met = True
        return super().read(views)


class _FifoReceiver(StreamChannel):
    """The end that listens, and owns the name."""

    # The next writer may have come before it greets.
    _leave_ends = False

    def _somebody(self) -> bool:
        stream = self._stream
        return stream is None or getattr(stream, "met", True) or readable(stream.receiving, Deadline(0))

    def _own(self, path: str, identity: tuple[int, int]) -> None:
        self._path, self._identity = path, identity

    def _close(self, linger: float) -> None:
        with contextlib.suppress(OSError):
            status = os.lstat(self._path)
            # A forked child, or one that it was handed to, leaves the name to who made it.
            if (status.st_dev, status.st_ino) == self._identity and self._pid == os.getpid():
                os.unlink(self._path)
        super()._close(linger)

    _path = ""
    _identity = (0, 0)
    _pid = 0


class _SharedFifo(StreamChannel):
    """The sending end where several processes send: a message goes in one write that the kernel keeps together."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._frame_most = PIPE_BUF

    def _begin_send(self, frame: Frame) -> None:
        if frame.size + 1 > PIPE_BUF:
            raise RecordTooLarge(
                f"a message of {frame.nbytes} bytes is too large for {self._where} with several writers: it takes at "
                f"most {PIPE_BUF - HEADER.size - 1} (for larger ones, leave out writers=many, or use unix://)"
            )
        super()._begin_send(frame)

    def _send_step(self) -> bool:
        # Each in a write of its own.
        while self._left:
            if not self._write(self._left[:1]):
                return False
            del self._left[0]
        return self._write(self._out)


def listen_fifo(address: Address, options: dict[str, Any], common: dict[str, Any]) -> Channel:
    """The receiving end of a FIFO, which is made if there is none."""
    path = _path(address)
    made_here = _made(path, options.get("mode", 0o600))
    reader = fifo.open_reader(path)
    try:
        fd = os.dup(reader.fileno())
    finally:
        reader.close()
    try:
        # Two receivers would tear messages apart.
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            made_here = False
            raise RoleTaken(f"another process receives from FIFO {path!r}, until it closes it or ends") from None
        if not options.get("trust", False):
            fifo.check_owner(fd, path)
        _widen(fd, options.get("capacity"))
        status = os.fstat(fd)
    except BaseException:
        if made_here:
            fifo.unlink(path, missing_ok=True)
        os.close(fd)
        raise
    made = _FifoReceiver(_FifoStream(fd, -1), address.url, sends=False, receives=True, **common)
    made._own(path, (status.st_dev, status.st_ino))
    made._pid = os.getpid()
    return made


def _made(path: str, mode: int) -> bool:
    """Whether there was no FIFO, and is one now."""
    try:
        fifo.create(path, mode)
    except SegmentExists:
        if not fifo.is_fifo(path):
            raise
        return False
    return True


def connect_fifo(
    address: Address, options: dict[str, Any], common: dict[str, Any], timeout: float | None = 0.0
) -> Channel:
    """The sending end of a FIFO that somebody receives from."""
    path = _path(address)
    many = options.get("writers") == "many"
    try:
        writer = fifo.open_writer(path, timeout)
    except SegmentNotFound:
        raise NoPeer(f"nobody listens at {address.url}: there is no FIFO at {path!r}") from None
    except NoPeer:
        raise NoPeer(f"nobody listens at {address.url}: no process reads from that FIFO") from None
    try:
        fd = os.dup(writer.fileno())
    finally:
        writer.close()
    os.set_inheritable(fd, False)
    try:
        if not options.get("trust", False) and os.fstat(fd).st_uid not in (os.geteuid(), 0):
            raise Refused(f"FIFO {path!r} belongs to user {os.fstat(fd).st_uid}, and this process to {os.geteuid()}")
        _be_a_writer(fd, path, many)
    except BaseException:
        os.close(fd)
        raise
    kind = _SharedFifo if many else StreamChannel
    made = kind(PipeStream(-1, fd), address.url, sends=True, receives=False, **common)
    # Greets at once, where there is room: to have opened a FIFO is nothing that the other end is told of.
    made._greet()
    with contextlib.suppress(Broken):
        made._flush_step()
    return made


def _be_a_writer(fd: int, path: str, many: bool) -> None:
    """Locks what a writer of that kind has locked; RoleTaken: one that is there does not go with it."""
    while not _locked(fd, int.from_bytes(os.urandom(7), "little") if many else None):
        there = _alone(fd)
        # Of several, two may have hit upon one byte; or who was there has left.
        if there is None or (many and not there):
            continue
        most = PIPE_BUF - HEADER.size - 1
        if not there:
            raise RoleTaken(
                f"other processes, which say writers=many, send to FIFO {path!r}, until they close it or end: say "
                f"writers=many here too, with messages of up to {most} bytes"
            )
        say = "it does not say writers=many, as all senders have to" if many else "say writers=many at all senders"
        raise RoleTaken(
            f"another process sends to FIFO {path!r}, until it closes it or ends: {say} to have several, with messages "
            f"of up to {most} bytes"
        )


def _locked(fd: int, byte: int | None) -> bool:
    """Whether that byte (None: each) is this end's now."""
    start, length = (0, 0) if byte is None else (byte, 1)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0))
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True


def _alone(fd: int) -> bool | None:
    """Whether who sends has all bytes locked; None: nobody sends."""
    kind, _, _, length, _ = _LOCK.unpack(
        fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    )
    return None if kind == fcntl.F_UNLCK else length == 0


def _path(address: Address) -> str:
    if not address.place:
        raise ValueError(f"{address.url!r} has no path: it is written fifo:///path")
    return address.place
