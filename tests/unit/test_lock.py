"""Lock: one holder at a time, in any process.  What multiprocessing's has, too, is asked of both."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import BaseContext
from typing import Any

import cloudpickle
import numpy as np
import pytest

import shmkit
from support import Processes, wait_until
from unit.lock_children import add_up, answer, hold, hold_for_ever, hold_to_the_end

fork = multiprocessing.get_context("fork")

KINDS: dict[str, Callable[[], Any]] = {
    "Lock": shmkit.Lock,
    "RLock": shmkit.RLock,
    "multiprocessing.Lock": fork.Lock,
    "multiprocessing.RLock": fork.RLock,
}
OURS = [shmkit.Lock, shmkit.RLock]


@pytest.fixture(params=KINDS)
def lock(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]()


def in_a_thread(call: Callable[[], Any]) -> Any:
    """What it returns, or raises, in another thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result(timeout=30)


# ── what multiprocessing's has, too ─────────────────────────────────────────────────────────────────────────────────

FREE_ARGUMENTS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((True,), {}),
    ((False,), {}),
    ((1, None), {}),
    ((), {"block": True, "timeout": 0}),
    ((), {"block": False, "timeout": None}),
    ((), {"block": 0, "timeout": 10}),
    ((True, -1), {}),
    ((True, -1e300), {}),
    ((True, 10.5), {}),
    ((True, True), {}),
    ((True, np.float64(3)), {}),
    ((True, np.float32(0)), {}),
    ((True, np.int64(3)), {}),
]


@pytest.mark.parametrize(("args", "kwargs"), FREE_ARGUMENTS)
def test_a_free_lock_is_acquired_whatever_the_arguments(lock: Any, args: Any, kwargs: Any) -> None:
    """True; and another thread then has it not."""
    assert lock.acquire(*args, **kwargs) is True
    assert in_a_thread(lambda: lock.acquire(False)) is False
    assert lock.release() is None


HELD_ARGUMENTS: list[tuple[Any, ...]] = [
    (False,),
    (0,),
    (False, None),
    (False, 1000),
    (False, 1e300),
    (False, float("inf")),
    (True, 0),
    (True, 0.0),
    (True, -1),
    (True, -float("inf")),
    (True, 1e-9),
    (True, 0.01),
    (True, False),
    (True, np.float64(0.01)),
    (True, np.float16(0)),
    (True, np.int8(0)),
]


@pytest.mark.parametrize("args", HELD_ARGUMENTS)
def test_a_held_lock_is_not_acquired(lock: Any, args: tuple[Any, ...]) -> None:
    """False, if the caller does not wait, or when its time is up."""
    lock.acquire()
    assert in_a_thread(lambda: lock.acquire(*args)) is False
    lock.release()


@pytest.mark.parametrize("args", [(None,), ("",), (True, -(2**70)), (True, -(10**400))])
def test_ours_takes_what_multiprocessings_refuses(args: tuple[Any, ...]) -> None:
    """Anything is true or false, and an int may be of any size."""
    lock = shmkit.Lock()
    with lock:
        assert lock.acquire(*args) is False


@pytest.mark.parametrize("timeout", ["1", b"1", [], object(), 1j])
@pytest.mark.parametrize("block", [True, False])
def test_what_is_no_number_is_no_time_out(lock: Any, block: bool, timeout: Any) -> None:
    """TypeError, and nothing is acquired."""
    with pytest.raises(TypeError):
        lock.acquire(block, timeout)
    assert in_a_thread(lambda: lock.acquire(False)) is True


@pytest.mark.parametrize("args", [(1, 2, 3), (), ("x",)])
def test_release_and_acquire_refuse_arguments_that_they_do_not_know(lock: Any, args: tuple[Any, ...]) -> None:
    """TypeError, as from any method."""
    if args:
        with pytest.raises(TypeError):
            lock.release(*args)
    with pytest.raises(TypeError):
        lock.acquire(wait=True)


def test_released_too_often_is_an_error(lock: Any) -> None:
    """The same exception types as multiprocessing's; the lock is as it was."""
    recursive = "RLock" in type(lock).__name__
    for _ in range(2):
        with pytest.raises(AssertionError if recursive else ValueError):
            lock.release()
        assert lock.acquire(False)
        lock.release()


def test_with_acquires_and_releases(lock: Any) -> None:
    """Whatever happens inside; it gives what acquire returns."""
    with lock as got:
        assert got is True
        assert in_a_thread(lambda: lock.acquire(False)) is False
    with pytest.raises(ZeroDivisionError), lock:
        _ = 1 / 0
    assert in_a_thread(lambda: lock.acquire(False)) is True


