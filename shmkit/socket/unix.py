"""UNIX sockets: names that a dead server left are taken over, and each side can know who the other is."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import struct
import time
from collections.abc import Collection, Iterator
from typing import Literal, NamedTuple

from shmkit._modes import permissions
from shmkit.errors import NoPeer, Refused, SegmentExists
from shmkit.files.watching import Hint
from shmkit.socket.listener import Listener
from shmkit.waiting import Deadline

__all__ = ["Peer", "check_peer", "connect_unix", "listen_unix", "pair", "peer_of"]

Kind = Literal["stream", "seqpacket", "datagram"]
_KINDS = {"stream": socket.SOCK_STREAM, "seqpacket": socket.SOCK_SEQPACKET, "datagram": socket.SOCK_DGRAM}
# sockaddr_un has room for 108 bytes; a path ends with a zero byte, an abstract name begins with one.
_NAME_MOST = 107
_ALONE_SECONDS = 5.0


class Peer(NamedTuple):
    """Who was at the other end when the connection was made, by the kernel's word."""

    pid: int
    """The process id, in this process's namespace; 0: in another."""
    uid: int
    """The effective user."""
    gid: int
    """The effective group."""


def peer_of(sock: socket.socket) -> Peer:
    """Who connected, listened or made the pair (SO_PEERCRED): not who has been given the socket since."""
    return Peer(*struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))


def check_peer(sock: socket.socket, users: Collection[int] | None = None) -> Peer:
    """Who is at the other end, if it is one of ``users`` (None: this process's user, or root); Refused if not."""
    peer = peer_of(sock)
    allowed = {os.geteuid(), 0} if users is None else users
    if peer.uid not in allowed:
        raise Refused(
            f"process {peer.pid} of user {peer.uid} is at the other end: {sorted(allowed)} may be (this process's user "
            "and root, unless told otherwise)"
        )
    return peer


def _type(kind: str) -> socket.SocketKind:
    if kind not in _KINDS:
        raise ValueError(f"a UNIX socket's type is one of {', '.join(_KINDS)}: got {kind!r}")
    return _KINDS[kind]


def _address(name: str | os.PathLike[str]) -> str:
    """The address: a path, or, after an @, a name of the kernel's own (abstract)."""
    path = os.fspath(name)
    if not path or "\0" in path:
        raise ValueError(f"a UNIX socket is named by a path, or by @ and a name: got {name!r}")
    if len(os.fsencode(path)) > _NAME_MOST:
        raise ValueError(
            f"a UNIX socket's name takes at most {_NAME_MOST} bytes: got {len(os.fsencode(path))}, {path!r}"
        )
    return "\0" + path[1:] if path.startswith("@") else path


def pair(kind: Kind = "stream") -> tuple[socket.socket, socket.socket]:
    """Two sockets that are connected to each other."""
    one, other = socket.socketpair(socket.AF_UNIX, _type(kind))
    return one, other


def listen_unix(
    name: str | os.PathLike[str],
    kind: Kind = "stream",
    *,
    mode: int = 0o600,
    users: Collection[int] | None = None,
    backlog: int = 128,
) -> Listener:
    """Listens at a path, or at an abstract name (``@name``), for connections of ``users`` (see `check_peer`).

    A socket file that a dead server left is replaced; where somebody listens, or something else stands, it is
    SegmentExists.  The file has exactly ``mode``, and goes when the listener is closed.  A datagram socket is bound
    and does not listen: take it as ``.socket``.  ValueError, TypeError: ``mode`` is no number from 0 to 0o777.
    """
    address = _address(name)
    permissions(mode)
    sock = socket.socket(socket.AF_UNIX, _type(kind))
    try:
        if address.startswith("\0"):
            _bind(sock, address, name)
            mine = None
        else:
            # bind gives the file the socket's own mode, less the umask: never more than wanted, not even for a moment.
            os.fchmod(sock.fileno(), mode)
            with _alone_in(os.path.dirname(address) or "."):
                _remove_stale(address)
                _bind(sock, address, name)
            if stat.S_IMODE(os.stat(address).st_mode) != mode:
                os.chmod(address, mode)
            mine = os.stat(address)
        if kind != "datagram":
            sock.listen(backlog)
    except BaseException:
        sock.close()
        raise

    def remove() -> None:
        if mine is None:
            return
        with contextlib.suppress(OSError):
            now = os.lstat(address)
            if (now.st_dev, now.st_ino) == (mine.st_dev, mine.st_ino):
                os.unlink(address)

    def admit(new: socket.socket) -> None:
        check_peer(new, users)

    return Listener(sock, admit, remove, f"unix://{os.fspath(name)}")


