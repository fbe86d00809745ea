"""Semaphore and BoundedSemaphore: a number of permits.  What multiprocessing's have, too, is asked of both."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import BaseContext
from typing import Any

import cloudpickle
import numpy as np
import pytest

import shmkit
from support import Processes, wait_until
from unit.lock_children import answer, hold_for_ever

fork = multiprocessing.get_context("fork")
MOST = 2**31 - 1

KINDS: dict[str, Callable[..., Any]] = {
    "Semaphore": shmkit.Semaphore,
    "BoundedSemaphore": shmkit.BoundedSemaphore,
    "multiprocessing.Semaphore": fork.Semaphore,
    "multiprocessing.BoundedSemaphore": fork.BoundedSemaphore,
}
WITH_UNDO: dict[str, Callable[..., Any]] = {"undo": lambda value=1: shmkit.Semaphore(value, undo=True)}
OURS = [shmkit.Semaphore, shmkit.BoundedSemaphore]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return KINDS[request.param]


@pytest.fixture(params=[*KINDS, *WITH_UNDO])
def any_kind(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return {**KINDS, **WITH_UNDO}[request.param]


# ── what multiprocessing's have, too ────────────────────────────────────────────────────────────────────────────────


def test_it_has_one_permit_unless_told_otherwise(any_kind: Callable[..., Any]) -> None:
    """The default is multiprocessing's."""
    semaphore = any_kind()
    assert semaphore.get_value() == 1
    assert semaphore.acquire(False) is True
    assert semaphore.acquire(False) is False


@pytest.mark.parametrize("value", [1, 2, 7])
def test_as_many_are_in_as_there_are_permits(any_kind: Callable[..., Any], value: int) -> None:
    """And the value says how many are left."""
    semaphore = any_kind(value)
    for left in range(value, 0, -1):
        assert semaphore.get_value() == left
        assert semaphore.acquire() is True
    assert semaphore.get_value() == 0
    assert not semaphore.acquire(False)
    for left in range(1, value + 1):
        assert semaphore.release() is None
        assert semaphore.get_value() == left


@pytest.mark.parametrize(
    "args", [(False,), (False, 9), (True, 0), (True, -1), (True, 1e-3), (0, None), (True, np.float32(0))]
)
def test_without_permits_acquire_is_false(any_kind: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Whether the caller does not wait or its time is up."""
    semaphore = any_kind(1)
    semaphore.acquire()
    assert semaphore.acquire(*args) is False


@pytest.mark.parametrize("timeout", ["1", [], 1j])
def test_what_is_no_number_is_no_time_out(any_kind: Callable[..., Any], timeout: Any) -> None:
    """TypeError, and no permit is gone."""
    semaphore = any_kind(1)
    with pytest.raises(TypeError):
        semaphore.acquire(True, timeout)
    assert semaphore.get_value() == 1


@pytest.mark.parametrize("value", ["1", 1.0, None, [1]])
def test_what_is_no_whole_number_is_no_value(any_kind: Callable[..., Any], value: Any) -> None:
    """TypeError."""
    with pytest.raises(TypeError):
        any_kind(value)


def test_there_are_no_negative_permits(kind: Callable[..., Any]) -> None:
    """The exception is an OSError and a ValueError; multiprocessing's is one of the two."""
    for value in (-1, -MOST):
        with pytest.raises((ValueError, OSError)):
            kind(value)


def test_it_has_room_for_as_many_as_the_system_counts(kind: Callable[..., Any]) -> None:
    """SEM_VALUE_MAX; one more is refused."""
    semaphore = kind(MOST)
    assert semaphore.get_value() == MOST
    with pytest.raises(ValueError, match=r"too (many|often)"):
        semaphore.release()
    semaphore.acquire()
    semaphore.release()
    for value in (MOST + 1, 2**40):
        with pytest.raises((ValueError, OSError, OverflowError)):
            kind(value)


def test_a_semaphore_grows_and_a_bounded_one_does_not() -> None:
    """As multiprocessing's: ValueError."""
    for growing in (shmkit.Semaphore(0), fork.Semaphore(0)):
        for value in range(1, 4):
            growing.release()
            assert growing.get_value() == value
    for bounded in (shmkit.BoundedSemaphore(2), fork.BoundedSemaphore(2), shmkit.BoundedSemaphore(0)):
        with pytest.raises(ValueError, match=r"too (many|often)"):
            bounded.release()
    bounded = shmkit.BoundedSemaphore(2)
    bounded.acquire()
    bounded.release()
    with pytest.raises(shmkit.ReleasedTooOften, match="at most 2 permits"):
        bounded.release()
    assert bounded.get_value() == 2


def test_with_acquires_and_releases(any_kind: Callable[..., Any]) -> None:
    """Whatever happens inside."""
    semaphore = any_kind(1)
    with semaphore as got:
        assert got is True
        assert semaphore.get_value() == 0
    with pytest.raises(ZeroDivisionError), semaphore:
        _ = 1 / 0
    assert semaphore.get_value() == 1


# ── what multiprocessing's have not ─────────────────────────────────────────────────────────────────────────────────


def test_several_are_released_at_once() -> None:
    """As threading's: all of them, or none."""
    semaphore = shmkit.Semaphore(0)
    semaphore.release(3)
    semaphore.release(n=np.int64(2))
    semaphore.release(True)
    assert semaphore.get_value() == 6
    for n in (0, -1, -(2**70)):
        with pytest.raises(ValueError, match="one or more"):
            semaphore.release(n)
    for wrong in (1.0, "1", None):
        with pytest.raises(TypeError):
            semaphore.release(wrong)
    with pytest.raises(ValueError, match="too often"):
        semaphore.release(MOST - 5)
    with pytest.raises(ValueError, match="one or more"):
        semaphore.release(2**31)
    assert semaphore.get_value() == 6
    bounded = shmkit.BoundedSemaphore(3)
    bounded.acquire()
    bounded.acquire()
    with pytest.raises(shmkit.ReleasedTooOften):
        bounded.release(3)
    bounded.release(2)
    assert bounded.get_value() == 3


def test_as_many_wake_as_are_released() -> None:
    """Neither more nor fewer."""
    semaphore = shmkit.Semaphore(0)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(semaphore.acquire) for _ in range(8)]
        wait_until(lambda: "awaited" in repr(semaphore))
        semaphore.release(5)
        wait_until(lambda: sum(one.done() for one in waiting) == 5)
        assert semaphore.get_value() == 0
        assert not semaphore.acquire(True, 0.05)
        assert sum(one.done() for one in waiting) == 5
        semaphore.release(3)
    assert all(one.result() for one in waiting)
    assert semaphore.get_value() == 0


