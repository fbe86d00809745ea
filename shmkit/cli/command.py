"""What the command line and its subcommands agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import argparse

__all__ = ["Command", "CommandError"]


class Command(Protocol):
    """A subcommand: a module or package of this folder.  Its docstring is its description.

    Its import is cheap and needs no extra: what is heavy or optional is imported by ``run``.
    """

    HELP: str
    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it; the exit status."""


class CommandError(Exception):
    """A subcommand cannot go on; the message is for the user, and the exit status is 1."""
