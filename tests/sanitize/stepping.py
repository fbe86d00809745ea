"""Runs the steppers: drivers that kill a child after each instruction of an operation."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import pytest

from sanitize.compiling import compile_driver, compiler

NOT_ALLOWED = 77

needs_x86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"),
    reason="the stepper knows x86-64 only: a loop of load-linked and store-conditional never ends when stepped",
)


@cache
def stepper(source: Path, folder: Path) -> Path:
    """The compiled stepper; skips where there is no compiler."""
    if compiler() is None:
        pytest.skip("no C compiler")
    return compile_driver(source, folder, "-O2")


def run_stepper(stepper: Path, *arguments: str, everywhere: bool = False) -> subprocess.CompletedProcess[str]:
    """Steps one operation; skips where that is not allowed."""
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


def step(source: Path, folder: Path, operation: str, *, everywhere: bool = False, found: str | None = None) -> None:
    """All is well at each point of the operation; or what is wrong is `found`."""
    done = run_stepper(stepper(source, folder), operation, everywhere=everywhere)
    if found is None:
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
        assert " kills, " in done.stdout.splitlines()[-1]
    else:
        assert done.returncode == 1
        assert found in done.stderr