def test_nan_is_no_time_out() -> None:
    """ValueError."""
    with pytest.raises(ValueError, match="got nan"):
        shmkit.Semaphore().acquire(True, float("nan"))


def test_the_repr_says_how_many_are_free(name: str) -> None:
    """Of how many, whether they come back, and whether somebody waits."""
    semaphore = shmkit.Semaphore(3)
    assert repr(semaphore).startswith("<shmkit.Semaphore at 0x")
    assert repr(semaphore).endswith(": value=3>")
    assert repr(shmkit.BoundedSemaphore(2)).endswith(": value=2/2>")
    assert repr(shmkit.Semaphore(2, undo=True)).endswith(": value=2/2, undo>")
    named = shmkit.Semaphore.create(name, 0)
    assert repr(named).startswith(f"<shmkit.Semaphore {name!r} at")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(named.acquire)
        wait_until(lambda: repr(named).endswith(": value=0, awaited>"))
        named.release()
        assert waiting.result(30)
    named.unlink()
    named.close()
    assert repr(named).endswith(": closed>")


@pytest.mark.parametrize("value", [1, MOST])
@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("dump", [pickle.dumps, cloudpickle.dumps])
def test_a_pickle_is_the_same_semaphore(kind: type[shmkit.Semaphore], dump: Any, value: int) -> None:
    """Its bound travels with it."""
    semaphore = kind(value)
    for copy in (pickle.loads(dump([semaphore]))[0], pickle.loads(dump(semaphore))):
        assert type(copy) is kind
        copy.acquire()
        assert semaphore.get_value() == value - 1
        copy.release()
        if kind is shmkit.BoundedSemaphore:
            with pytest.raises(ValueError, match="too often"):
                copy.release()


def test_a_semaphore_is_not_taken_for_a_bounded_one(name: str) -> None:
    """A bounded one is a semaphore, too; but not the other way round."""
    with shmkit.Segment.create(name, 1024) as segment:
        shmkit.BoundedSemaphore.create_at(segment, 0, 3)
        with pytest.raises(ValueError, match="too often"):
            shmkit.Semaphore.attach_at(segment, 0).release()
        shmkit.Semaphore.create_at(segment, 128, 3)
        with pytest.raises(shmkit.LayoutMismatch, match="a BoundedSemaphore has a maximum"):
            shmkit.BoundedSemaphore.attach_at(segment, 128)
        segment.unlink()


