"""Arrays of float64, 1 KiB to 64 MiB.

::

    producer ──array array array …──> consumer      received; received and summed; written in place

Timed: from the producer's start to the consumer's last frame.  Of each frame the consumer compares the first and the
last number with the frame's serial number; where it sums, the whole sum.  Minor page faults of both are counted.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import suite


@pytest.mark.parametrize("case", suite.cases(suite.FRAMES), ids=str)
def test_frames_received(case: suite.Case, report: Callable[[suite.Case], None]) -> None:
    report(case)


@pytest.mark.parametrize("case", suite.cases(suite.SUMMED), ids=str)
def test_frames_received_and_summed(case: suite.Case, report: Callable[[suite.Case], None]) -> None:
    report(case)


@pytest.mark.parametrize("case", suite.cases(suite.IN_PLACE), ids=str)
def test_frames_written_in_place(case: suite.Case, report: Callable[[suite.Case], None]) -> None:
    report(case)
