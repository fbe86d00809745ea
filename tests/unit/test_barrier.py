"""Barrier: what the standard library's does, among threads and processes that nobody kills."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext

import pytest

import shmkit
from support import Processes, wait_until


def fresh(parties: int = 2, action: Callable[[], object] | None = None, timeout: float | None = None) -> shmkit.Barrier:
    """One in a segment of its own, which goes with the test."""
    return shmkit.Barrier.create_at(shmkit.Segment.create(size=1024), 0, parties, action, timeout)


def waiter(pool: ThreadPoolExecutor, barrier: shmkit.Barrier, *arguments: float) -> object:
    """A thread that has come, and waits; its future."""
    before = barrier.n_waiting
    future = pool.submit(barrier.wait, *arguments)
    wait_until(lambda: barrier.n_waiting > before or future.done())
    return future


# --- passing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parties", [1, 2, 5])
def test_each_gets_another_number(parties: int) -> None:
    """From 0 to parties - 1; round after round."""
    barrier = fresh(parties)
    with ThreadPoolExecutor(parties) as pool:
        for _ in range(50):
            futures = [pool.submit(barrier.wait, 30) for _ in range(parties)]
            assert sorted(future.result(30) for future in futures) == list(range(parties))
    assert barrier.n_waiting == 0
    assert not barrier.broken
    assert barrier.parties == parties


def test_nobody_passes_before_all_have_come() -> None:
    """Whoever passes sees what all have stored before they came."""
    barrier, threads, rounds = fresh(4), 4, 200
    reached = [0] * threads

    def body(number: int) -> None:
        for step in range(1, rounds + 1):
            reached[number] = step
            barrier.wait(30)
            assert set(reached) == {step}
            barrier.wait(30)

    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(body, number) for number in range(threads)]:
            future.result(100)


def test_one_calls_the_action_before_any_passes() -> None:
    """Once per round, whoever comes last; the barrier can be used in it."""
    calls: list[int] = []
    barrier = fresh(3, lambda: calls.append(barrier.n_waiting))
    with ThreadPoolExecutor(3) as pool:
        for step in range(20):
            futures = [pool.submit(lambda: (barrier.wait(30), len(calls))) for _ in range(3)]
            assert {future.result(30)[1] for future in futures} == {step + 1}
    assert calls == [3] * 20


def test_more_threads_than_parties() -> None:
    """They pass in groups; who finds no room waits for it."""
    barrier = fresh(2)
    with ThreadPoolExecutor(8) as pool:
        results = [future.result(60) for future in [pool.submit(barrier.wait, 60) for _ in range(64)]]
    assert sorted(results) == [0] * 32 + [1] * 32


def test_who_comes_during_an_action_waits_for_the_next_round() -> None:
    """The round under way is complete."""
    inside, leave = threading.Event(), threading.Event()

    def action() -> None:
        inside.set()
        leave.wait(30)

    barrier = fresh(2, action)
    with ThreadPoolExecutor(4) as pool:
        first = [pool.submit(barrier.wait, 30) for _ in range(2)]
        assert inside.wait(30)
        second = [pool.submit(barrier.wait, 30) for _ in range(2)]
        assert not any(future.done() for future in [*first, *second])
        leave.set()
        for pair in (first, second):
            assert sorted(future.result(30) for future in pair) == [0, 1]


# --- breaking --------------------------------------------------------------------------------------------------------


def test_a_time_out_breaks_it_for_all() -> None:
    """Those who wait, and those who come later, until it is reset."""
    barrier = fresh(3)
    with ThreadPoolExecutor(1) as pool:
        waits = waiter(pool, barrier)
        with pytest.raises(shmkit.BrokenBarrier, match="no more time"):
            barrier.wait(0.01)
        with pytest.raises(threading.BrokenBarrierError):
            waits.result(30)  # type: ignore[attr-defined]
    assert barrier.broken
    assert barrier.n_waiting == 0
    assert repr(barrier).endswith("broken>")
    with pytest.raises(shmkit.BrokenBarrier, match="no more time"):
        barrier.wait()
    barrier.reset()
    assert not barrier.broken
    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(lambda _: barrier.wait(30), range(3))) == [0, 1, 2]


def test_the_default_time_out() -> None:
    """Is the one that it was made with."""
    barrier = fresh(2, timeout=0.01)
    with pytest.raises(shmkit.BrokenBarrier):
        barrier.wait()
    barrier.reset()
    with ThreadPoolExecutor(1) as pool:
        waits = waiter(pool, barrier, 30)
        assert barrier.wait(30) + waits.result(30) == 1  # type: ignore[attr-defined]


def test_a_time_out_while_the_action_runs_breaks_nothing() -> None:
    """All have come in time."""
    leave = threading.Event()
    barrier = fresh(2, lambda: leave.wait(30))
    with ThreadPoolExecutor(2) as pool:
        waits = waiter(pool, barrier, 0.3)
        acts = pool.submit(barrier.wait)
        # The others' time is over when a wait as long as theirs is.
        assert not threading.Event().wait(0.6)
        assert not waits.done()  # type: ignore[attr-defined]
        leave.set()
        assert acts.result(30) + waits.result(30) == 1  # type: ignore[attr-defined]
    assert not barrier.broken


def test_abort_breaks_it() -> None:
    """Until it is reset."""
    barrier = fresh(2)
    with ThreadPoolExecutor(1) as pool:
        waits = waiter(pool, barrier)
        barrier.abort()
        with pytest.raises(shmkit.BrokenBarrier, match="aborted"):
            waits.result(30)  # type: ignore[attr-defined]
    assert barrier.broken
    with pytest.raises(shmkit.BrokenBarrier, match="aborted"):
        barrier.wait()


def test_reset_sends_those_away_who_wait() -> None:
    """And leaves it whole: the next round passes, however slow they are to go."""
    barrier = fresh(3)
    with ThreadPoolExecutor(3) as pool:
        waits = [waiter(pool, barrier) for _ in range(2)]
        assert barrier.n_waiting == 2
        barrier.reset()
        assert not barrier.broken
        for future in waits:
            with pytest.raises(shmkit.BrokenBarrier, match="reset"):
                future.result(30)  # type: ignore[attr-defined]
        assert sorted(pool.map(lambda _: barrier.wait(30), range(3))) == [0, 1, 2]


def test_an_action_that_raises_breaks_it() -> None:
    """The exception goes to whoever called it; the others learn of it."""

    def action() -> None:
        raise LookupError("the action")

    barrier = fresh(2, action)
    with ThreadPoolExecutor(1) as pool:
        waits = waiter(pool, barrier)
        with pytest.raises(LookupError, match="the action"):
            barrier.wait()
        with pytest.raises(shmkit.BrokenBarrier, match="action raised"):
            waits.result(30)  # type: ignore[attr-defined]
    assert barrier.broken


def test_an_action_that_aborts_breaks_it_for_all() -> None:
    """Itself included."""

    def action() -> None:
        barrier.abort()

    barrier = fresh(2, action)
    with ThreadPoolExecutor(1) as pool:
        waits = waiter(pool, barrier)
        with pytest.raises(shmkit.BrokenBarrier, match="aborted"):
            barrier.wait()
        with pytest.raises(shmkit.BrokenBarrier, match="aborted"):
            waits.result(30)  # type: ignore[attr-defined]


def test_close_ends_the_wait_of_a_thread() -> None:
    """It has not come then; the others wait on."""
    barrier = fresh(2)
    twin = pickle.loads(pickle.dumps(barrier))
    with ThreadPoolExecutor(2) as pool:
        waits = waiter(pool, barrier)
        barrier.close()
        with pytest.raises(shmkit.Closed):
            waits.result(30)  # type: ignore[attr-defined]
        assert twin.n_waiting == 0
        again = waiter(pool, twin)
        assert twin.wait(30) + again.result(30) == 1  # type: ignore[attr-defined]


# --- names, places, pickles ------------------------------------------------------------------------------------------


def come(barrier: shmkit.Barrier, said: Connection, rounds: int) -> None:
    said.send([barrier.wait(60) for _ in range(rounds)])


def test_it_travels_to_children(process: Processes, start_method: BaseContext) -> None:
    """Under every start method; they meet there."""
    barrier = fresh(3)
    ends = []
    for _ in range(2):
        here, there = start_method.Pipe()
        process(come, barrier, there, 20, context=start_method)
        there.close()
        ends.append(here)
    own = [barrier.wait(60) for _ in range(20)]
    others = []
    for end in ends:
        assert end.poll(60)
        others.append(end.recv())
        end.close()
    assert all(sorted(numbers) == [0, 1, 2] for numbers in zip(own, *others, strict=True))


def noted() -> None:
    """An action that can be pickled."""


def test_action_and_time_out_travel_with_it() -> None:
    """As the standard library's do."""
    barrier = fresh(1, noted, 0.5)
    kind, segment, at, action, timeout = barrier.__reduce__()[1]
    assert (kind, at, action, timeout) == (shmkit.Barrier, 0, noted, 0.5)
    assert segment is barrier.segment
    assert pickle.loads(pickle.dumps(barrier)).wait() == 0


