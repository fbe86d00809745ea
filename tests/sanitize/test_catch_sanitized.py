"""Signals that are written down for collectors, among threads and forks, under ThreadSanitizer and its kin."""

from __future__ import annotations

from pathlib import Path

import pytest

from sanitize.compiling import HERE
from sanitize.sanitizing import ADDRESS, SANITIZERS, THREAD, run_sanitized

CATCH = HERE / "catch_threads.c"
SCENES = pytest.mark.parametrize("scene", ["threads", "forks"])


def runs(folder: Path, sanitizer: tuple[str, ...], scene: str, rounds: int, seed: int) -> None:
    for longer in range(6):
        done = run_sanitized(CATCH, folder, sanitizer, arguments=(scene, rounds << longer, seed))
        # Where others have the cores, threads that are to meet need not.
        if "idle" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stderr == ""


@SANITIZERS
@SCENES
def test_collectors_that_come_and_go_give_a_sanitizer_nothing_to_say(
    folder: Path, sanitizer: tuple[str, ...], scene: str
) -> None:
    """No race, no stray access; each signal comes once, in order; nothing is written to a file of somebody else."""
    runs(folder, sanitizer, scene, 600, 1)


@pytest.mark.parametrize(
    ("scene", "sanitizer", "found"),
    [
        ("unwaited", ADDRESS, ("is not its collector's", "heap-use-after-free")),
        ("unwaited", THREAD, ("data race", "is not its collector's", "heap-use-after-free")),
        ("unreturned", ADDRESS, ("lost",)),
        ("unwatched", ADDRESS, ("what is not its own", "came from process")),
    ],
    ids=["unwaited-address", "unwaited-thread", "unreturned", "unwatched"],
)
def test_a_step_that_is_left_out_does_not_escape_the_driver(
    folder: Path, scene: str, sanitizer: tuple[str, ...], found: tuple[str, ...]
) -> None:
    """The planted faults prove that the test above can fail."""
    done = run_sanitized(CATCH, folder, sanitizer, arguments=(scene, 6000, 1))
    assert done.returncode != 0
    assert any(word in done.stderr for word in found), done.stderr


@pytest.mark.soak
@pytest.mark.timeout(600)
@SANITIZERS
@SCENES
@pytest.mark.parametrize("seed", range(2, 6))
def test_collectors_that_come_and_go_for_long_give_a_sanitizer_nothing_to_say(
    folder: Path, sanitizer: tuple[str, ...], scene: str, seed: int
) -> None:
    """The same with other dice, and ten times as long."""
    runs(folder, sanitizer, scene, 6000, seed)
