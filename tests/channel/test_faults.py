"""Whoever is at the other end may be killed, at any point; and what a dead server left is in nobody's way."""

from __future__ import annotations

import os
import signal
import socket
import stat
import threading
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import shmkit
from channel import ends
from channel.ends import KINDS, WATCHDOG, Kind, running
from shmkit import channel, fifo
from support import Processes

# More than TCP's buffers at both sides grow to: 4 and 32 MiB.
LARGE = 5 * 10**7
streams = pytest.mark.parametrize(
    "kind",
    [kind for kind in KINDS if kind.name in ("pipe", "pipes", "unix pair", "fifo", "unix", "tcp")],
    ids=str,
)


def _begin_and_die(end: channel.Channel) -> None:
    """Half of a large message is in the kernel when it is killed."""
    end.send("whole", timeout=WATCHDOG)
    assert end.try_send(bytes(LARGE))
    os.kill(os.getpid(), signal.SIGKILL)


def _connect_begin_and_die(kind: Kind, url: str) -> None:
    _begin_and_die(ends.connect(kind, url))


def _receive_one_and_die(end: channel.Channel) -> None:
    assert end.recv(WATCHDOG) == "first"
    assert not end.poll(0.05)
    os.kill(os.getpid(), signal.SIGKILL)


@streams
def test_a_sender_killed_in_the_middle_of_a_message(kind: Kind, process: Processes, tmp_path: Path, name: str) -> None:
    """What it had sent whole, then PeerDied; of the half there is nothing."""
    if kind.paired:
        receiver, sender = channel.pair(kind.url)
        child = process(_begin_and_die, sender)
        sender.close()
    else:
        receiver = ends.listen(kind, ends.address(kind, tmp_path, name))
        child = process(_connect_begin_and_die, kind, receiver.url)
    with receiver:
        assert receiver.recv(WATCHDOG) == "whole"
        for _ in range(2):
            with pytest.raises(shmkit.PeerDied, match="middle of a message"):
                receiver.recv(WATCHDOG)
        assert receiver.poll()
    child.join(WATCHDOG)


@pytest.mark.parametrize("url", ["pipe:", "pipe:?duplex=yes", "unix:", "unix:?type=seqpacket"])
def test_a_receiver_killed_in_the_middle_of_a_message(url: str, process: Processes) -> None:
    """The sender is told, in the middle of an array too."""
    receiver, sender = channel.pair(url)
    child = process(_receive_one_and_die, receiver)
    receiver.close()
    with sender:
        sender.send("first", timeout=WATCHDOG)
        with pytest.raises(shmkit.Broken):
            while True:
                sender.send(np.zeros(100_000 if "seqpacket" in url else LARGE, "u1"), timeout=WATCHDOG)
    child.join(WATCHDOG)


