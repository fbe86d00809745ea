"""Messages of 64 bytes, as fast as they go.

::

    producer ──64 B 64 B 64 B …──> consumer      one by one; lists of 100; buffers of 1,000

Timed: from the producer's start to the consumer's last message, every one of which is compared with what was sent.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import suite


@pytest.mark.parametrize("case", suite.cases(suite.SMALL_MESSAGES), ids=str)
def test_small_messages(case: suite.Case, report: Callable[[suite.Case], None]) -> None:
    report(case)
