"""Numbers and names as the command line shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shmkit.survey import Process

__all__ = ["age", "clean", "count", "processes", "rate", "short_size"]

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def clean(text: str) -> str:
    """Text that a stranger has chosen, with nothing in it that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii")


def age(seconds: float) -> str:
    """How long ago: "7 s", "12 min", "3 h", "40 d"."""
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}" if seconds < length * 1000 else f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def count(number: float) -> str:
    """A number in at most four digits and a letter: "0", "950", "12.3k", "4.56M"."""
    for length, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= length * 0.9995:
            part = number / length
            return f"{part:.0f}{unit}" if part >= 100 else f"{part:.1f}{unit}" if part >= 10 else f"{part:.2f}{unit}"
    return f"{number:.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"


def rate(number: float | None) -> str:
    """A rate per second; a dash where it is not known yet."""
    return "–" if number is None else count(number)


def short_size(nbytes: float | None) -> str:
    """A size in at most four digits and a unit of 1024s: "0", "512 B", "1.5 MiB"."""
    if nbytes is None:
        return "–"
    for length, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if nbytes >= length * 0.9995:
            part = nbytes / length
            return f"{part:.0f} {unit}" if part >= 100 or part == int(part) else f"{part:.1f} {unit}"
    return f"{nbytes:.0f} B"


def processes(who: Sequence[Process], most: int = 2) -> str:
    """Some pids, and how many more there are."""
    named = ", ".join(str(process.pid) for process in who[:most])
    return named if len(who) <= most else f"{named} +{len(who) - most}"
