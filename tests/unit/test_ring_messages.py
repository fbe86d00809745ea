"""What a ring says when it cannot: which ring, what is wrong, and the value that matters."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import shmkit
from support import Processes, wait_until
from unit import ring_children

CAPACITY = 1024
WATCHDOG = 30.0


def full(ring: shmkit.Ring) -> shmkit.Ring:
    while ring.try_send(bytes(100)):
        pass
    return ring


def closed(ring: shmkit.Ring) -> shmkit.Ring:
    ring.close()
    return ring


EMPTY = "RING was empty for all of the time-out"
FULL = "RING was full for all of the time-out"

# What is done to a ring that is empty; the exception, and what it says of "RING".
SAYINGS: dict[str, tuple[Callable[[shmkit.Ring], object], type[Exception], str]] = {
    "empty": (lambda ring: ring.recv(0.01), TimeoutError, EMPTY),
    "empty, a view": (lambda ring: ring.recv_view(0.01), TimeoutError, EMPTY),
    "full": (lambda ring: full(ring).send(bytes(100), 0.01), TimeoutError, FULL),
    "full, a slot": (lambda ring: full(ring).reserve(100, None, 0), TimeoutError, FULL),
    "closed": (lambda ring: closed(ring).recv(), shmkit.Closed, "RING was closed by this process"),
    "closed, sending": (lambda ring: closed(ring).try_send(b"x"), shmkit.Closed, "RING was closed by this process"),
    "too large": (
        lambda ring: ring.send(bytes(1017)),
        shmkit.RecordTooLarge,
        "a record of 1017 bytes can never fit: RING of capacity 1024 takes at most 1016",
    ),
    "an array too large": (
        lambda ring: ring.send(np.zeros(1024, "u1")),
        shmkit.RecordTooLarge,
        r"a record of 1024 bytes can never fit: RING of capacity 1024 takes at most \d+",
    ),
    "a shape too large": (
        lambda ring: ring.reserve((2**40, 2**40), "f8"),
        shmkit.RecordTooLarge,
        re.escape(f"an array of shape {(2**40, 2**40)} can never fit (RING)"),
    ),
    "a small buffer": (
        lambda ring: (ring.send(bytes(9)), ring.recv_into(bytearray(8))),
        ValueError,
        r"a record of 9 bytes does not fit a buffer of 8 \(RING\)",
    ),
    "another itemsize": (
        lambda ring: (ring.send(bytes(9)), ring.recv_many_into(bytearray(80), 8)),
        ValueError,
        r"the next record has 9 bytes: itemsize is 8 \(RING\)",
    ),
    "an open reservation": (
        lambda ring: (slot := ring.reserve(8), ring.send(b"x"), slot),
        RuntimeError,
        "RING has an open reservation: commit or abort it first",
    ),
    "a wrong capacity": (
        lambda ring: shmkit.Ring.create(ring.name, 1000),
        ValueError,
        r"capacity must be a power of two, at least 1024: got 1000 \(ring NAME\); the next one is 1 KiB",
    ),
}


@pytest.mark.parametrize("named", [True, False], ids=["named", "anonymous"])
@pytest.mark.parametrize("case", SAYINGS)
def test_a_message_says_rule_value_and_name(name: str, case: str, named: bool) -> None:
    """The whole text, for a ring with a name and for one without."""
    action, error, saying = SAYINGS[case]
    label = re.escape(f"ring {name!r}") if named else "the anonymous ring"
    saying = saying.replace("RING", label).replace("NAME", re.escape(repr(name if named else None)))
    with shmkit.Ring.create(name if named else None, CAPACITY, lifetime="leased") as ring:
        with pytest.raises(error) as caught:
            action(ring)
        assert re.fullmatch(saying, str(caught.value))


@pytest.mark.parametrize("named", [True, False], ids=["named", "anonymous"])
@pytest.mark.parametrize("how", ["closed", "died"])
@pytest.mark.parametrize("role", ["producer", "consumer"])
def test_the_other_ends_going_is_told_with_its_process(
    process: Processes, name: str, role: str, how: str, named: bool
) -> None:
    """Which end has gone, in which way, and what that means for the caller; the death's pid is an attribute too."""
    label = f"ring {name!r}" if named else "the anonymous ring"
    with shmkit.Ring.create(name if named else None, CAPACITY, lifetime="leased") as ring:
        if role == "producer":
            leave = ring_children.send_and_vanish if how == "died" else ring_children.send_all
            child = process(leave, ring, [b"x"])
            assert ring.recv(timeout=WATCHDOG) == b"x"
            action: Callable[[], object] = lambda: ring.recv(timeout=WATCHDOG)  # noqa: E731
        else:
            child = process(vanish_after_one if how == "died" else receive_one, ring)
            ring.send(b"x")
            wait_until(lambda: ring.statistics().received)
            action = lambda: [ring.send(bytes(100), timeout=WATCHDOG) for _ in range(20)]  # noqa: E731
        child.join(WATCHDOG)
        told = {
            ("producer", "closed"): "{}: its producer has closed it, and everything is received",
            ("producer", "died"): "{}: its producer, process {}, has died; all that it had committed is received",
            ("consumer", "closed"): "{} is full and its consumer has closed it",
            ("consumer", "died"): "{} is full and its consumer, process {}, has died",
        }[role, how].format(label, child.pid)
        error = {"died": shmkit.PeerDied, "closed": shmkit.EndOfStream if role == "producer" else shmkit.Broken}[how]
        with pytest.raises(error) as caught:
            action()
        error_number = "" if error is shmkit.EndOfStream else f"[Errno {errno.EPIPE}] "
        assert str(caught.value) == error_number + told
        assert type(caught.value) is error
        assert how == "closed" or caught.value.pid == child.pid


