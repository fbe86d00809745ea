"""Look for what stands in the way of shared memory on this machine, and say how to remove it.

Room, limits, what the kernel can do, what a container leaves of it, and what the dead left.  The exit status is 1 if
there is a problem; with --strict, also if there is a warning.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shmkit.survey import Finding

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "what is wrong with this machine, and the remedy"

EXAMPLES = """\
  shmkit doctor                    everything that was looked at
  shmkit doctor --quiet            only what is not as it should be
  shmkit doctor --strict -q        in a script: 1 also for a warning
  shmkit doctor --json"""

_MARKS = {
    "ok": ("ok", "green"),
    "note": ("note", "cyan"),
    "warning": ("WARNING", "yellow"),
    "problem": ("PROBLEM", "bold red"),
}
_MARK = 7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``shmkit doctor``."""
    parser.add_argument("-q", "--quiet", action="store_true", help="leave out what is well")
    parser.add_argument("--strict", action="store_true", help="exit status 1 also for a warning")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(options: argparse.Namespace) -> int:
    """Look; 1 if something is wrong."""
    from shmkit.survey import SCHEMA, findings

    found = findings()
    bad = ("problem", "warning") if options.strict else ("problem",)
    status = 1 if any(each.level in bad for each in found) else 0
    shown = [each for each in found if not options.quiet or each.level in ("warning", "problem")]
    if options.json:
        plain = [each.as_json() for each in shown]
        print(json.dumps({"schema": SCHEMA, "status": status, "findings": plain}, indent=2))
    else:
        _show(shown)
        if not options.quiet:
            print(_summary(found))
    return status


def _show(found: Sequence[Finding]) -> None:
    from shmkit.cli.table import use_rich, width_of_terminal
    from shmkit.cli.words import clean

    width = width_of_terminal()
    wide = max([len(each.subject) for each in found], default=0)
    say = _painted if use_rich() else lambda text, style, length: print(text)
    for each in found:
        mark, style = _MARKS[each.level]
        start = f"{mark:<{_MARK}}  {each.subject:<{wide}}  "
        say(_wrapped(start, clean(each.text), width), style, len(mark))
        if each.remedy:
            loud = "bold" if each.level in ("warning", "problem") else "dim"
            say(_wrapped(" " * (_MARK + 2), f"→ {clean(each.remedy)}", width), loud, None)


def _painted(text: str, style: str, length: int | None) -> None:
    """Its first letters in a style; None: all of it."""
    from rich.console import Console
    from rich.text import Text

    line = Text(text)
    line.stylize(style, 0, length)
    Console().print(line, soft_wrap=True)


def _wrapped(start: str, text: str, width: int | None) -> str:
    """Words stay whole, so that a command can be copied, be they longer than a line."""
    import textwrap

    if width is None or width < len(start) + 20:
        return start + text
    return textwrap.fill(
        text,
        width,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_on_hyphens=False,
        break_long_words=False,
    )


def _summary(found: Sequence[Finding]) -> str:
    counts = [(sum(each.level == level for each in found), level) for level in ("problem", "warning")]
    said = [f"{count} {level}{'' if count == 1 else 's'}" for count, level in counts if count]
    return f"{' and '.join(said) or 'No problem'} among {len(found)} findings."
