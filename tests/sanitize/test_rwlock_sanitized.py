"""Readers and writers, and barriers, between threads on one mapping, under ThreadSanitizer and its kin."""

from __future__ import annotations

from pathlib import Path

import pytest

from sanitize.compiling import HERE
from sanitize.sanitizing import SANITIZERS, races, stays_silent

SOURCE = HERE / "rwlock_threads.c"
# How often each of four threads does it.
SCENES = {
    "rwlock": 500,
    "rwlock-alone": 500,
    "rwlock-deaths": 500,
    "rwlock-untold": 500,
    "rwlock-grants": 300,
    "barrier": 300,
    "barrier-action": 300,
    "barrier-breaks": 500,
    "barrier-deaths": 500,
}
# Functions whose compare-and-swaps and stores are relaxed, one at a time, and where that has to be found.
MUTANTS = [
    ("rwlock_leave", "rwlock"),
    ("rwlock_claim", "rwlock"),
    ("reader_leave", "rwlock"),
    ("rwlock_grant", "rwlock-grants"),
    ("barrier_mark", "barrier"),
    ("lock_give", "barrier"),
]


@SANITIZERS
@pytest.mark.parametrize("scene", SCENES)
def test_threads_that_read_write_and_meet_give_a_sanitizer_nothing_to_say(
    folder: Path, sanitizer: tuple[str, ...], scene: str
) -> None:
    """No race on what it guards or hands over; no reader beside a writer, and nobody passes a barrier alone."""
    stays_silent(SOURCE, folder, sanitizer, scene, SCENES[scene], 1)


@pytest.mark.parametrize(("function", "scene"), MUTANTS)
def test_a_relaxed_access_does_not_escape_the_thread_sanitizer(folder: Path, function: str, scene: str) -> None:
    """The planted faults prove that the test above can fail."""
    races(SOURCE, folder, scene, SCENES[scene], 1, function)


@pytest.mark.soak
@pytest.mark.timeout(600)
@SANITIZERS
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("seed", range(2, 6))
def test_threads_that_read_write_and_meet_for_long_give_a_sanitizer_nothing_to_say(
    folder: Path, sanitizer: tuple[str, ...], scene: str, seed: int
) -> None:
    """The same with other dice, and twenty times as long."""
    stays_silent(SOURCE, folder, sanitizer, scene, 20 * SCENES[scene], seed)
