"""Heaps, queues and topics between threads on one mapping, under ThreadSanitizer and its kin."""

from __future__ import annotations

from pathlib import Path

import pytest

from sanitize.compiling import HERE
from sanitize.sanitizing import ADDRESS, SANITIZERS, races, run_sanitized, stays_silent

QUEUE = HERE / "queue_threads.c"
TOPIC = HERE / "topic_threads.c"
# How often each of the producers puts, or each of four threads takes a block.
SCENES = {
    "bounded": 4000,
    "unbounded": 4000,
    "dropping": 4000,
    "bounded-deaths": 3000,
    "unbounded-deaths": 3000,
    "dropping-deaths": 3000,
    "heap": 2000,
    "heap-deaths": 2000,
    "revival": 1,
    "overtaken": 1,
    "passed-on": 1,
}
# Functions whose accesses are relaxed, one at a time, and where that has to be found.
MUTANTS = [
    ("queue_put", "bounded"),
    ("heap_take_word", "heap"),
    ("heap_free_word", "heap"),
]


@SANITIZERS
@pytest.mark.parametrize("scene", SCENES)
def test_threads_that_share_a_heap_or_a_queue_give_a_sanitizer_nothing_to_say(
    folder: Path, sanitizer: tuple[str, ...], scene: str
) -> None:
    """No race on items or blocks, no stray access; each item comes once, whole; nobody's death leaves anything."""
    stays_silent(QUEUE, folder, sanitizer, scene, SCENES[scene], 1)


@pytest.mark.parametrize(("function", "scene"), MUTANTS)
def test_a_relaxed_access_does_not_escape_the_thread_sanitizer(folder: Path, function: str, scene: str) -> None:
    """The planted faults prove that the test above can fail."""
    races(QUEUE, folder, scene, SCENES[scene], 1, function)


def test_publishers_that_die_and_subscribers_give_a_sanitizer_nothing_to_say(folder: Path) -> None:
    """No stray access; a copy that counts is whole, of its position, and each value came or was lost."""
    stays_silent(TOPIC, folder, ADDRESS, "topic", 20_000, 1)


def test_a_copy_without_a_second_look_does_not_escape_the_driver(folder: Path) -> None:
    """The planted fault proves that the test above can fail."""
    done = run_sanitized(TOPIC, folder, ADDRESS, arguments=("badly", 100_000, 1))
    assert done.returncode != 0
    assert "is torn" in done.stderr


@pytest.mark.soak
@pytest.mark.timeout(600)
@SANITIZERS
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("seed", range(2, 6))
def test_threads_that_share_a_heap_or_a_queue_for_long_give_a_sanitizer_nothing_to_say(
    folder: Path, sanitizer: tuple[str, ...], scene: str, seed: int
) -> None:
    """The same with other dice, and ten times as long."""
    stays_silent(QUEUE, folder, sanitizer, scene, 10 * SCENES[scene], seed)
