"""Barriers under load from real processes; every scenario stands in SCENARIOS.md under its test's name."""

from __future__ import annotations

import numpy as np
import pytest

import shmkit
from stress.test_rwlock_stress import WATCHDOG, end_well, scale
from support import Processes


def march(barrier: shmkit.Barrier, table: np.ndarray, number: int, rounds: int) -> None:
    for step in range(1, rounds + 1):
        table[number] = step
        if barrier.wait(WATCHDOG) == 0:
            table[-1] += 1
        assert table[:-1].min() >= step, "passed before all had come"
        assert table[:-1].max() <= step + 1, "somebody was let through twice"


@scale
@pytest.mark.parametrize("parties", [4, 6])
def test_many_rounds(process: Processes, parties: int, scale: int) -> None:
    """Nobody passes before all have come, nobody is left behind."""
    segment = shmkit.Segment.create(size=1024)
    barrier, table = shmkit.Barrier.create_at(segment, 0, parties), shmkit.zeros(parties + 1, "i8")
    end_well([process(march, barrier, table, number, 5000 * scale) for number in range(parties)], WATCHDOG * scale)
    # One of each round adds to it, and all others see that before the next round ends.
    assert table.tolist() == [5000 * scale] * (parties + 1)
    assert barrier.n_waiting == 0
    assert not barrier.broken
