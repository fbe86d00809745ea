"""No file of the package grows beyond what one reads in one go."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.sources import files, inside

CEILING = 500


@pytest.mark.parametrize("path", files(), ids=inside)
def test_a_file_can_be_read_in_one_go(path: Path) -> None:
    """At most 500 lines; a longer file has two subjects."""
    lines = len(path.read_text().splitlines())
    assert lines <= CEILING, f"{inside(path)} has {lines} lines, {CEILING} are allowed"
