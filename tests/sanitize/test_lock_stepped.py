"""SIGKILL at every instant of every operation of locks, semaphores, events and conditions."""

from __future__ import annotations

from pathlib import Path

import pytest

from sanitize.compiling import HERE
from sanitize.stepping import needs_x86, step

LOCKS = [
    "member-join",
    "lock-take",
    "lock-try",
    "lock-wait",
    "lock-give",
    "lock-give-asleep",
    "lock-recover",
    "rlock-enter",
    "rlock-give",
    "counted-take",
    "counted-wait",
    "counted-give",
    "counted-give-asleep",
    "owned-take",
    "owned-wait",
    "owned-give",
    "owned-give-asleep",
    "event-set",
    "event-set-asleep",
    "event-clear",
]
CONDITIONS = [
    "condition-begin",
    "condition-wait",
    "condition-inherit",
    "condition-wake",
    "condition-return",
    "condition-end",
    "condition-end-twice",
    "notify",
    "notify-all",
    "notify-asleep",
    "notify-late-wake",
]
ASLEEP = [operation for operation in LOCKS + CONDITIONS if operation.endswith(("asleep", "late-wake"))]

pytestmark = needs_x86


def source_of(operation: str) -> Path:
    return HERE / ("lock_step.c" if operation in LOCKS else "condition_step.c")


@pytest.mark.parametrize("operation", LOCKS)
def test_a_kill_at_any_instant_leaves_a_lock_or_a_permit_to_be_had(folder: Path, operation: str) -> None:
    """The survivor gets the lock at its first question, told exactly if the dead one had it; no permit appears."""
    step(source_of(operation), folder, operation)


@pytest.mark.parametrize("operation", CONDITIONS)
def test_a_kill_at_any_instant_loses_no_notification(folder: Path, operation: str) -> None:
    """Each is with one that has returned or one that waits, and once only; who sleeps is woken."""
    step(source_of(operation), folder, operation)


def test_a_waiter_that_is_nowhere_for_one_instant_does_not_escape_the_stepper(folder: Path) -> None:
    """The planted fault proves that the tests above can fail."""
    step(HERE / "condition_step.c", folder, "notify-badly", found="a waiter has lost its place")


@pytest.mark.soak
@pytest.mark.timeout(120)
@pytest.mark.parametrize("operation", sorted({*LOCKS, *CONDITIONS} - {"member-join", "lock-wait", *ASLEEP}))
def test_a_kill_after_instructions_that_nobody_can_notice_changes_nothing(folder: Path, operation: str) -> None:
    """The stepper leaves out kills that cannot differ from the one before; here it does not."""
    step(source_of(operation), folder, operation, everywhere=True)
