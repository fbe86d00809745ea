"""Workers of a Pool are killed: the standard library's waits for ever for what they did, ours says so, and goes on.

That the standard library hangs is shown too, under a watchdog: as soon as it no longer does, these tests have lost
their point.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import random
import signal
from typing import Any

import numpy as np
import pytest

import shmkit
import shmkit.multiprocessing
from shmkit.multiprocessing import _pool_line
from support import wait_until
from unit import executor_children as children

WATCHDOG = 60.0
# How long the standard library's is waited for: it waits for ever, ours for milliseconds.
A_WHILE = 1.0
METHODS = ("fork", "spawn", "forkserver")


@pytest.fixture(params=METHODS)
def context(request: pytest.FixtureRequest, face: str) -> Any:
    package: Any = shmkit.multiprocessing if face == "drop-in" else multiprocessing
    return package.get_context(request.param)


@pytest.fixture(params=["fork", "forkserver", pytest.param("spawn", marks=pytest.mark.soak)])
def ours(request: pytest.FixtureRequest) -> Any:
    return shmkit.multiprocessing.get_context(request.param)


def test_a_worker_is_killed_in_a_task(face: str, context: Any) -> None:
    """The task ends, with who it was and how it ended; the worker is replaced; other tasks are not concerned."""
    with context.Pool(2) as pool:
        pool.apply(children.pid)
        result = pool.apply_async(children.kill_itself)
        if face == "stdlib":
            result.wait(A_WHILE)
            assert not result.ready()
            return
        with pytest.raises(
            shmkit.WorkerDied, match=r"worker \d+ was killed by SIGKILL .* while it ran kill_itself"
        ) as caught:
            result.get(WATCHDOG)
        assert caught.value.exitcode == -signal.SIGKILL
        assert caught.value.pid > 0
        assert isinstance(caught.value, RuntimeError)
        assert pool.map(children.double, range(100), chunksize=1) == list(range(0, 200, 2))
        wait_until(lambda: len(pool._pool) == 2)
        assert caught.value.pid not in [worker.pid for worker in pool._pool]


def test_a_worker_exits_in_a_task(face: str, context: Any) -> None:
    """With `sys.exit`, which the pool does not take for a failure of the task."""
    with context.Pool(1) as pool:
        pool.apply(children.pid)
        result = pool.apply_async(children.exit_in_order, (3,))
        if face == "stdlib":
            result.wait(A_WHILE)
            assert not result.ready()
            return
        with pytest.raises(shmkit.WorkerDied, match="exited with status 3"):
            result.get(WATCHDOG)
        assert pool.apply(children.double, (1,)) == 2


def test_what_becomes_of_map_and_imap(ours: Any) -> None:
    """A chunk fails as a whole, and with it the map; imap raises for that one, and goes on."""
    with ours.Pool(2) as pool:
        with pytest.raises(shmkit.WorkerDied):
            pool.map(_die_at_5, range(20), chunksize=4)
        with pytest.raises(shmkit.WorkerDied):
            pool.starmap(children.kill_itself_at, [(1, 2), (2, 2), (3, 2)], chunksize=1)
        for words in ("imap", "imap_unordered"):
            results, failures = [], 0
            found = getattr(pool, words)(_die_at_5, range(20))
            while True:
                try:
                    results.append(next(found))
                except StopIteration:  # noqa: PERF203
                    break
                except shmkit.WorkerDied:
                    failures += 1
                    if words == "imap":
                        assert results == [0, 1, 2, 3, 4]
            assert failures == 1
            assert sorted(results) == [number for number in range(20) if number != 5]


def _die_at_5(value: int) -> int:
    return children.kill_itself_at(value, 5)


def test_callbacks(ours: Any) -> None:
    with ours.Pool(1) as pool:
        told: list[Any] = []
        pool.apply_async(children.kill_itself, callback=told.append, error_callback=told.append).wait(WATCHDOG)
        wait_until(lambda: told)
        assert isinstance(told[0], shmkit.WorkerDied)


def test_it_is_pickled() -> None:
    error = pickle.loads(pickle.dumps(shmkit.WorkerDied("words", 12, -9)))
    assert (str(error), error.pid, error.exitcode) == ("words", 12, -9)


def test_a_worker_is_killed_while_it_waits(ours: Any) -> None:
    """Nothing that it had is needed by others.  (The standard library's may have the lock of the queue of tasks then:
    nobody gets any more, and the pool cannot even be terminated.)
    """
    with ours.Pool(2) as pool:
        assert pool.map(children.double, range(20), chunksize=1) == list(range(0, 40, 2))
        workers = list(pool._pool)
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        wait_until(lambda: not {*workers} & {*pool._pool} and len(pool._pool) == 2)
        assert pool.map(children.double, range(20), chunksize=1) == list(range(0, 40, 2))


class DiesOnce(_pool_line.Claims):
    """Whoever first would claim a task is killed: it has got the task, and has not said so."""

    alive: shmkit.AtomicFlag

    def claim(self, ticket: int, worker: int) -> bool:
        if not self.alive.test_and_set():
            children.kill_itself()
        return super().claim(ticket, worker)


def test_a_worker_is_killed_with_a_task_that_it_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another runs it: nobody had begun, so nothing is done twice."""
    monkeypatch.setattr(_pool_line, "Claims", DiesOnce)
    monkeypatch.setattr(DiesOnce, "alive", shmkit.AtomicFlag(), raising=False)
    counts = shmkit.AtomicArray(shmkit.zeros(50, "int64"))
    with shmkit.multiprocessing.get_context("fork").Pool(1) as pool:
        before = pool._pool[0].pid
        result = pool.starmap_async(children.note, [(counts, place) for place in range(50)], chunksize=1)
        assert result.get(WATCHDOG) == list(range(50))
        assert pool._pool[0].pid != before
    assert list(counts) == [1] * 50


