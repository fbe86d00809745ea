"""What the tests of the codec ask of an object: how it is encoded, what arrives, and what pickle makes of it."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from multiprocessing.reduction import ForkingPickler
from typing import Any

from shmkit import PickleRefused, RecordCorrupt
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


def change_every_byte(item: object, values: Iterable[int]) -> None:
    """Decodes its head with each byte changed to each value in turn: something arrives, or it is refused."""
    head, _ = encode(item)
    for at in range(len(head)):
        for value in {*values, head[at] ^ 1, head[at] ^ 32} - {head[at]}:
            changed = bytearray(head)
            changed[at] = value
            try:
                decode(bytes(changed), None)
            except (RecordCorrupt, PickleRefused, pickle.UnpicklingError, ArithmeticError):
                pass
            except (AttributeError, ImportError, LookupError, TypeError, ValueError, Warning):
                pass
