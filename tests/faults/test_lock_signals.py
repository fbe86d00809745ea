"""Signals during waits for primitives, stopped holders, forks and exec while held.

Timers run in children only (the tests' own time-out is one).  A child has failed unless it ends with status 0.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import pytest

import shmkit
from support import Processes, wait_until
from unit.lock_children import hold_for_ever

WATCHDOG = 40.0


def wait_on_condition(condition: Any, timeout: float | None) -> bool:
    with condition:
        try:
            got: bool = condition.wait(timeout)
            return got
        finally:
            assert condition.lock._is_owned(), "whatever came out of the wait, the lock is held"


def notify(condition: Any) -> None:
    with condition:
        condition.notify()


# Each kind: how to make one that has to be waited for by others, how to wait, and how to end the wait of one.
KINDS: dict[str, tuple[Callable[[], Any], Callable[[Any, float | None], bool], Callable[[Any], object]]] = {
    "Lock": (shmkit.Lock, lambda it, timeout: it.acquire(True, timeout), lambda it: it.release()),
    "RLock": (shmkit.RLock, lambda it, timeout: it.acquire(True, timeout), lambda it: it.release()),
    "Semaphore": (shmkit.Semaphore, lambda it, timeout: it.acquire(True, timeout), lambda it: it.release()),
    "undo": (
        lambda: shmkit.Semaphore(1, undo=True),
        lambda it, timeout: it.acquire(True, timeout),
        lambda it: it.release(),
    ),
    "Event": (shmkit.Event, lambda it, timeout: it.wait(timeout), lambda it: it.set()),
    "Condition": (shmkit.Condition, wait_on_condition, notify),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def busy(kind: str) -> Any:
    """One that this process holds, where it can be held."""
    primitive = KINDS[kind][0]()
    if kind not in ("Event", "Condition"):
        primitive.acquire()
    return primitive


def awaited(kind: str, primitive: Any) -> bool:
    """Whether somebody waits for it."""
    if kind == "Event":
        return bool(primitive.segment.buf[primitive.offset + 16] & 1)
    return bool(primitive.waiting) if kind == "Condition" else "awaited" in repr(primitive)


def storm(period: float = 0.001) -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, period, period)


def test_a_time_out_holds_in_a_storm(kind: str, process: Processes) -> None:
    """It comes, and not before its time, however often the wait is interrupted."""
    primitive = busy(kind)

    def child() -> None:
        storm()
        for timeout in (0.0, 0.05, 0.25):
            began = time.monotonic()
            assert KINDS[kind][1](primitive, timeout) is False
            assert time.monotonic() - began >= timeout

    done = process(child)
    done.join(WATCHDOG)
    assert done.exitcode == 0


def test_nothing_is_lost_in_a_storm(kind: str, process: Processes) -> None:
    """Each of many waits ends when it is to."""
    primitive = busy(kind)
    ours, theirs = multiprocessing.Pipe()

    def child() -> None:
        storm()
        for _ in range(100):
            assert KINDS[kind][1](primitive, None) is True
            if kind == "Event":
                primitive.clear()
            elif kind != "Condition":
                primitive.release()
            theirs.send("had it")
            theirs.recv()

    with ours, theirs:
        done = process(child)
        for number in range(100):
            if kind == "Condition" or number % 10 == 0:
                wait_until(lambda: awaited(kind, primitive))
            KINDS[kind][2](primitive)
            assert ours.poll(WATCHDOG)
            ours.recv()
            if kind not in ("Event", "Condition"):
                primitive.acquire()
            ours.send(None)
        done.join(WATCHDOG)
        assert done.exitcode == 0


def test_ctrl_c_comes_out_of_every_wait(kind: str, process: Processes) -> None:
    """KeyboardInterrupt, time and again; nothing is acquired by it, and nobody else's notification is lost."""
    primitive = busy(kind)
    ours, theirs = multiprocessing.Pipe()

    def child() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                KINDS[kind][1](primitive, None)
            theirs.send("interrupted")
            theirs.recv()
        assert KINDS[kind][1](primitive, WATCHDOG)

    with ours, theirs:
        done = process(child)
        for _ in range(3):
            wait_until(lambda: awaited(kind, primitive))
            os.kill(done.pid or 0, signal.SIGINT)
            assert ours.poll(WATCHDOG)
            assert ours.recv() == "interrupted"
            if kind == "Condition":
                assert primitive.waiting == 0
            else:
                # Somebody may be asleep there, says the gate, until a waker finds nobody.
                KINDS[kind][2](primitive)
                primitive.clear() if kind == "Event" else primitive.acquire()
            ours.send(None)
        if kind == "Condition":
            wait_until(lambda: awaited(kind, primitive))
        KINDS[kind][2](primitive)
        done.join(WATCHDOG)
        assert done.exitcode == 0


