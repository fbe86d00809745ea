"""Programs that fork for themselves, close what they do not know, or have little: queues, pipes and pools go on."""

from __future__ import annotations

import os

import pytest

from faults.test_drop_in_environment import FACES, run

USED = """
import numpy as np
queue, simple = mp.Queue(), mp.SimpleQueue()
queue.put(np.ones(100_000))
assert queue.get().sum() == 100_000
simple.put(1)
assert simple.get() == 1
left, right = mp.Pipe()
left.send(np.ones(100_000))
assert right.recv().sum() == 100_000
with mp.get_context("fork").Pool(1) as pool:
    assert pool.map(abs, [-1]) == [1]
"""
ALONE = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0 and libc.mount(b"none", b"/", None, 0x44000, None) == 0
"""
SHM = {
    "missing": 'assert libc.mount(b"none", b"/dev", b"tmpfs", 0, b"size=1m") == 0\n',
    "read-only": 'assert libc.mount(b"none", b"/dev/shm", b"tmpfs", 1, b"size=1m") == 0\n',
    "full": 'assert libc.mount(b"none", b"/dev/shm", b"tmpfs", 0, b"size=4k") == 0\n'
    'with open("/dev/shm/all", "w") as file: file.write("x" * 4096)\n',
}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="it takes root")


@as_root
@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("how", SHM)
def test_dev_shm_that_is_of_no_use(how: str, face: str) -> None:
    """They need none."""
    run(face, ALONE + SHM[how] + USED + 'print("fine")')


@as_root
@pytest.mark.parametrize("face", FACES)
def test_in_a_chroot(face: str) -> None:
    """What there is goes on, locks can be made, and a queue that cannot be made says why and what to do."""
    run(
        face,
        """
lock, queue = mp.Lock(), mp.Queue()
queue.put(1)
os.chroot("/dev")  # where no /proc is
assert queue.get() == 1
with lock, mp.Lock(): pass
try:
    mp.Queue()
except OSError as error:
    assert "chroot" in str(error) and "before" in str(error), error
print("fine")
""",
    )


@pytest.mark.parametrize("face", FACES)
def test_few_descriptors(face: str) -> None:
    run(
        face,
        """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
queues = [mp.Queue() for _ in range(200)]
for queue in queues: queue.put(1)
assert all(queue.get() == 1 for queue in queues)
"""
        + USED
        + 'print("fine")',
    )


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_few_addresses(method: str, face: str) -> None:
    """As batch systems allow a job: whoever wants none of shmkit's addresses has those that the program needs."""
    run(
        face,
        f"""
import resource
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
context = mp.get_context({method!r})
given, taken, (left, right) = context.Queue(), context.Queue(), context.Pipe()
child = context.Process(target=pow, args=(2, 3))
child.start()
child.join()
assert child.exitcode == 0
with context.Pool(2) as pool:
    # Several times what the heap may use, an eighth of that limit.
    assert sum(map(len, pool.imap(bytes, [2**24] * 64))) == 2**30
"""
        + USED
        + 'print("fine")',
    )


@pytest.mark.parametrize("face", FACES)
def test_forks_beside_threads_that_use_queues(face: str) -> None:
    run(
        face,
        """
queue, other, stop = mp.Queue(), mp.Queue(), threading.Event()
def busy():
    while not stop.is_set():
        other.put(1)
        other.get()
threads = [threading.Thread(target=busy) for _ in range(2)]
for thread in threads: thread.start()
def child():
    queue.put(os.getpid())
    mp.Queue().put(1)
for _ in range(30):
    assert in_fork(child) == 0
stop.set()
for thread in threads: thread.join()
assert queue.qsize() == 30
print("fine")
""",
    )


@pytest.mark.parametrize("face", FACES)
def test_all_descriptors_closed(face: str) -> None:
    """As a daemon does: its own queues go on, and a forked child is told what it cannot do."""
    run(
        face,
        """
queue = mp.Queue()
queue.put(1)
os.closerange(3, 1024)
assert queue.get() == 1
import shmkit
def child():
    try:
        queue.put(2)
    except shmkit.SegmentError as error:
        assert "descriptor" in str(error), error
    else:
        raise AssertionError("it can")
assert in_fork(child) == 0
print("fine")
""",
    )


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("where", ["here", "in a daemon"])
def test_what_is_made_when_all_descriptors_were_closed(face: str, where: str) -> None:
    """Lies in memory of its own: queues, pipes and pools are made, and reach children, whatever was there before."""
    run(
        face,
        """
queue = mp.Queue()
queue.put(bytes(300_000))
def pass_on(calls, results, end):
    results.put(calls.get(timeout=60))
    end.send(bytes(20_000))
def use():
    os.closerange(3, 1024)
    context = mp.get_context("fork")
    calls, results, (receiver, sender) = context.Queue(), context.SimpleQueue(), context.Pipe(False)
    child = context.Process(target=pass_on, args=(calls, results, sender))
    child.start()
    calls.put(bytes(300_000))
    assert len(results.get()) == 300_000 and len(receiver.recv()) == 20_000
    child.join()
    with context.Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
"""
        + ("use()\nassert len(queue.get(timeout=60)) == 300_000\n" if where == "here" else "assert in_fork(use) == 0\n")
        + 'print("fine")\n',
    )
