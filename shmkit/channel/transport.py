"""The byte streams beneath channels: pipes, FIFOs and stream sockets, without waiting."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from multiprocessing import reduction
from typing import Any

from shmkit._small import PIPE, SOCKET
from shmkit.pipe import write_quietly
from shmkit.waiting import Deadline

__all__ = ["PipeStream", "SocketStream"]

_AT_ONCE = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class PipeStream:
    """A pipe or FIFO, or two of them, without waiting."""

    # How small messages go in and out at once; 0: not now.
    quick = PIPE

    def __init__(self, receiving: int, sending: int) -> None:
        self.receiving = receiving
        self.sending = sending

    def read(self, views: list[memoryview]) -> int | None:
        """How many bytes came; 0: the end; None: none yet."""
        try:
            return os.readv(self.receiving, views)
        except BlockingIOError:
            return None

    def write(self, parts: list[Any]) -> int:
        """How many bytes went; BrokenPipeError."""
        try:
            return write_quietly(self.sending, parts if len(parts) > 1 else parts[0])
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Closes the descriptors."""
        for fd in (self.sending, self.receiving):
            if fd >= 0:
                os.close(fd)
        self.sending = self.receiving = -1

    def shut(self, left: float) -> None:
        """There is nothing to see to."""

    def __reduce__(self) -> tuple[Any, ...]:
        given = [reduction.DupFd(fd) if fd >= 0 else None for fd in (self.receiving, self.sending)]
        return _pipe_again, tuple(given)


def _pipe_again(receiving: Any, sending: Any) -> PipeStream:
    fds = [given.detach() if given is not None else -1 for given in (receiving, sending)]
    for fd in fds:
        if fd >= 0:
            os.set_inheritable(fd, False)
    return PipeStream(*fds)


class SocketStream:
    """A connected stream socket, without waiting."""

    quick = SOCKET

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.receiving = self.sending = sock.fileno()

    def read(self, views: list[memoryview]) -> int | None:
        """How many bytes came; 0: the end; None: none yet."""
        try:
            if len(views) == 1:
                return self.sock.recv_into(views[0], 0, socket.MSG_DONTWAIT)
            return self.sock.recvmsg_into(views, 0, socket.MSG_DONTWAIT)[0]
        except BlockingIOError:
            return None
        except (ConnectionError, TimeoutError):
            # The other end closed before it had read all, or its machine does not answer any more.
            return 0

    def write(self, parts: list[Any]) -> int:
        """How many bytes went; BrokenPipeError."""
        try:
            return self.sock.sendmsg(parts, [], _AT_ONCE) if len(parts) > 1 else self.sock.send(parts[0], _AT_ONCE)
        except BlockingIOError:
            return 0
        except (ConnectionError, TimeoutError) as error:
            raise BrokenPipeError(error.errno, error.strerror) from None

    def close(self) -> None:
        """Closes the socket."""
        self.sock.close()

    def shut(self, left: float) -> None:
        """Sees to it that closing does not take back what was sent.

        TCP resets a connection that is closed with something unread in it, or sent to it later, and what is still under
        way goes then; so the other machine's kernel first has to have it all.
        """
        if self.sock.family == socket.AF_UNIX:
            return
        deadline = Deadline(left)
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
            scrap = memoryview(bytearray(65536))
            pause = 0.00005
            while True:
                while self.read([scrap]):
                    pass
                # What a reset connection has not confirmed it never will.
                if not _unacknowledged(self.sock) or _over(self.sock) or deadline.passed:
                    return
                time.sleep(min(pause, deadline.left()))
                pause = min(pause * 2, 0.01)

    def __reduce__(self) -> tuple[Any, ...]:
        return _socket_again, (reduction.DupFd(self.sock.fileno()),)


def _unacknowledged(sock: socket.socket) -> int:
    """Bytes that the other machine's kernel has not confirmed (SIOCOUTQ)."""
    import fcntl
    import termios

    return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), "little")


def _over(sock: socket.socket) -> bool:
    """Whether the connection is no more: the kernel's TCP_CLOSE."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\x07"


def _socket_again(given: Any) -> SocketStream:
    sock = socket.socket(fileno=given.detach())
    sock.set_inheritable(False)
    return SocketStream(sock)
