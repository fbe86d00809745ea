"""Round trip of 8 bytes.

::

    client ──8 bytes──> server      both spinning; by the default waiting; both asleep before every message
           <──8 bytes──

Timed: blocks of 64 trips, the median block; percentiles from trips timed one by one.  Where both sleep, each side holds
the message for 2 ms, which is not counted.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import suite


@pytest.mark.parametrize("case", suite.cases(suite.ROUND_TRIPS), ids=str)
def test_round_trip(case: suite.Case, report: Callable[[suite.Case], None]) -> None:
    report(case)
