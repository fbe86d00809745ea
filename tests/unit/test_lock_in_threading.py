"""A threading.Condition goes with shmkit's locks: waiting releases all levels, and takes them again."""

from __future__ import annotations

import threading

import pytest

import shmkit


@pytest.mark.parametrize("make", [shmkit.Lock, shmkit.RLock])
def test_a_condition_of_threading_goes_with_it(make: type[shmkit.Lock], name: str) -> None:
    """The waiter lets go of the lock, at whatever depth, and holds it as before when it returns."""
    lock = make.create(name)
    lock.unlink()
    condition = threading.Condition(lock)  # type: ignore[arg-type]
    woken: list[int] = []
    depth = 3 if isinstance(lock, shmkit.RLock) else 1
    waits = threading.Event()

    def wait() -> None:
        for _ in range(depth):
            condition.acquire()
        waits.set()
        condition.wait()
        woken.append(lock._recursion_count() if isinstance(lock, shmkit.RLock) else lock.locked())
        for _ in range(depth):
            condition.release()

    thread = threading.Thread(target=wait)
    thread.start()
    waits.wait()
    with condition:  # it is to be had: whoever waits does not hold it
        condition.notify()
    thread.join()
    assert woken == [depth]
    assert not lock.locked()


def test_only_the_holder_may_let_go(name: str) -> None:
    """NotOwner, a RuntimeError, from a thread that does not hold the lock."""
    lock = shmkit.RLock.create(name)
    lock.unlink()
    with pytest.raises(shmkit.NotOwner):
        lock._release_save()
    with lock, lock:
        depth = lock._release_save()
        assert not lock.locked()
        lock._acquire_restore(depth)
        assert lock._recursion_count() == 2
    assert not lock.locked()
