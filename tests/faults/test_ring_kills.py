"""SIGKILL of one end of a ring, or of both, at every failpoint and at random instants.

``killing.py`` and ``killing_both.py`` run the trials.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from support import PACKAGE, REPOSITORY, Processes

PROGRAM = Path(__file__).with_name("killing.py")
WATCHED = PROGRAM.with_name("killing_watched.py")
HEADERS = ("_wait.h", "_ring_bell.h", "_ring.h", "_ring_roles.h")
# Where only one of the two ends passes.
PRODUCERS = {"ring.reserve.pad", "ring.fill.word", "ring.rows.filled", "ring.publish.before", "ring.publish.tail"}
CONSUMERS = {"ring.release.before", "ring.release.head"}
WATCHERS = {"ring.armed", "bell.announced"}
SLEEPERS = {"wait.announced", "wait.woken"}


def failpoints() -> list[str]:
    """Every failpoint that the ring's headers name."""
    text = "".join((PACKAGE / header).read_text() for header in HEADERS)
    return sorted(set(re.findall(r'FAILPOINT\("([a-z.]+)"\)', text)))


def trials(
    process: Processes, env: dict[str, str], *words: str, watchdog: float, program: Path = PROGRAM
) -> list[dict[str, object]]:
    """What the program says of each trial; AssertionError with its traceback if a promise was broken."""
    path = f"{env['PYTHONPATH']}:{REPOSITORY / 'tests'}" if env.get("PYTHONPATH") else str(REPOSITORY / "tests")
    run = process.python(program, *words, env={**env, "PYTHONPATH": path}, stderr=subprocess.PIPE)
    output, complaints = run.communicate(timeout=watchdog)
    assert run.returncode == 0, f"after {output[-300:]}\n{complaints}"
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("role", ["producer", "consumer"])
@pytest.mark.timeout(600)
def test_one_end_is_killed_at_every_failpoint(process: Processes, debug_env: dict[str, str], role: str) -> None:
    """The other end has every committed record, whole, then learns of the death; a successor finds the ring whole."""
    names = sorted(set(failpoints()) - WATCHERS)
    passed = set(names) - (CONSUMERS if role == "producer" else PRODUCERS)
    results = trials(process, debug_env, "failpoints", role, *names, watchdog=580)
    # An end that the machine never lets come first never waits: it is asked again, a few times.
    for _ in range(5):
        missing = sorted(passed - {str(result["failpoint"]) for result in results if result["killed"]})
        if missing:
            results += trials(process, debug_env, "failpoints", role, *missing, watchdog=580)
    assert {result["failpoint"] for result in results if result["killed"]} == passed
    for result in results:
        if not result["killed"] or result["failpoint"] == "ring.close.state":
            # Who is killed after it said that it leaves has left.
            assert result["end"] == "end", result
        elif result["failpoint"] in ("ring.claim.leased", "ring.claim.epoch"):
            assert result["end"] == "nobody", result
        else:
            assert result["end"] == "died", result


@pytest.mark.parametrize("role", ["producer", "consumer"])
@pytest.mark.timeout(600)
def test_one_end_that_is_watched_is_killed_at_every_failpoint(
    process: Processes, debug_env: dict[str, str], role: str
) -> None:
    """The other end, which waits with a descriptor, is told of every record and of the death."""
    others = CONSUMERS if role == "producer" else PRODUCERS
    names = sorted(set(failpoints()) - SLEEPERS - {"ring.rows.filled"} - others)
    results = trials(process, debug_env, "failpoints", role, *names, watchdog=580, program=WATCHED)
    passed = {result["failpoint"] for result in results if result["killed"]}
    assert passed >= WATCHERS | {"bell.cleared", "ring.claim.open"}
    for result in results:
        if not result["killed"] or result["failpoint"] == "ring.close.state":
            assert result["end"] == "end", result
        elif result["failpoint"] in ("ring.claim.leased", "ring.claim.epoch"):
            assert result["end"] == "nobody", result
        else:
            assert result["end"] == "died", result


@pytest.mark.parametrize("role", ["producer", "consumer"])
@pytest.mark.timeout(600)
def test_one_end_that_is_watched_is_killed_at_100_random_instants(process: Processes, role: str) -> None:
    """Likewise."""
    results = trials(process, dict(os.environ), "instants", role, "100", "7", watchdog=580, program=WATCHED)
    assert {result["end"] for result in results if result["killed"]} == {"died"}


@pytest.mark.parametrize("role", ["producer", "consumer"])
@pytest.mark.timeout(600)
def test_one_end_is_killed_at_500_random_instants(process: Processes, role: str) -> None:
    """Nothing committed is lost or torn, nobody hangs, and the death is told with its pid, each time."""
    results = trials(process, dict(os.environ), "instants", role, "500", "1", watchdog=580)
    assert len(results) == 500
    assert {result["end"] for result in results if result["killed"]} == {"died"}


@pytest.mark.soak
@pytest.mark.parametrize("role", ["producer", "consumer"])
@pytest.mark.timeout(1200)
def test_one_end_is_killed_at_10000_random_instants(process: Processes, role: str) -> None:
    """The same, for long."""
    results = trials(process, dict(os.environ), "instants", role, "10000", "2", watchdog=1100)
    assert {result["end"] for result in results if result["killed"]} == {"died"}


def killed_both(process: Processes, *words: str, watchdog: float = 580) -> list[dict[str, object]]:
    return trials(process, dict(os.environ), *words, watchdog=watchdog, program=PROGRAM.with_name("killing_both.py"))


@pytest.mark.parametrize("named", [False, True], ids=["anonymous", "named"])
@pytest.mark.timeout(600)
def test_both_ends_are_killed_at_200_random_instants(process: Processes, name: str, named: bool) -> None:
    """A new pair finds what was committed, whole and in order, and room for the largest record there can be."""
    results = killed_both(process, "200", "5", *([name] if named else []))
    assert len(results) == 200
    assert {result["alone"] for result in results} == {True, False}
    assert any(result["left"] for result in results)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_both_ends_are_killed_at_5000_random_instants(process: Processes) -> None:
    """The same, for long."""
    assert len(killed_both(process, "5000", "6", watchdog=1700)) == 5000