@pytest.mark.parametrize("url", ["pipe:", "unix:"])
def test_an_interrupted_send_has_sent_nothing(url: str) -> None:
    """KeyboardInterrupt out of the middle of a message: the receiver never sees it, and sees the next."""
    receiver, sender = channel.pair(url)
    with receiver, sender:
        previous = signal.signal(signal.SIGALRM, _interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                sender.send(bytes(LARGE), timeout=WATCHDOG)
        finally:
            signal.signal(signal.SIGALRM, previous)
        with running(sender.send, "next", WATCHDOG) as result:
            assert receiver.recv(WATCHDOG) == "next"
        assert result == [None]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_wait_is_interrupted_by_what_a_handler_raises(kind: Kind, tmp_path: Path, name: str) -> None:
    """KeyboardInterrupt comes out of it, and nothing is lost."""
    with ends.both(kind, tmp_path, name) as (receiver, sender):
        previous = signal.signal(signal.SIGALRM, _interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(KeyboardInterrupt):
                receiver.recv(WATCHDOG)
        finally:
            signal.signal(signal.SIGALRM, previous)
        sender.send("after", timeout=WATCHDOG)
        assert receiver.recv(WATCHDOG) == "after"


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


# ── what a dead server left ─────────────────────────────────────────────────────────────────────────────────────────


def _left_by_a_killed_listener(process: Processes, url: str) -> None:
    program = process.python(
        dedent("""
        import sys, time, shmkit
        receiver = shmkit.listen(sys.argv[1])
        print("listening", flush=True)
        time.sleep(3600)
        """),
        url,
        text=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "listening\n"
    program.send_signal(signal.SIGKILL)
    program.wait()


@pytest.mark.parametrize("template", ["unix://{}", "unix://{}?type=seqpacket", "fifo://{}"])
def test_the_file_of_a_killed_listener_is_taken_over(template: str, process: Processes, tmp_path: Path) -> None:
    """Nobody is there for who connects; the next who listens there replaces it, and it goes with that one."""
    path = tmp_path / "left"
    url = template.format(path)
    _left_by_a_killed_listener(process, url)
    assert path.exists()
    with pytest.raises(shmkit.NoPeer, match=r"nobody listens|no process reads"):
        channel.connect(url)
    with channel.listen(url) as receiver:
        with running(receiver.meet, WATCHDOG), channel.connect(url, timeout=WATCHDOG) as sender:
            sender.send("again")
            assert receiver.recv(WATCHDOG) == "again"
    assert not path.exists()


@pytest.mark.parametrize("scheme", ["unix", "fifo"])
def test_what_is_something_else_is_left_alone(scheme: str, tmp_path: Path) -> None:
    """A file of the user's: it is no socket, and no FIFO."""
    path = tmp_path / "thesis.txt"
    path.write_text("years of work")
    with pytest.raises((shmkit.SegmentExists, shmkit.Refused, ValueError, OSError), match="thesis"):
        channel.listen(f"{scheme}://{path}")
    assert path.read_text() == "years of work"
    with pytest.raises((shmkit.ChannelError, ValueError, OSError)):
        channel.connect(f"{scheme}://{path}")
    assert path.read_text() == "years of work"


@pytest.mark.parametrize("kind", ["unix://{}", "unix://{}?type=seqpacket", "unix://@{}"])
def test_two_do_not_listen_at_one_name(kind: str, tmp_path: Path, name: str) -> None:
    """SegmentExists, and the first is not disturbed."""
    url = kind.format(name if "@" in kind else tmp_path / "socket")
    with channel.listen(url) as receiver:
        with pytest.raises(shmkit.SegmentExists, match="somebody listens"):
            channel.listen(url)
        with running(receiver.meet, WATCHDOG), channel.connect(url, timeout=WATCHDOG) as sender:
            sender.send(1)
            assert receiver.recv(WATCHDOG) == 1


def test_a_fifo_has_one_receiver_and_one_sender(tmp_path: Path) -> None:
    """RoleTaken for the second of each, unless all say that there are many."""
    url = f"fifo://{tmp_path / 'fifo'}"
    with channel.listen(url):
        with pytest.raises(shmkit.RoleTaken, match="receives"):
            channel.listen(url)
        with channel.connect(url), pytest.raises(shmkit.RoleTaken, match="writers=many"):
            channel.connect(url)
        # Those who closed it are in nobody's way.
        channel.connect(url).close()


def test_one_that_sends_alone_and_several_do_not_mix(tmp_path: Path, process: Processes) -> None:
    """RoleTaken says who is there, and what to say; several go together, and who was killed is in nobody's way."""
    url = f"fifo://{tmp_path / 'fifo'}"
    many = f"{url}?writers=many"
    with channel.listen(url) as receiver:
        with channel.connect(url), pytest.raises(shmkit.RoleTaken, match="does not say writers=many, as all"):
            channel.connect(many)
        with channel.connect(many) as first:
            with pytest.raises(shmkit.RoleTaken, match=r"which say writers=many, .*say writers=many here too"):
                channel.connect(url)
            with channel.connect(many) as second:
                first.close()
                with pytest.raises(shmkit.RoleTaken, match="which say writers=many"):
                    channel.connect(url)
                second.send("together")
                assert receiver.recv(WATCHDOG) == "together"
    for mine, other in ((url, many), (many, url)):
        with channel.listen(url) as receiver:
            child = process(ends.connect_and_vanish, Kind("fifo", ""), mine, 1)
            assert receiver.recv(WATCHDOG) == 0
            child.join(WATCHDOG)
            channel.connect(other).close()


def test_two_of_several_that_hit_upon_one_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second takes another one."""
    url = f"fifo://{tmp_path / 'fifo'}?writers=many"
    with channel.listen(url):
        found = iter([b"1234567", b"1234567", b"7654321"])
        with monkeypatch.context() as patch:
            patch.setattr(os, "urandom", lambda size: next(found))
            ends_of_many = [channel.connect(url), channel.connect(url)]
        assert not list(found)
        for end in ends_of_many:
            end.close()


def test_a_fifo_that_nobody_reads_blocks_nobody(tmp_path: Path) -> None:
    """NoPeer at once, or when the time is up; the standard open would wait for ever."""
    path = tmp_path / "fifo"
    os.mkfifo(path, 0o600)
    for timeout in (0.0, 0.02):
        with pytest.raises(shmkit.NoPeer):
            channel.connect(f"fifo://{path}", timeout=timeout)
    with pytest.raises(shmkit.NoPeer):
        fifo.open_writer(path, 0.0)


def test_a_fifo_goes_on_after_a_sender_left(tmp_path: Path) -> None:
    """EndOfStream of the first; the next may come."""
    url = f"fifo://{tmp_path / 'fifo'}"
    with channel.listen(url) as receiver:
        for number in range(3):
            with channel.connect(url) as sender:
                sender.send(number)
            assert receiver.recv(WATCHDOG) == number
            with pytest.raises(shmkit.EndOfStream):
                receiver.recv(WATCHDOG)


def test_several_write_to_a_fifo(tmp_path: Path) -> None:
    """Messages of up to PIPE_BUF are never torn."""
    url = f"fifo://{tmp_path / 'fifo'}"
    with channel.listen(url) as receiver:
        senders = [channel.connect(url, writers="many") for _ in range(4)]

        def send(who: int) -> None:
            with senders[who] as sender:
                for number in range(200):
                    sender.send_bytes(bytes([who]) * (number * 19 % 4000 + 1), timeout=WATCHDOG)

        threads = [threading.Thread(target=send, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        came = list(receiver)
        for thread in threads:
            thread.join(WATCHDOG)
        for who in range(4):
            sizes = [len(data) for data in came if data[0] == who]
            assert sizes == [number * 19 % 4000 + 1 for number in range(200)]
            assert all(set(data) == {data[0]} for data in came)


def test_files_have_exactly_their_mode(tmp_path: Path) -> None:
    """Whatever the umask is, and not even for a moment more."""
    before = os.umask(0)
    try:
        for url in ("unix://{}", "fifo://{}"):
            path = tmp_path / url[:4]
            with channel.listen(url.format(path)):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_name_that_is_too_long_is_refused_in_words(tmp_path: Path) -> None:
    """The kernel's limit of 107 bytes is named."""
    with pytest.raises(ValueError, match="107"):
        channel.listen(f"unix://{tmp_path / ('x' * 200)}")


# ── strangers ───────────────────────────────────────────────────────────────────────────────────────────────────────


class _Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def _stranger(port: int, what: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), WATCHDOG) as sock:
        heard = b""
        try:
            if what:
                sock.sendall(what)
            sock.settimeout(WATCHDOG)
            while more := sock.recv(100):
                heard += more
                if len(heard) >= 40 and not what:
                    break
        except OSError:
            pass
    return heard


def test_a_stranger_at_the_tcp_port_is_refused_before_anything_is_unpickled(tmp_path: Path) -> None:
    """HTTP, junk, a frame with a trap in it, silence: none is let through, and a friend is served meanwhile."""
    trap = channel.frame.encode(_Trap(str(tmp_path / "sprung")))
    message = trap.header() + trap.meta + b"".join(bytes(part) for part in trap.buffers) + channel.frame.WHOLE
    with channel.serve("tcp://127.0.0.1:0", key=ends.KEY) as server:
        port = int(server.url.rpartition(":")[2])
        silent = socket.create_connection(("127.0.0.1", port))
        junk = [b"GET / HTTP/1.0\r\n\r\n", os.urandom(200), message, b"shmkit\x00\x01" + bytes(64)]
        for what in junk:
            with running(_stranger, port, what) as heard:
                with pytest.raises(TimeoutError):
                    server.accept(0.05)
            # It has heard a challenge, and nothing else.
            assert len(heard[0]) <= 40
        assert server.refused == len(junk)
        with running(server.accept, WATCHDOG) as accepted:
            friend = channel.connect(server.url, key=ends.KEY, timeout=WATCHDOG)
        with friend, accepted[0]:
            friend.send("friend")
            assert accepted[0].recv(WATCHDOG) == "friend"
        silent.close()
    assert not (tmp_path / "sprung").exists()


def test_a_wrong_key_is_refused_on_both_sides() -> None:
    """Neither learns the other's key, and the end that listens goes on listening."""
    with channel.listen("tcp://127.0.0.1:0", key=ends.KEY) as receiver:
        with running(receiver.meet, WATCHDOG):
            with pytest.raises(shmkit.Refused, match="key"):
                channel.connect(receiver.url, key=b"a wrong key", timeout=WATCHDOG)
            with channel.connect(receiver.url, key=ends.KEY, timeout=WATCHDOG) as sender:
                sender.send("right")
                assert receiver.recv(WATCHDOG) == "right"
    for short in (b"", b"short"):
        with pytest.raises(ValueError, match="8 bytes"):
            channel.listen("tcp://127.0.0.1:0", key=short)


def test_an_impostor_who_listens_is_refused() -> None:
    """Who connects has the key proved to it as well."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def pretend() -> None:
            sock, _ = server.accept()
            with sock:
                sock.sendall(b"shmkit\x00\x01" + bytes(32))
                sock.recv(1000)
                sock.sendall(bytes(32))
                sock.recv(1000)

        with running(pretend), pytest.raises(shmkit.Refused, match="does not know the key"):
            channel.connect(f"tcp://127.0.0.1:{server.getsockname()[1]}", key=ends.KEY, timeout=WATCHDOG)


@pytest.mark.parametrize("kind", ["stream", "seqpacket"])
def test_another_user_at_the_unix_socket_is_refused(kind: str, tmp_path: Path) -> None:
    """By the kernel's word, in both directions."""
    url = f"unix://{tmp_path / 'socket'}?type={kind}"
    with channel.serve(url, users=[54321]) as server:
        end = channel.connect(url)
        assert server.try_accept() is None
        assert server.refused == 1
        with pytest.raises((shmkit.EndOfStream, shmkit.Broken)):
            end.recv(WATCHDOG)
        end.close()
    with channel.serve(url) as server:
        with pytest.raises(shmkit.Refused, match="user"):
            channel.connect(url, users=[54321])


@pytest.mark.parametrize("url", ["unix://{}", "unix://{}?type=seqpacket", "tcp://127.0.0.1:0"])
def test_threads_of_a_listening_end_wait_together(url: str, tmp_path: Path) -> None:
    """One to receive, one to send, one to meet: all go on when the other end is there."""
    options: dict[str, Any] = {"key": ends.KEY} if url.startswith("tcp") else {}
    with channel.listen(url.format(tmp_path / "socket"), **options) as end:
        with (
            running(end.recv, WATCHDOG) as received,
            running(end.send, "to you", WATCHDOG) as sent,
            running(end.meet, WATCHDOG) as met,
            channel.connect(end.url, timeout=WATCHDOG, **options) as other,
        ):
            other.send("to me")
            assert other.recv(WATCHDOG) == "to you"
        assert (received, sent, met) == (["to me"], [None], [None])
