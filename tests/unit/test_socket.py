"""Sockets: descriptors and shared arrays through them, who is at the other end, and proofs of a key."""

from __future__ import annotations

import fcntl
import gc
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import shmkit
from shmkit.socket import (
    DESCRIPTORS_MOST,
    Handshake,
    authenticate,
    check_peer,
    connect_tcp,
    connect_unix,
    listen_tcp,
    listen_unix,
    pair,
    peer_of,
    receive_descriptors,
    receive_shared,
    send_descriptors,
    send_shared,
    tune,
)
from support import Processes

WATCHDOG = 30.0
KEY = b"known to both"
kinds = pytest.mark.parametrize("kind", ["stream", "seqpacket", "datagram"])


@pytest.fixture
def two(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = pair(getattr(request, "param", "stream"))
    with one, other:
        yield one, other


every_pair = pytest.mark.parametrize("two", ["stream", "seqpacket", "datagram"], indirect=True)


@every_pair
def test_descriptors_go_with_data(two: tuple[socket.socket, socket.socket], tmp_path: Path) -> None:
    """They are copies, closed in programs that are started; the sender's may be closed at once."""
    one, other = two
    path = tmp_path / "file"
    with path.open("w+") as file:
        file.write("in the file")
        file.flush()
        send_descriptors(one, [file, file.fileno()], b"two of them")
    numbers, data = receive_descriptors(other, timeout=WATCHDOG)
    assert data == b"two of them"
    assert len(numbers) == 2
    for number in numbers:
        assert os.pread(number, 100, 0) == b"in the file"
        assert not os.get_inheritable(number)
        os.close(number)
    with pytest.raises(TimeoutError):
        receive_descriptors(other, timeout=0.01)


def test_too_many_descriptors(two: tuple[socket.socket, socket.socket]) -> None:
    """ValueError before anything is sent; more than were wanted are closed again."""
    one, other = two
    for numbers in ([], [0] * (DESCRIPTORS_MOST + 1)):
        with pytest.raises(ValueError, match=str(DESCRIPTORS_MOST)):
            send_descriptors(one, numbers)
    with pytest.raises(ValueError, match="one byte"):
        send_descriptors(one, [0], b"")
    send_descriptors(one, [0] * DESCRIPTORS_MOST)
    numbers, _ = receive_descriptors(other, timeout=WATCHDOG)
    assert len(numbers) == DESCRIPTORS_MOST
    for number in numbers:
        os.close(number)
    send_descriptors(one, [0, 0])
    with pytest.raises(ValueError, match="1 were wanted"):
        receive_descriptors(other, 1, timeout=WATCHDOG)
    one.close()
    with pytest.raises(shmkit.EndOfStream):
        receive_descriptors(other, timeout=WATCHDOG)


@every_pair
def test_a_shared_array_is_the_same_memory(two: tuple[socket.socket, socket.socket]) -> None:
    """Views of it too, whatever their strides; read-only stays so."""
    one, other = two
    array = shmkit.zeros((6, 8), "i4")
    for view in (array, array[1::2, ::3], array[3], array.T):
        send_shared(one, view)
        received: Any = receive_shared(other, WATCHDOG)
        assert (received.shape, received.dtype, received.strides) == (view.shape, view.dtype, view.strides)
        view[...] = 7
        assert np.all(received == 7)
        received[...] = 0
        assert not view.any()
    array.flags.writeable = False
    send_shared(one, array)
    again: Any = receive_shared(other, WATCHDOG)
    assert not again.flags.writeable


def test_a_segment_goes(two: tuple[socket.socket, socket.socket]) -> None:
    """An anonymous one; what has a name is attached to by that."""
    one, other = two
    with shmkit.Segment.create(size=4096) as segment:
        send_shared(one, segment)
        received = receive_shared(other, WATCHDOG)
        assert isinstance(received, shmkit.Segment)
        segment.buf[0] = 9
        assert received.buf[0] == 9
        received.close()
    with pytest.raises(TypeError, match="no shared memory"):
        send_shared(one, np.zeros(3))  # type: ignore[arg-type]


def test_an_array_goes_to_an_unrelated_program(tmp_path: Path, process: Processes) -> None:
    """It knows the address only; the array outlives the program that made it."""
    path = str(tmp_path / "socket")
    with listen_unix(path) as listener:
        program = process.python(
            dedent("""
            import sys, shmkit
            from shmkit.socket import connect_unix, send_shared
            array = shmkit.full((1000,), 5.0)
            with connect_unix(sys.argv[1], timeout=30) as sock:
                send_shared(sock, array)
            """),
            path,
        )
        with listener.accept(WATCHDOG) as sock:
            assert peer_of(sock) == (program.pid, os.geteuid(), os.getegid())
            received: Any = receive_shared(sock, WATCHDOG)
        assert program.wait(WATCHDOG) == 0
    assert received.sum() == 5000.0
    received[0] = 1
    del received
    gc.collect()


@every_pair
@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"junk",
        b"[1, 2]",
        b"{}",
        b'{"identity": 1, "inode": -1, "readonly": false}',
        b'{"identity": 1, "inode": 1, "readonly": 3}',
        b'{"identity": 1, "inode": 1, "readonly": false, "shape": [9999], "strides": [8], "offset": 0, "dtype": "u1"}',
        b"[" * 5000,
    ],
)
def test_what_is_no_shared_array_is_refused(two: tuple[socket.socket, socket.socket], words: bytes) -> None:
    """RecordCorrupt, or another promised error, and the descriptor is closed."""
    one, other = two
    memory = os.memfd_create("not sealed")
    try:
        os.ftruncate(memory, 4096)
        send_descriptors(one, [memory], struct.pack("<I", len(words)) + words)
    finally:
        os.close(memory)
    with pytest.raises((shmkit.RecordCorrupt, shmkit.SegmentError)):
        receive_shared(other, WATCHDOG)


