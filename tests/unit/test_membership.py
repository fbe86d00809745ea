"""Members: by what number the words of a segment know a process, and whether who bears a number lives."""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

import shmkit
from shmkit import Segment
from shmkit._membership import Member, member
from support import Processes, wait_until

RANDOM_BITS = 40


@pytest.fixture(params=["memfd", "posix", "sysv", "file", "raw"])
def segment(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> Iterator[Segment]:
    arguments: dict[str, Any] = {
        "memfd": {"name": None},
        "posix": {"name": name},
        "sysv": {"name": name, "backing": "sysv"},
        "file": {"name": tmp_path / name, "backing": "file"},
        "raw": {"name": name, "raw": True},
    }[request.param]
    segment = Segment.create(size=4096, **arguments)
    yield segment
    segment.unlink(missing_ok=True)
    segment.close()


def join(segment: Segment, pipe: Connection) -> None:
    """Becomes a member, says under which number, and waits."""
    me = member(segment.mapping)
    pipe.send(me.id)
    signal.pause()


@pytest.fixture
def pipe() -> Iterator[tuple[Connection, Connection]]:
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        yield ours, theirs


def test_a_process_is_one_member_of_a_segment(segment: Segment) -> None:
    """However often it asks, and however many handles it has; of another segment it is another."""
    one = member(segment.mapping)
    assert member(segment.mapping) is one
    assert one.pid == os.getpid()
    assert one.id >> RANDOM_BITS == os.getpid()
    assert one.id < 2**62
    assert not one.died(one.id)
    with Segment.create(None, 8) as other:
        assert member(other.mapping).id != one.id


def test_a_member_lasts_as_long_as_somebody_needs_it() -> None:
    """The next one has another number, and the old number's bearer is dead."""
    segment = Segment.create(None, 8)
    first = member(segment.mapping).id
    gc.collect()
    second = member(segment.mapping)
    assert second.id != first
    assert second.died(first)


def test_a_member_is_not_made_by_hand() -> None:
    """TypeError."""
    with pytest.raises(TypeError, match="whatever needs one"):
        Member()


def test_a_forked_child_is_another_member(
    segment: Segment, process: Processes, pipe: tuple[Connection, Connection]
) -> None:
    """It sees its parent live, and its parent sees it live, and die."""
    ours, theirs = pipe
    me = member(segment.mapping)

    def child() -> None:
        inherited = me.generation
        itself = member(segment.mapping)
        assert itself is not me
        assert itself.id != me.id
        assert (itself.pid, me.pid) == (os.getpid(), os.getppid())
        assert itself.generation == inherited + 1
        assert not itself.died(me.id)
        theirs.send(itself.id)
        signal.pause()

    one = process(child)
    number = ours.recv()
    assert number >> RANDOM_BITS == one.pid
    assert not me.died(number)
    one.kill()
    one.join()
    assert me.died(number)


def test_a_child_that_drops_its_heirloom_does_not_end_its_parents_membership(
    segment: Segment, process: Processes
) -> None:
    """The lease is the parent's, whatever becomes of the object in the child."""
    held = [member(segment.mapping)]
    number = held[0].id

    def child() -> None:
        own = member(segment.mapping)
        held.clear()
        gc.collect()
        assert not own.died(number)

    done = process(child)
    done.join(30)
    assert done.exitcode == 0
    with Segment.create(None, 8):  # whatever the child's unmapping would have hit
        assert not member(segment.mapping).died(number)


def test_a_grandchild_is_another_one_again(process: Processes, pipe: tuple[Connection, Connection]) -> None:
    """Each generation has a number of its own."""
    ours, theirs = pipe
    lock = shmkit.Lock()

    def child() -> None:
        theirs.send(member(lock.segment.mapping).id)
        if os.fork() == 0:
            theirs.send(member(lock.segment.mapping).id)
            os._exit(0)
        os.wait()

    process(child).join(30)
    assert len({member(lock.segment.mapping).id, ours.recv(), ours.recv()}) == 3


def test_exec_ends_a_membership(segment: Segment, process: Processes, pipe: tuple[Connection, Connection]) -> None:
    """The process lives; who it was does not."""
    ours, theirs = pipe
    me = member(segment.mapping)

    def child() -> None:
        own = member(segment.mapping)
        theirs.send(own.id)
        theirs.recv()
        os.execv(sys.executable, [sys.executable, "-c", "import signal; signal.pause()"])

    one = process(child)
    number = ours.recv()
    assert not me.died(number)
    ours.send(None)
    wait_until(lambda: me.died(number))
    assert one.is_alive()


def test_a_reused_pid_fools_nobody(segment: Segment) -> None:
    """A number with a living process's pid that it does not bear is a dead one's."""
    me = member(segment.mapping)
    for number in (me.id ^ 1, os.getppid() << RANDOM_BITS | 1, 1, 2**62 - 1, 0):
        assert me.died(number)
    for wrong in (-1, 2**64):
        with pytest.raises(OverflowError):
            me.died(wrong)


def test_a_stopped_process_lives(segment: Segment, process: Processes, pipe: tuple[Connection, Connection]) -> None:
    """Until it is killed."""
    ours, theirs = pipe
    me = member(segment.mapping)
    child = process(join, segment, theirs)
    number = ours.recv()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    _, status = os.waitpid(child.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    assert not me.died(number)
    os.kill(child.pid, signal.SIGKILL)
    wait_until(lambda: me.died(number))


def test_a_thread_more_or_less_changes_nothing(segment: Segment) -> None:
    """A thread that joined and ended was the process."""
    numbers: list[int] = []
    me = member(segment.mapping)
    thread = threading.Thread(target=lambda: numbers.append(member(segment.mapping).id))
    thread.start()
    thread.join()
    assert numbers == [me.id]
    assert not me.died(me.id)


def test_threads_that_join_together_are_one_member(process: Processes) -> None:
    """In a child whose threads first use an inherited handle all at once, too: none loses what it holds."""
    locks = [shmkit.Lock() for _ in range(3)]

    def child() -> None:
        sys.setswitchinterval(1e-6)
        together = threading.Barrier(4)
        mapping = locks[0].segment.mapping
        numbers: list[Member] = []

        def first_use(number: int) -> None:
            together.wait()
            if number < 3:
                locks[number].acquire()
            numbers.append(member(mapping))

        threads = [threading.Thread(target=first_use, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gc.collect()
        assert len({one.id for one in numbers}) == 1
        for lock in locks:
            assert not lock.acquire(False)

    for _ in range(40):
        done = process(child)
        done.join(30)
        assert done.exitcode == 0
        for lock in locks:
            with pytest.raises(shmkit.OwnerDied):
                lock.acquire()
            lock.recover()
            lock.release()


# ── descriptors that somebody closes ────────────────────────────────────────────────────────────────────────────────


def test_who_cannot_ask_takes_everybody_for_alive(
    segment: Segment, process: Processes, pipe: tuple[Connection, Connection]
) -> None:
    """A descriptor that was closed, or closed and used again, answers nothing: waiting is safe, inheriting is not."""
    ours, theirs = pipe
    me = member(segment.mapping)
    child = process(join, segment, theirs)
    number = ours.recv()
    child.kill()
    child.join()
    assert me.died(number)
    for descriptor in open_files_of(segment):
        os.close(descriptor)
    assert not me.died(number)
    taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    assert not me.died(number)
    for descriptor in taken:
        os.close(descriptor)


def open_files_of(segment: Segment) -> list[int]:
    """All descriptors of this process but the standard ones and pipes that are of a file of shared memory."""
    found = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue
        if "memfd:" in target or "/dev/shm/" in target or (segment.name and Path(str(segment.name)).name in target):
            found.append(int(entry))
    return found


def test_closing_descriptors_does_not_end_a_membership(process: Processes, pipe: tuple[Connection, Connection]) -> None:
    """The lease needs none."""
    ours, theirs = pipe
    segment = Segment.create(None, 8)
    me = member(segment.mapping)

    def child() -> None:
        own = member(segment.mapping)
        os.closerange(segment.fd, segment.fd + 1)
        theirs.send(own.id)
        signal.pause()

    process(child)
    assert not me.died(ours.recv())


def test_a_named_segments_file_is_opened_again(name: str) -> None:
    """Until somebody joins no descriptor of it is kept; an anonymous one, once closed, is not found again."""
    with Segment.create(name, 8) as named:
        assert named.fd == -1
        before = {entry for entry in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{entry}")}
        me = member(named.mapping)
        assert me.died(1)
        (own,) = {
            entry for entry in set(os.listdir("/proc/self/fd")) - before if os.path.exists(f"/proc/self/fd/{entry}")
        }
        # Somebody closes that one as well, and another file gets its number: it is not closed with the member.
        os.close(int(own))
        other = os.open("/dev/null", os.O_RDONLY)
        assert other == int(own)
        del me
        gc.collect()
        os.fstat(other)
        os.close(other)
        named.unlink()
    anonymous = Segment.create(None, 8)
    os.close(anonymous.fd)
    with pytest.raises(shmkit.SegmentError, match="no file that the kernel could be asked through"):
        member(anonymous.mapping)


def test_an_unlinked_segment_keeps_its_members(name: str) -> None:
    """The name is not needed for asking."""
    with Segment.create(name, 4096) as segment:
        lock = shmkit.Lock.create_at(segment)
        segment.unlink()
        other = shmkit.Lock.create_at(segment, 128)
        with lock, other:
            assert not member(segment.mapping).died(member(segment.mapping).id)


# ── elsewhere ───────────────────────────────────────────────────────────────────────────────────────────────────────

HOLD = """
import sys, shmkit
lock = shmkit.Lock.attach(sys.argv[1])
lock.acquire()
print(lock.owner_pid, flush=True)
sys.stdin.read()
"""


def test_another_pid_namespace_is_no_obstacle(name: str, process: Processes) -> None:
    """Its processes live and die as others do; their pids mean nothing here, and are only told."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "--pid", "--fork", "true"], check=False).returncode != 0:
        pytest.skip("this process may not make pid namespaces")
    lock = shmkit.Lock.create(name)
    program = process.popen(
        [unshare, "--pid", "--fork", "--kill-child", sys.executable, "-c", HOLD, name],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
    )
    assert program.stdout is not None
    assert program.stdin is not None
    pid = int(program.stdout.readline())
    assert pid == lock.owner_pid == 1
    assert not lock.acquire(True, 0.2)
    program.stdin.close()
    program.wait()
    with pytest.raises(shmkit.OwnerDied) as told:
        lock.acquire(timeout=30)
    assert told.value.pid == 1
    lock.unlink()


ASK = """
import shmkit
from shmkit._membership import member
segment = shmkit.Segment.create(None, 8)
me = member(segment.mapping)
for number in range(500):
    assert me.died(number + 1)
    assert not me.died(me.id)
"""


def test_to_ask_is_one_call_to_the_kernels_locks(process: Processes, tmp_path: Path) -> None:
    """And none at all about oneself."""
    strace = shutil.which("strace")
    trace = tmp_path / "trace"
    if strace is None:
        pytest.skip("strace is not installed")
    program = process.popen(
        [strace, "-f", "-o", trace, "-e", "trace=fcntl", sys.executable, "-c", ASK],
        stderr=subprocess.PIPE,
    )
    complaints = program.communicate(timeout=100)[1]
    if "ptrace" in complaints:
        pytest.skip("this process may not trace others")
    assert program.returncode == 0, complaints
    assert len(re.findall("F_OFD_GETLK", trace.read_text())) == 500
