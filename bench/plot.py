"""Draws a run of figures.py: frames over their size, small messages, round trips, segments.

python bench/plot.py results/figures.json results/figures.png
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

import suite
from patterns import size_name
from targets import good, per_second, rate, seconds, span

OURS = "#d1495b"
LIMIT = "#9aa0a6"
PEER = "#7d9cc0"
# Told apart in print and by the colour-blind (Okabe and Ito); the red is shmkit's.
LINES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#6a4c93", "#7f5539", "#444444"]

Rows = dict[str, list[dict[str, Any]]]


def rows_of(run: dict[str, Any], setup: suite.Setup) -> Rows:
    found: Rows = run["setups"].get(setup.title, {}).get("cells", {})
    return found


def spread(places: list[float], gap: float) -> list[float]:
    """Moves sorted label positions apart, as little as their order allows."""
    places = list(places)
    for _ in range(200):
        for i in range(1, len(places)):
            lack = gap - (places[i] - places[i - 1])
            if lack > 0:
                places[i - 1] -= lack / 2
                places[i] += lack / 2
    return places


def frames(axes: Axes, run: dict[str, Any]) -> None:
    """Gigabytes a second over the size of a frame; each line is named at its right end."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for setup in suite.FRAMES:
        rows = rows_of(run, setup)
        for name in rows:
            if good(rows, name):
                lines.setdefault(name, []).append((setup.job.size, rate(rows, name) * setup.job.size / 1e9))
    colours = iter(LINES)
    ends = []
    for name in sorted(lines, key=lambda name: -lines[name][-1][1]):
        sizes, rates = zip(*lines[name], strict=True)
        if name.startswith("shmkit"):
            style: dict[str, Any] = {"color": OURS, "linewidth": 3, "zorder": 5, "marker": "o", "markersize": 6}
        elif name.startswith("LIMIT"):
            dashes = (0, (1, 1.2)) if "Cython" in name else (0, (4, 2))
            style = {"color": LIMIT, "linewidth": 2, "linestyle": dashes, "zorder": 4}
        else:
            style = {"color": next(colours, "#444444"), "linewidth": 1.4, "marker": "o", "markersize": 3.5}
        axes.plot(sizes, rates, **style)
        ends.append((math.log10(rates[-1]), sizes[-1], name, style["color"]))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    sizes_shown = [setup.job.size for setup in suite.FRAMES]
    axes.xaxis.set_major_locator(FixedLocator(sizes_shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: size_name(int(size))))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("GB/s")
    axes.set_title("Frames: one copy in, received as an array", loc="left", fontweight="bold")
    axes.grid(color="#e4e6ea", linewidth=0.8)
    if not ends:
        return
    low, high = map(math.log10, axes.get_ylim())
    ends.sort()
    for (_, size, name, colour), place in zip(ends, spread([end[0] for end in ends], (high - low) / 24), strict=True):
        axes.annotate(
            label(name),
            (size, 10**place),
            xytext=(9, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=9.5,
            fontweight="bold" if name.startswith("shmkit") else "normal",
            annotation_clip=False,
        )


def bars(axes: Axes, title: str, values: list[tuple[str, float]], text: Any, *, high: bool, places: int) -> None:
    """Horizontal bars on a logarithmic scale, the best on top, each with its value; room for so many."""
    values = sorted((item for item in values if not math.isnan(item[1])), key=lambda item: item[1], reverse=high)
    axes.set_title(title, loc="left", fontweight="bold", fontsize=10.5)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(left=False)
    axes.set_ylim(places - 0.4, -0.6)
    if values:
        low, top = min(value for _, value in values) / 2, max(value for _, value in values)
        axes.set_xscale("log")
        axes.set_xlim(low, top * (top / low) ** 0.25)
    else:
        axes.text(0, 0.9, "not measured", transform=axes.transAxes, color=LIMIT)
    axes.xaxis.set_major_locator(NullLocator())
    axes.xaxis.set_minor_locator(NullLocator())
    for place, (name, value) in enumerate(values):
        ours, limit = name.startswith("shmkit"), name.startswith("LIMIT")
        axes.barh(
            place,
            value - low,
            left=low,
            height=0.72,
            color=OURS if ours else "white" if limit else PEER,
            edgecolor=LIMIT if limit else "none",
            hatch="////" if limit else None,
            linewidth=0.8,
        )
        axes.annotate(
            text(value),
            (value, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            fontweight="bold" if ours else "normal",
        )
    axes.set_yticks(range(len(values)), [label(name) for name, _ in values], fontsize=9)
    for tick, (name, _) in zip(axes.get_yticklabels(), values, strict=True):
        if name.startswith("shmkit"):
            tick.set_fontweight("bold")
            tick.set_color(OURS)


def label(name: str) -> str:
    return name.replace("LIMIT ", "limit: ").replace("shmkit.", "")


def spans(run: dict[str, Any], setup: suite.Setup) -> list[tuple[str, float]]:
    rows = rows_of(run, setup)
    return [(name, seconds(rows, name)) for name in rows]


def small(run: dict[str, Any]) -> list[tuple[str, float]]:
    """All ways of sending 64 bytes; of the limits only the one for each way."""
    found = []
    for setup, how in zip(suite.SMALL_MESSAGES, ("", ", lists", ", one buffer"), strict=True):
        rows = rows_of(run, setup)
        found += [(name + how, rate(rows, name)) for name in rows if not (how and name.startswith("LIMIT"))]
    return [(name, value) for name, value in found if "lingers" not in name]


def draw(run: dict[str, Any], path: Path) -> None:
    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure = plt.figure(figsize=(17, 10.5))
    frames(figure.add_axes((0.045, 0.07, 0.30, 0.79)), run)
    spinning, default = suite.ROUND_TRIPS[:2]
    panels = [
        ((0.545, 0.46, 0.165, 0.40), "64 B messages per second", small(run), per_second, True, 14),
        ((0.825, 0.46, 0.165, 0.40), "8 B round trip, default waiting", spans(run, default), span, False, 14),
        ((0.545, 0.07, 0.165, 0.32), "8 B round trip, spinning", spans(run, spinning), span, False, 10),
        ((0.825, 0.07, 0.165, 0.32), "1 MiB segment, create to unlink", spans(run, suite.SEGMENTS[0]), span, False, 10),
    ]
    for place, title, values, text, high, places in panels:
        bars(figure.add_axes(place), title, values, text, high=high, places=places)
    machine = run["machine"]
    figure.text(0.045, 0.945, "shmkit beside what there is, and beside what the machine can do", fontsize=17)
    about = f"{machine['machine']}, {machine['kernel']}, {machine['python']}, commit {machine['commit']}"
    legend = (
        "medians of rounds in turn, logarithmic scales, the best on top; hatched: C or bare Cython without any safety"
    )
    figure.text(0.045, 0.908, f"{about}.  {legend[0].upper()}{legend[1:]}.", color="#5f6368")
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