def test_by_name(name: str) -> None:
    """create, attach and create_or_attach find the same barrier; action and time-out are each one's own."""
    made = shmkit.Barrier.create(name, 2)
    with pytest.raises(shmkit.SegmentExists):
        shmkit.Barrier.create(name, 2)
    calls: list[int] = []
    found = shmkit.Barrier.attach(name, lambda: calls.append(1), 30)
    again = shmkit.Barrier.create_or_attach(name, 2, lambda: calls.append(2))
    assert (found.parties, again.parties) == (2, 2)
    with ThreadPoolExecutor(1) as pool:
        waits = waiter(pool, made)
        assert found.wait() + waits.result(30) == 1  # type: ignore[attr-defined]
        waits = waiter(pool, made)
        assert again.wait(30) + waits.result(30) == 1  # type: ignore[attr-defined]
    assert calls == [1, 2]
    with pytest.raises(ValueError, match="exists with 2 parties"):
        shmkit.Barrier.create_or_attach(name, 3)
    with pytest.raises(shmkit.LayoutMismatch, match="kind of a Lock"):
        shmkit.Lock.attach(name)
    made.unlink()


def test_at_an_offset() -> None:
    """It stands where it is put, and only there; and does not believe what stands there otherwise."""
    segment = shmkit.Segment.create(size=4096)
    made = shmkit.Barrier.create_at(segment, 128, 4)
    found = shmkit.Barrier.attach_at(segment, 128)
    assert (found.parties, found.offset, found.nbytes) == (4, 128, 256 + 48 * 4)
    with ThreadPoolExecutor(1) as pool:
        waits = waiter(pool, made)
        assert found.n_waiting == 1
        found.abort()
        with pytest.raises(shmkit.BrokenBarrier):
            waits.result(30)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="bytes"):
        shmkit.Barrier.create_at(segment, 128, 100)
    for parties in (0, 1000, 5000):
        segment.buf[136:140] = parties.to_bytes(4, "little")
        with pytest.raises(shmkit.LayoutMismatch):
            shmkit.Barrier.attach_at(segment, 128)


