"""``shmkit.Executor``: the words and answers of ``concurrent.futures.ProcessPoolExecutor``."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import pickle
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

import numpy as np
import pytest

import shmkit
from support import Processes, alive, wait_until

from . import executor_children as children

WATCHDOG = 60.0
METHODS = ("fork", "spawn", "forkserver")


@pytest.fixture(params=METHODS)
def context(request: pytest.FixtureRequest) -> Any:
    return multiprocessing.get_context(request.param)


@pytest.fixture(scope="module", params=METHODS)
def executor(request: pytest.FixtureRequest) -> Iterator[shmkit.Executor]:
    """One that all tests use which leave it as it is: to start workers takes longer than most tests."""
    with shmkit.Executor(2, multiprocessing.get_context(request.param)) as made:
        made.submit(children.pid).result(WATCHDOG)
        yield made


@pytest.fixture
def forked() -> Iterator[shmkit.Executor]:
    with shmkit.Executor(2, multiprocessing.get_context("fork")) as made:
        yield made


@pytest.fixture(autouse=True)
def _books_balance(request: pytest.FixtureRequest) -> Iterator[None]:
    """As in every test, but where an executor outlives it."""
    if "executor" in request.fixturenames:
        yield
    else:
        request.getfixturevalue("_books")
        yield


@pytest.fixture(name="_books")
def _books(request: pytest.FixtureRequest) -> Iterator[None]:
    from support.accounting import Books, settle

    before = Books.now()
    yield
    request.node.funcargs.clear()
    assert not settle(before, memory_too=False)


# ------------------------------------------------------------------------------------------------------ submit, map


def test_results_and_exceptions(executor: shmkit.Executor) -> None:
    """Of any arguments; what is raised has the worker's traceback with it."""
    assert executor.submit(children.add, 1).result(WATCHDOG) == 1
    assert executor.submit(children.add, 1, 2, third=3).result(WATCHDOG) == 6
    assert executor.submit(pow, 2, 5).result(WATCHDOG) == 32
    assert executor.submit("abc".upper).result(WATCHDOG) == "ABC"
    assert executor.submit(partial(children.add, 1), second=4).result(WATCHDOG) == 5
    assert executor.submit(dict, a=1).result(WATCHDOG) == {"a": 1}
    future = executor.submit(children.fail, "why")
    with pytest.raises(ValueError, match="why") as caught:
        future.result(WATCHDOG)
    assert "raise ValueError(value)" in str(caught.value.__cause__)
    assert isinstance(future.exception(), ValueError)
    assert executor.submit(children.double, 4).exception(WATCHDOG) is None


def test_the_callables_words_do_not_clash(executor: shmkit.Executor) -> None:
    """`submit`'s own arguments are by position only."""
    assert executor.submit(dict, fn=1, self=2).result(WATCHDOG) == {"fn": 1, "self": 2}


def test_arrays(executor: shmkit.Executor) -> None:
    """There and back; a shared one by reference."""
    arrays = [np.full(50_000, number) for number in range(20)]
    for number, got in enumerate(executor.map(children.double, arrays)):
        assert (got == 2 * number).all()
    shared = shmkit.ones(100_000)
    got = executor.submit(children.give, {"a": shared[10:]}).result(WATCHDOG)["a"]
    got[0] = 7
    assert shared[10] == 7


@pytest.mark.parametrize("chunksize", [1, 3, 50, 1000])
def test_map(executor: shmkit.Executor, chunksize: int) -> None:
    """The shortest iterable ends it; in order, whatever the chunks."""
    assert list(executor.map(pow, range(100), range(90, 200), chunksize=chunksize)) == [
        pow(a, b) for a, b in zip(range(100), range(90, 200), strict=False)
    ]
    assert list(executor.map(children.double, [], chunksize=chunksize)) == []


def test_map_raises_what_a_call_raised_and_cancels_the_rest(executor: shmkit.Executor) -> None:
    results = executor.map(children.kill_itself_at, [0, 1, "x"], [9, 9])
    assert list(results) == [0, 1]
    results = executor.map(divmod, [1, 1, 1, 1], [2, 5, 0, 3])
    assert next(results) == (0, 1)
    assert next(results) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_map_with_a_time_out(executor: shmkit.Executor) -> None:
    results = executor.map(time.sleep, [0.0, 0.0, 0.5, 0.0], timeout=0.2)
    with pytest.raises(futures.TimeoutError):
        list(results)


