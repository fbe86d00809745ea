"""Who receives from a System V queue: one of each type, until they close it or die; and what becomes of the queue."""

from __future__ import annotations

import signal
import subprocess
from textwrap import dedent

import pytest

import shmkit
from channel.ends import WATCHDOG, running
from shmkit import channel, mqueue
from shmkit.survey.leftovers import leftovers
from support import Processes, wait_until


def test_the_queue_goes_with_its_last_receiver(name: str) -> None:
    """Whoever made it, and in whatever order they close."""
    url = f"sysvmq://{name}"
    for first in (1, 2):
        with channel.listen(f"{url}?type=1") as one, channel.listen(f"{url}?type=2") as two:
            closes, stays = (one, two) if first == 1 else (two, one)
            with channel.connect(f"{url}?type={3 - first}") as sender:
                closes.close()
                sender.send("still there")
                assert stays.recv(WATCHDOG) == "still there"
        with pytest.raises(shmkit.NoPeer):
            channel.connect(url)


def test_each_type_has_one_receiver(name: str, process: Processes) -> None:
    """RoleTaken for a second of one type, or of all beside any; one that was killed is in nobody's way."""
    url = f"sysvmq://{name}"
    with channel.listen(f"{url}?type=1"):
        with pytest.raises(shmkit.RoleTaken, match=r"messages of type 1 from sysvmq://.*type="):
            channel.listen(f"{url}?type=1")
        with pytest.raises(shmkit.RoleTaken, match="messages of type 1 from"):
            channel.listen(url)
    with channel.listen(url), pytest.raises(shmkit.RoleTaken, match="another end receives from"):
        channel.listen(f"{url}?type=7")
    program = process.python(
        dedent(f"""
        import time, shmkit
        receiver = shmkit.listen("{url}?type=3")
        print("listening", flush=True)
        time.sleep(3600)
        """),
        text=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline().strip() == "listening"
    with pytest.raises(shmkit.RoleTaken):
        channel.listen(f"{url}?type=3")
    with channel.listen(f"{url}?type=4"), channel.connect(f"{url}?type=3") as sender:
        sender.send("waits")
        program.send_signal(signal.SIGKILL)
        program.wait()
        with channel.listen(f"{url}?type=3") as receiver:
            assert receiver.recv(WATCHDOG) == "waits"


def test_what_a_killed_receiver_left_is_found(name: str, process: Processes) -> None:
    """Its companion in /dev/shm is nobody's; that of one that lives is not listed, nor removed."""
    with channel.listen(f"sysvmq://{name}?type=2"):
        program = f"import os, shmkit; end = shmkit.listen('sysvmq://{name}-dead'); os.kill(os.getpid(), 9)"
        process.python(program).wait()
        (found,) = [left for left in leftovers() if "queue-" in left.address]
        assert "nobody receives from the SysV message queue" in found.why
        assert found.label in shmkit.collect()
        assert not [left for left in leftovers() if "queue-" in left.address]
        with pytest.raises(shmkit.RoleTaken):
            channel.listen(f"sysvmq://{name}?type=2")
    mqueue.unlink_sysv(f"{name}-dead")


def test_one_that_cannot_listen_leaves_nothing(name: str) -> None:
    """Neither its place among the receivers, nor the queue that it was refused."""
    queue = mqueue.SysVMessageQueue.create(name, mode=0o622)
    with pytest.raises(shmkit.Refused):
        channel.listen(f"sysvmq://{name}")
    queue.mode = 0o600
    queue.send(b"x")
    with pytest.raises(shmkit.RoleTaken), channel.listen(f"sysvmq://{name}?keep=yes"):
        channel.listen(f"sysvmq://{name}")
    assert len(queue) == 1  # of a queue that is kept
    queue.unlink()
    queue.close()


def test_one_of_several_that_lives_is_not_mistaken_for_one_that_died(name: str, process: Processes) -> None:
    """Another receiver was the last to receive, and was killed: who sends to the one that lives, waits for room."""
    url = f"sysvmq://{name}"
    with channel.listen(f"{url}?type=1") as receiver, channel.connect(f"{url}?type=1") as sender:
        child = process.python(f"import os, shmkit; end = shmkit.listen('{url}?type=2'); os.kill(os.getpid(), 9)")
        child.wait()
        sender.send("first")
        with pytest.raises(TimeoutError):
            for _ in range(1000):
                sender.send(bytes(4000), timeout=0.2)
        assert receiver.recv(WATCHDOG) == "first"
        receiver.close()
        with pytest.raises(shmkit.Broken):
            sender.send(1)


def test_a_queue_that_somebody_removes(name: str) -> None:
    """Broken, which names the address, whatever way it is received from; a wait ends."""
    url = f"sysvmq://{name}"
    calls = [lambda end: end.recv(WATCHDOG), lambda end: end.try_recv(), lambda end: end.recv_bytes(WATCHDOG)]
    for call in calls:
        with channel.listen(url) as receiver:
            mqueue.unlink_sysv(name)
            with pytest.raises(shmkit.Broken, match=f"somebody removed the message queue of {url}"):
                call(receiver)
    with channel.listen(url) as receiver:
        waits = receiver.statistics().recv_waits
        with running(receiver.recv, WATCHDOG) as result:
            wait_until(lambda: receiver.statistics().recv_waits > waits)
            mqueue.unlink_sysv(name)
        assert isinstance(result[0], shmkit.Broken)


ALONE = """
import ctypes, shmkit
libc = ctypes.CDLL(None, use_errno=True)
# Mounts and queues of its own.
if libc.unshare(0x08020000) or libc.mount(b"none", b"/", None, 0x44000, None):
    raise SystemExit("not allowed")
"""
SHM = {
    "missing": ('libc.mount(b"none", b"/dev", b"tmpfs", 0, None)', shmkit.SegmentNotFound, "there is no /dev/shm"),
    "read-only": ('libc.mount(b"none", b"/dev/shm", b"tmpfs", 1, None)', shmkit.SegmentPermission, "Read-only"),
    "full": (
        'libc.mount(b"none", b"/dev/shm", b"tmpfs", 0, b"nr_inodes=2") or open("/dev/shm/all", "w").close()',
        shmkit.NoSpace,
        "no room for another file in /dev/shm",
    ),
}


@pytest.mark.parametrize("how", SHM)
def test_without_a_place_for_the_companion(how: str, process: Processes) -> None:
    """Who listens is told what is missing, and what to do; nothing is made.  Who connects needs none."""
    mount, error, words = SHM[how]
    program = process.python(
        ALONE
        + dedent(f"""
        if {mount}:
            raise SystemExit("not allowed")
        from shmkit.mqueue import SysVMessageQueue
        for url in ("sysvmq://jobs", "sysvmq://jobs?type=3"):
            try:
                shmkit.listen(url)
            except shmkit.{error.__name__} as caught:
                text = str(caught)
                assert {words!r} in text and repr(url) in text and "mq://" in text, text
            else:
                raise AssertionError("it listens")
        try:
            SysVMessageQueue.attach("jobs")
        except shmkit.SegmentNotFound:
            queue = SysVMessageQueue.create("jobs")
        with shmkit.connect("sysvmq://jobs") as sender:
            sender.send("no need")
        assert len(queue) == 3
        print("fine")
        """),
        text=True,
        stderr=subprocess.STDOUT,
    )
    said = program.communicate(timeout=WATCHDOG)[0]
    if said == "not allowed\n":
        pytest.skip("only root can mount, and not everywhere")
    assert said == "fine\n"
    assert program.returncode == 0
