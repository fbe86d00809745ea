"""SIGKILL at every instant of every operation of the ring's core, one machine instruction after the other."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest

from sanitize.compiling import HERE, compile_driver, compiler

SOURCE = HERE / "ring_step.c"
NOT_ALLOWED = 77
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

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"),
    reason="the stepper knows x86-64 only: a loop of load-linked and store-conditional never ends when stepped",
)


@pytest.fixture(scope="module")
def stepper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled ring_step.c."""
    if compiler() is None:
        pytest.skip("no C compiler")
    return compile_driver(SOURCE, tmp_path_factory.mktemp("drivers"), "-O2")


def run(stepper: Path, *arguments: str, everywhere: bool = False) -> subprocess.CompletedProcess[str]:
    # A "rep stos" is one step for each of its repetitions: libc's memset is asked to do without.
    environment = {**os.environ, "GLIBC_TUNABLES": "glibc.cpu.x86_rep_stosb_threshold=16777216"}
    if everywhere:
        environment["STEP_EVERYWHERE"] = "1"
    done = subprocess.run(
        [str(stepper), *arguments], check=False, capture_output=True, text=True, timeout=110, env=environment
    )
    if done.returncode == NOT_ALLOWED:
        pytest.skip("ptrace is not allowed here")
    return done


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_kill_at_any_instant_of_an_operation_costs_nothing_committed(stepper: Path, operation: str) -> None:
    """The survivor and a successor find each committed record whole, the role free and the whole capacity usable."""
    done = run(stepper, operation, *filter(None, [OPERATIONS[operation]]))
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    assert " kills, " in done.stdout.splitlines()[-1]


def test_a_publication_before_the_bytes_does_not_escape_the_stepper(stepper: Path) -> None:
    """The planted fault proves that the tests above can fail."""
    done = run(stepper, "put-early")
    assert done.returncode == 1
    assert "is not whole" in done.stderr


@pytest.mark.soak
@pytest.mark.timeout(120)
@pytest.mark.parametrize("operation", [operation for operation, size in OPERATIONS.items() if not size])
def test_a_kill_after_instructions_that_nobody_can_notice_changes_nothing(stepper: Path, operation: str) -> None:
    """The stepper leaves out kills that cannot differ from the one before; here it does not."""
    done = run(stepper, operation, "100", everywhere=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
