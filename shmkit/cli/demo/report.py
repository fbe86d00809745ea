"""What the demo measured, as a table to read and as JSON."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any, NamedTuple

from .transport import YARDSTICK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .photographs import Photograph
    from .pipeline import Outcome

__all__ = ["as_json", "copies_explained", "factor_in_words", "machine", "ratio", "table", "yardstick"]

# Characters of the table's columns.
LABEL, OURS, FACTOR, THEIRS = 23, 8, 9, 23


class _Row(NamedTuple):
    label: str
    value: Callable[[Outcome], float]
    form: str
    more_is_better: bool


ROWS = (
    _Row("throughput, frames/s", lambda run: run.frames_per_second, ",.1f", True),
    _Row("            GB/s", lambda run: run.gigabytes_per_second, ",.2f", True),
    _Row("CPU, all processes, s", lambda run: run.cpu, ",.2f", False),
    _Row("  per frame, ms", lambda run: run.cpu_per_frame * 1e3, ",.2f", False),
    _Row("  to examine it, ms", lambda run: run.computing_per_frame * 1e3, ",.2f", False),
    _Row("  to move it, ms", lambda run: run.moving_per_frame * 1e3, ",.2f", False),
    _Row("copies of each frame", lambda run: len(run.copies), ",.0f", False),
    _Row("page faults per frame", lambda run: run.faults_per_frame, ",.1f", False),
    _Row("workers getting frames", lambda run: run.getting_frames, ".0%", False),
)


def ratio(ours: float, theirs: float, *, more_is_better: bool) -> float | None:
    """How many times better ``ours`` is; None where that has no meaning."""
    better, worse = (ours, theirs) if more_is_better else (theirs, ours)
    return better / worse if worse > 0 and better > 0 else None


def yardstick(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The run that the others are measured against, if there are others."""
    return next((run for run in outcomes if run.transport == YARDSTICK and len(outcomes) > 1), None)


def table(outcomes: Sequence[Outcome]) -> str:
    """The runs side by side, each of ours with its factor against the standard library's."""
    theirs = yardstick(outcomes)
    lines = [_line("", [f"{run.transport:>{_width(run)}}" for run in outcomes])]
    for row in ROWS:
        cells = []
        for run in outcomes:
            value = row.value(run)
            if theirs is None or run is theirs:
                cells.append(f"{value:>{_width(run)}{row.form}}")
            else:
                factor = ratio(value, row.value(theirs), more_is_better=row.more_is_better)
                cells.append(f"{value:>{OURS}{row.form}}{factor_in_words(factor):>{FACTOR}}")
        lines.append(_line(row.label, cells))
    lines.append(_line("frames verified: all", [f"{run.verified:>{_width(run)},}" for run in outcomes]))
    if theirs is not None:
        lines.append(f"\n×: how many times better than {theirs.transport}.")
    return "\n".join(lines)


def _line(label: str, cells: Sequence[str]) -> str:
    return f"{label:<{LABEL}}{''.join(cells)}"


def _width(run: Outcome) -> int:
    return THEIRS if run.transport == YARDSTICK else OURS + FACTOR


def factor_in_words(factor: float | None) -> str:
    """As "3.1 ×"; nothing where it has no meaning."""
    if factor is None:
        return ""
    return f"{factor:,.0f} ×" if factor >= 100 else f"{factor:.1f} ×"


def copies_explained(outcome: Outcome) -> str:
    """Where each copy of a frame is made."""
    lines = [f"Copies of a frame's pixels with {outcome.transport}:"]
    lines += [f"  {number}. {where}" for number, where in enumerate(outcome.copies, 1)]
    return "\n".join(lines)


def machine() -> str:
    """What this ran on, in one line."""
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} {'core' if cores == 1 else 'cores'}, Linux {platform.release()}, Python {platform.python_version()}"
    )


def as_json(photographs: Sequence[Photograph], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Everything in the table, in SI units, and what was streamed."""
    return {
        "machine": machine(),
        "photographs": {photograph.name: list(photograph.pixels.shape) for photograph in photographs},
        "runs": [
            {
                "transport": run.transport,
                "frames": run.frames,
                "frames_verified": run.verified,
                "bytes": run.nbytes,
                "seconds": run.seconds,
                "frames_per_second": run.frames_per_second,
                "bytes_per_second": run.nbytes / run.seconds,
                "cpu_seconds": run.cpu,
                "cpu_seconds_examining": run.computing,
                "copies_per_frame": len(run.copies),
                "copies": list(run.copies),
                "minor_faults_per_frame": run.faults_per_frame,
                "workers_getting_frames": run.getting_frames,
            }
            for run in outcomes
        ],
    }
