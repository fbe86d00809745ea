"""The comparison as a picture: latency and throughput over size, both logarithmic, and bars for what has no size.

Three parts, one below the other, as far as a run has them: libraries; the kernel's mechanisms, by shmkit's addresses
and by hand; and what else was measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .report import MEMCPY, Row, span, speed, volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["PARTS", "draw"]

INK, FAINT, BAR = "#263238", "#607d8b", "#b0bec5"
OURS = "#1565c0"
# shmkit's in blue and green, the standard library's in red and yellow, others' in what is left.
LIBRARIES = {
    "shmkit.Ring": "#1565c0",
    "shmkit.Ring in place": "#42a5f5",
    "shmkit.Queue": "#2e7d32",
    "SharedArray by Queue": "#81c784",
    "shmkit.Topic": "#00838f",
    "drop-in Queue": "#aed581",
    "drop-in Pipe": "#4db6ac",
    "mp.Queue": "#c62828",
    "mp.SimpleQueue": "#e57373",
    "mp.Pipe": "#ef6c00",
    "hand-made ring": "#f9a825",
    "SharedMemory, semaphores": "#bf9000",
    "faster-fifo": "#6a1b9a",
    "pyzmq": "#ad1457",
    "iceoryx2": "#5d4037",
    "cloudtoid": "#9e9d24",
    "subetha": "#ba68c8",
    "kickmsg": "#a1887f",
    "momentumx": "#37474f",
    "py-sharedmemory": "#d81b60",
    "torch Queue": "#ff7043",
    MEMCPY: "#90a4ae",
}
# One colour for a mechanism; dotted: by hand.
MECHANISMS = {
    "ring://": "#1565c0",
    "pipe:": "#6d4c41",
    "os.pipe": "#6d4c41",
    "fifo://": "#f9a825",
    "unix://": "#2e7d32",
    "UNIX socket": "#2e7d32",
    "unix://, seqpacket": "#00acc1",
    "UNIX socket, seqpacket": "#00acc1",
    "tcp://": "#8e24aa",
    "TCP socket": "#8e24aa",
    "mq://": "#c62828",
    "POSIX queue": "#c62828",
    "sysvmq://": "#ef6c00",
    "System V queue": "#ef6c00",
    "file://": "#546e7a",
    MEMCPY: "#90a4ae",
}
_BY_HAND = {name for name in MECHANISMS if not name[0].islower() or name == "os.pipe"} | {MEMCPY}
PARTS = ("libraries", "mechanisms", "others")
_HEIGHTS = {"libraries": 6.6, "mechanisms": 6.2, "others": 6.4}
_WIDTH = 14.0
_LINES = {
    "libraries": ("Rings, queues and libraries", LIBRARIES),
    "mechanisms": ("The kernel's mechanisms: by shmkit's address, and (dotted) by hand", MECHANISMS),
}


def draw(rows: list[Row], machine: str, path: Path, parts: Sequence[str] = PARTS) -> None:
    """Write the picture; its format is that of the file's name."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sized = {row.size for row in rows if row.pattern in ("round trip", "throughput")}
    there = [part for part in parts if (_bars_of(rows) if part == "others" else sized)]
    height = sum(_HEIGHTS[part] for part in there) + 0.4
    figure = Figure(figsize=(_WIDTH, height), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    top = height - 0.1
    for part in there:
        bottom = top - _HEIGHTS[part]
        if part == "others":
            _others(figure, rows, bottom / height, top / height)
        else:
            _over_size(figure, rows, *_LINES[part], bottom / height, top / height)
        top = bottom
    figure.text(0.02, 0.08 / height, machine, fontsize=8, color=FAINT)
    figure.savefig(path)


def _over_size(figure: Any, rows: list[Row], title: str, colours: dict[str, str], bottom: float, top: float) -> None:
    high = top - bottom
    figure.text(0.02, top - 0.06 * high, title, fontsize=15, weight="bold", color=INK)
    figure.text(
        0.02,
        top - 0.105 * high,
        "Medians; bars from the fastest to the slowest round.  Bytes below 1 KiB, arrays above.  Dashed: not copied.  "
        "All axes are logarithmic.",
        fontsize=9.5,
        color=FAINT,
    )
    mine = [row for row in rows if row.mechanism in colours]
    for left, pattern, words, value, unit in (
        (0.055, "round trip", "Round trip: lower is better", lambda _, s: s, span),
        (0.555, "throughput", "Throughput: higher is better", lambda size, s: size / s, speed),
    ):
        axes = figure.add_axes((left, bottom + 0.10 * high, 0.27, 0.70 * high))
        _plot(axes, [row for row in mine if row.pattern == pattern], words, value, unit, colours)


def _bars_of(rows: list[Row]) -> list[str]:
    names = ("wake-up", "many to many", "tasks", "create", "attach", "array tasks")
    return [name for name in names if any(row.pattern == name and row.seconds for row in rows)]


def _others(figure: Any, rows: list[Row], bottom: float, top: float) -> None:
    """A panel of bars for each pattern without sizes, three in a row."""
    high = top - bottom
    names = _bars_of(rows)
    figure.text(0.02, top - 0.06 * high, "What else there is to know", fontsize=15, weight="bold", color=INK)
    figure.text(0.02, top - 0.105 * high, "Medians, logarithmic scales: shorter is better.", fontsize=9.5, color=FAINT)
    lines = (len(names) + 2) // 3
    for at, name in enumerate(names):
        column, line = at % 3, at // 3
        share = 0.80 / lines
        axes = figure.add_axes(
            (
                0.165 + column * 0.325,
                bottom + 0.05 * high + (lines - 1 - line) * share * high,
                0.125,
                (share - 0.10) * high,
            )
        )
        _bars(axes, name, [row for row in rows if row.pattern == name and row.seconds])


def _bars(axes: Any, name: str, rows: list[Row]) -> None:
    from matplotlib.ticker import NullLocator

    rows = sorted(rows, key=lambda row: row.seconds or 0.0)
    if name == "wake-up":  # most addresses are as fast as what they stand on
        rows = [row for row in rows if row.mechanism in _WAKERS]
    rows = rows[:_MOST_BARS]
    values = [row.seconds or 0.0 for row in rows]
    low = min(values) / 2
    axes.set_xscale("log")
    axes.barh(
        range(len(rows)),
        [value - low for value in values],
        left=low,
        height=0.72,
        color=[OURS if row.group == "shmkit" else BAR for row in rows],
    )
    axes.set_xlim(low, max(values) * (max(values) / low) ** 0.05)
    axes.set_ylim(max(len(rows), 6) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [row.mechanism for row in rows], fontsize=8)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(OURS if row.group == "shmkit" else INK)
        label.set_weight("bold" if row.group == "shmkit" else "normal")
    for at, value in enumerate(values):
        axes.annotate(
            span(value), (value, at), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8, color=INK
        )
    axes.xaxis.set_major_locator(NullLocator())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(left=False)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_title(_SHORT[name], loc="left", x=-1.0, color=INK, fontsize=10.5)


_MOST_BARS = 14
_WAKERS = (
    "shmkit.Ring", "shmkit.Queue", "shmkit.Topic", "pipe:", "unix://", "tcp://", "os.pipe", "UNIX socket", "mp.Queue",
    "mp.Pipe", "SharedMemory, semaphores", "pyzmq", "faster-fifo", "kickmsg",
)  # fmt: skip
_SHORT = {
    "wake-up": "Waking up a sleeper",
    "many to many": "2 producers, 2 consumers: a tuple",
    "tasks": "A pool of 2: a task that does nothing",
    "array tasks": "A pool of 2: a task with 1 MiB to and fro",
    "create": "1 MiB: create, map, close, unlink",
    "attach": "1 MiB: attach, map, close",
}


def _plot(axes: Any, rows: list[Row], title: str, value: Any, unit: Any, colours: dict[str, str]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_title(title, loc="left", color=INK, fontsize=12)
    ends = []
    for name in sorted(dict.fromkeys(row.mechanism for row in rows), key=list(colours).index):
        mine = sorted((row for row in rows if row.mechanism == name and row.seconds), key=lambda row: row.size)
        if not mine:
            continue
        sizes = [row.size for row in mine]
        middle = [value(row.size, row.seconds) for row in mine]
        bounds = [sorted(value(row.size, found) for found in row.rounds) for row in mine]
        colour, ours = colours[name], mine[0].group == "shmkit"
        dotted = colours is MECHANISMS and name in _BY_HAND
        axes.errorbar(
            sizes,
            middle,
            yerr=[
                [at - low[0] for at, low in zip(middle, bounds, strict=True)],
                [high[-1] - at for at, high in zip(middle, bounds, strict=True)],
            ],
            color=colour,
            linewidth=2.2 if ours else 1.4,
            linestyle=":" if dotted else "-" if mine[0].copies else "--",
            zorder=4 if ours else 3,
            marker="o",
            markersize=3.5,
            elinewidth=0.8,
            capsize=1.5,
        )
        ends.append([middle[-1], name, colour, ours, sizes[-1]])
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    if not ends:
        return
    all_sizes = sorted({row.size for row in rows})
    axes.set_xticks(all_sizes, [volume(size) for size in all_sizes], rotation=0 if len(all_sizes) <= 6 else 30)
    axes.set_xlabel("size of a message", color=FAINT, fontsize=9)
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
    """Names right of the lines' ends, moved apart where they would cover each other, with lines that lead there."""
    if not ends:
        return
    bottom, top = axes.get_ylim()
    left, right = axes.get_xlim()
    to_share = axes.transScale + axes.transLimits
    places = sorted((float(to_share.transform((end[4], end[0]))[1]), end) for end in ends)
    gap, heights = max(0.043, 0.0), [place for place, _ in places]
    gap = min(gap, 1.1 / len(heights))
    # From the bottom up, then from the top down.
    for at in range(1, len(heights)):
        heights[at] = max(heights[at], heights[at - 1] + gap)
    heights[-1] = min(heights[-1], 1.02)
    for at in range(len(heights) - 2, -1, -1):
        heights[at] = min(heights[at], heights[at + 1] - gap)
    for height, (place, (_, name, colour, ours, size)) in zip(heights, places, strict=True):
        axes.annotate(
            name,
            xy=(float(to_share.transform((size, 1.0))[0]), place),
            xytext=(1.07, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            fontsize=8.5,
            color=colour,
            weight="bold" if ours else "normal",
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.5,
                "alpha": 0.45,
                "shrinkA": 1,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
            annotation_clip=False,
        )
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
