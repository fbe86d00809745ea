"""fork and exec while segments, views and references are held: the parent's stay the parent's, and nobody hangs."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

import shmkit
from shmkit import Segment, _map
from support import Processes, wait_until


def _write_and_leave(array: np.ndarray, view: memoryview) -> None:
    array[1] = 2
    view[8] = 3
    del array
    view.release()


def test_a_view_that_is_held_over_a_fork_is_one_memory(process: Processes) -> None:
    """What the child writes shows here, and what it drops stays here."""
    with Segment.create(None, 100) as segment:
        array, view = segment.ndarray(100, "u1"), segment.buf
        array[0] = 1
        child = process(_write_and_leave, array, view)
        child.join()
        assert child.exitcode == 0
        assert array[[0, 1, 8]].tolist() == [1, 2, 3]
        assert view[:2] == b"\1\2"


def _close_everything(name: str, segment: Segment) -> None:
    segment.close()
    shmkit.trim()
    os.closerange(3, 1000)
    _map.forget_references()


def test_a_child_that_closes_everything_closes_only_its_own(name: str, process: Processes) -> None:
    """Descriptors, leases and references of the parent are untouched."""
    named = Segment.create(name, 100, lifetime="leased")
    anonymous = Segment.create(None, 100)
    waiting = pickle.dumps(Segment.create(None, 100))
    child = process(_close_everything, name, anonymous)
    child.join()
    assert child.exitcode == 0
    assert Path("/dev/shm", name).exists()
    assert os.fstat(anonymous.fd).st_size > 0
    assert pickle.loads(waiting).size == 100
    named.close()
    anonymous.close()
    assert not Path("/dev/shm", name).exists()


def _make_and_drop(count: int) -> None:
    for number in range(count):
        array = shmkit.full(1000, float(number))
        assert array[999] == number


def test_forks_beside_busy_threads_do_not_hang_the_children(process: Processes) -> None:
    """The lists of warm memory are whole in every child, whatever the parent's threads were doing."""
    stop = threading.Event()

    def work(size: int) -> None:
        while not stop.is_set():
            del_me = [shmkit.empty(size + number) for number in range(3)]
            data = pickle.dumps(del_me[0])
            del del_me
            pickle.loads(data)

    threads = [threading.Thread(target=work, args=(10 ** (2 + number),)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(60):
            child = process(_make_and_drop, 5)
            child.join(30)
            assert child.exitcode == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert _map.parked() == (0, 0)


def test_exec_ends_what_the_process_had(name: str, process: Processes) -> None:
    """No descriptor goes over to the new program, and what it leased is collected."""
    code = f"""
import os, shmkit, sys
kept = [shmkit.zeros(10), shmkit.Segment.create({name!r}, 10, lifetime="leased"), shmkit.Segment.create(None, 10)]
os.execv(sys.executable, [sys.executable, "-c", "import os; print([os.readlink(f'/proc/self/fd/{{n}}') "
         "for n in os.listdir('/proc/self/fd') if os.path.lexists(f'/proc/self/fd/{{n}}')])"])
"""
    said = process.python(code).communicate()[0]
    assert "memfd" not in said
    assert "/dev/shm" not in said
    shmkit.collect()
    assert not Path("/dev/shm", name).exists()


def test_a_grandchild_may_use_what_its_parent_inherited(process: Processes) -> None:
    """Twice forked, and pickled back from there."""
    array = shmkit.zeros(4)
    here, there = multiprocessing.Pipe()

    def child() -> None:
        if os.fork() == 0:
            array[0] = 5
            there.send_bytes(pickle.dumps(array[1:]))
            there.recv()
            os._exit(0)
        os.wait()

    parent = process(child)
    found = pickle.loads(here.recv_bytes())
    found[:] = 6
    assert array.tolist() == [5, 6, 6, 6]
    here.send(None)
    parent.join()
    here.close()
    there.close()


@pytest.mark.parametrize("times", [3])
def test_a_parked_segment_is_the_parents_alone(times: int, process: Processes) -> None:
    """A child does not keep for its parent what the parent waits to hand over."""
    segment = Segment.create(None, 100)
    data = pickle.dumps(segment)
    inode = segment.mapping.facts.inode
    segment.close()
    for _ in range(times):
        child = process(_nothing_parked, inode)
        child.join()
        assert child.exitcode == 0
    assert _map.parked()[0] == 1
    assert pickle.loads(data).size == 100
    assert _map.parked() == (0, 0)


def _nothing_parked(inode: int) -> None:
    assert _map.parked() == (0, 0)
    assert str(inode) not in [line.split()[4] for line in Path("/proc/self/maps").read_text().splitlines()]


def test_sigkill_during_a_fork_storm_leaves_nothing(process: Processes) -> None:
    """Parents and children die together, at any instant."""
    for _ in range(15):
        child = process(_fork_and_make)
        child.join(0.01)
        # Its group is its own from its first moment or not yet: then it is alone.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.kill()
        child.join()
    # Killed is not dead yet: the grandchildren end in their own time.
    wait_until(lambda: (shmkit.collect(), not any("storm" in name for name in os.listdir("/dev/shm")))[1])


def _fork_and_make() -> None:
    os.setpgid(0, 0)
    for number in range(1000):
        array = shmkit.ones(100)
        segment = Segment.create(f"storm-{os.getpid()}", 100, lifetime="leased")
        if os.fork() == 0:
            assert array.sum() == 100
            segment.close()
            os._exit(0)
        os.wait()
        segment.close()
        assert number >= 0
