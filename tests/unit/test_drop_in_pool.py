"""The drop-in's Pool: the standard library's words and answers, over our queues; what CPython's tests leave out."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import multiprocessing.pool as theirs
import pickle
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import shmkit
from shmkit import multiprocessing as mp
from shmkit.multiprocessing import _pool_line
from support import wait_until

from . import executor_children as children

WATCHDOG = 60.0


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def context(request: pytest.FixtureRequest) -> Any:
    return mp.get_context(request.param)


@pytest.fixture
def pool() -> Iterator[Any]:
    with mp.get_context("fork").Pool(2) as made:
        yield made


@pytest.fixture
def installed() -> Iterator[None]:
    shmkit.install(only={"pool"})
    yield
    shmkit.uninstall()


def test_it_is_what_it_replaces(context: Any) -> None:
    with context.Pool(1) as pool:
        assert isinstance(pool, theirs.Pool)
        assert type(pool) is mp.pool.Pool
        assert "pool_size=1" in repr(pool)
        with pytest.raises(NotImplementedError):
            pickle.dumps(pool)
    with pytest.raises(ValueError, match="not running"):
        pool.map(abs, [1])
    assert mp.pool.ThreadPool is theirs.ThreadPool


def test_map_when_all_workers_have_just_ended(pool: Any) -> None:
    """Those that will be there get the tasks, in the same pieces; the standard library's divides by zero."""
    workers, pool._pool = pool._pool, []
    try:
        assert pool.map(abs, range(-9, 0)) == list(range(9, 0, -1))
        assert pool.map(abs, []) == []
        assert list(pool.map(abs, iter(range(3)))) == [0, 1, 2]
    finally:
        pool._pool = workers


def test_everything_that_goes_and_comes(context: Any) -> None:
    """Functions by name, methods, partial ones; arrays; chunks; words."""
    with context.Pool(2) as pool:
        assert pool.apply(children.add, (1, 2), {"third": 3}) == 6
        assert pool.map("{}".format, range(3)) == ["0", "1", "2"]
        assert pool.starmap(pow, [(2, 3), (3, 4)], chunksize=2) == [8, 81]
        assert pool.map(children.double, range(1000)) == list(range(0, 2000, 2))
        assert pool.map(children.double, []) == []
        for number, got in enumerate(pool.imap(children.double, (np.full(20_000, n) for n in range(20)), chunksize=3)):
            assert (got == 2 * number).all()
        shared = shmkit.zeros(10)
        pool.apply(children.give, (shared,))[0] = 5
        assert shared[0] == 5
        assert sorted(pool.imap_unordered(children.double, range(50))) == list(range(0, 100, 2))


def test_what_fails_is_that_tasks(pool: Any) -> None:
    with pytest.raises(ValueError, match="why") as caught:
        pool.apply(children.fail, ("why",))
    assert "raise ValueError(value)" in str(caught.value.__cause__)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pool.apply(children.give, (children.Unpicklable(),))
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pool.apply(lambda: 0)
    with pytest.raises(theirs.MaybeEncodingError):
        pool.apply(children.make_lambda, (0,))
    assert pool.apply(children.double, (4,)) == 8


