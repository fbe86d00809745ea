"""The kernel's mechanisms, called by hand: pipes, sockets, and message queues of POSIX and System V."""

from __future__ import annotations

import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from shmkit.cli.bench.face import Channel, Contender, Job

__all__ = ["Fifo", "OsPipe", "PosixQueue", "SysVQueue", "TcpSocket", "UnixPackets", "UnixSocket"]

_WAITS = frozenset({"one by one", "round trip", "sleeps", "frames", "frame trips"})
_serial = itertools.count()


class _Stream(Channel):
    """What reads and writes bytes; frames are read into one buffer."""

    size = 0

    def sender(self) -> Any:
        return self

    receiver = sender

    def read_into(self, place: memoryview) -> int:
        raise NotImplementedError

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        frame = np.zeros(self.size // 8)
        whole = frame.view(np.uint8).data
        read_into = self.read_into
        for _ in range(count):
            rest = whole
            while rest:
                rest = rest[read_into(rest) :]
            yield frame


class _OsPipe(_Stream):
    def __init__(self, size: int) -> None:
        self.reader, self.writer = os.pipe()
        self.size = size

    def send(self, message: bytes) -> None:
        os.write(self.writer, message)

    def recv(self) -> bytes:
        return os.read(self.reader, self.size)

    def send_array(self, array: np.ndarray[Any, Any]) -> None:
        rest = array.view(np.uint8).data
        while rest:
            rest = rest[os.write(self.writer, rest) :]

    def read_into(self, place: memoryview) -> int:
        return os.readv(self.reader, [place])

    def close(self) -> None:
        if self.reader >= 0:
            os.close(self.reader)
            os.close(self.writer)
            self.reader = -1


class OsPipe(Contender):
    """``os.write`` and ``os.read`` of whole messages; frames are read into one buffer."""

    name = "os.pipe"
    family = "kernel"
    kinds = _WAITS

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _OsPipe(job.size)


class _Fifo(_OsPipe):
    def __init__(self, size: int) -> None:
        folder = tempfile.mkdtemp(prefix="shmkit-bench-")
        path = os.path.join(folder, "fifo")
        os.mkfifo(path, 0o600)
        self.reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opens before there is a writer
        self.writer = os.open(path, os.O_WRONLY)
        os.set_blocking(self.reader, True)
        os.unlink(path)
        os.rmdir(folder)
        self.size = size


class Fifo(OsPipe):
    """The same through a FIFO, which has the times of a file to keep besides."""

    name = "FIFO"

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Fifo(job.size)


class _Socket(_Stream):
    def __init__(self, pair: tuple[socket.socket, socket.socket], size: int) -> None:
        self.writer, self.reader = pair
        self.size = size

    def sender(self) -> Any:
        self.send = self.send_array = self.writer.sendall
        return self

    def receiver(self) -> Any:
        self.read_into = self.reader.recv_into  # type: ignore[method-assign, assignment]
        return self

    def recv(self) -> bytes:
        size = self.size
        message = self.reader.recv(size)
        while len(message) < size:
            message += self.reader.recv(size - len(message))
        return message

    def close(self) -> None:
        self.reader.close()
        self.writer.close()


class UnixSocket(Contender):
    """``sendall`` and ``recv_into``."""

    name = "UNIX socket"
    family = "kernel"
    kinds = _WAITS

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Socket(socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM), job.size)


class UnixPackets(Contender):
    """The same, a packet for each message."""

    name = "UNIX socket, seqpacket"
    family = "kernel"
    kinds = _WAITS
    largest = 64 << 10

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Socket(socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET), job.size)


class TcpSocket(Contender):
    """The same to another port of this machine, without waiting for larger packets."""

    name = "TCP socket"
    family = "kernel"
    kinds = _WAITS

    def channel(self, job: Job, pattern: Any) -> Channel:
        with socket.create_server(("127.0.0.1", 0)) as server:
            writer = socket.create_connection(server.getsockname())
            reader, _ = server.accept()
        writer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _Socket((writer, reader), job.size)


class _Messages(Channel):
    """What takes a message as bytes and gives it back so."""

    send: Any
    recv: Any

    def sender(self) -> Any:
        return self

    receiver = sender

    def send_array(self, array: np.ndarray[Any, Any]) -> None:
        self.send(array.tobytes())

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        recv = self.recv
        for _ in range(count):
            yield np.frombuffer(recv())


class _PosixQueue(_Messages):
    def __init__(self, job: Job) -> None:
        import posix_ipc

        self.queue: Any = posix_ipc.MessageQueue(
            f"/shmkit-bench-{os.getpid()}-{next(_serial)}", posix_ipc.O_CREX, max_message_size=max(job.size, 64)
        )
        self.queue.unlink()  # it lives as long as somebody has it open
        self.send = self.queue.send

    def recv(self) -> bytes:
        message: bytes = self.queue.receive()[0]
        return message

    def close(self) -> None:
        self.queue.close()


class PosixQueue(Contender):
    """``posix_ipc.MessageQueue``, with as many messages as the system allows anybody (10)."""

    name = "POSIX queue"
    family = "kernel"
    module = package = "posix_ipc"
    kinds = _WAITS | {"crowd"}
    largest = 8 << 10

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Pickled(_PosixQueue(job)) if pattern.kind == "crowd" else _PosixQueue(job)


class _SysVQueue(_Messages):
    def __init__(self, job: Job) -> None:
        import sysv_ipc

        self.queue: Any = sysv_ipc.MessageQueue(None, sysv_ipc.IPC_CREX, max_message_size=max(job.size, 64))
        self.send = self.queue.send

    def recv(self) -> bytes:
        message: bytes = self.queue.receive()[0]
        return message

    def close(self) -> None:
        self.queue.remove()


class SysVQueue(Contender):
    """``sysv_ipc.MessageQueue``, with the room that the system gives each (16 KiB)."""

    name = "System V queue"
    family = "kernel"
    module = package = "sysv_ipc"
    kinds = _WAITS | {"crowd"}
    largest = 8 << 10

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Pickled(_SysVQueue(job)) if pattern.kind == "crowd" else _SysVQueue(job)


class _Pickled(Channel):
    """Objects over messages."""

    def __init__(self, messages: _Messages) -> None:
        self.messages = messages

    def sender(self) -> Any:
        return self

    receiver = sender

    def send(self, value: object) -> None:
        import pickle

        self.messages.send(pickle.dumps(value))

    def recv(self) -> Any:
        import pickle

        return pickle.loads(self.messages.recv())

    def close(self) -> None:
        self.messages.close()
