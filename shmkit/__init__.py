"""NumPy arrays and Python objects between processes at memory speed, and nothing that ``kill -9`` could break.

``Segment`` is shared memory of any kind; ``empty``, ``zeros`` and their kin make arrays that travel by reference;
``Ring`` streams records and frames from one process to another; ``Queue`` carries any object between any number of
them; ``connect`` and ``listen`` do so through any mechanism of the kernel; ``Lock``, ``Semaphore`` and their kin keep
processes apart and wake them; ``AtomicInt64`` and its kin are shared words.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

TYPE_CHECKING = False  # for type checkers it is true; to import typing would slow every child that is spawned

if not sys.platform.startswith("linux"):
    raise ImportError(f"shmkit runs on Linux: {sys.platform} has not the futexes, memfds and file leases it stands on")

if TYPE_CHECKING:
    from typing import Any

    from shmkit._atomic import AtomicFlag, AtomicInt64, AtomicUInt64
    from shmkit._atomic_array import AtomicArray
    from shmkit._barrier import Barrier
    from shmkit._condition import Condition
    from shmkit._event import Event
    from shmkit._lock import Lock, RLock
    from shmkit._publisher import Publisher
    from shmkit._record import RecordView, Reservation
    from shmkit._ring import Ring
    from shmkit._rwlock import RWLock
    from shmkit._sem import BoundedSemaphore, Semaphore
    from shmkit._subscriber import Subscriber
    from shmkit.array import (
        SharedArray,
        array,
        asarray,
        attach,
        create,
        empty,
        empty_like,
        full,
        full_like,
        ones,
        ones_like,
        trim,
        zeros,
        zeros_like,
    )
    from shmkit.channel import Channel, connect, listen, pair, serve
    from shmkit.errors import (
        Broken,
        BrokenBarrier,
        ChannelError,
        Closed,
        Empty,
        EndOfStream,
        Full,
        HeapFull,
        InvalidPermits,
        LayoutMismatch,
        LockError,
        NoPeer,
        NoSpace,
        NotOwner,
        NotReady,
        NotRecoverable,
        OneWay,
        OwnerDied,
        PeerDied,
        PickleRefused,
        RecordCorrupt,
        RecordTooLarge,
        Refused,
        ReleasedTooOften,
        RoleTaken,
        SegmentError,
        SegmentExists,
        SegmentNotFound,
        SegmentPermission,
        ShmkitError,
        ShutDown,
        WorkerDied,
    )
    from shmkit.executor import Executor
    from shmkit.include import get_include
    from shmkit.install import install, uninstall
    from shmkit.queue import JoinableQueue, Queue, SimpleQueue
    from shmkit.segment import Segment, SegmentInfo, collect, unlink  # type: ignore[no-redef]
    from shmkit.semaphore import PosixSemaphore, SysVSemaphore
    from shmkit.sizes import format_size, parse_size
    from shmkit.statistics import RingStatistics

__version__ = "0.1.0"

__all__ = [
    "AtomicArray",
    "AtomicFlag",
    "AtomicInt64",
    "AtomicUInt64",
    "Barrier",
    "BoundedSemaphore",
    "Broken",
    "BrokenBarrier",
    "Channel",
    "ChannelError",
    "Closed",
    "Condition",
    "Empty",
    "EndOfStream",
    "Event",
    "Executor",
    "Full",
    "HeapFull",
    "InvalidPermits",
    "JoinableQueue",
    "LayoutMismatch",
    "Lock",
    "LockError",
    "NoPeer",
    "NoSpace",
    "NotOwner",
    "NotReady",
    "NotRecoverable",
    "OneWay",
    "OwnerDied",
    "PeerDied",
    "PickleRefused",
    "PosixSemaphore",
    "Publisher",
    "Queue",
    "RLock",
    "RWLock",
    "RecordCorrupt",
    "RecordTooLarge",
    "RecordView",
    "Refused",
    "ReleasedTooOften",
    "Reservation",
    "Ring",
    "RingStatistics",
    "RoleTaken",
    "Segment",
    "SegmentError",
    "SegmentExists",
    "SegmentInfo",
    "SegmentNotFound",
    "SegmentPermission",
    "Semaphore",
    "SharedArray",
    "ShmkitError",
    "ShutDown",
    "SimpleQueue",
    "Subscriber",
    "SysVSemaphore",
    "WorkerDied",
    "array",
    "asarray",
    "attach",
    "collect",
    "connect",
    "create",
    "empty",
    "empty_like",
    "format_size",
    "full",
    "full_like",
    "get_include",
    "install",
    "listen",
    "ones",
    "ones_like",
    "pair",
    "parse_size",
    "serve",
    "trim",
    "uninstall",
    "unlink",
    "zeros",
    "zeros_like",
]

# Each name is imported when it is first asked for: a child that is spawned needs few of them, and not NumPy.
_WHERE = {
    "shmkit._atomic": ("AtomicFlag", "AtomicInt64", "AtomicUInt64"),
    "shmkit._atomic_array": ("AtomicArray",),
    "shmkit._barrier": ("Barrier",),
    "shmkit._condition": ("Condition",),
    "shmkit._event": ("Event",),
    "shmkit._lock": ("Lock", "RLock"),
    "shmkit._record": ("RecordView", "Reservation"),
    "shmkit._publisher": ("Publisher",),
    "shmkit._ring": ("Ring",),
    "shmkit._rwlock": ("RWLock",),
    "shmkit._sem": ("BoundedSemaphore", "Semaphore"),
    "shmkit._subscriber": ("Subscriber",),
    "shmkit.array": (
        "SharedArray",
        "array",
        "asarray",
        "attach",
        "create",
        "empty",
        "empty_like",
        "full",
        "full_like",
        "ones",
        "ones_like",
        "trim",
        "zeros",
        "zeros_like",
    ),
    "shmkit.channel": ("Channel", "connect", "listen", "pair", "serve"),
    "shmkit.errors": (
        "Broken",
        "BrokenBarrier",
        "ChannelError",
        "Closed",
        "Empty",
        "EndOfStream",
        "Full",
        "HeapFull",
        "InvalidPermits",
        "LayoutMismatch",
        "LockError",
        "NoPeer",
        "NoSpace",
        "NotOwner",
        "NotReady",
        "NotRecoverable",
        "OneWay",
        "OwnerDied",
        "PeerDied",
        "PickleRefused",
        "RecordCorrupt",
        "RecordTooLarge",
        "Refused",
        "ReleasedTooOften",
        "RoleTaken",
        "SegmentError",
        "SegmentExists",
        "SegmentNotFound",
        "SegmentPermission",
        "ShmkitError",
        "ShutDown",
        "WorkerDied",
    ),
    "shmkit.queue": ("JoinableQueue", "Queue", "SimpleQueue"),
    "shmkit.executor": ("Executor",),
    "shmkit.include": ("get_include",),
    "shmkit.install": ("install", "uninstall"),
    "shmkit.segment": ("Segment", "SegmentInfo", "collect", "unlink"),
    "shmkit.semaphore": ("PosixSemaphore", "SysVSemaphore"),
    "shmkit.sizes": ("format_size", "parse_size"),
    "shmkit.statistics": ("RingStatistics",),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}
_UNGATHERED = ("descriptors", "fifo", "files", "log", "mqueue", "multiprocessing", "pipe", "signals", "socket")
_SUBMODULES = frozenset({*(module.split(".")[1] for module in _WHERE), *_UNGATHERED})


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(import_module(_MODULE_OF[name]), name)
    elif name in _SUBMODULES:
        value = import_module(f"shmkit.{name}")
    else:
        raise AttributeError(f"module 'shmkit' has no attribute {name!r}", name=name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        # A submodule that is imported is bound to its name; `array` and `install` are functions' names here.
        if not (name in _MODULE_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
