"""The next message's header comes along with a message: nobody sees it, but the system calls are fewer."""

from __future__ import annotations

import fcntl
import os
import pickle
import select
import signal
import sys
import termios
from multiprocessing import resource_sharer
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shmkit
from channel.ends import WATCHDOG, same
from channel.test_small import frame, raw_and_end, streams
from shmkit.channel.frame import HEADER
from support import Processes

pairs = pytest.mark.parametrize("url", ["pipe:", "pipe:?duplex=yes", "unix:"])
SIZES = (0, 1, 64, 4096, 9000, 20_000)  # five of them fit a socket


def is_readable(end: Any) -> bool:
    """Whether its descriptor says so, whose number it is not asked for: that would end the reading ahead."""
    return bool(select.select([end._in_fd()], [], [], 0)[0])


def unread(end: Any) -> int:
    """Bytes that wait in the kernel."""
    return int.from_bytes(fcntl.ioctl(end._in_fd(), termios.FIONREAD, bytes(4)), sys.byteorder)


def begun(url: str) -> tuple[Any, Any]:
    """Two ends, the first of which receives, after their first message."""
    receiver, sender = shmkit.pair(url)
    sender.send("first", WATCHDOG)
    assert receiver.recv(WATCHDOG) == "first"
    return receiver, sender


@pairs
@pytest.mark.parametrize("size", SIZES)
def test_the_descriptor_says_what_it_said(url: str, size: int) -> None:
    """Readable as long as a message waits, though the header of the next is here already."""
    receiver, sender = begun(url)
    with receiver, sender:
        for _ in range(4):
            sender.send(bytes(size), WATCHDOG)
        for _ in range(4):
            assert is_readable(receiver)
            assert receiver.recv(WATCHDOG) == bytes(size)
        assert not is_readable(receiver)
        assert receiver.try_recv("nothing") == "nothing"


@pytest.mark.parametrize("value", [b"small", np.arange(512.0), np.arange(5000.0)], ids=["small", "4 KiB", "40 KB"])
def test_a_read_for_each_message(value: Any) -> None:
    """And one for the first header."""
    receiver, sender = shmkit.pair("pipe:")
    with receiver, sender:
        for _ in range(2):  # a first array's kind is learned by a read of its own
            sender.send(value, WATCHDOG)
            receiver.recv(WATCHDOG)
        count = 20
        for _ in range(count):
            sender.send(value, WATCHDOG)
        before = reads()
        for _ in range(count):
            assert same(receiver.recv(WATCHDOG), value)
        assert reads() - before - asking() == count + 1


def reads() -> int:
    """Calls of read and readv that this process has made."""
    with open("/proc/self/io") as found:
        return int(dict(line.split(": ") for line in found)["syscr"])


def asking() -> int:
    """How many of them it takes to find out."""
    first = reads()
    return reads() - first


@pairs
def test_who_asks_for_the_descriptor_finds_whole_messages(url: str) -> None:
    """From then on just the header is read, and what it says."""
    receiver, sender = begun(url)
    with receiver, sender:
        receiver.fileno()
        for _ in range(3):
            sender.send(b"x" * 100, WATCHDOG)
        for left in (2, 1, 0):
            assert receiver.recv(WATCHDOG) == b"x" * 100
            assert unread(receiver) == left * len(frame(b"x" * 100))


@pairs
@pytest.mark.parametrize("size", [10, 2000])
def test_a_forked_child_reads_on(url: str, size: int) -> None:
    """And then the parent again, each where the other stopped."""
    receiver, sender = begun(url)
    with receiver, sender:
        for number in range(6):
            sender.send(np.full(size, number), WATCHDOG)
        for turn in range(3):
            assert receiver.recv(WATCHDOG)[-1] == 2 * turn
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    code = 0 if receiver.recv(WATCHDOG)[-1] == 2 * turn + 1 else 2
                finally:
                    os._exit(code)
            assert os.waitpid(pid, 0)[1] == 0
        assert receiver.try_recv("nothing") == "nothing"


def _take(receiver: Any, lock: Any, results: Any, count: int) -> None:
    """A worker: so many messages, one at a time."""
    for _ in range(count):
        with lock:
            number = receiver.recv(WATCHDOG)
        results.put(int(number[0]))


@pytest.mark.parametrize("url", ["pipe:", "unix:"])
def test_workers_that_take_turns(url: str, start_method: BaseContext, process: Processes) -> None:
    """Several processes receive from one end, under a lock: each message comes to one of them, whole."""
    receiver, sender = shmkit.pair(url)
    lock, results = start_method.Lock(), start_method.SimpleQueue()
    with receiver, sender:
        children = [process(_take, receiver, lock, results, 20, context=start_method) for _ in range(3)]
        for number in range(60):
            sender.send(np.full(100 + number % 2, number), WATCHDOG)
        assert sorted(results.get() for _ in range(60)) == list(range(60))
        for child in children:
            child.join(WATCHDOG)
            assert child.exitcode == 0
    results.close()


