"""Condition: waiting under a lock.  What multiprocessing's has, too, is asked of both."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import pytest

import shmkit
from support import Processes, wait_until
from unit.lock_children import hold_to_the_end, stand_in_line

fork = multiprocessing.get_context("fork")
PLACES = 64

KINDS: dict[str, Callable[[], Any]] = {
    "shmkit": shmkit.Condition,
    "shmkit, Lock": lambda: shmkit.Condition(shmkit.Lock()),
    "shmkit, RLock": lambda: shmkit.Condition(shmkit.RLock()),
    "multiprocessing": fork.Condition,
    "multiprocessing, Lock": lambda: fork.Condition(fork.Lock()),
}


@pytest.fixture(params=KINDS)
def condition(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]()


@pytest.fixture(params=[kind for kind in KINDS if kind.startswith("shmkit")])
def ours(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]()


def in_a_thread(call: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result(timeout=30)


def wait_in(condition: Any, timeout: float | None = 60) -> bool:
    with condition:
        got: bool = condition.wait(timeout)
        return got


@contextmanager
def in_line(condition: shmkit.Condition, count: int) -> Iterator[list[Future[bool]]]:
    """Threads that wait, in the order of the list."""
    with ThreadPoolExecutor(count) as pool:
        waiting = []
        for number in range(count):
            waiting.append(pool.submit(wait_in, condition))
            if number < PLACES:
                wait_until(lambda number=number: condition.waiting == number + 1)  # type: ignore[misc]
        yield waiting


def done(waiting: list[Future[bool]]) -> list[int]:
    return [number for number, one in enumerate(waiting) if one.done()]


# ── what multiprocessing's has, too ─────────────────────────────────────────────────────────────────────────────────


def test_its_lock_is_acquired_and_released_through_it(condition: Any) -> None:
    """acquire, release and with are the lock's."""
    assert condition.acquire() is True
    assert in_a_thread(lambda: condition.acquire(False)) is False
    assert in_a_thread(lambda: condition.acquire(True, 0.01)) is False
    condition.release()
    with condition as got:
        assert got is True
        assert in_a_thread(lambda: condition.acquire(block=False, timeout=None)) is False


def test_without_the_lock_it_refuses(condition: Any) -> None:
    """AssertionError: NotOwner is one."""
    for call in (condition.wait, lambda: condition.wait(0), condition.notify, condition.notify_all):
        with pytest.raises(AssertionError):
            call()
        if "RLock" not in repr(condition):
            continue
        with condition, pytest.raises(AssertionError):
            in_a_thread(call)


@pytest.mark.parametrize("timeout", [0, 0.0, -1, 1e-6, 0.01, False, np.float64(0.01), np.int32(0)])
def test_a_wait_ends_in_time(condition: Any, timeout: Any) -> None:
    """False, and the lock is held again."""
    with condition:
        assert condition.wait(timeout) is False
        assert condition.wait(timeout=timeout) is False
        assert in_a_thread(lambda: condition.acquire(False)) is False


@pytest.mark.parametrize("timeout", ["1", [], 1j])
def test_what_is_no_number_is_no_time_out(condition: Any, timeout: Any) -> None:
    """TypeError, and the lock is held."""
    with condition:
        with pytest.raises(TypeError):
            condition.wait(timeout)
        assert in_a_thread(lambda: condition.acquire(False)) is False


def test_to_notify_where_nobody_waits_does_nothing(condition: Any) -> None:
    """It is not kept for later."""
    with condition:
        assert condition.notify() is None
        assert condition.notify(5) is None
        assert condition.notify_all() is None
        assert condition.wait(0.01) is False


def test_wait_for_returns_what_the_predicate_did(condition: Any) -> None:
    """At once, when it becomes true, or when time is up."""
    with condition:
        assert condition.wait_for(lambda: "yes") == "yes"
        assert condition.wait_for(lambda: "yes", 0) == "yes"
        assert condition.wait_for(lambda: 0, timeout=0.01) == 0
        assert condition.wait_for(list, -1) == []
    facts: list[int] = []

    def tell() -> None:
        for number in range(3):
            with condition:
                facts.append(number)
                condition.notify()

    with ThreadPoolExecutor(1) as pool, condition:
        told = pool.submit(tell)
        assert condition.wait_for(lambda: facts[2:], 60) == [2]
    told.result()


