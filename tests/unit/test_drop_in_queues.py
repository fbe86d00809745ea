"""Queues of the drop-in: the standard library's words, attributes and errors, over shmkit's queues."""

from __future__ import annotations

import multiprocessing
import pickle
import queue as stdlib_queue
import select
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import queues as theirs
from multiprocessing.connection import wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest

import shmkit
from shmkit import multiprocessing as mp
from support import Processes, alive, wait_until
from support.log import Log

WATCHDOG = 30.0


@pytest.fixture(params=["Queue", "JoinableQueue"])
def queue(request: pytest.FixtureRequest) -> Any:
    return getattr(mp, request.param)()


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def context(request: pytest.FixtureRequest) -> Any:
    return mp.get_context(request.param)


def echo(queue: Any, back: Any) -> None:
    while (item := queue.get()) is not None:
        back.put(item)


def test_arrays_go_and_come(context: Any, process: Processes) -> None:
    """As the receiver's own, through a bounded queue; objects around them too."""
    queue, back = context.Queue(3), context.Queue()
    child = process(echo, queue, back, context=context)
    sent = np.arange(100_000.0)
    for number in range(20):
        queue.put({"number": number, "array": sent})
    for number in range(20):
        got = back.get(timeout=WATCHDOG)
        assert got["number"] == number
        assert (got["array"] == sent).all()
        got["array"][:] = 0
    queue.put(None)
    child.join(WATCHDOG)
    assert child.exitcode == 0


def work(queue: Any) -> None:
    for _ in range(10):
        queue.get()
        queue.task_done()


def test_tasks_are_joined(context: Any, process: Processes) -> None:
    """Until the last was declared done."""
    queue = context.JoinableQueue()
    for number in range(20):
        queue.put(number)
    children = [process(work, queue, context=context) for _ in range(2)]
    queue.join()
    assert queue.empty()
    for child in children:
        child.join(WATCHDOG)
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()


def test_it_is_what_it_replaces(queue: Any) -> None:
    """For isinstance; and a limit that is none reads as the standard library's."""
    assert isinstance(queue, theirs.Queue)
    assert queue._maxsize == multiprocessing.Queue()._maxsize  # type: ignore[attr-defined]
    assert mp.Queue(5)._maxsize == 5  # type: ignore[attr-defined]


def test_full_and_empty(queue: Any) -> None:
    """With the exceptions of the standard library, time-outs of all kinds, and none."""
    bounded = type(queue)(2, ctx=mp.get_context())
    assert bounded.empty()
    for answer in (bounded.get_nowait, lambda: bounded.get(False), lambda: bounded.get(True, 0.01)):
        with pytest.raises(stdlib_queue.Empty):
            answer()
    with pytest.raises(stdlib_queue.Empty):
        bounded.get(timeout=-1)
    bounded.put(1)
    assert not bounded.full()
    bounded.put_nowait(2)
    assert bounded.full()
    assert bounded.qsize() == 2
    for refuse in (lambda: bounded.put_nowait(3), lambda: bounded.put(3, False), lambda: bounded.put(3, True, 0.01)):
        with pytest.raises(stdlib_queue.Full):
            refuse()
    with pytest.raises(TypeError):
        bounded.put(3, True, "soon")
    assert [bounded.get(), bounded.get()] == [1, 2]


def test_methods_that_were_kept_know_that_it_was_closed(queue: Any) -> None:
    """They go to shmkit's queue without a step of the face's, from the start; what they say is the face's."""
    put, get = queue.put, queue.get
    put(1)
    assert get(timeout=WATCHDOG) == 1
    put(2)
    queue.close()
    for method, arguments in ((put, (3,)), (get, ())):
        with pytest.raises(ValueError, match=r"Queue .* is closed"):
            method(*arguments)
    assert queue._reader.closed  # as something was put


def test_a_closed_one(queue: Any) -> None:
    """ValueError from put and get; empty() tells as long as nothing was put, and raises OSError then."""
    with pytest.raises(AssertionError):
        queue.join_thread()
    queue.cancel_join_thread()
    queue.close()
    queue.join_thread()
    assert queue.empty()
    with pytest.raises(ValueError, match="is closed"):
        queue.put(1)
    with pytest.raises(ValueError, match="is closed"):
        queue.get()
    used = type(queue)(ctx=mp.get_context())
    used.put(1)
    used.close()
    used.close()
    with pytest.raises(OSError, match="is closed"):
        used.empty()


class Unpicklable:
    def __reduce__(self) -> Any:
        raise AttributeError("not this one")


