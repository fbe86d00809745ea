"""Every call has a short way, for plain values of any size: it says the same as the long one."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmkit
from channel.ends import WATCHDOG, Kind, both, running, same
from channel.test_small import frame, kernel, raw_and_end, streams
from shmkit._turns import Turn
from shmkit.alarm import thread_alarm
from shmkit.channel.frame import TAKEN_BACK, encode
from shmkit.waiting import Deadline

# Around the sizes at which the ways differ: a frame that fits a pipe's page, one that is copied, one that is not.
SIZES = [0, 1, 4064, 4079, 4080, 4096, 8000, 8300, 8413, 8431, 8432, 8433, 20_000, 70_000, 140_000]
LARGE: list[Any] = [
    bytearray(b"0123456789" * 20_000),
    "ascii " * 20_000,
    "ümläüt €" * 20_000,
    list(range(30_000)),
    {"an": np.arange(30_000), "object": bytes(9000)},
    np.arange(16_384.0).reshape(64, 256),
    np.ones(3000, [("a", "i4"), ("b", ">f8")]),
]


def array_of(size: int) -> np.ndarray[Any, Any]:
    return (np.arange(size) % 251).astype("u1")


def alike(found: Any, value: Any) -> bool:
    if isinstance(value, dict):
        return list(found) == list(value) and all(same(found[key], value[key]) for key in value)
    return same(found, value)


@kernel
def test_arrays_and_bytes_of_all_sizes(kind: Kind, tmp_path: Path, name: str) -> None:
    """Each size by each way, and those of one size in two shapes: in order, whole, counted alike."""
    with both(kind, tmp_path, name) as (receiver, sender):
        sender.send("greeted", WATCHDOG)
        assert receiver.recv(WATCHDOG) == "greeted"
        count, nbytes = 1, 7
        for size in SIZES:
            if size > kind.most:
                break
            array = array_of(size)
            for value in (array, array.tobytes(), bytearray(array), array.reshape(-1, 1), array, array):
                for sending, receiving in ((5.0, 5.0), (5, 5.0), (5.0, 5)):
                    sender.send(value, sending)
                    assert same(receiver.recv(receiving), value)
                count, nbytes = count + 3, nbytes + 3 * size
        sent, received = sender.statistics(), receiver.statistics()
        assert sent.sent == received.received == count
        assert sent.bytes_sent == received.bytes_received == nbytes


@pytest.mark.parametrize("url", ["pipe:?duplex=yes", "unix:", "unix:?type=seqpacket"])
@pytest.mark.parametrize("value", LARGE, ids=lambda value: type(value).__name__)
def test_what_is_large_is_the_same_by_either_way(url: str, value: Any) -> None:
    """Text, objects, arrays: sent and received by each."""
    one, other = shmkit.pair(url)
    with one, other:
        one.send("greeted", WATCHDOG)
        assert other.recv(WATCHDOG) == "greeted"
        other.send("greeted", WATCHDOG)
        assert one.recv(WATCHDOG) == "greeted"
        for sending, receiving in ((5.0, 5.0), (5.0, 5), (5, 5.0), (5.0, 5.0)):
            with running(one.send, value, sending) as sent:
                assert alike(other.recv(receiving), value)
            assert sent == [None]
        assert one.statistics().bytes_sent == other.statistics().bytes_received == 7 + 4 * encode(value).nbytes


@kernel
def test_bytes_into_a_buffer(kind: Kind, tmp_path: Path, name: str) -> None:
    """From bytes, arrays and what has a buffer; what does not fit, or is none, stays for the next call."""
    with both(kind, tmp_path, name) as (receiver, sender):
        sender.send("greeted", WATCHDOG)
        assert receiver.recv(WATCHDOG) == "greeted"
        for size in SIZES:
            if size > kind.most:
                break
            array = array_of(size)
            buffer = np.full(size + 3, 255, "u1")
            for send, value in (
                (sender.send, array),
                (sender.send, array.tobytes()),
                (sender.send, bytearray(array)),
                (sender.send_bytes, array),
                (sender.send_bytes, memoryview(array.tobytes())),
                (sender.send_bytes, array.reshape(-1, 1)),
            ):
                for sending, receiving in ((5.0, 5.0), (5, 5.0), (5.0, 5)):
                    send(value, sending)
                    assert receiver.recv_into(buffer, receiving) == size
                    assert same(buffer[:size], array)
                    assert buffer[size:].tolist() == [255] * 3
                    buffer[:] = 255
            sender.send(array)
            if size:
                with pytest.raises(ValueError, match="does not fit"):
                    receiver.recv_into(bytearray(size - 1), 5.0)
            sender.send("text" if size < 100 else "text" * (size // 8))
            assert receiver.recv_into(bytearray(size), 5.0) == size
            with pytest.raises(TypeError, match="str"):
                receiver.recv_into(bytearray(size + 10), 5.0)
            assert receiver.recv(5.0)[:4] == "text"
        with pytest.raises(TimeoutError):
            receiver.recv_into(bytearray(9), 0.001)
        with pytest.raises((ValueError, TypeError, BufferError)):
            receiver.recv_into(b"read-only", 0.001)


@pytest.mark.parametrize("value", [np.arange(9.0), bytes(range(200)) * 50], ids=["array", "bytes"])
def test_a_buffer_is_filled_by_pieces(value: Any) -> None:
    """Cut at every byte of what comes first and last."""
    text = frame(value)
    raw, end = raw_and_end()
    size = value.nbytes if isinstance(value, np.ndarray) else len(value)
    with raw, end:
        raw.sendall(frame("first"))
        assert end.recv(WATCHDOG) == "first"
        for cut in {*range(min(120, len(text))), *range(len(text) - 40, len(text))}:
            buffer = bytearray(size)
            raw.sendall(text[:cut])
            later = threading.Timer(0.001, raw.sendall, (text[cut:] + frame("next"),))
            later.start()
            assert end.recv_into(buffer, WATCHDOG) == size
            assert buffer == bytes(value)
            assert end.recv(WATCHDOG) == "next"
            later.join()
        raw.sendall(frame(value, TAKEN_BACK) + text)
        assert end.recv_into(buffer, WATCHDOG) == size


@kernel
def test_without_waiting(kind: Kind, tmp_path: Path, name: str) -> None:
    """Values of all sizes against a list of what was accepted; nothing is lost where there is no room."""
    choose = random.Random(4)
    with both(kind, tmp_path, name) as (receiver, sender):
        sender.send("greeted", WATCHDOG)
        assert receiver.recv(WATCHDOG) == "greeted"
        under_way: list[Any] = []
        for number in range(600):
            if choose.random() < 0.6:
                size = choose.choice([size for size in SIZES if size <= kind.most])
                value = choose.choice([number, f"text {number}", array_of(size), bytes(size), bytearray(size)])
                if sender.try_send(value):
                    under_way.append(value)
            else:
                missing = object()
                found = receiver.try_recv(missing)
                if found is not missing:
                    assert same(found, under_way.pop(0))
                elif under_way:
                    # The rest of a large one goes with the next call.
                    sender.try_send("rest") and under_way.append("rest")
        for value in under_way:
            with running(sender.flush, WATCHDOG):
                assert same(receiver.recv(WATCHDOG), value)
        assert receiver.try_recv("nothing") == "nothing"
        assert sender.statistics().sent == receiver.statistics().received


@streams
def test_what_was_begun_is_no_longer_the_callers(url: str) -> None:
    """A large message of which a part went counts; what becomes of the array afterwards is nobody's business."""
    one, other = shmkit.pair(url)
    with one, other:
        one.send("greeted", WATCHDOG)
        assert other.recv(WATCHDOG) == "greeted"
        for kind in (np.array, bytearray):
            value = kind(np.arange(3_000_000, dtype="u1"))
            expected = bytes(value)
            assert one.try_send(value)
            assert not one.try_send(b"x")
            value[:] = kind(np.zeros(3_000_000, "u1"))
            with running(one.flush, WATCHDOG):
                assert bytes(other.recv(WATCHDOG)) == expected