@pairs
def test_what_was_read_goes_with_the_end(url: str) -> None:
    """An end that is handed on after its first message: the next one arrives there, and cannot be had twice."""
    receiver, sender = begun(url)
    with receiver, sender:
        for number in range(3):
            sender.send([number], WATCHDOG)
        assert receiver.recv(WATCHDOG) == [0]
        text = pickle.dumps(receiver)
        with pytest.raises(shmkit.ChannelError, match="handed on"):
            pickle.dumps(receiver)
        with pytest.raises(shmkit.ChannelError, match="handed on"):
            receiver.recv(WATCHDOG)
        with pickle.loads(text) as other:
            assert [other.recv(WATCHDOG), other.recv(WATCHDOG)] == [[1], [2]]
    resource_sharer.stop(WATCHDOG)


def _receive(receiver: Any, expected: list[Any]) -> None:
    assert [receiver.recv(WATCHDOG) for _ in expected] == expected


@pairs
def test_a_connection_that_is_handed_on_after_its_first_message(
    url: str, start_method: BaseContext, process: Processes
) -> None:
    """As a server does that reads who calls, and gives the rest to a worker."""
    receiver, sender = begun(url)
    with receiver, sender:
        for number in range(4):
            sender.send(number, WATCHDOG)
        assert receiver.recv(WATCHDOG) == 0
        child = process(_receive, receiver, [1, 2, 3], context=start_method)
        child.join(WATCHDOG)
        assert child.exitcode == 0


def test_a_header_is_all_that_comes_of_a_message() -> None:
    """Its time is up, and it stays; the rest comes, and it is whole.  Killed there, the sender is missed."""
    raw, end = raw_and_end()
    with raw, end:
        whole = frame(b"y" * 50)
        raw.sendall(frame(b"x") + frame(b"x"))
        assert end.recv(WATCHDOG) == b"x"
        for cut in (1, HEADER.size - 1, HEADER.size, HEADER.size + 1, len(whole) - 1):
            raw.sendall(whole[:cut])
            assert end.recv(WATCHDOG) == b"x"
            for timeout in (0.0, 0.001, 0.06):
                with pytest.raises(TimeoutError):
                    end.recv(timeout)
            raw.sendall(whole[cut:] + frame(b"x"))
            assert end.recv(WATCHDOG) == b"y" * 50
        raw.sendall(whole[: HEADER.size])
        assert end.recv(WATCHDOG) == b"x"
        raw.close()
        with pytest.raises(shmkit.PeerDied, match="middle"):
            end.recv(WATCHDOG)


def test_a_signal_in_between() -> None:
    """What a handler raises leaves the header where it is."""
    receiver, sender = begun("unix:")

    def interrupt(*_: object) -> None:
        raise InterruptedError("now")

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        with receiver, sender:
            raw = sender._stream.sock
            raw.sendall(frame(1) + frame(2)[: HEADER.size])
            assert receiver.recv(WATCHDOG) == 1
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(InterruptedError):
                receiver.recv(WATCHDOG)
            raw.sendall(frame(2)[HEADER.size :] + frame(3))
            assert [receiver.recv(WATCHDOG), receiver.recv(WATCHDOG)] == [2, 3]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


CALLS = ("recv", "recv late", "recv_bytes", "recv_into", "try_recv", "poll", "next")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_messages_in_any_pieces_by_any_calls(data: st.DataObject) -> None:
    """Against the list of what was sent: cut anywhere, by whichever call; what is refused stays."""
    values = data.draw(st.lists(st.sampled_from(SIZES), min_size=1, max_size=5))
    arrays = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    sent: list[Any] = [
        np.arange(size, dtype="u1") if as_array else bytes([size % 251]) * size
        for size, as_array in zip(values, arrays, strict=True)
    ]
    stream = b"".join(frame(value) for value in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    raw, end = raw_and_end()
    got = 0
    with raw, end:
        for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            raw.sendall(stream[start:stop])
            whole = 0
            while whole < len(sent) and sum(len(frame(value)) for value in sent[: whole + 1]) <= stop:
                whole += 1
            for _ in range(got, data.draw(st.integers(got, whole))):
                call = data.draw(st.sampled_from(CALLS))
                expected = sent[got]
                if call == "poll":
                    assert end.poll(WATCHDOG)
                if call == "recv_bytes":
                    assert end.recv_bytes(WATCHDOG) == bytes(expected)
                elif call == "recv_into":
                    room = bytearray(len(expected) + 3)
                    assert end.recv_into(room, WATCHDOG) == len(expected)
                    assert room[: len(expected)] == bytes(expected)
                else:
                    found = (
                        end.recv(20)
                        if call == "recv late"
                        else end.try_recv()
                        if call == "try_recv"
                        else next(iter(end))
                        if call == "next"
                        else end.recv(WATCHDOG)
                    )
                    assert same(found, expected)
                got += 1
            if got == whole:
                with pytest.raises(TimeoutError):
                    end.recv(0.0)


@streams
def test_a_loop_ends_with_the_other_end(url: str) -> None:
    """All that was sent, whole, and then no more."""
    receiver, sender = shmkit.pair(url)
    with receiver:
        with sender:
            for number in range(5):
                sender.send(number, WATCHDOG)
        loop = iter(receiver)
        assert iter(loop) is loop
        assert list(loop) == list(range(5))
        assert list(receiver) == []