def test_a_stopped_holder_is_not_dead(process: Processes) -> None:
    """Time-outs hold while it stands still; nobody inherits; it goes on where it was."""
    for lock in (shmkit.Lock(), shmkit.RLock(), shmkit.Semaphore(1, undo=True)):
        ours, theirs = multiprocessing.Pipe()
        with ours, theirs:

            def child(lock: Any = lock, theirs: Connection = theirs) -> None:
                lock.acquire()
                os.kill(os.getpid(), signal.SIGSTOP)
                lock.release()
                theirs.send("released")

            one = process(child)
            assert one.pid is not None
            _, status = os.waitpid(one.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            for _ in range(3):
                assert not lock.acquire(True, 0.15)
            os.kill(one.pid, signal.SIGCONT)
            assert lock.acquire(timeout=WATCHDOG)
            assert ours.recv() == "released"
            lock.release()


def test_a_stopped_waiter_keeps_its_place(process: Processes) -> None:
    """Its notification waits for it, and goes to nobody else."""
    condition = shmkit.Condition()
    ours, theirs = multiprocessing.Pipe()

    def child() -> None:
        theirs.send(wait_on_condition(condition, None))

    with ours, theirs:
        one = process(child)
        wait_until(lambda: condition.waiting == 1)
        with condition:
            pass
        assert one.pid is not None
        os.kill(one.pid, signal.SIGSTOP)
        os.waitpid(one.pid, os.WUNTRACED)
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(wait_on_condition, condition, 0.3)
            wait_until(lambda: condition.waiting == 2)
            with condition:
                condition.notify()
            assert other.result(WATCHDOG) is False
        os.kill(one.pid, signal.SIGCONT)
        assert ours.poll(WATCHDOG)
        assert ours.recv() is True


def test_a_child_does_not_hold_what_its_parent_held_at_the_fork(process: Processes) -> None:
    """The parent still does when the child has ended; of a Lock, the child may release it."""
    lock, recursive, semaphore = shmkit.Lock(), shmkit.RLock(), shmkit.Semaphore(1, undo=True)
    held = [lock, recursive, semaphore]
    for one in held:
        one.acquire()

    def child(release: bool) -> None:
        for one in held:
            assert not one.acquire(False)
            assert not one.acquire(True, 0.02)
        for one in held[1:]:
            with pytest.raises(shmkit.LockError):
                one.release()
        if release:
            lock.release()

    for release in (False, True):
        done = process(child, release)
        done.join(WATCHDOG)
        assert done.exitcode == 0
        assert lock.locked() is not release
        assert recursive._is_owned()
        assert semaphore.get_value() == 0
    recursive.release()
    semaphore.release()


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "undo", "Condition"])
def test_a_child_that_a_handler_forks_in_a_wait_is_not_its_parent(kind: str, process: Processes) -> None:
    """It waits under its own name, and dies under it; the parent's wait goes on."""
    primitive = busy(kind)
    ours, theirs = multiprocessing.Pipe()

    def child() -> None:
        forked: list[int] = []
        signal.signal(signal.SIGUSR1, lambda *_: forked.append(os.fork()))
        try:
            got = KINDS[kind][1](primitive, WATCHDOG)
        except shmkit.OwnerDied:
            primitive.recover()
            got = True
        except shmkit.NotOwner:
            assert kind == "Condition"
            assert forked == [0]
            os._exit(0)
        assert got
        if kind in ("Lock", "RLock"):
            assert primitive.owner_pid == os.getpid()
        if forked == [0]:
            os._exit(0)  # holding it
        if kind != "Condition":
            primitive.release()
        os.waitpid(forked[0], 0)
        theirs.send("had it")

    with ours, theirs:
        done = process(child)
        wait_until(lambda: awaited(kind, primitive))
        os.kill(done.pid or 0, signal.SIGUSR1)
        if kind == "Condition":
            wait_until(lambda: os.path.exists(f"/proc/{done.pid}/task/{done.pid}/children"))
            for _ in range(200):
                with primitive:
                    primitive.notify()
        else:
            primitive.release()
            if kind == "Semaphore":
                primitive.release()
        assert ours.poll(WATCHDOG)
        assert ours.recv() == "had it"
        done.join(WATCHDOG)
        assert done.exitcode == 0


def test_all_descriptors_closed_while_held(process: Processes) -> None:
    """The lease needs none: who closed them holds on, releases, and acquires again."""
    lock = shmkit.Lock()
    ours, theirs = multiprocessing.Pipe()

    def child() -> None:
        lock.acquire()
        keep = theirs.fileno()
        os.closerange(3, keep)
        os.closerange(keep + 1, 200)
        theirs.send("held")
        theirs.recv()
        lock.release()
        assert lock.acquire(timeout=WATCHDOG)
        lock.release()
        theirs.send("done")

    with ours, theirs:
        process(child)
        assert ours.recv() == "held"
        assert not lock.acquire(True, 0.15)
        ours.send(None)
        assert lock.acquire(timeout=WATCHDOG)
        lock.release()
        assert ours.recv() == "done"


def test_exec_while_held_is_a_death(process: Processes) -> None:
    """The program that held it is gone, although the process lives."""
    lock = shmkit.Lock()

    def child() -> None:
        lock.acquire()
        os.execv(sys.executable, [sys.executable, "-c", "import signal; signal.pause()"])

    one = process(child)
    wait_until(lock.locked)
    with pytest.raises(shmkit.OwnerDied) as told:
        lock.acquire(timeout=WATCHDOG)
    assert told.value.pid == one.pid
    assert one.is_alive()
    lock.recover()
    lock.release()


def test_several_who_wait_and_one_death(process: Processes) -> None:
    """One of them inherits, is told, and repairs; the others acquire as ever."""
    lock = shmkit.Lock()
    ours, theirs = multiprocessing.Pipe()

    def wait() -> None:
        try:
            lock.acquire()
            theirs.send("acquired")
        except shmkit.OwnerDied:
            lock.recover()
            theirs.send("told")
        lock.release()

    with ours, theirs:
        victim = process(hold_for_ever, lock, theirs)
        assert ours.recv() == "held"
        for _ in range(4):
            process(wait)
        wait_until(lambda: "awaited" in repr(lock))
        victim.kill()
        victim.join()
        said = []
        for _ in range(4):
            assert ours.poll(WATCHDOG)
            said.append(ours.recv())
        assert sorted(said) == ["acquired"] * 3 + ["told"]
