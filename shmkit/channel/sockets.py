"""Channels over sockets: UNIX (streams and packets) and TCP."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import socket
from collections.abc import Callable
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any

from shmkit._small import PACKETS
from shmkit.channel.base import Channel, generation
from shmkit.channel.door import Door, Listening
from shmkit.channel.frame import (
    FAREWELL,
    GREETING,
    HEADER,
    Frame,
    Incoming,
    begin,
    message_of,
    note,
    open_header,
    parse,
)
from shmkit.channel.options import Rules, file_mode, one_of, users
from shmkit.channel.presence import Presence
from shmkit.channel.quick import QuickChannel
from shmkit.channel.stream import StreamChannel
from shmkit.channel.transport import SocketStream
from shmkit.channel.url import Address
from shmkit.errors import Broken, ChannelError, EndOfStream, PeerDied, RecordCorrupt, RecordTooLarge
from shmkit.socket import Listener, connect_tcp, connect_unix, listen_tcp, listen_unix, pair
from shmkit.socket.authentication import KEY_LEAST
from shmkit.waiting import Deadline, writable

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Server", "connect_socket", "listen_socket", "pair_sockets", "serve"]

# Asked for in each direction; the kernel gives up to net.core.wmem_max.
BUFFER = 2**20


def _key_of(value: Any) -> bytes:
    """A key: bytes, or text that is encoded."""
    if not isinstance(value, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"a key is bytes, or text: got {type(value).__name__}")
    found = value.encode() if isinstance(value, str) else bytes(value)
    if len(found) < KEY_LEAST:
        raise ValueError(f"a key has at least {KEY_LEAST} bytes: got {len(found)}")
    return found


UNIX_OPTIONS: Rules = {"mode": file_mode, "type": one_of("stream", "seqpacket"), "users": users}
TCP_OPTIONS: Rules = {"key": _key_of}


class _Waiting(Listening, StreamChannel):
    """The end of a stream that listens."""

    def _listen(self, listener: Listener) -> None:
        self._door = Door(listener, lambda sock: self._take(None if sock is None else _tuned(sock)), self._where)

    def _link(self) -> object | None:
        return self._stream

    def _in_fd(self) -> int:
        stream, door = self._stream, self._door
        return stream.receiving if stream is not None else door.fileno() if door is not None else -1

    _out_fd = _in_fd

    def _close(self, linger: float) -> None:
        if self._door is not None:
            self._door.close()
        super()._close(linger)


def _tuned(sock: socket.socket) -> SocketStream:
    sock.setblocking(True)
    if sock.family == socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    return SocketStream(sock)


_LOOK = socket.MSG_DONTWAIT | socket.MSG_PEEK


def _received(call: Callable[..., Any], *args: Any) -> Any:
    """A call that receives packets, made again where it said instead that the other end closed without reading all.

    The kernel says so once, at whichever call comes next, before what is still to be received.
    """
    with contextlib.suppress(ConnectionResetError):
        return call(*args)
    return call(*args)


# No packet is larger: a sender's buffer is twice what was asked for, at most.
_PACKET_MOST = 2 * BUFFER


class PacketChannel(Listening, QuickChannel):
    """A channel over a UNIX socket that keeps packets apart (SOCK_SEQPACKET): a message is one packet."""

    def __init__(self, sock: socket.socket | None, url: str, listener: Listener | None = None, **options: Any) -> None:
        super().__init__(url, **options)
        self._sock: socket.socket | None = None
        self._door = Door(listener, self._take, url) if listener is not None else None
        self._greeted = False
        self._notes: list[bytes] = []
        self._out: list[Any] = []
        self._nbytes = 0
        self._presence: Presence = Presence(True)
        self._head = bytearray(HEADER.size)
        if sock is not None:
            self._take(sock)

    def _take(self, sock: socket.socket | None) -> None:
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self._sock = sock

    def _in_fd(self) -> int:
        sock, door = self._sock, self._door
        return sock.fileno() if sock is not None else door.fileno() if door is not None else -1

    _out_fd = _in_fd

    def _link(self) -> object | None:
        return self._sock

    def _connected(self) -> socket.socket | None:
        return self._sock if self._connect_step() else None

    def _shorten_send(self) -> None:
        if self._sock is None or not self._greeted or self._notes:
            self._open_send(-1, 0, 0)
        else:
            self._open_send(self._sock.fileno(), PACKETS, self._limit)

    def _shorten_recv(self) -> None:
        if self._sock is None or not self._greeted:
            self._open_recv(-1, 0, 0)
        else:
            self._open_recv(self._sock.fileno(), PACKETS, self._limit, _PACKET_MOST)

    def _torn(self, total: int) -> None:
        raise RecordTooLarge(f"a packet of {total} bytes came through {self._where}: no end sends such, and it is lost")

    def _begin_send(self, frame: Frame) -> None:
        self._greet()
        self._out = [frame.header() + frame.meta, *(part for part in frame.buffers if len(part))]
        self._nbytes = frame.nbytes

    def _greet(self) -> None:
        if not self._greeted:
            self._notes.append(note(GREETING))
            self._greeted = True

    def _send_step(self) -> bool:
        sock = self._connected()
        if sock is None:
            return False
        while self._notes:
            if not self._put(sock, [self._notes[0]]):
                return False
            del self._notes[0]
        return self._put(sock, self._out)

    def _put(self, sock: socket.socket, parts: list[Any]) -> bool:
        if len(parts) > 1024:
            parts = [b"".join(parts)]
        try:
            sock.sendmsg(parts, [], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            if self._presence.abandoned:
                raise self._nobody() from None
            return False
        except OSError as error:
            if error.errno in (errno.EMSGSIZE, errno.ENOBUFS):
                room = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
                raise RecordTooLarge(
                    f"a message of {self._nbytes} bytes is more than a packet of {self._where} can have: the socket's "
                    f"buffer is {room} bytes, which root raises with `sysctl net.core.wmem_max`; leave out "
                    "type=seqpacket for messages of any size"
                ) from None
            if isinstance(error, ConnectionError):
                self._notes.clear()
                raise self._nobody() from None
            raise
        return True

    def _nobody(self) -> Exception:
        pid = self._presence.died()
        if pid:
            return PeerDied(f"process {pid}, at the other end of {self._where}, died", pid)
        return Broken(f"nobody receives from {self._where} any more")

    def _give_up(self, keep: bool) -> bool:
        self._out = []
        return False

    def _recv_step(self, into: memoryview | None) -> Incoming | None:
        sock = self._connected()
        if sock is None:
            return None
        if not self._greeted and self._send_turn.try_take():
            try:
                self._greet()
                if self._put(sock, [self._notes[0]]):
                    del self._notes[0]
            except Broken:
                pass
            finally:
                self._send_turn.give()
        while True:
            if self._fed:
                incoming = message_of(parse(self._fed.pop(0), self._limit, self._where), self._presence)
                if incoming is not None:
                    return incoming
            try:
                # Looked at first: how long it is, and what.
                total = _received(sock.recv_into, self._head, 0, _LOOK | socket.MSG_TRUNC)
            except BlockingIOError:
                if self._presence.abandoned or self._presence.left:
                    raise self._ended() from None
                return None
            if not total:
                raise self._ended()
            try:
                incoming = message_of(self._taken(sock, total), self._presence)
            except (RecordCorrupt, RecordTooLarge):
                _received(sock.recv_into, bytearray(1), 0, socket.MSG_DONTWAIT)  # the rest of a packet goes with it
                raise
            if incoming is not None:
                return incoming

    def _taken(self, sock: socket.socket, total: int) -> Incoming:
        if total < HEADER.size:
            raise RecordCorrupt(f"what came through {self._where} is no message: it has {total} bytes")
        kind, size, nbytes = open_header(self._head, self._limit, self._where)
        if total != HEADER.size + size + nbytes:
            raise RecordCorrupt(f"a message of {total} bytes came through {self._where}: {size} and {nbytes} were said")
        if not size:
            incoming = begin(kind, b"", nbytes, self._where)
            _received(sock.recvmsg_into, [self._head, *incoming.targets], 0, socket.MSG_DONTWAIT)
            return incoming
        meta = bytearray(HEADER.size + size)
        _received(sock.recv_into, meta, 0, _LOOK)
        incoming = begin(kind, bytes(meta[HEADER.size :]), nbytes, self._where)
        if len(incoming.targets) < 1000:
            _received(sock.recvmsg_into, [meta, *incoming.targets], 0, socket.MSG_DONTWAIT)
        else:
            whole = memoryview(_received(sock.recv, total, socket.MSG_DONTWAIT))[len(meta) :]
            for target in incoming.targets:
                target[:], whole = whole[: target.nbytes], whole[target.nbytes :]
        return incoming

    def _ended(self) -> Exception:
        if self._presence.anybody:
            pid = self._presence.pid
            return PeerDied(f"process {pid} at the other end of {self._where} died", pid)
        return EndOfStream(f"the other end of {self._where} has closed, and all is received")

    def _after_fork(self) -> None:
        self._greeted = False
        self._notes, self._out = [], []

    def _close(self, linger: float) -> None:
        if self._door is not None:
            self._door.close()
        sock, self._sock = self._sock, None
        if sock is None:
            return
        if self._greeted and self._generation == generation():
            self._notes.append(note(FAREWELL))
            deadline = Deadline(linger)
            try:
                while self._notes:
                    if self._put(sock, [self._notes[0]]):
                        del self._notes[0]
                    elif not _room(sock, deadline):
                        break
            except (Broken, OSError):
                pass  # nobody is there to take leave from
        sock.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._closed or self._sock is None or self._held or self._fed:
            raise ChannelError(f"{self._where} is closed, not connected, or holds a message: it cannot be handed on")
        return _packets_again, (reduction.DupFd(self._sock.fileno()), self._url, self._limit, self._presence)


def _room(sock: socket.socket, deadline: Deadline) -> bool:
    return writable(sock.fileno(), deadline)


def _packets_again(given: Any, url: str, limit: int, presence: Presence) -> PacketChannel:
    sock = socket.socket(fileno=given.detach())
    sock.set_inheritable(False)
    made = PacketChannel(sock, url, sends=True, receives=True, max_message=limit)
    made._presence = presence
    return made


class Server:
    """Takes many connections: ``accept`` gives an end for each, once it has been checked."""

    def __init__(self, url: str, listener: Listener, packets: bool, common: dict[str, Any]) -> None:
        self._url = url
        self._listener = listener
        self._packets = packets
        self._common = common

    @property
    def url(self) -> str:
        """Where to connect to: with the port that was chosen."""
        return self._url

    def fileno(self) -> int:
        """Readable when somebody may have come."""
        return self._listener.fileno()

    @property
    def refused(self) -> int:
        """How many were turned away: they did not know the key, or were another user's."""
        return self._listener.refused

    def accept(self, timeout: float | None = None) -> Channel:
        """The end that talks to the next one who connects.  TimeoutError."""
        return _end_of(self._listener.accept(timeout), self._url, self._packets, self._common)

    def try_accept(self) -> Channel | None:
        """The same without waiting; None: nobody."""
        found = self._listener.try_accept()
        return None if found is None else _end_of(found, self._url, self._packets, self._common)

    def close(self) -> None:
        """Listen no longer; a socket file goes."""
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._url}: {'closed' if self._listener.closed else 'open'}>"


