"""What is compared: each mechanism as one way from one process to another, with ``send`` and ``recv``.

A way is made before the fork; then one child sends and the other receives.  ``recv`` hands what arrived to a function
that looks at it, so that a view may end when the look does.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

__all__ = ["MECHANISMS", "OURS", "Mechanism", "Way", "depth", "installed"]

Look = Callable[[Any], None]
FOREVER = 1e6  # seconds, for a library that wants a number
_serial = itertools.count()


def depth(size: int) -> int:
    """How many messages may be under way: as many as 16 MiB hold, but two at least, and 1,000 at most."""
    return max(2, min(1000, (16 << 20) // max(size, 1)))


class Way(Protocol):
    """One way, of messages of one size; ``stamp`` writes the message's number into the memory that is sent."""

    def send(self, stamp: Look) -> None:
        """Send the next message."""

    def recv(self, look: Look) -> None:
        """Receive one."""

    def close(self) -> None:
        """Give up what this process has of it."""


class Mechanism:
    """A name, where it comes from, and how a way is made."""

    def __init__(
        self,
        name: str,
        make: Callable[[int], Way],
        *,
        module: str | None = None,
        group: str = "kernel",
        copies: bool = True,
        most: int = 1 << 40,
    ) -> None:
        self.name = name
        self.make = make
        self.module = module
        self.group = group
        """"shmkit", "stdlib", "kernel" or "peer"."""
        self.copies = copies
        """Whether the message's bytes are moved at all."""
        self.most = most


class _Buffered:
    """Has the message ready in memory of its own, as a program would."""

    def __init__(self, size: int) -> None:
        self.out: Any = np.full(size, 7, "uint8")
        self.into: Any = np.empty(size, "uint8")

    def close(self) -> None:
        """Most need nothing."""


# -- shmkit -------------------------------------------------------------------------------------------------------


class _Ring(_Buffered):
    def __init__(self, size: int) -> None:
        import shmkit

        super().__init__(size)
        # A power of two; of large messages only some, which stay in the cache.
        needed = max(1 << 16, (min(depth(size), 256) if size < 1 << 16 else 4) * (size + 128))
        self.ring = shmkit.Ring.create(capacity=1 << (needed - 1).bit_length())

    def send(self, stamp: Look) -> None:
        stamp(self.out)
        self.ring.send(self.out)

    def recv(self, look: Look) -> None:
        with self.ring.recv_view() as view:
            look(view)

    def close(self) -> None:
        self.ring.close()


class _RingInPlace(_Ring):
    def send(self, stamp: Look) -> None:
        with self.ring.reserve(self.out.shape, "uint8") as record:
            stamp(record)


class _Queue(_Buffered):
    def __init__(self, size: int) -> None:
        import shmkit

        super().__init__(size)
        self.queue = shmkit.Queue(depth(size))

    def send(self, stamp: Look) -> None:
        stamp(self.out)
        self.queue.put(self.out)

    def recv(self, look: Look) -> None:
        look(self.queue.get())

    def close(self) -> None:
        self.queue.close()


class _QueueByReference:
    """Rows of one shared array, as many as can be under way; the receiver always has one, and so the memory."""

    def __init__(self, size: int) -> None:
        import shmkit

        most = min(depth(size), 64)
        self.queue = shmkit.Queue(most)
        self.arrays = itertools.cycle(list(shmkit.zeros((most + 3, size), "uint8")))
        self.kept: Any = None

    def send(self, stamp: Look) -> None:
        array = next(self.arrays)
        stamp(array)
        self.queue.put(array)

    def recv(self, look: Look) -> None:
        self.kept = self.queue.get()
        look(self.kept)

    def close(self) -> None:
        self.queue.close()


# -- the standard library -----------------------------------------------------------------------------------------


class _MpQueue(_Buffered):
    def __init__(self, size: int) -> None:
        import multiprocessing

        super().__init__(size)
        self.queue: Any = multiprocessing.get_context("fork").Queue(depth(size))

    def send(self, stamp: Look) -> None:
        stamp(self.out)
        # It is pickled later, by a thread: what is sent may not change until then.
        self.queue.put(self.out.copy())

    def recv(self, look: Look) -> None:
        look(self.queue.get())

    def close(self) -> None:
        self.queue.close()


class _MpSimpleQueue(_MpQueue):
    def __init__(self, size: int) -> None:
        import multiprocessing

        _Buffered.__init__(self, size)
        self.queue = multiprocessing.get_context("fork").SimpleQueue()

    def send(self, stamp: Look) -> None:
        stamp(self.out)
        self.queue.put(self.out)


