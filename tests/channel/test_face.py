"""What every channel does, whatever carries it."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import select
import sys
import time
import tracemalloc
from dataclasses import replace
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmkit
from channel import ends
from channel.ends import KINDS, WATCHDOG, Kind, both, make, running, same
from shmkit import channel
from support import REPOSITORY, Processes, wait_until

every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
duplex_kinds = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.duplex], ids=str)
one_way_kinds = pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.duplex], ids=str)


def under_every_start_method(kinds: list[Kind]) -> pytest.MarkDecorator:
    """With kinds, and start methods."""
    cases = [
        pytest.param(kind, method, id=f"{kind}-{method}")
        for kind in kinds
        for method in ("fork", "spawn", "forkserver")
    ]
    return pytest.mark.parametrize(("kind", "start_method"), cases, indirect=["start_method"])


VALUES: list[Any] = [
    b"",
    b"bytes",
    bytearray(b"more"),
    "",
    "tüxt",
    "\ud800",
    0,
    -1,
    255,
    2**63,
    -(2**100),
    2.5,
    float("inf"),
    None,
    True,
    False,
    (),
    [1, "two", 3.0],
    {"a": {1, 2}, "b": frozenset()},
    1j,
    ValueError("no"),
    range(5),
]

ARRAYS: list[Any] = [
    np.arange(12, dtype="i4"),
    np.arange(12.0).reshape(3, 4),
    np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    np.arange(24).reshape(2, 3, 4)[:, ::2, 1],
    np.array(5.0),
    np.zeros((0, 3)),
    np.zeros((3, 0), order="F"),
    np.arange(5, dtype=">u2"),
    np.array([True, False]),
    np.array([1 + 2j]),
    np.array(["2020-01-01", "NaT"], "M8[D]"),
    np.array(["ab", "c"]),
    np.array([b"ab", b"c"]),
    np.zeros(3, [("a", "f4"), ("b", "M8[s]"), ("c", "u1", (2, 2))]),
    np.zeros(2, np.dtype([("a", "u1"), ("b", "f8")], align=True)),
    np.array([[1.5]], "f4"),
    np.array([{"an": "object"}, None], dtype=object),
]


@every_kind
def test_objects_arrive_as_they_are(kind: Kind, tmp_path: Path, name: str) -> None:
    """Their types too."""
    with both(kind, tmp_path, name) as (receiver, sender):
        for value in VALUES:
            sender.send(value, timeout=WATCHDOG)
            received = receiver.recv(WATCHDOG)
            assert type(received) is type(value)
            assert received == value or (isinstance(value, Exception) and repr(received) == repr(value))


@every_kind
def test_arrays_arrive_with_dtype_shape_and_order(kind: Kind, tmp_path: Path, name: str) -> None:
    """In memory of their own, which may be written."""
    with both(kind, tmp_path, name) as (receiver, sender):
        for array in ARRAYS:
            sender.send(array, timeout=WATCHDOG)
            received = receiver.recv(WATCHDOG)
            assert type(received) is np.ndarray
            assert (received.dtype, received.shape) == (array.dtype, array.shape)
            assert np.array_equal(received, array) or received.dtype.kind == "M"
            assert received.tobytes() == array.tobytes() or received.dtype.hasobject
            assert received.flags.writeable
            if array.flags.f_contiguous and not array.flags.c_contiguous:
                assert received.flags.f_contiguous
            assert received.flags.owndata or received.dtype.hasobject


@every_kind
def test_large_buffers_inside_of_objects_arrive(kind: Kind, tmp_path: Path, name: str) -> None:
    """Writable where they were, and each aligned as NumPy's own arrays are."""
    size = min(kind.most // 8, 50_000) // 4
    frozen = np.arange(size, dtype="u1")
    frozen.flags.writeable = False
    value = {"one": np.arange(size // 8, dtype="f8"), "frozen": frozen, "empty": np.zeros(0), "small": np.arange(3)}
    with both(kind, tmp_path, name) as (receiver, sender):
        sender.send(value, timeout=WATCHDOG)
        received = receiver.recv(WATCHDOG)
        assert list(received) == list(value)
        for key, array in value.items():
            assert np.array_equal(received[key], array)
        assert received["one"].flags.writeable
        assert received["one"].flags.aligned
        assert not received["frozen"].flags.writeable or size < 1024  # small ones are copied into the pickle


@every_kind
def test_bytes_come_as_bytes_and_into_buffers(kind: Kind, tmp_path: Path, name: str) -> None:
    """Whatever has a buffer can be sent as bytes, and taken as such."""
    with both(kind, tmp_path, name) as (receiver, sender):
        data: Any
        for data in (b"", b"abc", bytearray(b"abcd"), memoryview(b"abcde")[1:], np.arange(3, dtype="u2")):
            for take in ("recv", "recv_bytes"):
                sender.send_bytes(data, timeout=WATCHDOG)
                received = getattr(receiver, take)(WATCHDOG)
                assert type(received) is bytes
                assert received == bytes(data)
            buffer = bytearray(b"........")
            sender.send_bytes(data, timeout=WATCHDOG)
            assert receiver.recv_into(buffer, WATCHDOG) == len(bytes(data))
            assert buffer == bytes(data).ljust(8, b".")
        array = np.arange(4, dtype="i4")
        sender.send(array, timeout=WATCHDOG)
        assert receiver.recv_bytes(WATCHDOG) == array.tobytes()
        sender.send(array, timeout=WATCHDOG)
        target: Any = np.zeros((2, 4), "i4")
        assert receiver.recv_into(target, WATCHDOG) == 16
        assert np.array_equal(target[0], array)
        with pytest.raises(ValueError, match="piece"):
            sender.send_bytes(memoryview(b"abcdef")[::2])


@every_kind
def test_what_is_refused_stays(kind: Kind, tmp_path: Path, name: str) -> None:
    """Too small a buffer, or an object that is no bytes: the message is there for the next call."""
    with both(kind, tmp_path, name) as (receiver, sender):
        sender.send(b"abc", timeout=WATCHDOG)
        with pytest.raises(ValueError, match="3 bytes does not fit a buffer of 2"):
            receiver.recv_into(bytearray(2), WATCHDOG)
        with pytest.raises(ValueError, match="3 bytes does not fit a buffer of 0"):
            receiver.recv_into(bytearray(), WATCHDOG)
        with pytest.raises(TypeError):
            receiver.recv_into(b"read-only", WATCHDOG)
        assert receiver.poll(WATCHDOG)
        assert receiver.recv(WATCHDOG) == b"abc"
        sender.send({"an": "object"}, timeout=WATCHDOG)
        with pytest.raises(TypeError, match="an object"):
            receiver.recv_bytes(WATCHDOG)
        with pytest.raises(TypeError, match="an object"):
            receiver.recv_into(bytearray(1000), WATCHDOG)
        assert receiver.recv(WATCHDOG) == {"an": "object"}
        assert receiver.statistics().received == 2


@every_kind
def test_messages_keep_their_order_and_bounds(kind: Kind, tmp_path: Path, name: str) -> None:
    """However many, and however their sizes change."""
    random = np.random.default_rng(1)
    sizes = [int(size) for size in random.integers(0, min(kind.most, 70_000), 300)]
    texts = [random.bytes(size) for size in sizes]

    def send() -> None:
        for text in texts:
            sender.send(text, timeout=WATCHDOG)
        sender.close()

    with both(kind, tmp_path, name) as (receiver, sender), running(send) as result:
        assert list(receiver) == texts
    assert result == [None]


@every_kind
def test_a_large_array_goes_through_or_is_refused_at_once(kind: Kind, tmp_path: Path, name: str) -> None:
    """Larger than any buffer of the kernel; where it never fits, RecordTooLarge says what does, and all goes on."""
    array = np.random.default_rng(2).random(2**19)
    with both(kind, tmp_path, name) as (receiver, sender):
        if kind.most < array.nbytes:
            with pytest.raises(shmkit.RecordTooLarge, match=r"most|buffer|msgmax"):
                sender.send(array, timeout=WATCHDOG)
            with pytest.raises(shmkit.RecordTooLarge):
                sender.try_send(array)
        else:
            with running(sender.send, array, WATCHDOG) as result:
                received = receiver.recv(WATCHDOG)
            assert result == [None]
            assert np.array_equal(received, array)
        sender.send("after", timeout=WATCHDOG)
        assert receiver.recv(WATCHDOG) == "after"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.most == 2**30], ids=str)
def test_an_array_takes_one_allocation(kind: Kind, tmp_path: Path, name: str) -> None:
    """It is received where it stays: memory is never taken for two of it."""
    array = np.ones(2**20, "u1")
    with both(kind, tmp_path, name) as (receiver, sender), running(sender.send, array, WATCHDOG):
        tracemalloc.start()
        try:
            received = receiver.recv(WATCHDOG)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert received.nbytes == 2**20
    assert peak < 1.5 * 2**20


@every_kind
def test_a_receive_that_times_out_has_received_nothing(kind: Kind, tmp_path: Path, name: str) -> None:
    """TimeoutError after the time, not before; the next message comes as ever."""
    with both(kind, tmp_path, name) as (receiver, sender):
        sender.send("warm", timeout=WATCHDOG)
        assert receiver.recv(WATCHDOG) == "warm"
        for timeout in (0, -1, 0.02):
            before = time.monotonic()
            with pytest.raises(TimeoutError):
                receiver.recv(timeout)
            assert time.monotonic() - before >= timeout
        assert receiver.try_recv() is None
        assert receiver.try_recv("nothing") == "nothing"
        assert not receiver.poll()
        assert not receiver.poll(0.01)
        for wrong in ("1", b"1", True, float("nan")):
            with pytest.raises((TypeError, ValueError), match="timeout"):
                receiver.recv(wrong)  # type: ignore[arg-type]
        sender.send(None, timeout=WATCHDOG)
        assert receiver.poll(WATCHDOG)
        assert receiver.poll()
        assert receiver.try_recv("nothing") is None


def sends_in_time(sender: channel.Channel, message: bytes) -> bool:
    try:
        sender.send(message, timeout=0.001)
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.bounded], ids=str)
def test_a_send_that_times_out_has_sent_nothing(kind: Kind, tmp_path: Path, name: str) -> None:
    """Though half of it may have gone into the stream: the receiver never sees it, and sees all else."""
    size = min(kind.most // 2, 100_000)
    with both(kind, tmp_path, name) as (receiver, sender):
        accepted = 0
        while True:
            try:
                sender.send(accepted.to_bytes(4, "little") * (size // 4), timeout=0.01)
            except TimeoutError:
                break
            accepted += 1
        refused = 0
        while refused < 3:
            # TCP may find room after all, when what was under way has arrived.
            if sends_in_time(sender, accepted.to_bytes(4, "little") + b"never" * (size // 5)):
                accepted, refused = accepted + 1, 0
            else:
                refused += 1
        for number in range(accepted):
            assert receiver.recv(WATCHDOG)[:4] == number.to_bytes(4, "little")
        with running(sender.send, "after", WATCHDOG) as result:
            assert receiver.recv(WATCHDOG) == "after"
        assert result == [None]
        assert sender.statistics().sent == accepted + 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.bounded], ids=str)
@pytest.mark.parametrize("size", [10, 3000, 300_000])
def test_what_try_send_accepts_arrives_and_nothing_else(kind: Kind, size: int, tmp_path: Path, name: str) -> None:
    """It never waits; what it refuses has not happened."""
    if size > kind.most // 3:
        pytest.skip(f"{kind} does not take that much")
    with both(kind, tmp_path, name) as (receiver, sender):
        accepted = 0
        while sender.try_send((accepted, bytes(size))):
            accepted += 1
        assert accepted
        assert not sender.try_send((-1, bytes(size)))
        received = 0
        with running(sender.flush, WATCHDOG) as result:
            for number in range(accepted):
                assert receiver.recv(WATCHDOG) == (number, bytes(size))
                received += 1
        assert result == [None]
        assert receiver.try_recv() is None
        sender.send("after", timeout=WATCHDOG)
        assert receiver.recv(WATCHDOG) == "after"


@every_kind
def test_the_end_comes_after_the_last_message(kind: Kind, tmp_path: Path, name: str) -> None:
    """EndOfStream, an EOFError, again and again; iteration stops; try_recv and poll say so too."""
    receiver, sender = make(kind, tmp_path, name)
    with receiver:
        for number in range(5):
            sender.send(number, timeout=WATCHDOG)
        sender.close()
        assert list(receiver) == list(range(5))
        for call in (receiver.recv, receiver.try_recv, receiver.recv_bytes):
            with pytest.raises(shmkit.EndOfStream):
                call()
        assert receiver.poll()
        assert issubclass(shmkit.EndOfStream, EOFError)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.paired], ids=str)
def test_an_end_that_was_never_used_is_an_end(kind: Kind) -> None:
    """Closed, or dropped, without a word."""
    for drop in (True, False):
        receiver, sender = channel.pair(kind.url)
        if drop:
            del sender
            gc.collect()
        else:
            sender.close()
        if kind.name != "ring pair":  # nobody has ever been its producer: one may still come
            with pytest.raises(shmkit.EndOfStream):
                receiver.recv(WATCHDOG)
        receiver.close()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.notices_receiver], ids=str)