def test_a_recursive_lock_is_given_up_altogether() -> None:
    """And taken again as often."""
    for condition in (shmkit.Condition(), fork.Condition()):
        flag = []

        def tell(condition: Any = condition, flag: list[int] = flag) -> None:
            with condition, condition:
                flag.append(1)
                condition.notify_all()

        with ThreadPoolExecutor(1) as pool, condition, condition, condition:
            pool.submit(tell)
            assert condition.wait_for(lambda flag=flag: flag, 60)  # type: ignore[misc]
            condition.release()
            condition.release()
            assert in_a_thread(lambda condition=condition: condition.acquire(False)) is False  # type: ignore[misc]
            condition.acquire()
            condition.acquire()
        assert in_a_thread(lambda condition=condition: condition.acquire(False)) is True  # type: ignore[misc]


# ── what multiprocessing's has not, or does otherwise ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("n", [0, -1, -(2**70)])
def test_to_notify_none_notifies_none(n: int) -> None:
    """As threading's."""
    condition = shmkit.Condition()
    with in_line(condition, 1) as waiting:
        with condition:
            condition.notify(n)
            assert condition.waiting == 1
            for wrong in ("1", 1.0, None):
                with pytest.raises(TypeError):
                    condition.notify(wrong)  # type: ignore[arg-type]
            condition.notify(2**70)
        assert waiting[0].result(30)


def test_as_many_return_as_were_notified_in_the_order_of_their_coming(ours: shmkit.Condition) -> None:
    """Exactly; the others wait on."""
    with in_line(ours, 10) as waiting:
        for n, expected in [(1, 1), (3, 4), (0, 4), (2, 6)]:
            with ours:
                ours.notify(n)
                assert ours.waiting == 10 - expected
            wait_until(lambda expected=expected: len(done(waiting)) == expected)  # type: ignore[misc]
            assert done(waiting) == list(range(expected))
        with ours:
            assert ours.waiting == 4
            ours.notify_all()
            assert ours.waiting == 0
        assert [one.result(30) for one in waiting] == [True] * 10


def test_fifty_are_handed_over_without_a_loss(ours: shmkit.Condition) -> None:
    """All at once, and one by one."""
    for at_once in (True, False):
        with in_line(ours, 50) as waiting:
            for _ in range(1 if at_once else 50):
                with ours:
                    ours.notify(50 if at_once else 1)
            assert [one.result(60) for one in waiting] == [True] * 50
    assert ours.waiting == 0


def test_more_may_wait_than_have_a_place_in_line() -> None:
    """Those beyond the 64th are all woken by the notification that finds nobody in line."""
    condition = shmkit.Condition()
    with in_line(condition, PLACES + 6) as waiting:
        cell = condition.segment.buf[condition.offset + 128 :]
        wait_until(lambda: int.from_bytes(cell[8:12], "little") & 1)
        with condition:
            condition.notify(PLACES)
        wait_until(lambda: len(done(waiting)) >= PLACES)
        with condition:
            condition.notify()

        # Some may only now begin to wait, on a place.
        def all_returned() -> bool:
            with condition:
                condition.notify()
            return len(done(waiting)) == PLACES + 6

        wait_until(all_returned)
        assert all(one.result() for one in waiting)


def test_who_waits_in_other_processes_is_woken(start_method: BaseContext, process: Processes) -> None:
    """Under each start method."""
    condition = shmkit.Condition()
    here, there = multiprocessing.Pipe()
    with here, there:
        process(stand_in_line, condition, there, context=start_method)
        assert here.recv() == "there"
        with condition:  # free only while it waits
            condition.notify()
        assert here.recv() is True


def test_killed_waiters_use_up_no_notification(process: Processes) -> None:
    """Those that stood in line before us, and died there, are passed over."""
    condition = shmkit.Condition()
    here, there = multiprocessing.Pipe()
    with here, there:
        for _ in range(3):
            child = process(stand_in_line, condition, there)
            assert here.recv() == "there"
            with condition:
                pass
            child.kill()
            child.join()
    assert condition.waiting == 3
    with in_line_after(condition, 3) as waiting:
        with condition:
            condition.notify()
        assert waiting.result(30)
        assert condition.waiting == 0


@contextmanager
def in_line_after(condition: shmkit.Condition, dead: int) -> Iterator[Future[bool]]:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait_in, condition)
        wait_until(lambda: condition.waiting == dead + 1)
        yield waiting


