"""Who holds a lock of the drop-in: this thread, another one, or another process, as in the standard library."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from typing import Any

import pytest

import shmkit
import shmkit.multiprocessing as ours
from support import Processes, wait_until


@pytest.fixture(params=["stdlib", "drop-in"])
def package(request: pytest.FixtureRequest) -> Any:
    return multiprocessing if request.param == "stdlib" else ours


def in_thread(call: Callable[[], Any]) -> Any:
    found = []
    thread = threading.Thread(target=lambda: found.append(call()), name="T1")
    thread.start()
    thread.join()
    return found[0]


def seen(lock: Any) -> tuple[str, bool, int]:
    return repr(lock), lock._semlock._is_mine(), lock._semlock._count()


def test_a_locks_holder(package: Any) -> None:
    lock = package.Lock()
    assert seen(lock) == ("<Lock(owner=None)>", False, 0)
    with lock:
        assert seen(lock) == ("<Lock(owner=MainProcess)>", True, 1)
        assert in_thread(lambda: seen(lock)) == ("<Lock(owner=SomeOtherThread)>", False, 1)

    def within() -> Any:
        with lock:
            return seen(lock)

    assert in_thread(within) == ("<Lock(owner=MainProcess|T1)>", True, 1)
    assert in_thread(lambda: lock.acquire(True, 60))
    assert seen(lock) == ("<Lock(owner=SomeOtherThread)>", False, 1)
    lock.release()  # of what another thread has acquired
    assert seen(lock) == ("<Lock(owner=None)>", False, 0)


def test_a_recursive_locks_holder(package: Any) -> None:
    lock = package.RLock()
    assert seen(lock) == ("<RLock(None, 0)>", False, 0)
    with lock, lock:
        assert seen(lock) == ("<RLock(MainProcess, 2)>", True, 2)
        assert in_thread(lambda: seen(lock)) == ("<RLock(SomeOtherThread, nonzero)>", False, 2)


def hold(lock: Any, held: Any, seen_enough: Any) -> None:
    with lock:
        held.set()
        seen_enough.wait(60)


@pytest.mark.parametrize(
    ("kind", "text"), [("Lock", "<Lock(owner=SomeOtherProcess)>"), ("RLock", "<RLock(SomeOtherProcess, nonzero)>")]
)
def test_another_process_holds_it(package: Any, kind: str, text: str, process: Processes) -> None:
    lock, held, seen_enough = getattr(package, kind)(), package.Event(), package.Event()
    child = process(hold, lock, held, seen_enough, context=package.get_context())
    assert held.wait(60)
    assert seen(lock) == (text, False, 0)
    seen_enough.set()
    child.join()


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_conditions_other_threads_do_not_hold_its_lock(package: Any, kind: str) -> None:
    condition = package.Condition(getattr(package, kind)())

    def try_all() -> None:
        for call in (condition.notify, condition.notify_all, condition.wait):
            with pytest.raises(AssertionError):
                call()

    with condition:
        in_thread(try_all)
        condition.notify_all()
        assert condition.wait(0.001) is False
        assert condition._lock._semlock._is_mine()
    try_all()


@pytest.mark.parametrize("kind", [shmkit.Lock, shmkit.RLock])
def test_who_waited_for_it_holds_it(kind: Any) -> None:
    """A lock that is not free at once, and one that comes from a dead process, is its new thread's too."""
    lock = kind(on_owner_death="recover")
    waits = threading.Event()

    def acquire() -> bool:
        waits.set()
        with lock:
            return bool(lock._is_owned())

    found: list[bool] = []
    with lock:
        thread = threading.Thread(target=lambda: found.append(acquire()))
        thread.start()
        assert waits.wait(60)
        wait_until(lambda: "awaited" in repr(lock))
        assert lock._is_owned()
    thread.join()
    assert found == [True]


def leave_held(lock: Any) -> None:
    lock.acquire()


@pytest.mark.parametrize("policy", ["recover", "raise"])
def test_the_heir_holds_it(policy: Any, process: Processes) -> None:
    lock = shmkit.Lock(on_owner_death=policy)
    process(leave_held, lock).join()
    if policy == "raise":
        with pytest.raises(shmkit.OwnerDied):
            lock.acquire()
        lock.recover()
    else:
        assert lock.acquire()
    assert lock._is_owned()
    assert not in_thread(lock._is_owned)
    lock.release()
