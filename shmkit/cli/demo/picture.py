"""The demo in one picture: what went through, what the workers saw in it, and what moving it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .report import machine, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from .photographs import Photograph
    from .pipeline import Outcome

__all__ = ["draw"]

OURS, THEIRS = "#1565c0", "#b0bec5"
EXAMINING = "#ffb74d"
INK, FAINT = "#263238", "#607d8b"


def draw(photographs: Sequence[Photograph], outcomes: Sequence[Outcome], path: Path) -> None:
    """Write the picture as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ours, theirs = outcomes
    figure = Figure(figsize=(13, 9.2), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    halves = figure.add_gridspec(
        2, 1, height_ratios=(1.12, 1), left=0.055, right=0.975, top=0.868, bottom=0.085, hspace=0.26
    )
    _headline(figure, photographs, ours, theirs)

    # A single photograph does not fill the width.
    strip = halves[0].subgridspec(
        3, max(4, len(photographs)), height_ratios=(1.25, 1.25, 0.55), hspace=0.08, wspace=0.06
    )
    for column, (photograph, result) in enumerate(zip(photographs, ours.results, strict=True)):
        axes = [figure.add_subplot(strip[row, column]) for row in range(3)]
        _photograph_column(axes, photograph, result[0], first=column == 0)

    bars = halves[1].subgridspec(1, 3, width_ratios=(1, 1, 1), wspace=0.34)
    _throughput(figure.add_subplot(bars[0]), outcomes)
    _cpu(figure.add_subplot(bars[1]), outcomes)
    _memory(figure.add_subplot(bars[2]), outcomes)
    figure.text(0.055, 0.018, f"{machine()}. {_credits(photographs)}", fontsize=8, color=FAINT)
    figure.savefig(path, format="png")


def _headline(figure: Any, photographs: Sequence[Photograph], ours: Outcome, theirs: Outcome) -> None:
    faster = ratio(ours.frames_per_second, theirs.frames_per_second, more_is_better=True) or 1.0
    least, most = (pick(photograph.megapixels for photograph in photographs) for pick in (min, max))
    figure.text(
        0.055,
        0.952,
        f"{faster:.1f} × the frames per second of {theirs.transport}"
        if faster >= 1
        else f"{1 / faster:.1f} × slower than {theirs.transport}",
        fontsize=19,
        weight="bold",
        color=INK,
    )
    megapixels = f"{least:.1f}" if f"{least:.1f}" == f"{most:.1f}" else f"{least:.1f} to {most:.1f}"
    figure.text(
        0.055,
        0.918,
        f"The same pipeline twice: a producer streams photographs of {megapixels} megapixels to two workers, which "
        "look for edges and light; a collector\nverifies every frame by checksum. Only the transport differs. "
        f"All {ours.verified:,} + {theirs.verified:,} frames arrived intact and in order.",
        fontsize=10.5,
        color=FAINT,
        va="center",
        linespacing=1.45,
    )


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
    _bars(ax, outcomes, values, [OURS, THEIRS])
    for x, run in enumerate(outcomes):
        _above(ax, x, values[x], f"{values[x]:,.0f} frames/s", f"{run.gigabytes_per_second:.2f} GB/s")
    _title(ax, "Throughput", "frames per second; more is better", values, more_is_better=True)


def _cpu(ax: Axes, outcomes: Sequence[Outcome]) -> None:
    examining = [run.computing_per_frame * 1e3 for run in outcomes]
    moving = [run.moving_per_frame * 1e3 for run in outcomes]
    values = [run.cpu_per_frame * 1e3 for run in outcomes]
    _bars(ax, outcomes, examining, [EXAMINING, EXAMINING], width=0.46)
    _bars(ax, outcomes, moving, [OURS, THEIRS], width=0.46, bottom=examining)
    for x, run in enumerate(outcomes):
        _above(ax, x, values[x], f"{values[x]:.1f} ms per frame", f"{run.cpu:.1f} s in all")
        beside: dict[str, Any] = {"fontsize": 8.5, "color": INK, "va": "center"}
        ax.text(x + 0.25, examining[x] / 2, f"examine {examining[x]:.1f}", **beside)
        ax.text(x + 0.25, examining[x] + moving[x] / 2, f"move {moving[x]:.1f}", **beside)
    ax.set_xlim(-0.5, 1.65)
    factor = ratio(moving[0], moving[1], more_is_better=False)
    alone = "" if factor is None else f" (moving alone: {factor:.1f} ×)"
    _title(ax, "CPU time", f"ms per frame; less is better{alone}", values, more_is_better=False)


def _memory(ax: Axes, outcomes: Sequence[Outcome]) -> None:
    values = [len(run.copies) * run.nbytes / run.frames / 1e6 for run in outcomes]
    _bars(ax, outcomes, values, [OURS, THEIRS])
    for x, run in enumerate(outcomes):
        copies = len(run.copies)
        _above(
            ax,
            x,
            values[x],
            f"{copies} {'copy' if copies == 1 else 'copies'}, {values[x]:,.0f} MB",
            f"{run.faults_per_frame:,.{0 if run.faults_per_frame >= 10 else 1}f} page faults",
        )
    _title(ax, "Copying", "megabytes copied per frame; less is better", values, more_is_better=False)


def _bars(
    ax: Axes,
    outcomes: Sequence[Outcome],
    values: Sequence[float],
    colors: Sequence[str],
    *,
    width: float = 0.6,
    bottom: Sequence[float] = (0, 0),
) -> None:
    ax.bar(range(len(values)), values, width=width, color=colors, bottom=bottom)
    ax.set_xticks(range(len(values)), [run.transport for run in outcomes], fontsize=10, color=INK)


def _above(ax: Axes, x: float, y: float, first: str, second: str) -> None:
    ax.annotate(first, (x, y), (0, 17), textcoords="offset points", ha="center", fontsize=11, weight="bold", color=INK)
    ax.annotate(second, (x, y), (0, 5), textcoords="offset points", ha="center", fontsize=8.5, color=FAINT)


def _title(ax: Axes, title: str, unit: str, values: Sequence[float], *, more_is_better: bool) -> None:
    factor = ratio(values[0], values[1], more_is_better=more_is_better)
    words = "" if factor is None else f": {factor:.1f} × {'more' if more_is_better else 'less'}"
    ax.set_title(title + words, loc="left", fontsize=12.5, weight="bold", color=INK, pad=22)
    ax.text(0, 1.025, unit, transform=ax.transAxes, fontsize=9, color=FAINT)
    ax.set_ylim(0, max(values) * 1.2)
    ax.tick_params(axis="x", length=0)
    ax.tick_params(axis="y", labelsize=8.5, labelcolor=FAINT, color=THEIRS)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(THEIRS)


def _credits(photographs: Sequence[Photograph]) -> str:
    by_author: dict[str, list[str]] = {}
    for photograph in photographs:
        by_author.setdefault(photograph.author, []).append(photograph.name)
    return "Photographs: " + "; ".join(f"{', '.join(names)} by {author}" for author, names in by_author.items()) + "."