class Deadly:
    """Whoever unpickles it ends."""

    def __reduce__(self) -> Any:
        return os._exit, (3,)


def test_a_task_that_ends_whoever_unpickles_it(ours: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not sent for ever; other tasks go on meanwhile, and after it."""
    monkeypatch.setattr(_pool_line, "SENT_MOST", 4)
    with ours.Pool(2) as pool:
        deadly = pool.apply_async(id, (Deadly(),))
        assert pool.map(children.double, range(20), chunksize=1) == list(range(0, 40, 2))
        with pytest.raises(shmkit.WorkerDied, match=r"exited with status 3 .*, the last of 4 .*unpickling its arg"):
            deadly.get(WATCHDOG)
        assert pool.map(children.double, range(20), chunksize=1) == list(range(0, 40, 2))


@pytest.mark.parametrize("kills", [20, pytest.param(1000, marks=pytest.mark.soak)])
def test_workers_are_killed_at_random_instants(ours: Any, kills: int) -> None:
    """No task is run twice; each ends with its result or `WorkerDied`; the pool goes on as long as there are tasks."""
    if kills == 20 and ours.get_start_method() != "fork":
        kills = 3
    chance = random.Random(kills)
    array = np.arange(5000)
    died = 0
    counts = shmkit.AtomicArray(shmkit.zeros(100 * kills, "int64"))
    with ours.Pool(2, children.keep, (counts,)) as pool:
        for first in range(0, 100 * kills, 100):
            found = pool.imap(_note_and_double, [(first + place, array + place) for place in range(100)])
            moment = chance.randrange(100)
            for place in range(100):
                if place == moment:
                    with contextlib.suppress(ProcessLookupError):  # it was killed before, and not replaced yet
                        os.kill(chance.choice(list(pool._pool)).pid, signal.SIGKILL)
                try:
                    assert (found.next(WATCHDOG) == 2 * (array + place)).all()
                    assert counts[first + place] == 1
                except shmkit.WorkerDied:
                    died += 1
                    assert counts[first + place] <= 1
            with pytest.raises(StopIteration):
                found.next(WATCHDOG)
        wait_until(lambda: len(pool._pool) == 2)
        assert pool.apply(children.double, (1,)) == 2
    assert died <= kills


def _note_and_double(task: Any) -> Any:
    place, array = task
    children.kept.add(place)
    return 2 * array


def test_a_result_that_cannot_be_unpickled(face: str, context: Any) -> None:
    """It is that task's failure; the standard library's thread that gives results ends with it."""
    with context.Pool(2) as pool:
        if face == "stdlib":
            return
        with pytest.raises(ValueError, match="cannot be loaded"):
            pool.apply_async(children.make_unloadable, (0,)).get(WATCHDOG)
        found = pool.imap(_unloadable_at_3, range(8))
        results: list[Any] = []
        for _ in range(8):
            try:
                results.append(found.next(WATCHDOG))
            except ValueError:  # noqa: PERF203
                results.append("failed")
        assert results == [0, 1, 2, "failed", 4, 5, 6, 7]
        assert pool.map(children.double, range(10)) == list(range(0, 20, 2))


def _unloadable_at_3(value: int) -> Any:
    return children.make_unloadable_at(value, 3)
