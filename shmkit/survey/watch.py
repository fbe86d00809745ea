"""Rates of everything that messages go through: counters read again and again, and what lies between.

Nothing is kept open or mapped between two looks, so whatever goes meanwhile goes.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from shmkit.segment import posix
from shmkit.survey import heading, system_v
from shmkit.survey.details import Details, Gauge
from shmkit.survey.kinds import KINDS, details_of, gauge_of
from shmkit.survey.names import posix_address
from shmkit.survey.processes import Processes, file_of
from shmkit.survey.reading import Reading, open_file

__all__ = ["Rate", "Watch"]

# Anonymous memory is found by asking every process, which takes at most this share of the time.
_SHARE = 0.05


class Rate(NamedTuple):
    """A stream, now and since the look before; rates are per second; None at the first look, or if nobody counts."""

    address: str
    kind: str
    gauge: Gauge
    details: Details
    sent: float | None
    received: float | None
    bytes_sent: float | None
    sleeps: float | None
    dropped: float | None


class _Seen(NamedTuple):
    when: float
    gauge: Gauge
    identity: int


class Watch:
    """``look`` again and again; each time it says what there is, and how fast it goes."""

    def __init__(self) -> None:
        self._dull: set[tuple[str, int]] = set()
        self._before: dict[str, _Seen] = {}
        self._memory: dict[tuple[int, int, int], str | None] = {}
        self._due = 0.0

    def look(self) -> list[Rate]:
        """Every stream that there is now."""
        found: list[Rate] = []
        self._look_at_files(found)
        self._look_at_memory(found)
        self._look_at_sysv(found)
        seen = {rate.address for rate in found}
        self._before = {address: before for address, before in self._before.items() if address in seen}
        return found

    def _look_at_files(self, found: list[Rate]) -> None:
        dull = set()
        try:
            entries = list(os.scandir(posix.FOLDER))
        except OSError:
            return
        for entry in entries:
            # What is no stream stays none, as long as it is the same file.
            key = entry.name, entry.inode()
            if key in self._dull:
                dull.add(key)
                continue
            try:
                reading, _ = open_file(entry.path)
            except OSError:
                continue
            with reading:
                if not self._look_into(reading, posix_address(entry.name), found):
                    dull.add(key)
        self._dull = dull

    def _look_at_memory(self, found: list[Rate]) -> None:
        now = time.monotonic()
        if now >= self._due:
            self._memory = Processes().memfds
            done = time.monotonic()
            self._due = done + (done - now) / _SHARE
        for known, path in self._memory.items():
            if path is None:
                continue
            try:
                reading, status = open_file(path, follow=True)
            except OSError:
                continue
            with reading:
                if file_of(status) == known:
                    pid, number = path.split("/")[2::2]
                    self._look_into(reading, f"memfd:{pid}/{number}", found)

    def _look_at_sysv(self, found: list[Rate]) -> None:
        for row in system_v.rows("shm"):
            try:
                reading, seen = system_v.open_segment(row["shmid"], row["size"])
            except OSError:
                continue
            with reading:
                name = seen.meta.get("name") if seen.state == "whole" else None
                self._look_into(reading, f"sysv:{name}" if isinstance(name, str) else f"sysv:#{row['shmid']}", found)

    def _look_into(self, reading: Reading, address: str, found: list[Rate]) -> bool:
        """Whether it is a stream at all."""
        seen = heading.look(reading)
        if seen.header is None or seen.state != "whole" or KINDS[seen.kind].gauge is None:
            return False
        now = time.monotonic()
        gauge = gauge_of(reading, seen.kind, seen.header.header_size)
        if gauge is None:
            return True
        found.append(self._rate(address, seen.kind, seen.header.identity, now, gauge, details_of(reading, seen)))
        self._before[address] = _Seen(now, gauge, seen.header.identity)
        return True

    def _rate(self, address: str, kind: str, identity: int, now: float, gauge: Gauge, details: Details) -> Rate:
        before = self._before.get(address)
        if before is None or before.identity != identity or now <= before.when:
            return Rate(address, kind, gauge, details, None, None, None, None, None)

        def rate(counter: str) -> float | None:
            value, was = getattr(gauge, counter), getattr(before.gauge, counter)
            # A successor may correct a dead one's counter by a record.
            return None if value is None or was is None else max(value - was, 0) / (now - before.when)

        counters = ("sent", "received", "bytes_sent", "sleeps", "dropped")
        return Rate(address, kind, gauge, details, *map(rate, counters))
