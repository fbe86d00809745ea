"""The demo in one picture: what went through, what the workers saw in it, and what moving it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .report import factor_in_words, machine, ratio, yardstick
from .transport import YARDSTICK

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from .photographs import Photograph
    from .pipeline import Outcome

__all__ = ["draw"]

COLORS = {"shmkit.Ring": "#1565c0", "shmkit.Queue": "#00897b", YARDSTICK: "#b0bec5"}
EXAMINING = "#ffb74d"
INK, FAINT, LINE = "#263238", "#607d8b", "#b0bec5"


def draw(photographs: Sequence[Photograph], outcomes: Sequence[Outcome], path: Path) -> None:
    """Write the picture as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 9.2), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    halves = figure.add_gridspec(
        2, 1, height_ratios=(1.12, 1), left=0.055, right=0.975, top=0.868, bottom=0.085, hspace=0.26
    )
    _headline(figure, photographs, outcomes)

    # A single photograph does not fill the width.
    strip = halves[0].subgridspec(
        3, max(4, len(photographs)), height_ratios=(1.25, 1.25, 0.55), hspace=0.08, wspace=0.06
    )
    for column, (photograph, result) in enumerate(zip(photographs, outcomes[0].results, strict=True)):
        axes = [figure.add_subplot(strip[row, column]) for row in range(3)]
        _photograph_column(axes, photograph, result[0], first=column == 0)

    bars = halves[1].subgridspec(1, 3, width_ratios=(1, 1, 1), wspace=0.34)
    _throughput(figure.add_subplot(bars[0]), outcomes)
    _cpu(figure.add_subplot(bars[1]), outcomes)
    _memory(figure.add_subplot(bars[2]), outcomes)
    figure.text(0.055, 0.018, f"{machine()}. {_credits(photographs)}", fontsize=8, color=FAINT)
    figure.savefig(path, format="png")


def _headline(figure: Any, photographs: Sequence[Photograph], outcomes: Sequence[Outcome]) -> None:
    figure.text(0.055, 0.952, _result(outcomes), fontsize=17, weight="bold", color=INK)
    least, most = (pick(photograph.megapixels for photograph in photographs) for pick in (min, max))
    megapixels = f"{least:.1f}" if f"{least:.1f}" == f"{most:.1f}" else f"{least:.1f} to {most:.1f}"
    beginning = {1: "A pipeline: a", 2: "The same pipeline twice: a"}.get(
        len(outcomes), "The same pipeline, once over each: a"
    )
    difference = "Only the transport differs. " if len(outcomes) > 1 else ""
    figure.text(
        0.055,
        0.918,
        f"{beginning} producer streams photographs of {megapixels} megapixels to two workers, which "
        "look for edges and light; a collector\nverifies every frame by checksum. "
        f"{difference}All {' + '.join(f'{run.verified:,}' for run in outcomes)} frames arrived intact and in order.",
        fontsize=10.5,
        color=FAINT,
        va="center",
        linespacing=1.45,
    )


def _result(outcomes: Sequence[Outcome]) -> str:
    theirs = yardstick(outcomes)
    if theirs is None:
        return ", ".join(f"{run.transport}: {run.frames_per_second:,.0f} frames per second" for run in outcomes)
    factors = (
        f"{run.transport} {factor_in_words(run.frames_per_second / theirs.frames_per_second)}"
        for run in outcomes
        if run is not theirs
    )
    return f"{', '.join(factors)} as fast as {theirs.transport}"