def receive_one(ring: shmkit.Ring) -> None:
    ring.recv(timeout=WATCHDOG)


def vanish_after_one(ring: shmkit.Ring) -> None:
    ring.recv(timeout=WATCHDOG)
    os._exit(0)


@pytest.mark.parametrize("role", ["producer", "consumer"])
def test_a_taken_role_is_told_with_its_process(process: Processes, name: str, role: str) -> None:
    """Who has it, and until when."""
    with shmkit.Ring.create(name, CAPACITY, lifetime="leased", role=role) as ring:

        def child() -> None:
            with pytest.raises(shmkit.RoleTaken) as caught:
                ring.try_send(b"x") if role == "producer" else ring.try_recv()
            assert str(caught.value) == (
                f"ring {name!r} has a {role} already: process {os.getppid()}. One process at a time may be it, until "
                "it closes the ring or ends"
            )

        other = process(child)
        other.join(WATCHDOG)
        assert other.exitcode == 0


@pytest.mark.parametrize("role", ["producer", "consumer"])
def test_waiting_for_another_thread_is_told_with_the_time(name: str, role: str) -> None:
    """That it is this process's own doing, and how long it took."""
    with shmkit.Ring.create(name, CAPACITY, lifetime="leased") as ring, ThreadPoolExecutor(1) as pool:
        if role == "producer":
            other = pool.submit(full(ring).send, bytes(100), WATCHDOG)
            wait_until(lambda: ring.statistics().producer_waits)
            with pytest.raises(TimeoutError) as caught:
                ring.send(b"x", 0.05)
            ring.recv()
        else:
            other = pool.submit(ring.recv, WATCHDOG)
            wait_until(lambda: ring.statistics().consumer_waits)
            with pytest.raises(TimeoutError) as caught:
                ring.recv(0.05)
            ring.send(b"x")
        other.result(WATCHDOG)
        doing = "sending" if role == "producer" else "receiving"
        assert str(caught.value) == f"ring {name!r}: another thread was {doing} for 0.05 s"
