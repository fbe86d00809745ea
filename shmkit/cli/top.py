"""Watch what goes through rings, queues and topics: records and bytes per second, fill, waiters, drops.

Only counters are read, which are there anyway: the watched programs do not notice.  On a terminal it is a live screen,
and keys sort it: n by name, f by fill, r by records, b by bytes, w by waiting, i the other way round; space pauses, q
quits.  Elsewhere it prints a table per interval.  With --once or --count, a NAME that nothing can be told of is status
1.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shmkit.cli.table import Cell, Column
    from shmkit.survey import Rate

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "live rates and fill of rings, queues and topics"

EXAMPLES = """\
  shmkit top                       a live screen
  shmkit top 'camera*' --interval 0.5
  shmkit top --once                one table, of one second
  shmkit top --count 60 --json     a line of JSON each second, for a minute"""

_BAR = 6
# Seconds for which it is known why there is nothing to watch.
_REASONS_HOLD = 5.0


class _Sort(NamedTuple):
    key: str
    name: str
    value: Callable[[Rate], object]


class _Reasons(NamedTuple):
    words: str
    until: float


_SORTS = (
    _Sort("n", "name", lambda rate: rate.address),
    _Sort("f", "fill", lambda rate: -_fill(rate)),
    _Sort("r", "records", lambda rate: -(rate.sent or 0)),
    _Sort("b", "bytes", lambda rate: -(rate.bytes_sent or 0)),
    _Sort("w", "waiting", lambda rate: -(rate.gauge.waiting or 0)),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``shmkit top``."""
    parser.add_argument("patterns", nargs="*", metavar="NAME", help="only these; * and ? stand for any letters")
    parser.add_argument("--interval", type=_seconds, default=1.0, metavar="S", help="seconds between looks, default: 1")
    times = parser.add_mutually_exclusive_group()
    times.add_argument("--once", action="store_true", help="print one table, and end")
    times.add_argument("--count", type=_positive, metavar="N", help="print N tables, and end")
    parser.add_argument("--sort", choices=[sort.name for sort in _SORTS], default="name", help="default: name")
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument("--plain", action="store_true", help="tables one below the other, on a terminal too")
    parser.add_argument("--json", action="store_true", help="a line of JSON per look")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.05 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"must be seconds from 0.05 to 86400: {text!r}")
    return value


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1: {text!r}")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Watch until told to stop."""
    count = 1 if options.once else options.count
    live = sys.stdout.isatty() and sys.stdin.isatty() and not (options.plain or options.json or count)
    # Such a terminal only ever goes on below: an editor's shell, for example.
    live = live and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")
    view = _View(options)
    if live:
        from shmkit.cli.screen import Screen

        with Screen() as screen:
            return _run_live(view, screen, options.interval)
    return _run_plain(view, options, count)


def _run_plain(view: _View, options: argparse.Namespace, count: int | None) -> int:
    view.look()
    done = 0
    due = time.monotonic()
    while count is None or done < count:
        due += options.interval
        time.sleep(max(due - time.monotonic(), 0.0))
        view.look()
        if options.json:
            print(json.dumps(view.as_json()), flush=True)
        else:
            from shmkit.cli.table import show_table

            if done:
                print()
            if count != 1:
                print(time.strftime("%H:%M:%S"))
            if view.rates:
                show_table(_columns(), [_row(rate) for rate in view.sorted()])
            elif not (count and view.patterns):
                print(view.nothing())
            sys.stdout.flush()
        done += 1
    # Said once, at the end: what is not there yet may come while one watches.
    trouble = view.trouble()
    for line in trouble:
        print(f"shmkit: {line}", file=sys.stderr)
    return 1 if trouble else 0