def test_a_sender_is_told_that_nobody_receives(kind: Kind, tmp_path: Path, name: str) -> None:
    """Broken, a BrokenPipeError, at the latest when nothing fits any more; and no SIGPIPE."""
    receiver, sender = make(kind, tmp_path, name)
    with sender:
        sender.send(b"x", timeout=WATCHDOG)
        assert receiver.recv(WATCHDOG) == b"x"
        receiver.close()
        with pytest.raises(shmkit.Broken) as caught:
            for _ in range(10_000):
                sender.send(b"x" * 1000, timeout=WATCHDOG)
        assert isinstance(caught.value, BrokenPipeError)
        assert not isinstance(caught.value, shmkit.PeerDied)
        with pytest.raises(shmkit.Broken):
            sender.send(b"x" * 1000, timeout=WATCHDOG)


@every_kind
def test_a_closed_end_refuses_every_call(kind: Kind, tmp_path: Path, name: str) -> None:
    """Closed; closing again changes nothing, nor does leaving a with block."""
    receiver, sender = make(kind, tmp_path, name)
    with receiver, sender:
        sender.send(1, timeout=WATCHDOG)
        receiver.recv(WATCHDOG)
        sender.close()
        receiver.close()
        sender.close()
        receiver.close()
        for call in (
            lambda: sender.send(1),
            lambda: sender.send_bytes(b"1"),
            lambda: sender.try_send(1),
            sender.flush,
            receiver.recv,
            receiver.recv_bytes,
            lambda: receiver.recv_into(bytearray(1)),
            receiver.try_recv,
            receiver.poll,
            lambda: next(receiver),
            receiver.fileno,
            lambda: asyncio.run(receiver.recv_async()),
            lambda: asyncio.run(sender.send_async(1)),
        ):
            with pytest.raises(shmkit.Closed):
                call()
        assert sender.closed
        assert receiver.closed
        assert "closed" in repr(sender)


