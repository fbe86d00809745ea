"""What was measured, in words: a table for each pattern and size, and JSON."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, NamedTuple

from shmkit.cli.table import Cell, Column, format_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from .harness import Comparison
    from .suite import Setup

__all__ = ["MEMCPY", "Row", "as_json", "from_json", "overviews", "rows_of", "span", "speed", "table", "volume"]

MEMCPY = "memcpy"
_UNITS = ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s"))


class Row(NamedTuple):
    """All rounds of a mechanism with one pattern and size, in seconds per message (trip, cycle, task)."""

    mechanism: str
    group: str
    copies: bool
    pattern: str
    size: int
    rounds: list[float]
    cpu: float = 0.0
    """Seconds of all processors for each message."""
    sleeps: float | None = None
    """How often a process gave its processor away to wait."""
    calls: float | None = None
    """System calls; None: they were not counted."""
    extra: dict[str, float] = {}  # noqa: RUF012  # nobody changes it
    error: str | None = None

    @property
    def seconds(self) -> float | None:
        """The median; None if nothing could be measured."""
        return statistics.median(self.rounds) if self.rounds else None

    @property
    def spread(self) -> float:
        """How far the slowest and the fastest round are apart, as a share of the median."""
        return (max(self.rounds) - min(self.rounds)) / (self.seconds or 1.0) if self.rounds else 0.0


def rows_of(comparison: Comparison, setup: Setup) -> list[Row]:
    """What a comparison found, a row for each contender."""
    rows = []
    for one in setup.contenders:
        cells = comparison.cells.get(one.name, [])
        good = comparison.good(one.name)
        failed = cells and not good
        rows.append(
            Row(
                one.name,
                one.family,
                one.copies,
                setup.name,
                setup.size,
                [cell.seconds for cell in good],
                statistics.median(sum(cell.cpu) / cell.count for cell in good) if good else 0.0,
                statistics.median(cell.sleeps for cell in good) if good else None,
                comparison.calls.get(one.name),
                {key: statistics.median(cell.extra[key] for cell in good) for key in good[0].extra} if good else {},
                (cells[0].error or "").strip().splitlines()[-1] if failed else None,
            )
        )
    return rows


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


# What a message is called in a pattern, and over the column of its time.
_TIMES = {
    "round trip": "ROUND TRIP", "wake-up": "WAKE-UP", "create": "CYCLE", "attach": "CYCLE", "tasks": "PER TASK",
    "array tasks": "PER TASK",
}  # fmt: skip


def table(rows: list[Row], width: int | None, paint: Callable[[str, str], str] | None) -> str:
    """One pattern, one size: the fastest first."""
    pattern = rows[0].pattern
    measured = [row for row in rows if row.mechanism != MEMCPY]
    best = min((row.seconds for row in measured if row.seconds is not None and row.copies), default=None)
    copied = next((row.seconds for row in rows if row.mechanism == MEMCPY), None)
    streams = pattern in ("throughput", "many to many")
    columns = [
        Column("MECHANISM", least=14),
        Column(_TIMES.get(pattern, "PER MESSAGE"), right=True),
        *([Column("MESSAGES", right=True, goes=2)] if streams else []),
        *([Column("THROUGHPUT", right=True)] if pattern == "throughput" else []),
        Column("SPREAD", right=True, goes=3),
        Column("CPU", right=True, goes=4),
        *([Column("CALLS", right=True, goes=5)] if any(row.calls is not None for row in rows) else []),
        Column("SLEEPS", right=True, goes=6),
        *([Column("SHARES", right=True, goes=7)] if any("balance" in row.extra for row in rows) else []),
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
        found = {
            "MESSAGES": _rate(1 / seconds),
            "THROUGHPUT": speed(row.size / seconds),
            "SPREAD": f"{100 * row.spread:.0f} %",
            "CPU": span(row.cpu),
            "CALLS": "" if row.calls is None else _few(row.calls),
            "SLEEPS": "" if row.sleeps is None else _few(row.sleeps),
            "SHARES": f"{row.extra['balance']:.2f}" if "balance" in row.extra else "",
            "× BEST": "best" if is_best else _times(seconds / best) if best and row.mechanism != MEMCPY else "",
            "× MEMCPY": _times(seconds / copied) if copied and row.mechanism != MEMCPY else "",
        }
        lines.append(
            [
                Cell(name, f"bold {style}".strip() if is_best else style),
                Cell(span(seconds)),
                *(Cell(found[column.title]) for column in columns[2:]),
            ]
        )
    return format_table(columns, lines, width, paint)


def overviews(rows: list[Row], width: int | None, paint: Callable[[str, str], str] | None) -> dict[str, str]:
    """Tables with a column for each size, by what they say; throughput is told of small messages, and of large ones."""
    measures: dict[str, Callable[[int, float], str]] = {"time": lambda _, seconds: span(seconds)}
    if rows[0].pattern == "throughput":
        measures = {
            "messages a second": lambda _, seconds: _rate(1 / seconds),
            "bytes a second": lambda size, seconds: speed(size / seconds),
        }
    return {name: _overview(rows, say, width, paint) for name, say in measures.items()}


def _overview(
    rows: list[Row],
    say: Callable[[int, float], str],
    width: int | None,
    paint: Callable[[str, str], str] | None,
) -> str:
    """One pattern, in one measure: the fastest in the middle size first."""
    sizes = sorted({row.size for row in rows})
    cells = {(row.mechanism, row.size): row for row in rows if row.seconds is not None}
    best = {
        size: min((row.seconds or 0.0 for row in cells.values() if row.size == size and row.copies), default=0.0)
        for size in sizes
    }
    middle = sizes[len(sizes) // 2]
    names = list(dict.fromkeys(row.mechanism for row in rows if row.mechanism != MEMCPY))

    def place(name: str) -> tuple[bool, float]:
        row = cells.get((name, middle))
        return row is None, (row.seconds if row and row.seconds is not None else 0.0)

    lines = []
    for name in sorted(names, key=place):
        row = next(row for row in rows if row.mechanism == name)
        style = "green" if row.group == "shmkit" else ""
        line = [Cell(name if row.copies else f"{name} *", style)]
        for size in sizes:
            found = cells.get((name, size))
            if found is None or found.seconds is None:
                line.append(Cell("–", "dim"))
                continue
            line.append(Cell(say(size, found.seconds), "bold" if found.seconds == best[size] else ""))
        lines.append(line)
    columns = [
        Column("MECHANISM", least=14),
        *(Column(volume(size), right=True, goes=1 + abs(at - len(sizes) // 2)) for at, size in enumerate(sizes)),
    ]
    return format_table(columns, lines, width, paint)


def _few(number: float) -> str:
    """A count per message."""
    return f"{number:.0f}" if number >= 9.95 else f"{number:.1f}" if number >= 0.05 else "0"


def _times(ratio: float) -> str:
    return f"{ratio:.0f} ×" if ratio >= 9.95 else f"{ratio:.1f} ×" if ratio >= 0.95 else f"{ratio:.2g} ×"


def as_json(rows: list[Row], facts: dict[str, Any]) -> dict[str, Any]:
    """Everything, in seconds and bytes."""
    return {
        "schema": 2,
        **facts,
        "results": [
            {
                "mechanism": row.mechanism,
                "group": row.group,
                "copies": row.copies,
                "pattern": row.pattern,
                "size": row.size,
                "seconds": row.seconds,
                "spread": round(row.spread, 3),
                "cpu": row.cpu,
                "sleeps": row.sleeps,
                "calls": row.calls,
                "extra": row.extra,
                "rounds": row.rounds,
                "error": row.error,
            }
            for row in rows
        ],
    }


def from_json(run: dict[str, Any]) -> list[Row]:
    """The rows of a run that was written."""
    if run.get("schema") != 2:
        raise ValueError(f"this reads runs of schema 2: got {run.get('schema')!r}")
    return [
        Row(
            found["mechanism"],
            found["group"],
            found["copies"],
            found["pattern"],
            found["size"],
            found["rounds"],
            found["cpu"],
            found["sleeps"],
            found["calls"],
            found["extra"],
            found["error"],
        )
        for found in run["results"]
    ]
