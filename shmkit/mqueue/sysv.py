"""SysVMessageQueue: ``msgget`` and its kin, through sysv_ipc.

``msgrcv`` and ``msgsnd`` know no time-out, and a System V queue is no descriptor that could be polled: waits with one
are ended by an alarm (``shmkit.alarm``).  What sysv_ipc leaves out (``MSG_EXCEPT``, ``MSG_COPY``) is called directly.
"""

from __future__ import annotations

import ctypes
import errno
import os
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex

from shmkit._foreign import sysv_ipc
from shmkit._modes import permissions
from shmkit.alarm import blocking
from shmkit.errors import Closed, SegmentExists, SegmentNotFound, SegmentPermission
from shmkit.mqueue import limits
from shmkit.mqueue.message import SysVQueueStatistics, bytes_in, flat
from shmkit.segment.sysv import key_of
from shmkit.sizes import parse_size
from shmkit.waiting import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Buffer, Self

__all__ = ["MOST_TYPE", "SysVMessageQueue", "unlink_sysv"]

# The kernel's types are longs; sysv_ipc's are ints.
MOST_TYPE = 2**31 - 1

_IPC_NOWAIT, _MSG_EXCEPT, _MSG_COPY = 0o4000, 0o20000, 0o40000
_libc = ctypes.CDLL(None, use_errno=True)
_msgrcv = _libc.msgrcv
_msgrcv.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long, ctypes.c_int)
_msgrcv.restype = ctypes.c_ssize_t


def _closed(name: str | int, *_: Any) -> NoReturn:
    raise Closed(f"message queue {name!r} was closed by this process")


def _type_of(value: SupportsIndex, what: str) -> int:
    number = value.__index__()
    if not 0 < number <= MOST_TYPE:
        raise ValueError(f"{what} is a type of messages, from 1 to {MOST_TYPE}: got {value!r}")
    return number


