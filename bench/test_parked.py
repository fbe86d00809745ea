"""A receiver with nothing to do.

::

    sender ···(10 s)···8 bytes──> receiver      the CPU it uses; how long it takes to wake up

Timed: the receiver's CPU seconds over the whole wait, as a share of one core; and, after pauses of 2 ms, from the
sender's call to the receiver's return.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import suite


@pytest.mark.parametrize("case", suite.cases(suite.PARKED), ids=str)
def test_parked_receiver(case: suite.Case, report: Callable[[suite.Case], None]) -> None:
    report(case)