@one_way_kinds
def test_the_wrong_direction_is_refused_in_words(kind: Kind, tmp_path: Path, name: str) -> None:
    """OneWay says which end does what."""
    with both(kind, tmp_path, name) as (receiver, sender):
        assert not receiver.duplex
        assert not sender.duplex
        assert (receiver.receives, receiver.sends, sender.receives, sender.sends) == (True, False, False, True)
        for call in (receiver.send, receiver.send_bytes, receiver.try_send):
            with pytest.raises(shmkit.OneWay, match="receives: it cannot send"):
                call(b"x")
        for take in (sender.recv, sender.recv_bytes, sender.try_recv, sender.poll):
            with pytest.raises(shmkit.OneWay, match="sends: it cannot receive"):
                take()
        with pytest.raises(shmkit.OneWay):
            sender.recv_into(bytearray(1))


@duplex_kinds
def test_both_ends_send_and_receive(kind: Kind, tmp_path: Path, name: str) -> None:
    """At the same time, too."""
    with both(kind, tmp_path, name) as (one, other):
        assert one.duplex
        assert other.duplex
        size = min(kind.most, 60_000)

        def talk(end: channel.Channel) -> bool:
            for number in range(100):
                end.send((number, bytes(size)), timeout=WATCHDOG)
                assert end.recv(WATCHDOG)[0] == number
            return True

        with running(talk, one) as result:
            assert talk(other)
        assert result == [True]