@pytest.mark.parametrize("kind", OURS)
def test_a_closed_or_unmade_semaphore_refuses_everything(kind: type[shmkit.Semaphore]) -> None:
    """Closed, or TypeError."""
    closed = kind(2)
    closed.close()
    for semaphore, error, text in [
        (closed, shmkit.Closed, "was closed"),
        (kind.__new__(kind), TypeError, "__init__ was not called"),
    ]:
        calls: list[Callable[[], object]] = [
            semaphore.acquire,
            lambda it=semaphore: it.acquire(False),  # type: ignore[misc]
            semaphore.release,
            lambda it=semaphore: it.release(2),  # type: ignore[misc]
            semaphore.get_value,
            semaphore.locked,
            semaphore.__enter__,
            lambda it=semaphore: it.__exit__(None, None, None),  # type: ignore[misc]
            lambda it=semaphore: pickle.dumps(it),  # type: ignore[misc]
        ]
        for call in calls:
            with pytest.raises(error, match=text):
                call()
        assert "closed" in repr(semaphore)


def test_init_happens_once() -> None:
    """TypeError, and it is what it was."""
    for semaphore in (shmkit.Semaphore(3, undo=True), shmkit.Semaphore(3)):
        with pytest.raises(TypeError, match="called again"):
            semaphore.__init__(9, undo=not semaphore.undo)  # type: ignore[misc]
        assert semaphore.acquire()
        assert semaphore.get_value() == 2
        semaphore.release()


# ── permits that come back ──────────────────────────────────────────────────────────────────────────────────────────


def test_undo_has_limits() -> None:
    """One permit at least, 4,096 at most."""
    with pytest.raises(shmkit.InvalidPermits, match="at least one permit"):
        shmkit.Semaphore(0, undo=True)
    for value in (-1, 4097, MOST):
        with pytest.raises(shmkit.InvalidPermits, match=f"from 0 to 4096 permits at first: got {value}"):
            shmkit.Semaphore(value, undo=True)
    most = shmkit.Semaphore(4096, undo=True)
    assert (most.get_value(), most.nbytes) == (4096, 128 + 8 * 4096)
    for _ in range(4096):
        assert most.acquire(False)
    assert not most.acquire(False)
    most.release(4096)
    assert most.get_value() == 4096


def test_only_who_holds_permits_releases_them(start_method: BaseContext, process: Processes) -> None:
    """ReleasedTooOften, and those that it has it keeps."""
    semaphore = shmkit.Semaphore(4, undo=True)
    assert semaphore.undo
    semaphore.acquire()
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        process(answer, semaphore, theirs, context=start_method)
        for order, reply in [
            (("release", ()), shmkit.ReleasedTooOften),
            (("acquire", ()), True),
            (("acquire", ()), True),
            (("release", (3,)), shmkit.ReleasedTooOften),
            (("get_value", ()), 1),
            (("release", (2,)), None),
            (("get_value", ()), 3),
        ]:
            ours.send(order)
            got = ours.recv()
            assert type(got) is reply if isinstance(reply, type) else got == reply
        ours.send(None)
    with pytest.raises(shmkit.ReleasedTooOften, match="fewer than 2"):
        semaphore.release(2)
    semaphore.release()
    assert semaphore.get_value() == 4


def test_what_a_dead_process_held_comes_back(start_method: BaseContext, process: Processes) -> None:
    """All of it, and no more; to tries as to waits."""
    semaphore = shmkit.Semaphore(5, undo=True)
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        child = process(hold_for_ever, semaphore, theirs, 3, context=start_method)
        assert ours.recv() == "held"
        assert semaphore.get_value() == 2
        semaphore.acquire()
        semaphore.acquire()
        assert not semaphore.acquire(True, 0.05)
        child.kill()
        child.join()
        for _ in range(3):
            assert semaphore.acquire(timeout=30)
        assert not semaphore.acquire(True, 0.05)
        semaphore.release(5)
        assert semaphore.get_value() == 5


def test_without_undo_it_does_not(process: Processes) -> None:
    """Nobody knows how many those were."""
    semaphore = shmkit.Semaphore(2)
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        child = process(hold_for_ever, semaphore, theirs)
        assert ours.recv() == "held"
        child.kill()
        child.join()
    assert semaphore.acquire(False)
    assert not semaphore.acquire(True, 0.05)
    semaphore.release(2)


def test_a_forked_child_holds_none_of_its_parents_permits(process: Processes) -> None:
    """And takes none of them with it."""
    semaphore = shmkit.Semaphore(2, undo=True)
    semaphore.acquire()

    def child() -> None:
        with pytest.raises(shmkit.ReleasedTooOften):
            semaphore.release()
        assert semaphore.acquire(False)
        assert not semaphore.acquire(False)

    done = process(child)
    done.join(30)
    assert done.exitcode == 0
    assert semaphore.acquire(timeout=30)
    assert not semaphore.acquire(True, 0.02)
    semaphore.release(2)
    assert semaphore.get_value() == 2
