"""An end of a ring that becomes another program by exec is gone: its memory is, though its process id lives on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

import shmkit
from faults.killing import number_of, record
from support import Processes, alive

WATCHDOG = 30.0


@pytest.fixture(params=["anonymous", "named"])
def ring(request: pytest.FixtureRequest, name: str) -> Iterator[shmkit.Ring]:
    with shmkit.Ring.create(None if request.param == "anonymous" else name, capacity=1024) as ring:
        yield ring
        if ring.name is not None:
            ring.unlink()  # a program that inherited descriptors keeps a lease on the name


def become_another_program(inheritable: bool) -> None:
    if inheritable:
        for number in map(int, os.listdir("/proc/self/fd")):
            try:
                os.set_inheritable(number, True)
            except OSError:  # noqa: PERF203
                pass  # the listing's own
    os.execv("/bin/sleep", ["sleep", "60"])


@pytest.mark.parametrize("inheritable", [False, True], ids=["cloexec", "inheritable"])
@pytest.mark.parametrize("holds", [False, True], ids=["at rest", "in the middle"])
@pytest.mark.parametrize("role", ["producer", "consumer"])
def test_the_other_end_is_told(
    process: Processes, ring: shmkit.Ring, role: str, holds: bool, inheritable: bool
) -> None:
    """PeerDied, though a process with that id lives; what it had in the middle is not sent, or comes again."""

    def end() -> None:
        if role == "producer":
            ring.send(record(0))
            slot = ring.reserve(10) if holds else None
        else:
            assert number_of(ring.recv(timeout=WATCHDOG)) == 0
            slot = ring.recv_view(timeout=WATCHDOG) if holds else None  # noqa: F841
        become_another_program(inheritable)

    child = process(end)
    if role == "producer":
        assert number_of(ring.recv(timeout=WATCHDOG)) == 0
        with pytest.raises(shmkit.PeerDied) as death:
            ring.recv(timeout=WATCHDOG)
    else:
        number = 0
        with pytest.raises(shmkit.PeerDied) as death:
            while True:
                ring.send(record(number), timeout=WATCHDOG)
                number += 1
        for expected in range(1, number):
            assert number_of(ring.recv(timeout=WATCHDOG)) == expected
    assert death.value.pid == child.pid
    assert alive(death.value.pid)
    ring.send(bytes(1016), timeout=WATCHDOG)  # the whole capacity
    assert ring.recv(timeout=WATCHDOG) == bytes(1016)


def test_the_new_program_may_come_back_as_the_same_end(process: Processes, name: str) -> None:
    """It attaches by name like any other; its process id is that of the dead one."""
    code = "import shmkit, sys; shmkit.Ring.attach(sys.argv[1]).send(b'after')"
    with shmkit.Ring.create(name, 1024, lifetime="leased") as ring:

        def end() -> None:
            ring.send(b"before")
            os.execv(sys.executable, [sys.executable, "-c", code, name])

        child = process(end)
        assert ring.recv(timeout=WATCHDOG) == b"before"
        while True:
            try:
                assert ring.recv(timeout=WATCHDOG) == b"after"
                break
            except shmkit.PeerDied as death:
                assert death.pid == child.pid
        with pytest.raises(shmkit.EndOfStream):
            ring.recv(timeout=WATCHDOG)
        child.join(WATCHDOG)  # it is among those with whom the name goes
        assert child.exitcode == 0
