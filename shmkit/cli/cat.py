"""Receive messages and write them to standard output: from one address after the other.

A ring, FIFO, socket or message queue is listened at until its sender has finished.  A log, a queue or a topic has no
such end: what is there is written, and with --follow also what comes.
"""

from __future__ import annotations

import argparse
import contextlib

from shmkit.cli.command import TIME_IS_UP
from shmkit.cli.options import add_common_arguments, add_receiving_arguments

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "messages to standard output, from any address"

EXAMPLES = """\
  shmkit cat unix:///tmp/lines                   what a sender has to say
  shmkit cat --follow fifo:///tmp/log            and the next sender
  shmkit cat queue://jobs                        empties a queue
  shmkit cat 'file:///tmp/events?start=1000'     a log, from record 1000 on
  shmkit cat --format npy ring://frames > a.npy  arrays
  shmkit cat --count 1 --timeout 5 ring://frames --format json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``shmkit cat``."""
    parser.add_argument("addresses", nargs="+", metavar="ADDRESS", help="see below")
    parser.add_argument("-f", "--follow", action="store_true", help="go on: with the next sender, with what comes")
    add_receiving_arguments(parser)
    add_common_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Receive; the worst status of any address."""
    from shmkit.cli.ends import open_source
    from shmkit.cli.flow import as_coreutils, format_of_options, opening_of, receive

    form = format_of_options(options)
    how = opening_of(options, follow=options.follow)

    def work() -> int:
        worst = received = 0
        for address in options.addresses:
            with contextlib.closing(open_source(address, how)) as source:
                status, received = receive(source, form, options, options.follow, received)
            worst = max(worst, status)
            if status == TIME_IS_UP or received == options.count:
                break
        return worst

    return as_coreutils(work)
