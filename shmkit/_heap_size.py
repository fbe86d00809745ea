"""How much memory a heap may come to use, and how many addresses it takes for that."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from typing import SupportsIndex

from shmkit.sizes import format_size, parse_size

__all__ = ["default_limit", "sizes"]

LEAST = 1 << 20
LEAST_BY_DEFAULT = 64 << 20
SPAN = 16  # times the limit: addresses, since those of a class of sizes stay with it
SPAN_MOST = 1 << 44
BLOCK_BYTES = 2048  # of address space for each entry of the table


def default_limit() -> int:
    """Bytes that a heap may come to use where nobody says: half of the machine's memory, as for /dev/shm.

    It is an eighth of what this process may map at all (RLIMIT_AS), where that is less.
    """
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    addresses = _addresses()
    return max(half if addresses is None else min(half, addresses // 8), LEAST)


def sizes(limit: SupportsIndex | str | None) -> Iterator[tuple[int, int, int]]:
    """Bytes that a heap may use, bytes of address space, entries of its table: the best first, down to the least.

    Address space may be scarce, and a file system may allow no file that large: whoever makes a heap tries them in
    turn.  Less than ``limit`` is offered only where that is None.
    """
    most = default_limit() if limit is None else parse_size(limit)
    if most < LEAST:
        raise ValueError(f"a heap has at least {format_size(LEAST)}: got {limit!r}")
    span = min(max(most, 64 << 20) * SPAN, max(SPAN_MOST, 2 * most))
    addresses = _addresses()
    if addresses is not None:
        span = max(min(span, addresses // 4), most)
    while True:
        yield most, span, min(max(span // (SPAN * BLOCK_BYTES), 1 << 16), 1 << 23)
        if span < 2 * most:
            if limit is not None or most < 2 * LEAST_BY_DEFAULT:
                return
            most //= 2
        span //= 2


def _addresses() -> int | None:
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if soft == resource.RLIM_INFINITY else soft
