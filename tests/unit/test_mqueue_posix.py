"""POSIX message queues: priorities, notification, descriptors, and the limits."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import select
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import posix_ipc
import pytest

import shmkit
from shmkit.mqueue import PosixMessageQueue, limits, unlink_posix
from support import Processes, wait_until

WATCHDOG = 60.0
compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture
def queue(name: str) -> Iterator[PosixMessageQueue]:
    with PosixMessageQueue.create(name) as queue:
        yield queue
        unlink_posix(name, missing_ok=True)


def test_a_name_has_a_slash_that_is_no_part_of_it(name: str) -> None:
    """Both forms are the same, and mq_open's is the one with it."""
    with PosixMessageQueue.create(f"/{name}") as made, PosixMessageQueue.attach(name) as found:
        assert (made.name, found.name) == (name, name)
        other = posix_ipc.MessageQueue(f"/{name}")
        other.send(b"x", priority=3)
        other.close()
        assert found.recv_prioritized() == (b"x", 3)
        unlink_posix(name)
        with pytest.raises(shmkit.SegmentNotFound):
            unlink_posix(name)
        unlink_posix(name, missing_ok=True)


def test_names_may_be_long(make_name: Callable[[], str]) -> None:
    """As long as the kernel takes them."""
    name = make_name().ljust(255, "x")
    with PosixMessageQueue.create(name):
        unlink_posix(name)


def test_the_highest_priority_comes_first(queue: PosixMessageQueue) -> None:
    """And among equals the first that was sent."""
    for number, priority in enumerate((0, 5, 32767, 5, 0)):
        queue.send(b"%d" % number, priority=priority)
    assert queue.recv_prioritized() == (b"2", 32767)
    assert queue.try_recv_prioritized() == (b"1", 5)
    assert [queue.recv() for _ in range(3)] == [b"3", b"0", b"4"]
    assert queue.try_recv_prioritized() is None
    for bad in (-1, 32768, 10**30, -(10**30)):
        for send in (queue.send, queue.try_send):
            with pytest.raises(ValueError, match="32767"):
                send(b"", priority=bad)
    with pytest.raises(TypeError):
        queue.send(b"", priority="high")  # type: ignore[arg-type]


def test_statistics_and_attributes(name: str) -> None:
    """What the kernel says."""
    with PosixMessageQueue.create(name, 3, "100 B") as queue:
        assert (queue.max_messages, queue.max_message_size, queue.owner) == (3, 100, os.geteuid())
        queue.send(b"12345")
        queue.send(b"1")
        assert queue.statistics() == (3, 100, 2, 6, None)
        queue.notify(signal.SIGURG)
        assert queue.statistics().notified_pid == os.getpid()
        with PosixMessageQueue.attach(name, read=False) as sender:
            assert sender.statistics() == (3, 100, 2, None, None)
        queue.unlink()


def test_a_handle_may_be_for_one_direction(queue: PosixMessageQueue) -> None:
    """SegmentPermission where it is used the other way."""
    with PosixMessageQueue.attach(queue.name, write=False) as receiver:
        with pytest.raises(shmkit.SegmentPermission, match="write"):
            receiver.send(b"x")
    with PosixMessageQueue.attach(queue.name, read=False) as sender:
        sender.send(b"x")
        for call in (sender.recv, sender.try_recv):
            with pytest.raises(shmkit.SegmentPermission, match="read"):
                call()
    with pytest.raises(ValueError, match="no use"):
        PosixMessageQueue.attach(queue.name, read=False, write=False)
    assert queue.recv() == b"x"


def test_short_messages_take_little_memory(queue: PosixMessageQueue) -> None:
    """posix_ipc's come in a buffer for the longest."""
    before = _resident()
    kept = []
    for _ in range(4000):
        queue.send(b"x")
        kept.append(queue.recv())
    assert _resident() - before < 4000 * 1024
    assert len(kept) == 4000


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_the_descriptor_can_be_polled(queue: PosixMessageQueue) -> None:
    """Readable when there is a message, writable when there is room."""
    poller = select.poll()
    poller.register(queue.fileno(), select.POLLIN | select.POLLOUT)
    assert poller.poll(0) == [(queue.fileno(), select.POLLOUT)]
    while queue.try_send(b"x"):
        pass
    assert poller.poll(0) == [(queue.fileno(), select.POLLIN)]


def test_asyncio_can_wait_for_it(queue: PosixMessageQueue) -> None:
    """As for any descriptor."""

    async def receive() -> bytes | None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(queue.fileno(), ready.set)
        loop.call_soon(queue.send, b"for asyncio")
        await asyncio.wait_for(ready.wait(), WATCHDOG)
        loop.remove_reader(queue.fileno())
        return queue.try_recv()

    assert asyncio.run(receive()) == b"for asyncio"


