"""RLock: what its holder may do that nobody else may.  What it shares with Lock is in test_lock.py."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import shmkit
from support import Processes
from unit.lock_children import hold_for_ever

fork = multiprocessing.get_context("fork")


@pytest.fixture(params=["shmkit", "multiprocessing"])
def lock(request: pytest.FixtureRequest) -> Any:
    return shmkit.RLock() if request.param == "shmkit" else fork.RLock()


def in_a_thread(call: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result(timeout=30)


@pytest.mark.parametrize("args", [(), (False,), (True, 0), (True, 1), (False, None), (True, -1)])
def test_its_holder_acquires_it_again(lock: Any, args: tuple[Any, ...]) -> None:
    """And has to release it as often, before anybody else gets it."""
    for _ in range(5):
        assert lock.acquire(*args) is True
    for _ in range(5):
        assert in_a_thread(lambda: lock.acquire(False)) is False
        lock.release()
    with pytest.raises(AssertionError):
        lock.release()
    assert in_a_thread(lambda: (lock.acquire(False), lock.release())) == (True, None)


def test_with_nests(lock: Any) -> None:
    """Mixed with acquire, too."""
    with lock as outer, lock as inner:
        assert (outer, inner) == (True, True)
        lock.acquire()
        assert in_a_thread(lambda: lock.acquire(False)) is False
        lock.release()
    assert in_a_thread(lambda: (lock.acquire(False), lock.release())) == (True, None)


def test_only_the_holder_releases_it(lock: Any) -> None:
    """NotOwner, an AssertionError and RuntimeError, for another thread; nothing changes."""
    lock.acquire()
    lock.acquire()
    with pytest.raises(AssertionError):
        in_a_thread(lock.release)
    lock.release()
    assert in_a_thread(lambda: lock.acquire(False)) is False
    lock.release()


def test_two_handles_are_one_holder() -> None:
    """The thread holds it, not the handle."""
    import pickle

    lock = shmkit.RLock()
    other = pickle.loads(pickle.dumps(lock))
    with lock, other:
        assert lock._recursion_count() == other._recursion_count() == 2
        assert lock._is_owned()
        assert in_a_thread(lambda: (lock._is_owned(), lock._recursion_count())) == (False, 0)
    assert not lock.locked()


def test_a_forked_child_is_not_its_parent(process: Processes) -> None:
    """It holds nothing that its parent holds, although its thread has the same number."""
    lock = shmkit.RLock()
    lock.acquire()
    lock.acquire()

    def child() -> None:
        assert not lock._is_owned()
        assert not lock.acquire(False)
        with pytest.raises(shmkit.NotOwner):
            lock.release()

    done = process(child)
    done.join(30)
    assert done.exitcode == 0
    lock.release()
    lock.release()
    assert not lock.locked()


def test_an_heir_holds_it_once(process: Processes) -> None:
    """However often the dead one had acquired it."""
    lock = shmkit.RLock()
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        child = process(hold_for_ever, lock, theirs, 3)
        assert ours.recv() == "held"
        assert "count=3" in repr(lock)
        child.kill()
        child.join()
    with pytest.raises(shmkit.OwnerDied):
        lock.acquire()
    assert lock._recursion_count() == 1
    lock.acquire()
    lock.recover()
    lock.release()
    assert lock.locked()
    lock.release()
    assert not lock.locked()


def test_another_thread_of_the_heirs_process_does_not_take_itself_for_the_dead_one(process: Processes) -> None:
    """Its number is the dead one's: both are main threads of forked processes.  The heir has not stored its own yet."""
    lock = shmkit.RLock(on_owner_death="recover")
    ours, theirs = multiprocessing.Pipe()

    def heir(victim: int) -> None:
        got: list[bool] = []

        def inherit() -> None:
            got.append(lock.acquire())
            got.append(lock._recursion_count() == 1)
            lock.release()

        thread = threading.Thread(target=inherit)
        thread.start()
        while "awaited" not in repr(lock):
            pass
        # The thread inherits without the GIL, and cannot store its number before it has it back.  A kill keeps it.
        sys.setswitchinterval(3)
        os.kill(victim, signal.SIGKILL)
        while lock.owner_pid != os.getpid():
            pass
        mistaken = lock.acquire(False)
        sys.setswitchinterval(0.005)
        thread.join()
        assert not mistaken
        assert got == [True, True]

    with ours, theirs:
        victim = process(hold_for_ever, lock, theirs)
        assert ours.recv() == "held"
        assert victim.pid is not None
        child = process(heir, victim.pid)
        child.join(40)
        assert child.exitcode == 0
        victim.join()


def test_it_cannot_be_acquired_more_often_than_it_can_count(name: str) -> None:
    """OverflowError, and it is held as often as before."""
    with shmkit.Segment.create(name, 128) as segment:
        lock = shmkit.RLock.create_at(segment)
        lock.acquire()
        segment.buf[20:24] = b"\xff\xff\xff\xff"
        with pytest.raises(OverflowError, match="acquired too often"):
            lock.acquire()
        lock.release()
        assert lock._recursion_count() == 2**32 - 2
        segment.buf[20:24] = b"\x01\0\0\0"
        lock.release()
        assert not lock.locked()
        del lock
        segment.unlink()