class SysVMessageQueue:
    """A System V message queue, as C programs have it from ``msgget(key, …)``.

    ``SysVMessageQueue.create``, ``attach`` and ``create_or_attach`` make and find it, by a number (its key) or by text
    that is hashed to one; it is pickled by key and id.  Each message has a type, a number from 1; whoever receives says
    which types it wants, and gets the first of those that was sent.  So one queue serves many: requests of type 1, each
    answer with the pid of who asked as its type.

    Messages outlive their senders, and the queue lives until it is unlinked, or the system ends.  Any number of
    processes and threads may send and receive.  Nobody learns that the others have gone.
    """

    __slots__ = ("__weakref__", "_capacity", "_found", "_key", "_name", "_receive", "_send", "_shut")
    _name: str | int
    _key: int
    _found: Any
    _capacity: int
    _shut: bool
    _send: Callable[..., Any]
    _receive: Callable[..., Any]

    def __init__(self) -> None:
        raise TypeError("a SysVMessageQueue is made by SysVMessageQueue.create, attach or create_or_attach")

    # ── making and finding ──────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def create(cls, name: str | int, capacity: SupportsIndex | str | None = None, *, mode: int = 0o600) -> Self:
        """Make one under a name or key, for ``capacity`` bytes of messages (None: kernel.msgmnb, 16 KiB).

        SegmentExists; NoSpace and SegmentPermission name the limit (msgmni, msgmnb), its value, and how to raise it.
        """
        key = key_of(name, "message queue")
        permissions(mode)
        nbytes = None if capacity is None else parse_size(capacity)
        try:
            found = sysv_ipc.MessageQueue(key, sysv_ipc.IPC_CREX, mode, _largest())
        except sysv_ipc.ExistentialError:
            raise SegmentExists(
                f"message queue {name!r} exists (SysV key {key:#x}): attach to it or unlink it"
            ) from None
        except sysv_ipc.PermissionsError:
            raise SegmentPermission(
                f"message queue {name!r}: user {os.geteuid()} may not use its key {key:#x}"
            ) from None
        except (OSError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno not in (None, errno.ENOSPC):
                raise
            raise limits.no_sysv_queue_left(name) from None
        made = cls._handle(name, key, found)
        if nbytes is not None and nbytes != made._capacity:
            try:
                made.capacity = nbytes
            except BaseException:
                made.unlink()
                raise
        return made

    @classmethod
    def attach(cls, name: str | int, *, owner: int | None = None) -> Self:
        """Find the one of that name or key.  SegmentNotFound.

        SegmentPermission if it belongs to another user or was made by one, unless that is ``owner``; or if its mode
        does not allow to use it.
        """
        key = key_of(name, "message queue")
        try:
            found = sysv_ipc.MessageQueue(key, 0, 0, _largest())
            users = {found.uid, found.cuid}
            made = cls._handle(name, key, found)
        except sysv_ipc.ExistentialError:
            raise SegmentNotFound(f"there is no message queue {name!r} (SysV key {key:#x})") from None
        except sysv_ipc.PermissionsError:
            raise SegmentPermission(
                f"message queue {name!r}: user {os.geteuid()} may not use SysV key {key:#x}"
            ) from None
        # Who made it may use it for ever, even after giving it to somebody else.
        for uid in users - {os.geteuid(), owner}:
            raise SegmentPermission(
                f"message queue {name!r} belongs to user {uid}, and this process to user {os.geteuid()}: "
                f"owner={uid} accepts that"
            )
        return made

    @classmethod
    def create_or_attach(
        cls,
        name: str | int,
        capacity: SupportsIndex | str | None = None,
        *,
        mode: int = 0o600,
        owner: int | None = None,
    ) -> Self:
        """Find the one of that name or key, whatever its capacity, or make it."""
        while True:
            try:
                return cls.create(name, capacity, mode=mode)
            except SegmentExists:
                pass
            try:
                return cls.attach(name, owner=owner)
            except SegmentNotFound:
                continue  # it went between the two: make it

    @classmethod
    def _handle(cls, name: str | int, key: int, found: Any) -> Self:
        made = cls.__new__(cls)
        made._name, made._key, made._found, made._shut = name, key, found, False
        made._send, made._receive, made._capacity = found.send, found.receive, found.max_size
        return made

    # ── messages ────────────────────────────────────────────────────────────────────────────────────────────────────

    def send(self, message: Buffer, timeout: float | None = None, mtype: int = 1) -> None:
        """Send it; waits while the queue is full.  TimeoutError; SegmentNotFound if it is removed meanwhile.

        ``mtype`` is its type, from 1 to 2**31 - 1.  RecordTooLarge (a ValueError) if the queue can never take it.
        """
        if type(message) is not bytes:
            message = flat(message)
        try:
            self._send(message, False, mtype)
        except sysv_ipc.BusyError:
            self._send_later(message, timeout, mtype)
        except (ValueError, OverflowError, OSError, sysv_ipc.Error) as error:
            raise self._explained(error, message, mtype) from None

    def _send_later(self, message: Any, timeout: float | None, mtype: int) -> None:
        deadline = Deadline(timeout)
        self._check_fits(message)

        def attempt(wait: bool) -> bool | None:
            try:
                self._send(message, wait, mtype)
            except sysv_ipc.BusyError:
                return None
            except (OSError, sysv_ipc.Error) as error:
                if type(error) is sysv_ipc.Error:
                    return None  # a signal
                raise self._explained(error, message, mtype) from None
            return True

        if blocking(attempt, deadline) is None:
            raise TimeoutError(f"message queue {self._name!r} was full for {timeout} s")

    def try_send(self, message: Buffer, mtype: int = 1) -> bool:
        """Send it if there is room; whether there was."""
        if type(message) is not bytes:
            message = flat(message)
        try:
            self._send(message, False, mtype)
        except sysv_ipc.BusyError:
            self._check_fits(message)
            return False
        except (ValueError, OverflowError, OSError, sysv_ipc.Error) as error:
            raise self._explained(error, message, mtype) from None
        return True

    def recv(self, timeout: float | None = None, mtype: int = 0, *, up_to: int = 0, other_than: int = 0) -> bytes:
        """The next message; waits for it.  TimeoutError; SegmentNotFound if the queue is removed meanwhile.

        Of type ``mtype``; of the lowest type that is at most ``up_to``; of any type but ``other_than``; by default of
        any.
        """
        if not up_to and not other_than and mtype >= 0:
            try:
                message: bytes = self._receive(timeout is None, mtype)[0]
                return message
            except (OverflowError, OSError, sysv_ipc.Error):
                pass  # there is none yet, or a signal came, or it will be explained
        return self.recv_typed(timeout, mtype, up_to=up_to, other_than=other_than)[0]

    def recv_typed(
        self, timeout: float | None = None, mtype: int = 0, *, up_to: int = 0, other_than: int = 0
    ) -> tuple[bytes, int]:
        """The next message and its type; see ``recv``."""
        take = self._taking(mtype, up_to, other_than)
        received = take(False)
        if received is None:
            received = blocking(take, Deadline(timeout))
            if received is None:
                raise TimeoutError(f"nothing came to message queue {self._name!r} within {timeout} s")
        return received

    def try_recv(self, mtype: int = 0, *, up_to: int = 0, other_than: int = 0) -> bytes | None:
        """The next message; None: there is none.  See ``recv``."""
        received = self._taking(mtype, up_to, other_than)(False)
        return None if received is None else received[0]

    def try_recv_typed(self, mtype: int = 0, *, up_to: int = 0, other_than: int = 0) -> tuple[bytes, int] | None:
        """The next message and its type; None: there is none.  See ``recv``."""
        return self._taking(mtype, up_to, other_than)(False)

    def _taking(self, mtype: int, up_to: int, other_than: int) -> Callable[[bool], tuple[bytes, int] | None]:
        """What receives a message of the types that are wanted; None: there is none, or a signal came."""
        if bool(mtype) + bool(up_to) + bool(other_than) > 1:
            raise ValueError("the types that are wanted are said in one way: by mtype, by up_to, or by other_than")
        if other_than:
            return partial(self._take_other_than, _type_of(other_than, "other_than"))
        code = -_type_of(up_to, "up_to") if up_to else _type_of(mtype, "mtype") if mtype else 0

        def take(wait: bool) -> tuple[bytes, int] | None:
            try:
                received: tuple[bytes, int] = self._receive(wait, code)
            except sysv_ipc.BusyError:
                return None
            except (OSError, sysv_ipc.Error) as error:
                if type(error) is sysv_ipc.Error:
                    return None  # a signal
                raise self._explained(error) from None
            return received

        return take

    def _take_other_than(self, mtype: int, wait: bool) -> tuple[bytes, int] | None:
        return self._receive_directly(mtype, _MSG_EXCEPT if wait else _MSG_EXCEPT | _IPC_NOWAIT)

    def peek(self, position: SupportsIndex = 0) -> tuple[bytes, int] | None:
        """A copy of the message at that position, and its type; None: there are not so many.  It stays in the queue.

        NotImplementedError where the kernel was built without CONFIG_CHECKPOINT_RESTORE.
        """
        number = position.__index__()
        if not 0 <= number <= MOST_TYPE:
            raise ValueError(f"a position is a number from 0: got {position!r}")
        return self._receive_directly(number, _MSG_COPY | _IPC_NOWAIT)

    def _receive_directly(self, mtype: int, flags: int) -> tuple[bytes, int] | None:
        if self._shut:
            _closed(self._name)
        size = _largest()
        buffer = ctypes.create_string_buffer(8 + size)
        count = _msgrcv(self._found.id, buffer, size, mtype, flags)
        if count >= 0:
            return buffer.raw[8 : 8 + count], ctypes.c_long.from_buffer(buffer).value
        number = ctypes.get_errno()
        if number in (errno.ENOMSG, errno.EINTR):
            return None
        if number == errno.ENOSYS:
            raise NotImplementedError("this kernel cannot peek: it was built without CONFIG_CHECKPOINT_RESTORE")
        raise self._explained(OSError(number, os.strerror(number)))

    def _check_fits(self, message: Any) -> None:
        nbytes = memoryview(message).nbytes
        if nbytes > self._capacity:
            self._capacity = self.capacity
            if nbytes > self._capacity:
                raise limits.too_large_for_sysv(self._name, nbytes, self._capacity)

    def _explained(self, error: Exception, message: Any = b"", mtype: Any = 1) -> Exception:
        number = error.errno if isinstance(error, OSError) else None
        if isinstance(error, Closed):
            return error
        if isinstance(error, sysv_ipc.ExistentialError) or number == errno.EIDRM:
            return SegmentNotFound(f"message queue {self._name!r} was removed")
        if isinstance(error, sysv_ipc.PermissionsError) or number == errno.EACCES:
            return SegmentPermission(f"message queue {self._name!r}: user {os.geteuid()} may not do that")
        if number == errno.E2BIG:
            return OSError(
                errno.E2BIG,
                f"the next message in queue {self._name!r} is larger than any could be when this handle was made "
                "(kernel.msgmax was raised): attach to it again; the message stays in the queue",
            )
        if not 0 < mtype <= MOST_TYPE:
            return ValueError(f"mtype is a type of messages, from 1 to {MOST_TYPE}: got {mtype}")
        nbytes = memoryview(message).nbytes
        if nbytes > min(limits.sysv_limit("msgmax"), self._capacity):
            return limits.too_large_for_sysv(self._name, nbytes, self._capacity)
        if number == errno.EINVAL:
            return SegmentNotFound(f"message queue {self._name!r} was removed")
        return error

    # ── what the kernel knows ───────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, what: str) -> Any:
        if self._shut:
            _closed(self._name)
        try:
            return getattr(self._found, what)
        except sysv_ipc.ExistentialError:
            raise SegmentNotFound(f"message queue {self._name!r} was removed") from None
        except sysv_ipc.PermissionsError:
            raise SegmentPermission(f"message queue {self._name!r}: user {os.geteuid()} may not read it") from None

    def __len__(self) -> int:
        """How many messages are in it now."""
        return int(self._ask("current_messages"))

    def __bool__(self) -> bool:
        return True

    @property
    def name(self) -> str | int:
        """What it is attached by."""
        return self._name

    @property
    def key(self) -> int:
        """Its System V key."""
        return self._key

    @property
    def id(self) -> int:
        """Its System V identifier: the number that msgsnd takes."""
        return int(self._found.id)

    @property
    def capacity(self) -> int:
        """How many bytes it can hold, all messages together.  Set it to have another.

        More than kernel.msgmnb only root may: SegmentPermission says what the limit is.
        """
        return int(self._ask("max_size"))

    @capacity.setter
    def capacity(self, capacity: SupportsIndex | str) -> None:
        nbytes = parse_size(capacity)
        if not 0 < nbytes < 2**31:
            raise ValueError(
                f"a message queue has a capacity of at least one byte, and less than 2 GiB: got {capacity!r}"
            )
        self._ask("max_size")
        try:
            self._found.max_size = nbytes
        except sysv_ipc.PermissionsError:
            most = limits.sysv_limit("msgmnb")
            if nbytes > most:
                why = (
                    f"more than kernel.msgmnb ({most}) only root may give it; root raises that with "
                    f"`sysctl kernel.msgmnb={nbytes}`"
                )
            else:
                why = f"user {os.geteuid()} is not its owner"
            raise SegmentPermission(
                f"message queue {self._name!r} cannot have a capacity of {nbytes} bytes: {why}"
            ) from None
        self._capacity = nbytes

    @property
    def mode(self) -> int:
        """Who may use it, as in ``chmod``.  It can be set."""
        return int(self._ask("mode")) & 0o777

    @mode.setter
    def mode(self, mode: int) -> None:
        self._ask("mode")
        try:
            self._found.mode = permissions(mode)
        except sysv_ipc.PermissionsError:
            raise SegmentPermission(f"message queue {self._name!r}: only its owner may change its mode") from None

    @property
    def owner(self) -> int:
        """The user that it belongs to."""
        return int(self._ask("uid"))

    def statistics(self) -> SysVQueueStatistics:
        """What the kernel knows of it now."""
        return SysVQueueStatistics(
            self.capacity,
            len(self),
            bytes_in(self.id),
            self._ask("last_send_pid"),
            self._ask("last_receive_pid"),
            self._ask("last_send_time"),
            self._ask("last_receive_time"),
        )

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def closed(self) -> bool:
        """Whether this handle was closed."""
        return self._shut

    def close(self) -> None:
        """End the use of this handle; messages and other handles are not touched.  Idempotent.

        A thread that waits through this handle goes on waiting until its time is up, a message or a signal comes.
        """
        self._shut = True
        self._send = self._receive = partial(_closed, self._name)

    def unlink(self) -> None:
        """Remove it with its messages, at once: System V has no name to remove alone.  Waits end in SegmentNotFound."""
        _remove(self._found.id, self._name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        users = {self._ask("uid"), self._ask("cuid")} - {os.geteuid()}
        return _attach_same, (type(self), self._name, self.id, min(users, default=None))

    def __repr__(self) -> str:
        what = f"shmkit.mqueue.{type(self).__name__} {self._name!r}"
        if self._shut:
            return f"<{what}: closed>"
        try:
            return f"<{what}: {len(self)} messages>"
        except SegmentNotFound:
            return f"<{what}: removed>"


def _largest() -> int:
    """The largest message that a handle is ready for."""
    return max(limits.sysv_limit("msgmax"), 8192)


def _attach_same(kind: type[SysVMessageQueue], name: str | int, msqid: int, owner: int | None) -> SysVMessageQueue:
    """What a pickle calls.  Whose the queue is was the sender's affair, as long as it is the same queue."""
    found = kind.attach(name, owner=owner)
    if found.id != msqid:
        raise SegmentNotFound(f"message queue {name!r} is gone: another one has its SysV key {found.key:#x} by now")
    return found


def _remove(msqid: int, name: str | int) -> None:
    try:
        sysv_ipc.remove_message_queue(msqid)
    except sysv_ipc.ExistentialError:
        raise SegmentNotFound(f"message queue {name!r} was removed already") from None
    except sysv_ipc.PermissionsError:
        raise SegmentPermission(f"message queue {name!r}: user {os.geteuid()} may not remove it") from None


def unlink_sysv(name: str | int, missing_ok: bool = False) -> None:
    """Removes the SysV message queue of that name or key; whoever waits gets SegmentNotFound."""
    try:
        try:
            msqid = sysv_ipc.MessageQueue(key_of(name, "message queue"), 0, 0).id
        except sysv_ipc.ExistentialError:
            raise SegmentNotFound(f"there is no message queue {name!r} (SysV key {key_of(name):#x})") from None
        except sysv_ipc.PermissionsError:
            raise SegmentPermission(f"message queue {name!r}: user {os.geteuid()} may not remove it") from None
        _remove(msqid, name)
    except SegmentNotFound:
        if not missing_ok:
            raise
