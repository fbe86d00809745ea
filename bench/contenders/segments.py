"""What creating, mapping, closing and unlinking shared memory takes in C."""

from __future__ import annotations

from limits import compiled
from shmkit.cli.bench.contenders.segments import Segments


class NativePosix(Segments):
    name = "LIMIT C shm_open"
    family = "limit"

    def cycles(self, name: str, size: int, count: int) -> None:
        compiled.segment_cycles(name, size, count)


class NativeReserved(Segments):
    name = "LIMIT C shm_open, reserved"
    family = "limit"

    def cycles(self, name: str, size: int, count: int) -> None:
        compiled.segment_cycles(name, size, count, reserved=True)


class NativeMemfd(Segments):
    name = "LIMIT C memfd"
    family = "limit"

    def cycles(self, name: str, size: int, count: int) -> None:
        compiled.segment_cycles(None, size, count)
