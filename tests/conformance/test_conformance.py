"""Whatever CPython's own tests find right about the standard library's primitives, they find right about shmkit's.

The tests are those that were installed with the interpreter that runs.  ``excepted.py`` is the table of those that
need not pass, with the reason of each.  `make conformance` runs all of them, and prints the counts.
"""

from __future__ import annotations

import pytest

from conformance import comparing
from conformance.__main__ import BEGIN, END, with_table
from conformance.comparing import (
    METHODS,
    PRIMITIVES,
    QUEUED,
    SUITES,
    USERS,
    Outcome,
    Report,
    both,
    compare,
    missing,
    run,
)
from conformance.shared_classes import FAULTS, NAMES
from conformance.shared_queues import FAULTS as QUEUE_FAULTS
from conformance.substitutes import EXECUTOR, FACES, QUEUES


@pytest.fixture(autouse=True)
def _installed(request: pytest.FixtureRequest) -> None:
    for suite in SUITES:
        if suite in request.node.name and (why := missing(suite)):
            pytest.skip(why)


def assert_conforms(report: Report, touching: int) -> None:
    print(report)
    assert not report.wrong, "\n".join(f"{test}: {why}" for test, why in report.wrong.items())
    # A suite in which shmkit's classes were never put in place would pass as well.
    assert report.touching >= touching
    assert report.counts["passed"] >= touching - report.counts["excepted"]


@pytest.mark.timeout(600)
def test_threads_lock_suite() -> None:
    """test.lock_tests, where the threads of one process contend."""
    assert_conforms(both("lock_suite", "fork"), 75)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.soak), "forkserver"])
def test_processes_mp_suite(method: str) -> None:
    """test._test_multiprocessing: locks, semaphores, conditions, events and barriers between processes."""
    assert_conforms(both("mp_suite", method, PRIMITIVES), 25)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_what_stands_on_primitives_mp_suite() -> None:
    """The same of queues, pools, values and arrays, whose locks and semaphores are shmkit's then."""
    assert_conforms(both("mp_suite", "fork", USERS), 50)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", METHODS)
def test_queues_mp_suite(method: str) -> None:
    """shmkit.Queue, SimpleQueue and JoinableQueue themselves, in the place of multiprocessing's, and nothing else."""
    assert_conforms(both("mp_suite", method, QUEUED, QUEUES), 14)