def _run_live(view: _View, screen: object, interval: float) -> int:
    from shmkit.cli.screen import Screen

    assert isinstance(screen, Screen)
    view.look()
    due = time.monotonic() + min(interval, 0.25)
    while True:
        width, height = screen.size
        title, rows, help_line = view.title(interval), view.sorted(), view.help_line(width)
        # Title, a line that is empty, head, and keys; and one that says how many did not fit.
        room = max(height - (4 if len(rows) <= height - 4 else 5), 1)
        more = f"… and {len(rows) - room} more" if len(rows) > room else ""
        table = (_columns(), [_row(rate) for rate in rows[:room]]) if rows else None
        screen.show(title, table, more or ("" if rows else view.nothing()), help_line)
        key = screen.key(max(due - time.monotonic(), 0.0))
        if key in ("q", "Q", "\x04"):
            return 0
        if key:
            view.press(key)
        if time.monotonic() >= due:
            if not view.paused:
                view.look()
            due = time.monotonic() + interval


class _View:
    """What is shown, and how it is sorted."""

    def __init__(self, options: argparse.Namespace) -> None:
        from shmkit.survey import Watch

        self.patterns: Sequence[str] = options.patterns
        self.sort = next(sort for sort in _SORTS if sort.name == options.sort)
        self.reverse: bool = options.reverse
        self.paused = False
        self.rates: list[Rate] = []
        self._watch = Watch()
        self._met: set[str] = set()  # the patterns that were of a stream's name, once at least
        self._reasons = _Reasons("", 0.0)

    def look(self) -> None:
        """Reads all counters anew."""
        import fnmatch

        self.rates = []
        for rate in self._watch.look():
            met = [pattern for pattern in self.patterns if fnmatch.fnmatchcase(rate.address, pattern)]
            if met or not self.patterns:
                self.rates.append(rate)
                self._met.update(met)

    def press(self, key: str) -> None:
        """Does what the key means."""
        if key == " ":
            self.paused = not self.paused
        elif key == "i":
            self.reverse = not self.reverse
        else:
            self.sort = next((sort for sort in _SORTS if sort.key == key), self.sort)

    def sorted(self) -> list[Rate]:
        """The streams in the order that was asked for."""
        by_name = sorted(self.rates, key=lambda rate: rate.address)
        return sorted(by_name, key=self.sort.value, reverse=self.reverse)  # type: ignore[arg-type]

    def title(self, interval: float) -> str:
        """The line above the table."""
        from shmkit.cli.words import count, short_size

        streams = f"{len(self.rates)} stream{'' if len(self.rates) == 1 else 's'}"
        records = sum(rate.sent or 0 for rate in self.rates)
        nbytes = sum(rate.bytes_sent or 0 for rate in self.rates)
        state = "paused" if self.paused else f"every {interval:g} s"
        rates = f"{count(records)}/s, {short_size(nbytes)}/s"
        return f"shmkit top, {time.strftime('%H:%M:%S')}, {state}: {streams}, {rates}"

    def nothing(self) -> str:
        """What is said where there is nothing to watch."""
        if not self.patterns:
            return "No ring, queue or topic to watch."
        now = time.monotonic()
        if now >= self._reasons.until:
            # To look at everything there is takes longer than to look at streams.
            self._reasons = _Reasons("; ".join(self.trouble()), now + _REASONS_HOLD)
        return self._reasons.words or "Nothing of that name is left to watch."

    def trouble(self) -> list[str]:
        """Why nothing was to be seen under a name that was asked for; empty: something was, under each."""
        import fnmatch

        from shmkit.cli.words import clean
        from shmkit.survey import Survey
        from shmkit.survey.addresses import is_called

        lines = []
        unmet = [pattern for pattern in self.patterns if pattern not in self._met]
        there = list(Survey().objects()) if unmet else []
        for pattern in unmet:
            found = [each for each in there if fnmatch.fnmatchcase(each.address, pattern) or is_called(each, pattern)]
            hidden = [each for each in found if each.state == "unreadable"]
            lines += [f"{clean(each.address)} is not to be read: {clean(each.trouble or '')}" for each in hidden]
            if found and not hidden:
                what = f"{clean(found[0].address)} is" if len(found) == 1 else f"what is called {pattern!r} is"
                lines.append(f"{what} no ring, queue or topic")
            elif not found:
                lines.append(f"nothing is called {pattern!r}")
        return lines

    def help_line(self, width: int) -> str:
        """The line below the table."""
        keys = "q quit  space pause  i reverse  sort: "
        line = keys + " ".join(f"[{sort.name}]" if sort is self.sort else sort.name for sort in _SORTS)
        if len(line) <= width:
            return line
        return keys + " ".join(f"[{sort.name}]" if sort is self.sort else sort.key for sort in _SORTS)

    def as_json(self) -> dict[str, object]:
        """One look, for programs."""
        from shmkit.survey import SCHEMA

        streams = [
            {
                "address": rate.address,
                "kind": rate.kind,
                **rate.gauge._asdict(),
                "sent_per_second": rate.sent,
                "received_per_second": rate.received,
                "bytes_per_second": rate.bytes_sent,
                "sleeps_per_second": rate.sleeps,
                "dropped_per_second": rate.dropped,
                "dead": list(rate.details.dead),
            }
            for rate in self.sorted()
        ]
        return {"schema": SCHEMA, "time": time.time(), "streams": streams}


