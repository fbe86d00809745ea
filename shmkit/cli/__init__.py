"""The command ``shmkit``: one module or package of this folder per subcommand, as ``command.Command`` describes it.

Exit statuses: 0, it went well; 1, the user's or the system's trouble, said in a line on standard error; 2, the command
line cannot be understood; 124, the time is up; 130, interrupted.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import os
import sys
import textwrap
from importlib import import_module
from typing import TYPE_CHECKING, cast

from .command import INTERRUPTED, TROUBLE, Command, CommandError, discard_output, say_interrupted, words_of
from .options import ADDRESSES, FORMATS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["build_parser", "main"]

# In the order in which the help shows them.
COMMANDS = (
    *("ls", "inspect", "top", "rm", "gc", "doctor"),
    *("cat", "tee", "pub", "sub"),
    *("run", "bench", "demo", "completion"),
)

STATUSES = """\
exit status:
  0    it went well
  1    trouble, said in a line on standard error
  2    the command line cannot be understood
  124  the time is up (cat, tee, pub, sub)
  130  interrupted

shmkit COMMAND --help shows examples.  Colours are for terminals only, and
NO_COLOR=1 turns them off."""

# How texts of the help begin that are tables, and not paragraphs.
_AS_THEY_STAND = ("examples:", "exit status:", *(text.partition(" ")[0] for text in (ADDRESSES, FORMATS)))


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; ``options.run`` is the chosen subcommand's function."""
    parser = argparse.ArgumentParser(
        prog="shmkit",
        description="NumPy arrays and Python objects between processes at memory speed.",
        epilog=STATUSES,
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("--version", action=_Version)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = cast("Command", import_module(f"{__name__}.{name}"))
        subparser = subparsers.add_parser(name, help=command.HELP, description=command.__doc__)
        subparser.epilog = f"examples:\n{command.EXAMPLES}"
        subparser.formatter_class = _HelpFormatter
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Paragraphs as wide as the terminal; examples and exit statuses as they stand."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=18)

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            # Commands are indented twice, which argparse forgets: the longest would have a line to itself.
            self._action_max_length += 2

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith(_AS_THEY_STAND):
            return super()._fill_text(text, width, indent)
        paragraphs = [" ".join(part.split()) for part in text.strip().split("\n\n")]
        return "\n\n".join(textwrap.fill(part, width) for part in paragraphs)


def _spell(error: UnicodeError) -> tuple[str, int]:
    """What the terminal's encoding has no letter for: what looks like it, so that columns stay, or its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_ALIKE.get(letter) or ascii(letter)[1:-1] for letter in letters), error.end


_ALIKE = {"–": "-", "→": ">", "×": "x", "…": "~", "µ": "u"}
_SPELLED = "shmkit.spelled"
codecs.register_error(_SPELLED, _spell)


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from shmkit import __version__

        print(f"shmkit {__version__}")
        parser.exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``arguments`` (the process's own by default); the exit status."""
    # Closed by whoever started this: then nobody listens.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    # What cannot be said in the terminal's encoding is spelled, not raised.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors=_SPELLED)  # type: ignore[union-attr]
    try:
        try:
            return _run(arguments)
        finally:
            # Here, where it can be answered, also after a help text: the interpreter would only complain.
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has seen enough.  Nothing more is written, not even as Python ends.
        discard_output()
        return 0
    except OSError as error:
        # Standard output, a full disk for example: everything else is caught in _run.
        discard_output()
        print(f"shmkit: standard output: {error.strerror}", file=sys.stderr)
        return TROUBLE
    except KeyboardInterrupt:
        say_interrupted()
        return INTERRUPTED


def _run(arguments: Sequence[str] | None) -> int:
    from shmkit.errors import ShmkitError

    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        status: int = options.run(options)
    except CommandError as error:
        print(f"shmkit: {error}", file=sys.stderr)
        return error.status
    except BrokenPipeError:
        raise
    except ShmkitError as error:
        print(f"shmkit: {words_of(error)}", file=sys.stderr)
        return TROUBLE
    return status
