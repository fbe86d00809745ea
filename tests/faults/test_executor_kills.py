"""Workers of an Executor are killed at any instant, and its own process is: nobody waits for the dead.

Every future is done then: with the result of its task, the right one, or with BrokenProcessPool.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import time
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
import pytest

import shmkit
from support import Processes, alive, wait_until
from unit import executor_children as children

WATCHDOG = 60.0
METHODS = ("fork", "spawn", "forkserver")
ENDS = {
    "killed": (children.kill_itself, signal.SIGKILL, "was killed by SIGKILL"),
    "terminated": (children.kill_itself, signal.SIGTERM, "was killed by SIGTERM"),
    "signalled": (children.kill_itself, signal.SIGUSR1, "was killed by SIGUSR1"),
    "left": (children.leave, 3, "exited with status 3"),
}


@pytest.fixture(params=METHODS)
def context(request: pytest.FixtureRequest) -> Any:
    return multiprocessing.get_context(request.param)


@pytest.mark.parametrize(
    ("method", "how"), [*(("fork", how) for how in ENDS), ("spawn", "killed"), ("forkserver", "killed")]
)
def test_a_worker_ends_in_a_task(method: str, how: str) -> None:
    """All that is not done says who it was, and how it ended; the other workers end too, and nothing more is taken."""
    task, argument, words = ENDS[how]
    with shmkit.Executor(2, multiprocessing.get_context(method)) as executor:
        done = executor.submit(children.double, 1)
        assert done.result(WATCHDOG) == 2
        workers = list(executor._processes.values())
        made = [executor.submit(task, argument)]
        with contextlib.suppress(BrokenProcessPool):  # it may have ended by then
            made.extend(executor.submit(time.sleep, 600) for _ in range(5))
        for future in made:
            with pytest.raises(BrokenProcessPool, match=rf"worker \d+ {words}"):
                future.result(WATCHDOG)
        with pytest.raises(BrokenProcessPool, match=words):
            executor.submit(children.pid)
        with pytest.raises(BrokenProcessPool):
            executor.map(children.double, [1])
        assert done.result() == 2
    assert not any(worker.is_alive() for worker in workers)


def test_a_worker_exits_in_a_task(context: Any) -> None:
    """What `sys.exit` raises is the task's, as any exception is."""
    with shmkit.Executor(1, context) as executor:
        with pytest.raises(SystemExit):
            executor.submit(children.exit_in_order, 3).result(WATCHDOG)
        assert executor.submit(children.double, 1).result(WATCHDOG) == 2


def test_a_worker_is_killed_while_it_waits(context: Any) -> None:
    """With nothing to do for anybody: the executor is broken then too."""
    with shmkit.Executor(2, context) as executor:
        pid = executor.submit(children.pid).result(WATCHDOG)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: executor._broken)
        with pytest.raises(BrokenProcessPool, match=f"worker {pid} was killed by SIGKILL"):
            executor.submit(children.pid)


@pytest.mark.parametrize("what", [children.FailsToLoad(), "result"])
def test_what_cannot_be_unpickled_breaks_it(context: Any, what: Any) -> None:
    """As in the standard library; an argument ends the worker, with the traceback on stderr."""
    with shmkit.Executor(1, context) as executor:
        if what == "result":
            future = executor.submit(children.make_unloadable, 0)
        else:
            future = executor.submit(children.give, what)
        with pytest.raises(BrokenProcessPool):
            future.result(WATCHDOG)


@pytest.mark.parametrize("trials", [8, pytest.param(300, marks=pytest.mark.soak)])
def test_workers_are_killed_at_random_instants(context: Any, trials: int) -> None:
    """In the midst of small tasks and of arrays, of any worker, at any moment."""
    if trials == 8 and context.get_start_method() != "fork":
        trials = 2
    array = np.arange(20_000)
    for trial in range(trials):
        chance = random.Random(trial)
        with shmkit.Executor(2, context) as executor:
            executor.submit(children.pid).result(WATCHDOG)
            made: list[tuple[Any, Any]] = []
            workers = list(executor._processes)
            moment = chance.randrange(300)
            try:
                for number in range(400):
                    sent = array + number if number % 5 == 0 else number
                    made.append((sent, executor.submit(children.double, sent)))
                    if number == moment:
                        os.kill(chance.choice(workers), signal.SIGKILL)
            except BrokenProcessPool:
                pass
            wait_until(lambda: executor._broken)
            assert not futures.wait([future for _, future in made], WATCHDOG).not_done
            for sent, future in made:
                try:
                    assert np.array_equal(future.result(0), 2 * sent)
                except BrokenProcessPool as error:  # noqa: PERF203
                    assert "was killed by SIGKILL" in str(error)


def test_the_standard_librarys_says_less() -> None:
    """It breaks too, and names neither who died nor of what."""
    with futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor:
        future = executor.submit(children.kill_itself, signal.SIGKILL)
        with pytest.raises(BrokenProcessPool) as caught:
            future.result(WATCHDOG)
    assert "SIGKILL" not in str(caught.value)


def test_under_install() -> None:
    shmkit.install(only={"executor"})
    try:
        with futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor:
            future = executor.submit(children.kill_itself, signal.SIGKILL)
            with pytest.raises(BrokenProcessPool, match="was killed by SIGKILL"):
                future.result(WATCHDOG)
    finally:
        shmkit.uninstall()


PROGRAM = """
import multiprocessing, os, sys, time
import shmkit
from unit import executor_children as children
if __name__ == "__main__":
    executor = shmkit.Executor(2, multiprocessing.get_context(sys.argv[1]))
    pids = set()
    while len(pids) < 2:
        pids |= {future.result() for future in [executor.submit(children.pid) for _ in range(50)]}
    other = os.fork()  # a child that lives on is no executor
    if other == 0:
        time.sleep(600)
    if sys.argv[2] == "busy":
        for number in range(10**9):
            if number == 100:
                print(other, *pids, flush=True)
            executor.submit(children.double, bytes(2000)).result()
    print(other, *pids, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
@pytest.mark.parametrize("method", METHODS)
def test_the_executors_process_is_killed(method: str, state: str, process: Processes) -> None:
    """Its workers end."""
    program = process.python(
        PROGRAM, method, state, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    )
    assert program.stdout is not None
    other, *workers = [int(word) for word in program.stdout.readline().split()]
    try:
        assert len(workers) == 2
        program.kill()
        program.wait()
        wait_until(lambda: not any(map(alive, workers)))
        assert alive(other)
    finally:
        os.kill(other, signal.SIGKILL)