def test_any_thread_may_release_a_lock() -> None:
    """But not a recursive one."""
    for plain in (shmkit.Lock(), fork.Lock()):
        plain.acquire()
        in_a_thread(plain.release)
        assert plain.acquire(False)
    for recursive in (shmkit.RLock(), fork.RLock()):
        recursive.acquire()
        with pytest.raises(AssertionError):
            in_a_thread(recursive.release)
        recursive.release()


def test_the_repr_says_whether_it_is_held() -> None:
    """By whom, how often, and whether somebody waits."""
    lock = shmkit.Lock()
    assert repr(lock).startswith("<unlocked shmkit.Lock object at 0x")
    with lock:
        assert repr(lock).startswith(f"<locked shmkit.Lock object owner={os.getpid()} at 0x")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lock.acquire)
            wait_until(lambda: f"owner={os.getpid()} awaited at" in repr(lock))
            lock.release()
            assert waiting.result(30)
    recursive = shmkit.RLock()
    with recursive, recursive:
        assert f"<locked shmkit.RLock object owner={os.getpid()} count=2 at" in repr(recursive)


def test_a_named_locks_repr_has_the_name(name: str) -> None:
    """A closed one's, too."""
    lock = shmkit.Lock.create(name)
    assert repr(lock).startswith(f"<unlocked shmkit.Lock object {name!r} at 0x")
    lock.unlink()
    lock.close()
    assert repr(lock).startswith(f"<closed shmkit.Lock object {name!r} at 0x")


# ── other processes ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", OURS)
def test_one_process_at_a_time(kind: type[shmkit.Lock], start_method: BaseContext, process: Processes) -> None:
    """A child holds it: not we; it releases: we do."""
    lock = kind()
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        child = process(hold, lock, theirs, context=start_method)
        assert ours.recv() == "held"
        assert lock.locked()
        assert lock.owner_pid == child.pid
        assert not lock.acquire(False)
        assert not lock.acquire(True, 0.01)
        ours.send("release it")
        assert lock.acquire(timeout=30)
        assert lock.owner_pid == os.getpid()
        assert ours.recv() == "released"
        lock.release()
        assert lock.owner_pid is None
        child.join(30)


@pytest.mark.parametrize("kind", OURS)
def test_nobody_comes_between(kind: type[shmkit.Lock], start_method: BaseContext, process: Processes) -> None:
    """A counter that is read, and then written, misses none."""
    lock, counter = kind(), shmkit.zeros(1, np.int64)
    children = [process(add_up, lock, counter, 2000, context=start_method) for _ in range(2)]
    add_up(lock, counter, 2000)
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert counter[0] == 6000


def test_another_process_may_release_a_lock(start_method: BaseContext, process: Processes) -> None:
    """As with multiprocessing's; then it is nobody's."""
    lock = shmkit.Lock()
    recursive = shmkit.RLock()
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        lock.acquire()
        process(answer, lock, theirs, context=start_method)
        ours.send(("release", ()))
        assert ours.recv() is None
        assert not lock.locked()
        ours.send(("release", ()))
        assert isinstance(ours.recv(), shmkit.ReleasedTooOften)
        ours.send(None)
        recursive.acquire()
        process(answer, recursive, theirs, context=start_method)
        ours.send(("release", ()))
        assert isinstance(ours.recv(), shmkit.NotOwner)
        ours.send(None)
        recursive.release()


# ── a holder that dies ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("how", ["killed", "ends"])
def test_the_next_one_is_told_of_a_death_once(
    kind: type[shmkit.Lock], how: str, start_method: BaseContext, process: Processes
) -> None:
    """OwnerDied, holding the lock, with the pid; after recover() it is a lock like any other."""
    lock = kind()
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        if how == "ends":
            child = process(hold_to_the_end, lock, context=start_method)
            child.join(30)
        else:
            child = process(hold_for_ever, lock, theirs, context=start_method)
            assert ours.recv() == "held"
            child.kill()
            child.join()
        with pytest.raises(shmkit.OwnerDied, match=rf"process {child.pid} died") as told:
            lock.acquire()
        assert told.value.pid == child.pid
        assert pickle.loads(pickle.dumps(told.value)).pid == child.pid
        assert lock.owner_pid == os.getpid()
        assert "inherited" in repr(lock)
        assert in_a_thread(lambda: lock.acquire(False)) is False
        lock.recover()
        with pytest.raises(shmkit.NotOwner):
            lock.recover()
        lock.release()
        with lock:
            pass


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("args", [(False,), (True, 0), (True, None), (True, 20)])
def test_every_way_to_acquire_learns_of_a_death(kind: type[shmkit.Lock], args: Any, process: Processes) -> None:
    """The first try that does not wait, too; and `with`, which is not entered then."""
    for enter in (False, True):
        lock = kind()
        assert not lock.locked()
        process(hold_to_the_end, lock).join(30)
        with pytest.raises(shmkit.OwnerDied):
            lock.__enter__() if enter else lock.acquire(*args)
        lock.recover()
        lock.release()


