"""SIGKILL of readers and writers, at every failpoint and at random instants (``killing_rwlock.py`` runs the trials)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import shmkit
from support import PACKAGE, REPOSITORY, Processes, wait_until

PROGRAM = Path(__file__).with_name("killing_rwlock.py")
HEADERS = ("_rwlock.h", "_rwlock_wait.h")


def failpoints() -> list[str]:
    """Every failpoint that the headers name."""
    text = "".join((PACKAGE / header).read_text() for header in HEADERS)
    return sorted(set(re.findall(r'FAILPOINT\("([a-z.]+)"\)', text)))


def trials(process: Processes, env: dict[str, str], *words: str, watchdog: float) -> list[dict[str, object]]:
    """What the program says of each trial; AssertionError with its traceback if a promise was broken."""
    path = f"{env['PYTHONPATH']}:{REPOSITORY / 'tests'}" if env.get("PYTHONPATH") else str(REPOSITORY / "tests")
    program = process.python(PROGRAM, *words, env={**env, "PYTHONPATH": path}, stderr=subprocess.PIPE)
    output, complaints = program.communicate(timeout=watchdog)
    assert program.returncode == 0, f"after {output[-300:]}\n{complaints}"
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_user_is_killed_at_every_failpoint(process: Processes, debug_env: dict[str, str]) -> None:
    """Nobody hangs, no reader sees a change that was cut short, and one is told of a writer that died."""
    names = failpoints()
    results = trials(process, debug_env, "failpoints", *names, watchdog=580)
    assert {result["failpoint"] for result in results if result["killed"]} == set(names)
    # Who died while it held the lock: of that somebody is told, where that was asked for.
    for result in results:
        if result["killed"] and result["strict"] and result["failpoint"] in ("rwlock.held", "rwlock.give"):
            assert result["told"], result


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_user_is_killed_at_300_random_instants(process: Processes) -> None:
    """The same, wherever it is."""
    results = trials(process, dict(os.environ), "instants", "300", "1", watchdog=280)
    assert len(results) == 300
    assert any(result["told"] for result in results)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_user_is_killed_at_10000_random_instants(process: Processes) -> None:
    """The same, for long."""
    trials(process, dict(os.environ), "instants", "10000", "2", watchdog=3500)


def fresh(**arguments: str) -> shmkit.RWLock:
    """One in a segment of its own, which goes with the test."""
    return shmkit.RWLock.create_at(shmkit.Segment.create(size=2048), **arguments)  # type: ignore[arg-type]


def hold(lock: shmkit.RWLock, side: str, said: Connection) -> None:
    getattr(lock, side).acquire()
    said.send(None)
    said.recv()


def killed_while_holding(process: Processes, lock: shmkit.RWLock, side: str) -> int:
    """The pid of a child that was killed while it held that side."""
    here, there = Pipe()
    with here, there:
        child = process(hold, lock, side, there)
        assert here.poll(30)
        child.kill()
        child.join(30)
    assert child.pid is not None
    return child.pid


def test_a_dead_reader_is_forgotten(process: Processes) -> None:
    """The next writer gets in, without a word, whether it waits or tries."""
    lock = fresh()
    killed_while_holding(process, lock, "read")
    with lock.write:
        assert lock.readers == 0
    killed_while_holding(process, lock, "read")
    wait_until(lambda: lock.write.acquire(block=False))
    lock.write.release()


@pytest.mark.parametrize("side", ["read", "write"])
def test_whoever_comes_next_is_told_of_a_dead_writer(process: Processes, side: str) -> None:
    """It then holds the lock for writing; when it has recovered and released it, all is as before."""
    lock = fresh()
    pid = killed_while_holding(process, lock, "write")
    with pytest.raises(shmkit.OwnerDied, match=f"process {pid} died") as told:
        getattr(lock, side).acquire()
    assert told.value.pid == pid
    assert lock.writer_pid == os.getpid()
    assert "inherited" in repr(lock)
    lock.recover()
    getattr(lock, side).release()
    assert not lock.locked()
    with lock.read:
        pass


def test_a_lock_that_nobody_recovered_is_lost(process: Processes) -> None:
    """Both sides say so, from then on."""
    lock = fresh()
    killed_while_holding(process, lock, "write")
    with pytest.raises(shmkit.OwnerDied):
        lock.write.acquire()
    lock.write.release()
    assert repr(lock).startswith("<lost")
    for side in (lock.read, lock.write):
        for arguments in ({}, {"block": False}, {"timeout": 1}):
            with pytest.raises(shmkit.NotRecoverable):
                side.acquire(**arguments)


@pytest.mark.parametrize("side", ["read", "write"])
def test_recovered_without_a_word_where_that_was_asked_for(process: Processes, side: str) -> None:
    """``on_owner_death="recover"``: as if the dead one had released it."""
    lock = fresh(on_owner_death="recover")
    for _ in range(2):
        killed_while_holding(process, lock, "write")
        with getattr(lock, side):
            assert lock.readers == (side == "read")
    assert not lock.locked()


class Interrupted(Exception):
    """What the handler raises, the first time."""


def interrupted(lock: shmkit.RWLock, side: str, said: Connection) -> None:
    """Waits, until a signal's handler raises; then waits on, through other signals, until it gets in."""
    raising = [True]

    def handler(*_: object) -> None:
        if raising.pop():
            raise Interrupted

    signal.signal(signal.SIGUSR1, handler)
    with pytest.raises(Interrupted):
        said.send(None)
        getattr(lock, side).acquire()
    signal.signal(signal.SIGUSR1, lambda *_: None)
    said.send(None)
    assert getattr(lock, side).acquire(timeout=60)
    getattr(lock, side).release()


@pytest.mark.parametrize(("holds", "side"), [("read", "write"), ("write", "read"), ("write", "write")])
def test_signals_in_waits(process: Processes, holds: str, side: str) -> None:
    """A handler that raises ends the wait, which leaves nothing behind; one that does not changes nothing."""
    lock = fresh()
    here, there = Pipe()
    with here, there:
        getattr(lock, holds).acquire()
        child = process(interrupted, lock, side, there)
        assert child.pid is not None
        assert here.poll(30)
        here.recv()
        os.kill(child.pid, signal.SIGUSR1)
        assert here.poll(30)
        here.recv()
        for _ in range(20):
            os.kill(child.pid, signal.SIGUSR1)
        getattr(lock, holds).release()
        child.join(30)
        assert child.exitcode == 0
    with lock.write:
        assert lock.readers == 0