def test_a_length_that_lies_takes_no_memory(two: tuple[socket.socket, socket.socket]) -> None:
    """Four bytes say that four GiB come."""
    one, other = two
    send_descriptors(one, [one], b"\xff\xff\xff\xff")
    with pytest.raises(shmkit.RecordCorrupt, match="4294967295"):
        receive_shared(other, WATCHDOG)


@kinds
def test_the_other_end_is_known(kind: Any, tmp_path: Path) -> None:
    """By the kernel's word; for datagrams there is none."""
    path = str(tmp_path / "socket")
    with listen_unix(path, kind) as listener, connect_unix(path, kind) as sock:
        if kind == "datagram":
            sock.send(b"x")
            assert listener.socket.recv(10) == b"x"
            return
        assert peer_of(sock).pid == os.getpid()
        with listener.accept(WATCHDOG) as accepted:
            assert check_peer(accepted).uid == os.geteuid()
            with pytest.raises(shmkit.Refused, match="54321"):
                check_peer(accepted, [54321])
    assert not os.path.exists(path)


def test_names_that_are_none() -> None:
    """Each rule is named."""
    for name in ("", "a\0b", "x" * 108):
        with pytest.raises(ValueError, match=r"named by|107"):
            listen_unix(name)
    with pytest.raises(ValueError, match="seqpacket"):
        pair("token ring")  # type: ignore[arg-type]
    with pytest.raises(shmkit.NoPeer, match="nobody listens"):
        connect_unix("@shmkit-test-nobody", timeout=0.01)
    with pytest.raises(OSError, match="nowhere"):
        listen_unix("/nowhere/at/all")
    with pytest.raises(TimeoutError), listen_unix(f"@shmkit-test-{os.getpid()}") as listener:
        listener.accept(0.01)


def test_a_locked_folder_keeps_nobody_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may look into it may lock it."""
    monkeypatch.setattr("shmkit.socket.unix._ALONE_SECONDS", 0.02)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match="locked"):
            listen_unix(tmp_path / "socket")
    finally:
        os.close(fd)
    listen_unix(tmp_path / "socket").close()


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_both_prove_that_they_know_the_key(two: tuple[socket.socket, socket.socket]) -> None:
    """In three messages, none of which has the key in it."""
    one, other = two
    sides = Handshake(one, KEY, "listener"), Handshake(other, KEY, "connector")
    assert not all(side.step() for side in sides)
    while not all(side.done for side in sides):
        for side in sides:
            side.step()
    one.send(b"next")
    assert other.recv(10) == b"next"


@pytest.mark.parametrize("words", [b"GET /", b"shmkit\0\1" + bytes(64), bytes(72), b"shmkit\0\1"])
def test_a_stranger_is_refused(two: tuple[socket.socket, socket.socket], words: bytes) -> None:
    """Whatever it says, and also if it leaves."""
    one, other = two
    other.send(words)
    other.shutdown(socket.SHUT_WR)
    with pytest.raises(shmkit.Refused):
        authenticate(one, KEY, "listener", WATCHDOG)


def test_a_listener_does_not_fall_for_its_own_words(two: tuple[socket.socket, socket.socket]) -> None:
    """Who sends back what it hears knows no key by that."""
    one, other = two
    handshake = Handshake(one, KEY, "listener")
    assert not handshake.step()
    heard = other.recv(1000)
    other.send(heard + bytes(32))
    with pytest.raises(shmkit.Refused, match="does not know"):
        handshake.step()


def test_silence_is_not_waited_for_for_ever(two: tuple[socket.socket, socket.socket]) -> None:
    """TimeoutError; keys that are too short, and sides that there are not, are refused before."""
    one, _ = two
    with pytest.raises(TimeoutError, match="prove"):
        authenticate(one, KEY, "connector", 0.01)
    with pytest.raises(ValueError, match="8 bytes"):
        authenticate(one, b"1234567", "listener")
    with pytest.raises(ValueError, match="listener"):
        Handshake(one, KEY, "middle")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Handshake(one, "text, not bytes", "listener")  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_tcp_is_tuned(host: str) -> None:
    """It sends at once, and notices when the other machine is gone."""
    with listen_tcp(host, key=None) as listener:
        port = listener.socket.getsockname()[1]
        with connect_tcp(host, port, key=None) as sock, listener.accept(WATCHDOG) as accepted:
            for one in (sock, accepted):
                assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            tune(sock, nodelay=False, keepalive=None)
            assert not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    with pytest.raises(shmkit.NoPeer, match=str(port)):
        connect_tcp(host, port, key=None, timeout=0.01)
    with pytest.raises(OSError, match=r"no\.such\.host"):
        connect_tcp("no.such.host.invalid", 1, key=None)


def test_a_port_that_is_taken_is_named() -> None:
    """The address is in the error."""
    with listen_tcp("127.0.0.1", key=None) as listener:
        port = listener.socket.getsockname()[1]
        with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port}"):
            listen_tcp("127.0.0.1", port, key=None)
