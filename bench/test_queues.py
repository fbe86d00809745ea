"""Objects, from one to one, and from several to several.

::

    producer ──object object …──> consumer            producer ─┐           ┌─> consumer
                                                      producer ─┴─> queue ──┴─> consumer

Timed: from the producers' start to the consumers' last item.  Each item arrives once, those of a producer in order; of
several consumers it is told how much the one that got the least got, as a share of the most.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import suite


@pytest.mark.parametrize("case", suite.cases(suite.QUEUES), ids=str)
def test_queues(case: suite.Case, report: Callable[[suite.Case], None]) -> None:
    report(case)