def test_packets_that_are_like_the_last_or_not() -> None:
    """Arrays of one size and other kinds, smaller and larger ones, bytes among them: guessed right and wrong."""
    choose = random.Random(9)
    one, other = shmkit.pair("unix:?type=seqpacket")
    with one, other:
        for end, peer in ((one, other), (other, one)):
            end.send("greeted", WATCHDOG)
            assert peer.recv(WATCHDOG) == "greeted"
        kinds = ["f8", "i8", "u1", ">i4", "M8[s]", [("x", "f8"), ("y", "f8")]]
        for _ in range(400):
            nbytes = choose.choice([16, 4096, 16_384, 32_768, 32_768, 32_784, 65_536, 65_536, 131_072])
            array = np.frombuffer(bytes(number % 100 for number in range(nbytes)), choose.choice(kinds))  # no nan
            value = choose.choice([array, array, array, array.reshape(-1, 1), array.tobytes(), "text", {"a": nbytes}])
            one.send(value, WATCHDOG)
            assert alike(other.recv(WATCHDOG), value)


def test_a_turn_is_waited_for() -> None:
    """For as long as the time-out says; the thread that has it is told so; signals are handled meanwhile."""
    turn = Turn()
    assert turn.try_take()
    assert turn.mine
    assert not turn.try_take()
    with pytest.raises(RuntimeError, match="in use by this very thread"):
        turn.take(Deadline(1.0), "an end")
    with running(turn.take, Deadline(0.01), "an end") as came:
        pass
    assert came == [False]
    with running(turn.take, Deadline(None), "an end") as came:
        turn.give()
    assert came == [True]
    assert not turn.mine
    turn.give()

    # The main thread waits for another's, and a handler ends that.
    taken, leave = threading.Event(), threading.Event()

    def hold() -> None:
        assert turn.take(Deadline(WATCHDOG), "an end")
        taken.set()
        leave.wait(WATCHDOG)
        turn.give()

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with running(hold):
        assert taken.wait(WATCHDOG)
        previous = signal.signal(signal.SIGALRM, stop)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            with pytest.raises(KeyboardInterrupt):
                turn.take(Deadline(WATCHDOG), "an end")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
            leave.set()


def test_many_threads_have_one_turn() -> None:
    """Never two at once, and nobody is forgotten."""
    turn, inside, most = Turn(), [0], [0]

    def work() -> None:
        for number in range(300):
            assert turn.take(Deadline(WATCHDOG), "an end")
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            if number % 20 == 0:
                os.sched_yield()
            inside[0] -= 1
            turn.give()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WATCHDOG)
    assert most == [1]


@kernel
def test_a_wait_ends_with_what_a_handler_raises(kind: Kind, tmp_path: Path, name: str) -> None:
    """And with nothing lost: the next call receives what comes then."""

    def stop(*_: Any) -> None:
        raise InterruptedError("of the test")

    with both(kind, tmp_path, name) as (receiver, sender):
        sender.send("greeted", WATCHDOG)
        assert receiver.recv(WATCHDOG) == "greeted"
        previous = signal.signal(signal.SIGALRM, stop)
        try:
            for number in range(3):
                with pytest.raises(InterruptedError, match="of the test"):
                    signal.setitimer(signal.ITIMER_REAL, 0.003)
                    receiver.recv(WATCHDOG)
                assert thread_alarm().depth == 0
                with running(receiver.recv, WATCHDOG) as came:
                    sender.send(number)
                assert came == [number]
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
