"""Everybody who is compared.  A limit stands beside shmkit, so that the two are measured one after the other."""

from __future__ import annotations

from typing import Any

from contenders import limit, locks, ours, peers, segments, stdlib
from face import Contender, Job

ALL: list[Contender] = [
    ours.Shmkit(),
    ours.ShmkitQueue(),
    limit.BareCython(),
    limit.NativeRing(),
    limit.NativeFutex(),
    stdlib.OsPipe(),
    limit.LingeringCython(),
    limit.NativeLine(),
    stdlib.Queue(),
    stdlib.SimpleQueue(),
    stdlib.Pipe(),
    stdlib.HandRing(),
    peers.FasterFifo(),
    peers.Zmq(),
    peers.Iceoryx(),
    segments.ShmkitNamed(),
    segments.NativeReserved(),
    segments.ShmkitUnreserved(),
    segments.NativePosix(),
    segments.ShmkitAnonymous(),
    segments.ShmkitArray(),
    segments.NativeMemfd(),
    segments.ByHandMemfd(),
    segments.ByHandPosix(),
    segments.StdlibSharedMemory(),
    *locks.LOCKS,
    *locks.SIGNALS,
    *locks.ASKING,
]


def supporting(pattern: Any, job: Job) -> list[Contender]:
    """Who can do this at all, installed or not."""
    return [contender for contender in ALL if contender.supports(pattern, job)]
