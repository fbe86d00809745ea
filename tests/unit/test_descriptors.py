"""Counters, memory and processes that are descriptors."""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import select
import signal
import subprocess
import sys
import threading
from multiprocessing.context import BaseContext
from typing import Any

import pytest

import shmkit
from shmkit.descriptors import EventCounter, MemoryFile, ProcessHandle
from support import Processes

WATCHDOG = 30.0


# ---------------------------------------------------------------------------------------------------------- counters


def test_a_counter_gives_all_that_was_added() -> None:
    """At once; then there is nothing."""
    with EventCounter(2) as counter:
        counter.add(3)
        assert counter.wait(0) == 5
        assert counter.try_wait() == 0
        with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
            counter.wait(0.01)
    assert counter.closed
    with pytest.raises(shmkit.Closed):
        counter.add()


def test_a_semaphore_gives_one_at_a_time() -> None:
    """As often as it was added to."""
    with EventCounter(semaphore=True) as counter:
        counter.add(2)
        assert [counter.wait(0), counter.wait(0), counter.try_wait()] == [1, 1, 0]


def test_what_a_counter_takes() -> None:
    """Up to 2**64 - 2, and no more; negative numbers never."""
    with EventCounter() as counter:
        counter.add(2**64 - 2)
        assert not counter.try_add(1)
        with pytest.raises(TimeoutError):
            counter.add(1, 0.01)
        threading.Timer(0.05, counter.wait).start()
        counter.add(7, WATCHDOG)
        assert counter.wait(WATCHDOG) == 7
        for value in (-1, 2**64 - 1):
            with pytest.raises(ValueError, match="2\\*\\*64"):
                counter.try_add(value)
    for value in (-1, 2**32):
        with pytest.raises(ValueError, match="begins with"):
            EventCounter(value)


def test_a_counter_in_select_and_asyncio() -> None:
    """Readable when there is something."""
    with EventCounter() as counter:
        assert select.select([counter], [], [], 0)[0] == []
        threading.Timer(0.02, counter.add).start()
        assert select.select([counter], [], [], WATCHDOG)[0] == [counter]
        counter.wait(0)

        async def both() -> int:
            asyncio.get_running_loop().call_later(0.01, counter.add, 4)
            return await counter.wait_async(WATCHDOG)

        assert asyncio.run(both()) == 4

        async def never() -> None:
            await counter.wait_async(0.01)

        with pytest.raises(TimeoutError):
            asyncio.run(never())


def add(counter: EventCounter, value: int) -> None:
    counter.add(value)


def store(memory: MemoryFile) -> None:
    memory.map()[:5] = b"child"


def test_counter_and_memory_go_to_children(start_method: BaseContext, process: Processes) -> None:
    """Under all start methods they are the same ones there."""
    with EventCounter() as counter, MemoryFile(size=4096) as memory:
        children = [
            process(add, counter, 5, context=start_method),
            process(store, memory, context=start_method),
        ]
        assert counter.wait(WATCHDOG) == 5
        for child in children:
            child.join(WATCHDOG)
            assert child.exitcode == 0
        assert memory.read(5) == b"child"


# ------------------------------------------------------------------------------------------------------------ memory


def test_memory_is_a_file_of_its_own() -> None:
    """Reserved, private, read and written at offsets, as a Python file, and by its path."""
    with MemoryFile("scratch", "1 MiB") as memory:
        assert memory.size == 2**20
        assert os.fstat(memory.fileno()).st_blocks * 512 >= 2**20
        assert os.fstat(memory.fileno()).st_mode & 0o7777 == 0o600
        assert memory.write(b"hello", 10) == 5
        assert memory.write(b"") == 0
        assert memory.read(5, 10) == b"hello"
        assert len(memory.read()) == 2**20
        with memory.open() as file:
            assert file.read(15)[10:] == b"hello"
        seen = subprocess.run(["head", "-c", "15", memory.path], capture_output=True, check=True)
        assert seen.stdout[10:] == b"hello"
        memory.write(b"end", 2**20)
        assert memory.size == 2**20 + 3
        memory.resize(3)
        assert memory.read() == b"\0\0\0"
        assert "scratch" in os.readlink(memory.path)
    with pytest.raises(shmkit.Closed):
        memory.read()


