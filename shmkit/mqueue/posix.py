"""PosixMessageQueue: ``mq_open`` and its kin, through posix_ipc.

The queue's descriptor never blocks; waits are polls.  So time-outs count on the monotonic clock (``mq_timedreceive``
knows the wall clock only), and what a signal's handler raises comes out of them (posix_ipc drops it).
"""

from __future__ import annotations

import os
import select
import signal
import stat
from typing import TYPE_CHECKING, Any, SupportsIndex

from shmkit._foreign import posix_ipc
from shmkit._modes import permissions
from shmkit.errors import (
    Closed,
    NoSpace,
    RoleTaken,
    SegmentExists,
    SegmentNotFound,
    SegmentPermission,
)
from shmkit.mqueue import limits
from shmkit.mqueue.message import PosixQueueStatistics, flat
from shmkit.sizes import parse_size
from shmkit.waiting import Deadline, still_readable, still_writable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Buffer, Self

__all__ = ["MOST_PRIORITY", "PosixMessageQueue", "unlink_posix"]

MOST_PRIORITY = os.sysconf("SC_MQ_PRIO_MAX") - 1
# posix_ipc receives into a buffer of the largest message, which stays with the bytes.  A message that leaves more than
# half of it empty, and more than this, is copied out of it.
SPARE = 1024


