"""The comparison drawn with characters: latency over size, and throughput over size, both logarithmic."""

from __future__ import annotations

import math
from typing import Any

from .report import MEMCPY, Row, span, speed, volume

__all__ = ["draw"]

# Who is drawn, in this order, as far as there is room: more lines cannot be told apart.
_FIRST = (
    "shmkit.Ring", "shmkit.Queue", "mp.Queue", "mp.Pipe", "os.pipe", "unix://", "pyzmq", "faster-fifo", MEMCPY,
)  # fmt: skip
_MOST = 8
_HEIGHT = 20
_COLOURS = ("blue+", "green+", "red+", "orange", "cyan", "magenta+", "yellow", "white")
_LETTERS = {
    "shmkit.Ring": "R", "shmkit.Queue": "Q", "mp.Queue": "q", "mp.Pipe": "p", "os.pipe": "o", "unix://": "u",
    "pyzmq": "z", "faster-fifo": "f", MEMCPY: "=",
}  # fmt: skip
_REST = "abcdeghi"


def draw(rows: list[Row], width: int, *, colours: bool) -> str | None:
    """Both pictures, no wider than ``width``; None: plotext is not installed, or there is nothing to draw over."""
    try:
        import plotext
    except ImportError:
        return None
    pictures = []
    for pattern, title in (
        ("round trip", "Round trip over the size of a message: lower is better"),
        ("throughput", "Throughput over the size of a message: higher is better"),
    ):
        mine = [row for row in rows if row.pattern == pattern and row.seconds is not None]
        if len({row.size for row in mine}) > 1:
            pictures.append(_picture(plotext, mine, title, min(width, 100), colours))
    return "\n\n".join(pictures) or None


def _chosen(rows: list[Row]) -> list[str]:
    there = list(dict.fromkeys(row.mechanism for row in rows))
    return [*(name for name in _FIRST if name in there), *(name for name in there if name not in _FIRST)][:_MOST]


def _picture(plotext: Any, rows: list[Row], title: str, width: int, colours: bool) -> str:
    through = rows[0].pattern == "throughput"
    plotext.clear_figure()
    plotext.plot_size(width, _HEIGHT)
    sizes, values, legend = set(), [], []
    for at, name in enumerate(_chosen(rows)):
        mine = sorted((row for row in rows if row.mechanism == name), key=lambda row: row.size)
        xs = [math.log2(row.size) for row in mine]
        ys = [math.log10(row.size / (row.seconds or 1.0) if through else (row.seconds or 1.0)) for row in mine]
        marker = "braille" if colours else _LETTERS.get(name, _REST[at])
        plotext.plot(xs, ys, color=_COLOURS[at % len(_COLOURS)], marker=marker)
        sizes |= {row.size for row in mine}
        values += ys
        legend.append((name, marker, _COLOURS[at % len(_COLOURS)]))
    ticks = sorted(sizes)
    plotext.xticks([math.log2(size) for size in ticks], [volume(size) for size in ticks])
    # The lowest name would touch the first size below it.
    decades = range(math.ceil(min(values) - 0.1), math.floor(max(values)) + 1)
    unit = speed if through else span
    plotext.yticks(list(decades), [unit(10.0**decade) for decade in decades])
    plotext.ylim(min(values) - 0.3, max(values) + 0.1)
    plotext.title(title)
    plotext.theme("clear")
    text = plotext.build().rstrip("\n")
    names = _legend(plotext, legend, width, colours)
    return f"{text if colours else plotext.uncolorize(text)}\n{names}"


def _legend(plotext: Any, legend: list[tuple[str, str, str]], width: int, colours: bool) -> str:
    """Which line is whose, below the picture, where it covers nothing."""
    lines, line, wide = [], "", 0
    for name, marker, colour in legend:
        word = f"{'━━' if colours else marker} {name}"
        if wide and wide + len(word) + 3 > width:
            lines.append(line)
            line, wide = "", 0
        line += ("   " if wide else "") + (plotext.colorize(word, colour) if colours else word)
        wide += len(word) + (3 if wide else 0)
    return "\n".join([*lines, line])
