"""What has a descriptor is closed while a thread, or a task, waits through it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import shmkit
from shmkit import fifo
from shmkit.descriptors import EventCounter, ProcessHandle
from shmkit.files import FileLock, Watcher
from shmkit.log import LogReader, LogWriter
from shmkit.mqueue import PosixMessageQueue
from shmkit.pipe import pipe
from shmkit.signals import collecting
from support import wait_until

WATCHDOG = 30.0


class Waiting(NamedTuple):
    """What waits, how it is closed, and what has to stay meanwhile."""

    wait: Callable[[], Any]
    close: Callable[[], Any]
    keep: Any = None


def counter(folder: Path, name: str) -> Waiting:
    made = EventCounter()
    return Waiting(made.wait, made.close)


def full_counter(folder: Path, name: str) -> Waiting:
    made = EventCounter()
    made.add(2**64 - 2)
    return Waiting(made.add, made.close)


def reader(folder: Path, name: str) -> Waiting:
    made, other = pipe()
    return Waiting(made.read, made.close, other)


def reader_into(folder: Path, name: str) -> Waiting:
    made, other = pipe()
    return Waiting(lambda: made.read_into(bytearray(5)), made.close, other)


def writer(folder: Path, name: str) -> Waiting:
    other, made = pipe()
    return Waiting(lambda: made.write(bytes(2**22)), made.close, other)


def reader_of_fifo(folder: Path, name: str) -> Waiting:
    fifo.create(folder / "fifo")
    made = fifo.open_reader(folder / "fifo")
    return Waiting(made.read, made.close)


def process(folder: Path, name: str) -> Waiting:
    made = ProcessHandle(os.getpid())
    return Waiting(lambda: made.wait(WATCHDOG), made.close)


def watcher(folder: Path, name: str) -> Waiting:
    made = Watcher(folder)
    return Waiting(made.wait, made.close)


def signals(folder: Path, name: str) -> Waiting:
    made = collecting(signal.SIGUSR1)
    made.__enter__()
    return Waiting(made.wait, lambda: made.__exit__(None, None, None))


def queue(folder: Path, name: str) -> Waiting:
    made = PosixMessageQueue.create(name)
    made.unlink()
    return Waiting(made.recv, made.close)


def asleep(thread: int) -> bool:
    """Whether that thread of this process sleeps in the kernel."""
    return Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def log(folder: Path, name: str) -> Waiting:
    other = LogWriter(folder / "log")
    other.append(b"first")
    made = LogReader(folder / "log")
    assert made.read() == b"first"
    return Waiting(made.read, made.close, other)


def closed_meanwhile(waiting: Waiting, then: Callable[[], Any] = lambda: None) -> list[BaseException]:
    """What came of its wait in a thread, which is closed, and what is done then."""
    threads: list[int] = []
    came: list[BaseException] = []

    def run() -> None:
        threads.append(threading.get_native_id())
        try:
            waiting.wait()
        except BaseException as error:
            came.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_until(lambda: bool(threads) and asleep(threads[0]))
    waiting.close()
    then()
    thread.join(WATCHDOG)
    assert not thread.is_alive()
    return came


@pytest.mark.parametrize(
    "make",
    [counter, full_counter, reader, reader_into, writer, reader_of_fifo, process, watcher, signals, queue, log],
    ids=lambda make: make.__name__,
)
def test_a_thread_that_waits_is_told(make: Callable[[Path, str], Waiting], tmp_path: Path, name: str) -> None:
    """By Closed, and does not wait for what nobody can send any more."""
    waiting = make(tmp_path, name)
    came = closed_meanwhile(waiting)
    assert [type(error) for error in came] == [shmkit.Closed]
    assert ("log" in str(came[0])) == (make is log)
    if waiting.keep is not None:
        waiting.keep.close()


@pytest.mark.parametrize(
    "make",
    [EventCounter, lambda: ProcessHandle(os.getpid()), lambda: Watcher("/", kinds={"gone"})],
    ids=["counter", "process", "watcher"],
)
def test_a_task_that_waits_is_told(make: Callable[[], Any]) -> None:
    """Where another task closes."""

    async def main() -> None:
        made = make()
        task = asyncio.create_task(made.wait_async())
        await asyncio.sleep(0)
        made.close()
        with pytest.raises(shmkit.Closed):
            await asyncio.wait_for(task, WATCHDOG)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["fcntl", "flock"])
def test_a_thread_that_waits_for_a_file_lock_does_not_have_it(how: str, tmp_path: Path) -> None:
    """Once it has come, as what it was to be held by is closed: somebody else may have it then."""
    holder, lock, other = (FileLock(tmp_path / "lock", how=how) for _ in range(3))
    holder.acquire()
    came = closed_meanwhile(Waiting(lock.acquire, lock.close), holder.release)
    assert [type(error) for error in came] == [shmkit.Closed]
    assert not lock.held
    for one in (other, lock):
        assert one.try_acquire()
        one.close()
    holder.close()
