"""Small messages take a short way: it says the same as the long one, whatever comes in pieces, or in between."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

import shmkit
from channel.ends import KINDS, WATCHDOG, Kind, both, running
from shmkit.channel.frame import TAKEN_BACK, WHOLE, encode
from shmkit.channel.sockets import _tuned
from shmkit.channel.stream import StreamChannel

kernel = pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.name not in ("ring", "ring pair", "file")], ids=str
)
duplex = pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.duplex and kind.name in ("pipes", "seqpacket", "tcp", "unix")], ids=str
)
streams = pytest.mark.parametrize("url", ["pipe:?duplex=yes", "unix:"])
VALUES: list[Any] = [
    *[b"", b"x", bytes(4078), bytes(4079), bytes(4080), bytearray(b"more")],
    *["", "text", "ü€\U0001f600", "x" * 4079, "ü" * 2039, "ü" * 2040, "x" * 4080, "\ud800"],
    *[0, 1, -1, 127, 128, -128, -129, 2**31, 2**62, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**100],
    *[0.0, -2.5, float("inf"), None, True, False, {"a": (1, [2])}, [1, 2, 3], ("x",)],
]


def frame(value: Any, end: bytes = WHOLE) -> bytes:
    made = encode(value)
    return b"".join((made.header(), made.meta, *made.buffers, end))


def raw_and_end(**options: Any) -> tuple[socket.socket, StreamChannel]:
    """What writes bytes, and the end that receives them."""
    raw, sock = socket.socketpair()
    return raw, StreamChannel(_tuned(sock), "unix:test", sends=False, receives=True, **options)


@streams
def test_values_are_the_same_by_either_way(url: str) -> None:
    """At the edges of what is small and plain; counted alike."""
    one, other = shmkit.pair(url)
    with one, other:
        for value in ("both have", "greeted"):
            one.send(value, WATCHDOG)
            assert other.recv(WATCHDOG) == value
            other.send(value, WATCHDOG)
            assert one.recv(WATCHDOG) == value
        for value in VALUES:
            one.send(value)
            found = other.recv(WATCHDOG)
            assert type(found) is type(value)
            assert found == value
            one.send(value, 5)  # a whole number of seconds goes the long way
            assert other.recv(5) == value
        sent, received = one.statistics(), other.statistics()
        assert sent.sent == received.received == 2 * len(VALUES) + 2
        assert sent.bytes_sent == received.bytes_received
        assert sent.bytes_sent == 2 * sum(encode(value).nbytes for value in VALUES) + len("both have" + "greeted")


@pytest.mark.parametrize("value", [b"bytes", "text", -5, 2.5, None, True, {"an": "object"}], ids=repr)
def test_a_message_may_come_in_pieces(value: Any) -> None:
    """Cut at every byte: the first part is there before the receiver looks, the rest comes while it waits."""
    text = frame(value)
    raw, end = raw_and_end()
    with raw, end:
        for cut in range(len(text) + 1):
            raw.sendall(text[:cut])
            later = threading.Timer(0.001, raw.sendall, (text[cut:] + frame("next"),))
            later.start()
            assert end.recv(WATCHDOG) == value
            assert end.recv(WATCHDOG) == "next"
            later.join()


def test_what_was_taken_back_is_passed_over() -> None:
    """It was read by the short way, and is not given out."""
    raw, end = raw_and_end()
    with raw, end:
        for _ in range(3):
            raw.sendall(frame(b"never", TAKEN_BACK) + frame(b"this"))
            assert end.recv(WATCHDOG) == b"this"


@pytest.mark.parametrize(
    "text",
    [
        bytes(100),
        b"\xff" * 100,
        frame(b"bytes")[:-1] + b"?",
        frame(2.5)[:8] + (9).to_bytes(8, "little") + bytes(9) + WHOLE,
        frame("text")[:16] + b"\xff\xfe\xfd\xfc" + WHOLE,
        frame(b"x")[:1] + b"\x63" + frame(b"x")[2:],
    ],
)
def test_what_is_no_message_is_said(text: bytes) -> None:
    """As the long way says it; nothing hangs."""
    raw, end = raw_and_end()
    with raw, end:
        raw.sendall(text)
        raw.shutdown(socket.SHUT_WR)
        with pytest.raises((shmkit.RecordCorrupt, ValueError)):
            end.recv(WATCHDOG)


def test_random_bytes_are_no_message() -> None:
    """Two thousand of them: an error in words, or a whole message by chance."""
    for number in range(2000):
        raw, end = raw_and_end()
        with raw, end:
            head = frame(b"12345678")[: number % 20]
            raw.sendall(head + os.urandom(number % 60))
            raw.close()
            try:
                end.recv(WATCHDOG)
            except (shmkit.ChannelError, ValueError, EOFError, pickle.UnpicklingError):
                pass


def test_a_limit_holds_for_small_messages() -> None:
    """At both ends."""
    one, other = shmkit.pair("unix:", max_message=40)
    with one, other:
        one.send("greeted")
        assert other.recv(WATCHDOG) == "greeted"
        with pytest.raises(shmkit.RecordTooLarge):
            one.send(bytes(41))
        one.send(bytes(40))
        assert other.recv(WATCHDOG) == bytes(40)
    raw, end = raw_and_end(max_message=10)
    with raw, end:
        raw.sendall(frame(bytes(11)))
        with pytest.raises(shmkit.RecordTooLarge):
            end.recv(WATCHDOG)


@streams
def test_time_outs_are_kept(url: str) -> None:
    """Of a thousandth, and of more than the short way waits; what comes within them is received."""
    one, other = shmkit.pair(url)
    with one, other:
        one.send("greeted")
        assert other.recv(WATCHDOG) == "greeted"
        for timeout in (0.0, 0.001, 0.08):
            with pytest.raises(TimeoutError, match=f"within {timeout} s"):
                other.recv(timeout)
        with pytest.raises(ValueError, match="nan"):
            other.recv(float("nan"))
        with running(other.recv, WATCHDOG) as came:
            one.send("later")
        assert came == ["later"]


@kernel
def test_every_mechanism_says_the_same_by_either_way(kind: Kind, tmp_path: Path, name: str) -> None:
    """Values and bytes at the edges, mixed with what is not small, in order and counted alike."""
    with both(kind, tmp_path, name) as (receiver, sender):
        sender.send("greeted", WATCHDOG)
        assert receiver.recv(WATCHDOG) == "greeted"
        count, nbytes = 1, len("greeted")
        for value in VALUES:
            size = encode(value).nbytes
            if size > kind.most or (kind.name == "fifo of many" and size > 4079):
                continue
            sender.send(value)
            sender.send(value, 5)  # a whole number of seconds goes the long way
            for timeout in (5.0, 5):
                found = receiver.recv(timeout)
                assert type(found) is type(value)
                assert found == value
            count, nbytes = count + 2, nbytes + 2 * size
            if isinstance(value, bytes):
                sender.send_bytes(value)
                assert receiver.recv_bytes() == value
                sender.send_bytes(value, 5)
                assert receiver.recv(5.0) == value
                count, nbytes = count + 2, nbytes + 2 * size
        sent, received = sender.statistics(), receiver.statistics()
        assert sent.sent == received.received == count
        assert sent.bytes_sent == received.bytes_received == nbytes


@kernel
def test_what_was_refused_or_found_comes_first(kind: Kind, tmp_path: Path, name: str) -> None:
    """A message that ``recv_bytes`` does not take, or ``poll`` has found, is not overtaken by the short way."""
    with both(kind, tmp_path, name) as (receiver, sender):
        sender.send(0, WATCHDOG)
        assert receiver.recv(WATCHDOG) == 0
        for number in range(1, 4):
            sender.send(number)
            sender.send(b"bytes")
            with pytest.raises(TypeError):
                receiver.recv_bytes(5.0)
            assert receiver.recv(5.0) == number
            assert receiver.poll(5.0)
            assert receiver.recv_bytes(5.0) == b"bytes"
        with pytest.raises(TimeoutError):
            receiver.recv_bytes(0.001)


@kernel
def test_closing_ends_a_call_on_the_short_way(kind: Kind, tmp_path: Path, name: str) -> None:
    """Of another thread, which waits in the kernel just then."""
    with both(kind, tmp_path, name) as (receiver, sender):
        sender.send("greeted", WATCHDOG)
        assert receiver.recv(WATCHDOG) == "greeted"
        with running(receiver.recv, WATCHDOG) as came:
            receiver.close()
        assert isinstance(came[0], shmkit.Closed)
        with pytest.raises(shmkit.Closed):
            receiver.recv()
        with pytest.raises(shmkit.Closed):
            receiver.recv_bytes(1.0)
        sender.close(0)
        with pytest.raises(shmkit.Closed):
            sender.send(b"x")
        with pytest.raises(shmkit.Closed):
            sender.send_bytes(b"x")


@kernel
def test_threads_take_turns_on_the_short_way(kind: Kind, tmp_path: Path, name: str) -> None:
    """Four send and three receive: each message comes once."""
    with both(kind, tmp_path, name) as (receiver, sender):
        sender.send(-1, WATCHDOG)
        assert receiver.recv(WATCHDOG) == -1
        each, came = 300, []

        def send(first: int) -> None:
            for number in range(first, first + each):
                sender.send(number)

        def receive() -> None:
            came.extend(receiver.recv(WATCHDOG) for _ in range(each * 4 // 3))

        threads = [threading.Thread(target=send, args=(number * each,)) for number in range(4)]
        threads += [threading.Thread(target=receive) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WATCHDOG)
        assert sorted(came) == list(range(4 * each))


def test_packets_of_all_sizes_are_whole() -> None:
    """A large one among small ones is not cut off; nor is a small one after it."""
    one, other = shmkit.pair("unix:?type=seqpacket")
    with one, other:
        for size in (1, 4079, 4080, 4081, 100_000, 5, 150_000, 0, 150_000, 4096, 8, 8):
            data = os.urandom(size)
            one.send(data, 5.0)
            one.send_bytes(data, 5.0)
            assert other.recv(5.0) == data
            assert other.recv_bytes(5.0) == data


@duplex
def test_a_handler_may_close_the_end_that_waits(kind: Kind, tmp_path: Path, name: str) -> None:
    """It runs within the short way, which looks at nothing of the end afterwards."""
    with both(kind, tmp_path, name) as (receiver, sender):
        sender.send("greeted", WATCHDOG)
        assert receiver.recv(WATCHDOG) == "greeted"
        previous = signal.signal(signal.SIGALRM, lambda *_: receiver.close(0))
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.005)
            with pytest.raises(shmkit.Closed):
                receiver.recv(WATCHDOG)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)


@duplex
def test_a_forked_child_greets_before_its_first_message(kind: Kind, tmp_path: Path, name: str) -> None:
    """The short way that the parent had open is not the child's: killed, it is missed."""
    with both(kind, tmp_path, name) as (receiver, sender):
        for _ in range(3):
            sender.send("parent")
            assert receiver.recv(WATCHDOG) == "parent"
        pid = os.fork()
        if pid == 0:
            try:
                sender.send("child")
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        assert receiver.recv(WATCHDOG) == "child"
        sender.send("parent")
        assert receiver.recv(WATCHDOG) == "parent"
