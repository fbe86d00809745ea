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


def set_event(event: Any) -> None:
    event.set()


def hangs(child: Any) -> bool:
    child.join(A_WHILE)
    return child.exitcode is None


def test_an_event_whose_setter_was_killed(face: str, context: Any, process: Processes) -> None:
    """Whatever the setter was just doing; the standard library's has its lock taken then, and is never set again."""
    if face == "stdlib":
        event = context.Event()
        killed_in(process, context, holder, event._cond)  # as in the midst of set()
        assert hangs(process(set_event, event, context=context))
        return
    for _ in range(5):
        event = context.Event()
        killed_in(process, context, setter, event)
        event.set()
        assert event.is_set()
        assert event.wait(60)


def comer(barrier: Any, ready: Any) -> None:
    ready.set()
    barrier.wait()


STANDARD_BARRIER = """
import multiprocessing, sys, time
def come(barrier):
    barrier.wait()
context = multiprocessing.get_context("fork")
barrier = context.Barrier(2)
child = context.Process(target=come, args=(barrier,))
child.start()
while barrier.n_waiting == 0 or barrier._cond._sleeping_count.get_value() == 0: time.sleep(0.001)
child.kill()
child.join()
other = context.Process(target=come, args=(barrier,))
other.start()
other.join(float(sys.argv[1]))
print(other.exitcode)
other.kill()
"""


def test_the_standard_librarys_barrier_at_which_one_was_killed(process: Processes) -> None:
    """It counts the dead one as one who came, and the last to come waits for ever for it to wake."""
    # A program of its own: what its barriers stand in stays for as long as their process lives.
    program = process.python(STANDARD_BARRIER, str(A_WHILE))
    assert program.stdout is not None
    assert program.stdout.read().strip() == "None"


def test_a_barrier_at_which_one_was_killed(face: str, context: Any, process: Processes) -> None:
    if face == "stdlib":
        pytest.skip("its hang is shown by a program of its own")
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
