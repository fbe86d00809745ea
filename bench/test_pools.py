"""Pools of two workers.

::

    caller ──task task task …──> workers      64 tasks that take and return 1 MiB; many that do nothing
           <──results──

Timed: whole lots of tasks, from the call to the last result; the pool is there and warm before.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import suite


@pytest.mark.parametrize("case", suite.cases(suite.TASKS), ids=str)
def test_pools(case: suite.Case, report: Callable[[suite.Case], None]) -> None:
    report(case)
