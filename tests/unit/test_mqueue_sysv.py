"""System V message queues: types, peeking, and the limits."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sysv_ipc

import shmkit
from shmkit.mqueue import SysVMessageQueue, limits, unlink_sysv
from support import Processes, wait_until

WATCHDOG = 60.0
compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture
def queue(name: str) -> Iterator[SysVMessageQueue]:
    queue = SysVMessageQueue.create(name)
    yield queue
    unlink_sysv(name, missing_ok=True)


def test_it_goes_by_key_or_text(name: str) -> None:
    """Text means the key that it is hashed to, whatever its letters."""
    made = SysVMessageQueue.create(name)
    assert SysVMessageQueue.attach(made.key).id == made.id
    sysv_ipc.MessageQueue(made.key).send(b"x", type=5)
    assert made.recv_typed() == (b"x", 5)
    unlink_sysv(made.key)
    with pytest.raises(shmkit.SegmentNotFound):
        unlink_sysv(name)
    unlink_sysv(name, missing_ok=True)
    for bad in (0, -1, 2**31):
        with pytest.raises(ValueError, match="key"):
            SysVMessageQueue.create(bad)


def test_types_are_selected(queue: SysVMessageQueue) -> None:
    """One of them; the lowest up to a number; all but one."""
    for mtype in (3, 2, 7, 2, 2**31 - 1):
        queue.send(b"%d" % mtype, mtype=mtype)
    assert queue.try_recv(mtype=4) is None
    assert queue.try_recv(up_to=1) is None
    assert queue.recv(mtype=7) == b"7"
    assert queue.recv_typed(up_to=5) == (b"2", 2)
    assert queue.try_recv_typed(other_than=3) == (b"2", 2)
    assert queue.recv(other_than=3) == b"2147483647"
    assert queue.try_recv(other_than=3) is None
    assert queue.recv_typed() == (b"3", 3)
    assert queue.try_recv_typed() is None


def test_types_that_cannot_be(queue: SysVMessageQueue) -> None:
    """ValueError, and nothing is taken or sent."""
    for bad in (0, -1, 2**31, 10**30, -(10**30)):
        for send in (queue.send, queue.try_send):
            with pytest.raises(ValueError, match="from 1 to 2147483647"):
                send(b"", mtype=bad)
    assert len(queue) == 0
    queue.send(b"x")
    for bad in (-1, 2**31, 10**30, -(10**30)):
        for how in ("mtype", "up_to", "other_than"):
            for receive in (queue.recv, queue.try_recv, queue.recv_typed):
                with pytest.raises(ValueError, match=f"{how}.*from 1 to 2147483647"):
                    receive(**{how: bad})
    for two in ({"mtype": 1, "up_to": 2}, {"up_to": 1, "other_than": 1}, {"mtype": 1, "other_than": 3}):
        with pytest.raises(ValueError, match="one way"):
            queue.recv(**two)
    for worse in ("1", 1.5, b"1"):
        with pytest.raises(TypeError):
            queue.recv(mtype=worse)
        with pytest.raises(TypeError):
            queue.send(b"", mtype=worse)
    assert queue.recv() == b"x"


@pytest.mark.parametrize("how", ["mtype", "up_to", "other_than"])
@pytest.mark.parametrize("timeout", [None, WATCHDOG])
def test_waits_are_for_what_was_selected(queue: SysVMessageQueue, how: str, timeout: float | None) -> None:
    """A message of another type wakes nobody."""
    wanted, other = {"mtype": (3, 4), "up_to": (3, 4), "other_than": (4, 3)}[how]
    came: list[tuple[bytes, int]] = []
    waiter = threading.Thread(target=lambda: came.append(queue.recv_typed(timeout, **{how: 3})))
    waiter.start()
    queue.send(b"not this", mtype=other)
    queue.send(b"this", mtype=wanted)
    waiter.join(WATCHDOG)
    assert came == [(b"this", wanted)]
    assert queue.recv() == b"not this"
    for short in (0, 0.05):
        with pytest.raises(TimeoutError):
            queue.recv(short, **{how: 3})


def test_peeking_takes_nothing(queue: SysVMessageQueue) -> None:
    """A copy of the message at a position; None beyond the last."""
    queue.send(b"one", mtype=5)
    queue.send(b"", mtype=6)
    try:
        assert [queue.peek(position) for position in range(3)] == [(b"one", 5), (b"", 6), None]
    except NotImplementedError:
        pytest.skip("this kernel cannot peek")
    for bad in (-1, 2**40):
        with pytest.raises(ValueError, match="position"):
            queue.peek(bad)
    assert len(queue) == 2


def test_statistics(queue: SysVMessageQueue) -> None:
    """What the kernel says."""
    assert queue.statistics() == (queue.capacity, 0, 0, 0, 0, 0, 0)
    queue.send(b"12345")
    queue.send(b"1")
    queue.recv()
    statistics = queue.statistics()
    assert statistics[:5] == (queue.capacity, 1, 1, os.getpid(), os.getpid())
    assert abs(statistics.last_send_time - time.time()) < 3600


def test_a_wait_uses_no_processor(queue: SysVMessageQueue) -> None:
    """It sleeps in the kernel, with a time-out too."""
    before = time.thread_time()
    with pytest.raises(TimeoutError):
        queue.recv(1.0)
    with pytest.raises(TimeoutError):
        queue.recv(1.0, other_than=3)
    assert time.thread_time() - before < 0.1


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_queue_can_never_take(name: str) -> None:
    """RecordTooLarge at once, also by who would wait for ever; it names msgmax or the capacity."""
    queue = SysVMessageQueue.create(name, 100)
    most = limits.sysv_limit("msgmax")
    assert queue.capacity == 100
    for send in (queue.send, queue.try_send, lambda message: queue.send(message, 0.1)):
        with pytest.raises(shmkit.RecordTooLarge, match=f"kernel.msgmax is {most}"):
            send(b"x" * (most + 1))
        with pytest.raises(shmkit.RecordTooLarge, match=r"holds, 100 B.*kernel.msgmnb"):
            send(b"x" * 101)
    other = SysVMessageQueue.attach(name)
    queue.capacity = "200 B"
    other.send(b"x" * 150)
    assert queue.recv() == b"x" * 150
    queue.unlink()


def test_capacities_that_cannot_be(name: str) -> None:
    """ValueError or TypeError, and nothing is made."""
    for bad in (0, -1, 2**31, 2**63):
        with pytest.raises(ValueError, match=r"at least one byte|negative|at most"):
            SysVMessageQueue.create(name, bad)
    for worse in (1.0, True, b"1"):
        with pytest.raises(TypeError):
            SysVMessageQueue.create(name, worse)
    with pytest.raises(shmkit.SegmentNotFound):
        SysVMessageQueue.attach(name)


def test_a_capacity_beyond_msgmnb(name: str, process: Processes) -> None:
    """Only root may; SegmentPermission says so, and nothing is left."""
    code = """
