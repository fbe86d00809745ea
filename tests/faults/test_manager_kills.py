"""A manager's client is killed: the standard library's others wait for ever, ours go on; or its server."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from typing import Any

import pytest

import shmkit
import shmkit.multiprocessing
from support import Processes, wait_until

A_WHILE = 1.0  # how long the standard library's is waited for
WATCHDOG = 60.0


@pytest.fixture(params=["fork", pytest.param("spawn", marks=pytest.mark.soak)])
def context(request: pytest.FixtureRequest, face: str) -> BaseContext:
    package = shmkit.multiprocessing if face == "drop-in" else multiprocessing
    return package.get_context(request.param)


@pytest.fixture
def manager(context: Any) -> Iterator[Any]:
    with context.Manager() as made:
        yield made


def holder(lock: Any, ready: Any) -> None:
    lock.acquire()
    ready.set()
    wait_until(lambda: False, 600)


def killed_in(process: Processes, context: Any, target: Callable[..., None], *tools: Any) -> None:
    ready = context.Event()
    child = process(target, *tools, ready, context=context)
    assert ready.wait(WATCHDOG)
    child.kill()
    child.join()


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Condition"])
def test_a_client_is_killed_with_a_managers_lock(
    kind: str, face: str, context: Any, manager: Any, process: Processes
) -> None:
    lock = getattr(manager, kind)()
    with lock:  # a thread of the server serves this one now: it will not have the number of one that has ended
        pass
    killed_in(process, context, holder, lock)
    if face == "stdlib":
        assert not lock.acquire(True, A_WHILE)
        return
    assert lock.acquire(True, WATCHDOG)
    lock.release()
    with lock:
        pass


def getter(queue: Any, ready: Any) -> None:
    queue.qsize()
    queue._tls.connection.send((queue._id, "get", (), {}))  # has asked, for certain, before it says so
    ready.set()
    wait_until(lambda: False, 600)


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
def test_a_client_is_killed_while_it_waits_for_an_item(
    kind: str, face: str, context: Any, manager: Any, process: Processes
) -> None:
    """The standard library's server gives the next item to the dead."""
    queue = getattr(manager, kind)()
    for _ in range(3):
        killed_in(process, context, getter, queue)
    queue.put("next")
    if face == "stdlib":
        wait_until(queue.empty)  # though nobody who lives has got it
    else:
        assert queue.get(True, WATCHDOG) == "next"


def asks(value: Any, ready: Any, ended: Any) -> None:
    value.get()
    ready.set()
    try:
        while True:
            value.get()
    except (EOFError, OSError) as error:
        ended.put(type(error).__name__)


def test_the_server_is_killed(face: str, context: Any, process: Processes) -> None:
    """Whoever asks it for something is told at once, and so is whoever waits for something; nobody hangs."""
    manager = context.Manager()
    value, queue, lock = manager.Value("i", 1), manager.Queue(), manager.Lock()
    ready, ended = context.Event(), context.Queue()
    child = process(asks, value, ready, ended, context=context)
    waiting = context.Event()
    waiter = process(waits, queue, waiting, ended, context=context)
    assert ready.wait(WATCHDOG)
    assert waiting.wait(WATCHDOG)
    os.kill(manager._process.pid, signal.SIGKILL)
    for other in (child, waiter):
        other.join(WATCHDOG)
        assert other.exitcode == 0
    for _ in range(2):
        assert ended.get(timeout=WATCHDOG)  # the name of what it was told by
    with pytest.raises((EOFError, OSError)):
        lock.acquire()
    with pytest.raises((EOFError, OSError)):
        manager.dict()
    manager.shutdown()


def waits(queue: Any, ready: Any, ended: Any) -> None:
    ready.set()
    try:
        queue.get()
    except (EOFError, OSError) as error:
        ended.put(type(error).__name__)


def test_locks_of_a_manager_are_locks(manager: Any) -> None:
    """What they refuse, and what a condition does with them."""
    lock, rlock = manager.Lock(), manager.RLock()
    with lock:
        assert not lock.acquire(False)
        assert not lock.acquire(True, 0.01)
    with pytest.raises(RuntimeError, match="release unlocked lock"):
        lock.release()
    with pytest.raises(ValueError, match="non-blocking"):
        lock.acquire(False, 1)
    with rlock, rlock:
        pass
    with pytest.raises(RuntimeError, match="un-acquired"):
        rlock.release()
    condition = manager.Condition()
    with condition:
        assert condition.wait(0.01) is False
        condition.notify_all()
    with pytest.raises(RuntimeError):
        condition.notify()


def test_a_derived_manager_is_what_it_was(face: str) -> None:
    """It has a registry of its own, and is passed to its server by its name."""
    from multiprocessing import managers

    class Derived(managers.SyncManager):
        pass

    assert type(Derived()) is Derived
