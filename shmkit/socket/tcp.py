"""TCP: connections with deadlines, for another machine."""

from __future__ import annotations

import os
import select
import socket
import time

from shmkit.errors import NoPeer
from shmkit.socket.authentication import HANDSHAKE_SECONDS, Handshake, authenticate
from shmkit.socket.listener import Listener
from shmkit.waiting import Deadline, wait_for

__all__ = ["connect_tcp", "listen_tcp", "tune"]

# Seconds of silence after which the kernel asks whether the other machine is there, seconds between questions, and how
# many go without an answer: a machine that lost its power is noticed after a minute.
KEEP_ALIVE = (30, 10, 3)
_ATTEMPT_SECONDS = 5.0


def tune(sock: socket.socket, *, nodelay: bool = True, keepalive: tuple[int, int, int] | None = KEEP_ALIVE) -> None:
    """Has a TCP socket send at once, and notice that the other machine is gone.

    ``keepalive``: seconds of silence before the kernel asks, seconds between questions, unanswered questions; None: it
    never asks.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, keepalive is not None)
    if keepalive is not None:
        for option, value in zip(
            (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT), keepalive, strict=True
        ):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _url(host: str, port: int) -> str:
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def _addresses(host: str, port: int, flags: int = 0) -> list[tuple[int, tuple[object, ...]]]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
    except socket.gaierror as error:
        raise OSError(error.errno, f"{error.strerror}: host {host!r}") from None
    return [(family, address) for family, _, _, _, address in found]


def listen_tcp(host: str, port: int = 0, *, key: bytes | None, backlog: int = 128) -> Listener:
    """Listens at an address of this machine, IPv4 or IPv6; port 0: any, ``.socket.getsockname()`` says which.

    Connections are let through when they have proved that they know ``key`` (None: all are, and have proved nothing).
    """
    family, address = _addresses(host, port, socket.AI_PASSIVE)[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}: {_url(host, port)}") from None
        sock.listen(backlog)
        if key is not None:
            Handshake(sock, key, "listener")  # complains of a key that is too short before anybody comes
    except BaseException:
        sock.close()
        raise

    def admit(new: socket.socket) -> Handshake | None:
        tune(new)
        return None if key is None else Handshake(new, key, "listener")

    return Listener(sock, admit, where=_url(host, sock.getsockname()[1]))


def connect_tcp(host: str, port: int, *, key: bytes | None, timeout: float | None = 0.0) -> socket.socket:
    """Connects to who listens there, and has both prove that they know ``key`` (None: nobody proves anything).

    All addresses of the host are tried, for up to ``timeout`` seconds until somebody listens and has answered (None:
    for ever; 0: once, and each is given some seconds to answer).  NoPeer: nobody listens; TimeoutError: who does says
    nothing; Refused: they do not know the key.
    """
    deadline = Deadline(timeout)
    once = deadline.timeout == 0
    pause = 0.001
    while True:
        why: OSError | None = None
        for family, address in _addresses(host, port):
            try:
                sock = _connected(family, address, Deadline(_ATTEMPT_SECONDS) if once else deadline)
            except OSError as error:
                why = error
                continue
            try:
                tune(sock)
                if key is not None:
                    _prove(sock, key, HANDSHAKE_SECONDS if once else deadline.left_or_none(), timeout, _url(host, port))
            except BaseException:
                sock.close()
                raise
            return sock
        if deadline.passed:
            raise NoPeer(f"nobody listens at {_url(host, port)}: {why}")
        time.sleep(min(pause, deadline.left()))
        pause = min(pause * 1.5, 0.1)


def _prove(sock: socket.socket, key: bytes, left: float | None, timeout: float | None, url: str) -> None:
    try:
        authenticate(sock, key, "connector", left)
    except TimeoutError:
        raise TimeoutError(
            f"who listens at {url} did not prove that it knows the key within {timeout or HANDSHAKE_SECONDS} s"
        ) from None


def _connected(family: int, address: tuple[object, ...], deadline: Deadline) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        try:
            sock.connect(address)
        except BlockingIOError:
            if not wait_for(sock.fileno(), select.POLLOUT, deadline):
                raise TimeoutError("no answer") from None
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                raise OSError(number, os.strerror(number)) from None
        # A port of this machine at which nobody listens may be given to the connecting socket: it then meets itself.
        if sock.getsockname() == sock.getpeername():
            raise ConnectionRefusedError("connected to itself")
        sock.setblocking(True)
    except BaseException:
        sock.close()
        raise
    return sock
