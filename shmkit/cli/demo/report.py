"""What the demo measured, as a table to read and as JSON."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .photographs import Photograph
    from .pipeline import Outcome

__all__ = ["as_json", "copies_explained", "machine", "ratio", "table"]


class _Row(NamedTuple):
    label: str
    unit: str
    value: Callable[[Outcome], float]
    decimals: int
    more_is_better: bool


ROWS = (
    _Row("throughput", "frames/s", lambda run: run.frames_per_second, 1, True),
    _Row("", "GB/s", lambda run: run.gigabytes_per_second, 2, True),
    _Row("CPU, all processes", "s", lambda run: run.cpu, 2, False),
    _Row("  per frame", "ms", lambda run: run.cpu_per_frame * 1e3, 2, False),
    _Row("  to examine it", "ms", lambda run: run.computing_per_frame * 1e3, 2, False),
    _Row("  to move it", "ms", lambda run: run.moving_per_frame * 1e3, 2, False),
    _Row("copies of each frame", "", lambda run: len(run.copies), 0, False),
    _Row("page faults per frame", "", lambda run: run.faults_per_frame, 1, False),
    _Row("workers getting frames", "% of time", lambda run: run.getting_frames * 100, 0, False),
)


def ratio(ours: float, theirs: float, *, more_is_better: bool) -> float | None:
    """How many times better ``ours`` is; None where that has no meaning."""
    better, worse = (ours, theirs) if more_is_better else (theirs, ours)
    return better / worse if worse > 0 and better > 0 else None


def table(ours: Outcome, theirs: Outcome) -> str:
    """The two runs side by side, with the factor between them."""
    lines = [f"{'':36}{ours.transport:>14}{theirs.transport:>24}{'':>10}"]
    for row in ROWS:
        values = row.value(ours), row.value(theirs)
        factor = ratio(*values, more_is_better=row.more_is_better)
        lines.append(
            f"{row.label:<26}{row.unit:<10}{values[0]:>14,.{row.decimals}f}{values[1]:>24,.{row.decimals}f}"
            f"{_factor(factor):>10}"
        )
    lines.append(f"{'frames verified':<36}{ours.verified:>14,}{theirs.verified:>24,}{'all':>10}")
    return "\n".join(lines)


def _factor(factor: float | None) -> str:
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
