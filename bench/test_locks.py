"""Locks, semaphores, events and conditions.

::

    one process: acquire, release        2 or 4 processes ──> one lock       signaller ──> waiter

Timed: pairs and ``with`` blocks of one process alone; acquisitions of all processes that contend; from the signaller's
call to the waiter's return, after a pause of 2 ms and at once; one question whether a process lives.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import suite


@pytest.mark.parametrize("case", suite.cases(suite.PRIMITIVES), ids=str)
def test_locks(case: suite.Case, report: Callable[[suite.Case], None]) -> None:
    report(case)
