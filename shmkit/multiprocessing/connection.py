"""``multiprocessing.connection`` with pipes whose large messages go through shared memory.

A connection is its descriptor, as the standard library's is: what it writes and reads, and when it is readable or has
ended, is the same, but for messages of more than 16 KiB between the two ends of a ``Pipe``, of which only a note goes
that way.  A connection to whoever else (``Listener``, ``Client``, a descriptor from elsewhere) sends what the standard
library's sends.
"""

from __future__ import annotations

import _socket
import copyreg
import io
import multiprocessing.connection as _theirs
import os
from functools import cache
from multiprocessing import reduction
from pickle import loads
from typing import TYPE_CHECKING, Any, NoReturn

from shmkit import _wire
from shmkit.errors import ShmkitError
from shmkit.multiprocessing._same import attributes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmkit._pair import Pair

__all__ = ["Client", "Connection", "Listener", "Pipe", "wait"]

_get, __dir__ = attributes_of(_theirs)

wait = _theirs.wait

_OWN = {"_handle", "_pair", "_side"}


def __getattr__(name: str) -> Any:
    return _get(name)


class Connection(_theirs.Connection):
    """One end of a pipe, or a connection to another process, by its descriptor."""

    _pair: Pair | None = None  # what is known of the other end, if that is ours too
    _side = 0  # which end of the pair this is
    _handle: Any = None

    if TYPE_CHECKING:  # what the standard library's has, and its stubs have not
        _readable: bool
        _writable: bool
        _check_closed: Callable[[], None]
        _check_readable: Callable[[], None]
        _check_writable: Callable[[], None]
        _bad_message_length: Callable[[], NoReturn]

    def send(self, obj: Any) -> None:
        """Send an object."""
        pair = self._pair
        handle = self._handle
        if handle is None or not self._writable:
            self._check_closed()
            self._check_writable()
        if pair is None:
            self._send_bytes(reduction.ForkingPickler.dumps(obj))
        else:
            pair.send(handle, self._side, obj)

    def recv(self) -> Any:
        """Receive an object."""
        pair = self._pair
        handle = self._handle
        if handle is None or not self._readable:
            self._check_closed()
            self._check_readable()
        if pair is not None:
            return pair.recv(handle, self._side)
        data = _wire.read(handle)
        if data is None:
            from shmkit._pair import recv_noted

            return recv_noted(handle)
        return loads(data)  # type: ignore[arg-type]  # it is True only of what is too long

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Receive bytes, or the pickle of an object; OSError if they are more than `maxlength`."""
        if self._handle is None or not self._readable:
            self._check_closed()
            self._check_readable()
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        data: bytes | None = self._read(maxlength)
        if data is None:
            self._bad_message_length()
        return data

    def _read(self, most: int | None) -> Any:
        """Bytes; None: there are more than `most`."""
        pair = self._pair
        handle = self._number()
        if pair is not None:
            return pair.recv_bytes(handle, self._side, most)
        data = _wire.read(handle, most)
        if data is None:
            from shmkit._pair import recv_noted_bytes

            return recv_noted_bytes(handle, most)
        return None if data is True else data

    # Another thread may close it at any time: who has looked at the pair, and after that at the descriptor, is told so.

    def _number(self) -> int:
        handle: int | None = self._handle
        if handle is None:
            raise OSError("handle is closed")
        return handle

    # What the standard library's other methods stand on, and others use.

    def _send_bytes(self, buf: Any) -> None:
        pair = self._pair
        if pair is None:
            super()._send_bytes(buf)  # type: ignore[misc]
        else:
            pair.send_bytes(self._number(), self._side, buf)

    def _recv_bytes(self, maxsize: int | None = None) -> io.BytesIO | None:
        data = self._read(maxsize)
        if data is None:
            return None
        buffer = io.BytesIO(data)
        buffer.seek(len(data))  # as after writing it
        return buffer

    def _poll(self, timeout: float | None) -> bool:
        return _wire.poll(self._number(), timeout)

    def fileno(self) -> int:
        """The descriptor."""
        pair = self._pair
        handle = self._number()
        if pair is not None:
            pair.expose(handle, self._side)
        return handle

    # Copies, and pickles, have a descriptor of their own: who closes one closes no other.

    def __copy__(self) -> Any:
        made = self._copy()
        made.__dict__.update(self._beside())
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        from copy import deepcopy

        made = memo[id(self)] = self._copy()
        made.__dict__.update(deepcopy(self._beside(), memo))
        return made

    def _copy(self) -> Any:
        made = self.__class__.__new__(self.__class__)
        given, side = _given(self), self._side
        if self._handle is not None:
            made._handle = os.dup(self._number())
            made._share(given, side)
        return made

    def _beside(self) -> dict[str, Any]:
        """What it has but for what is its own alone."""
        return {name: v for name, v in self.__dict__.items() if name not in _OWN}

    def __reduce_ex__(self, protocol: Any) -> Any:
        # To any pickler, also one that knows the standard library's class by its name, as that is in a ForkingPickler.
        if type(self) is Connection and self._handle is not None:
            return reduce_connection(self)
        given = _given(self)
        descriptor = None if self._handle is None else reduction.DupFd(self._handle)
        return copyreg.__newobj__, (type(self),), (descriptor, given, self._side, self._beside())  # type: ignore[attr-defined]

    def __setstate__(self, state: Any) -> None:
        descriptor, given, side, beside = state
        self.__dict__.update(beside)
        if descriptor is not None:
            self._handle = descriptor.detach()
            self._share(given, side)

    def _share(self, given: tuple[Any, ...] | None, side: int) -> None:
        """Has in common with the other end what `_given` says."""
        if given is not None:
            from shmkit._pair import find_pair

            try:
                self._pair, self._side = find_pair(*given), side
            except (ShmkitError, OSError):
                pass  # what it sends goes through the pipe; what it is sent it can reach all the same, or says so

    def _close(self, _close: Any = os.close) -> None:
        handle = self.__dict__.pop("_handle", None)  # one thread gets it
        pair = self._pair
        if handle is not None and (pair is None or not pair.leave_end(handle, self._side)):
            _close(handle)
        self._pair = None


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:  # noqa: N802
    """Two connections to each other; if not `duplex`, the first only reads, and the second only writes."""
    pair = _new_pair()()
    one, other = Connection.__new__(Connection), Connection.__new__(Connection)
    one._handle, other._handle = _two_sockets() if duplex else os.pipe()
    one._readable = other._writable = True
    one._writable = other._readable = bool(duplex)
    one._pair = other._pair = pair
    other._side = 1
    return one, other


def _two_sockets() -> tuple[int, int]:
    # The socket module's own asks the kernel what it knows.
    one, other = _socket.socketpair()
    if _socket.getdefaulttimeout() is not None:
        one.setblocking(True)
        other.setblocking(True)
    return one.detach(), other.detach()


@cache
def _new_pair() -> Callable[[], Pair]:
    # Not before the first is made: it brings NumPy.
    from shmkit._pair import new_pair

    return new_pair


class Listener(_theirs.Listener):
    """Where others connect to."""

    def accept(self) -> Any:
        """A connection to the next who comes."""
        return _ours(super().accept())


def Client(address: Any, family: str | None = None, authkey: bytes | None = None) -> Any:  # noqa: N802
    """A connection to who listens there."""
    return _ours(_theirs.Client(address, family, authkey))


def _ours(made: Any) -> Any:
    if type(made) is _theirs.Connection:
        made.__class__ = Connection
    return made


# ------------------------------------------------------------------------------------------------- to another process


def reduce_connection(conn: Connection) -> tuple[Any, ...]:
    """What goes into a pickle: the descriptor, and what the ends have in common."""
    given = _given(conn)
    conn._check_closed()
    descriptor = reduction.DupFd(conn._handle)  # a copy, not the number: that stays unknown
    return rebuild_connection, (descriptor, conn.readable, conn.writable, given, conn._side)


def _given(conn: Connection) -> tuple[Any, ...] | None:
    """What the two ends have in common, for another object at this end."""
    pair = conn._pair
    if pair is not None:
        try:
            return pair.give()
        except (ShmkitError, OSError):
            pass
    return None


def rebuild_connection(
    descriptor: Any, readable: bool, writable: bool, given: tuple[Any, ...] | None, side: int
) -> Connection:
    """The connection that a pickle says."""
    made = Connection(descriptor.detach(), readable, writable)
    made._share(given, side)
    return made


reduction.register(Connection, reduce_connection)
