"""What happens to processes that use queues: signals, stops, Ctrl-C, forks at bad times, ends without a word."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest

import shmkit
from support import Processes, wait_until
from support.forking import fork

WATCHDOG = 60.0


def reap(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# ── signals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("most", [0, 2])
def test_a_storm_of_signals_at_both_ends(process: Processes, most: int) -> None:
    """Every wait is interrupted again and again; each item comes once and whole, and no wait ends early."""
    queue: Any = shmkit.Queue(most)
    count = 1500

    def storm() -> None:
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)

    def produce() -> None:
        storm()
        for number in range(count):
            queue.put((number, b"x" * (number % 7 * 300)), timeout=WATCHDOG)
            if number % 50 == 0:
                time.sleep(0.002)
        signal.setitimer(signal.ITIMER_REAL, 0)

    def consume() -> None:
        storm()
        for number in range(count):
            assert queue.get(timeout=WATCHDOG) == (number, b"x" * (number % 7 * 300))
        begun = time.monotonic()
        with pytest.raises(shmkit.Empty):
            queue.get(timeout=0.05)
        assert time.monotonic() - begun >= 0.05
        signal.setitimer(signal.ITIMER_REAL, 0)

    children = [process(produce), process(consume)]
    for child in children:
        child.join(WATCHDOG)
        assert child.exitcode == 0


@pytest.mark.parametrize("what", ["put", "put an array", "get", "get_many", "join"])
def test_ctrl_c_ends_a_wait(process: Processes, what: str) -> None:
    """KeyboardInterrupt, at once, and nothing was put, got or lost by it."""
    queue: Any = shmkit.JoinableQueue(1)
    waits: Any = shmkit.Semaphore(0)
    if what not in ("get", "get_many"):
        queue.put("first")

    def wait() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        call = {
            "put": lambda: queue.put("second"),
            "put an array": lambda: queue.put(np.ones(1000)),
            "get": queue.get,
            "get_many": queue.get_many,
            "join": queue.join,
        }[what]
        waits.release()
        with pytest.raises(KeyboardInterrupt):
            call()

    child: Any = process(wait)
    assert waits.acquire(timeout=WATCHDOG)
    wait_until(lambda: "S" in state_of(child.pid) or child.exitcode is not None)
    os.kill(child.pid, signal.SIGINT)
    child.join(WATCHDOG)
    assert child.exitcode == 0
    if what not in ("get", "get_many"):
        assert queue.get(timeout=0) == "first"
        with pytest.raises(shmkit.Empty):
            queue.get(timeout=0)
        queue.task_done()
    queue.put("third", timeout=0)
    assert queue.get(timeout=0) == "third"
    queue.heap.collect()
    assert queue.statistics()["heap"]["blocks_queued"] == 0


def state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("when", ["asleep", "busy"])
def test_a_consumer_that_is_stopped_holds_nobody_up(process: Processes, when: str) -> None:
    """The others get all that comes; the stopped one is not taken for dead, and goes on where it was."""
    queue: Any = shmkit.Queue()
    answers: Any = shmkit.Queue()

    def consume(me: int) -> None:
        while (number := queue.get()) is not None:
            answers.put((me, number))

    children: list[Any] = [process(consume, me) for me in range(2)]
    if when == "busy":
        queue.put_many(range(3000))
    wait_until(lambda: state_of(children[0].pid) == "S" or when == "busy")
    os.kill(children[0].pid, signal.SIGSTOP)
    wait_until(lambda: state_of(children[0].pid) == "T")
    try:
        queue.put_many(range(3000, 4000))
        others = [answers.get(timeout=WATCHDOG) for _ in range(1000)]
        queue.heap.collect()
        queue.heap.trim()
        assert queue.statistics()["heap"]["deaths"] == 0
    finally:
        os.kill(children[0].pid, signal.SIGCONT)
    total = 4000 if when == "busy" else 1000
    numbers = sorted([number for _, number in others] + [answers.get(timeout=WATCHDOG)[1] for _ in range(total - 1000)])
    assert numbers == list(range(4000 - total, 4000))
    queue.put_many([None, None])
    for child in children:
        child.join(WATCHDOG)
        assert child.exitcode == 0


# ── forks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_fork_with_items_buffered_doubles_nothing() -> None:
    """Parent and children get from the same items: each once."""
    queue: Any = shmkit.Queue()
    taken: Any = shmkit.Queue()
    queue.put_many([(number, np.full(200, float(number))) for number in range(600)])

    def take() -> None:
        while True:
            try:
                number, array = queue.get(timeout=0)
            except shmkit.Empty:
                return
            assert (array == number).all()
            taken.put(number)

    children = [fork(take) for _ in range(3)]
    take()
    assert [reap(pid) for pid in children] == [0, 0, 0]
    assert sorted(taken.get_many(1000, timeout=0)) == list(range(600))
    queue.heap.collect()
    assert queue.statistics()["heap"]["blocks_queued"] == 0


def test_forks_while_threads_put_and_get() -> None:
    """A child has its own name from the first call on, whatever the parent's threads were in the middle of."""
    queue: Any = shmkit.Queue(50)
    over = threading.Event()
    troubles: list[BaseException] = []

    def busy() -> None:
        try:
            while not over.is_set():
                queue.put(np.ones(300), timeout=WATCHDOG)
                assert queue.get(timeout=WATCHDOG).sum() == 300
        except BaseException as error:
            troubles.append(error)

    def work() -> None:
        for _ in range(20):
            queue.put(np.ones(300), timeout=WATCHDOG)
            assert queue.get(timeout=WATCHDOG).sum() == 300

    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(25):
            children = [fork(work) for _ in range(2)]
            assert [reap(pid) for pid in children] == [0, 0]
    finally:
        over.set()
        for thread in threads:
            thread.join(WATCHDOG)
    assert not troubles
    assert queue.empty()
    queue.heap.collect()
    assert queue.statistics()["heap"]["blocks_queued"] == 0
    assert queue.statistics()["heap"]["members"] == 1


