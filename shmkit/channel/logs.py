"""Channels over logs: what was sent can be received again, after a reboot too."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from shmkit.channel.base import Channel
from shmkit.channel.frame import HEADER, META_MOST, Frame, Incoming, begin, into_buffer, open_header, parse, too_large
from shmkit.channel.options import Rules, file_mode, number_or, seconds, yes_no
from shmkit.channel.url import Address
from shmkit.errors import ChannelError, RecordCorrupt, RecordTooLarge, RoleTaken
from shmkit.log import LogReader, LogWriter
from shmkit.waiting import Deadline

__all__ = ["LogReceiver", "LogSender", "connect_log", "listen_log"]

LOG_OPTIONS: Rules = {
    "mode": file_mode,
    "skip_corrupt": yes_no,
    "start": number_or(0, "first", "end"),
    "sync": seconds,
    "trust": yes_no,
}


class LogSender(Channel):
    """The end that appends; ``log`` is the LogWriter, for what only a log has."""

    # Who reads it may do so next year.
    _by_value = True

    def __init__(self, log: LogWriter, url: str, **options: Any) -> None:
        super().__init__(url, sends=True, receives=False, **options)
        self.log = log
        self._frame: Frame | None = None

    def _begin_send(self, frame: Frame) -> None:
        self._frame = frame

    def _send_step(self) -> bool:
        frame = self._frame
        assert frame is not None
        self.log.append([frame.header(), frame.meta, *frame.buffers])
        self._frame = None
        return True

    def _give_up(self, keep: bool) -> bool:
        self._frame = None
        return False

    def flush(self, timeout: float | None = None) -> None:
        """Return when all that was sent is on the disk."""
        self._may_send()
        self.log.flush()

    def _in_fd(self) -> int:
        return -1

    _out_fd = _in_fd

    def _close(self, linger: float) -> None:
        self.log.close()

    def __reduce__(self) -> tuple[Any, ...]:
        raise ChannelError(f"{self._where} has one writer, this process: close it, and connect in the other one")


class LogReceiver(Channel):
    """The end that reads, from the first record on; ``log`` is the LogReader."""

    def __init__(self, log: LogReader, url: str, **options: Any) -> None:
        super().__init__(url, sends=False, receives=True, **options)
        self.log = log
        log.max_record = HEADER.size + META_MOST + self._limit

    def _recv_step(self, into: memoryview | None) -> Incoming | None:
        def place(first: memoryview, length: int) -> tuple[int, list[memoryview], Incoming] | None:
            return self._place(first, length, into)

        try:
            found = self.log._now_placed(place)
        except RecordTooLarge:
            # It is passed over, as what is refused of all mechanisms that keep messages apart.
            raise too_large(self.log._pass_over() - HEADER.size, self._limit, self._where) from None
        return found if found is None or isinstance(found, Incoming) else parse(found, self._limit, self._where)

    def _place(
        self, first: memoryview, length: int, into: memoryview | None
    ) -> tuple[int, list[memoryview], Incoming] | None:
        """Where a message belongs that begins so; None: it is taken as bytes, of which is said what is wrong."""
        if len(first) < HEADER.size:
            return None
        try:
            kind, meta, nbytes = open_header(first[: HEADER.size], self._limit, self._where)
            start = HEADER.size + meta
            if start > len(first) or start + nbytes != length:
                return None
            incoming = into_buffer(kind, nbytes, into)
            if incoming is None:
                incoming = begin(kind, bytes(first[HEADER.size : start]), nbytes, self._where)
        except (RecordCorrupt, RecordTooLarge):
            return None
        return start, incoming.targets, incoming

    def _wait_in(self, deadline: Deadline) -> bool:
        found = self.log.wait(deadline.left_or_none(), also=self._waker_fd())
        self._check_open()
        return found

    def _in_fd(self) -> int:
        return -1

    _out_fd = _in_fd

    def _after_fork(self) -> None:
        # The file is shared, but where this reader stands is not.
        pass

    def _close(self, linger: float) -> None:
        self.log.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._closed or self._held:
            raise ChannelError(f"{self._where} is closed, or holds a message: it cannot be handed on")
        return _again, (self.log.path, self.log.next_sequence, self._url, self._limit)


def _again(path: str, sequence: int, url: str, limit: int) -> LogReceiver:
    return LogReceiver(LogReader(path, sequence, trust=True), url, max_message=limit)


def _path(address: Address) -> str:
    if not address.place:
        raise ValueError(f"{address.url!r} has no path: it is written file:///path")
    return address.place


def listen_log(address: Address, options: dict[str, Any], common: dict[str, Any]) -> Channel:
    """An end that replays a log and follows it; any number of them may do so."""
    path = _path(address)
    trust = options.get("trust", False)
    if not os.path.exists(path):
        # It is there for the writer that will come; if one comes right now, it makes it.
        with contextlib.suppress(RoleTaken):
            LogWriter.create(path, mode=options.get("mode", 0o600), trust=trust)
    start = options.get("start", "first")
    reader = LogReader(path, skip_corrupt=options.get("skip_corrupt", False), trust=trust)
    made = LogReceiver(reader, address.url, **common)
    if start == "end":
        reader.seek(2**62)
    elif start != "first":
        reader.seek(start)
    return made


def connect_log(
    address: Address, options: dict[str, Any], common: dict[str, Any], timeout: float | None = 0.0
) -> Channel:
    """The end that appends to a log, which is made if there is none: nobody need listen."""
    writer = LogWriter(
        _path(address),
        sync=options.get("sync", False),
        mode=options.get("mode", 0o600),
        trust=options.get("trust", False),
    )
    return LogSender(writer, address.url, **common)
