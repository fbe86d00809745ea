"""Channels by address, beside the same system calls by hand, in Python and in C; and those that frame, as they do.

::

    sender ──message message …──> receiver      8 bytes to and fro; 64 bytes; arrays of 4 KiB to 8 MiB

Timed: as round trips, small messages and frames elsewhere; every message is checked in the same way.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import suite


@pytest.mark.parametrize("case", suite.cases(suite.CHANNELS), ids=str)
def test_channels(case: suite.Case, report: Callable[[suite.Case], None]) -> None:
    report(case)