def _path_of(name: object) -> str:
    """The name as mq_open has it; a leading slash is no part of ours."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a POSIX message queue is text: got {name!r}")
    bare = name.removeprefix("/")
    if not bare or "/" in bare or "\0" in bare or len(os.fsencode(bare)) > 255 or bare in (".", ".."):
        raise ValueError(f"the name of a POSIX message queue has 1 to 255 bytes, no slash and no NUL: got {name!r}")
    return f"/{bare}"


def folder_of_queues() -> str | None:
    """Where queues are seen as files (/dev/mqueue, usually), for who watches it; None: nowhere in this process's view.

    One of another IPC namespace may be mounted there: then nothing is told, and who watches has to look as well.
    """
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            lines = [line.split() for line in mounts]
    except OSError:
        return None
    for line in lines:
        # … root, place, …, "-", type of file system, …; white space in a place is written in octal.
        if line[3] == "/" and line[line.index("-") + 1] == "mqueue" and "\\" not in line[4]:
            return line[4]
    return None


def _count_of(value: SupportsIndex, what: str) -> int:
    number = value.__index__() if not isinstance(value, bool) else 0
    if number < 1:
        raise ValueError(f"{what} is 1 or more: got {value!r}")
    return number


class PosixMessageQueue:
    """A POSIX message queue, as C programs have it from ``mq_open("/name", …)``.

    ``PosixMessageQueue.create``, ``attach`` and ``create_or_attach`` make and find it; it is pickled by its name.  The
    message of the highest priority is received first; among equals, the one that was sent first.  Messages outlive
    their senders, and the queue lives until it is unlinked, or the system ends.

    Any number of processes and threads may send and receive.  Nobody learns that the others have gone.
    """

    __slots__ = ("__weakref__", "_copied", "_fd", "_most", "_name", "_queue", "_receive", "_send")
    _name: str
    _queue: Any
    _fd: int
    _most: int
    _copied: int
    _send: Callable[..., Any]
    _receive: Callable[..., Any]

    def __init__(self) -> None:
        raise TypeError("a PosixMessageQueue is made by PosixMessageQueue.create, attach or create_or_attach")

    # ── making and finding ──────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def create(
        cls,
        name: str,
        max_messages: SupportsIndex | None = None,
        max_message_size: SupportsIndex | str | None = None,
        *,
        mode: int = 0o600,
    ) -> Self:
        """Make one under a name, for so many messages of so many bytes; with that mode, whatever the umask.

        None: 10 messages, 8 KiB, or what the system allows.  SegmentExists; ValueError and NoSpace name the limit
        (msg_max, msgsize_max, queues_max, RLIMIT_MSGQUEUE), its value, and how to raise it.
        """
        path = _path_of(name)
        permissions(mode)
        count = min(10, limits.most_messages()) if max_messages is None else _count_of(max_messages, "max_messages")
        size = min(8192, limits.most_size()) if max_message_size is None else parse_size(max_message_size)
        _count_of(size, "max_message_size")
        if count > limits.HARD_MESSAGES or size > limits.HARD_SIZE:
            raise limits.refused_shape(path[1:], count, size)
        try:
            queue = posix_ipc.MessageQueue(path, posix_ipc.O_CREX | os.O_NONBLOCK, 0o600, count, size)
        except posix_ipc.ExistentialError:
            raise SegmentExists(f"message queue {path[1:]!r} exists: attach to it or unlink it") from None
        except posix_ipc.PermissionsError:
            raise SegmentPermission(f"message queue {path[1:]!r}: user {os.geteuid()} may not make it") from None
        except ValueError:
            raise limits.refused_shape(path[1:], count, size) from None
        except MemoryError:
            raise NoSpace(f"no room for message queue {path[1:]!r}: the kernel has no memory for it") from None
        except OSError as error:
            # posix_ipc gives its own text, and no errno, for ENOSPC, EMFILE and ENFILE.
            if error.errno is not None:
                raise
            raise limits.no_queue_left(path[1:], count, size, "space" in str(error)) from None
        made = cls._handle(path[1:], queue)
        os.fchmod(made._fd, mode)
        return made

    @classmethod
    def attach(cls, name: str, *, owner: int | None = None, read: bool = True, write: bool = True) -> Self:
        """Find the one of that name.  SegmentNotFound.

        SegmentPermission if it belongs to another user, unless that is ``owner``; or if its mode does not allow to
        ``read`` (receive) or ``write`` (send) as asked.
        """
        path = _path_of(name)
        if not read and not write:
            raise ValueError("a message queue that is neither read nor written is of no use")
        try:
            queue = posix_ipc.MessageQueue(path, os.O_NONBLOCK, read=read, write=write)
        except posix_ipc.ExistentialError:
            raise SegmentNotFound(f"there is no POSIX message queue {path[1:]!r}") from None
        except posix_ipc.PermissionsError:
            raise SegmentPermission(f"message queue {path[1:]!r}: user {os.geteuid()} may not use it") from None
        found = cls._handle(path[1:], queue)
        uid = os.fstat(found._fd).st_uid
        if uid not in (os.geteuid(), owner):
            found.close()
            raise SegmentPermission(
                f"message queue {path[1:]!r} belongs to user {uid}, and this process to user {os.geteuid()}: "
                f"owner={uid} accepts that"
            )
        return found

    @classmethod
    def create_or_attach(
        cls,
        name: str,
        max_messages: SupportsIndex | None = None,
        max_message_size: SupportsIndex | str | None = None,
        *,
        mode: int = 0o600,
        owner: int | None = None,
    ) -> Self:
        """Find the one of that name, whatever its shape, or make it."""
        while True:
            try:
                return cls.create(name, max_messages, max_message_size, mode=mode)
            except SegmentExists:
                pass
            try:
                return cls.attach(name, owner=owner)
            except SegmentNotFound:
                continue  # it went between the two: make it

    @classmethod
    def _handle(cls, name: str, queue: Any) -> Self:
        made = cls.__new__(cls)
        made._name, made._queue, made._fd, made._most = name, queue, queue.mqd, queue.max_message_size
        made._send, made._receive, made._copied = (
            queue.send,
            queue.receive,
            min(made._most - SPARE, made._most // 2 - 1),
        )
        return made

    # ── messages ────────────────────────────────────────────────────────────────────────────────────────────────────

    def send(self, message: Buffer, timeout: float | None = None, priority: int = 0) -> None:
        """Send it; waits while the queue is full.  TimeoutError.

        ``priority`` is from 0 to 32767, the highest comes first.  RecordTooLarge (a ValueError) if the queue was made
        for smaller messages.
        """
        if type(message) is not bytes:
            message = flat(message)
        try:
            self._send(message, None, priority)
        except posix_ipc.BusyError:
            self._send_later(message, timeout, priority)
        except (ValueError, OverflowError, posix_ipc.Error) as error:
            raise self._explained(error, message, priority) from None

    def _send_later(self, message: Any, timeout: float | None, priority: int) -> None:
        deadline = Deadline(timeout)
        while self._wait(select.POLLOUT, deadline):
            try:
                self._send(message, None, priority)
            except posix_ipc.BusyError:
                continue  # another sender was faster
            except posix_ipc.Error as error:
                raise self._explained(error, message, priority) from None
            return
        raise TimeoutError(f"message queue {self._name!r} was full for {timeout} s")

    def try_send(self, message: Buffer, priority: int = 0) -> bool:
        """Send it if there is room; whether there was."""
        if type(message) is not bytes:
            message = flat(message)
        try:
            self._send(message, None, priority)
        except posix_ipc.BusyError:
            return False
        except (ValueError, OverflowError, posix_ipc.Error) as error:
            raise self._explained(error, message, priority) from None
        return True

    def recv(self, timeout: float | None = None) -> bytes:
        """The next message; waits for it.  TimeoutError."""
        try:
            message: bytes = self._receive()[0]
        except posix_ipc.BusyError:
            message = self._receive_later(timeout)[0]
        except posix_ipc.Error as error:
            raise self._explained(error) from None
        return message if len(message) > self._copied else bytes(memoryview(message))

    def recv_prioritized(self, timeout: float | None = None) -> tuple[bytes, int]:
        """The next message, and its priority; waits for it.  TimeoutError."""
        try:
            message, priority = self._receive()
        except posix_ipc.BusyError:
            message, priority = self._receive_later(timeout)
        except posix_ipc.Error as error:
            raise self._explained(error) from None
        return (message if len(message) > self._copied else bytes(memoryview(message))), priority

    def _receive_later(self, timeout: float | None) -> tuple[bytes, int]:
        deadline = Deadline(timeout)
        while self._wait(select.POLLIN, deadline):
            try:
                received: tuple[bytes, int] = self._receive()
            except posix_ipc.BusyError:
                continue  # another receiver was faster
            except posix_ipc.Error as error:
                raise self._explained(error) from None
            return received
        raise TimeoutError(f"nothing came to message queue {self._name!r} within {timeout} s")

    def try_recv(self) -> bytes | None:
        """The next message; None: there is none."""
        received = self.try_recv_prioritized()
        return None if received is None else received[0]

    def try_recv_prioritized(self) -> tuple[bytes, int] | None:
        """The next message and its priority; None: there is none."""
        try:
            message, priority = self._receive()
        except posix_ipc.BusyError:
            return None
        except posix_ipc.Error as error:
            raise self._explained(error) from None
        return (message if len(message) > self._copied else bytes(memoryview(message))), priority

    def _wait(self, events: int, deadline: Deadline) -> bool:
        """Whether it can be received from, or sent to, before the time is up."""
        return (still_readable if events == select.POLLIN else still_writable)(self, deadline)

    def _explained(self, error: Exception, message: Any = b"", priority: Any = 0) -> Exception:
        if self._fd < 0:
            return Closed(f"message queue {self._name!r} was closed by this process")
        if isinstance(error, posix_ipc.PermissionsError):
            return SegmentPermission(f"message queue {self._name!r} is not attached to for that: see read and write")
        nbytes = memoryview(message).nbytes
        if nbytes > self._most:
            return limits.too_large_for_posix(self._name, nbytes, self._most)
        if not 0 <= priority <= MOST_PRIORITY:
            return ValueError(f"a priority is a number from 0 to {MOST_PRIORITY}: got {priority}")
        return error

    # ── what the kernel knows ───────────────────────────────────────────────────────────────────────────────────────

    def fileno(self) -> int:
        """The descriptor: it can be polled, and ``asyncio``'s ``add_reader`` takes it.  Closed."""
        if self._fd < 0:
            raise Closed(f"message queue {self._name!r} was closed by this process")
        return self._fd

    def __len__(self) -> int:
        """How many messages are in it now."""
        self.fileno()
        return int(self._queue.current_messages)

    def __bool__(self) -> bool:
        return True

    @property
    def name(self) -> str:
        """What it is attached by."""
        return self._name

    @property
    def max_messages(self) -> int:
        """How many messages it can hold."""
        return int(self._queue.max_messages)

    @property
    def max_message_size(self) -> int:
        """How many bytes a message can have."""
        return self._most

    @property
    def mode(self) -> int:
        """Who may use it, as in ``chmod``.  It can be set."""
        return stat.S_IMODE(os.fstat(self.fileno()).st_mode)

    @mode.setter
    def mode(self, mode: int) -> None:
        try:
            os.fchmod(self.fileno(), permissions(mode))
        except PermissionError:
            raise SegmentPermission(f"message queue {self._name!r}: only its owner may change its mode") from None

    @property
    def owner(self) -> int:
        """The user that it belongs to."""
        return os.fstat(self.fileno()).st_uid

    def statistics(self) -> PosixQueueStatistics:
        """What the kernel knows of it now."""
        waiting = len(self)
        try:
            words = os.pread(self._fd, 200, 0).decode().split()
            facts = {word.split(":")[0]: int(word.split(":")[1]) for word in words}
        except OSError:
            # Opened for sending only.
            facts = {}
        return PosixQueueStatistics(
            self.max_messages, self._most, waiting, facts.get("QSIZE"), facts.get("NOTIFY_PID") or None
        )

    def notify(self, signum: int) -> None:
        """Have the kernel send this process the signal, once, when a message comes to the empty queue.

        RoleTaken if another process has asked for that.  A message that somebody waits for in ``mq_receive`` notifies
        nobody; who waits in ``recv``, ``poll`` or ``asyncio`` does not count.
        """
        number = int(signum)
        if not 0 < number <= signal.SIGRTMAX:
            raise ValueError(f"a signal is a number from 1 to {int(signal.SIGRTMAX)}: got {signum!r}")
        self.fileno()
        try:
            self._queue.request_notification(number)
        except posix_ipc.BusyError:
            raise RoleTaken(
                f"process {self.statistics().notified_pid} is notified of messages to queue {self._name!r} already"
            ) from None

    def cancel_notification(self) -> None:
        """Take back what this process asked for, if it has."""
        self.fileno()
        self._queue.request_notification(None)

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def closed(self) -> bool:
        """Whether this handle was closed."""
        return self._fd < 0

    def close(self) -> None:
        """End the use of this handle; messages and others are not touched.  Idempotent.

        A thread that waits through this handle gets Closed, within a second.
        """
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._queue.close()

    def unlink(self) -> None:
        """Remove its name; whoever is attached goes on, and the last takes the messages along."""
        unlink_posix(self._name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        status = os.fstat(self.fileno())
        return _attach_same, (type(self), self._name, status.st_ino, status.st_uid)

    def __repr__(self) -> str:
        what = f"shmkit.mqueue.{type(self).__name__} {self._name!r}"
        return f"<{what}: closed>" if self.closed else f"<{what}: {len(self)} of {self.max_messages} messages>"


def _attach_same(kind: type[PosixMessageQueue], name: str, inode: int, uid: int) -> PosixMessageQueue:
    """What a pickle calls.  Whose the queue is was the sender's affair, as long as it is the same queue."""
    found = kind.attach(name, owner=uid)
    if os.fstat(found.fileno()).st_ino != inode:
        found.close()
        raise SegmentNotFound(f"message queue {name!r} is gone: another one has its name by now")
    return found


def unlink_posix(name: str, missing_ok: bool = False) -> None:
    """Removes the POSIX message queue's name; whoever is attached goes on."""
    path = _path_of(name)
    try:
        posix_ipc.unlink_message_queue(path)
    except posix_ipc.ExistentialError:
        if not missing_ok:
            raise SegmentNotFound(f"there is no POSIX message queue {path[1:]!r}") from None
    except posix_ipc.PermissionsError:
        raise SegmentPermission(f"message queue {path[1:]!r}: user {os.geteuid()} may not remove it") from None
