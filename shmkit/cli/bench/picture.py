"""The comparison as a picture: latency over size, and throughput over size, both logarithmic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .report import MEMCPY, Row, machine, span, speed, volume

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["draw"]

INK, FAINT = "#263238", "#607d8b"
COLOURS = {
    "shmkit.Ring": "#1565c0",
    "shmkit.Ring in place": "#64b5f6",
    "shmkit.Queue": "#2e7d32",
    "shmkit.Queue by reference": "#81c784",
    "mp.Queue": "#c62828",
    "mp.SimpleQueue": "#ef6c00",
    "mp.Pipe": "#f9a825",
    "os.pipe": "#6d4c41",
    "UNIX socket": "#8e24aa",
    "TCP socket": "#ce93d8",
    "faster-fifo": "#00838f",
    "pyzmq": "#ad1457",
    MEMCPY: "#90a4ae",
}


def draw(rows: list[Row], path: Path) -> None:
    """Write the picture; its format is that of the file's name."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 6.6), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.055, right=0.845, top=0.84, bottom=0.115, wspace=0.68)
    figure.text(
        0.055, 0.945, "What it costs to send something to another process", fontsize=16, weight="bold", color=INK
    )
    figure.text(
        0.055,
        0.9,
        "Medians; bars from the fastest to the slowest round. Dashed: no bytes are moved.",
        fontsize=10,
        color=FAINT,
    )
    figure.text(0.055, 0.02, machine(), fontsize=8, color=FAINT)
    _plot(
        left, [row for row in rows if row.pattern == "round trip"], "Round trip: lower is better", lambda _, s: s, span
    )
    _plot(
        right,
        [row for row in rows if row.pattern == "throughput"],
        "Throughput: higher is better",
        lambda size, s: size / s,
        speed,
    )
    figure.savefig(path)


def _plot(axes: Any, rows: list[Row], title: str, value: Any, unit: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_title(title, loc="left", color=INK, fontsize=12)
    ends = []
    for name in dict.fromkeys(row.mechanism for row in rows):
        mine = sorted((row for row in rows if row.mechanism == name and row.seconds), key=lambda row: row.size)
        if not mine:
            continue
        sizes = [row.size for row in mine]
        middle = [value(row.size, row.seconds) for row in mine]
        bounds = [sorted(value(row.size, found.seconds) for found in row.good) for row in mine]
        colour = COLOURS.get(name, INK)
        axes.errorbar(
            sizes,
            middle,
            yerr=[
                [at - low[0] for at, low in zip(middle, bounds, strict=True)],
                [high[-1] - at for at, high in zip(middle, bounds, strict=True)],
            ],
            color=colour,
            linewidth=2.2 if mine[0].group == "shmkit" else 1.4,
            linestyle="-" if mine[0].copies else "--",
            marker="o",
            markersize=3.5,
            elinewidth=0.8,
            capsize=1.5,
        )
        ends.append([middle[-1], name, colour, mine[0].group == "shmkit"])
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    all_sizes = sorted({row.size for row in rows})
    axes.set_xticks(all_sizes, [volume(size) for size in all_sizes], rotation=0 if len(all_sizes) <= 6 else 30)
    axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(base=10, numticks=14))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda number, _: unit(number)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", color="#eceff1")
    axes.tick_params(colors=FAINT, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    _label(axes, ends)


def _label(axes: Any, ends: list[list[Any]]) -> None:
    """Names at the ends of the lines, moved apart where they would cover each other."""
    if not ends:
        return
    bottom, top = axes.get_ylim()
    to_share = axes.transScale + axes.transLimits
    places = sorted((float(to_share.transform((1, end[0]))[1]), end) for end in ends)
    gap, heights = 0.043, [place for place, _ in places]
    # From the bottom up, then from the top down.
    for at in range(1, len(heights)):
        heights[at] = max(heights[at], heights[at - 1] + gap)
    heights[-1] = min(heights[-1], 1.02)
    for at in range(len(heights) - 2, -1, -1):
        heights[at] = min(heights[at], heights[at + 1] - gap)
    for height, (place, (_, name, colour, ours)) in zip(heights, places, strict=True):
        axes.annotate(
            name,
            xy=(1.0, place),
            xytext=(1.06, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            fontsize=9,
            color=colour,
            weight="bold" if ours else "normal",
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "shrinkA": 1,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
            annotation_clip=False,
        )
    axes.set_ylim(bottom, top)