@pytest.mark.parametrize("kind", OURS)
def test_tries_learn_of_a_death_that_comes_later(kind: type[shmkit.Lock], process: Processes) -> None:
    """A loop of tries that found a living holder finds out when it dies."""
    lock = kind()
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        child = process(hold_for_ever, lock, theirs)
        assert ours.recv() == "held"
        for _ in range(10):
            assert not lock.acquire(False)
        child.kill()
        child.join()
        tries = 0
        with pytest.raises(shmkit.OwnerDied):
            while not lock.acquire(False):
                tries += 1
        assert tries < 64
        lock.recover()
        lock.release()


@pytest.mark.parametrize("kind", OURS)
def test_released_without_recover_it_is_lost(kind: type[shmkit.Lock], process: Processes) -> None:
    """NotRecoverable from every way to acquire, each time, in each process, for those who wait already, too."""
    lock = kind()
    process(hold_to_the_end, lock).join(30)
    with pytest.raises(shmkit.OwnerDied):
        lock.acquire()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(lock.acquire) for _ in range(2)]
        wait_until(lambda: "awaited" in repr(lock))
        lock.release()
        for one in waiting:
            with pytest.raises(shmkit.NotRecoverable, match="released without recover"):
                one.result(30)
    for args in [(False,), (False,), (False, 1), (True, 0), (True, 1), (True, None)] * 3:
        with pytest.raises(shmkit.NotRecoverable):
            lock.acquire(*args)
    with pytest.raises(shmkit.NotRecoverable), lock:
        pass
    assert repr(lock).startswith("<lost shmkit.")
    assert lock.owner_pid is None
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        process(answer, lock, theirs)
        for _ in range(2):
            ours.send(("acquire", (False,)))
            assert isinstance(ours.recv(), shmkit.NotRecoverable)
        ours.send(None)


@pytest.mark.parametrize("kind", OURS)
def test_a_lock_may_be_told_not_to_tell(kind: type[shmkit.Lock], name: str, process: Processes) -> None:
    """on_owner_death="recover": as if it had been released; it travels with the lock."""
    with pytest.raises(ValueError, match="on_owner_death must be 'raise' or 'recover': got 'ignore'"):
        kind(on_owner_death="ignore")
    for lock in (kind(on_owner_death="recover"), kind.create(name, on_owner_death="recover")):
        process(hold_to_the_end, pickle.loads(pickle.dumps(lock))).join(30)
        assert lock.acquire() is True
        with pytest.raises(shmkit.NotOwner):
            lock.recover()
        lock.release()
    with pytest.raises(ValueError, match="exists with another on_owner_death"):
        kind.create_or_attach(name)
    assert kind.create_or_attach(name, on_owner_death="recover").acquire(False)
    lock.unlink()


def test_a_dropped_handle_is_the_process_all_the_same(process: Processes) -> None:
    """What one handle acquired another one of the same process releases."""
    lock = shmkit.Lock()
    other = pickle.loads(pickle.dumps(lock))
    other.acquire()
    del other
    gc.collect()
    assert lock.owner_pid == os.getpid()
    assert not lock.acquire(True, 0.05)
    lock.release()


# ── handles ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("dump", [pickle.dumps, cloudpickle.dumps])
def test_a_pickle_is_the_same_lock(kind: type[shmkit.Lock], dump: Callable[[Any], bytes]) -> None:
    """Also several times, and within containers."""
    lock = kind()
    text = dump({"locks": [lock, (lock,)]})
    for _ in range(2):
        first, (second,) = pickle.loads(text)["locks"]
        assert first is second
        assert type(first) is kind
        with first:
            assert lock.owner_pid == os.getpid()
            assert in_a_thread(lambda: lock.acquire(False)) is False
        assert not lock.locked()