# ------------------------------------------------------------------------------------------------------------ a table


def _columns() -> list[Column]:
    from shmkit.cli.table import Column

    return [
        Column("NAME", least=12),
        Column("KIND", goes=5),
        Column("FILL"),
        Column("WAITING", right=True, goes=1),
        Column("SENT/s", right=True),
        Column("RECV/s", right=True, goes=3),
        Column("BYTES/s", right=True),
        Column("SLEEPS/s", right=True, goes=2),
        Column("ASLEEP", right=True, goes=4),
        Column("DROPS/s", right=True, goes=1),
        Column("ENDS", least=13),
    ]


def _row(rate: Rate) -> list[Cell]:
    from shmkit.cli import words
    from shmkit.cli.table import Cell

    fill = _fill(rate)
    style = "red" if fill >= 0.9 else "yellow" if fill >= 0.5 else "green"
    ends, ends_style = _ends(rate)
    drops = "" if not rate.gauge.dropped else words.rate(rate.dropped)
    moving = "" if rate.sent else "dim"
    return [
        Cell(words.clean(rate.address), "bold"),
        Cell("queue" if isinstance(rate.details.facts.get("queue"), str) else rate.kind, "cyan"),
        Cell(_bar(fill), style) if rate.gauge.capacity else Cell("–", "dim"),
        Cell("–" if rate.gauge.waiting is None else words.count(rate.gauge.waiting)),
        Cell(words.rate(rate.sent), moving),
        Cell(words.rate(rate.received), "" if rate.received else "dim"),
        Cell(words.short_size(rate.bytes_sent), moving),
        Cell(words.rate(rate.sleeps), "" if rate.sleeps else "dim"),
        Cell(str(rate.gauge.asleep) if rate.gauge.asleep else "–", "" if rate.gauge.asleep else "dim"),
        Cell(drops, "red"),
        Cell(ends, ends_style),
    ]


def _fill(rate: Rate) -> float:
    return rate.gauge.used / rate.gauge.capacity if rate.gauge.capacity else 0.0


def _bar(fill: float) -> str:
    filled = round(min(fill, 1.0) * _BAR)
    full, empty = ("█", "░") if _can_draw() else ("#", ".")
    return f"{full * filled}{empty * (_BAR - filled)} {min(fill, 1.0) * 100:3.0f}%"


def _can_draw() -> bool:
    try:
        "█░".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _ends(rate: Rate) -> tuple[str, str]:
    """Who sends and who receives."""
    ends = [rate.details.facts.get(end) for end in ("producer", "consumer")]
    names = [_FATES.get(end["state"]) or str(end["pid"]) for end in ends if isinstance(end, dict)]
    arrow = "→" if _can_draw() else ">"
    return f" {arrow} ".join(names), "red" if rate.details.dead else ""


_FATES = {"never": "–", "left": "left", "died": "dead"}