import os, sys, shmkit
from shmkit import mqueue
shmkit.SegmentPermission
if os.geteuid() == 0:
    os.setuid(65534)
try:
    mqueue.SysVMessageQueue.create(sys.argv[1], mqueue.limits.sysv_limit("msgmnb") + 1)
except shmkit.SegmentPermission as error:
    print(error)
print(mqueue.SysVMessageQueue.create(sys.argv[1], 50).capacity)
mqueue.unlink_sysv(sys.argv[1])
"""
    output, _ = process.python(code, name).communicate(timeout=WATCHDOG)
    most = limits.sysv_limit("msgmnb")
    assert f"more than kernel.msgmnb ({most}) only root may give it; root raises that with `sysctl" in output
    assert output.splitlines()[-1] == "50"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sets kernel.msgmni")
def test_too_many_queues(name: str, process: Processes) -> None:
    """NoSpace names msgmni.  It counts per namespace, of which the test takes one."""
    code = """
import ctypes, sys
from pathlib import Path
from shmkit import mqueue, errors
if ctypes.CDLL(None).unshare(0x08000000) != 0:
    raise SystemExit
Path("/proc/sys/kernel/msgmni").write_text("2")
made = [mqueue.SysVMessageQueue.create(number + 1) for number in range(2)]
try:
    mqueue.SysVMessageQueue.create(sys.argv[1])
except errors.NoSpace as error:
    print(error)
"""
    output, _ = process.python(code, name).communicate(timeout=WATCHDOG)
    if not output:
        pytest.skip("this kernel gives no namespace, or does not let limits be set in it")
    assert "kernel.msgmni allows, 2; root raises it with `sysctl kernel.msgmni=4`" in output


# ── beside programs in C ────────────────────────────────────────────────────────────────────────────────────────────

PROGRAM = """
#include <stdlib.h>
#include <sys/msg.h>
int main(int argc, char **argv) {
    struct { long type; char text[100]; } message;
    int id = msgget(atoi(argv[1]), 0);
    ssize_t count = msgrcv(id, &message, sizeof message.text, 1, 0);
    message.type = 2;
    return count < 0 || msgsnd(id, &message, count, 0) != 0;
}
"""


@compiler
def test_a_c_program_has_the_same_queue(queue: SysVMessageQueue, tmp_path: Path, process: Processes) -> None:
    """It receives what is sent here, and answers."""
    source, binary = tmp_path / "other.c", tmp_path / "other"
    source.write_text(PROGRAM)
    subprocess.run(["cc", "-o", os.fspath(binary), os.fspath(source)], check=True)
    other = process.popen([binary, str(queue.key)])
    queue.send(b"hello")
    assert queue.recv(WATCHDOG, mtype=2) == b"hello"
    assert wait_until(lambda: other.poll() is not None)
    assert other.returncode == 0


# ── other users ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_present_of_another_user_is_refused(name: str, process: Processes) -> None:
    """Who made a queue may use it for ever, also when he has made it over to somebody else."""
    code = """
import os, sys, sysv_ipc
from shmkit.mqueue import SysVMessageQueue
os.setuid(65534)
sysv_ipc.MessageQueue(SysVMessageQueue.create(sys.argv[1]).key).uid = 0
"""
    process.python(code, name).communicate(timeout=WATCHDOG)
    with pytest.raises(shmkit.SegmentPermission, match="owner=65534"):
        SysVMessageQueue.attach(name)
    accepted = SysVMessageQueue.attach(name, owner=65534)
    assert accepted.owner == 0
    accepted.unlink()


def test_making_many_keys(make_name: Callable[[], str]) -> None:
    """Different names are different queues."""
    queues = [SysVMessageQueue.create(make_name()) for _ in range(5)]
    for number, queue in enumerate(queues):
        queue.send(b"%d" % number)
    assert [queue.recv() for queue in queues] == [b"0", b"1", b"2", b"3", b"4"]
    for queue in queues:
        queue.unlink()


@pytest.mark.parametrize("key", [0, -1, 2**31, "", "x" * 256, None])
def test_what_is_no_name_is_refused_as_a_message_queues(key: Any) -> None:
    """And not as that of a segment, whose keys are made by the same rule."""
    for call in (SysVMessageQueue.create, SysVMessageQueue.attach, unlink_sysv):
        with pytest.raises((TypeError, ValueError), match="of a SysV message queue"):
            call(key)
