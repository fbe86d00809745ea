"""Locks, semaphores, events and conditions between threads on one mapping, under ThreadSanitizer and its kin."""

from __future__ import annotations

from pathlib import Path

import pytest

from sanitize.compiling import HERE
from sanitize.sanitizing import SANITIZERS, races, stays_silent

SOURCE = HERE / "lock_threads.c"
# How often each of four threads does it.
SCENES = {
    "lock": 500,
    "rlock": 500,
    "counted": 500,
    "owned": 500,
    "lock-deaths": 500,
    "owned-deaths": 500,
    "counted-permits": 500,
    "owned-permits": 500,
    "event": 500,
    "condition-queue": 500,
    "condition-deaths": 500,
    "condition-news": 300,
    "condition-crowd": 300,
    "signals": 10,
    "late": 10,
}
# Functions whose compare-and-swaps and stores are relaxed, one at a time, and where that has to be found.
MUTANTS = [
    ("lock_give", "lock"),
    ("lock_give", "rlock"),
    ("lock_take", "lock"),
    ("counted_give", "counted"),
    ("counted_take", "counted"),
    ("owned_give", "owned"),
    ("event_set", "event"),
    ("condition_mark", "condition-news"),
    ("condition_call", "condition-crowd"),
]


@SANITIZERS
@pytest.mark.parametrize("scene", SCENES)
def test_threads_that_share_a_primitive_give_a_sanitizer_nothing_to_say(
    folder: Path, sanitizer: tuple[str, ...], scene: str
) -> None:
    """No race on what it guards or hands over, no stray access; nobody is there twice, and nothing is lost."""
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
def test_threads_that_share_a_primitive_for_long_give_a_sanitizer_nothing_to_say(
    folder: Path, sanitizer: tuple[str, ...], scene: str, seed: int
) -> None:
    """The same with other dice, and twenty times as long."""
    stays_silent(SOURCE, folder, sanitizer, scene, 20 * SCENES[scene], seed)
