"""SIGKILL at every instant of every operation of the ring's core, one machine instruction after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from sanitize.compiling import HERE
from sanitize.stepping import needs_x86, run_stepper, stepper

# Where the kernel is called, or a role is claimed, thousands of instructions are stepped: one size of three then.
OPERATIONS = {
    "put": "",
    "put-less": "",
    "put-rows": "",
    "abort": "",
    "take": "",
    "take-rows": "",
    "view": "",
    "claim-producer": "100",
    "claim-consumer": "100",
    "close-producer": "100",
    "close-consumer": "100",
    "wait-room": "100",
    "wait-records": "100",
}

pytestmark = needs_x86


@pytest.fixture(scope="module")
def ring_step(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled ring_step.c."""
    return stepper(HERE / "ring_step.c", tmp_path_factory.mktemp("drivers"))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_kill_at_any_instant_of_an_operation_costs_nothing_committed(ring_step: Path, operation: str) -> None:
    """The survivor and a successor find each committed record whole, the role free and the whole capacity usable."""
    done = run_stepper(ring_step, operation, *filter(None, [OPERATIONS[operation]]))
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    assert " kills, " in done.stdout.splitlines()[-1]


def test_a_publication_before_the_bytes_does_not_escape_the_stepper(ring_step: Path) -> None:
    """The planted fault proves that the tests above can fail."""
    done = run_stepper(ring_step, "put-early")
    assert done.returncode == 1
    assert "is not whole" in done.stderr


@pytest.mark.soak
@pytest.mark.timeout(120)
@pytest.mark.parametrize("operation", [operation for operation, size in OPERATIONS.items() if not size])
def test_a_kill_after_instructions_that_nobody_can_notice_changes_nothing(ring_step: Path, operation: str) -> None:
    """The stepper leaves out kills that cannot differ from the one before; here it does not."""
    done = run_stepper(ring_step, operation, "100", everywhere=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