def _photograph_column(axes: Sequence[Axes], photograph: Photograph, result: np.void, *, first: bool) -> None:
    height, width = photograph.pixels.shape[:2]
    step = max(1, width // 480)
    axes[0].imshow(photograph.pixels[::step, ::step], extent=(0, 3, 0, 2), aspect="auto")
    axes[0].set_title(f"{photograph.name}, {width} × {height}", fontsize=9.5, color=INK, pad=4)
    axes[1].imshow(np.sqrt(result["edges"]), extent=(0, 3, 0, 2), aspect="auto", cmap="magma")
    bins = result["histogram"].reshape(64, 4).sum(axis=1)
    axes[2].fill_between(np.linspace(0, 255, 64), bins / bins.max(), color=FAINT, linewidth=0)
    axes[2].axvline(float(result["luminance"]), color=EXAMINING, linewidth=1.6)
    axes[2].set(xlim=(0, 255), ylim=(0, 1.08))
    for ax in axes:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
    if first:
        for ax, label in zip(axes, ("frame", "edges", "light"), strict=True):
            ax.set_ylabel(label, fontsize=9.5, color=FAINT)


def _throughput(ax: Axes, outcomes: Sequence[Outcome]) -> None:
    values = [run.frames_per_second for run in outcomes]
    _bars(ax, outcomes, values)
    for x, (run, factor) in enumerate(zip(outcomes, _factors(outcomes, values, more_is_better=True), strict=True)):
        _above(ax, x, values[x], factor, f"{values[x]:,.0f} frames/s", f"{run.gigabytes_per_second:.2f} GB/s")
    _title(ax, "Throughput", "frames per second; more is better", values)


def _cpu(ax: Axes, outcomes: Sequence[Outcome]) -> None:
    examining = [run.computing_per_frame * 1e3 for run in outcomes]
    moving = [run.moving_per_frame * 1e3 for run in outcomes]
    values = [run.cpu_per_frame * 1e3 for run in outcomes]
    _bars(ax, outcomes, examining, color=EXAMINING)
    _bars(ax, outcomes, moving, bottom=examining)
    for x, factor in enumerate(_factors(outcomes, moving, more_is_better=False)):
        _above(ax, x, values[x], factor, f"move {moving[x]:.1f} ms", f"examine {examining[x]:.1f}")
    _title(ax, "CPU time", "ms per frame; orange: to examine it; less is better", values)


def _memory(ax: Axes, outcomes: Sequence[Outcome]) -> None:
    values = [len(run.copies) * run.nbytes / run.frames / 1e6 for run in outcomes]
    _bars(ax, outcomes, values)
    for x, (run, factor) in enumerate(zip(outcomes, _factors(outcomes, values, more_is_better=False), strict=True)):
        copies = len(run.copies)
        faults = f"{run.faults_per_frame:,.{0 if run.faults_per_frame >= 10 else 1}f} page faults"
        _above(ax, x, values[x], factor, f"{copies} {'copy' if copies == 1 else 'copies'}", faults)
    _title(ax, "Copying", "megabytes copied per frame; less is better", values)


def _factors(outcomes: Sequence[Outcome], values: Sequence[float], *, more_is_better: bool) -> list[str]:
    theirs = yardstick(outcomes)
    if theirs is None:
        return [""] * len(outcomes)
    beside = values[outcomes.index(theirs)]
    return [
        "" if run is theirs else factor_in_words(ratio(value, beside, more_is_better=more_is_better))
        for run, value in zip(outcomes, values, strict=True)
    ]


def _bars(
    ax: Axes,
    outcomes: Sequence[Outcome],
    values: Sequence[float],
    *,
    color: str | None = None,
    bottom: Sequence[float] | float = 0,
) -> None:
    colors = [color or COLORS[run.transport] for run in outcomes]
    ax.bar(range(len(values)), values, width=0.6, color=colors, bottom=bottom)
    names = [run.transport.replace(".", "\n.") for run in outcomes]
    ax.set_xticks(range(len(values)), names, fontsize=10, color=INK)


def _above(ax: Axes, x: float, y: float, factor: str, first: str, second: str) -> None:
    said: list[tuple[str, int, dict[str, Any]]] = [
        (factor, 31, {"fontsize": 13, "weight": "bold", "color": INK}),
        (first, 17, {"fontsize": 9.5, "color": INK}),
        (second, 5, {"fontsize": 8.5, "color": FAINT}),
    ]
    for words, offset, style in said:
        ax.annotate(words, (x, y), (0, offset), textcoords="offset points", ha="center", **style)


def _title(ax: Axes, title: str, unit: str, values: Sequence[float]) -> None:
    ax.set_title(title, loc="left", fontsize=12.5, weight="bold", color=INK, pad=22)
    ax.text(0, 1.025, unit, transform=ax.transAxes, fontsize=9, color=FAINT)
    ax.set_xlim(-0.5, max(2, len(values)) - 0.5)  # a single bar does not fill the width
    ax.set_ylim(0, max(values) * 1.28)
    ax.tick_params(axis="x", length=0)
    ax.tick_params(axis="y", labelsize=8.5, labelcolor=FAINT, color=LINE)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(LINE)


def _credits(photographs: Sequence[Photograph]) -> str:
    by_author: dict[str, list[str]] = {}
    for photograph in photographs:
        by_author.setdefault(photograph.author, []).append(photograph.name)
    return "Photographs: " + "; ".join(f"{', '.join(names)} by {author}" for author, names in by_author.items()) + "."