class _MpPipe(_Buffered):
    def __init__(self, size: int) -> None:
        import multiprocessing

        super().__init__(size)
        self.reader, self.writer = multiprocessing.get_context("fork").Pipe(duplex=False)

    def send(self, stamp: Look) -> None:
        stamp(self.out)
        self.writer.send_bytes(self.out)

    def recv(self, look: Look) -> None:
        self.reader.recv_bytes_into(self.into)
        look(self.into)

    def close(self) -> None:
        self.reader.close()
        self.writer.close()


# -- the kernel's, by hand ----------------------------------------------------------------------------------------


class _Pipe(_Buffered):
    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.reader, self.writer = os.pipe()

    def send(self, stamp: Look) -> None:
        stamp(self.out)
        rest = memoryview(self.out)
        while rest:
            rest = rest[os.write(self.writer, rest) :]

    def recv(self, look: Look) -> None:
        rest = memoryview(self.into)
        while rest:
            rest = rest[os.readv(self.reader, [rest]) :]
        look(self.into)

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


class _Socket(_Buffered):
    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.writer, self.reader = self.pair()

    def pair(self) -> tuple[socket.socket, socket.socket]:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def send(self, stamp: Look) -> None:
        stamp(self.out)
        self.writer.sendall(self.out)

    def recv(self, look: Look) -> None:
        rest = memoryview(self.into)
        while rest:
            rest = rest[self.reader.recv_into(rest) :]
        look(self.into)

    def close(self) -> None:
        self.reader.close()
        self.writer.close()


class _Tcp(_Socket):
    def pair(self) -> tuple[socket.socket, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            writer = socket.create_connection(server.getsockname())
            reader, _ = server.accept()
        writer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return writer, reader


# -- other libraries ----------------------------------------------------------------------------------------------


class _FasterFifo(_Buffered):
    def __init__(self, size: int) -> None:
        from faster_fifo import Queue

        super().__init__(size)
        self.queue = Queue(max_size_bytes=depth(size) * (size + 64), loads=bytes, dumps=bytes)

    def send(self, stamp: Look) -> None:
        stamp(self.out)
        self.queue.put(self.out, True, FOREVER)

    def recv(self, look: Look) -> None:
        look(self.queue.get(True, FOREVER))


class _Zmq(_Buffered):
    """PUSH to PULL over a socket in the abstract name space, which leaves no file."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.depth = depth(size)
        self.address = f"ipc://@shmkit-bench-{os.getpid()}-{next(_serial)}"
        self.socket: Any = None

    def _open(self, kind: str) -> Any:
        import zmq

        # One for each process: contexts do not survive a fork.
        self.socket = zmq.Context().socket(getattr(zmq, kind))
        self.socket.sndhwm = self.socket.rcvhwm = self.depth
        self.socket.linger = 0
        return self.socket

    def send(self, stamp: Look) -> None:
        if self.socket is None:
            self._open("PUSH").bind(self.address)
        stamp(self.out)
        self.socket.send(self.out)

    def recv(self, look: Look) -> None:
        if self.socket is None:
            self._open("PULL").connect(self.address)
        look(self.socket.recv(copy=False).buffer)


OURS = "shmkit.Ring"
MECHANISMS = [
    Mechanism("shmkit.Ring", _Ring, group="shmkit"),
    Mechanism("shmkit.Ring in place", _RingInPlace, group="shmkit", copies=False),
    Mechanism("shmkit.Queue", _Queue, group="shmkit"),
    Mechanism("shmkit.Queue by reference", _QueueByReference, group="shmkit", copies=False),
    Mechanism("mp.Queue", _MpQueue, group="stdlib"),
    Mechanism("mp.SimpleQueue", _MpSimpleQueue, group="stdlib"),
    Mechanism("mp.Pipe", _MpPipe, group="stdlib"),
    Mechanism("os.pipe", _Pipe),
    Mechanism("UNIX socket", _Socket),
    Mechanism("TCP socket", _Tcp),
    Mechanism("faster-fifo", _FasterFifo, module="faster_fifo", group="peer"),
    Mechanism("pyzmq", _Zmq, module="zmq", group="peer"),
]


def installed(mechanism: Mechanism) -> bool:
    """Whether the library that it needs is there."""
    return mechanism.module is None or find_spec(mechanism.module) is not None