def _end_of(sock: socket.socket, url: str, packets: bool, common: dict[str, Any]) -> Channel:
    if packets:
        return PacketChannel(sock, url, sends=True, receives=True, **common)
    local = sock.family == socket.AF_UNIX
    return StreamChannel(_tuned(sock), url, local, sends=True, receives=True, **common)


def _key(options: dict[str, Any]) -> bytes:
    """The key that both sides have to know: children of a program have the one that multiprocessing gives them."""
    key: bytes | None = options.get("key")
    return bytes(multiprocessing.current_process().authkey) if key is None else key


def _packets(options: dict[str, Any]) -> bool:
    return options.get("type") == "seqpacket"


def _listener(address: Address, options: dict[str, Any]) -> tuple[Listener, str]:
    if address.scheme == "tcp":
        listener = listen_tcp(address.host, address.port, key=_key(options))
        host, port = listener.socket.getsockname()[:2]
        return listener, f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
    if not address.place:
        raise ValueError(f"{address.url!r} has no path and no name: it is written unix:///path or unix://@name")
    mode = options.get("mode", 0o600)
    kind = "seqpacket" if _packets(options) else "stream"
    return listen_unix(address.place, kind, mode=mode, users=options.get("users")), address.url  # type: ignore[arg-type]


def listen_socket(address: Address, options: dict[str, Any], common: dict[str, Any]) -> Channel:
    """An end whose other end is the first who connects."""
    listener, url = _listener(address, options)
    if _packets(options):
        return PacketChannel(None, url, listener, sends=True, receives=True, **common)
    made = _Waiting(None, url, address.scheme == "unix", sends=True, receives=True, **common)
    made._listen(listener)
    return made


def serve(address: Address, options: dict[str, Any], common: dict[str, Any]) -> Server:
    """What takes many connections."""
    listener, url = _listener(address, options)
    return Server(url, listener, _packets(options), common)


def connect_socket(
    address: Address, options: dict[str, Any], common: dict[str, Any], timeout: float | None = 0.0
) -> Channel:
    """The end that connects."""
    packets = _packets(options)
    if address.scheme == "tcp":
        sock = connect_tcp(address.host, address.port, key=_key(options), timeout=timeout)
    else:
        kind = "seqpacket" if packets else "stream"
        sock = connect_unix(address.place, kind, timeout=timeout, users=options.get("users"))  # type: ignore[arg-type]
    return _end_of(sock, address.url, packets, common)


def pair_sockets(address: Address, options: dict[str, Any], common: dict[str, Any]) -> tuple[Channel, Channel]:
    """Two ends, each of which sends and receives."""
    packets = _packets(options)
    one, other = pair("seqpacket" if packets else "stream")
    return _end_of(one, address.url, packets, common), _end_of(other, address.url, packets, common)