def anonymous() -> None:
    assert shmkit.Barrier(1).wait() == 0
    assert shmkit.Barrier(4000).parties == 4000
    barrier = shmkit.Barrier(2)
    with pytest.raises(TypeError, match="called again"):
        barrier.__init__(2)  # type: ignore[misc]
    with pytest.raises(shmkit.BrokenBarrier):
        barrier.wait(0)


def test_anonymous_ones(process: Processes) -> None:
    """In a child, since the segment that they share stays with the process."""
    child = process(anonymous)
    child.join(30)
    assert child.exitcode == 0


# --- the rest --------------------------------------------------------------------------------------------------------


def test_what_it_says_of_itself(name: str) -> None:
    """How many wait for how many."""
    barrier = shmkit.Barrier.create(name, 2)
    assert repr(barrier).startswith(f"<shmkit.Barrier {name!r} at 0x")
    assert repr(barrier).endswith("waiters=0/2>")
    with ThreadPoolExecutor(1) as pool:
        waits = waiter(pool, barrier)
        assert repr(barrier).endswith("waiters=1/2>")
        barrier.wait(30)
        waits.result(30)  # type: ignore[attr-defined]
    barrier.unlink()
    barrier.close()
    assert repr(barrier).endswith("closed>")


def test_closed() -> None:
    """A closed handle says so, whatever is asked of it."""
    barrier = fresh()
    barrier.close()
    barrier.close()
    for call in (barrier.wait, barrier.abort, barrier.reset, lambda: barrier.broken, lambda: barrier.n_waiting):
        with pytest.raises(shmkit.Closed):
            call()


def test_bad_arguments() -> None:
    """Are refused before anything happens."""
    for parties in (0, -1, 4097):
        with pytest.raises(ValueError, match="parties"):
            shmkit.Barrier(parties)
    with pytest.raises(TypeError):
        shmkit.Barrier("2")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="action"):
        shmkit.Barrier(2, 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        shmkit.Barrier(2, None, "1")  # type: ignore[arg-type]
    barrier = fresh()
    with pytest.raises(ValueError, match="nan"):
        barrier.wait(float("nan"))
    assert barrier.n_waiting == 0


def test_a_broken_barrier_travels() -> None:
    """The exception keeps its pid in a pickle, and is both what shmkit and what threading raise."""
    error = pickle.loads(pickle.dumps(shmkit.BrokenBarrier("process 5 died", 5)))
    assert (str(error), error.pid) == ("process 5 died", 5)
    assert isinstance(error, shmkit.LockError)
    assert isinstance(error, threading.BrokenBarrierError)
    assert shmkit.BrokenBarrier("aborted").pid == 0
