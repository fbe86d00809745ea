"""SIGKILL of who uses a queue, at every failpoint and at random instants (``queue_killing.py`` runs the trials)."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from support import PACKAGE, REPOSITORY, Processes

PROGRAM = Path(__file__).with_name("queue_killing.py")
HEADERS = ("_cells.h", "_heap.h", "_heap_take.h", "_sweep.h", "_gate.h")
# Some victim passes each of these; whether one gets to the others depends on whom it meets.
CERTAIN = {
    "queue.claimed", "queue.tail", "queue.item", "queue.queued", "queue.ready", "queue.taken", "queue.head",
    "queue.copied",
    "queue.held", "queue.freed", "heap.taken", "heap.drop", "heap.dropped",
}  # fmt: skip


def failpoints(headers: tuple[str, ...] = HEADERS) -> list[str]:
    """Every failpoint that the headers name."""
    text = "".join((PACKAGE / header).read_text() for header in headers)
    return sorted(set(re.findall(r'FAILPOINT\("([a-z.]+)"\)', text)))


def trials(
    process: Processes, env: dict[str, str], *words: str, watchdog: float, of: Path = PROGRAM
) -> list[dict[str, int]]:
    """What the program says of each trial; AssertionError with its traceback if a promise was broken."""
    path = f"{env['PYTHONPATH']}:{REPOSITORY / 'tests'}" if env.get("PYTHONPATH") else str(REPOSITORY / "tests")
    program = process.python(of, *words, env={**env, "PYTHONPATH": path}, stderr=subprocess.PIPE)
    output, complaints = program.communicate(timeout=watchdog)
    assert program.returncode == 0, f"after {output[-300:]}\n{complaints}"
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("case", ["bounded", "unbounded"])
@pytest.mark.timeout(600)
def test_one_is_killed_at_every_failpoint(process: Processes, debug_env: dict[str, str], case: str) -> None:
    """The others go on, and lose nothing."""
    results = trials(process, debug_env, "failpoints", case, *failpoints(), watchdog=590)
    killed = {str(result["failpoint"]) for result in results if result["killed"]}
    assert killed >= CERTAIN


@pytest.mark.parametrize("case", ["bounded", "unbounded", "named", "leased"])
@pytest.mark.timeout(600)
def test_one_is_killed_at_random_instants(process: Processes, case: str) -> None:
    """The same, wherever it was."""
    results = trials(process, dict(os.environ), "instants", case, "30", "1", watchdog=590)
    assert sum(result["killed"] for result in results) > 20


@pytest.mark.timeout(600)
def test_one_is_killed_who_tells_or_is_told(process: Processes, debug_env: dict[str, str]) -> None:
    """Consumers that wait with a descriptor, and producers that tell them."""
    points = [*failpoints(("_watch.h",)), "queue.queued", "queue.ready", "queue.copied", "queue.freed"]
    results = trials(process, debug_env, "failpoints", "watched", *points, watchdog=590)
    killed = {str(result["failpoint"]) for result in results if result["killed"]}
    assert killed == set(points)


@pytest.mark.timeout(600)
def test_one_is_killed_at_random_instants_beside_those_who_watch(process: Processes) -> None:
    """The same, wherever it was."""
    results = trials(process, dict(os.environ), "instants", "watched", "30", "3", watchdog=590)
    assert sum(result["killed"] for result in results) > 20


@pytest.mark.parametrize("case", ["named", "leased"])
@pytest.mark.timeout(600)
def test_all_are_killed_at_once(process: Processes, case: str) -> None:
    """Who attaches next finds all that was put and not got, and no block held; a leased queue has gone with them."""
    results = trials(process, dict(os.environ), "everybody", case, "40", "5", watchdog=590)
    assert sum(result["items"] for result in results) > 40


IDLE = Path(__file__).with_name("idle_killing.py")
# Whoever sleeps in `get`, or in `put`, passes all of these when it begins to, is woken, and goes on.
PASSED = {
    "consumer": {"gate.announced", "gate.awake", "queue.taken", "queue.head", "queue.copied", "queue.held"},
    "producer": {"gate.announced", "gate.awake", "queue.claimed", "queue.tail", "queue.item", "queue.queued"},
}


@pytest.mark.parametrize("case", PASSED)
@pytest.mark.timeout(600)
def test_one_who_sleeps_is_killed_at_random_instants(process: Processes, case: str) -> None:
    """In its sleep, or as it is woken: the others, who sleep too, are woken in its place, and lose nothing."""
    results = trials(process, dict(os.environ), "instants", case, "60", "9", watchdog=590, of=IDLE)
    assert sum(result["killed"] for result in results) == 60


@pytest.mark.parametrize("case", PASSED)
@pytest.mark.timeout(600)
def test_one_who_sleeps_is_killed_at_every_failpoint(process: Processes, debug_env: dict[str, str], case: str) -> None:
    """What it had taken and not got goes to one who sleeps, without anybody's asking for it."""
    points = sorted(PASSED[case] | {"queue.ready", "queue.freed", "heap.drop", "heap.dropped"})
    results = trials(process, debug_env, "failpoints", case, *points, watchdog=590, of=IDLE)
    assert {str(result["failpoint"]) for result in results if result["killed"]} >= PASSED[case]


