"""Ways to create, map, close and unlink shared memory, and to attach to what another process made."""

from __future__ import annotations

import itertools
import mmap
import os
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import Any

from shmkit.cli.bench.face import Channel, Contender, Job

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
        tracker: Any = resource_tracker._resource_tracker
        if getattr(tracker, "_pid", None) is not None:
            tracker._stop()

    def close(self) -> None:
        if self.unlink is not None:
            self.unlink(self.name)


class Segments(Contender):
    """Base: ``make`` and ``unlink`` what others attach to."""

    kinds = frozenset({"cycles"})

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


class ShmkitNamed(Segments):
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
    """As everybody else does it: pages are taken as they are touched."""

    name = "shmkit.Segment, reserve=False"
    kinds = frozenset({"cycles"})
    reserve = False


class ShmkitAnonymous(Segments):
    """Without a name."""

    name = "shmkit.Segment, anonymous"
    family = "shmkit"
    module = "shmkit"

    def cycles(self, name: str, size: int, count: int) -> None:
        from shmkit import Segment

        for _ in range(count):
            Segment.create(None, size).close()


class ShmkitArray(Segments):
    """Goes back to the warm pool with its last reference."""

    name = "shmkit.empty, warm pool"
    family = "shmkit"
    module = "shmkit"

    def cycles(self, name: str, size: int, count: int) -> None:
        import shmkit

        for _ in range(count):
            shmkit.empty(size // 8, "float64")


class StdlibSharedMemory(Segments):
    """``multiprocessing.shared_memory``."""

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


class ByHandMemfd(Segments):
    """``memfd_create`` and ``mmap``."""

    name = "memfd by hand"
    family = "kernel"

    def cycles(self, name: str, size: int, count: int) -> None:
        for _ in range(count):
            fd = os.memfd_create(name)
            os.ftruncate(fd, size)
            mmap.mmap(fd, size).close()
            os.close(fd)


class ByHandPosix(Segments):
    """``posix_ipc.SharedMemory`` and ``mmap``: no header, nothing checked, no room reserved."""

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


class SharedArrayPackage(Segments):
    """The package of that name: an array at a name."""

    name = "SharedArray package"
    family = "peer"
    module = package = "SharedArray"
    kinds = frozenset({"cycles", "attaches"})

    def cycles(self, name: str, size: int, count: int) -> None:
        import SharedArray

        for _ in range(count):
            SharedArray.create(name, size // 8)
            SharedArray.delete(name)

    def make(self, name: str, size: int) -> None:
        import SharedArray

        SharedArray.create(name, size // 8)

    def attaches(self, name: str, size: int, count: int) -> None:
        import SharedArray

        for _ in range(count):
            SharedArray.attach(name)

    def unlink(self, name: str) -> None:
        import SharedArray

        SharedArray.delete(name)