@every_kind
def test_ends_count(kind: Kind, tmp_path: Path, name: str) -> None:
    """Messages and their bytes, on both sides."""
    with both(kind, tmp_path, name) as (receiver, sender):
        for size in (1, 10, 100):
            sender.send(bytes(size), timeout=WATCHDOG)
            receiver.recv(WATCHDOG)
        sent, received = sender.statistics(), receiver.statistics()
        assert (sent.sent, sent.bytes_sent, sent.received) == (3, 111, 0)
        assert (received.received, received.bytes_received, received.sent) == (3, 111, 0)


@every_kind
def test_a_message_beyond_the_limit_is_refused(kind: Kind, tmp_path: Path, name: str) -> None:
    """At the sender, before anything of it is sent."""
    with both(kind, tmp_path, name) as (receiver, sender):
        sender._limit = 1000
        for call in (sender.send, sender.send_bytes, sender.try_send):
            with pytest.raises(shmkit.RecordTooLarge, match="1001 bytes"):
                call(bytes(1001))
        with pytest.raises(shmkit.RecordTooLarge):
            asyncio.run(sender.send_async(np.zeros(1001, "u1")))
        sender.send(bytes(1000), timeout=WATCHDOG)
        assert receiver.recv(WATCHDOG) == bytes(1000)