def test_a_notification_whose_receiver_was_killed_goes_to_another(process: Processes) -> None:
    """To one that waits; it is not lost, and not doubled."""
    condition = shmkit.Condition()
    here, there = multiprocessing.Pipe()
    with here, there:
        child = process(stand_in_line, condition, there)
        assert here.recv() == "there"
        with condition:
            pass
        with ThreadPoolExecutor(2) as pool:
            waiting = []
            for number in range(2):
                waiting.append(pool.submit(wait_in, condition))
                wait_until(lambda number=number: condition.waiting == number + 2)  # type: ignore[misc]
            with condition:
                condition.notify()  # it is the child's, which stood there first; but it cannot return
                child.kill()
                child.join()
            wait_until(lambda: len(done(waiting)) == 1)
            assert condition.waiting == 1
            with condition:
                condition.notify()
            assert [one.result(30) for one in waiting] == [True, True]


def many_in_line(condition: shmkit.Condition, count: int) -> None:
    for _ in range(count):
        threading.Thread(target=wait_in, args=(condition, None)).start()


def test_places_of_the_dead_are_used_again(process: Processes) -> None:
    """Also if all who stood in line were notified, and then killed together."""
    condition = shmkit.Condition()
    for notified in (False, True):
        child = process(many_in_line, condition, PLACES)
        wait_until(lambda: condition.waiting == PLACES)
        with condition:
            if notified:
                condition.notify_all()
            child.kill()
            child.join()
        if not notified:
            with condition:
                condition.notify_all()  # nobody is there
            assert condition.waiting == 0
    # The notifications of the dead go to whoever comes next; then it is as ever.
    with condition:
        for _ in range(PLACES):
            assert condition.wait(30) is True
        assert condition.wait(0.05) is False
    with in_line(condition, 3) as waiting:
        with condition:
            condition.notify()
        assert waiting[0].result(30)
        assert done(waiting) == [0]
        with condition:
            condition.notify_all()


def test_the_death_of_its_locks_holder_comes_out_of_wait(process: Processes) -> None:
    """OwnerDied, and the caller holds the lock; what it was notified of goes to the next."""
    condition = shmkit.Condition()

    def wait_told() -> int | None:
        condition.acquire()
        try:
            condition.wait(60)
        except shmkit.OwnerDied as death:
            condition.recover()
            return death.pid
        finally:
            assert condition.lock._is_owned()
            condition.release()
        return None

    def notify_and_end() -> None:
        condition.acquire()
        condition.notify()
        os._exit(0)

    with ThreadPoolExecutor(2) as pool:
        waiting = []
        for number in range(2):
            waiting.append(pool.submit(wait_told))
            wait_until(lambda number=number: condition.waiting == number + 1)  # type: ignore[misc]
        child = process(notify_and_end)
        child.join(30)
        results = [one.result(60) for one in waiting]
    # The first is notified, finds the death, and does not return as notified: the second is.
    assert results.count(child.pid) == 1
    assert results.count(None) == 1


def test_a_lost_lock_ends_all_waits(process: Processes) -> None:
    """NotRecoverable."""
    condition = shmkit.Condition()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(wait_in, condition, 60) for _ in range(2)]
        wait_until(lambda: condition.waiting == 2)
        process(hold_to_the_end, condition).join(30)
        with pytest.raises(shmkit.OwnerDied):
            condition.acquire()
        condition.notify_all()
        condition.release()
        for one in waiting:
            with pytest.raises(shmkit.NotRecoverable):
                one.result(30)


def test_its_lock_is_a_lock_like_any_other() -> None:
    """The caller's, or its own RLock; nothing else will do."""
    lock = shmkit.Lock()
    condition = shmkit.Condition(lock)
    assert condition.lock is lock
    with lock:
        condition.notify()
    own = shmkit.Condition().lock
    assert type(own) is shmkit.RLock
    with own:
        pass
    for wrong in (threading.Lock(), fork.Lock(), shmkit.Semaphore(), 1, "lock"):
        with pytest.raises(TypeError, match=r"goes with a shmkit\.Lock or RLock"):
            shmkit.Condition(wrong)  # type: ignore[arg-type]


def test_its_lock_outlives_it() -> None:
    """The place is not given to the next as long as the lock is there."""
    lock = shmkit.Condition().lock
    others = [shmkit.Condition() for _ in range(3)]
    with lock:
        for other in others:
            assert other.acquire(False)
            other.release()


def test_a_pickle_is_the_same_condition(name: str) -> None:
    """With its lock, be it its own or the caller's."""
    lock = shmkit.Lock()
    named = shmkit.Condition.create(name)
    for condition in (shmkit.Condition(), shmkit.Condition(lock), named):
        copy = pickle.loads(pickle.dumps([condition]))[0]
        assert type(copy.lock) is type(condition.lock)
        with condition:
            assert not in_a_thread(lambda copy=copy: copy.acquire(False))  # type: ignore[misc]
        with in_line(condition, 1) as waiting:
            with copy:
                assert copy.waiting == 1
                copy.notify()
            assert waiting[0].result(30)
    copy_of_lock = pickle.loads(pickle.dumps(named.lock))
    with named:
        assert copy_of_lock.locked()
    named.unlink()


def test_a_closed_or_unmade_condition_refuses_everything() -> None:
    """Closed, or TypeError; the lock of a closed one can be released where `with` ends."""
    closed = shmkit.Condition()
    closed.close()
    for condition, error, text in [
        (closed, shmkit.Closed, "was closed"),
        (shmkit.Condition.__new__(shmkit.Condition), TypeError, "__init__ was not called"),
    ]:
        calls: list[Callable[[], object]] = [
            condition.acquire,
            condition.release,
            condition.recover,
            condition.wait,
            lambda it=condition: it.wait_for(lambda: False),  # type: ignore[misc]
            condition.notify,
            condition.notify_all,
            condition.__enter__,
            lambda it=condition: it.lock,  # type: ignore[misc]
            lambda it=condition: it.waiting,  # type: ignore[misc]
            lambda it=condition: pickle.dumps(it),  # type: ignore[misc]
        ]
        for call in calls:
            with pytest.raises(error, match=text):
                call()
        assert "closed" in repr(condition)
    with pytest.raises(TypeError, match="__init__ was not called"):
        shmkit.Condition.__new__(shmkit.Condition).__exit__(None, None, None)
    condition = shmkit.Condition()
    lock = condition.lock
    with condition:
        condition.close()
    assert not lock.locked()


def test_init_happens_once() -> None:
    """TypeError, and it has the lock that it had."""
    condition = shmkit.Condition()
    lock = condition.lock
    for again in ((), (shmkit.Lock(),)):
        with pytest.raises(TypeError, match="called again"):
            condition.__init__(*again)  # type: ignore[misc]
    assert condition.lock is lock
    with condition:
        condition.notify()


def test_close_ends_a_wait() -> None:
    """Closed; the lock is held then, and with releases it."""
    condition = shmkit.Condition()
    lock = condition.lock
    with in_line(condition, 1) as waiting:
        condition.close()
        with pytest.raises(shmkit.Closed):
            waiting[0].result(30)
    assert not lock.locked()
    mine = shmkit.Lock()
    watch = pickle.loads(pickle.dumps(mine))
    other = shmkit.Condition(mine)
    with in_line(other, 1) as waiting:
        mine.close()
        other.close()
        with pytest.raises(shmkit.Closed):
            waiting[0].result(30)
    assert mine.closed
    assert watch.owner_pid == os.getpid()  # nobody could release it by that handle
    watch.release()


def test_the_repr_names_the_lock_and_counts_who_waits() -> None:
    """As multiprocessing's."""
    condition = shmkit.Condition()
    assert repr(condition).startswith("<Condition(<unlocked shmkit.RLock object at 0x")
    assert repr(condition).endswith(">, 0)>")
    with in_line(condition, 2):
        assert repr(condition).endswith(">, 2)>")
        with condition:
            condition.notify_all()


def test_who_timed_out_and_was_notified_was_notified() -> None:
    """At the same moment: the count is right all the same."""
    condition = shmkit.Condition()
    for number in range(200):
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(wait_in, condition, 0.001 * (number % 3)) for _ in range(2)]
            notified = 0
            with condition:
                before = condition.waiting
                condition.notify()
                notified = before - condition.waiting
            assert sum(one.result(30) for one in waiting) == notified


def test_a_wait_that_is_over_took_its_time() -> None:
    """Never less than was asked for."""
    condition = shmkit.Condition()
    with condition:
        for timeout in (0.002, 0.02, 0.11):
            began = time.monotonic()
            assert not condition.wait(timeout)
            assert time.monotonic() - began >= timeout
