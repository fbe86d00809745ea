"""``killing.py``, but both ends wait with descriptors: who is not told of something, or of a death, waits in vain."""

from __future__ import annotations

import contextlib
import os
import random
import select
import sys
from collections.abc import Callable
from typing import Any

import killing

import shmkit
from support.log import Log

# Of the trial under way: readable once the survivor has waited.
waited, waits = -1, -1


def trial(*args: Any, **options: Any) -> tuple[str, bool]:
    global waited, waits
    waited, waits = os.pipe()
    os.set_blocking(waits, False)
    try:
        return killing_trial(*args, **options)
    finally:
        os.close(waited)
        os.close(waits)


def late(victim: Callable[..., None]) -> Callable[..., None]:
    """One that is killed at a bell takes its role when the other end is waiting already: that is told of it first."""

    def act(*args: Any) -> None:
        if os.environ.get("SHMKIT_FAILPOINT", "").startswith("bell."):
            assert select.select([waited], [], [], killing.WATCHDOG)[0]
        victim(*args)

    return act


def told(ring: shmkit.Ring, fd: int, patience: float) -> None:
    """Until the descriptor says that something has changed."""
    with contextlib.suppress(BlockingIOError):
        os.write(waits, b"w")
    if not select.select([fd], [], [], patience)[0]:
        raise TimeoutError(f"nobody was told of anything: {ring!r}, {ring.statistics()}")


def send_next(ring: shmkit.Ring, number: int, chance: random.Random) -> int:
    """Sends one record."""
    while not ring.try_send(killing.record(number)):
        told(ring, ring._room_fileno(), killing.WATCHDOG)
    return number + 1


def receive(ring: shmkit.Ring, patience: float) -> int:
    """Receives one record; returns its number."""
    while (item := ring.try_recv()) is None:
        told(ring, ring.fileno(), patience)
    return killing.number_of(item)


def receive_next(ring: shmkit.Ring, expected: int, chance: random.Random, log: Log | None = None) -> int:
    """Receives one record, which must be `expected`; returns the next number."""
    number = receive(ring, killing.WATCHDOG)
    assert expected in (number, -1), f"expected {expected}: got {number}"
    return number + 1


def rest(ring: shmkit.Ring, expected: int, chance: random.Random, log: Log, patience: float) -> tuple[int, str]:
    """Receives until there will be no more; returns the next number and how it ended."""
    while True:
        over = log[killing.OVER]
        try:
            number = receive(ring, patience)
            assert number == expected, f"expected {expected}: got {number}"
            expected += 1
            killing.dawdle()
        except shmkit.EndOfStream:
            return expected, "end"
        except shmkit.PeerDied as death:
            return expected, f"died {death.pid}"
        except TimeoutError:
            if patience == killing.WATCHDOG:
                raise
            if over:
                return expected, "nobody"


if __name__ == "__main__":
    killing_trial, killing.trial = killing.trial, trial
    killing.VICTIMS = {role: late(victim) for role, victim in killing.VICTIMS.items()}
    killing.send_next, killing.receive_next, killing.rest = send_next, receive_next, rest
    killing.main(*sys.argv[1:])
