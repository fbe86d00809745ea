"""What the command line and its subcommands agree on."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "INTERRUPTED",
    "TIME_IS_UP",
    "TROUBLE",
    "USAGE",
    "Command",
    "CommandError",
    "discard_output",
    "nothing_to_tidy_up",
    "refuse_unwritable",
    "say_interrupted",
    "words_of",
]

# The user's trouble, or the system's; and what argparse reports for a command line that it does not understand.
TROUBLE = 1
USAGE = 2
# What timeout(1) reports.
TIME_IS_UP = 124

# What a shell reports for a program that Ctrl-C ended: 128 + SIGINT.
INTERRUPTED = 130

# To a terminal, in case that a bar of progress has hidden it.
SHOW_CURSOR = b"\x1b[?25h"


class Command(Protocol):
    """A subcommand: a module or package of this folder.  Its docstring is its description.

    Its import is cheap and needs no extra: what is heavy or optional is imported by ``run``.
    """

    HELP: str
    EXAMPLES: str
    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it; the exit status."""


class CommandError(Exception):
    """A subcommand cannot go on; the message is for the user.

    The exit status is 1, unless another one is given; or 2, if it is about the command's ``usage``.
    """

    def __init__(self, message: str, usage: bool = False, status: int = TROUBLE) -> None:
        super().__init__(message)
        self.status = USAGE if usage else status


def words_of(error: Exception) -> str:
    """What an exception says to a user.

    Not the number that an OSError begins with, nor a hint at an argument that only programs can give.
    """
    words = str(getattr(error, "strerror", None) or error)
    said, _, hint = words.rpartition(": ")
    return said if isinstance(error, PermissionError) and "=" in hint else words


def refuse_unwritable(path: Path, what: str) -> None:
    """Before minutes are spent on what is to be written there.

    Raises:
        CommandError: its folder does not exist, or this user may not write it, as far as can be told without doing so.
    """
    if not path.parent.is_dir():
        raise CommandError(f"there is no folder for {what}: {path.parent}")
    if path.is_dir():
        raise CommandError(f"{what} cannot be written: it is a folder: {path}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise CommandError(f"{what} cannot be written: this user may not write there: {path}")


def say_interrupted() -> None:
    """What a user sees who has pressed Ctrl-C."""
    print("shmkit: interrupted", file=sys.stderr, flush=True)


@contextmanager
def nothing_to_tidy_up() -> Iterator[None]:
    """Ctrl-C ends the process at once, for as long as this lasts.

    A KeyboardInterrupt would now and then be raised in the callback of a weak reference (imports have many), where
    Python reports it and goes on.
    """

    def leave(number: int, frame: object) -> None:
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), SHOW_CURSOR)
        say_interrupted()
        os._exit(INTERRUPTED)

    previous = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def discard_output() -> None:
    """What is still to be written goes nowhere, so that it cannot fail again as Python ends."""
    with suppress(OSError, ValueError, AttributeError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
