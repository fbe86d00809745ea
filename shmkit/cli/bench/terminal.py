"""The comparison drawn with characters: latency over size, and throughput over size, both logarithmic."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

from .report import MEMCPY, Row, span, speed, volume

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["draw"]

# Who is drawn, in this order, as far as there is room: more lines cannot be told apart.
_FIRST = (
    "shmkit.Ring", "shmkit.Queue", "mp.Queue", "mp.Pipe", "os.pipe", "unix://", "pyzmq", "faster-fifo", MEMCPY,
)  # fmt: skip
_MOST = 8
_HEIGHT = 21
_COLOURS = ("blue+", "green+", "red+", "orange", "cyan", "magenta+", "yellow", "white")
_LETTERS = {
    "shmkit.Ring": "R", "shmkit.Queue": "Q", "mp.Queue": "q", "mp.Pipe": "p", "os.pipe": "o", "unix://": "u",
    "pyzmq": "z", "faster-fifo": "f", MEMCPY: "=",
}  # fmt: skip
_REST = "abcdeghi"


def draw(rows: list[Row], width: int, *, colours: bool, wanted: Sequence[str] = ()) -> str | None:
    """Both pictures, no wider than ``width``; None: plotext is not installed, or there is nothing to draw over.

    There is room for some: those that are ``wanted``, then the usual ones, then the fastest; the others are named.
    """
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
            there = _in_order(mine, wanted)
            pictures.append(_picture(plotext, mine, there[:_MOST], title, min(width, 100), colours))
            if there[_MOST:]:
                left = f"No room for {'; '.join(there[_MOST:])}: --plot FILE.png has all."
                pictures[-1] += "\n" + textwrap.fill(left, width, break_on_hyphens=False, break_long_words=False)
    return "\n\n".join(pictures) or None


def _in_order(rows: list[Row], wanted: Sequence[str]) -> list[str]:
    """All that were measured: those who are asked for, the usual ones, then the fastest of the largest size."""
    largest = max(row.size for row in rows)
    fastest = sorted(rows, key=lambda row: (row.size != largest, row.seconds or 0.0))
    there = dict.fromkeys(row.mechanism for row in fastest)
    return [name for name in dict.fromkeys([*wanted, *_FIRST, *there]) if name in there]


def _picture(plotext: Any, rows: list[Row], names: list[str], title: str, width: int, colours: bool) -> str:
    through = rows[0].pattern == "throughput"
    plotext.clear_figure()
    plotext.plot_size(width, _HEIGHT)
    sizes, values, legend = set(), [], []
    for at, name in enumerate(names):
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
    plotext.xlabel("size of a message; both axes are logarithmic")
    plotext.theme("clear")
    text = plotext.build().rstrip("\n")
    whose = _legend(plotext, legend, width, colours)
    return f"{text if colours else plotext.uncolorize(text)}\n{whose}"


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
