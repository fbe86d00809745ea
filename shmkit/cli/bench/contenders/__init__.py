"""Everybody who can be compared without a compiler: the ways from one process to another, segments, pools."""

from __future__ import annotations

from shmkit.cli.bench.contenders import kernel, more_peers, ours, peers, pools, segments, stdlib
from shmkit.cli.bench.contenders.channels import CHANNELS
from shmkit.cli.bench.face import Contender

__all__ = ["OURS", "POOLS", "SEGMENTS", "WAYS"]

OURS: list[Contender] = [
    ours.Ring(),
    ours.RingInPlace(),
    ours.Queue(),
    ours.QueueByReference(),
    ours.Topic(),
    *CHANNELS,
]
WAYS: list[Contender] = [
    *OURS,
    kernel.OsPipe(),
    kernel.Fifo(),
    kernel.UnixSocket(),
    kernel.UnixPackets(),
    kernel.TcpSocket(),
    kernel.PosixQueue(),
    kernel.SysVQueue(),
    *stdlib.DROP_INS,
    stdlib.Queue(),
    stdlib.SimpleQueue(),
    stdlib.Pipe(),
    stdlib.HandRing(),
    stdlib.Semaphores(),
    peers.FasterFifo(),
    peers.Zmq(),
    peers.Iceoryx(),
    more_peers.Cloudtoid(),
    more_peers.Subetha(),
    more_peers.Kickmsg(),
    more_peers.Momentum(),
    more_peers.PySharedMemory(),
    more_peers.Torch(),
]
SEGMENTS: list[Contender] = [
    segments.ShmkitNamed(),
    segments.ShmkitUnreserved(),
    segments.ShmkitAnonymous(),
    segments.ShmkitArray(),
    segments.ByHandMemfd(),
    segments.ByHandPosix(),
    segments.StdlibSharedMemory(),
    segments.SharedArrayPackage(),
]
POOLS: list[Contender] = pools.POOLS