def test_map_with_a_buffer(executor: shmkit.Executor) -> None:
    """The iterable is read as results are."""
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    results = executor.map(children.double, numbers(), buffersize=3)
    assert read == [0, 1, 2]
    assert next(results) == 0
    assert len(read) == 4
    assert list(results) == list(range(2, 200, 2))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"chunksize": 0}, ValueError, "chunksize must be >= 1"),
        ({"buffersize": 0}, ValueError, "buffersize must be None or > 0"),
        ({"buffersize": 1.5}, TypeError, "buffersize must be an integer or None"),
    ],
)
def test_map_refuses(forked: shmkit.Executor, options: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        forked.map(pow, [1], [2], **options)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": -1}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": 100_000}, ValueError, "max_workers must be <= "),
        ({"initializer": 5}, TypeError, "initializer must be a callable"),
        ({"max_tasks_per_child": 1.0}, TypeError, "max_tasks_per_child must be an integer"),
        ({"max_tasks_per_child": 0}, ValueError, "max_tasks_per_child must be >= 1"),
        (
            {"max_tasks_per_child": 1, "mp_context": multiprocessing.get_context("fork")},
            ValueError,
            "incompatible with the 'fork'",
        ),
    ],
)
def test_the_constructor_refuses(options: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        shmkit.Executor(**options)


def test_what_cannot_be_pickled_is_that_futures(executor: shmkit.Executor) -> None:
    """Function, argument or result; the others are not concerned."""
    for future in (
        executor.submit(lambda: 0),
        executor.submit(children.give, lambda: 0),
        executor.submit(children.give, children.Unpicklable()),
        executor.submit(children.make_lambda, 0),
        executor.submit(children.make_unpicklable, 0),
    ):
        with pytest.raises((pickle.PicklingError, AttributeError)) as caught:
            future.result(WATCHDOG)
        assert caught.value.__cause__ is not None
    assert executor.submit(children.double, 4).result(WATCHDOG) == 8


def test_a_function_that_the_worker_does_not_have(executor: shmkit.Executor) -> None:
    """It is found by its name there, as a pickle of it would be."""

    def gone() -> None: ...

    gone.__qualname__ = "gone"
    gone.__module__ = children.__name__
    children.gone = gone  # type: ignore[attr-defined]
    try:
        future = executor.submit(gone)
        with pytest.raises(AttributeError, match="gone"):
            future.result(WATCHDOG)
    finally:
        del children.gone  # type: ignore[attr-defined]


def test_many_at_a_time(forked: shmkit.Executor) -> None:
    """More than can be under way."""
    made = [forked.submit(children.double, number) for number in range(5000)]
    assert [future.result(WATCHDOG) for future in made] == list(range(0, 10_000, 2))


def test_threads_submit(forked: shmkit.Executor) -> None:
    found: list[list[int]] = [[] for _ in range(4)]

    def run(place: int) -> None:
        made = [forked.submit(children.double, number) for number in range(500)]
        found[place] = [future.result(WATCHDOG) for future in made]

    threads = [threading.Thread(target=run, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(0, 1000, 2))] * 4


# --------------------------------------------------------------------------------------------------------- futures


def test_they_are_futures(executor: shmkit.Executor) -> None:
    """wait, as_completed and callbacks, before and after they are done."""
    made = [executor.submit(children.double, number) for number in range(50)]
    assert all(isinstance(future, futures.Future) for future in made)
    called: list[Any] = []
    made[0].add_done_callback(called.append)
    done, pending = futures.wait(made, WATCHDOG)
    assert (len(done), pending) == (50, set())
    made[1].add_done_callback(called.append)
    wait_until(lambda: called == made[:2])
    assert {future.result() for future in futures.as_completed(made)} == set(range(0, 100, 2))
    later = [executor.submit(children.double, number) for number in range(50)]
    assert {future.result() for future in futures.as_completed(later, WATCHDOG)} == set(range(0, 100, 2))
    assert "finished" in repr(made[0])
    with pytest.raises(AttributeError, match="nonsense"):
        made[0].nonsense  # type: ignore[attr-defined]  # noqa: B018
    first, _ = futures.wait([executor.submit(children.fail, 1)], WATCHDOG, futures.FIRST_EXCEPTION)
    assert isinstance(next(iter(first)).exception(), ValueError)


def test_a_callback_that_fails_or_submits(forked: shmkit.Executor) -> None:
    """It is called in the collector's thread, which goes on whatever it does."""
    again: list[Any] = []

    def submit(_: Any) -> None:
        again.append(forked.submit(children.double, 21))
        raise KeyError("logged, and forgotten")

    future = forked.submit(children.double, 1)
    future.add_done_callback(submit)
    wait_until(lambda: again)
    assert again[0].result(WATCHDOG) == 42


def test_running_and_cancelled() -> None:
    """What has begun is running, and cannot be cancelled; what waits can, on the queue or not, and does not run."""
    context = multiprocessing.get_context("fork")
    log = shmkit.AtomicArray(shmkit.zeros(100, "int64"))
    go = context.Event()
    with shmkit.Executor(1, context, children.keep, (go,)) as executor:
        first = executor.submit(_wait_for_kept)
        wait_until(first.running)
        rest = [executor.submit(children.note, log, number) for number in range(100)]
        assert not rest[0].running()
        assert not first.cancel()
        called: list[Any] = []
        rest[0].add_done_callback(called.append)
        cancelled = rest[0:100:2]
        assert all(future.cancel() for future in cancelled)
        assert all(future.cancel() for future in cancelled)
        assert called == [rest[0]]
        assert all(future.cancelled() and future.done() and not future.running() for future in cancelled)
        assert not futures.wait(cancelled, 0).not_done
        with pytest.raises(futures.CancelledError):
            rest[0].result()
        go.set()
        assert [future.result(WATCHDOG) for future in rest[1:100:2]] == list(range(1, 100, 2))
        assert not rest[1].cancel()
        assert not first.running()
    assert list(log) == [0, 1] * 50


def _wait_for_kept() -> None:
    children.kept.wait(WATCHDOG)


def test_in_an_event_loop(executor: shmkit.Executor) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, children.double, n) for n in range(100)))

    assert asyncio.run(main()) == list(range(0, 200, 2))


