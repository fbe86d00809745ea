"""LogReader: every whole record of a log in order, and the new ones as they come."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from shmkit.errors import Closed, EndOfStream, PeerDied, RecordTooLarge, SegmentNotFound
from shmkit.files.watching import Hint
from shmkit.log.checks import check_file, writer_lives
from shmkit.log.layout import (
    RECORD,
    Record,
    Tail,
    corrupt,
    find_whole,
    parse_record,
    read_head,
    read_left,
    record_size,
)
from shmkit.sizes import whole_number
from shmkit.waiting import Deadline, readable

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LogReader", "LogRecord"]

# A writer is looked for, and the file looked at, after so many seconds: at first, and at most where nobody tells.
_FIRST_LOOK, _LAST_LOOK = 0.0002, 0.01
# Headers are read with what follows them: a small record comes with one read.
_AHEAD = 4096
# So much of a large one is read at once: the caches still have it when its checksum is taken.
_STEP = 2**18


class LogRecord(NamedTuple):
    """A record, and its number."""

    sequence: int
    data: bytes


# Given a record's first bytes, and how many it has: how many of them stay there, where the rest goes, and what that is.
Place = Callable[[memoryview, int], "tuple[int, list[memoryview], Any] | None"]


class LogReader:
    """Reads a log from record number ``start`` on (None: from the first that there is).

    ``read(timeout)`` gives the next record.  At the end of the log it waits while somebody appends to it, or nobody has
    yet; EndOfStream: the writer has closed it; PeerDied: the writer was killed.  Both may be followed by more, when
    another writer comes.  Iteration ends at the end in any case.

    ``tail`` is what stands at the end and is no whole record, as far as has been read: what a crash left (or a writer
    is just writing); None: nothing.  ``skip_corrupt``: a record that is spoilt, though whole ones follow, is passed
    over and counted (``skipped``), instead of being RecordCorrupt.

    SegmentNotFound: there is no such file; LayoutMismatch: it is no log; Refused: others may write to it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        start: int | None = None,
        *,
        skip_corrupt: bool = False,
        max_record: int | None = None,
        trust: bool = False,
    ) -> None:
        self._fd = -1
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        except FileNotFoundError:
            raise SegmentNotFound(f"there is no log {os.fspath(path)!r}") from None
        try:
            check_file(fd, os.fspath(path), trust)
            self._begin(fd, os.fspath(path))
        except BaseException:
            os.close(fd)
            raise
        self._skip = skip_corrupt
        self.max_record: int | None = max_record
        if start is not None:
            self.seek(start)

    @classmethod
    def _over(cls, fd: int, path: str) -> Self:
        """A reader of what is open already: it sees the headers only."""
        made = cls.__new__(cls)
        made._fd, made.max_record = -1, None
        try:
            made._begin(fd, path)
        except BaseException:
            os.close(fd)
            raise
        return made

    def _begin(self, fd: int, path: str) -> None:
        self._path = path
        head = read_head(fd, path)
        self._identity = head.identity
        self._place = head.start
        self._sequence = head.first
        self._skip = False
        self._text = b""
        self.tail: Tail | None = None
        # What was last seen at the end, and what is known to be followed by nothing.
        self._looked_at: Tail | None = None
        self._torn: Tail | None = None
        self._seen: tuple[int, bool, int] | None = None
        self.skipped = 0
        self.lost = 0
        """Records that were dropped before they were read."""
        self._hint: Hint | None = None
        self._fd = fd

    # ---------------------------------------------------------------------------------------------------------- reading

    def _header(self) -> Record | None:
        """The header of the next record; None: it is not (all) there."""
        text = os.pread(self._fd, _AHEAD, self._place)
        self._text = text
        if len(text) < RECORD.size:
            self.tail = Tail(self._place, len(text), self._sequence) if text else None
            return None
        record = parse_record(text[: RECORD.size], self._identity)
        if record is None or record.sequence != self._sequence:
            size = os.fstat(self._fd).st_size
            self.tail = Tail(self._place, max(0, size - self._place), self._sequence)
            return None
        return record

    def _is_there(self, record: Record) -> bool:
        """Whether the file has all of it: memory is taken for what is there, not for what a header says."""
        end = RECORD.size + record.length
        if end <= len(self._text):
            return True
        size = os.fstat(self._fd).st_size
        if self._place + end <= size:
            return True
        self.tail = Tail(self._place, size - self._place, self._sequence)
        return False

    def _is_whole(self, whole: bool) -> bool:
        """What was found; it is a tail if it is not."""
        if not whole:
            self.tail = Tail(self._place, os.fstat(self._fd).st_size - self._place, self._sequence)
        return whole

    def _payload(self, record: Record) -> bytes | None:
        end = RECORD.size + record.length
        if not self._is_there(record):
            return None
        if end <= len(self._text):
            data = self._text[RECORD.size : end]
        else:
            parts = [self._text[RECORD.size :]]
            missing = record.length - len(parts[0])
            while missing:
                more = os.pread(self._fd, missing, self._place + end - missing)
                if not more:
                    break
                parts.append(more)
                missing -= len(more)
            data = b"".join(parts)
        return data if self._is_whole(len(data) == record.length and zlib.crc32(data) == record.crc) else None

    def _placed(self, record: Record, place: Place) -> Any:
        """What `place` makes of a record whose bytes are read straight to where it wants them; or as `_payload`."""
        first = memoryview(self._text)[RECORD.size : RECORD.size + record.length]
        # What has come with the header is not read again.
        if len(first) == record.length or not self._is_there(record) or (found := place(first, record.length)) is None:
            return self._payload(record)
        head, targets, value = found
        crc, at, left = zlib.crc32(first[:head]), self._place + RECORD.size + head, record.length - head
        for target in targets:
            done = 0
            while (part := target[done : done + _STEP]) and (count := os.preadv(self._fd, [part], at)):
                crc = zlib.crc32(part[:count], crc)
                done, at, left = done + count, at + count, left - count
        return value if self._is_whole(not left and crc == record.crc) else None

    def _pass(self, record: Record) -> None:
        self.tail = None
        self._place += record_size(record.length)
        self._sequence += 1

    def _pass_over(self) -> int:
        """Goes past the next record, which is larger than this reader takes; how many bytes it has."""
        record = self._header()
        assert record is not None
        self._pass(record)
        return record.length

    def _headers(self) -> Iterator[Record]:
        """All records that are whole, without what is in them."""
        while True:
            record = self._header()
            if record is None or self._payload(record) is None:
                return
            self._pass(record)
            yield record

    def try_read(self) -> bytes | None:
        """The next record's bytes; None: there is none yet.  RecordCorrupt; RecordTooLarge: see ``max_record``."""
        data: bytes | None = self._next(self._payload)
        return data

    def _next(self, take: Callable[[Record], Any]) -> Any:
        while True:
            if self._fd < 0:
                raise Closed(f"log {self._path!r} was closed by this process")
            record = self._header()
            most = self.max_record
            if record is not None and most is not None and record.length > most and self._is_there(record):
                raise RecordTooLarge(
                    f"record {record.sequence} of log {self._path!r} has {record.length} bytes: this reader takes "
                    f"at most {most}"
                )
            data = take(record) if record is not None else None
            if record is not None and data is not None:
                self._pass(record)
                return data
            if self.tail is None or not self._go_on():
                return None

    def _go_on(self) -> bool:
        """What stands here is no whole record: whether to look again, elsewhere."""
        head = read_head(self._fd, self._path)
        if head.start > self._place:
            # It was dropped, and its room given back, since this reader looked last.
            self.lost += head.first - self._sequence
            self._place, self._sequence = head.start, head.first
            return True
        tail = self.tail
        assert tail is not None
        # It may be a record that is being written: then there is more of it each time.
        grows, self._looked_at = self._looked_at != tail, tail
        if tail == self._torn or (grows and writer_lives(self._fd)):
            return False
        follows = find_whole(self._fd, self._place, self._place + tail.nbytes, self._identity, self._sequence)
        if not follows:
            self._torn = tail
            return False
        # Records are written one after the other: if one follows now, then this one, too, has been written to its end,
        # perhaps since it was looked at.
        record = self._header()
        if record is not None and self._payload(record) is not None:
            return True
        if not self._skip:
            raise corrupt(self._path, self._place, self._sequence, follows, "skip_corrupt=True reads on there")
        record = parse_record(os.pread(self._fd, RECORD.size, follows), self._identity)
        assert record is not None
        self.skipped += record.sequence - self._sequence
        self._place, self._sequence = follows, record.sequence
        return True

    def read(self, timeout: float | None = None) -> bytes:
        """The next record's bytes; waits for it.

        TimeoutError; EndOfStream: the writer has closed the log, and this is its end; PeerDied: it was killed.
        """
        deadline = Deadline(timeout)
        while True:
            data = self.next_now()
            if data is not None:
                return data
            if not self.wait(deadline.left_or_none()):
                raise TimeoutError(f"log {self._path!r}: nothing was appended within {timeout} s")

    def next_now(self) -> bytes | None:
        """``read`` without waiting; None: there is nothing yet, and somebody appends, or nobody has ever."""
        data: bytes | None = self._now(self._payload)
        return data

    def _now_placed(self, place: Place) -> Any:
        """The same, and what `place` makes of it."""
        return self._now(lambda record: self._placed(record, place))

    def _now(self, take: Callable[[Record], Any]) -> Any:
        # Asked before it is looked whether there is more: what a dying writer still wrote is not missed.
        lives = writer_lives(self.fileno())
        data = self._next(take)
        if data is None and not lives:
            self._check_end()
        return data

    def wait(self, timeout: float | None = None, *, also: int = -1) -> bool:
        """Waits until the log has grown, or somebody begins or ends to append to it; False: the time is up.

        ``also`` is a descriptor that ends the wait, too, by becoming readable.
        """
        deadline = Deadline(timeout)
        before = self._seen
        if self._hint is None:
            # The kernel tells when something was appended, and when who appends has gone.
            self._hint = Hint(f"/proc/self/fd/{self.fileno()}", first=_FIRST_LOOK, most=_LAST_LOOK)
        self._hint.begin()
        while True:
            self._seen = (os.fstat(self.fileno()).st_size, writer_lives(self._fd), read_left(self._fd))
            if self._seen != before:
                return True
            if deadline.passed:
                return False
            try:
                self._hint.pause(deadline, also)
            except Closed:
                self.fileno()  # says of what, where another thread has closed it
                raise
            if also >= 0 and readable(also, Deadline(0)):
                return True

    def _check_end(self) -> None:
        """Nobody appends: whether that is an end, or only the beginning."""
        if self.tail is None and read_left(self._fd) == self._place:
            raise EndOfStream(f"log {self._path!r} was closed, and this is its end")
        if self.tail is not None:
            raise PeerDied(
                f"who appended to log {self._path!r} died in the middle of record {self.tail.sequence}: "
                f"{self.tail.nbytes} bytes from byte {self.tail.offset} on are no whole record"
            )
        if self._sequence:
            raise PeerDied(f"who appended to log {self._path!r} died, after record {self._sequence - 1}")

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        data = self.try_read()
        if data is None:
            raise StopIteration
        return data

    def records(self) -> Iterator[LogRecord]:
        """The records that are there, each with its number."""
        while True:
            data = self.try_read()
            if data is None:
                return
            yield LogRecord(self._sequence - 1, data)

    def seek(self, sequence: int) -> None:
        """Go to record number ``sequence`` (or the first that was not dropped, or the end, if there is none)."""
        sequence = whole_number(sequence, "the number of a record")
        self._begin_again()
        while self._sequence < sequence:
            record = self._header()
            # A header with its checksum says where the next one is; what it says of its payload is not looked at.  What
            # fills a record up to a multiple of 8 may be missing at the end.
            if record is None or self._place + RECORD.size + record.length > os.fstat(self._fd).st_size:
                return
            self._pass(record)

    def _begin_again(self) -> None:
        head = read_head(self.fileno(), self._path)
        self._place, self._sequence, self.tail = head.start, head.first, None

    # ------------------------------------------------------------------------------------------------------------- rest

    @property
    def path(self) -> str:
        """The file."""
        return self._path

    @property
    def next_sequence(self) -> int:
        """The number of the record that comes next."""
        return self._sequence

    @property
    def closed(self) -> bool:
        """Whether this process has closed it."""
        return self._fd < 0

    def fileno(self) -> int:
        """The file's descriptor.  Closed."""
        if self._fd < 0:
            raise Closed(f"log {self._path!r} was closed by this process")
        return self._fd

    def close(self) -> None:
        """Read no more; again changes nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            hint, self._hint = self._hint, None
            if hint is not None:
                hint.close()
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LogReader {self._path!r} at record {self._sequence}{', closed' if self._fd < 0 else ''}>"