def test_a_mapping_outlives_the_handle() -> None:
    """Whole, in part, and for reading only."""
    with MemoryFile(size=3 * mmap.PAGESIZE) as memory:
        memory.write(b"second", mmap.PAGESIZE)
        part = memory.map(size=6, offset=mmap.PAGESIZE)
        whole = memory.map(readonly=True)
        with pytest.raises(ValueError, match="are not in"):
            memory.map(size=1, offset=3 * mmap.PAGESIZE)
    part[:1] = b"S"
    assert whole[mmap.PAGESIZE : mmap.PAGESIZE + 6] == b"Second"
    with pytest.raises(TypeError):
        whole[0] = 1  # type: ignore[misc]
    part.close()
    whole.close()


def test_seals() -> None:
    """Each keeps from what it says, and is seen by whoever receives the file."""
    with MemoryFile(size=4096) as memory:
        assert memory.seals <= {"exec"}
        with pytest.raises(shmkit.Refused, match="shrink"):
            memory.require("shrink", "grow")
        memory.seal("shrink", "grow")
        assert {"shrink", "grow"} <= memory.seals
        memory.require("shrink", "grow")
        for size in (1, 8192):
            with pytest.raises(PermissionError, match=f"4096 bytes is sealed against becoming {size}"):
                memory.resize(size)
        mapped = memory.map()
        with pytest.raises(OSError, match="busy") as caught:
            memory.seal("write")
        assert caught.value.errno == errno.EBUSY
        memory.seal("future_write")
        mapped[0] = 1
        with pytest.raises(PermissionError):
            memory.write(b"x")
        mapped.close()
        memory.seal("write", "seal")
        with pytest.raises(PermissionError):
            memory.seal("shrink")
        with pytest.raises(ValueError, match="'melt'"):
            memory.seal("melt")


def test_what_memory_is_refused() -> None:
    """Names that /proc cannot show, sizes that there cannot be, descriptors that are none."""
    with pytest.raises(ValueError, match="249"):
        MemoryFile("x" * 250)
    with pytest.raises(shmkit.NoSpace, match="1152921504606846976 bytes"):
        MemoryFile(size=2**60)
    reading, writing = os.pipe()
    try:
        with pytest.raises(ValueError, match="no file"):
            MemoryFile.of_descriptor(reading)
    finally:
        os.close(reading)
        os.close(writing)


# --------------------------------------------------------------------------------------------------------- processes


def sleeper(process: Processes) -> Any:
    return process.popen(["sleep", "60"])


def test_a_child_is_signalled_waited_for_and_reaped(process: Processes) -> None:
    """Its exit status is what subprocess would say."""
    for code, status in (("import os; os.kill(os.getpid(), 9)", -9), ("raise SystemExit(7)", 7)):
        child = subprocess.Popen([sys.executable, "-c", code])
        with ProcessHandle(child.pid) as handle:
            assert handle.reap(WATCHDOG) == status
            assert not handle.alive
            with pytest.raises(ChildProcessError, match="reaped before"):
                handle.reap(WATCHDOG)
        child.returncode = status
    child = sleeper(process)
    with ProcessHandle(child.pid) as handle:
        with pytest.raises(TimeoutError):
            handle.reap(0.01)
        handle.send(signal.SIGTERM)
        handle.wait(WATCHDOG)
        assert child.wait() == -signal.SIGTERM


def test_a_process_in_asyncio(process: Processes) -> None:
    """Its end is waited for, whosever child it is."""
    child = sleeper(process)
    with ProcessHandle(child.pid) as handle:

        async def end() -> None:
            with pytest.raises(TimeoutError, match="did not end"):
                await handle.wait_async(0.01)
            asyncio.get_running_loop().call_later(0.01, child.kill)
            await handle.wait_async(WATCHDOG)

        asyncio.run(end())
        assert not handle.alive


def test_a_descriptor_of_another_process(process: Processes) -> None:
    """It is a copy; what is not there is said."""
    with MemoryFile("shared", 4096) as memory:
        child = process.popen(["sleep", "60"], pass_fds=[memory.fileno()])
        memory.write(b"theirs")
        with ProcessHandle(child.pid) as handle:
            try:
                fd = handle.getfd(memory.fileno())
            except PermissionError as error:
                assert "ptrace_scope" in str(error)
                pytest.skip("the kernel lets nobody look into others here")
            with MemoryFile.of_descriptor(fd) as copy:
                assert copy.read(6) == b"theirs"
            with pytest.raises(OSError, match="descriptor 999") as caught:
                handle.getfd(999)
            assert caught.value.errno == errno.EBADF
            child.kill()
            child.wait()
            with pytest.raises(OSError, match=str(child.pid)):
                handle.getfd(0)
