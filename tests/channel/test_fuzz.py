"""Whatever bytes come through a stream: an error says so, or a message is there; nothing crashes or hangs.

Few inputs here, a hundred thousand per mechanism in the soak.  Pickles are left as they are: who may send is checked
before, and what a pickle does is its sender's affair.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmkit
from channel import ends
from channel.ends import WATCHDOG
from shmkit import channel
from shmkit.channel.frame import (
    ARRAY,
    FAREWELL,
    GREETING,
    HEADER,
    META_MOST,
    PICKLE,
    PICKLE_AND_BUFFERS,
    TAKEN_BACK,
    WHOLE,
    encode,
    note,
    parse,
)
from shmkit.channel.stream import StreamChannel
from shmkit.channel.transport import PipeStream, SocketStream
from shmkit.socket import connect_tcp, connect_unix

ENDS = (shmkit.RecordCorrupt, shmkit.RecordTooLarge, shmkit.PeerDied, shmkit.EndOfStream)
LIMIT = 2**20
Open = Callable[[], tuple[channel.Channel, Callable[[bytes], None]]]


def whole(value: Any) -> bytes:
    """A message as it goes through a stream."""
    frame = encode(value)
    return frame.header() + frame.meta + b"".join(bytes(part) for part in frame.buffers) + WHOLE


VALUES: list[Any] = [
    b"bytes",
    "text",
    12345,
    -1.5,
    None,
    True,
    bytearray(9),
    np.arange(6).reshape(2, 3),
    np.zeros((0, 2)),
]
MESSAGES = [*map(whole, VALUES), whole({"a": np.zeros(2000)}), note(GREETING) + WHOLE, note(FAREWELL) + WHOLE]


def spoilt(chance: random.Random) -> bytes:
    """Messages with something wrong about them: a bit, a byte, a cut, a doubled part, a size; or no messages at all."""
    if chance.random() < 0.1:
        return chance.randbytes(chance.randrange(1, 200))
    text = bytearray(b"".join(chance.choice(MESSAGES) for _ in range(chance.randrange(1, 4))))
    for _ in range(chance.randrange(1, 4)):
        where = chance.randrange(len(text)) if chance.random() < 0.5 else chance.randrange(min(len(text), 40))
        how = chance.randrange(6)
        if how == 0:
            text[where] ^= 1 << chance.randrange(8)
        elif how == 1:
            text[where] = chance.choice((0, 1, 127, 128, 255))
        elif how == 2:
            del text[where:]
            text += chance.randbytes(1)
        elif how == 3:
            text[where:where] = text[where : where + chance.randrange(1, 30)]
        elif how == 4:
            del text[where : where + chance.randrange(1, 9)]
            text += b"\x00"
        else:
            text[8:16] = chance.choice((0, 2**63, 2**64 - 1, 2**40, LIMIT, LIMIT + 1)).to_bytes(8, "little")
    return bytes(text)


def drain(receiver: channel.Channel) -> list[Any]:
    """What comes, up to the error that ends it."""
    came: list[Any] = []
    with contextlib.suppress(*ENDS):
        while True:
            came.append(next_of(receiver))
    return came


def next_of(receiver: channel.Channel) -> Any:
    """The next message; None instead of a pickle that may be spoilt, and of text that is none."""
    incoming = receiver._recv(WATCHDOG, True)
    assert incoming is not None
    if incoming.kind in (PICKLE, PICKLE_AND_BUFFERS):
        return None
    try:
        return incoming.finish()
    except shmkit.RecordCorrupt as error:
        assert "text that came" in str(error)
        return None


@contextmanager
def opened(mechanism: str, folder: Path) -> Iterator[Open]:
    """What makes a receiving end, and what sends it bytes and closes."""
    if mechanism == "pipe":

        def make() -> tuple[channel.Channel, Callable[[bytes], None]]:
            reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            return StreamChannel(PipeStream(reading, -1), "pipe:", sends=False, receives=True, max_message=LIMIT), (
                lambda data: _write(writing, data)
            )

        yield make
    elif mechanism == "fifo":
        path = folder / "fifo"

        def make() -> tuple[channel.Channel, Callable[[bytes], None]]:
            receiver = channel.listen(f"fifo://{path}", max_message=LIMIT)
            return receiver, lambda data: _write(os.open(path, os.O_WRONLY | os.O_CLOEXEC), data)

        yield make
    elif mechanism == "pair":

        def make() -> tuple[channel.Channel, Callable[[bytes], None]]:
            one, other = socket.socketpair()
            receiver = StreamChannel(SocketStream(one), "unix:", sends=False, receives=True, max_message=LIMIT)
            return receiver, lambda data: _send(other, data)

        yield make
    else:
        url = f"unix://{folder / 'socket'}" if mechanism == "unix" else "tcp://127.0.0.1:0"
        options: dict[str, Any] = {} if mechanism == "unix" else {"key": ends.KEY}
        with channel.serve(url, max_message=LIMIT, **options) as server:

            def make() -> tuple[channel.Channel, Callable[[bytes], None]]:
                if mechanism == "unix":
                    sock = connect_unix(str(folder / "socket"))
                    return server.accept(WATCHDOG), lambda data: _send(sock, data)
                port = int(server.url.rpartition(":")[2])
                with ends.running(server.accept, WATCHDOG) as accepted:
                    sock = connect_tcp("127.0.0.1", port, key=ends.KEY, timeout=WATCHDOG)
                return accepted[0], lambda data: _send(sock, data)

            yield make


def _write(fd: int, data: bytes) -> None:
    assert os.write(fd, data) == len(data)
    os.close(fd)


def _send(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.close()


def feed(make: Open, data: bytes) -> list[Any]:
    receiver, send = make()
    with receiver:
        send(data)
        return drain(receiver)


def fuzz(mechanism: str, folder: Path, count: int, seed: int) -> None:
    chance = random.Random(seed)
    with opened(mechanism, folder) as make:
        for _ in range(count):
            data = spoilt(chance)
            try:
                feed(make, data)
            except BaseException:
                print(f"{mechanism}: {data!r}")
                raise


mechanisms = pytest.mark.parametrize("mechanism", ["pipe", "fifo", "pair", "unix", "tcp"])


@mechanisms
def test_spoilt_streams(mechanism: str, tmp_path: Path) -> None:
    """Every input ends in one of the errors that the receiver promises."""
    fuzz(mechanism, tmp_path, 1000, 1)


@pytest.mark.soak
@mechanisms
def test_many_spoilt_streams(mechanism: str, tmp_path: Path) -> None:
    """The same, a hundred thousand times."""
    fuzz(mechanism, tmp_path, 100_000, random.randrange(2**32))


@mechanisms
def test_a_stream_cut_at_every_byte(mechanism: str, tmp_path: Path) -> None:
    """What is whole arrives; then the end, or a death in the middle of a message."""
    texts = [whole(value) for value in VALUES]
    stream = b"".join(texts)
    bounds = [0]
    for text in texts:
        bounds.append(bounds[-1] + len(text))
    step = 1 if mechanism in ("pipe", "pair") else 17
    with opened(mechanism, tmp_path) as make:
        for cut in range(0, len(stream), step):
            receiver, send = make()
            with receiver:
                send(stream[:cut])
                complete = sum(bound <= cut for bound in bounds[1:])
                for value in VALUES[:complete]:
                    received = receiver.recv(WATCHDOG)
                    assert np.array_equal(received, value)
                    assert type(received) is type(value)
                wanted = shmkit.EndOfStream if cut in bounds else shmkit.PeerDied
                for _ in range(2):
                    with pytest.raises(wanted):
                        receiver.recv(WATCHDOG)


@mechanisms
@pytest.mark.parametrize("nbytes", [LIMIT + 1, 2**40, 2**63, 2**64 - 1])
def test_a_size_beyond_the_limit_takes_no_memory(mechanism: str, nbytes: int, tmp_path: Path) -> None:
    """RecordTooLarge, again and again, before anything is allocated."""
    with opened(mechanism, tmp_path) as make:
        for kind in (ARRAY, PICKLE, encode(b"").kind):
            receiver, send = make()
            with receiver:
                send(HEADER.pack(0xA7, kind, 0, 0, nbytes) + bytes(100))
                tracemalloc.start()
                try:
                    for _ in range(2):
                        with pytest.raises(shmkit.RecordTooLarge, match="max_message"):
                            receiver.recv(WATCHDOG)
                    assert tracemalloc.get_traced_memory()[1] < LIMIT
                finally:
                    tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        HEADER.pack(0xA7, ARRAY, 0, META_MOST + 1, 0),
        HEADER.pack(0xA7, 99, 0, 0, 0),
        HEADER.pack(0xA7, 16, 1, 0, 0),
        HEADER.pack(0xA6, 16, 0, 0, 0),
        HEADER.pack(0xA7, GREETING, 0, 0, 2),
        HEADER.pack(0xA7, 16, 0, 3, 0) + bytes(4),
        HEADER.pack(0xA7, 20, 0, 0, 9) + bytes(10),
        whole(b"abc")[:-1] + b"\x00",
    ],
)
def test_a_contradiction_is_corrupt(data: bytes, tmp_path: Path) -> None:
    """And stays so: nobody knows where the next message begins."""
    with opened("pair", tmp_path) as make:
        receiver, send = make()
        with receiver:
            send(data + whole(b"more"))
            for _ in range(2):
                with pytest.raises(shmkit.RecordCorrupt):
                    receiver.recv(WATCHDOG)


@pytest.mark.parametrize("junk", [b"x", b"hello\n", b"0123456789abcde"])
@pytest.mark.parametrize("before", [b"", whole(b"well")])
def test_a_first_byte_that_begins_no_message(junk: bytes, before: bytes) -> None:
    """RecordCorrupt at once, though a header would have more bytes; and again."""
    one, other = socket.socketpair()
    with StreamChannel(SocketStream(one), "unix:", sends=False, receives=True) as receiver, other:
        if before:
            other.sendall(before * 3)
            assert [receiver.recv(WATCHDOG) for _ in range(3)] == [b"well"] * 3
        other.sendall(junk)
        for _ in range(2):
            with pytest.raises(shmkit.RecordCorrupt, match=f"begins with {re.escape(repr(junk))}"):
                receiver.recv(WATCHDOG)
    one, other = socket.socketpair()
    with StreamChannel(SocketStream(one), "unix:", sends=False, receives=True) as receiver:
        other.sendall(whole(b"half")[:5])
        assert receiver.try_recv() is None
        other.close()
        with pytest.raises(shmkit.PeerDied, match="middle of a message"):
            receiver.recv(WATCHDOG)


def test_a_message_taken_back_is_no_message(tmp_path: Path) -> None:
    """Its sender's time was up in the middle of it."""
    with opened("pair", tmp_path) as make:
        assert feed(make, whole(b"one") + whole(b"never")[:-1] + TAKEN_BACK + whole(b"two")) == [b"one", b"two"]


def test_spoilt_records() -> None:
    """As they come out of message queues, rings, packets and logs, in one piece."""
    chance = random.Random(3)
    for _ in range(5000):
        with contextlib.suppress(shmkit.RecordCorrupt, shmkit.RecordTooLarge):
            incoming = parse(spoilt(chance), LIMIT, "here")
            if incoming.kind not in (PICKLE, PICKLE_AND_BUFFERS):
                incoming.finish()


def test_spoilt_packets() -> None:
    """Each is refused for itself; the next is received."""
    chance = random.Random(4)
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    receiver = channel.PacketChannel(one, "unix:", sends=True, receives=True, max_message=LIMIT)
    with receiver, other:
        for _ in range(2000):
            other.send(spoilt(chance))
            other.send(whole(b"after")[:-1])
            came: Any = None
            while not (type(came) is bytes and came == b"after"):
                # A farewell may have been among them, too.
                with contextlib.suppress(shmkit.RecordCorrupt, shmkit.RecordTooLarge, shmkit.EndOfStream):
                    came = next_of(receiver)
