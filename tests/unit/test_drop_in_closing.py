"""A connection that one thread closes while others are in the midst of a call: they are told, and touch nothing."""

from __future__ import annotations

import os
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shmkit import multiprocessing as mp
from support import Processes, wait_until

WATCHDOG = 60
CORES = sorted(os.sched_getaffinity(0))
DUPLEX = pytest.mark.parametrize("duplex", [True, False], ids=["socket", "pipe"])


@pytest.fixture(params=[True, False], ids=["socket", "pipe"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """Who receives, and who sends, with something in common, as after a fork."""
    receiver, sender = mp.Pipe(request.param)
    sender.send_bytes(bytes(20_000))
    receiver.recv_bytes()
    yield receiver, sender
    receiver.close()
    sender.close()


def asleep(thread: int) -> bool:
    """Whether that thread of this process sleeps in the kernel."""
    return Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def started(call: Callable[[], Any]) -> tuple[threading.Thread, list[int], list[Any]]:
    """A thread that makes the call: itself, its number in the kernel, and what came of it."""
    numbers: list[int] = []
    came: list[Any] = []

    def run() -> None:
        numbers.append(threading.get_native_id())
        try:
            came.append(call())
        except BaseException as error:
            came.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, numbers, came


def is_free(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False


def test_who_reads_the_rest_of_a_message_does_not_read_another_file(ends: Any, process: Processes) -> None:
    """It waits for a message; meanwhile its end is closed, and the number given away.  Then the message begins."""
    receiver, sender = ends
    thread, numbers, came = started(receiver.recv_bytes)
    wait_until(lambda: numbers and asleep(numbers[0]))
    number = receiver._handle
    receiver.close()
    here, there = os.pipe()
    os.write(there, b"ours")
    if is_free(number):
        os.dup2(here, number)
    with suppress(BrokenPipeError):  # where the thread did not yet wait in the kernel
        os.write(sender.fileno(), struct.pack("!i", 4))
    thread.join(WATCHDOG)
    assert isinstance(came[0], OSError), came
    assert os.read(here, 9) == b"ours"
    wait_until(lambda: is_free(number))  # its last user gave it back
    os.close(here)
    os.close(there)


def interrupted(call: Callable[[], Any], handler: Callable[[], None]) -> Any:
    """What came of a call of this thread's, in whose midst a signal's handler ran."""
    me = threading.get_native_id()
    ended = threading.Event()

    def ring() -> None:
        wait_until(lambda: ended.is_set() or asleep(me))
        if not ended.is_set():
            os.kill(os.getpid(), signal.SIGUSR1)

    def once(*_: Any) -> None:
        handler()

    before = signal.signal(signal.SIGUSR1, once)
    thread = threading.Thread(target=ring)
    thread.start()
    try:
        return call()
    except (OSError, EOFError) as error:
        return error
    finally:
        ended.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def test_a_handler_that_closes_the_end_that_is_read(ends: Any) -> None:
    """And opens something else: that is not read."""
    receiver, _sender = ends
    number = receiver._handle
    here, there = os.pipe()
    os.write(there, struct.pack("!i", 1) + b"x")

    def close() -> None:
        receiver.close()
        if is_free(number):
            os.dup2(here, number)

    came = interrupted(receiver.recv_bytes, close)
    assert isinstance(came, OSError)
    assert not isinstance(came, EOFError)
    assert os.read(here, 9) == struct.pack("!i", 1) + b"x"
    assert is_free(number)
    os.close(here)
    os.close(there)


def test_a_handler_that_closes_the_end_that_is_written(ends: Any) -> None:
    """And opens something else: that is not written to."""
    receiver, sender = ends
    number = sender._handle
    here, there = os.pipe()
    os.set_blocking(here, False)

    def close() -> None:
        sender.close()
        if is_free(number):
            os.dup2(there, number)

    def fill() -> None:
        while True:
            sender.send_bytes(bytes(16_000))

    came = interrupted(fill, close)
    assert isinstance(came, OSError)
    with pytest.raises(BlockingIOError):
        os.read(here, 9)
    assert is_free(number)
    os.close(here)
    os.close(there)
    assert receiver.recv_bytes() == bytes(16_000)


def test_two_threads_close_it_once(ends: Any) -> None:
    """Neither closes what has the number by then."""
    for _ in range(300):
        made = mp.Pipe()
        made[0].send_bytes(bytes(20_000))
        made[1].recv_bytes()
        begin = threading.Barrier(2)
        opened: list[int] = []

        def close(made: Any = made, begin: threading.Barrier = begin, opened: list[int] = opened) -> None:
            begin.wait(WATCHDOG)
            for end in made:
                end.close()
            opened.append(os.dup(0))

        threads = [started(close) for _ in range(2)]
        for thread, _, came in threads:
            thread.join(WATCHDOG)
            assert came == [None], came
        for fd in opened:
            os.close(fd)  # EBADF where the other has closed it


def echo(end: Any, other: Any, core: int) -> None:
    other.close()
    os.sched_setaffinity(0, [core])
    with suppress(EOFError, OSError):
        while True:
            end.send(end.recv())


class Users:
    """Threads that use one end until they are told that it was closed."""

    def __init__(self, end: Any, calls: list[Callable[[Any], object]]) -> None:
        self.end = end
        self.begin = threading.Barrier(len(calls) + 1)
        self.threads = [started(partial(self.use, call)) for call in calls]
        self.begin.wait(WATCHDOG)

    def use(self, call: Callable[[Any], object]) -> None:
        self.begin.wait(WATCHDOG)
        while True:
            call(self.end)

    def were_told(self) -> None:
        for thread, _, came in self.threads:
            thread.join(WATCHDOG)
            assert not thread.is_alive()
            assert isinstance(came[0], OSError | EOFError), came


def sends(end: Any) -> None:
    end.send(b"x")


def sends_and_receives(end: Any) -> None:
    end.send(b"x")
    end.recv()


def polls(end: Any) -> None:
    end.poll(0.001)


def receives(end: Any) -> None:
    end.recv()


def forks(end: Any) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    end.fileno()


@DUPLEX
def test_closed_at_any_moment(duplex: bool, process: Processes) -> None:
    """While threads send, receive and look, and others fork: each is told, and none touches what is opened after it."""
    for turn in range(25):
        child: Any = None
        reader: Any = None
        with ExitStack() as stack:
            if duplex:
                here, there = mp.Pipe()
                child = process(echo, there, here, CORES[-1])
                users = Users(here, [sends_and_receives, polls, forks])
            else:
                there, here = mp.Pipe(False)
                reader = Users(there, [receives])
                users = Users(here, [sends, forks])
            for _ in range(turn % 5):
                os.sched_yield()
            here.close()
            decoys = [os.pipe() for _ in range(3)]
            for pipe in decoys:
                stack.callback(os.close, pipe[0])
                stack.callback(os.close, pipe[1])
                os.write(pipe[1], b"decoy")
            users.were_told()
            if duplex:
                there.close()
                child.join(WATCHDOG)
                assert child.exitcode == 0
            else:
                reader.were_told()
                there.close()
            for pipe in decoys:
                assert os.read(pipe[0], 99) == b"decoy"
