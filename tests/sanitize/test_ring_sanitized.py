"""The ring's core with both ends as threads on one mapping, under ThreadSanitizer, AddressSanitizer and UBSan."""

from __future__ import annotations

from pathlib import Path

import pytest

from sanitize.compiling import HERE
from sanitize.sanitizing import SANITIZERS, races, stays_silent

SOURCE = HERE / "ring_threads.c"
RECORDS = 10_000


@SANITIZERS
@pytest.mark.parametrize("capacity", [1024, 65536])
def test_two_threads_on_one_ring_give_a_sanitizer_nothing_to_say(
    folder: Path, sanitizer: tuple[str, ...], capacity: int
) -> None:
    """Records of all sizes, batches, views, waits and hand-overs: no race, no stray access, all of them whole."""
    stays_silent(SOURCE, folder, sanitizer, capacity, RECORDS, capacity)


@pytest.mark.parametrize("capacity", [1024, 65536])
@pytest.mark.parametrize("function", ["ring_publish", "ring_release_to"])
def test_a_relaxed_publication_does_not_escape_the_thread_sanitizer(folder: Path, function: str, capacity: int) -> None:
    """The planted faults prove that the test above can fail."""
    races(SOURCE, folder, capacity, RECORDS, capacity, function)
