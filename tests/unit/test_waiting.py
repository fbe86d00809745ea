"""Deadlines, and waiting for a descriptor until one."""

from __future__ import annotations

import math
import os
import signal
import time
from typing import Any

import pytest

from shmkit.waiting import Deadline, readable, seconds_of, writable


def test_a_time_out_is_a_number_of_seconds() -> None:
    """Or None; negative is 0, and what is too large for a float is for ever."""
    assert seconds_of(None) is None
    assert seconds_of(1) == 1.0
    assert seconds_of(-3) == 0.0
    assert seconds_of(10**400) == math.inf
    assert seconds_of(-(10**400)) == 0.0
    wrong: Any
    for wrong in ("1", b"1", True, [], 1j):
        with pytest.raises(TypeError, match="timeout must be"):
            seconds_of(wrong)
    with pytest.raises(ValueError, match="nan"):
        seconds_of(math.nan)


def test_a_deadline_passes() -> None:
    """And one without an end never does."""
    never = Deadline(None)
    assert (never.left(), never.left_or_none(), never.passed) == (math.inf, None, False)
    now = Deadline(0)
    assert (now.left(), now.left_or_none(), now.passed) == (0.0, 0.0, True)
    later = Deadline(1000)
    assert 0 < later.left() <= 1000
    assert not later.passed


def test_waiting_for_a_descriptor() -> None:
    """Never shorter than it was told; signals do not lengthen it."""
    reading, writing = os.pipe()
    previous = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        before = time.monotonic()
        assert not readable(reading, Deadline(0.03))
        assert time.monotonic() - before >= 0.03
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert writable(writing, Deadline(0))
        os.write(writing, b"x")
        assert readable(reading, Deadline(None))
        assert readable(reading, Deadline(1e12))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        os.close(reading)
        os.close(writing)