def _bind(sock: socket.socket, address: str, name: object) -> None:
    try:
        sock.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SegmentExists(f"somebody listens at {os.fspath(name)!r} already") from None  # type: ignore[call-overload]
        raise OSError(error.errno, f"{error.strerror}: UNIX socket {name!r}") from None


@contextlib.contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """Keeps two servers from replacing the same stale file, the second one the first one's new one.

    TimeoutError: somebody has locked the folder, which takes a moment here.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = Deadline(_ALONE_SECONDS)
        while not _locked(fd):
            if deadline.passed:
                raise TimeoutError(f"folder {folder!r} has been locked (flock) by somebody for {_ALONE_SECONDS} s")
            time.sleep(0.002)
        yield
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_stale(path: str) -> None:
    """Removes a socket file at which nobody listens; SegmentExists for whatever else stands there."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise SegmentExists(f"there is a file at {path!r} that is no socket")
    # A datagram socket cannot connect to one of another type: the kernel says so (EPROTOTYPE) if there is one, refuses
    # if there is none, and whoever listens does not notice.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            pass
        except OSError as error:
            why = "" if error.errno == errno.EPROTOTYPE else f" ({error.strerror})"
            raise SegmentExists(f"somebody listens at {path!r} already{why}") from None
        else:
            raise SegmentExists(f"somebody listens at {path!r} already")
    os.unlink(path)


def connect_unix(
    name: str | os.PathLike[str],
    kind: Kind = "stream",
    *,
    timeout: float | None = 0.0,
    users: Collection[int] | None = None,
) -> socket.socket:
    """Connects to who listens at a path or an abstract name (``@name``), if it is one of ``users`` (see `check_peer`).

    Waits up to ``timeout`` seconds for somebody to listen (None: for ever).  NoPeer: nobody does; Refused.
    """
    address = _address(name)
    deadline = Deadline(timeout)
    with contextlib.ExitStack() as stack:
        return _connected(name, address, kind, users, deadline, stack)


def _connected(
    name: str | os.PathLike[str],
    address: str,
    kind: Kind,
    users: Collection[int] | None,
    deadline: Deadline,
    stack: contextlib.ExitStack,
) -> socket.socket:
    hint: Hint | None = None
    while True:
        sock = socket.socket(socket.AF_UNIX, _type(kind))
        try:
            sock.setblocking(False)
            sock.connect(address)
            sock.setblocking(True)
            if kind != "datagram":
                check_peer(sock, users)
            return sock
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError) as error:
            sock.close()
            if deadline.passed:
                full = isinstance(error, BlockingIOError)
                why = "connections come faster than they are accepted" if full else "nobody listens"
                raise NoPeer(f"{why} at unix://{os.fspath(name)}") from None
        except OSError as error:
            sock.close()
            if isinstance(error, Refused):
                raise
            raise OSError(error.errno, f"{error.strerror}: UNIX socket {os.fspath(name)!r} ({kind})") from None
        # The kernel tells when a socket is bound in a folder; of abstract names it tells nothing.
        if hint is None:
            hint = stack.enter_context(Hint.of_name(address) if address[0] != "\0" else Hint(None))
        hint.pause(deadline)
