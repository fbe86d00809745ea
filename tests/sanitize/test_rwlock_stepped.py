"""SIGKILL at every instant of every operation of readers and writers, and of barriers."""

from __future__ import annotations

from pathlib import Path

import pytest

from sanitize.compiling import HERE
from sanitize.stepping import needs_x86, step

READERS_AND_WRITERS = [
    "read-try",
    "read-wait",
    "read-abandon",
    "read-give",
    "read-give-asleep",
    "write-try",
    "write-wait",
    "write-abandon",
    "write-give",
    "write-give-awaited",
    "write-give-reader-asleep",
    "write-give-writer-asleep",
    "write-recover",
]
BARRIERS = [
    "barrier-wait",
    "barrier-wait-asleep",
    "barrier-act",
    "barrier-act-asleep",
    "barrier-abort",
    "barrier-reset",
    "barrier-leave",
]
# Operations that wait make thousands of steps that nobody can notice.
SHORT = [name for name in READERS_AND_WRITERS + BARRIERS if not name.endswith(("wait", "asleep"))]

pytestmark = needs_x86


def source_of(operation: str) -> Path:
    return HERE / ("barrier_step.c" if operation.startswith("barrier") else "rwlock_step.c")


@pytest.mark.parametrize("operation", READERS_AND_WRITERS)
def test_a_kill_at_any_instant_leaves_both_sides_to_be_had(folder: Path, operation: str) -> None:
    """The survivor reads and writes at its first question, told exactly if the dead one wrote; who waits is woken."""
    step(source_of(operation), folder, operation)


@pytest.mark.parametrize("operation", BARRIERS)
def test_a_kill_at_any_instant_leaves_nobody_waiting_at_a_barrier(folder: Path, operation: str) -> None:
    """Who waits has passed or hears who died, as does whoever comes next; after a reset it is as good as new."""
    step(source_of(operation), folder, operation)


@pytest.mark.parametrize(
    ("operation", "found"),
    [
        ("grant-badly", "a reader has lost its place in line"),
        ("barrier-early", "the survivor has passed alone"),
    ],
)
def test_what_is_wrong_for_one_instant_does_not_escape_the_stepper(folder: Path, operation: str, found: str) -> None:
    """The planted faults prove that the tests above can fail."""
    step(source_of(operation), folder, operation, found=found)


@pytest.mark.soak
@pytest.mark.timeout(120)
@pytest.mark.parametrize("operation", SHORT)
def test_a_kill_after_instructions_that_nobody_can_notice_changes_nothing(folder: Path, operation: str) -> None:
    """The stepper leaves out kills that cannot differ from the one before; here it does not."""
    step(source_of(operation), folder, operation, everywhere=True)
