"""Fixtures of every test: unique names, children that end with their test, and books that must balance.

At teardown of each test nothing may be left: no entry of /dev/shm, no SysV segment or semaphore, no descriptor, no
mapping of shared memory, no child.  A test that hangs fails after its time-out with the stacks of all threads, its
children's too; if it cannot even fail, the whole run ends with its stacks a minute later.  The time-out is an
ITIMER_REAL of this process, so a test that wants timer signals of its own sets them in a child.
"""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from support import DEBUG_TREE, REPOSITORY, Processes, debug_environment, unique_name, wait_until
from support.accounting import Books, clean_up, settle
from support.isolation import isolate

PR_SET_CHILD_SUBREAPER = 36
SECONDS_TO_FAIL_IN = 60

stderr = pytest.StashKey[int]()
call_failed = pytest.StashKey[bool]()
shared_memory = pytest.StashKey[str]()

settings.register_profile(
    "shmkit",
    # Two cores that others use too: a slow example is no finding.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    print_blob=True,
    # A failure is shrunk, and told; to explain it takes longer than a test may.
    phases=tuple(phase for phase in Phase if phase is not Phase.explain),
)
settings.load_profile("shmkit")


def pytest_configure(config: pytest.Config) -> None:
    import shmkit

    origin = Path(shmkit.__file__).resolve()
    if origin.is_relative_to(REPOSITORY / "shmkit") and not os.environ.get("SHMKIT_TEST_IN_PLACE"):
        raise pytest.UsageError(
            f"shmkit was imported from the checkout ({origin}), not from an installed package: "
            "run `make test`, or set SHMKIT_TEST_IN_PLACE=1 to test an in-place build"
        )
    config.stash[shared_memory] = isolate()
    # Whom a shell starts in the background, or nohup anywhere, has signals ignored, as would every child that a test
    # sends them to.  What is handled is not inherited by programs.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
    # Orphaned grandchildren come to this process, which then sees and ends them.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    config.stash[stderr] = os.dup(sys.__stderr__.fileno() if sys.__stderr__ else 2)


def pytest_report_header(config: pytest.Config) -> str:
    return f"shmkit: {Path(sys.modules['shmkit'].__file__ or '').parent}; /dev/shm is {config.stash[shared_memory]}"


def pytest_unconfigure(config: pytest.Config) -> None:
    if stderr in config.stash:
        os.close(config.stash[stderr])
        del config.stash[stderr]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Ends the run when a test neither finishes nor can be failed: its main thread is stuck where no signal comes."""
    marker = item.get_closest_marker("timeout")
    limit = float(marker.args[0] if marker and marker.args else item.config.getini("timeout"))
    # Without a limit (`-o timeout=0`, for a debugger) nothing is armed.
    if limit > 0:
        faulthandler.dump_traceback_later(limit + SECONDS_TO_FAIL_IN, exit=True, file=item.config.stash[stderr])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call":
        item.stash[call_failed] = report.failed
    return report


@pytest.fixture(scope="session", autouse=True)
def _elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests run in an empty folder: a `python -c` started there cannot import the checkout by accident."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("cwd"))
    yield
    os.chdir(before)


@pytest.fixture(autouse=True)
def _books_balance(request: pytest.FixtureRequest, _elsewhere: None) -> Iterator[None]:
    """Fails a test that leaves something behind, and removes it."""
    before = Books.now()
    yield
    # What fixtures gave to the test is pytest's until long after it.
    request.node.funcargs.clear()
    # A failed test's traceback still holds its locals, so their descriptors and mappings are no second failure.
    left = settle(before, memory_too=not request.node.stash.get(call_failed, False))
    if left:
        clean_up(left)
        pytest.fail("left behind: " + "; ".join(f"{what}: {', '.join(which)}" for what, which in left.items()))


@pytest.fixture
def make_name(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Makes names that nobody else uses."""
    return lambda: unique_name(request.node.originalname.removeprefix("test_"))


@pytest.fixture
def name(make_name: Callable[[], str]) -> str:
    """A name that nobody else uses."""
    return make_name()


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def start_method(request: pytest.FixtureRequest) -> BaseContext:
    """Each multiprocessing context in turn.  Only importable functions reach the children of the last two."""
    return multiprocessing.get_context(request.param)


@pytest.fixture
def process(request: pytest.FixtureRequest) -> Iterator[Processes]:
    """Starts children and programs that end with the test (see ``support.Processes``)."""
    processes = Processes()
    yield processes
    processes.end(show_stacks=request.node.stash.get(call_failed, False))


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[..., object]:
    """``wait_until(condition, watchdog=30.0)``."""
    return wait_until


@pytest.fixture
def debug_env() -> dict[str, str]:
    """The environment for programs that are to import the debug build: failpoints, asserts, poison."""
    if not any((DEBUG_TREE / "shmkit").glob("_ring*.so")):
        message = f"no debug build in {DEBUG_TREE}: run `make debug`"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return debug_environment()
