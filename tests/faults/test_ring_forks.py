"""A forked child of a ring's end never acts for its parent, wherever the parent stood when it forked."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

import shmkit
from faults.killing import number_of, record
from support import Processes, alive, wait_until
from support.log import Log

WATCHDOG = 30.0


@pytest.fixture(params=["anonymous", "leased", "named"])
def ring(request: pytest.FixtureRequest, name: str) -> Iterator[shmkit.Ring]:
    """With a name, it goes with its last process, or stays until it is unlinked."""
    if request.param == "anonymous":
        with shmkit.Ring.create(capacity=4096) as ring:
            yield ring
        return
    with shmkit.Ring.create(name, 4096, lifetime=request.param) as ring:
        yield ring
        # Whatever the children did, the name is still there.
        with shmkit.Ring.attach(name) as other:
            assert other.capacity == 4096
        if request.param == "named":
            ring.unlink()


def as_child(ring: shmkit.Ring, view: shmkit.RecordView, slot: shmkit.Reservation) -> None:
    """What the parent holds is void here, and its roles are taken."""
    assert not view.valid
    view.release()
    with pytest.raises(ValueError, match="committed or aborted"):
        slot.commit()
    with pytest.raises(shmkit.RoleTaken, match="producer"):
        ring.try_send(b"child")
    with pytest.raises(shmkit.RoleTaken, match="consumer"):
        ring.try_recv()
    ring.close()


def test_a_child_cannot_release_commit_or_close_for_its_parent(process: Processes, ring: shmkit.Ring) -> None:
    """View, reservation and both roles are as they were when the child has ended."""
    ring.send(b"held")
    view = ring.recv_view()
    slot = ring.reserve(4)
    child = process(as_child, ring, view, slot)
    child.join(WATCHDOG)
    assert child.exitcode == 0
    assert view.valid
    assert bytes(view.buf) == b"held"
    slot.buf[:] = b"sent"
    slot.commit()
    view.release()
    assert ring.recv(timeout=WATCHDOG) == b"sent"


# ── where the parent stands ─────────────────────────────────────────────────────────────────────────────────────────
# Each takes both ends and yields in the middle of something; what it began must end well when the children are gone.


@contextmanager
def in_a_view(ring: shmkit.Ring) -> Iterator[None]:
    ring.send(record(0))
    with ring.recv_view() as view:
        yield
        assert number_of(view) == 0


@contextmanager
def in_a_reservation(ring: shmkit.Ring) -> Iterator[None]:
    assert ring.try_recv() is None
    data = record(0)
    with ring.reserve(len(data)) as slot:
        slot[:10] = data[:10]
        yield
        slot[10:] = data[10:]
    assert number_of(ring.recv(timeout=WATCHDOG)) == 0


@contextmanager
def while_a_thread_receives(ring: shmkit.Ring) -> Iterator[None]:
    with in_a_thread(lambda: number_of(ring.recv(timeout=WATCHDOG))) as received:
        wait_until(lambda: ring.statistics().consumer_waits)
        ring.reserve(8).abort()  # takes the other end
        yield
        ring.send(record(0))
        assert received.result(WATCHDOG) == 0


@contextmanager
def while_a_thread_sends(ring: shmkit.Ring) -> Iterator[None]:
    number = 0
    while ring.try_send(record(number)):
        number += 1
    assert ring.peek() is not None
    with in_a_thread(lambda: ring.send(record(number), timeout=WATCHDOG)) as sent:
        wait_until(lambda: ring.statistics().producer_waits)
        yield
        for expected in range(number + 1):
            assert number_of(ring.recv(timeout=WATCHDOG)) == expected
        sent.result(WATCHDOG)


@contextmanager
def in_a_thread(action: Callable[[], object]) -> Iterator[Future[object]]:
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(action)


PLACES = [in_a_view, in_a_reservation, while_a_thread_receives, while_a_thread_sends]


# ── and how the child ends ──────────────────────────────────────────────────────────────────────────────────────────


def leaves_in_order(ring: shmkit.Ring) -> None:
    """By the end of its function: whatever closes rings at the end of a process runs."""


def vanishes(ring: shmkit.Ring) -> None:
    os._exit(0)


def is_killed(ring: shmkit.Ring) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def closes(ring: shmkit.Ring) -> None:
    ring.close()
    with pytest.raises(shmkit.Closed):
        ring.try_recv()


def is_refused(ring: shmkit.Ring) -> None:
    holder = ring.statistics().producer_pid
    for _ in range(2):
        for call in (lambda: ring.send(b"x", WATCHDOG), lambda: ring.try_send(b"x"), lambda: ring.reserve(1)):
            with pytest.raises(shmkit.RoleTaken, match=f"producer already: process {holder}"):
                call()
        for receive in (ring.recv, ring.try_recv, ring.peek, ring.recv_view, ring.recv_many):
            with pytest.raises(shmkit.RoleTaken, match=f"consumer already: process {holder}"):
                receive()


def forks_on(ring: shmkit.Ring) -> None:
    """A grandchild is no other than a child."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            is_refused(ring)
            ring.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    is_refused(ring)