QUEUE_FAULTS_SHOWN_BY = {
    "stack": "WithProcessesTestQueue.test_get",
    "one-more": "WithProcessesTestQueue.test_put",
    "never-waits": "WithProcessesTestQueue.test_timeout",
    "never-empty": "TestSimpleQueue.test_empty",
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", QUEUE_FAULTS)
def test_a_fault_of_a_queue_is_found_mp_suite(fault: str) -> None:
    """With a queue that has a fault, the very test fails that is about it."""
    outcomes = run("mp_suite", "fork", f"{QUEUES}+{fault}", [QUEUE_FAULTS_SHOWN_BY[fault]])
    assert outcomes
    assert {outcome.what for outcome in outcomes.values()} <= {"failed", "hung"}


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("face", FACES)
def test_all_of_mp_suite(face: str, method: str) -> None:
    """All of test._test_multiprocessing: processes, threads and managers, through the drop-in and under install()."""
    assert_conforms(both("mp_suite", method, whose=face), 150)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("face", FACES)
def test_faces_mp_suite(face: str) -> None:
    """What the drop-in replaces, a quick choice of the same."""
    assert_conforms(
        both(
            "mp_suite",
            "forkserver",
            [*PRIMITIVES, "*Queue*", "*Connection*", "*Listener*", "*Poll*", "*SharedMemory*", "TestStartMethod.*"],
            face,
        ),
        25,
    )


FACE_FAULTS = {
    "lock-always-free": ("WithProcessesTestLock.test_lock",),
    "condition-wakes-all": ("WithProcessesTestCondition.test_notify", "WithProcessesTestCondition.test_notify_n"),
    "barrier-holds-nobody": ("WithProcessesTestBarrier.test_wait_return",),
    "queue-is-a-stack": ("WithProcessesTestQueue.test_get",),
    "memory-goes": ("WithProcessesTestSharedMemory.test_shared_memory_basics",),
    "pipe-loses": ("TestWait.test_wait",),
    "pipe-says-too-much": ("WithProcessesTestConnection.test_connection",),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", FACE_FAULTS)
@pytest.mark.parametrize("face", FACES)
def test_a_fault_of_a_face_is_found_mp_suite(face: str, fault: str) -> None:
    """With a drop-in that has a fault, the very tests fail that are about it."""
    outcomes = run("mp_suite", "fork", f"{face}+{fault}", FACE_FAULTS[fault])
    assert outcomes
    assert {outcome.what for outcome in outcomes.values()} <= {"failed", "hung"}


# Which tests show each fault, whatever else does.
SHOWN_BY = {
    "lock-never-blocks": ("lock_suite", "LockTests.test_acquire_contended", "LockTests.test_reacquire"),
    "rlock-never-blocks": ("lock_suite", "RLockTests.test_acquire_contended"),
    "semaphore-one-more": ("mp_suite", "WithProcessesTestSemaphore.test_semaphore"),
    "condition-wakes-all": (
        "mp_suite",
        "WithProcessesTestCondition.test_notify",
        "WithProcessesTestCondition.test_notify_n",
    ),
    "event-never-waits": ("mp_suite", "WithProcessesTestEvent.test_event"),
    "barrier-holds-nobody": ("mp_suite", "WithProcessesTestBarrier.test_wait_return"),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("fault", "suite"), [(fault, SHOWN_BY[fault][0]) for fault in FAULTS])
def test_a_fault_is_found(fault: str, suite: str) -> None:
    """With a primitive that has a fault, the very tests fail that are about it: their success says something."""
    outcomes = run(suite, "fork", fault, SHOWN_BY[fault][1:])
    assert outcomes
    assert {outcome.what for outcome in outcomes.values()} <= {"failed", "hung"}


def test_everything_is_substituted() -> None:
    """All of shmkit's classes that multiprocessing has too."""
    assert {"Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event"} <= set(NAMES)


def test_the_comparison() -> None:
    """What failed anyway is no finding; what was skipped, hung or vanished, with shmkit's classes only, is one."""
    outcomes = ("passed", "failed", "skipped", "hung")
    theirs = {f"C.{before}_{after}": Outcome(before) for before in outcomes for after in (*outcomes, "missing")}
    ours = {name: Outcome(what) for name in theirs if (what := name.split("_")[1]) != "missing"}
    report = compare(theirs, ours, {})
    assert set(report.wrong) == {f"C.passed_{after}" for after in ("failed", "skipped", "hung", "missing")}
    excepted = compare(theirs, ours, {"C.passed_*": "for this test"})
    assert excepted.wrong == {"C.passed_passed": "is excepted, and passes"}
    assert excepted.counts["excepted"] == 4


def test_the_run_goes_on_behind_a_test_that_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "SECONDS", 1)
    outcomes = run("hung_suite", "fork", "stdlib")
    assert {test: outcome.what for test, outcome in outcomes.items()} == {
        "Hung.test_a": "passed",
        "Hung.test_b": "hung",
        "Hung.test_c": "failed",
    }
    assert "test_b" in outcomes["Hung.test_b"].why  # the stacks


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("whose", [EXECUTOR, "install"])
def test_executors_futures_suite(whose: str, method: str) -> None:
    """The process-pool parts of test.test_concurrent_futures: shmkit.Executor, and what install() makes of theirs."""
    assert_conforms(both("futures_suite", method, whose=whose), 45)


@pytest.mark.timeout(600)
def test_an_executor_futures_suite() -> None:
    """A quick choice of the same."""
    assert_conforms(both("futures_suite", "fork", ["*Wait*", "*AsCompleted*", "*PoolExecutorTest.*"], EXECUTOR), 15)


def test_the_page_says_why_rows_are_not_there() -> None:
    """Of an interpreter that was installed without a suite."""
    rows = [["fork", 9, 8, 7, 0, 1, 1]]
    kept = {
        "3.10.13": {"rows": rows, "absent": []},
        "3.11.7": {"rows": rows, "absent": ["test.test_concurrent_futures"]},
        "3.12.1": {"rows": rows, "absent": ["test.test_concurrent_futures"]},
    }
    page = with_table(f"before\n{BEGIN}old\n{END}after\n", kept)
    assert page.splitlines()[4:] == [
        "| 3.10.13 | fork | 9 | 8 | 7 | 0 | 1 | 1 |",
        "| 3.11.7 | fork | 9 | 8 | 7 | 0 | 1 | 1 |",
        "| 3.12.1 | fork | 9 | 8 | 7 | 0 | 1 | 1 |",
        "",
        "Python 3.11.7 and 3.12.1 were installed without `test.test_concurrent_futures`: it has no rows for them.",
        END.rstrip(),
        "after",
    ]