@pytest.mark.parametrize("call", ["recv", "recv_bytes", "try_recv"])
@pytest.mark.parametrize("value", [bytes(1001), np.zeros(1001, "u1"), [bytes(1001)]], ids=["bytes", "array", "object"])
def test_a_ring_refuses_what_is_beyond_its_receivers_limit(name: str, value: Any, call: str) -> None:
    """Whatever it is, and however it is received; what comes next is received."""
    url = f"ring://{name}"
    with shmkit.listen(url, max_message=1000) as receiver, shmkit.connect(url) as sender:
        sender.send(value, timeout=WATCHDOG)
        sender.send(b"next", timeout=WATCHDOG)
        with pytest.raises(shmkit.RecordTooLarge, match="at most 1000 B"):
            getattr(receiver, call)()
        assert receiver.recv(WATCHDOG) == b"next"


@pytest.mark.parametrize("scheme", ["file", "ring"])
@pytest.mark.parametrize("size", [1001, 30_000, 40_000, 2_000_000])
def test_what_is_beyond_the_receivers_limit_takes_no_memory(size: int, scheme: str, tmp_path: Path, name: str) -> None:
    """However large it is, and whatever: it is passed over, and what comes next is received."""
    url = f"file://{tmp_path / 'log'}" if scheme == "file" else f"ring://{name}"
    with shmkit.listen(url, max_message=1000) as receiver, shmkit.connect(url) as sender:
        for value in (bytes(size), np.zeros(size, "u1"), [bytes(size)]):
            for call in (receiver.recv, receiver.recv_bytes, receiver.try_recv):
                sender.send(value)
                sender.send(b"next")
                tracemalloc.start()
                try:
                    with pytest.raises(shmkit.RecordTooLarge, match=f"of {size // 1000}[0-9]+ bytes .*at most 1000 B"):
                        call()
                    assert tracemalloc.get_traced_memory()[1] < 100_000
                finally:
                    tracemalloc.stop()
                assert receiver.recv(WATCHDOG) == b"next"