@pytest.mark.parametrize("ring", ["anonymous", "leased"], indirect=True)
@pytest.mark.parametrize("ends", [leaves_in_order, vanishes, is_killed, closes, is_refused, forks_on])
@pytest.mark.parametrize("place", PLACES)
def test_a_parent_goes_on_whatever_its_child_does(
    process: Processes, ring: shmkit.Ring, place: Callable[..., object], ends: Callable[[shmkit.Ring], None]
) -> None:
    """Nothing is released, committed or closed for it; what it was in the middle of is finished, and so is a stream."""
    with place(ring):  # type: ignore[attr-defined]
        before = ring.statistics()
        child = process(ends, ring)
        child.join(WATCHDOG)
        assert child.exitcode == (-signal.SIGKILL if ends is is_killed else 0)
        after = ring.statistics()
        assert (after.sent, after.received, after.used) == (before.sent, before.received, before.used)
        assert after.producer_pid == after.consumer_pid == os.getpid()
    for number in range(100):  # round the ring several times
        ring.send(record(number), timeout=WATCHDOG)
        assert number_of(ring.recv(timeout=WATCHDOG)) == number
    assert ring.statistics().used == 0


# ── a child may take what is free ───────────────────────────────────────────────────────────────────────────────────


def test_a_child_receives_what_its_parent_had_reserved(process: Processes, ring: shmkit.Ring) -> None:
    """Forked within a reservation, it becomes the consumer; the parent commits, and goes on sending."""

    def consume() -> None:
        for expected in range(100):
            assert number_of(ring.recv(timeout=WATCHDOG)) == expected

    data = record(0)
    with ring.reserve(len(data)) as slot:
        child = process(consume)
        wait_until(lambda: ring.statistics().consumer_pid == child.pid)
        slot[:] = data
    for number in range(1, 100):
        ring.send(record(number), timeout=WATCHDOG)
    child.join(WATCHDOG)
    assert child.exitcode == 0


def test_a_child_sends_to_the_thread_that_its_parent_left_waiting(process: Processes, ring: shmkit.Ring) -> None:
    """Forked while a thread sleeps in recv, it becomes the producer, and is heard of until it closes."""

    def produce() -> None:
        for number in range(100):
            ring.send(record(number), timeout=WATCHDOG)

    with in_a_thread(lambda: [number_of(item) for item in ring]) as numbers:
        wait_until(lambda: ring.statistics().consumer_waits)
        child = process(produce)
        assert numbers.result(WATCHDOG) == list(range(100))
    child.join(WATCHDOG)
    assert child.exitcode == 0


@pytest.mark.parametrize("ring", ["anonymous", "named"], indirect=True)
@pytest.mark.parametrize("role", ["producer", "consumer"])
def test_a_death_is_seen_though_a_forked_child_and_a_program_live_on(
    process: Processes, ring: shmkit.Ring, role: str
) -> None:
    """Neither the child nor the program that the dead one started with all its descriptors holds its role."""
    log = Log()

    def victim() -> None:
        if role == "producer":
            ring.send(record(0))
        else:
            assert number_of(ring.recv(timeout=WATCHDOG)) == 0
        program = subprocess.Popen(["sleep", "60"], close_fds=False)
        pid = os.fork()
        if pid == 0:
            signal.pause()
        log[0], log[1] = pid, program.pid
        signal.pause()

    child = process(victim)
    if role == "consumer":
        ring.send(record(0))
    else:
        assert number_of(ring.recv(timeout=WATCHDOG)) == 0
    orphans = wait_until(lambda: log[1] and [log[0], log[1]])
    assert isinstance(orphans, list)
    try:
        child.kill()
        with pytest.raises(shmkit.PeerDied) as death:
            while True:
                ring.send(record(1), WATCHDOG) if role == "consumer" else ring.recv(WATCHDOG)
        assert death.value.pid == child.pid
        assert all(alive(pid) for pid in orphans)
    finally:
        for pid in orphans:
            os.kill(pid, signal.SIGKILL)