def test_nothing_is_kept(forked: shmkit.Executor) -> None:
    """Neither arguments nor results, once nobody else has them."""
    argument = np.ones(10)
    kept = weakref.ref(argument)
    future = forked.submit(children.give, argument)
    result = weakref.ref(future.result(WATCHDOG))
    del argument, future
    wait_until(lambda: kept() is None and result() is None)
    for got in forked.map(children.give, [np.ones(10) for _ in range(5)]):
        result = weakref.ref(got)
        del got
        assert result() is None


# --------------------------------------------------------------------------------------------------------- workers


def test_workers_are_initialised(context: Any) -> None:
    with shmkit.Executor(2, context, children.keep, (("a", 5),)) as executor:
        assert executor.submit(children.get_kept).result(WATCHDOG) == ("a", 5)


def test_an_initialiser_that_fails_breaks_it(context: Any) -> None:
    with shmkit.Executor(2, context, children.refuse_to_start) as executor:
        with pytest.raises(BrokenProcessPool, match=r"worker \d+ exited with status 0"):
            executor.submit(children.pid).result(WATCHDOG)
        with pytest.raises(BrokenProcessPool):
            executor.submit(children.pid)
        assert "broken" in repr(executor)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_worker_does_so_many_tasks(method: str) -> None:
    """And another one goes on."""
    with shmkit.Executor(1, multiprocessing.get_context(method), max_tasks_per_child=3) as executor:
        pids = [executor.submit(children.pid).result(WATCHDOG) for _ in range(7)]
        assert [len(set(pids[at : at + 3])) for at in (0, 3)] == [1, 1]
        assert len(set(pids)) == 3
    with shmkit.Executor(2, multiprocessing.get_context(method), max_tasks_per_child=1) as executor:
        made = [executor.submit(children.double, number) for number in range(6)]
    assert [future.result() for future in made] == list(range(0, 12, 2))
    assert shmkit.Executor(max_tasks_per_child=3)._mp_context.get_start_method() == "spawn"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_are_started_as_they_are_needed(method: str) -> None:
    with shmkit.Executor(4, multiprocessing.get_context(method)) as executor:
        assert len(executor._processes) == 0
        for _ in range(5):
            executor.submit(children.pid).result(WATCHDOG)
        assert len(executor._processes) == 1
        for future in [executor.submit(time.sleep, 0.1) for _ in range(3)]:
            future.result(WATCHDOG)
        assert 2 <= len(executor._processes) <= 3


def test_the_standard_contexts_and_ours(context: Any) -> None:
    """A context of the drop-in is one too."""
    from shmkit import multiprocessing as mp

    with shmkit.Executor(1, mp.get_context(context.get_start_method())) as executor:
        assert executor.submit(children.double, 2).result(WATCHDOG) == 4


# ---------------------------------------------------------------------------------------------------------- the end


def test_shut_down(context: Any) -> None:
    """What was submitted is done; more is refused; the workers have ended; again is nothing."""
    executor = shmkit.Executor(2, context)
    made = [executor.submit(children.double, number) for number in range(100)]
    workers = list(executor._processes.values())
    executor.shutdown()
    assert [future.result(0) for future in made] == list(range(0, 200, 2))
    assert [worker.exitcode for worker in workers] == [0] * len(workers)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(children.pid)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.map(children.double, [1])
    assert "shut down" in repr(executor)


