"""Send messages: those of the command line, or of standard input.

A plain name is a topic's, which is made, unless there is a ring or queue of that name.  A topic or queue that is made
stays until shmkit rm removes it, so that who comes later finds what was sent.
"""

from __future__ import annotations

import argparse

from shmkit.cli.options import add_common_arguments, add_sending_arguments

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "standard input, or arguments, as messages to an address"

EXAMPLES = """\
  shmkit pub temperature 21.5 --format json    a value of a topic
  shmkit pub -0 queue://jobs < names           as find -print0 writes them
  shmkit pub unix:///tmp/lines < words.txt     to who listens there
  shmkit pub --format npy topic://picture < picture.npy
  shmkit pub 'topic://big?slot_size=64MiB' --format whole < big.bin"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``shmkit pub``."""
    parser.add_argument("address", metavar="ADDRESS", help="see below")
    parser.add_argument("messages", nargs="*", metavar="MESSAGE", help="instead of standard input")
    add_sending_arguments(parser)
    add_common_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Send it all; 1 if nobody wanted it."""
    from shmkit.cli.flow import (
        as_coreutils,
        format_of_options,
        messages_of_arguments,
        messages_of_input,
        opening_of,
        send_to,
    )

    form = format_of_options(options)
    how = opening_of(options, leased=options.leased)
    given = messages_of_arguments(form, options.messages)

    def work() -> int:
        messages = iter(given) if options.messages else messages_of_input(form)
        return send_to([options.address], messages, how, options, otherwise="topic")

    return as_coreutils(work)
