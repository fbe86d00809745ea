"""SIGKILL of who has an end of a pipe, at every failpoint and at random instants (see ``pipe_killing.py``)."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from support import PACKAGE, REPOSITORY, Processes

PROGRAM = Path(__file__).with_name("pipe_killing.py")
CASES = ("sender", "receiver", "sharer")
# Which of them each victim passes for certain.
CERTAIN = {
    "sender": {"pair.offer", "pair.offered", "pair.written", "pair.committed", "wire.written", "meet.telling"},
    "receiver": {"pair.noted", "pair.taken", "wire.read"},
    "sharer": {"pair.noted", "pair.taken", "wire.read"},
}


def failpoints() -> list[str]:
    text = "".join((PACKAGE / header).read_text() for header in ("_pair.h", "_pair_meet.h", "_wire.h"))
    return sorted(set(re.findall(r'FAILPOINT\("([a-z.]+)"\)', text)))


def trials(process: Processes, env: dict[str, str], *words: str, watchdog: float) -> list[dict[str, int]]:
    """What the program says of each trial; AssertionError with its traceback if a promise was broken."""
    path = f"{env['PYTHONPATH']}:{REPOSITORY / 'tests'}" if env.get("PYTHONPATH") else str(REPOSITORY / "tests")
    program = process.python(PROGRAM, *words, env={**env, "PYTHONPATH": path}, stderr=subprocess.PIPE)
    output, complaints = program.communicate(timeout=watchdog)
    assert program.returncode == 0, f"after {output[-300:]}\n{complaints}"
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.timeout(300)
def test_one_is_killed_at_every_failpoint(process: Processes, debug_env: dict[str, str], case: str) -> None:
    """What a send returned for arrives, whole; the other end learns of the end; no memory is left."""
    results = trials(process, debug_env, "failpoints", case, *failpoints(), watchdog=290)
    assert {str(result["failpoint"]) for result in results if result["killed"]} >= CERTAIN[case]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.timeout(300)
def test_one_is_killed_at_random_instants(process: Processes, case: str) -> None:
    """The same, wherever it was."""
    results = trials(process, dict(os.environ), "instants", case, "15", "1", watchdog=290)
    assert sum(result["killed"] for result in results) > 5


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES)
@pytest.mark.timeout(3600)
def test_thousands_are_killed_at_random_instants(process: Processes, case: str) -> None:
    """1,000 times."""
    results = trials(process, dict(os.environ), "instants", case, "1000", "77", watchdog=3590)
    assert sum(result["killed"] for result in results) > 500
