"""Running a suite with the standard library's classes and with shmkit's, and comparing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path

from conformance.excepted import EXCEPTED
from conformance.substitutes import COUNT, EXECUTOR, FACES, METHOD, QUEUES, WHOSE

TESTS = Path(__file__).resolve().parents[1]
PATH = os.pathsep.join(map(str, [TESTS, TESTS.parent] if os.environ.get("SHMKIT_TEST_IN_PLACE") else [TESTS]))
# Of one test, of CPython's or of ours: the longest of them take ten on an idle machine.
SECONDS = 100
# With so many the rest is not worth the wait.
MOST_HUNG = 5

# The tests of what shmkit offers, with processes.
PRIMITIVES = [f"WithProcessesTest{name}.*" for name in ("Lock", "Semaphore", "Condition", "Event", "Barrier")]
# The tests of what stands on it: values and arrays with a lock, queues, pools; and of processes that meet at them.
USERS = [
    *(f"WithProcessesTest{name}.*" for name in ("Value", "Array", "SharedCTypes", "Queue", "Pool", "PoolWorker*")),
    *(
        f"WithProcessesTestProcess.test_{name}"
        for name in ("args_argument", "close", "lose_target_ref", "process*", "sentinel", "wait_for_threads")
    ),
    "TestSimpleQueue.*",
    "TestStartMethod.*",
]
# The tests of queues, and others that use one.
QUEUED = [
    *("WithProcessesTestQueue.*", "TestSimpleQueue.*", "WithProcessesTestProcess.*"),
    *("TestStartMethod.*", "TestStdin*"),
]
METHODS = ("fork", "spawn", "forkserver")

SUITES = {
    "mp_suite": "test._test_multiprocessing",
    "lock_suite": "test.lock_tests",
    "futures_suite": "test.test_concurrent_futures",
}


@dataclass(frozen=True)
class Outcome:
    """What came of one test, and how many of shmkit's classes were made during it."""

    what: str
    made: int = 0
    why: str = ""
    seconds: float = 0.0


def missing(suite: str) -> str | None:
    """Why the suite cannot run here; None: it can."""
    found = find_spec("test") and find_spec(SUITES[suite])
    return None if found else f"this interpreter was installed without {SUITES[suite]}"


def run(suite: str, method: str, whose: str, patterns: Sequence[str] = ()) -> dict[str, Outcome]:
    """Runs it in processes of its own, in an empty folder, and returns the outcomes by test.

    A test that hung ends its process, and has the outcome "hung"; another process goes on with those after it.
    """
    with tempfile.TemporaryDirectory(prefix="shmkit-conformance-") as folder:
        results, count = Path(folder, "results"), Path(folder, "count")
        count.touch()
        results.touch()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
        environment |= {METHOD: method, WHOSE: whose, COUNT: str(count), "TMPDIR": folder, "PYTHONPATH": PATH}
        command = [sys.executable, "-m", "conformance.runner", suite, str(results), str(SECONDS), *patterns]
        hung: dict[str, Outcome] = {}
        while True:
            output = _finish(command, environment, folder)
            outcomes = read(results.read_text(), output) | hung
            new = {test: outcome for test, outcome in outcomes.items() if outcome.what == "hung" and test not in hung}
            hung |= new
            if not new or len(hung) > MOST_HUNG:
                return outcomes


def _finish(command: Sequence[str], environment: Mapping[str, str], folder: str) -> str:
    """Runs the program to its end, ends whatever it left behind, and returns what they wrote."""
    with open(Path(folder, "output"), "w+") as output:
        program = subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            program.wait()
        finally:
            # Its children are of its session, and so are those that a hung or failed test left.
            try:
                os.killpg(program.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            program.wait()
        output.seek(0)
        return output.read()


def all_of(suite: str, method: str, whose: Sequence[str], patterns: Sequence[str] = ()) -> dict[str, Report]:
    """Runs it with the standard library's classes and, at the same time, with each of `whose`, and compares."""
    with ThreadPoolExecutor() as pool:
        theirs, *others = pool.map(lambda whose: run(suite, method, whose, patterns), ("stdlib", *whose))
    return {
        name: compare(theirs, ours, EXCEPTED[name if name in (*FACES, EXECUTOR, QUEUES) else suite])
        for name, ours in zip(whose, others, strict=True)
    }


def both(suite: str, method: str, patterns: Sequence[str] = (), whose: str = "shmkit") -> Report:
    """The same with one of them."""
    return all_of(suite, method, [whose], patterns)[whose]


def read(text: str, output: str) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        if "test" in line:
            said = Outcome(line["outcome"], line.get("made", 0), line.get("why", ""), line.get("seconds", 0.0))
            outcomes[line["test"]] = said
    for test, outcome in outcomes.items():
        if outcome.what == "started":
            outcomes[test] = Outcome("hung", why=output)
    if not lines or ("finished" not in lines[-1] and lines[-1].get("outcome") != "started"):
        outcomes["the run"] = Outcome("failed", why=output)
    return outcomes


@dataclass
class Report:
    """One suite with one start method, compared."""

    counts: Counter[str] = field(default_factory=Counter)
    touching: int = 0
    wrong: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        counts = " ".join(f"{self.counts[what]} {what}" for what in ("passed", "failed", "excepted", "skipped"))
        return f"{sum(self.counts.values())} tests, {self.touching} with shmkit's classes: {counts}"


def compare(theirs: Mapping[str, Outcome], ours: Mapping[str, Outcome], excepted: Mapping[str, str]) -> Report:
    """What passes with the standard library's classes has to pass with shmkit's, unless it is excepted.

    What does not pass with the standard library's either (it is not for this machine) counts as skipped.
    """
    report = Report()
    for test in sorted({*theirs, *ours}):
        before, after = theirs.get(test, Outcome("missing")), ours.get(test, Outcome("missing"))
        exempt = any(fnmatchcase(test, pattern) for pattern in excepted)
        report.touching += after.made > 0
        if after.what == "passed":
            report.counts["passed"] += 1
            if exempt:
                report.wrong[test] = "is excepted, and passes"
        elif before.what == "missing" or (before.what == "passed" and not exempt):
            report.counts["failed"] += 1
            report.wrong[test] = f"{before.what} with the standard library, {after.what} with shmkit:\n{after.why}"
        else:
            report.counts["excepted" if exempt and before.what == "passed" else "skipped"] += 1
    return report
