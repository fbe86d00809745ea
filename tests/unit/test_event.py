"""Event: a flag.  What multiprocessing's has, too, is asked of both."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import pytest

import shmkit
from support import Processes, wait_until
from unit.lock_children import raise_the_flag, wait_for_the_flag

fork = multiprocessing.get_context("fork")


@pytest.fixture(params=["shmkit", "multiprocessing"])
def event(request: pytest.FixtureRequest) -> Any:
    return shmkit.Event() if request.param == "shmkit" else fork.Event()


def awaited(event: shmkit.Event) -> bool:
    """Whether somebody may be asleep, as the cell says."""
    memory = event.segment.buf[event.offset :]
    return bool(int.from_bytes(memory[16:20], "little") & 1)


def test_it_is_down_at_first(event: Any) -> None:
    """And up after set, as often as that is called, until clear."""
    assert event.is_set() is False
    for _ in range(2):
        assert event.set() is None
        assert event.is_set() is True
    for _ in range(2):
        assert event.clear() is None
        assert event.is_set() is False


@pytest.mark.parametrize("timeout", [0, 0.0, -1, 1e-9, 0.01, False, np.float64(0.01), np.int32(0), -float("inf")])
def test_a_wait_for_a_flag_that_is_down_ends_in_time(event: Any, timeout: Any) -> None:
    """False."""
    assert event.wait(timeout) is False
    assert event.wait(timeout=timeout) is False


@pytest.mark.parametrize("args", [(), (None,), (0,), (-1,), (10,), (1e300,), (True,)])
def test_a_wait_for_a_flag_that_is_up_ends_at_once(event: Any, args: tuple[Any, ...]) -> None:
    """True, whatever the time-out."""
    event.set()
    assert event.wait(*args) is True


def test_what_is_no_number_is_no_time_out() -> None:
    """TypeError, or ValueError for nan, even where there is nothing to wait for."""
    event = shmkit.Event()
    for _ in range(2):
        for wrong in ("1", [], 1j):
            with pytest.raises(TypeError):
                event.wait(wrong)
        with pytest.raises(ValueError, match="nan"):
            event.wait(float("nan"))
        event.set()


def test_all_who_wait_are_woken(event: Any) -> None:
    """By one set."""
    with ThreadPoolExecutor(10) as pool:
        waiting = [pool.submit(event.wait, 30) for _ in range(10)]
        if isinstance(event, shmkit.Event):
            wait_until(lambda: awaited(event))
        event.set()
        assert [one.result(30) for one in waiting] == [True] * 10


def test_a_flag_that_is_down_again_has_woken_those_who_waited() -> None:
    """Up and down at once, time and again: none of them sleeps on."""
    event = shmkit.Event()
    for _ in range(50):
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(event.wait) for _ in range(4)]
            wait_until(lambda: awaited(event))
            while not all(one.done() for one in waiting):  # those that had not begun by then
                event.set()
                event.clear()
            assert all(one.result(30) for one in waiting)


def test_it_wakes_other_processes(start_method: BaseContext, process: Processes) -> None:
    """Under each start method, both ways."""
    event, back = shmkit.Event(), shmkit.Event()
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        process(wait_for_the_flag, event, theirs, context=start_method)
        assert ours.recv() == "there"
        event.set()
        assert ours.recv() is True
    process(raise_the_flag, back, context=start_method)
    assert back.wait(60)


def test_a_killed_waiter_costs_nothing(process: Processes) -> None:
    """Nor does one that is killed after it set the flag."""
    event = shmkit.Event()
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        child = process(wait_for_the_flag, event, theirs)
        assert ours.recv() == "there"
        wait_until(lambda: awaited(event))
        child.kill()
        child.join()
        process(wait_for_the_flag, event, theirs)
        assert ours.recv() == "there"
        event.set()
        assert ours.recv() is True


def test_the_repr_says_whether_it_is_up(event: Any) -> None:
    """In multiprocessing's words, which it has since Python 3.11."""
    if not isinstance(event, shmkit.Event) and sys.version_info < (3, 11):
        pytest.skip("multiprocessing.Event has no repr of its own here")
    assert repr(event).startswith("<Event at 0x")
    assert repr(event).endswith(" unset>")
    event.set()
    assert repr(event).endswith(" set>")


def test_a_pickle_is_the_same_event(name: str) -> None:
    """Named or not."""
    named = shmkit.Event.create(name)
    for event in (shmkit.Event(), named):
        copy = pickle.loads(pickle.dumps((event, event)))[1]
        copy.set()
        assert event.is_set()
    assert repr(named).startswith(f"<Event {name!r} at 0x")
    named.unlink()


def test_a_closed_or_unmade_event_refuses_everything() -> None:
    """Closed, or TypeError."""
    closed = shmkit.Event()
    closed.close()
    for event, error, text in [
        (closed, shmkit.Closed, "was closed"),
        (shmkit.Event.__new__(shmkit.Event), TypeError, "__init__ was not called"),
    ]:
        calls: list[Callable[[], object]] = [event.set, event.clear, event.is_set, event.wait]
        for call in [*calls, lambda it=event: pickle.dumps(it)]:  # type: ignore[misc]
            with pytest.raises(error, match=text):
                call()
        assert "closed" in repr(event)
    made = shmkit.Event()
    with pytest.raises(TypeError, match="called again"):
        made.__init__()  # type: ignore[misc]
