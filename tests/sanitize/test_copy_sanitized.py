"""What copies large arrays, beside memcpy and under sanitizers."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from sanitize.compiling import HERE
from sanitize.sanitizing import ADDRESS, SANITIZERS, run_sanitized, stays_silent

COPY = HERE / "copy_check.c"


def test_a_copy_is_what_memcpy_makes(folder: Path) -> None:
    """Of each size and at each place, and no byte beside it is read or written."""
    stays_silent(COPY, folder, ADDRESS, "places")


@SANITIZERS
def test_a_sanitizer_has_nothing_to_say_of_what_is_published(folder: Path, sanitizer: tuple[str, ...]) -> None:
    """Of two threads, one of which copies."""
    stays_silent(COPY, folder, sanitizer, "order", 5000)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only there are streaming stores used")
def test_a_fence_that_is_left_out_does_not_escape_the_driver(folder: Path) -> None:
    """The planted fault proves that the test above can fail."""
    said = [run_sanitized(COPY, folder, ADDRESS, arguments=("unfenced", 20000)).stderr for _ in range(3)]
    assert any("before it was there" in text for text in said), said