@pytest.mark.parametrize("how", ["return", "os._exit", "sys.exit", "exception", "SIGTERM"])
def test_an_exit_without_close(process: Processes, how: str) -> None:
    """What was put is there, what was got and kept is free, and nobody waits for anybody."""
    queue: Any = shmkit.Queue()
    queue.put_many([np.full(400, 1.0)] * 5)

    def work() -> None:
        kept = queue.get_many(5)
        for number in range(10):
            queue.put(np.full(400, float(number)))
        if how == "os._exit":
            os._exit(0)
        if how == "sys.exit":
            raise SystemExit(0)
        if how == "exception":
            raise KeyError("as it is meant to")
        if how == "SIGTERM":
            signal.raise_signal(signal.SIGTERM)
        del kept

    child = process(work)
    child.join(WATCHDOG)
    assert child.exitcode == {"exception": 1, "SIGTERM": -signal.SIGTERM}.get(how, 0)
    queue.heap.collect()
    assert queue.statistics()["heap"]["blocks_held"] == 1 + queue.rings
    got = queue.get_many(20)
    assert [array[0] for array in got] == list(range(10))


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_heap_that_is_full_loses_nothing(process: Processes, name: str) -> None:
    """Producers wait for those who let go, and each item comes once; who may not wait is told."""
    queue: Any = shmkit.Queue.create(name, capacity="2 MiB")
    answers: Any = shmkit.Queue()
    count = 60

    def produce(me: int) -> None:
        for number in range(count):
            queue.put(np.full(20_000, me * 1000 + number, np.float64), timeout=WATCHDOG)  # 160 kB

    def consume() -> None:
        kept = []
        for _ in range(2 * count):
            kept.append(queue.get(timeout=WATCHDOG))
            if len(kept) == 4:
                answers.put([array[0] for array in kept])
                for array in kept:
                    assert (array == array[0]).all()
                kept.clear()

    children = [process(produce, 0), process(produce, 1)]
    wait_until(lambda: queue.qsize() >= 10)
    with pytest.raises(shmkit.HeapFull, match="limit"):
        queue.put(np.ones(200_000), timeout=0)  # 1.6 MB
    children.append(process(consume))
    for child in children:
        child.join(WATCHDOG)
        assert child.exitcode == 0
    numbers = [int(number) for _ in range(2 * count // 4) for number in answers.get(timeout=WATCHDOG)]
    assert sorted(numbers) == sorted(me * 1000 + number for me in (0, 1) for number in range(count))
    queue.heap.collect()
    assert queue.empty()
    assert queue.statistics()["heap"]["blocks_queued"] == 0
    queue.unlink()


def test_a_receiver_that_keeps_100_000_small_arrays() -> None:
    """Each is its own memory to the end; then all of it is free."""
    queue: Any = shmkit.Queue()
    kept = []
    for begin in range(0, 100_000, 1000):
        queue.put_many([np.full(128, float(number)) for number in range(begin, begin + 1000)])
        kept += queue.get_many(1000, timeout=0)
    assert len(kept) == 100_000
    assert all(array[0] == array[-1] == number for number, array in enumerate(kept))
    assert queue.statistics()["heap"]["blocks_held"] == 100_000 + 1 + queue.rings
    kept.clear()
    queue.heap.trim()
    assert queue.statistics()["heap"]["blocks_held"] == 1 + queue.rings


def test_a_receiver_that_keeps_none_uses_the_same_blocks_again() -> None:
    """100,000 arrays through a queue of depth 8 never hold more than 16 blocks."""
    queue: Any = shmkit.Queue(8)
    item = np.ones(200)
    for _ in range(100_000 // 8):
        for _ in range(8):
            queue.put(item)
        assert len(queue.get_many(8)) == 8
    said = queue.statistics()["heap"]
    assert said["blocks_held"] == 1 + queue.rings
    assert said["blocks_free"] < 300, "of a few slabs"


# ── pickles ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class RaisesInPut:
    def __reduce__(self) -> Any:
        raise KeyError("not to be put")


class RaisesInGet:
    def __reduce__(self) -> Any:
        return (_raise, ("not to be got",))


class PutsAgain:
    """Uses the very queue while it is pickled."""

    queue: Any = None

    def __reduce__(self) -> Any:
        self.queue.put("from within", timeout=0)
        return (str, ("after it",))


def _raise(why: str) -> None:
    raise LookupError(why)


def test_pickles_that_raise(name: str) -> None:
    """In put: nothing was put; in get: that item is gone, with its memory, and the next one comes."""
    queue: Any = shmkit.Queue.create(name)
    with pytest.raises(KeyError, match="not to be put"):
        queue.put([np.ones(1000), RaisesInPut()])
    assert queue.empty()
    queue.put_many([(np.ones(1000), RaisesInGet()), "next"])
    with pytest.raises(LookupError, match="not to be got"):
        queue.get(timeout=0)
    assert queue.get(timeout=0) == "next"
    queue.heap.collect()
    assert queue.statistics()["heap"]["blocks_held"] == 1 + queue.rings
    queue.unlink()


def test_pickles_that_recurse() -> None:
    """Too deep for the stack is RecursionError, in put; one that puts while it is pickled puts before itself."""
    queue: Any = shmkit.Queue()
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        queue.put(deep)
    assert queue.empty()
    PutsAgain.queue = queue
    queue.put(PutsAgain())
    PutsAgain.queue = None
    assert [queue.get(timeout=0), queue.get(timeout=0)] == ["from within", "after it"]
    while deep:  # taken apart by hand: the interpreter would recurse
        deep = deep[0]