@pytest.mark.soak
@pytest.mark.parametrize("case", PASSED)
@pytest.mark.timeout(3600)
def test_a_thousand_are_killed_who_sleep(process: Processes, case: str) -> None:
    """The same, 2,000 times."""
    results = trials(process, dict(os.environ), "instants", case, "1000", "78", watchdog=3590, of=IDLE)
    assert sum(result["killed"] for result in results) == 1000


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_one_is_killed_at_every_failpoint_of_a_queue_with_a_name(process: Processes, debug_env: dict[str, str]) -> None:
    """The same as of anonymous ones; and nothing is left of each when it is unlinked."""
    results = trials(process, debug_env, "failpoints", "named", *failpoints(), watchdog=590)
    assert {str(result["failpoint"]) for result in results if result["killed"]} >= CERTAIN


@pytest.mark.soak
@pytest.mark.parametrize("case", ["bounded", "unbounded", "watched", "named", "leased"])
@pytest.mark.timeout(3600)
def test_thousands_are_killed_at_random_instants(process: Processes, case: str) -> None:
    """5,000 times."""
    results = trials(process, dict(os.environ), "instants", case, "1000", "77", watchdog=3590)
    assert sum(result["killed"] for result in results) > 900


CONDEMNED = """
import os, signal, sys
import shmkit
from support.processes import die_with_parent

die_with_parent()
name = sys.argv[1]
queue = shmkit.Queue.create(name)
try:
    queue.put("kept")
    heap = queue.heap
    queue.close()
    pid = os.fork()
    if pid == 0:
        os.environ["SHMKIT_FAILPOINT"] = "sweep.condemned"
        heap.collect()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL, "nobody came there"
    found = shmkit.Queue.attach(name)
    assert found.get(timeout=0) == "kept"
    found.put("again")
    found.heap.collect()
    assert found.get(timeout=0) == "again"
finally:
    shmkit.unlink(name)
"""


def test_whoever_attaches_finds_a_queue_whose_sweeper_was_killed_while_it_asked(
    process: Processes, debug_env: dict[str, str], name: str
) -> None:
    """Nobody had the queue, so a sweep made it its own before it asked once more; whoever comes has it as it was."""
    env = {**debug_env, "PYTHONPATH": f"{debug_env['PYTHONPATH']}:{REPOSITORY / 'tests'}"}
    program = process.python(CONDEMNED, name, env=env, stderr=subprocess.PIPE)
    _, complaints = program.communicate(timeout=60)
    assert program.returncode == 0, complaints
