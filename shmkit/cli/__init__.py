"""The command ``shmkit``: one module or package of this folder per subcommand, as ``command.Command`` describes it."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING, cast

from .command import INTERRUPTED, Command, CommandError, say_interrupted

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["build_parser", "main"]

COMMANDS = ("demo", "run")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; ``options.run`` is the chosen subcommand's function."""
    parser = argparse.ArgumentParser(
        prog="shmkit", description="NumPy arrays and Python objects between processes at memory speed."
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = cast("Command", import_module(f"{__name__}.{name}"))
        subparser = subparsers.add_parser(name, help=command.HELP, description=command.__doc__)
        subparser.formatter_class = argparse.RawDescriptionHelpFormatter
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``arguments`` (the process's own by default); the exit status."""
    options = build_parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except CommandError as error:
        print(f"shmkit: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say_interrupted()
        return INTERRUPTED
    return status