def test_closing_ends_a_wait_of_another_thread(queue: PosixMessageQueue) -> None:
    """Closed, and the message that comes later is not taken."""
    ends: list[type] = []

    def wait() -> None:
        try:
            other.recv()
        except Exception as error:
            ends.append(type(error))

    other = PosixMessageQueue.attach(queue.name)
    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    other.close()
    queue.send(b"stays")
    for thread in threads:
        thread.join(WATCHDOG)
    assert ends == [shmkit.Closed] * 3
    assert queue.recv() == b"stays"


def test_a_handle_that_is_forgotten_is_closed(queue: PosixMessageQueue) -> None:
    """Unlike posix_ipc's."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        PosixMessageQueue.attach(queue.name)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


# ── notification ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_signal_tells_of_a_message(queue: PosixMessageQueue) -> None:
    """Once, when it comes to the empty queue."""
    came: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: came.append(number))
    try:
        queue.notify(signal.SIGUSR2)
        queue.send(b"one")
        wait_until(lambda: came)
        queue.send(b"two")
        assert (queue.recv(), queue.recv()) == (b"one", b"two")
        queue.send(b"three")
        assert came == [signal.SIGUSR2]
        queue.recv()
        queue.notify(signal.SIGUSR2)
        queue.cancel_notification()
        queue.cancel_notification()
        queue.send(b"four")
        assert came == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_one_process_is_notified(queue: PosixMessageQueue, process: Processes) -> None:
    """RoleTaken names it; when it has gone, another can be."""
    ready, done = shmkit.Event(), shmkit.Event()

    def child() -> None:
        queue.notify(signal.SIGURG)
        ready.set()
        done.wait(WATCHDOG)

    other = process(child)
    assert ready.wait(WATCHDOG)
    with pytest.raises(shmkit.RoleTaken, match=str(other.pid)):
        queue.notify(signal.SIGURG)
    other.kill()
    other.join()
    queue.notify(signal.SIGURG)
    queue.cancel_notification()


def test_what_is_no_signal(queue: PosixMessageQueue) -> None:
    """ValueError or TypeError."""
    for bad in (0, -1, 65, 10**30):
        with pytest.raises(ValueError, match="signal"):
            queue.notify(bad)
    for worse in (None, "x", (print, 1)):
        with pytest.raises((TypeError, ValueError)):
            queue.notify(worse)  # type: ignore[arg-type]


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_shapes_that_cannot_be(name: str) -> None:
    """ValueError or TypeError, and nothing is made."""
    for count, size in ((0, 10), (-1, 10), (True, 10), (1, 0), (1, -1)):
        with pytest.raises(ValueError, match=r"more|negative"):
            PosixMessageQueue.create(name, count, size)
    shapes: list[Any] = [("1", 10), (1.0, 10), (1, 1.0), (1, None.__class__)]
    for shape in shapes:
        with pytest.raises((TypeError, AttributeError)):
            PosixMessageQueue.create(name, *shape)
    with pytest.raises(ValueError, match="65536, which nothing raises"):
        PosixMessageQueue.create(name, 65537)
    with pytest.raises(ValueError, match="16777216, which nothing raises"):
        PosixMessageQueue.create(name, 1, "17 MiB")
    with pytest.raises(shmkit.SegmentNotFound):
        PosixMessageQueue.attach(name)


LIMITED = """
import os, sys, resource, shmkit
from shmkit import mqueue
what, name = sys.argv[1:]
shmkit.NoSpace, shmkit.format_size  # imported before the rights to read are gone
if os.geteuid() == 0:
    os.setuid(65534)
made = []
try:
    if what == "messages":
        mqueue.PosixMessageQueue.create(name, mqueue.limits.most_messages() + 1)
    elif what == "size":
        mqueue.PosixMessageQueue.create(name, 1, mqueue.limits.most_size() + 1)
    elif what == "bytes":
        resource.setrlimit(resource.RLIMIT_MSGQUEUE, (5000, 5000))
        mqueue.PosixMessageQueue.create(name, 10, 1000)
    elif what == "all bytes":
        resource.setrlimit(resource.RLIMIT_MSGQUEUE, (20000, 20000))
        for number in range(9):
            made.append(mqueue.PosixMessageQueue.create(f"{name}.{number}", 5, 1000))
    elif what == "descriptors":
        here = os.open("/", os.O_RDONLY)
        resource.setrlimit(resource.RLIMIT_NOFILE, (here + 1, here + 1))
        mqueue.PosixMessageQueue.create(name)
except (ValueError, OSError) as error:
    print(type(error).__name__, error)
for queue in made:
    queue.unlink()