def test_what_cannot_be_pickled_is_reported(queue: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """To `_on_queue_feeder_error`, as there; the queue goes on, and nothing is in it."""
    queue.put(Unpicklable())
    queue.put(2)
    assert queue.qsize() == 1
    assert queue.get() == 2
    assert "not this one" in capfd.readouterr().err
    told = []
    queue._on_queue_feeder_error = lambda error, obj: told.append((type(error), type(obj)))
    queue.put(Unpicklable())
    assert told == [(AttributeError, Unpicklable)]


def test_it_is_pickled_for_children_only(queue: Any) -> None:
    """RuntimeError otherwise, as there."""
    with pytest.raises(RuntimeError, match="inheritance"):
        pickle.dumps(queue)


def test_the_ends_of_the_pipe_that_is_none(queue: Any) -> None:
    """What programs do with `_reader` and `_writer`."""
    reader, writer = queue._reader, queue._writer
    assert reader.readable
    assert not reader.writable
    assert writer.writable
    assert not reader.poll()
    assert not reader.poll(0.01)
    assert not wait([reader], 0)
    assert select.select([], [writer], [], 0)[1] == [writer]
    writer.send({"a": 1})
    assert reader.poll(None)
    assert wait([reader], 0) == [reader]
    assert reader.recv() == {"a": 1}
    writer.send_bytes(bytes(ForkingPickler.dumps([1, 2])))
    assert pickle.loads(reader.recv_bytes()) == [1, 2]
    queue.put("x" * 1000)
    with pytest.raises(OSError, match="bad message length"):
        reader.recv_bytes(10)
    with reader:
        pass
    assert reader.closed
    for answer in (reader.fileno, reader.poll, reader.recv):
        with pytest.raises(OSError, match="is closed"):
            answer()
    assert not writer.closed


def test_no_thread_and_no_descriptor_is_needed(queue: Any) -> None:
    """The queue is memory: a handle more or less is nothing that runs."""
    import threading

    before = threading.active_count()
    for number in range(1000):
        queue.put(number)
    assert threading.active_count() == before


# ----------------------------------------------------------------------------------------------- under install()


@pytest.fixture
def installed() -> Iterator[None]:
    shmkit.install(only={"queue"})
    yield
    shmkit.uninstall()


class Derived(theirs.Queue):  # type: ignore[type-arg]
    """Derived before install(): it has its own words."""

    def __init__(self) -> None:
        super().__init__(ctx=multiprocessing.get_context())
        self.mine = 5


@pytest.mark.usefixtures("installed")
def test_the_standard_librarys_own_makes_ours() -> None:
    """By whatever name, and for who derived from it."""
    for made in (multiprocessing.Queue(), multiprocessing.JoinableQueue(4), Derived()):
        assert isinstance(made, mp.queues.Queue)
        made.put(np.ones(5000))
        assert made.get().sum() == 5000
    assert Derived().mine == 5
    shmkit.uninstall()
    assert not isinstance(multiprocessing.Queue(), mp.queues.Queue)


def double(value: Any) -> Any:
    return 2 * value


def die(_: object) -> None:
    import os

    os.kill(os.getpid(), 9)


@pytest.mark.usefixtures("installed")
def test_concurrent_futures_stands_on_it() -> None:
    """Its own subclass of Queue: results, a task that cannot be pickled, a worker that is killed."""
    with ProcessPoolExecutor(2) as executor:
        assert list(executor.map(double, range(50))) == list(range(0, 100, 2))
        assert isinstance(executor._call_queue, mp.queues.Queue)  # type: ignore[attr-defined]
        assert (executor.submit(double, np.ones(1000)).result(WATCHDOG) == 2).all()
        with pytest.raises((AttributeError, pickle.PicklingError)):
            executor.submit(double, lambda: 0).result(WATCHDOG)
        assert executor.submit(double, 4).result(WATCHDOG) == 8
    with ProcessPoolExecutor(2) as executor, pytest.raises(BrokenProcessPool):
        executor.submit(die, 0).result(WATCHDOG)


# ------------------------------------------------------------------------------------------------------ kills


def consume_for_ever(queue: Any, got: Log) -> None:
    while True:
        got[0] = queue.get() + 1


@pytest.fixture(params=["stdlib", "drop-in", "install"])
def face(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "install":
        shmkit.install()
    yield request.param
    shmkit.uninstall()


@pytest.fixture
def package(face: str) -> Any:
    return mp if face == "drop-in" else multiprocessing


def test_a_consumer_that_is_killed_while_it_waits(face: str, package: Any, process: Processes) -> None:
    """The standard library's holds the readers' lock, and nobody ever gets again; here the others go on."""
    queue = package.Queue()
    got = Log()
    child = process(consume_for_ever, queue, got, context="fork")
    queue.put(1)
    wait_until(lambda: got[0] == 2)
    # It waits in the next get, by and by: the standard library's with the lock.
    if face == "stdlib":
        wait_until(lambda: not queue._rlock.acquire(False) or queue._rlock.release())  # type: ignore[func-returns-value]
    child.kill()
    child.join()
    assert not alive(child.pid or 0)
    queue.put(2)
    if face == "stdlib":
        with pytest.raises(stdlib_queue.Empty):
            queue.get(timeout=1.0)
        queue.close()
        queue.join_thread()
    else:
        assert queue.get(timeout=WATCHDOG) == 2


def consume(queue: Any, got: Log) -> None:
    while True:
        queue.get()
        got[0] += 1


def test_producers_of_a_full_queue_go_on(face: str, package: Any, process: Processes) -> None:
    """However many consumers were killed; the standard library's wait for room for ever, for want of a consumer."""
    queue = package.Queue(2)
    waited = 0
    for _ in range(5):
        got = Log()
        child = process(consume, queue, got, context="fork")
        try:
            for number in range(20):
                queue.put(number, timeout=1.0 if face == "stdlib" else WATCHDOG)
        except stdlib_queue.Full:
            waited += 1
        else:
            wait_until(lambda: got[0] >= 18)  # noqa: B023
            if face == "stdlib":
                wait_until(lambda: not queue._rlock.acquire(False) or queue._rlock.release())
        child.kill()
        child.join()
        if waited:
            break
    assert waited == (face == "stdlib")
    queue.cancel_join_thread()
    queue.close()


def _put_and_forget(queue: Any, put: Any) -> None:
    for _ in range(100):
        queue.put(b"x" * 100_000)
    queue.cancel_join_thread()
    put.set()


def test_cancel_join_thread(package: Any, process: Processes) -> None:
    """A process that has put more than anybody reads ends all the same."""
    queue, put = package.Queue(), package.Event()
    child = process(_put_and_forget, queue, put, context="fork")
    assert put.wait(WATCHDOG)
    child.join(WATCHDOG)
    assert child.exitcode == 0
    queue.close()


def test_exit_waits_for_no_reader(process: Processes) -> None:
    """A child that has put a lot, which nobody has got yet, ends at once."""
    queue = mp.Queue()
    child = process(_put_much, queue, context="fork")
    child.join(WATCHDOG)
    assert child.exitcode == 0
    assert sum(len(queue.get()) for _ in range(100)) == 100 * 100_000


def _put_much(queue: Any) -> None:
    for _ in range(100):
        queue.put(b"x" * 100_000)


# ---------------------------------------------------------------------------------- simple queues, and what uses them


def test_a_simple_queue(context: Any, process: Processes) -> None:
    """In, out, empty, closed; between processes."""
    queue, back = context.SimpleQueue(), context.SimpleQueue()
    assert isinstance(queue, theirs.SimpleQueue)
    child = process(echo, queue, back, context=context)
    for number in range(50):
        queue.put((number, np.full(5000, number)))
    for number in range(50):
        got, array = back.get()
        assert got == number
        assert (array == number).all()
    queue.put(None)
    child.join(WATCHDOG)
    assert child.exitcode == 0
    assert back.empty()
    with pytest.raises(AttributeError, match="not this one"):
        back.put(Unpicklable())
    back.close()
    assert back._reader.closed
    assert back._writer.closed
    for answer in (back.get, back.empty, lambda: back.put(1)):
        with pytest.raises(OSError, match="is closed"):
            answer()


def read_on(queue: Any, told: Any) -> None:
    queue._writer.close()
    told.put(queue.get())
    try:
        queue.get()
    except EOFError:
        told.put("the end")


def write_once(queue: Any) -> None:
    queue.put("one")


def test_who_has_closed_its_writing_end_sees_the_others_go(context: Any, process: Processes) -> None:
    """EOFError, once what they have put was got."""
    queue, told = context.SimpleQueue(), context.Queue()
    reader = process(read_on, queue, told, context=context)
    writer = process(write_once, queue, context=context)
    writer.join(WATCHDOG)
    assert told.get(timeout=WATCHDOG) == "one"
    with pytest.raises(stdlib_queue.Empty):
        told.get(timeout=0.5)  # this process could put
    queue._writer.close()
    assert told.get(timeout=WATCHDOG) == "the end"
    reader.join(WATCHDOG)


def test_a_pool(context: Any) -> None:
    """Arrays there and back, many small tasks, errors, work that comes as it is done."""
    with context.Pool(2) as pool:
        assert isinstance(pool._inqueue, mp.queues.SimpleQueue)
        sent = [np.full(20_000, number) for number in range(20)]
        assert all((got == 2 * array).all() for got, array in zip(pool.map(double, sent), sent, strict=True))
        assert pool.map(double, range(2000), chunksize=1) == list(range(0, 4000, 2))
        assert sorted(pool.imap_unordered(double, range(20))) == list(range(0, 40, 2))
        with pytest.raises(TypeError):
            pool.apply(double)
        with pytest.raises((AttributeError, pickle.PicklingError)):
            pool.apply(double, (lambda: 0,))
        assert pool.apply(double, ("a",)) == "aa"
        pool.close()
        pool.join()


def test_the_workers_of_a_pool_whose_parent_was_killed_end(process: Processes) -> None:
    """They find that nobody can give them work."""
    program = process.python(
        "from shmkit import multiprocessing as mp\n"
        "pool = mp.get_context('fork').Pool(2)\n"
        "print(*[worker.pid for worker in pool._pool], flush=True)\n"
        "pool.map(abs, range(10))\n"
        "input()",
        stdin=-1, stdout=-1,
    )  # fmt: skip
    assert program.stdout is not None
    workers = [int(word) for word in program.stdout.readline().split()]
    assert len(workers) == 2
    program.kill()
    program.wait()
    wait_until(lambda: not any(map(alive, workers)))
