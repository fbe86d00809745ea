"""SIGKILL of who lends a large message of a pipe, or borrows it, at each step (see ``lent_killing.py``)."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from support import PACKAGE, REPOSITORY, Processes

PROGRAM = Path(__file__).with_name("lent_killing.py")
# What each victim passes for certain: but for those of MEETING all steps there are, in their order.
DROPPING = ["heap.drop", "heap.dropped"]
CASES = {
    "maker": ["heap.taken", "pair.tie", "pair.tied"],
    "sender": [
        "heap.grow", "heap.top", "heap.slab", "heap.chained", "heap.taken", "heap.reserved",
        "pair.filling", "pair.offer", "pair.offered", "wire.written", "meet.telling", "pair.written",
        "pair.committed",
    ],
    "slow": ["heap.taken.warm"],
    "waiter": [
        "pair.filling", "pair.offer", "pair.offered", "wire.written", "meet.telling", "pair.written",
        "pair.committed", "gate.announced", "gate.awake",
    ],
    "receiver": ["wire.read", "pair.noted", "pair.taken", *DROPPING],
    "waker": ["gate.moved", "gate.woken"],
    "copier": ["wire.read", "pair.noted", "pair.taken", "pair.copied", *DROPPING],
    "refused": ["pair.withdrawn", *DROPPING],
    "heir": ["pair.withdrawn", *DROPPING],
}  # fmt: skip
# A note that goes from hand to hand: whether it does depends on what else runs.
MEETING = {
    "met-sender": ["meet.owned", "meet.stored", "meet.handed", "meet.withdrawn", "meet.answered"],
    "met-receiver": ["meet.posted", "meet.looked", "meet.told", "meet.copied", "meet.taken", "meet.left"],
}


def killed(process: Processes, env: dict[str, str], case: str, names: list[str]) -> set[str]:
    """At which of them one was; AssertionError with the program's traceback if a promise was broken."""
    env = {**env, "PYTHONPATH": f"{env['PYTHONPATH']}:{REPOSITORY / 'tests'}"}
    program = process.python(PROGRAM, case, *names, env=env, stderr=subprocess.PIPE)
    output, complaints = program.communicate(timeout=290)
    assert program.returncode == 0, f"after {output[-300:]}\n{complaints}"
    return {str(result["failpoint"]) for result in map(json.loads, output.splitlines()) if result["killed"]}


def test_every_step_has_a_case() -> None:
    text = "".join((PACKAGE / header).read_text() for header in ("_pair.h", "_pair_meet.h"))
    named = set(re.findall(r'FAILPOINT\("([a-z.]+)"\)', text))
    assert named <= {name for table in (CASES, MEETING) for names in table.values() for name in names}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.timeout(300)
def test_one_is_killed_at_each_step(process: Processes, debug_env: dict[str, str], case: str) -> None:
    """The other end gets each message whole that was sent, and is told of the end; no memory is left."""
    assert killed(process, debug_env, case, CASES[case]) == set(CASES[case])


@pytest.mark.parametrize("case", MEETING)
@pytest.mark.timeout(300)
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="nobody meets on one core")
def test_one_is_killed_where_a_note_goes_from_hand_to_hand(
    process: Processes, debug_env: dict[str, str], case: str
) -> None:
    """The same."""
    killed(process, debug_env, case, MEETING[case])
