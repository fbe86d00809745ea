"""SIGKILL of who uses a primitive, at every failpoint and at random instants (``lock_killing.py`` runs the trials)."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from support import PACKAGE, REPOSITORY, Processes

PROGRAM = Path(__file__).with_name("lock_killing.py")
HEADERS = {
    "Lock": ("_lock.h", "_gate.h"),
    "RLock": ("_lock.h", "_gate.h"),
    "quiet": ("_lock.h", "_gate.h"),
    "undo": ("_semaphore.h", "_gate.h"),
    "Event": ("_event.h", "_gate.h"),
    "Condition": ("_condition.h", "_lock.h", "_gate.h"),
}
CASES = list(HEADERS)
# Every victim passes these; whether it gets to the others depends on whom it meets.
CERTAIN = {
    "Lock": {"lock.taken", "lock.give", "lock.given"},
    "RLock": {"lock.taken", "lock.give", "lock.given"},
    "quiet": {"lock.taken", "lock.give", "lock.given"},
    "undo": {"semaphore.taken", "semaphore.given", "semaphore.inherit"},
    "Event": {"event.set"},
    "Condition": {"lock.taken", "lock.give", "lock.given", "condition.ticket", "condition.waits", "condition.leave"},
}


def failpoints(case: str) -> list[str]:
    """Every failpoint that its headers name."""
    text = "".join((PACKAGE / header).read_text() for header in HEADERS[case])
    return sorted(set(re.findall(r'FAILPOINT\("([a-z.]+)"\)', text)))


def trials(process: Processes, env: dict[str, str], *words: str, watchdog: float) -> list[dict[str, int]]:
    """What the program says of each trial; AssertionError with its traceback if a promise was broken."""
    path = f"{env['PYTHONPATH']}:{REPOSITORY / 'tests'}" if env.get("PYTHONPATH") else str(REPOSITORY / "tests")
    program = process.python(PROGRAM, *words, env={**env, "PYTHONPATH": path}, stderr=subprocess.PIPE)
    output, complaints = program.communicate(timeout=watchdog)
    assert program.returncode == 0, f"after {output[-300:]}\n{complaints}"
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.timeout(240)
def test_one_is_killed_at_every_failpoint(process: Processes, debug_env: dict[str, str], case: str) -> None:
    """The others go on, are told once or not at all, and are never two at a time; all permits come back."""
    results = trials(process, debug_env, "failpoints", case, *failpoints(case), watchdog=230)
    killed = {str(result["failpoint"]) for result in results if result["killed"]}
    assert CERTAIN[case] <= killed


@pytest.mark.parametrize("case", ["Lock", "RLock", "quiet", "Condition"])
@pytest.mark.timeout(240)
def test_holder_and_heir_are_killed(process: Processes, debug_env: dict[str, str], case: str) -> None:
    """In a row, or both at once: the third one goes on."""
    names = ["lock.taken", "lock.give", "lock.taken", "lock.inherit.asked", "lock.inherited", "gate.awake"] * 3
    results = trials(process, debug_env, "rows", case, *names, watchdog=230)
    assert max(result["killed"] for result in results) >= 2


@pytest.mark.parametrize("case", CASES)
@pytest.mark.timeout(240)
def test_one_is_killed_at_random_instants(process: Processes, case: str) -> None:
    """170 times for each kind, more than a thousand in all; now and then two at once."""
    results = trials(process, dict(os.environ), "instants", case, "170", "1", watchdog=230)
    assert len(results) == 170
    assert all(result["killed"] for result in results)
    if case == "quiet":
        assert not any(result["told"] for result in results)


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES)
@pytest.mark.timeout(1800)
def test_one_is_killed_at_10000_random_instants(process: Processes, case: str) -> None:
    """The same, for long."""
    results = trials(process, dict(os.environ), "instants", case, "10000", "2", watchdog=1700)
    assert all(result["killed"] for result in results)
