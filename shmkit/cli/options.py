"""The options that cat, tee, pub and sub share."""

from __future__ import annotations

import argparse
import math

__all__ = ["ADDRESSES", "FORMATS", "add_common_arguments", "add_receiving_arguments", "add_sending_arguments"]

ADDRESSES = """\
ring://NAME  fifo:///PATH  unix:///PATH  unix://@NAME  tcp://HOST:PORT
mq://NAME  sysvmq://NAME  file:///PATH  queue://NAME  topic://NAME
NAME, of a ring, queue or topic that is there, as shmkit ls shows it
Options follow a question mark: 'ring://frames?capacity=1GiB'."""

FORMATS = """\
lines     a message is a line, as bytes (the default)
text      a message is a line, as a str
json      a message is a line of JSON: any object, arrays as lists
size:N    a message is N bytes
prefixed  a message is as many bytes as the 4 before it say (big-endian)
npy       a message is an array, as numpy.save writes it
raw       a message is what one read gives; nothing is written in between
whole     all of standard input is one message; written as raw"""

# How long the other end of a mechanism, or of a name, is waited for unless it is said.
WAIT = 5.0


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """What all four take."""
    parser.add_argument("--format", default="lines", metavar="FORMAT", help="how messages are told apart: see below")
    parser.add_argument("-0", "--null", action="store_true", help="lines end with a zero byte, as xargs -0 has them")
    parser.add_argument("--count", type=_whole_number, metavar="N", help="end after so many messages")
    parser.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="end if nothing moves for so long: 124")
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=WAIT,
        metavar="SECONDS",
        help=f"for the other end, or the name, to be there: {WAIT:g} if not said; inf",
    )
    parser.add_argument("--key-file", metavar="FILE", help="the key that both sides of tcp have to know")
    parser.add_argument_group("addresses", ADDRESSES)
    parser.add_argument_group("formats", FORMATS)


def add_receiving_arguments(parser: argparse.ArgumentParser) -> None:
    """What those take that receive."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--listen", dest="listen", action="store_true", default=None, help="listen there (as usual)")
    which.add_argument(
        "--connect", dest="listen", action="store_false", help="to one who listens and sends (unix, tcp)"
    )
    parser.set_defaults(listen=None)


def add_sending_arguments(parser: argparse.ArgumentParser) -> None:
    """What those take that send."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--connect", dest="listen", action="store_false", help="to one who listens (as usual)")
    which.add_argument(
        "--listen", dest="listen", action="store_true", help="for one who connects and receives (unix, tcp)"
    )
    parser.set_defaults(listen=None)
    parser.add_argument("--drop", action="store_true", help="rather drop a message than wait for room; says how many")
    parser.add_argument("--leased", action="store_true", help="a queue or topic that is made goes with its users")


def _whole_number(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"a whole number from 1: got {text!r}")
    return int(text)


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"a number of seconds: got {text!r}")
    return None if seconds == math.inf else seconds
