"""Byte streams as a program that keeps messages apart has to use them: by hand, in Python.

A length and then the payload; nothing is read that belongs to the next message; an array comes into memory of its own.
Their buffers are as large as those of shmkit's channels, so that only the calls differ.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from shmkit.channel.pipes import CAPACITY
from shmkit.channel.sockets import BUFFER
from shmkit.cli.bench.contenders import kernel
from shmkit.cli.bench.face import Channel, Job

__all__ = ["FRAMED", "Fifo", "OsPipe", "TcpSocket", "UnixSocket"]

_LENGTH = struct.Struct("<Q")


class _Pipe(Channel):
    """Around what the same without framing has made."""

    def __init__(self, way: Any) -> None:
        self.way = way
        self.reader, self.writer = way.reader, way.writer
        with contextlib.suppress(OSError):  # as theirs do
            fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, CAPACITY)

    def sender(self) -> Any:
        return self

    receiver = sender

    def send(self, message: bytes) -> None:
        # Small ones go whole, and are there whole.
        os.write(self.writer, _LENGTH.pack(len(message)) + message)

    def recv(self) -> bytes:
        (size,) = _LENGTH.unpack(os.read(self.reader, 8))
        return os.read(self.reader, size)

    def write(self, parts: list[Any]) -> int:
        return os.writev(self.writer, parts)

    def read_head(self) -> int:
        (size,) = _LENGTH.unpack(os.read(self.reader, 8))
        return size  # type: ignore[no-any-return]

    def read_into(self, place: memoryview) -> int:
        return os.readv(self.reader, [place])

    def send_array(self, array: np.ndarray[Any, Any]) -> None:
        data = array.view(np.uint8).data
        done = self.write([_LENGTH.pack(len(data)), data])
        rest = data[done - 8 :]
        while rest:
            rest = rest[self.write([rest]) :]

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        read_head, read_into = self.read_head, self.read_into
        for _ in range(count):
            frame = np.empty(read_head() // 8)
            rest = frame.view(np.uint8).data
            while rest:
                rest = rest[read_into(rest) :]
            yield frame

    def close(self) -> None:
        self.way.close()


class _Socket(_Pipe):
    def __init__(self, way: Any) -> None:
        self.way = way
        self.reader, self.writer = way.reader, way.writer
        if self.writer.family == socket.AF_UNIX:
            self.writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)

    def send(self, message: bytes) -> None:
        self.writer.sendall(_LENGTH.pack(len(message)) + message)

    def recv(self) -> bytes:
        recv = self.reader.recv
        (size,) = _LENGTH.unpack(recv(8, socket.MSG_WAITALL))
        return recv(size, socket.MSG_WAITALL)  # type: ignore[no-any-return]

    def write(self, parts: list[Any]) -> int:
        return self.writer.sendmsg(parts)  # type: ignore[no-any-return]

    def read_head(self) -> int:
        (size,) = _LENGTH.unpack(self.reader.recv(8, socket.MSG_WAITALL))
        return size  # type: ignore[no-any-return]

    def read_into(self, place: memoryview) -> int:
        return self.reader.recv_into(place)  # type: ignore[no-any-return]


class OsPipe(kernel.OsPipe):
    """``os.write`` of a length and the message in one piece, two ``os.read``; arrays by ``writev`` and ``readv``."""

    name = "os.pipe, framed"

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Pipe(super().channel(job, pattern))


class Fifo(kernel.Fifo):
    """The same through a FIFO."""

    name = "FIFO, framed"

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Pipe(super().channel(job, pattern))


class UnixSocket(kernel.UnixSocket):
    """``sendall`` of both in one piece, two ``recv``; arrays by ``sendmsg`` and ``recv_into``."""

    name = "UNIX socket, framed"

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Socket(super().channel(job, pattern))


class TcpSocket(kernel.TcpSocket):
    """The same to another port of this machine."""

    name = "TCP socket, framed"

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Socket(super().channel(job, pattern))


FRAMED = [OsPipe(), Fifo(), UnixSocket(), TcpSocket()]
