"""shmkit's channels: every mechanism of the kernel by its address, behind the same few calls.

Ends are made in the children, as two programs would: one listens, the other connects.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from shmkit.cli.bench.face import Channel, Contender, Job, Link

__all__ = ["CHANNELS"]

_serial = itertools.count()
_WAITS = frozenset({"one by one", "round trip", "sleeps", "frames", "frame trips"})
_PATIENCE = 30.0


class _Way(Channel):
    """The address is known to the sender once the receiver listens, as a port may only be chosen then."""

    def __init__(self, address: str, job: Job, options: dict[str, Any]) -> None:
        self.folder = tempfile.mkdtemp(prefix="shmkit-bench-") if "{folder}" in address else None
        name = f"shmkit-bench-{os.getpid()}-{next(_serial)}"
        self.address = address.format(name=name, folder=self.folder)
        self.options = options
        self.word = mmap.mmap(-1, mmap.PAGESIZE)
        self.size = job.size
        self.warm = 16
        self.end: Any = None

    def receiver(self) -> Any:
        import shmkit

        self.end = shmkit.listen(self.address, **self.options)
        url = self.end.url.encode()
        self.word[8 : 8 + len(url)] = url
        self.word[0:8] = len(url).to_bytes(8, "little")
        self.recv = self.end.recv
        return self

    def sender(self) -> Any:
        import shmkit

        deadline = time.monotonic() + _PATIENCE
        while not (length := int.from_bytes(self.word[0:8], "little")):
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody listens at {self.address}")
            os.sched_yield()
        url = self.word[8 : 8 + length].decode()
        self.end = shmkit.connect(url, timeout=_PATIENCE, **self.options)
        self.send = self.send_array = self.end.send
        return self

    def arrays(self, count: int) -> Iterator[np.ndarray[Any, Any]]:
        return itertools.islice(self.end, count)

    def leave(self) -> None:
        if self.end is not None:
            self.end.close(linger=0)  # all that was sent has come

    def close(self) -> None:
        import shmkit

        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        scheme, _, name = self.address.partition("://")
        # What killed children left; after others nothing is there.
        with contextlib.suppress(Exception):
            if scheme == "ring":
                shmkit.unlink(name, missing_ok=True)
            elif scheme in ("mq", "sysvmq"):
                from shmkit.mqueue import PosixMessageQueue, SysVMessageQueue

                kind: Any = PosixMessageQueue if scheme == "mq" else SysVMessageQueue
                kind.attach(name).unlink()


class _Connection(_Way):
    """A connection, which goes both ways: made once in each child, whichever direction asks first."""

    def receiver(self) -> Any:
        if self.end is None:
            super().receiver()
            end: Any = self.end
            end.meet(_PATIENCE)  # who connects may have to prove something first
        return self

    def sender(self) -> Any:
        if self.end is None:
            super().sender()
        return self


class _Back(Channel):
    """The other direction of a connection."""

    def __init__(self, connection: _Connection) -> None:
        self.connection = connection

    def sender(self) -> Any:
        way: Any = self.connection.receiver()
        way.send = way.send_array = way.end.send
        return self._of(way)

    def receiver(self) -> Any:
        way: Any = self.connection.sender()
        way.recv = way.end.recv
        return self._of(way)

    def _of(self, way: Any) -> Any:
        way.leave = lambda: None  # ends with its process
        return way


class _Pair(_Way):
    """Both ends are made before the fork."""

    def __init__(self, address: str, job: Job, options: dict[str, Any]) -> None:
        import shmkit

        super().__init__(address, job, options)
        self.ends = shmkit.pair(address, **options)

    def receiver(self) -> Any:
        self.end, other = self.ends
        other.close(linger=0)
        self.recv = self.end.recv
        return self

    def sender(self) -> Any:
        other, self.end = self.ends
        other.close(linger=0)
        self.send = self.send_array = self.end.send
        return self

    def close(self) -> None:
        for end in self.ends:
            end.close(linger=0)


class Address(Contender):
    """``listen``, ``connect``, ``send`` and ``recv`` (``pair`` for what has no name) at one kind of address."""

    family = "shmkit"
    module = "shmkit"
    kinds = _WAITS

    def __init__(
        self, name: str, address: str, *, largest: int = 1 << 40, duplex: bool = False, **options: Any
    ) -> None:
        self.name = name
        self.address = address
        self.largest = largest
        self.duplex = duplex
        self.options = options

    def link(self, job: Job, pattern: Any) -> Link:
        if not self.duplex:
            return super().link(job, pattern)
        connection = _Connection(self.address, job, self.options)
        return Link(job, connection, _Back(connection) if pattern.both_ways else None)

    def channel(self, job: Job, pattern: Any) -> Channel:
        if self.address == "pipe:":
            return _Pair(self.address, job, self.options)
        options = dict(self.options)
        if "capacity" in options:
            # A power of two of room for two frames, and for many small messages.
            options["capacity"] = 1 << (max(1 << 20, 2 * (job.size + 4096)) - 1).bit_length()
        return _Way(self.address, job, options)


CHANNELS: list[Contender] = [
    Address("ring://", "ring://{name}", capacity=0),
    Address("pipe:", "pipe:"),
    Address("fifo://", "fifo://{folder}/fifo"),
    Address("unix://", "unix://@{name}", duplex=True),
    Address("unix://, seqpacket", "unix://@{name}?type=seqpacket", duplex=True, largest=64 << 10),
    Address("tcp://", "tcp://127.0.0.1:0", duplex=True, key=b"of the benchmark"),
    Address("mq://", "mq://{name}", largest=4 << 10),
    Address("sysvmq://", "sysvmq://{name}", largest=4 << 10),
    Address("file://", "file://{folder}/log", largest=1 << 20),
]