def limited(kind: Kind) -> Kind:
    """One whose ends take at most 1000 bytes."""
    url = f"{kind.url}{'&' if '?' in kind.url else '?'}max_message=1000"
    return replace(kind, url=url, sender=kind.sender.replace("?", "&"))


@every_kind
def test_what_comes_after_a_message_beyond_the_receivers_limit(kind: Kind, tmp_path: Path, name: str) -> None:
    """The next one, where messages are apart by themselves; a stream of bytes is dead."""
    with both(limited(kind), tmp_path, name) as (receiver, sender):
        sender._limit = kind.most
        values = (bytes(2000), np.zeros(2000, "u1"), "x" * 2000, [bytes(500)] * 4 + ["y" * 2000])
        for value in values[:1] if kind.is_stream else values:
            for call in (receiver.recv, receiver.recv_bytes):
                sender.send(value, WATCHDOG)
                with pytest.raises(shmkit.RecordTooLarge, match="at most 1000 B: see max_message"):
                    call(WATCHDOG)
        sender.send("after", WATCHDOG)
        if kind.is_stream:
            for call in (receiver.recv, receiver.recv_bytes, receiver.try_recv):
                with pytest.raises(shmkit.RecordTooLarge, match=r"of 2000 bytes .*at most 1000 B: see max_message"):
                    call()
        else:
            assert receiver.recv(WATCHDOG) == "after"
        assert receiver.statistics().received == (not kind.is_stream)


@every_kind
@pytest.mark.parametrize("call", ["recv", "recv_bytes", "recv_into", "try_recv", "recv_async"])
def test_poll_takes_no_refusal_away(kind: Kind, call: str, tmp_path: Path, name: str) -> None:
    """A message that poll has found to be too large is what the next call is about; then the next message comes."""

    def receive() -> Any:
        if call == "recv_async":
            return asyncio.run(receiver.recv_async(WATCHDOG))
        return getattr(receiver, call)(*([bytearray(3000)] if call == "recv_into" else []))

    with both(limited(kind), tmp_path, name) as (receiver, sender):
        sender._limit = kind.most
        for times in (1, 2, 3):
            sender.send(bytes(2000), WATCHDOG)
            for _ in range(times):
                assert receiver.poll(WATCHDOG)
            with pytest.raises(shmkit.RecordTooLarge, match=r"2000 bytes .* max_message"):
                receive()
            if kind.is_stream:
                # Nobody knows where the next one begins.
                with pytest.raises(shmkit.RecordTooLarge):
                    receive()
                return
            sender.send(b"after", WATCHDOG)
            assert receiver.poll(WATCHDOG)
            assert receiver.recv(WATCHDOG) == b"after"
        assert receiver.statistics()[:4] == (0, 3, 0, 15)


@every_kind
def test_waits_are_counted(kind: Kind, tmp_path: Path, name: str) -> None:
    with both(kind, tmp_path, name) as (receiver, sender):
        before = receiver.statistics().recv_waits
        with pytest.raises(TimeoutError):
            receiver.recv(0.01)
        assert receiver.statistics().recv_waits > before
        sender.send(b"there")
        wait_until(lambda: receiver.poll(0))
        before = receiver.statistics().recv_waits
        assert receiver.recv(WATCHDOG) == b"there"
        assert receiver.statistics().recv_waits == before


# ── coroutines ──────────────────────────────────────────────────────────────────────────────────────────────────────


