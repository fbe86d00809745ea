"""Ways to create, map, close and unlink shared memory, and to attach to what another process made."""

from __future__ import annotations

import importlib
import itertools
import mmap
import os
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import Any

from face import Channel, Contender, Job
from limits import compiled

_serial = itertools.count()


def _name() -> str:
    return f"shmkit-bench-{os.getpid()}-{next(_serial)}"


class _Cycles(Channel):
    """Calls ``loop(name, size, count)`` in the child that sends; ``unlink`` ends what was made for it to attach to."""

    def __init__(self, loop: Callable[[str, int, int], Any], size: int, make: Any = None, unlink: Any = None) -> None:
        self.loop, self.size, self.name = loop, size, _name()
        self.unlink = unlink
        if make is not None:
            make(self.name, size)

    def sender(self) -> Any:
        return self

    receiver = sender

    def cycles(self, count: int) -> None:
        self.loop(self.name, self.size, count)

    def leave(self) -> None:
        # SharedMemory has started a helper process for this child
        tracker = resource_tracker._resource_tracker
        if getattr(tracker, "_pid", None) is not None:
            tracker._stop()

    def close(self) -> None:
        if self.unlink is not None:
            self.unlink(self.name)


class _Segments(Contender):
    kinds = frozenset({"cycles"})
    module: str | None = None

    def missing(self) -> str | None:
        if self.module is None:
            return None
        try:
            importlib.import_module(self.module)
        except ImportError as error:
            return f"{self.module} is not installed: {error}"
        return None

    def channel(self, job: Job, pattern: Any) -> Channel:
        if pattern.kind == "attaches":
            return _Cycles(self.attaches, job.size, self.make, self.unlink)
        return _Cycles(self.cycles, job.size)

    def cycles(self, name: str, size: int, count: int) -> None:
        raise NotImplementedError

    def make(self, name: str, size: int) -> None:
        raise NotImplementedError

    def attaches(self, name: str, size: int, count: int) -> None:
        raise NotImplementedError

    def unlink(self, name: str) -> None:
        raise NotImplementedError


class ShmkitNamed(_Segments):
    """By default: room for every byte is taken, so that a full /dev/shm is an exception now, not SIGBUS later."""

    name = "shmkit.Segment"
    family = "shmkit"
    module = "shmkit"
    kinds = frozenset({"cycles", "attaches"})
    reserve = True

    def cycles(self, name: str, size: int, count: int) -> None:
        from shmkit import Segment

        for _ in range(count):
            segment = Segment.create(name, size, reserve=self.reserve)
            segment.close()
            segment.unlink()

    def make(self, name: str, size: int) -> None:
        from shmkit import Segment

        Segment.create(name, size).close()

    def attaches(self, name: str, size: int, count: int) -> None:
        from shmkit import Segment

        for _ in range(count):
            Segment.attach(name).close()

    def unlink(self, name: str) -> None:
        import shmkit

        shmkit.unlink(name)


class ShmkitUnreserved(ShmkitNamed):
    name = "shmkit.Segment, reserve=False"
    kinds = frozenset({"cycles"})
    reserve = False


class ShmkitAnonymous(_Segments):
    name = "shmkit.Segment, anonymous"
    family = "shmkit"
    module = "shmkit"

    def cycles(self, name: str, size: int, count: int) -> None:
        from shmkit import Segment

        for _ in range(count):
            Segment.create(None, size).close()


class ShmkitArray(_Segments):
    """Goes back to the warm pool with its last reference."""

    name = "shmkit.empty, warm pool"
    family = "shmkit"
    module = "shmkit"

    def cycles(self, name: str, size: int, count: int) -> None:
        import shmkit

        for _ in range(count):
            shmkit.empty(size // 8, "float64")


class StdlibSharedMemory(_Segments):
    name = "SharedMemory"
    family = "stdlib"
    kinds = frozenset({"cycles", "attaches"})

    def cycles(self, name: str, size: int, count: int) -> None:
        for _ in range(count):
            memory = SharedMemory(name, create=True, size=size)
            memory.close()
            memory.unlink()

    def make(self, name: str, size: int) -> None:
        self.made = SharedMemory(name, create=True, size=size)

    def attaches(self, name: str, size: int, count: int) -> None:
        for _ in range(count):
            SharedMemory(name).close()

    def unlink(self, name: str) -> None:
        self.made.close()
        self.made.unlink()


class ByHandMemfd(_Segments):
    name = "memfd by hand"
    family = "stdlib"

    def cycles(self, name: str, size: int, count: int) -> None:
        for _ in range(count):
            fd = os.memfd_create(name)
            os.ftruncate(fd, size)
            mmap.mmap(fd, size).close()
            os.close(fd)


class ByHandPosix(_Segments):
    name = "posix_ipc by hand"
    family = "peer"
    module = "posix_ipc"
    kinds = frozenset({"cycles", "attaches"})

    def cycles(self, name: str, size: int, count: int) -> None:
        import posix_ipc

        for _ in range(count):
            memory = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, size=size)
            mmap.mmap(memory.fd, size).close()
            memory.close_fd()
            memory.unlink()

    def make(self, name: str, size: int) -> None:
        import posix_ipc

        posix_ipc.SharedMemory(name, posix_ipc.O_CREX, size=size).close_fd()

    def attaches(self, name: str, size: int, count: int) -> None:
        import posix_ipc

        for _ in range(count):
            memory = posix_ipc.SharedMemory(name)
            mmap.mmap(memory.fd, size).close()
            memory.close_fd()

    def unlink(self, name: str) -> None:
        import posix_ipc

        posix_ipc.unlink_shared_memory(name)


class NativePosix(_Segments):
    name = "LIMIT C shm_open"
    family = "limit"

    def cycles(self, name: str, size: int, count: int) -> None:
        compiled.segment_cycles(name, size, count)


class NativeReserved(_Segments):
    name = "LIMIT C shm_open, reserved"
    family = "limit"

    def cycles(self, name: str, size: int, count: int) -> None:
        compiled.segment_cycles(name, size, count, reserved=True)


class NativeMemfd(_Segments):
    name = "LIMIT C memfd"
    family = "limit"

    def cycles(self, name: str, size: int, count: int) -> None:
        compiled.segment_cycles(None, size, count)
