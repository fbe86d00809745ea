"""A pipe's large messages, which lie in blocks of a heap, between threads on one mapping, under sanitizers."""

from __future__ import annotations

from pathlib import Path

import pytest

from sanitize.compiling import HERE
from sanitize.sanitizing import ADDRESS, SANITIZERS, run_sanitized, stays_silent

PAIR = HERE / "pair_threads.c"
SCENES = ("alive", "deaths")


@SANITIZERS
@pytest.mark.parametrize("scene", SCENES)
def test_threads_that_send_blocks_give_a_sanitizer_nothing_to_say(
    folder: Path, sanitizer: tuple[str, ...], scene: str
) -> None:
    """No race, no stray access; each message comes once, whole and in order, or its reader died; no block is left."""
    stays_silent(PAIR, folder, sanitizer, scene, 400, 1)


@pytest.mark.parametrize("scene", ["unaged", "apart"])
def test_an_id_that_is_trusted_too_long_does_not_escape_the_driver(folder: Path, scene: str) -> None:
    """The planted faults prove that the test above can fail; one takes luck, so the dice are cast again and again."""
    for seed in range(1, 13):
        done = run_sanitized(PAIR, folder, ADDRESS, arguments=(scene, 3000, seed))
        if done.returncode != 0:
            break
    assert done.returncode != 0
    assert "lost" in done.stderr or "out of order" in done.stderr, done.stderr


@pytest.mark.soak
@pytest.mark.timeout(600)
@SANITIZERS
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("seed", range(2, 6))
def test_threads_that_send_blocks_for_long_give_a_sanitizer_nothing_to_say(
    folder: Path, sanitizer: tuple[str, ...], scene: str, seed: int
) -> None:
    """The same with other dice, and ten times as long."""
    stays_silent(PAIR, folder, sanitizer, scene, 4000, seed)