def test_shut_down_without_use() -> None:
    shmkit.Executor(2).shutdown()
    with shmkit.Executor(2) as executor:
        pass
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(children.pid)


def test_shut_down_without_waiting(context: Any) -> None:
    executor = shmkit.Executor(2, context)
    made = [executor.submit(time.sleep, 0.05) for _ in range(4)]
    thread, workers = executor._executor_manager_thread, executor._processes
    executor.shutdown(wait=False)
    thread.join(WATCHDOG)
    assert all(future.done() for future in made)
    assert not workers


def test_shut_down_and_cancel(context: Any) -> None:
    """What has begun is done, the rest cancelled."""
    executor = shmkit.Executor(1, context)
    made = [executor.submit(time.sleep, 0.05) for _ in range(50)]
    executor.shutdown(cancel_futures=True)
    cancelled = [future.cancelled() for future in made]
    assert sum(cancelled) > 40
    assert not all(cancelled)
    assert all(future.done() for future in made)


def test_shut_down_after_the_last_was_cancelled(forked: shmkit.Executor) -> None:
    forked.submit(int).result(WATCHDOG)
    forked.submit(int).cancel()
    forked.shutdown()


def test_nobody_has_it_any_more(context: Any) -> None:
    """What was submitted is done all the same, and the workers end."""
    executor = shmkit.Executor(2, context)
    results = executor.map(children.double, range(100))
    thread = executor._executor_manager_thread
    del executor
    gc.collect()
    thread.join(WATCHDOG)
    assert not thread.is_alive()
    assert list(results) == list(range(0, 200, 2))


@pytest.mark.parametrize("words", ["terminate_workers", "kill_workers"])
def test_the_workers_are_ended(words: str) -> None:
    executor = shmkit.Executor(2, multiprocessing.get_context("fork"))
    log = shmkit.AtomicArray(shmkit.zeros(2, "int64"))
    made = [executor.submit(children.tell_and_wait, log, place) for place in range(2)]
    rest = [executor.submit(children.pid) for _ in range(20)]
    wait_until(lambda: all(log))
    getattr(executor, words)()
    for future in made:
        with pytest.raises(BrokenProcessPool):
            future.result(WATCHDOG)
    assert all(future.cancelled() or future.exception(WATCHDOG) for future in rest)
    executor.shutdown()
    wait_until(lambda: not any(map(alive, log)))


@pytest.mark.parametrize("method", METHODS)
def test_the_interpreter_ends_in_any_state(method: str, process: Processes) -> None:
    """What was submitted is done; a new task is refused then; nothing is said on stderr."""
    program = process.python(
        "import atexit, multiprocessing, time, shmkit\n"
        "from unit import executor_children as children\n"
        "@atexit.register\n"
        "def last():\n"
        "    try:\n"
        "        executor.submit(children.pid)\n"
        "    except RuntimeError as error:\n"
        "        print(error, [future.result() for future in made])\n"
        "if __name__ == '__main__':\n"
        f"    executor = shmkit.Executor(2, multiprocessing.get_context({method!r}))\n"
        "    made = [executor.submit(children.double, number) for number in range(5)]\n",
        stderr=-1, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    out, err = program.communicate(timeout=WATCHDOG)
    assert (program.returncode, err) == (0, "")
    assert out.strip() == "cannot schedule new futures after shutdown [0, 2, 4, 6, 8]"


def use_it(executor: Any, told: Any) -> None:
    for words in (lambda: executor.submit(children.pid), lambda: executor.map(children.double, [1])):
        try:
            words()
        except RuntimeError as error:  # noqa: PERF203
            told.put(str(error))
    executor.shutdown()
    with shmkit.Executor(1, multiprocessing.get_context("fork")) as own:
        told.put(own.submit(children.double, 5).result(WATCHDOG))


def test_a_forked_child_has_no_part_in_it(forked: shmkit.Executor, process: Processes) -> None:
    """It refuses there, and goes on here; the child may have its own."""
    forked.submit(children.pid).result(WATCHDOG)
    told = shmkit.Queue()
    child = process(use_it, forked, told)
    for _ in range(2):
        assert "belongs to the process that made it" in told.get(timeout=WATCHDOG)
    assert told.get(timeout=WATCHDOG) == 10
    child.join(WATCHDOG)
    assert child.exitcode == 0
    assert forked.submit(children.double, 1).result(WATCHDOG) == 2
