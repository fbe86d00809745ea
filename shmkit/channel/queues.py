"""Channels over message queues of the kernel, POSIX and System V: a message of the channel is one of the queue.

Several may send, and one end receives.  A queue outlives its processes: what a killed sender had sent is received, and
what nobody has received waits for the next end that listens, if the last one was killed or told to keep the queue.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

from shmkit._small import POSIX_QUEUE
from shmkit.channel.base import Channel, generation
from shmkit.channel.frame import FAREWELL, GREETING, HEADER, Frame, Incoming, message_of, note, parse
from shmkit.channel.kernel_queues import PosixEnd, SysVEnd
from shmkit.channel.options import Rules, number, size, yes_no
from shmkit.channel.presence import NOTE_SIZE, Presence
from shmkit.channel.quick import QuickChannel
from shmkit.channel.receivers import Receivers
from shmkit.channel.turn import FIRST_LOOK, LAST_LOOK
from shmkit.channel.url import Address
from shmkit.errors import (
    Broken,
    ChannelError,
    EndOfStream,
    NoPeer,
    PeerDied,
    RecordTooLarge,
    Refused,
    SegmentNotFound,
)
from shmkit.files.watching import Hint
from shmkit.mqueue import PosixMessageQueue, SysVMessageQueue
from shmkit.mqueue.limits import HARD_MESSAGES, HARD_SIZE
from shmkit.mqueue.posix import MOST_PRIORITY, folder_of_queues
from shmkit.segment.sysv import key_of
from shmkit.waiting import Deadline, readable

__all__ = ["QueueReceiver", "QueueSender", "connect_queue", "listen_queue"]

# What an end sends before its first message.
_LEAST = HEADER.size + NOTE_SIZE
POSIX_OPTIONS: Rules = {
    "keep": yes_no,
    "max_message_size": size(_LEAST, HARD_SIZE),
    "max_messages": number(1, HARD_MESSAGES),
    "priority": number(0, MOST_PRIORITY),
}
SYSV_OPTIONS: Rules = {
    "capacity": size(_LEAST, 2**31 - 1),
    "keep": yes_no,
    "project": number(1, 127),
    "type": number(1, 2**31 - 2),
}

# Several ends of one process are known apart.
_numbers = itertools.count(1)


class _Receiver:
    """Whether there is somebody who receives, as `Presence` would tell it."""

    watched = True
    abandoned = False

    def __init__(self, queue: PosixEnd | SysVEnd) -> None:
        self._queue = queue

    def check(self) -> bool:
        """Whether nobody is there any more."""
        self.abandoned = self._queue.receiver_gone() is not None
        return self.abandoned


class _QueueChannel(QuickChannel):
    """What both ends have in common."""

    def __init__(self, queue: PosixEnd | SysVEnd, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._queue = queue

    @property
    def queue(self) -> PosixMessageQueue | SysVMessageQueue:
        """The message queue itself, for what only it has."""
        return self._queue.queue

    def _in_fd(self) -> int:
        return self._queue.fd

    _out_fd = _in_fd

    def _without_descriptor(self, attempt: Callable[[float], bool], deadline: Deadline) -> bool:
        """Waits for a queue that is no descriptor, and looks from time to time whether somebody is there."""
        presence = self._presence
        assert presence is not None
        pause = FIRST_LOOK
        while not attempt(min(pause, deadline.left())):
            self._check_open()
            if deadline.passed:
                return False
            if presence.watched and presence.check():
                return True
            pause = min(pause * 2, LAST_LOOK)
        return True


class QueueSender(_QueueChannel):
    """An end that sends."""

    def __init__(self, queue: PosixEnd | SysVEnd, url: str, **options: Any) -> None:
        super().__init__(queue, url, sends=True, receives=False, **options)
        self._presence: Any = _Receiver(queue)
        self._number = next(_numbers)
        self._notes: list[bytes] = []
        self._greeted = False
        self._message = b""
        self._gone = False

    def _greet(self) -> None:
        if not self._greeted:
            self._notes.append(note(GREETING, self._number))
            self._greeted = True

    def _shorten_send(self) -> None:
        queue = self._queue
        if not self._greeted or self._notes or self._presence.abandoned:
            self._open_send(-1, 0, 0)
        else:
            kind = queue.how if queue.quick == POSIX_QUEUE else queue.how or 1
            self._open_send(queue.short, queue.quick, min(self._limit, queue.most), kind)

    def _begin_send(self, frame: Frame) -> None:
        if frame.size > self._queue.most:
            raise RecordTooLarge(
                f"a message of {frame.nbytes} bytes, with {frame.size - frame.nbytes} that say what it is, does not "
                f"fit {self._where}: {self._queue.too_large(frame.size)}; unix:// and ring:// take messages of any size"
            )
        self._greet()
        self._message = b"".join((frame.header(), frame.meta, *frame.buffers))
        self._gone = False

    def _send_step(self) -> bool:
        if self._gone:
            return True
        while self._notes:
            if not self._put(self._notes[0]):
                return False
            del self._notes[0]
        return self._put(self._message)

    def _put(self, message: bytes) -> bool:
        try:
            if self._queue.put(message):
                return True
        except SegmentNotFound:
            raise self._nobody() from None
        if self._presence.abandoned and self._presence.check():
            raise self._nobody()
        return False

    def _nobody(self) -> Exception:
        self._notes.clear()
        try:
            pid = self._queue.receiver_gone()
        except SegmentNotFound:
            pid = 0
        if pid:
            return PeerDied(f"process {pid}, which received from {self._where}, died", pid)
        return Broken(f"nobody receives from {self._where} any more")

    def _wait_out(self, deadline: Deadline) -> bool:
        queue = self._queue
        if isinstance(queue, PosixEnd):
            return super()._wait_out(deadline)

        def attempt(seconds: float) -> bool:
            try:
                gone = queue.put_within(self._notes[0] if self._notes else self._message, seconds)
            except SegmentNotFound:
                raise self._nobody() from None
            if not gone:
                return False
            if self._notes:
                del self._notes[0]
            else:
                self._gone = True
            return True

        try:
            return self._without_descriptor(attempt, deadline)
        except SegmentNotFound:
            raise self._nobody() from None

    def _give_up(self, keep: bool) -> bool:
        self._message = b""
        return False

    def _after_fork(self) -> None:
        self._greeted = False
        self._notes = []

    def _close(self, linger: float) -> None:
        if self._greeted and self._generation == generation():
            self._notes.append(note(FAREWELL, self._number))
            self._message = b""
            deadline = Deadline(linger)
            with contextlib.suppress(Broken, OSError, RecordTooLarge):
                while not self._take_leave():
                    if not self._wait_out(deadline):
                        break
        self._queue.queue.close()

    def _take_leave(self) -> bool:
        while self._notes and self._put(self._notes[0]):
            del self._notes[0]
        return not self._notes

    def __reduce__(self) -> tuple[Any, ...]:
        if self._closed:
            raise ChannelError(f"{self._where} is closed: it cannot be handed on")
        return _sender_again, (type(self._queue), self._queue.again(), self._url, self._limit)


def _sender_again(kind: Callable[..., Any], again: tuple[Any, ...], url: str, limit: int) -> QueueSender:
    return QueueSender(kind(*again), url, max_message=limit)


class QueueReceiver(_QueueChannel):
    """The end that receives, and removes the queue when it is closed, unless told to keep it."""

    def __init__(self, queue: PosixEnd | SysVEnd, url: str, keep: bool, **options: Any) -> None:
        # First of all: an end that is refused removes nothing.
        came = queue.claim()
        super().__init__(queue, url, sends=False, receives=True, **options)
        self._came = came
        self._presence: Presence = Presence(True)
        self._keep = keep
        self._pid = os.getpid()

    def _shorten_recv(self) -> None:
        queue = self._queue
        if self._came is None:
            self._open_recv(queue.short, queue.quick, self._limit, queue.most, queue.how)
        else:
            self._open_recv(-1, 0, 0)

    def _recv_step(self, into: memoryview | None) -> Incoming | None:
        while True:
            message: Any
            if self._fed:
                message = self._fed.pop(0)
            else:
                message, self._came = self._came, None
            if message is None:
                with self._removed():
                    message = self._queue.take()
            if message is None:
                if self._presence.abandoned or self._presence.left:
                    raise self._ended()
                return None
            if not message:
                continue  # what another receiver sent to itself
            incoming = message_of(parse(message, self._limit, self._where), self._presence)
            if incoming is not None:
                return incoming

    @contextlib.contextmanager
    def _removed(self) -> Iterator[None]:
        try:
            yield
        except SegmentNotFound:
            raise Broken(f"somebody removed the message queue of {self._where}, with what was in it") from None

    def _ended(self) -> Exception:
        if self._presence.anybody:
            pid = self._presence.pid
            return PeerDied(f"process {pid}, which sent to {self._where}, died", pid)
        return EndOfStream(f"all who sent to {self._where} have closed it, and all is received")

    def _wait_in(self, deadline: Deadline) -> bool:
        queue = self._queue
        if isinstance(queue, PosixEnd):
            return super()._wait_in(deadline)

        def attempt(seconds: float) -> bool:
            with self._removed():
                self._came = queue.take_within(seconds)
            return self._came is not None

        return self._without_descriptor(attempt, deadline)

    def _somebody(self) -> bool:
        presence, fd = self._presence, self._queue.fd
        known = presence.anybody or presence.left or bool(self._received or self._held or self._came)
        return known or (fd >= 0 and readable(fd, Deadline(0)))

    def _after_fork(self) -> None:
        if isinstance(self._queue, SysVEnd):
            with self._removed():
                self._came = self._queue.claim()

    def _close(self, linger: float) -> None:
        # A forked child leaves the queue to who made it.
        self._queue.leave(self._keep, self._pid == os.getpid())

    def __reduce__(self) -> tuple[Any, ...]:
        raise ChannelError(f"{self._where} has one receiver, this process: another one can listen when this is closed")


def _key(address: Address, options: dict[str, Any]) -> str | int:
    """The name, or the key: what it is written as, or what ``ftok`` gives for a path."""
    if not address.place:
        raise ValueError(f"{address.url!r} has no name: it is written {address.scheme}://name")
    if address.scheme == "sysvmq":
        if address.place.startswith("/"):
            return _ftok(address, options.get("project", 1))
        if "project" in options:
            raise ValueError(f"{address.url!r}: a project goes with the path of a file, as in sysvmq:///path?project=1")
        with contextlib.suppress(ValueError):
            return int(address.place, 0)
    return address.place


def _ftok(address: Address, project: int) -> int:
    """The key of a file, as the C library's ``ftok`` makes it of its number, its device and a project's."""
    try:
        status = os.stat(address.place)
    except (FileNotFoundError, NotADirectoryError):
        raise SegmentNotFound(
            f"{address.url!r}: there is no file {address.place!r}, whose key is that of the message queue (ftok)"
        ) from None
    return status.st_ino & 0xFFFF | (status.st_dev & 0xFF) << 16 | project << 24


def _refuse_what_others_write(mode: int, address: Address) -> None:
    if mode & 0o022:
        raise Refused(f"{address.url!r}: others than its owner may send to that message queue (mode {mode:04o})")


def _refuse_a_small_one(queue: PosixEnd | SysVEnd, address: Address) -> None:
    if queue.most < _LEAST:
        raise ValueError(
            f"{address.url!r}: a message of that queue has at most {queue.most} bytes, which is set {queue.room} when "
            f"it is made, and what the ends of a channel say to each other has {_LEAST}"
        )


def listen_queue(address: Address, options: dict[str, Any], common: dict[str, Any]) -> Channel:
    """The receiving end of a message queue, which is made if there is none."""
    keep = options.get("keep", False)
    queue: PosixEnd | SysVEnd
    if address.scheme == "mq":
        queue = PosixEnd(
            PosixMessageQueue.create_or_attach(
                str(_key(address, options)), options.get("max_messages"), options.get("max_message_size")
            )
        )
    else:
        queue = _joined(address, options)
    try:
        _refuse_what_others_write(queue.queue.mode, address)
        _refuse_a_small_one(queue, address)
        return QueueReceiver(queue, address.url, keep, **common)
    except BaseException:
        queue.leave(keep=True, ours=True)
        raise


def _joined(address: Address, options: dict[str, Any]) -> SysVEnd:
    """A System V queue that this end receives from: its place is taken first, so that nobody removes the queue."""
    key, mtype = _key(address, options), options.get("type", 0)
    receivers = Receivers(key_of(key))
    receivers.join(mtype, address.url)
    try:
        made = SysVMessageQueue.create_or_attach(key, options.get("capacity"))
        return SysVEnd(made, mtype, receivers)
    except BaseException:
        receivers.leave()
        raise


def connect_queue(
    address: Address, options: dict[str, Any], common: dict[str, Any], timeout: float | None = 0.0
) -> Channel:
    """An end that sends to a message queue that somebody has made."""
    deadline = Deadline(timeout)
    key = _key(address, options)
    hint: Hint | None = None
    with contextlib.ExitStack() as stack:
        while True:
            with contextlib.suppress(SegmentNotFound):
                made = _sender(key, address, options, common)
                break
            if deadline.passed:
                raise NoPeer(f"nobody listens at {address.url}: there is no message queue {key!r}")
            if hint is None:
                hint = stack.enter_context(_hint(key, address))
            else:
                hint.pause(deadline)
    # Greets at once where there is room, so that it is known before another sender takes leave.
    made._greet()
    with contextlib.suppress(Broken):
        made._take_leave()
    return made


def _hint(key: str | int, address: Address) -> Hint:
    """What tells that the queue is there: the folder of POSIX queues; of System V's the kernel tells nothing."""
    folder = folder_of_queues() if address.scheme == "mq" else None
    return Hint(None) if folder is None else Hint.of_name(os.path.join(folder, str(key).lstrip("/")))


def _sender(key: str | int, address: Address, options: dict[str, Any], common: dict[str, Any]) -> QueueSender:
    queue: Any
    if address.scheme == "mq":
        queue = PosixEnd(PosixMessageQueue.attach(str(key)), options.get("priority", 0))
    else:
        queue = SysVEnd(SysVMessageQueue.attach(key), options.get("type", 0))
        queue.meet()
    try:
        _refuse_a_small_one(queue, address)
    except BaseException:
        queue.queue.close()
        raise
    return QueueSender(queue, address.url, **common)
