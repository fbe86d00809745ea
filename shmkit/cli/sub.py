"""Write what is sent from now on, as it comes: until Ctrl-C, or so many messages.

A plain name is a topic's, which is waited for, unless there is a ring or queue of that name.  When a sender has gone,
the next one is waited for.
"""

from __future__ import annotations

import argparse
import contextlib

from shmkit.cli.options import add_common_arguments, add_receiving_arguments

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "what is sent from now on, as it comes"

EXAMPLES = """\
  shmkit sub camera0 --format json        every value of a topic
  shmkit sub --replay camera0             those that are still there, too
  shmkit sub --latest --count 1 camera0   the newest one
  shmkit sub file:///var/log/events       as tail -f
  shmkit sub queue://jobs | xargs -n 1 convert-one"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``shmkit sub``."""
    parser.add_argument("address", metavar="ADDRESS", help="see below")
    parser.add_argument("--replay", action="store_true", help="begin with what is still there (of a log: its start)")
    parser.add_argument("--latest", action="store_true", help="of a topic, the newest value; pass over older ones")
    add_receiving_arguments(parser)
    add_common_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Receive until it is enough."""
    from shmkit.cli.ends import open_source
    from shmkit.cli.flow import as_coreutils, format_of_options, opening_of, receive

    form = format_of_options(options)
    how = opening_of(options, follow=True, replay=options.replay or options.latest, latest=options.latest)

    def work() -> int:
        with contextlib.closing(open_source(options.address, how, "topic")) as source:
            return receive(source, form, options, True)[0]

    return as_coreutils(work)