def test_a_callback_that_fails(pool: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """It is told, and stops nobody; the standard library's thread that gives results ends with it."""

    def fail(_: object) -> None:
        raise KeyError("in a callback")

    assert pool.apply_async(children.double, (1,), callback=fail).get(WATCHDOG) == 2
    assert pool.map_async(children.double, range(4), 1, callback=fail).get(WATCHDOG) == [0, 2, 4, 6]
    with pytest.raises(ValueError, match="why"):
        pool.apply_async(children.fail, ("why",), error_callback=fail).get(WATCHDOG)
    assert pool.apply(children.double, (1,)) == 2
    assert capfd.readouterr().err.count("KeyError: 'in a callback'") == 3


def test_an_iterable_that_fails(pool: Any) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise KeyError("no more")

    found = pool.imap(children.double, numbers())
    assert next(found) == 2
    with pytest.raises(KeyError, match="no more"):
        next(found)


def test_an_endless_iterable_is_read_as_workers_come_to_it(pool: Any) -> None:
    """The standard library's reads as much as its pipe takes."""
    read = itertools.count()
    found = pool.imap(children.double, read)
    assert [next(found) for _ in range(50)] == list(range(0, 100, 2))
    assert next(read) < 100_000


def test_a_worker_does_so_many_tasks(context: Any) -> None:
    with context.Pool(1, maxtasksperchild=2) as pool:
        pids = [pool.apply(children.pid) for _ in range(6)]
        assert len(set(pids)) == 3


def test_threads_use_it(pool: Any) -> None:
    found: list[Any] = [None] * 4

    def run(place: int) -> None:
        found[place] = pool.map(children.double, range(500), chunksize=1)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(0, 1000, 2))] * 4


def test_the_end(context: Any) -> None:
    """Closed, what was asked for is done; terminated, it is not; dropped, it ends too."""
    pool = context.Pool(2)
    result = pool.map_async(children.double, range(1000), chunksize=1)
    pool.close()
    pool.join()
    assert result.get(0) == list(range(0, 2000, 2))
    with pytest.raises(ValueError, match="not running"):
        pool.apply(abs, (1,))
    pool = context.Pool(2)
    workers = list(pool._pool)
    pool.terminate()
    pool.join()
    assert not any(worker.is_alive() for worker in workers)


@pytest.mark.filterwarnings("ignore:unclosed running multiprocessing pool:ResourceWarning")
def test_nobody_has_it_any_more() -> None:
    pool = mp.get_context("fork").Pool(2)
    workers, kept = list(pool._pool), weakref.ref(pool)
    del pool
    gc.collect()
    assert kept() is None
    wait_until(lambda: not any(worker.is_alive() for worker in workers))


class Derived(theirs.Pool):
    """Derived before install()."""

    def more(self) -> Any:
        return self.map(children.double, [1, 2])


class WithItsOwnQueues(theirs.Pool):
    def _setup_queues(self) -> None:
        super()._setup_queues()  # type: ignore[misc]


@pytest.mark.usefixtures("installed")
def test_under_install() -> None:
    """Who derived from it too; but for pools with queues of their own, of threads above all."""
    fork = multiprocessing.get_context("fork")
    with multiprocessing.Pool(1) as pool:
        assert isinstance(pool, mp.pool.Pool)
    with Derived(1, context=fork) as derived:
        assert isinstance(derived, mp.pool.Pool)
        assert derived.more() == [2, 4]
    with WithItsOwnQueues(1, context=fork) as own:
        assert not isinstance(own, mp.pool.Pool)
        assert own.map(children.double, [1]) == [2]
    with theirs.ThreadPool(1) as threads:
        assert type(threads) is theirs.ThreadPool
        assert threads.map(children.double, [1]) == [2]


class Refusing(_pool_line.Line):
    """Its queue takes no task; `claimed`: though a worker has come to have each, as one that was put again."""

    claimed = False

    def call(self, ticket: int, task: Any) -> None:
        self.last = ticket
        if self.claimed:
            assert self.claims.claim(ticket, 1)
        raise pickle.PicklingError("no")


@pytest.mark.parametrize("claimed", [False, True])
def test_a_task_that_could_not_be_sent_runs_once_or_never(claimed: bool) -> None:
    """What says that it was not sent keeps a copy of it that may stand in the queue from being run."""
    line = Refusing(mp.SimpleQueue()._queue, mp.SimpleQueue()._queue, 2)
    line.claimed = claimed
    task = (0, 0, abs, (1,), {})
    if claimed:
        assert line.put(task, lambda: True)
        assert line.tasks == {line.last: task}
        assert line.claims.used == 1
        return
    with pytest.raises(pickle.PicklingError):
        line.put(task, lambda: True)
    assert not line.tasks
    assert line.claims.used == 0
    assert not line.claims.claim(line.last, 1)
