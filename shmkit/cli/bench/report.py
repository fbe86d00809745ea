"""What was measured, in words: a table for each pattern and size, and JSON."""

from __future__ import annotations

import os
import platform
import statistics
from typing import TYPE_CHECKING, Any, NamedTuple

from shmkit.cli.table import Cell, Column, format_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from . import cell

__all__ = ["MEMCPY", "Row", "as_json", "machine", "span", "speed", "table", "volume"]

MEMCPY = "memcpy"
_UNITS = ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s"))


class Row(NamedTuple):
    """All rounds of a mechanism with one pattern and size."""

    mechanism: str
    group: str
    copies: bool
    pattern: str
    size: int
    cells: list[cell.Cell]

    @property
    def good(self) -> list[cell.Cell]:
        """The rounds in which nothing went wrong."""
        return [found for found in self.cells if found.error is None]

    @property
    def seconds(self) -> float | None:
        """The median; None if nothing could be measured."""
        return statistics.median(found.seconds for found in self.good) if self.good else None

    @property
    def spread(self) -> float:
        """How far the slowest and the fastest round are apart, as a share of the median."""
        times = [found.seconds for found in self.good]
        return (max(times) - min(times)) / (self.seconds or 1.0) if times else 0.0

    @property
    def cpu(self) -> float:
        """Seconds of both processors for each message."""
        return statistics.median(found.cpu for found in self.good) if self.good else 0.0

    @property
    def error(self) -> str | None:
        """What went wrong, if it never went well."""
        return None if self.good or not self.cells else self.cells[0].error


def span(seconds: float) -> str:
    """A time in three digits and a unit."""
    for unit, name in _UNITS:
        if seconds < 999.5 * unit or unit == 1.0:
            return f"{_three(seconds / unit)} {name}"
    raise AssertionError


def speed(per_second: float) -> str:
    """Bytes per second, in units of 1000s."""
    for unit, name in ((1e12, "TB/s"), (1e9, "GB/s"), (1e6, "MB/s")):
        if per_second >= unit:
            return f"{_three(per_second / unit)} {name}"
    return f"{_three(per_second / 1e3)} kB/s"


def volume(size: int) -> str:
    """The size of a message."""
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:g} {name}"
    return f"{size} B"


def _three(number: float) -> str:
    return f"{number:.0f}" if number >= 99.95 else f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"


def _rate(per_second: float) -> str:
    for unit, name in ((1e6, "M/s"), (1e3, "k/s")):
        if per_second >= unit:
            return f"{_three(per_second / unit)} {name}"
    return f"{_three(per_second)} /s"


def table(rows: list[Row], width: int | None, paint: Callable[[str, str], str] | None) -> str:
    """One pattern, one size: the fastest first."""
    pattern = rows[0].pattern
    measured = [row for row in rows if row.mechanism != MEMCPY]
    best = min((row.seconds for row in measured if row.seconds is not None and row.copies), default=None)
    copied = next((row.seconds for row in rows if row.mechanism == MEMCPY), None)
    columns = [
        Column("MECHANISM", least=14),
        Column("ROUND TRIP" if pattern == "round trip" else "PER MESSAGE", right=True),
        *(
            [Column("MESSAGES", right=True, goes=2), Column("THROUGHPUT", right=True)]
            if pattern == "throughput"
            else []
        ),
        Column("SPREAD", right=True, goes=3),
        Column("CPU", right=True, goes=4),
        Column("× BEST", right=True),
        *([Column("× MEMCPY", right=True, goes=1)] if copied else []),
    ]
    lines = []
    for row in sorted(rows, key=lambda row: row.seconds or float("inf")):
        style = "green" if row.group == "shmkit" else "dim" if row.mechanism == MEMCPY else ""
        name = row.mechanism if row.copies else f"{row.mechanism} *"
        seconds = row.seconds
        if seconds is None:
            lines.append([Cell(name, style), Cell("failed", "red"), *[Cell("")] * (len(columns) - 2)])
            continue
        is_best = seconds == best and row.copies and row.mechanism != MEMCPY
        lines.append(
            [
                Cell(name, f"bold {style}".strip() if is_best else style),
                Cell(span(seconds)),
                *([Cell(_rate(1 / seconds)), Cell(speed(row.size / seconds))] if pattern == "throughput" else []),
                Cell(f"{100 * row.spread:.0f} %"),
                Cell(span(row.cpu)),
                Cell("best" if is_best else _times(seconds / best) if best and row.mechanism != MEMCPY else ""),
                *([Cell("" if row.mechanism == MEMCPY else _times(seconds / copied))] if copied else []),
            ]
        )
    return format_table(columns, lines, width, paint)


def _times(ratio: float) -> str:
    return f"{ratio:.0f} ×" if ratio >= 9.95 else f"{ratio:.1f} ×" if ratio >= 0.95 else f"{ratio:.2g} ×"


def machine() -> str:
    """What it was measured on, in a line."""
    model = platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0))
    many = "s" if cores != 1 else ""
    return f"{model}, {cores} core{many}, Linux {platform.release()}, Python {platform.python_version()}"


def as_json(rows: list[Row], facts: dict[str, Any]) -> dict[str, Any]:
    """Everything, in seconds and bytes."""
    return {
        "schema": 1,
        **facts,
        "machine": machine(),
        "results": [
            {
                "mechanism": row.mechanism,
                "group": row.group,
                "copies": row.copies,
                "pattern": row.pattern,
                "size": row.size,
                "seconds": row.seconds,
                "spread": row.spread,
                "cpu": row.cpu,
                "rounds": [found.seconds for found in row.good],
                "error": row.error,
            }
            for row in rows
        ],
    }
