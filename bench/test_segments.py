"""Segments of 1 MiB that nobody touches.

::

    one process: create, map, close, unlink; and attach, map, close of what another made

Timed: whole cycles, one process alone.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import suite


@pytest.mark.parametrize("case", suite.cases(suite.SEGMENTS), ids=str)
def test_segment_cycle(case: suite.Case, report: Callable[[suite.Case], None]) -> None:
    report(case)