@every_kind
def test_coroutines_send_and_receive(kind: Kind, tmp_path: Path, name: str) -> None:
    """Several at a time, while the loop goes on."""
    size = min(kind.most // 2, 100_000)

    async def talk(receiver: channel.Channel, sender: channel.Channel) -> tuple[list[Any], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.ensure_future(tick())
        sending = [asyncio.ensure_future(sender.send_async((n, bytes(size)), WATCHDOG)) for n in range(40)]
        receiving = [asyncio.ensure_future(receiver.recv_async(WATCHDOG)) for _ in range(40)]
        await asyncio.gather(*sending)
        received = await asyncio.gather(*receiving)
        ticking.cancel()
        return received, ticks

    with both(kind, tmp_path, name) as (receiver, sender):
        received, ticks = asyncio.run(talk(receiver, sender))
        assert sorted(number for number, _ in received) == list(range(40))
        assert ticks


@every_kind
def test_coroutines_keep_time_and_can_be_cancelled(kind: Kind, tmp_path: Path, name: str) -> None:
    """And have received nothing then."""

    async def wait(receiver: channel.Channel, sender: channel.Channel) -> None:
        with pytest.raises(TimeoutError):
            await receiver.recv_async(0.02)
        waiting = asyncio.ensure_future(receiver.recv_async())
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await sender.send_async("after", WATCHDOG)
        assert await receiver.recv_async(WATCHDOG) == "after"
        sender.close()
        with pytest.raises(shmkit.EndOfStream):
            await receiver.recv_async(WATCHDOG)

    with both(kind, tmp_path, name) as (receiver, sender):
        asyncio.run(wait(receiver, sender))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.bounded], ids=str)
def test_a_cancelled_send_has_sent_nothing(kind: Kind, tmp_path: Path, name: str) -> None:
    """Half-way through, too."""
    size = min(kind.most // 2, 400_000)

    async def talk(receiver: channel.Channel, sender: channel.Channel) -> None:
        accepted = 0
        while True:
            try:
                await sender.send_async((accepted, bytes(size)), 0.01)
            except TimeoutError:
                break
            accepted += 1
        sending = asyncio.ensure_future(sender.send_async((-1, bytes(size))))
        await asyncio.sleep(0.01)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        last = asyncio.ensure_future(sender.send_async("after", WATCHDOG))
        for number in range(accepted):
            assert (await receiver.recv_async(WATCHDOG))[0] == number
        assert await receiver.recv_async(WATCHDOG) == "after"
        await last

    with both(kind, tmp_path, name) as (receiver, sender):
        asyncio.run(talk(receiver, sender))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.descriptor], ids=str)
def test_the_descriptor_tells_when_a_message_is_there(kind: Kind, tmp_path: Path, name: str) -> None:
    """Nothing is read ahead: as long as there are messages it is readable, and then no longer."""
    with both(kind, tmp_path, name) as (receiver, sender):
        sender.send(0, timeout=WATCHDOG)
        assert receiver.recv(WATCHDOG) == 0
        wait_until(lambda: not select.select([receiver], [], [], 0)[0])
        for number in range(5):
            sender.send(number, timeout=WATCHDOG)
        for number in range(5):
            assert select.select([receiver.fileno()], [], [], WATCHDOG)[0]
            assert receiver.try_recv() == number
        assert not select.select([receiver], [], [], 0)[0]
        if not sender.duplex and not kind.url.startswith("ring:"):
            assert select.select([], [sender], [], WATCHDOG)[1]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.descriptor], ids=str)
def test_where_there_is_no_descriptor_that_is_said(kind: Kind, tmp_path: Path, name: str) -> None:
    """OSError, which select understands."""
    with both(kind, tmp_path, name) as (receiver, _), pytest.raises(OSError, match="no descriptor"):
        receiver.fileno()


# ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────────


@under_every_start_method(KINDS)
def test_a_child_sends(kind: Kind, start_method: BaseContext, process: Processes, tmp_path: Path, name: str) -> None:
    """Under every start method; it is given an end, or the address."""
    if kind.paired:
        receiver, sender = channel.pair(kind.url)
        child = process(ends.send_messages, sender, kind.most, context=start_method)
        sender.close()
    else:
        receiver = ends.listen(kind, ends.address(kind, tmp_path, name))
        child = process(ends.connect_and_send, kind, receiver.url, context=start_method)
    with receiver:
        assert same(list(receiver), ends.messages(kind.most))
    child.join(WATCHDOG)
    assert child.exitcode == 0


