"""Messages from hand to hand beside a descriptor, between threads on one mapping, under ThreadSanitizer and its kin."""

from __future__ import annotations

from pathlib import Path

import pytest

from sanitize.compiling import HERE
from sanitize.sanitizing import ADDRESS, SANITIZERS, run_sanitized

MEET = HERE / "meet_threads.c"
ORDER = ("out of order", "lost")
IDLE = ("nothing was handed over\n", "nobody died\n")
SCENES = ("pipe", "socket", "pipe-deaths", "socket-deaths", "pipe-told", "socket-told", "pipe-told-deaths")


def runs(folder: Path, sanitizer: tuple[str, ...], scene: str, rounds: int, seed: int) -> None:
    for longer in range(6):
        done = run_sanitized(MEET, folder, sanitizer, arguments=(scene, rounds << longer, seed))
        # Where others have the cores, threads that are to meet need not.
        if not done.stderr.endswith(IDLE):
            break
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stderr == ""


@SANITIZERS
@pytest.mark.parametrize("scene", SCENES)
def test_threads_that_hand_messages_over_give_a_sanitizer_nothing_to_say(
    folder: Path, sanitizer: tuple[str, ...], scene: str
) -> None:
    """No race, no stray access; each message comes once, whole, and after all that was sent before it."""
    runs(folder, sanitizer, scene, 800, 1)


@pytest.mark.parametrize(("scene", "found"), [("unasked", ORDER), ("untold", ORDER), ("untaken", ("torn",))])
def test_a_step_that_is_left_out_does_not_escape_the_driver(folder: Path, scene: str, found: tuple[str, ...]) -> None:
    """The planted faults prove that the test above can fail."""
    done = run_sanitized(MEET, folder, ADDRESS, arguments=(scene, 6000, 1))
    assert done.returncode != 0
    assert any(word in done.stderr for word in found), done.stderr


@pytest.mark.soak
@pytest.mark.timeout(600)
@SANITIZERS
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("seed", range(2, 6))
def test_threads_that_hand_messages_over_for_long_give_a_sanitizer_nothing_to_say(
    folder: Path, sanitizer: tuple[str, ...], scene: str, seed: int
) -> None:
    """The same with other dice, and ten times as long."""
    runs(folder, sanitizer, scene, 8000, seed)