print(len(made))
"""


@pytest.mark.parametrize(
    ("what", "kind", "words"),
    [
        ("messages", "ValueError", "fs.mqueue.msg_max, which is {msg_max}; root raises it with `sysctl"),
        ("size", "ValueError", "fs.mqueue.msgsize_max, which is {msgsize_max}; root raises it with `sysctl"),
        ("bytes", "NoSpace", "count for 10960 bytes, and all POSIX queues of user"),
        ("all bytes", "NoSpace", "this user's other queues have used up the rest; make it smaller, or raise the limit"),
        ("descriptors", "OSError", "files open, and has; raise that"),
    ],
)
def test_a_limit_that_is_hit_is_named(what: str, kind: str, words: str, name: str, process: Processes) -> None:
    """With its value, and how to raise it."""
    output, _ = process.python(LIMITED, what, name).communicate(timeout=WATCHDOG)
    words = words.format(msg_max=limits.most_messages(), msgsize_max=limits.most_size())
    assert output.startswith(kind)
    assert words in output
    assert output.splitlines()[-1] == ("3" if what == "all bytes" else "0")


def test_what_a_queue_counts_for_is_what_the_kernel_counts(make_name: Callable[[], str], process: Processes) -> None:
    """To the byte: one less is not enough."""
    code = """
import os, sys, resource
from shmkit import mqueue, errors
name = sys.argv[1]
for count, size in ((1, 1), (10, 100), (7, 8192)):
    need = mqueue.limits.posix_bytes(count, size)
    resource.setrlimit(resource.RLIMIT_MSGQUEUE, (need, resource.RLIM_INFINITY if False else 819200))
    with mqueue.PosixMessageQueue.create(name, count, size) as queue:
        queue.unlink()
    resource.setrlimit(resource.RLIMIT_MSGQUEUE, (need - 1, 819200))
    try:
        mqueue.PosixMessageQueue.create(name, count, size).unlink()
    except errors.NoSpace:
        print("refused")
"""
    output, _ = process.python(code, make_name()).communicate(timeout=WATCHDOG)
    assert output.split() == ["refused"] * 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sets fs.mqueue")
def test_too_many_queues(name: str, process: Processes) -> None:
    """NoSpace names queues_max.  It counts per namespace, of which the test takes one."""
    code = """
import ctypes, sys
from pathlib import Path
from shmkit import mqueue, errors
if ctypes.CDLL(None).unshare(0x08000000) != 0:
    raise SystemExit
name = sys.argv[1]
most = Path("/proc/sys/fs/mqueue/queues_max")
most.write_text("2")
made = [mqueue.PosixMessageQueue.create(f"{name}.{number}", 1, 10) for number in range(2)]
try:
    mqueue.PosixMessageQueue.create(name)
except errors.NoSpace as error:
    print(error)
"""
    output, _ = process.python(code, name).communicate(timeout=WATCHDOG)
    if not output:
        pytest.skip("this kernel gives no namespace, or does not let limits be set in it")
    assert "fs.mqueue.queues_max allows, 2; root raises it with `sysctl fs.mqueue.queues_max=4`" in output


def test_a_message_that_is_too_large(name: str) -> None:
    """RecordTooLarge says for what the queue was made."""
    with PosixMessageQueue.create(name, 2, 100) as queue:
        queue.unlink()
        with pytest.raises(shmkit.RecordTooLarge, match=r"101 bytes.*for 100 at most.*max_message_size=101.*allows"):
            queue.send(b"x" * 101)
        queue.send(b"x")
        queue.send(b"x")
        # Also while there is no room.
        with pytest.raises(shmkit.RecordTooLarge):
            queue.send(b"x" * 101, 0.1)


# ── beside programs in C ────────────────────────────────────────────────────────────────────────────────────────────

PROGRAM = """
#include <fcntl.h>
#include <mqueue.h>
#include <string.h>
int main(int argc, char **argv) {
    mqd_t in = mq_open(argv[1], O_RDONLY), out = mq_open(argv[2], O_WRONLY);
    char buffer[8192];
    unsigned priority;
    ssize_t count = mq_receive(in, buffer, sizeof buffer, &priority);
    return count < 0 || mq_send(out, buffer, count, priority + 1) != 0;
}
"""


@compiler
def test_a_c_program_has_the_same_queue(make_name: Callable[[], str], tmp_path: Path, process: Processes) -> None:
    """It receives what is sent here, and answers."""
    source, binary = tmp_path / "other.c", tmp_path / "other"
    source.write_text(PROGRAM)
    subprocess.run(["cc", "-o", os.fspath(binary), os.fspath(source), "-lrt"], check=True)
    with PosixMessageQueue.create(make_name()) as there, PosixMessageQueue.create(make_name()) as back:
        other = process.popen([binary, f"/{there.name}", f"/{back.name}"])
        there.send(b"hello", priority=7)
        assert back.recv_prioritized(WATCHDOG) == (b"hello", 8)
        assert wait_until(lambda: other.poll() is not None)
        assert other.returncode == 0
        there.unlink()
        back.unlink()
