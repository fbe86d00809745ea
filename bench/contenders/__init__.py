"""Everybody who is compared.  A limit stands beside shmkit, so that the two are measured one after the other."""

from __future__ import annotations

from typing import Any

from contenders import framed, limit, locks, segments
from shmkit.cli.bench.contenders import POOLS, SEGMENTS, WAYS
from shmkit.cli.bench.face import Contender, Job

_ways = {contender.name: contender for contender in WAYS}

ALL: list[Contender] = [
    _ways.pop("shmkit.Ring"),
    _ways.pop("shmkit.Queue"),
    _ways.pop("drop-in Queue"),
    limit.BareCython(),
    limit.NativeRing(),
    _ways.pop("drop-in Pipe"),
    limit.NativeFutex(),
    _ways.pop("os.pipe"),
    limit.LingeringCython(),
    limit.NativeLine(),
    *_ways.values(),
    SEGMENTS[0],
    segments.NativeReserved(),
    SEGMENTS[1],
    segments.NativePosix(),
    *SEGMENTS[2:4],
    segments.NativeMemfd(),
    *SEGMENTS[4:],
    *limit.STREAMS,
    *framed.FRAMED,
    *POOLS,
    *locks.LOCKS,
    *locks.SIGNALS,
    *locks.ASKING,
]


def supporting(pattern: Any, job: Job) -> list[Contender]:
    """Who can do this at all, installed or not."""
    return [contender for contender in ALL if contender.supports(pattern, job)]
