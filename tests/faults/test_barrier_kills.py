"""SIGKILL of those who meet at a barrier, at every failpoint and random instants (``killing_barrier.py`` runs them)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest

import shmkit
from support import PACKAGE, REPOSITORY, Processes, wait_until

PROGRAM = Path(__file__).with_name("killing_barrier.py")


def fresh(parties: int) -> shmkit.Barrier:
    """One in a segment of its own, which goes with the test."""
    return shmkit.Barrier.create_at(shmkit.Segment.create(size=1024), 0, parties)


def failpoints() -> list[str]:
    """Every failpoint that the header names."""
    return sorted(set(re.findall(r'FAILPOINT\("([a-z.]+)"\)', (PACKAGE / "_barrier.h").read_text())))


def trials(process: Processes, env: dict[str, str], *words: str, watchdog: float) -> list[dict[str, object]]:
    """What the program says of each trial; AssertionError with its traceback if a promise was broken."""
    path = f"{env['PYTHONPATH']}:{REPOSITORY / 'tests'}" if env.get("PYTHONPATH") else str(REPOSITORY / "tests")
    program = process.python(PROGRAM, *words, env={**env, "PYTHONPATH": path}, stderr=subprocess.PIPE)
    output, complaints = program.communicate(timeout=watchdog)
    assert program.returncode == 0, f"after {output[-300:]}\n{complaints}"
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_is_killed_at_every_failpoint(process: Processes, debug_env: dict[str, str]) -> None:
    """The others are told who died, and after a reset the barrier is whole."""
    names = failpoints()
    results = trials(process, debug_env, "failpoints", *names, watchdog=580)
    assert {result["failpoint"] for result in results if result["killed"]} == set(names)
    assert all(result["broke"] for result in results if result["killed"])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_is_killed_at_300_random_instants(process: Processes) -> None:
    """The same, wherever it is: waiting, passing, or between two rounds."""
    results = trials(process, dict(os.environ), "instants", "300", "1", watchdog=280)
    assert len(results) == 300
    assert all(result["broke"] for result in results)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_one_is_killed_at_5000_random_instants(process: Processes) -> None:
    """The same, for long."""
    trials(process, dict(os.environ), "instants", "5000", "2", watchdog=3500)


def come(barrier: shmkit.Barrier, said: Connection, rounds: int, then: str) -> None:
    for _ in range(rounds):
        said.send(barrier.wait(60))
    if then == "close":
        barrier.close()
    if then != "end":
        said.recv()


def told(barrier: shmkit.Barrier, said: Connection) -> None:
    """Waits twice; says what it is told the second time."""
    barrier.wait(60)
    try:
        barrier.wait(60)
    except shmkit.BrokenBarrier as error:
        said.send(error)


def test_who_is_killed_between_two_rounds_breaks_it(process: Processes) -> None:
    """It has passed, and would have had to come again."""
    barrier = fresh(3)
    here, there = Pipe()
    back, forth = Pipe()
    with here, there, back, forth:
        dies = process(come, barrier, there, 1, "stay")
        process(told, barrier, forth)
        barrier.wait(60)
        assert here.poll(30)
        here.recv()
        wait_until(lambda: barrier.n_waiting == 1)
        dies.kill()
        with pytest.raises(shmkit.BrokenBarrier, match=f"process {dies.pid} died") as error:
            barrier.wait(60)
        assert error.value.pid == dies.pid
        assert back.poll(30)
        assert back.recv().pid == dies.pid
    assert barrier.broken


@pytest.mark.parametrize("then", ["close", "end"])
def test_who_leaves_in_order_does_not_break_it(process: Processes, start_method: BaseContext, then: str) -> None:
    """By a close, or at the end of its process: another one takes its place."""
    barrier = fresh(2)
    here, there = start_method.Pipe()
    with here, there:
        child = process(come, barrier, there, 1, then, context=start_method)
        barrier.wait(60)
        assert here.poll(60)
        here.recv()
        if then == "close":
            wait_until(lambda: crew(barrier) == 1)
            child.kill()
        child.join(60)
        assert crew(barrier) == 1
        with pytest.raises(shmkit.BrokenBarrier, match="no more time"):
            barrier.wait(0.3)  # some slices, in each of which it asks about the dead
        barrier.reset()
        process(come, barrier, there, 1, "end", context=start_method)
        assert barrier.wait(60) in (0, 1)


def crew(barrier: shmkit.Barrier) -> int:
    """How many are on the crew's list, as the layout draws it."""
    at = barrier.offset + 256 + 32 * barrier.parties
    words = bytes(barrier.segment.buf[at : at + 16 * barrier.parties])
    return sum(words[8 * i : 8 * i + 8] != bytes(8) for i in range(2 * barrier.parties))