@under_every_start_method([kind for kind in KINDS if kind.paired])
def test_a_child_receives(kind: Kind, start_method: BaseContext, process: Processes) -> None:
    """Though under fork it has the sender's end open as well, it is told of the end."""
    receiver, sender = channel.pair(kind.url)
    child = process(ends.receive_messages, receiver, kind.most, context=start_method)
    receiver.close()
    with sender:
        ends.send_messages(sender, kind.most)
    child.join(WATCHDOG)
    assert child.exitcode == 0


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.paired], ids=str)
def test_an_unrelated_program_sends(kind: Kind, process: Processes, tmp_path: Path, name: str) -> None:
    """It knows the address, and the key."""
    with ends.listen(kind, ends.address(kind, tmp_path, name)) as receiver:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "tests"), *sys.path])}
        program = process.python(ends.PROGRAM, kind.name, receiver.url, env=env)
        assert same(list(receiver), ends.messages(kind.most))
        assert program.wait(WATCHDOG) == 0


@under_every_start_method([kind for kind in KINDS if kind.sees_death])
def test_a_killed_sender_is_told_from_one_that_closed(
    kind: Kind, start_method: BaseContext, process: Processes, tmp_path: Path, name: str
) -> None:
    """PeerDied, with its pid where it is known, after all that it sent."""
    if kind.paired:
        receiver, sender = channel.pair(kind.url)
        child = process(ends.send_and_vanish, sender, 5, context=start_method)
        sender.close()
    else:
        receiver = ends.listen(kind, ends.address(kind, tmp_path, name))
        child = process(ends.connect_and_vanish, kind, receiver.url, 5, context=start_method)
    with receiver:
        assert [receiver.recv(WATCHDOG) for _ in range(5)] == list(range(5))
        with pytest.raises(shmkit.PeerDied) as caught:
            receiver.recv(WATCHDOG)
        assert caught.value.pid in (child.pid, 0)
    child.join(WATCHDOG)


@pytest.mark.parametrize("url", ["pipe:", "pipe:?duplex=yes", "unix:"])
def test_an_end_in_the_middle_of_a_message_is_not_handed_on(url: str) -> None:
    """Half a message has gone from it: another process could not go on with the rest."""
    receiver, sender = channel.pair(url)
    with receiver, sender:
        assert sender.try_send(bytes(10**7))
        with pytest.raises(shmkit.ChannelError, match="middle"):
            pickle.dumps(sender)
        assert not receiver.poll()
        with pytest.raises(shmkit.ChannelError, match="middle"):
            pickle.dumps(receiver)
        with running(sender.flush, WATCHDOG) as result:
            assert receiver.recv(WATCHDOG) == bytes(10**7)
        assert result == [None]


@pytest.mark.parametrize("url", ["pipe:", "pipe:?duplex=yes", "unix:", "unix:?type=seqpacket"])
def test_an_end_that_holds_a_message_is_not_handed_on(url: str) -> None:
    """Nor one that is closed."""
    receiver, sender = channel.pair(url)
    with receiver, sender:
        sender.send(1, timeout=WATCHDOG)
        assert receiver.poll(WATCHDOG)
        with pytest.raises(shmkit.ChannelError):
            pickle.dumps(receiver)
        assert receiver.recv(WATCHDOG) == 1
    with pytest.raises(shmkit.ChannelError, match="closed"):
        pickle.dumps(sender)


@pytest.mark.parametrize("url", ["pipe:", "unix:"])
def test_closing_waits_for_the_rest_of_a_message(url: str) -> None:
    """As long as linger; TimeoutError, but closed, if it has not gone by then."""
    receiver, sender = channel.pair(url)
    with receiver:
        assert sender.try_send(bytes(10**7))
        with running(sender.close, WATCHDOG) as result:
            assert receiver.recv(WATCHDOG) == bytes(10**7)
        assert result == [None]
    receiver, sender = channel.pair(url)
    with receiver:
        assert sender.try_send(bytes(10**7))
        with pytest.raises(TimeoutError, match="rest of a message"):
            sender.close(0.01)
        assert sender.closed
        with pytest.raises(shmkit.PeerDied, match="middle"):
            receiver.recv(WATCHDOG)