@pytest.mark.parametrize("kind", OURS)
def test_a_closed_handle_refuses_everything(kind: type[shmkit.Lock]) -> None:
    """Closed, from each method; the lock itself goes on, and what was held is held."""
    lock = kind()
    other = pickle.loads(pickle.dumps(lock))
    lock.acquire()
    lock.close()
    lock.close()
    assert lock.closed
    calls: list[Callable[[], object]] = [
        lock.acquire,
        lambda: lock.acquire(False),
        lambda: lock.acquire(True, 1),
        lock.release,
        lock.recover,
        lock.locked,
        lock.__enter__,
        lambda: lock.__exit__(None, None, None),
        lambda: lock.owner_pid,
        lambda: pickle.dumps(lock),
        lock._is_owned,
    ]
    for call in calls:
        with pytest.raises(shmkit.Closed, match="was closed by this process"):
            call()
    assert other.locked()
    other.release()


@pytest.mark.parametrize("kind", OURS)
def test_close_ends_a_wait(kind: type[shmkit.Lock]) -> None:
    """Of another thread, through the same handle."""
    lock = kind()
    other = pickle.loads(pickle.dumps(lock))
    other.acquire()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lock.acquire)
        wait_until(lambda: "awaited" in repr(other))
        lock.close()
        with pytest.raises(shmkit.Closed):
            waiting.result(30)
    other.release()
    assert not other.locked()


@pytest.mark.parametrize("kind", OURS)
def test_without_init_it_is_no_lock(kind: type[shmkit.Lock]) -> None:
    """TypeError from whatever needs one; the rest does no harm."""

    class Careless(kind):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            pass

    for lock in (kind.__new__(kind), Careless()):
        calls: list[Callable[[], object]] = [
            lock.acquire,
            lambda lock=lock: lock.acquire(False),  # type: ignore[misc]
            lock.release,
            lock.recover,
            lock.locked,
            lock.__enter__,
            lambda lock=lock: lock.__exit__(None, None, None),  # type: ignore[misc]
            lambda lock=lock: lock.owner_pid,  # type: ignore[misc]
            lambda lock=lock: pickle.dumps(lock),  # type: ignore[misc]
            lock._is_owned,
        ]
        for call in calls:
            with pytest.raises(TypeError, match="__init__ was not called"):
                call()
        assert "closed" in repr(lock)
        assert (lock.name, lock.segment, lock.nbytes) == (None, None, 128)
        with pytest.raises(ValueError, match="no name"):
            lock.unlink()
        lock.close()


@pytest.mark.parametrize("kind", OURS)
def test_init_happens_once(kind: type[shmkit.Lock]) -> None:
    """TypeError, and the lock is what it was."""
    lock = kind()
    with lock:
        for _ in range(2):
            with pytest.raises(TypeError, match="called again"):
                lock.__init__(on_owner_death="recover")  # type: ignore[misc]
        assert lock.owner_pid == os.getpid()


def test_locks_can_be_subclassed_referred_to_weakly_and_collected() -> None:
    """A subclass travels as itself; a lock in a cycle goes with it."""
    lock = Named("mine")
    lock.itself = lock  # type: ignore[attr-defined]
    assert lock.label == "mine"
    copy = pickle.loads(pickle.dumps(lock))
    assert type(copy) is Named
    with copy:
        assert lock.locked()
    gone = weakref.ref(lock)
    del lock
    gc.collect()
    assert gone() is None
    with copy:
        pass


class Named(shmkit.Lock):
    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label


@pytest.mark.parametrize("timeout", [float("nan"), np.float64("nan")])
@pytest.mark.parametrize("kind", OURS)
def test_nan_is_no_time_out(kind: type[shmkit.Lock], timeout: float) -> None:
    """ValueError; a wait for it would never end, or never begin."""
    lock = kind()
    with pytest.raises(ValueError, match="got nan"):
        lock.acquire(True, timeout)
    assert not lock.locked()


def test_huge_time_outs_are_for_ever() -> None:
    """As far as anybody can tell."""
    for timeout in (1e300, float("inf"), 2**70, 10**400, threading.TIMEOUT_MAX, np.float64("inf")):
        lock = shmkit.Lock()
        lock.acquire()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lock.acquire, True, timeout)
            wait_until(lambda lock=lock: "awaited" in repr(lock))  # type: ignore[misc]
            lock.release()
            assert waiting.result(30) is True
