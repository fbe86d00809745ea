"""Copy standard input to standard output, and send it as messages to each address.

What is sent is what is copied, to the byte.  An address that nobody receives from any more is left, and the others go
on; where there is no room, all wait, unless --drop is given.
"""

from __future__ import annotations

import argparse

from shmkit.cli.options import add_common_arguments, add_sending_arguments

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "standard input to standard output, and as messages"

EXAMPLES = """\
  shmkit tee ring://a unix:///tmp/b < words.txt > copy.txt
  shmkit tee --drop topic://journal < /dev/kmsg | grep -i error
  shmkit tee --format size:4096 file:///tmp/blocks < blocks | wc -c"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``shmkit tee``."""
    parser.add_argument("addresses", nargs="+", metavar="ADDRESS", help="see below")
    add_sending_arguments(parser)
    add_common_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Copy and send it all; 1 if any address did not get it."""
    from shmkit.cli.flow import as_coreutils, format_of_options, messages_of_input, opening_of, send_to

    form = format_of_options(options)
    how = opening_of(options, leased=options.leased)
    return as_coreutils(lambda: send_to(options.addresses, messages_of_input(form), how, options, copy=True))
