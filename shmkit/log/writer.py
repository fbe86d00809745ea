"""LogWriter: appends records, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import time
import weakref
import zlib
from types import TracebackType
from typing import TYPE_CHECKING, Any

from shmkit._modes import permissions
from shmkit._plain_view import plain_view
from shmkit._turns import Turn
from shmkit.errors import ChannelError, Closed, LayoutMismatch, NoSpace, RecordTooLarge
from shmkit.log.checks import check_file, sign, take_writer
from shmkit.log.layout import (
    ALIGN,
    HEAD_AT,
    RECORDS_AT,
    Head,
    Tail,
    corrupt,
    find_whole,
    head_text,
    read_head,
    record_header,
    record_size,
    write_left,
)
from shmkit.log.reader import LogReader
from shmkit.sizes import format_size, whole_number
from shmkit.waiting import Deadline, seconds_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Buffer, Self

__all__ = ["LogWriter"]

_FALLOC_PUNCH = 0x03  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
_PARTS_MOST = 1024
_WAY_OUT = "nothing is appended to it: copy what is whole, LogReader(path, skip_corrupt=True), to a new log"

_writers: weakref.WeakSet[LogWriter] = weakref.WeakSet()


def _forked() -> None:
    # The lock is the open file's: a child that kept it would be the writer after its parent's death.
    for writer in list(_writers):
        writer._drop()
        writer._turn = Turn()  # a thread of the parent's may have had it


os.register_at_fork(after_in_child=_forked)


class LogWriter:
    """The one that appends to a log, which is made if there is none.

    ``sync``: True: a record is on the disk when ``append`` returns; False: when the system gets to it (it survives the
    death of this program, not a loss of power); a number: at least every so many seconds, as far as something is
    appended or ``flush`` called.  What a loss of power takes is always the end.

    ``repaired`` says what a crash had left half written, and was cut off when this was made; None: nothing.

    RoleTaken: another process appends; LayoutMismatch: this is no log; Refused: others may write to it; RecordCorrupt:
    it is spoilt in the middle.  What is whole can be copied to a new log, where the numbers begin at 0 again::

        with LogReader(path, skip_corrupt=True) as old, LogWriter(copy) as new:
            for record in old:
                new.append(record)
    """

    @staticmethod
    def create(path: str | os.PathLike[str], *, mode: int = 0o600, trust: bool = False) -> None:
        """Make an empty log, to which nobody has appended yet, if there is none."""
        LogWriter(path, mode=mode, trust=trust)._drop()

    # It was closed by a handler that interrupted the very call which then leaves.
    _within = False

    def __init__(
        self, path: str | os.PathLike[str], *, sync: bool | float = False, mode: int = 0o600, trust: bool = False
    ) -> None:
        self._fd = -1
        permissions(mode)
        self._path = os.fspath(path)
        self._sync = sync if isinstance(sync, bool) else seconds_of(sync)
        self._synced_at = time.monotonic()
        self._turn = Turn()
        self._broken = ""
        self.repaired: Tail | None = None
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, mode & 0o600)
        try:
            check_file(fd, self._path, trust)
            take_writer(fd, self._path)
            self._fd = fd
            self._open(mode)
        except BaseException:
            self._fd = -1
            os.close(fd)
            raise
        _writers.add(self)

    def _open(self, mode: int) -> None:
        fd = self._fd
        size = os.fstat(fd).st_size
        if size < RECORDS_AT and not self._has_records(size):
            os.fchmod(fd, mode)
            self._make()
        self._head = read_head(fd, self._path)
        sign(fd)
        with LogReader._over(os.dup(fd), self._path) as reader:
            for _ in reader._headers():
                pass
            self._end, self._sequence = reader._place, reader._sequence
        size = os.fstat(fd).st_size
        if size > self._end:
            follows = find_whole(fd, self._end, size, self._head.identity, self._sequence)
            if follows:
                raise corrupt(self._path, self._end, self._sequence, follows, _WAY_OUT)
            self.repaired = Tail(self._end, size - self._end, self._sequence)
            os.ftruncate(fd, self._end)
            if self._sync is not False:
                os.fdatasync(fd)

    def _has_records(self, size: int) -> bool:
        """Whether what is too short to be a log is nevertheless something else than one in the making."""
        start = os.pread(self._fd, 8, 0)
        if size and start and not start.startswith(b"shmkitLG"[: len(start)]) and any(start):
            raise LayoutMismatch(f"{self._path!r} is no log, and is left alone")
        return False

    def _make(self) -> None:
        head = Head(int.from_bytes(os.urandom(8), "little"), 0, RECORDS_AT, 0)
        os.ftruncate(self._fd, 0)
        self._write([head_text(head)], HEAD_AT[0])
        os.ftruncate(self._fd, RECORDS_AT)
        os.fsync(self._fd)
        folder = os.open(os.path.dirname(os.path.abspath(self._path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    # -------------------------------------------------------------------------------------------------------- appending

    def append(self, data: Buffer | Sequence[Buffer]) -> int:
        """Append a record of bytes (or of several buffers, one after the other); return its number, from 0 on.

        NoSpace: the disk is full, and the log is as before; Closed; ChannelError: the disk failed earlier.
        """
        turn = self._begin()
        try:
            number = self._append([_parts(data)])
            self._maybe_sync()
        finally:
            self._end_turn(turn)
        return number

    def append_many(self, records: Iterable[Buffer]) -> int:
        """Append them in as few writes as possible: all, or none; return the number of the first."""
        turn = self._begin()
        try:
            number = self._append([_parts(record) for record in records])
            self._maybe_sync()
        finally:
            self._end_turn(turn)
        return number

    def _begin(self) -> Turn:
        """This thread's turn.  RuntimeError: it has it already, as this is a handler that has interrupted it."""
        turn = self._turn
        if not turn.try_take():
            turn.take(Deadline(None), f"log {self._path!r}")
        return turn

    def _end_turn(self, turn: Turn) -> None:
        turn.give()
        if self._within:
            self.close()

    def _append(self, records: list[list[memoryview]]) -> int:
        self._usable()
        sequence, end = self._sequence, self._end
        parts: list[Any] = []
        for record in records:
            length, crc = 0, 0
            for part in record:
                length += part.nbytes
                crc = zlib.crc32(part, crc)
            if length >= 2**62:
                raise RecordTooLarge(f"a record of {length} bytes is more than a log takes")
            parts.append(record_header(self._head.identity, length, sequence, crc))
            parts.extend(record)
            if length % ALIGN:
                parts.append(bytes(ALIGN - length % ALIGN))
            sequence += 1
            end += record_size(length)
        try:
            self._write(parts, self._end)
        except BaseException as error:
            self._take_back()
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise NoSpace(
                    f"no room for {format_size(end - self._end)} more in log {self._path!r}: "
                    f"{self._what_bounds_it(error, end)}; the log is as before"
                ) from None
            raise
        first, self._sequence, self._end = self._sequence, sequence, end
        return first

    def _what_bounds_it(self, error: OSError, end: int) -> str:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if error.errno == errno.EFBIG and 0 <= limit < end:
            return (
                f"this process may make files of at most {format_size(limit)} (RLIMIT_FSIZE: raise it with ulimit -f "
                "or resource.setrlimit)"
            )
        free = os.fstatvfs(self._fd)
        return f"{format_size(free.f_bavail * free.f_frsize)} are free ({error.strerror})"

    def _write(self, parts: list[Any], place: int) -> None:
        parts = [part for part in parts if len(part)]
        while parts:
            count = os.pwritev(self._fd, parts[:_PARTS_MOST], place)
            place += count
            while parts and count >= len(parts[0]):
                count -= len(parts.pop(0))
            if count:
                parts[0] = memoryview(parts[0])[count:]

    def _take_back(self) -> None:
        """Cuts off what has been written of records that were not written whole."""
        try:
            os.ftruncate(self._fd, self._end)
        except OSError as error:
            self._broken = f"what was half written could not be cut off: {error}"

    def flush(self) -> None:
        """Return when all records are on the disk.  OSError: the disk failed; nothing more is appended then."""
        turn = self._begin()
        try:
            self._usable()
            self._flush()
        finally:
            self._end_turn(turn)

    def _flush(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            # The kernel forgets what it could not write: a second try would succeed and mean nothing.
            self._broken = f"the disk failed: {error}"
            raise
        self._synced_at = time.monotonic()

    def _maybe_sync(self) -> None:
        sync = self._sync
        if sync is True or (sync is not False and sync is not None and time.monotonic() - self._synced_at >= sync):
            self._flush()

    def _usable(self) -> None:
        if self._fd < 0:
            raise Closed(f"log {self._path!r} was closed by this process (or was its parent's before a fork)")
        if self._broken:
            raise ChannelError(f"log {self._path!r} takes no more records: {self._broken}")

    # --------------------------------------------------------------------------------------------------------- dropping

    def drop_before(self, sequence: int) -> int:
        """Drop the records before number ``sequence``, and give their room back to the disk; return how many went.

        Numbers stay what they are; readers that have not come that far go on with the first one that is left.
        ValueError: there is no such number yet.
        """
        sequence = whole_number(sequence, "the number of a record")
        turn = self._begin()
        try:
            self._usable()
            if not 0 <= sequence <= self._sequence:
                raise ValueError(f"log {self._path!r} has records up to {self._sequence - 1}: got {sequence}")
            if sequence <= self._head.first:
                return 0
            with LogReader._over(os.dup(self._fd), self._path) as reader:
                for header in reader._headers():
                    if header.sequence == sequence - 1:
                        break
                start = reader._place
            dropped = sequence - self._head.first
            head = Head(self._head.identity, sequence, start, self._head.turn + 1)
            # The records that the new head points to have to be there before it is.
            self._flush()
            self._write([head_text(head)], HEAD_AT[head.turn % 2])
            self._flush()
            self._head = head
            _punch(self._fd, RECORDS_AT, start)
            return dropped
        finally:
            self._end_turn(turn)

    # ------------------------------------------------------------------------------------------------------------- rest

    @property
    def path(self) -> str:
        """The file."""
        return self._path

    @property
    def next_sequence(self) -> int:
        """The number that the next record will have."""
        return self._sequence

    @property
    def first_sequence(self) -> int:
        """The number of the oldest record that was not dropped."""
        return self._head.first

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._fd < 0

    def close(self) -> None:
        """Leave in order: readers see the end.  With ``sync``, all is on the disk before.  Again changes nothing.

        In a signal handler that has interrupted a call of this log, that call leaves when it is done.
        """
        if self._turn.mine:
            self._within = True
            return
        turn = self._begin()
        try:
            self._within = False
            self._leave()
        finally:
            turn.give()

    def _leave(self) -> None:
        if self._fd < 0:
            return
        try:
            if not self._broken:
                with contextlib.suppress(OSError):
                    write_left(self._fd, self._end)
                if self._sync is not False:
                    self._flush()
        finally:
            self._drop()

    def _drop(self) -> None:
        fd, self._fd = self._fd, -1
        _writers.discard(self)
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    def __repr__(self) -> str:
        return f"<LogWriter {self._path!r}: {self._sequence} records{', closed' if self._fd < 0 else ''}>"


def _parts(data: Any) -> list[memoryview]:
    buffers = data if isinstance(data, (list, tuple)) else [data]
    views = [plain_view(buffer) for buffer in buffers]
    if not all(view.contiguous for view in views):
        raise ValueError("the bytes of a record lie in one piece, or in several: a buffer is not contiguous")
    return [view.cast("B") for view in views if view.nbytes]


def _punch(fd: int, start: int, end: int) -> None:
    """Gives the whole blocks of a range back to the disk, where the file system can."""
    import ctypes

    if end <= start:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate(ctypes.c_int(fd), ctypes.c_int(_FALLOC_PUNCH), ctypes.c_int64(start), ctypes.c_int64(end - start))