SCRIPT = """
import sys, shmkit
barrier = shmkit.Barrier.attach(sys.argv[1])
barrier.wait(60)
if sys.argv[2] == "drop":
    del barrier
"""


@pytest.mark.parametrize("how", ["end", "drop"])
def test_a_program_that_ends_leaves_in_order(process: Processes, name: str, how: str) -> None:
    """Also where its handle dies before."""
    barrier = shmkit.Barrier.create(name, 2)
    program = process.python(SCRIPT, name, how)
    barrier.wait(60)
    assert program.wait(60) == 0
    assert crew(barrier) == 1
    barrier.unlink()


def die_in_the_action(barrier: shmkit.Barrier) -> None:
    barrier.wait(60)


def test_the_one_that_acts_is_killed(process: Processes) -> None:
    """The others, who wait for the action to end, are told; so is who comes then."""
    parent = os.getpid()

    def action() -> None:
        assert os.getpid() != parent
        os.kill(os.getpid(), signal.SIGKILL)

    barrier = shmkit.Barrier.create_at(shmkit.Segment.create(size=1024), 0, 2, action)
    here, there = Pipe()
    with here, there:
        waits = process(say_what_is_raised, barrier, there)
        wait_until(lambda: barrier.n_waiting == 1)
        dies = process(die_in_the_action, barrier)
        assert here.poll(30)
        assert here.recv().pid == dies.pid
        waits.join(30)
    with pytest.raises(shmkit.BrokenBarrier, match=f"process {dies.pid} died"):
        barrier.wait(60)


def say_what_is_raised(barrier: shmkit.Barrier, said: Connection) -> None:
    try:
        barrier.wait(60)
    except shmkit.BrokenBarrier as error:
        said.send(error)


def as_child(barrier: shmkit.Barrier) -> None:
    assert barrier.n_waiting == 0
    barrier.close()


def test_a_forked_child_that_closes_does_not_leave_for_its_parent(process: Processes) -> None:
    """It was never there."""
    barrier = fresh(1)
    barrier.wait()
    child = process(as_child, barrier)
    child.join(30)
    assert child.exitcode == 0
    assert crew(barrier) == 1
    assert barrier.wait(30) == 0


class Interrupted(Exception):
    """What the handler raises, the first time."""


def interrupted(barrier: shmkit.Barrier, said: Connection) -> None:
    """Waits, until a signal's handler raises; then waits on, through other signals, until it passes."""
    raising = [True]

    def handler(*_: object) -> None:
        if raising.pop():
            raise Interrupted

    signal.signal(signal.SIGUSR1, handler)
    said.send(None)
    with pytest.raises(Interrupted):
        barrier.wait()
    signal.signal(signal.SIGUSR1, lambda *_: None)
    said.send(barrier.n_waiting)
    barrier.wait(60)


def test_signals_in_waits(process: Processes) -> None:
    """Whoever is interrupted has not come; the barrier is whole.  A handler that returns changes nothing."""
    barrier = fresh(2)
    here, there = Pipe()
    with here, there:
        child = process(interrupted, barrier, there)
        assert child.pid is not None
        assert here.poll(30)
        here.recv()
        wait_until(lambda: barrier.n_waiting == 1)
        os.kill(child.pid, signal.SIGUSR1)
        assert here.poll(30)
        assert here.recv() == 0
        wait_until(lambda: barrier.n_waiting == 1)
        for _ in range(20):
            os.kill(child.pid, signal.SIGUSR1)
        assert barrier.wait(60) == 1
        child.join(30)
        assert child.exitcode == 0
