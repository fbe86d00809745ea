"""What the tests of the codec ask of an object: how it is encoded, what arrives, and what pickle makes of it."""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from typing import Any

from shmkit._codec import decode, encode

IN_BODY = 24  # the first byte of a head whose item is in the body


def code(item: object) -> int:
    """The first byte of its encoding, which says of what kind it is."""
    head, body = encode(item)
    return head[0] if head[0] != IN_BODY or body is None else body[0]


def through(item: object) -> Any:
    return decode(*encode(item))


def as_pickle(item: object) -> Any:
    return ForkingPickler.loads(ForkingPickler.dumps(item))
