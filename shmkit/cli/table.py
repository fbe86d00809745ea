"""Tables: as wide as the terminal, in colours where it shows them; plain text, and nothing cut off, anywhere else.

Where the terminal is too narrow, the columns go that matter least, and then the flexible ones are shortened.
"""

from __future__ import annotations

import shutil
import sys
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.table import Table

__all__ = [
    "Cell",
    "Column",
    "fitting",
    "format_table",
    "painter",
    "rich_table",
    "show_table",
    "show_title",
    "use_rich",
    "width_of_terminal",
]

_GAP = 2
_PLEASANT = 3
_EASE = 10


@dataclass(frozen=True)
class Column:
    """``goes``: the higher, the sooner it is left out; 0: never; from 3 on, it is no more than pleasant to have.

    ``least``: the width that it may be shortened to; None: it may not.
    """

    title: str
    right: bool = False
    goes: int = 0
    least: int | None = None


class Cell(NamedTuple):
    """What stands in a row, and how it looks where there are colours (in rich's words)."""

    text: str
    style: str = ""


def use_rich() -> bool:
    """Whether standard output is a terminal, and rich is there to write on it."""
    if not sys.stdout.isatty():
        return False
    try:
        import rich.console  # noqa: F401
    except ImportError:
        return False
    return True


def width_of_terminal() -> int | None:
    """The columns of the terminal that standard output is; None: it is none, and no line is too long."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    """Prints the table on standard output."""
    print(format_table(columns, rows, width_of_terminal(), painter()))


def show_title(text: str) -> None:
    """Prints what is to be said of what follows."""
    paint = painter()
    print(paint(text, "bold") if paint is not None else text)


def format_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    width: int | None,
    paint: Callable[[str, str], str] | None = None,
) -> str:
    """The table as text; plain, unless ``paint(text, style)`` makes more of it."""
    shown, widths = fitting(columns, rows, width)
    head = [Cell(column.title, "bold") for column in columns]
    lines = []
    for row in [head, *rows]:
        line = ""
        for at, wide in zip(shown, widths, strict=True):
            cell = row[at]
            text = _padded(cell.text, wide, columns[at].right)
            if at == shown[-1]:
                text = text.rstrip()
            line += (" " * _GAP if line else "") + (paint(text, cell.style) if paint and cell.style else text)
        lines.append(line.rstrip())
    return "\n".join(lines)


def painter() -> Callable[[str, str], str] | None:
    """How rich shows a style on this terminal; None where there are no colours.

    Cell by cell: its own tables take half a second for a thousand rows.
    """
    if not use_rich():
        return None
    from rich.color import ColorSystem
    from rich.console import Console
    from rich.style import Style

    console = Console()
    system = {
        "standard": ColorSystem.STANDARD,
        "256": ColorSystem.EIGHT_BIT,
        "truecolor": ColorSystem.TRUECOLOR,
        "windows": ColorSystem.WINDOWS,
    }.get(console.color_system or "")
    if system is None:
        return None
    styles: dict[str, Style] = {}

    def paint(text: str, style: str) -> str:
        if style not in styles:
            parsed = Style.parse(style)
            styles[style] = parsed.without_color if console.no_color else parsed
        return styles[style].render(text, color_system=system)

    return paint


def rich_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> Table:
    """The table as rich draws it."""
    from rich.table import Table
    from rich.text import Text

    shown, widths = fitting(columns, rows, width)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for at, wide in zip(shown, widths, strict=True):
        table.add_column(
            Text(columns[at].title),
            justify="right" if columns[at].right else "left",
            no_wrap=True,
            overflow="ellipsis",
            width=wide,
        )
    for row in rows:
        table.add_row(*(Text(row[at].text, style=row[at].style) for at in shown))
    return table


def fitting(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int | None
) -> tuple[list[int], list[int]]:
    """Which columns are shown, and how wide each is."""
    natural = [max(map(_cells, {column.title, *(row[at].text for row in rows)})) for at, column in enumerate(columns)]
    # A column that has nothing to say in any row says nothing.
    shown = [
        at for at, column in enumerate(columns) if not column.goes or not rows or any(row[at].text for row in rows)
    ]
    if width is None:
        return shown, [natural[at] for at in shown]
    least = [
        wide if column.least is None else min(wide, max(column.least, _cells(column.title)))
        for wide, column in zip(natural, columns, strict=True)
    ]
    while True:
        goer = max(shown, key=lambda at: (columns[at].goes, at))
        # Before a column that is no more than pleasant goes, what may be shortened is shortened only a little.
        ease = _EASE if columns[goer].goes >= _PLEASANT else 0
        if sum(min(least[at] + ease, natural[at]) + _GAP for at in shown) - _GAP <= width or not columns[goer].goes:
            break
        shown.remove(goer)
    widths = {at: natural[at] for at in shown}
    excess = sum(wide + _GAP for wide in widths.values()) - _GAP - width
    while excess > 0:
        # From the widest that can be shortened.
        able = [at for at in shown if widths[at] > least[at]]
        if not able:
            break
        widest = max(able, key=lambda at: widths[at] - least[at])
        widths[widest] -= 1
        excess -= 1
    return shown, [widths[at] for at in shown]


def _padded(text: str, width: int, right: bool) -> str:
    if text.isascii() and len(text) <= width:
        return text.rjust(width) if right else text.ljust(width)
    if _cells(text) > width:
        while text and _cells(text) > width - 1:
            text = text[:-1]
        text += "…"
    fill = " " * (width - _cells(text))
    return fill + text if right else text + fill


def _cells(text: str) -> int:
    """The columns of a terminal that the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )
