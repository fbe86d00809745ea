"""A process is killed while it has a lock, a condition or a barrier: the standard library's others wait for
ever, ours go on.

That the standard library hangs is shown too, under a watchdog: as soon as it no longer does, these tests have lost
their point.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from multiprocessing.context import BaseContext
from typing import Any

import pytest

import shmkit
import shmkit.multiprocessing
from support import Processes, wait_until

# How long the standard library's is waited for: it waits for ever, ours for milliseconds.
A_WHILE = 1.0


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def context(request: pytest.FixtureRequest, face: str) -> BaseContext:
    package = shmkit.multiprocessing if face == "drop-in" else multiprocessing
    return package.get_context(request.param)


def holder(lock: Any, held: Any) -> None:
    lock.acquire()
    held.set()
    wait_until(lambda: False, 600)


def killed_in(process: Processes, context: Any, target: Callable[..., None], *tools: Any) -> None:
    ready = context.Event()
    child = process(target, *tools, ready, context=context)
    assert ready.wait(60)
    child.kill()
    child.join()


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_lock_whose_holder_was_killed(kind: str, face: str, context: Any, process: Processes) -> None:
    lock = getattr(context, kind)()
    killed_in(process, context, holder, lock)
    assert lock.acquire(timeout=A_WHILE if face == "stdlib" else 60) is (face != "stdlib")
    if face != "stdlib":
        lock.release()
        with lock:
            pass


def test_a_condition_whose_holder_was_killed(face: str, context: Any, process: Processes) -> None:
    condition = context.Condition()
    killed_in(process, context, holder, condition)
    assert condition.acquire(timeout=A_WHILE if face == "stdlib" else 60) is (face != "stdlib")
    if face != "stdlib":
        assert condition.wait(0.001) is False
        condition.notify_all()
        condition.release()


def waiter(condition: Any, ready: Any) -> None:
    with condition:
        ready.set()
        condition.wait()


def test_a_waiter_that_was_killed_uses_up_no_notification(face: str, context: Any, process: Processes) -> None:
    """The standard library's notify() waits for ever for who was killed to say that it woke."""
    condition = context.Condition()
    ready = context.Event()
    child = process(waiter, condition, ready, context=context)
    assert ready.wait(60)
    with condition:  # so it waits by now
        pass
    child.kill()
    child.join()

    def notify() -> None:
        with condition:
            condition.notify()

    if face == "stdlib":
        notifier = process(notify) if context.get_start_method() == "fork" else None
        if notifier is not None:
            notifier.join(A_WHILE)
            assert notifier.exitcode is None
        return
    woken = threading.Event()

    def wait() -> None:
        with condition:
            if condition.wait(60):
                woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: condition._sleeping_count.get_value() > 0)

    def notified() -> bool:
        """the one that lives is woken"""
        notify()
        return woken.is_set()

    wait_until(notified)
    thread.join()


def setter(event: Any, ready: Any) -> None:
    ready.set()
    while True:
        event.set()
        event.clear()


def test_an_event_whose_setter_was_killed(face: str, context: Any, process: Processes) -> None:
    """Whatever the setter was just doing; the standard library's may have its lock taken then."""
    if face == "stdlib":
        pytest.skip("it hangs now and then, and that cannot be shown at once")
    for _ in range(5):
        event = context.Event()
        killed_in(process, context, setter, event)
        event.set()
        assert event.is_set()
        assert event.wait(60)


def comer(barrier: Any, ready: Any) -> None:
    ready.set()
    barrier.wait()


def test_a_barrier_at_which_one_was_killed(face: str, context: Any, process: Processes) -> None:
    if face == "stdlib":
        pytest.skip("it counts the dead one as having come, which may be right or wrong")
    barrier = context.Barrier(3)
    ready = context.Event()
    child = process(comer, barrier, ready, context=context)
    assert ready.wait(60)
    wait_until(lambda: barrier.n_waiting == 1)
    child.kill()
    child.join()
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(60)
    assert barrier.broken
