"""Programs that fork for themselves, close what they do not know, or have little: locks of the drop-in go on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SETUP = """
import os, sys, threading
{face}
def in_fork(what):
    pid = os.fork()
    if pid == 0:
        try:
            what()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""
FACES = {
    "drop-in": "from shmkit import multiprocessing as mp",
    "install": "import multiprocessing as mp, shmkit; shmkit.install()",
}


def run(face: str, code: str) -> None:
    program = SETUP.format(face=FACES[face]) + code
    # Forks beside threads are the point.
    argv = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "fine\n")


@pytest.mark.parametrize("face", FACES)
def test_a_fork_of_ones_own(face: str) -> None:
    """What the parent holds the child does not, and finds locked."""
    run(
        face,
        """
lock, event, condition = mp.Lock(), mp.Event(), mp.Condition()
lock.acquire()
def child():
    assert not lock.acquire(False)
    event.set()
    with condition: condition.notify_all()
with condition:
    assert not condition.wait(0)
assert in_fork(child) == 0
assert event.is_set()
lock.release()
assert in_fork(lambda: lock.acquire(False) or 1 / 0) == 0   # and ended with it
assert lock.acquire(timeout=60)
print("fine")
""",
    )


@pytest.mark.parametrize("face", FACES)
def test_forks_while_threads_make_and_use_locks(face: str) -> None:
    run(
        face,
        """
shared, stop = mp.Lock(), threading.Event()
def busy():
    while not stop.is_set():
        with mp.Lock(): pass
        with shared: pass
threads = [threading.Thread(target=busy) for _ in range(3)]
for thread in threads: thread.start()
def child():
    with shared: pass
    with mp.Lock(): pass
    with mp.Condition() as _: pass
for _ in range(50):
    assert in_fork(child) == 0
stop.set()
for thread in threads: thread.join()
print("fine")
""",
    )


@pytest.mark.parametrize("face", FACES)
def test_all_descriptors_closed(face: str) -> None:
    """As a daemon does; what there is goes on, new locks can be made, and a forked child is told what it cannot do."""
    run(
        face,
        """
lock, event = mp.Lock(), mp.Event()
os.closerange(3, 1000)
def child():
    try:
        lock.acquire()
    except shmkit.SegmentError as error:
        assert "closed (os.closerange?)" in str(error) and "use what stands in it once before that" in str(error)
        assert "SysV" not in str(error)
    else:
        raise AssertionError("it can: docs/multiprocessing.md says that it cannot")
import shmkit
assert in_fork(child) == 0
event.set()
assert event.wait(60)
with lock: pass
with mp.Lock(): pass
print("fine")
""",
    )


@pytest.mark.parametrize("face", FACES)
def test_a_daemon_closes_all_descriptors(face: str) -> None:
    """Forks once or twice, and closes them in the child, before it has used what it inherited."""
    run(
        face,
        """
lock, recursive, semaphore, bounded = mp.Lock(), mp.RLock(), mp.Semaphore(2), mp.BoundedSemaphore(2)
event, condition, value, barrier = mp.Event(), mp.Condition(), mp.Value("i", 1), mp.Barrier(1)
def use():
    for each in (lock, recursive, semaphore, bounded, condition, value.get_lock()):
        assert each.acquire(timeout=60)
        each.release()
    with condition: assert not condition.wait(0.001)
    event.set()
    assert event.wait(60) and barrier.wait(60) == 0
    with value: value.value += 1
def daemon():
    os.closerange(3, 1000)
    use()
    lock.acquire()  # and ends with it
def unused():
    assert in_fork(daemon) == 0
for start in (daemon, unused):
    assert in_fork(start) == 0
    assert lock.acquire(timeout=60)
    lock.release()
assert value.value == 3
print("fine")
""",
    )


@pytest.mark.parametrize("face", FACES)
def test_a_thousand_locks_with_few_descriptors(face: str) -> None:
    run(
        face,
        """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
locks = [mp.Lock() for _ in range(1000)] + [mp.Condition() for _ in range(500)]
for lock in locks:
    with lock: pass
print("fine")
""",
    )


@pytest.mark.parametrize("face", FACES)
def test_without_dev_shm(face: str) -> None:
    """Locks need none; shared memory with a name says what is missing."""
    if os.geteuid() != 0:
        pytest.skip("it takes root to hide /dev/shm")
    run(
        face,
        """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0 and libc.mount(b"none", b"/", None, 0x44000, None) == 0
assert libc.mount(b"none", b"/dev", b"tmpfs", 0, b"size=1m") == 0
with mp.Lock(): pass
with mp.Condition(): pass
from shmkit.multiprocessing.shared_memory import SharedMemory
try:
    SharedMemory(create=True, size=8)
except OSError as error:
    assert "/dev/shm" in str(error), error
else:
    raise AssertionError("made, without a place to be")
print("fine")
""",
    )
