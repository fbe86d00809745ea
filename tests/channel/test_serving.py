"""Those who listen: in a forked child beside their parent, and what they say."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import shmkit
from channel import ends
from channel.ends import KEY, KINDS, WATCHDOG, Kind, fill, running
from channel.test_closing import asleep, closed_while, waiting
from shmkit import channel, fifo
from shmkit.socket import authenticate
from support import Processes, wait_until

URLS = ["unix://{}", "unix://{}?type=seqpacket", "tcp://127.0.0.1:0"]


def options(url: str) -> dict[str, Any]:
    return {"key": KEY} if url.startswith("tcp") else {}


@pytest.mark.parametrize("how", ["close", "drop", "exit"])
def test_a_forked_child_leaves_the_socket_file(how: str, process: Processes, tmp_path: Path) -> None:
    """Whatever the child does with its copy, the parent's name stays, and goes with the parent's own."""
    code = dedent("""
        import os, sys
        from shmkit import channel
        from shmkit.socket import connect_unix, listen_unix

        folder, how = sys.argv[1:]
        for kind in ("stream", "seqpacket"):
            for make in ("serve", "listen", "listen_unix"):
                path = f"{folder}/{make}-{kind}"
                if make == "listen_unix":
                    end = listen_unix(path, kind)
                else:
                    end = getattr(channel, make)(f"unix://{path}?type={kind}")
                child = os.fork()
                if not child:
                    if how == "exit":
                        sys.exit(0)
                    if how == "close":
                        end.close()
                    del end
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
                connect_unix(path, kind).close()
                end.close()
                assert not os.path.exists(path)
        print("each was found")
    """)
    program = process.python(code, tmp_path, how)
    assert program.communicate(timeout=WATCHDOG)[0] == "each was found\n"


def serve_for_ever(server: channel.Server) -> None:
    """Tells each who connects which process it has reached."""
    with suppress(shmkit.Closed):
        while True:
            with server.accept() as end:
                end.send(os.getpid(), WATCHDOG)


@pytest.mark.parametrize("url", URLS)
def test_a_forked_child_takes_connections_beside_its_parent(url: str, process: Processes, tmp_path: Path) -> None:
    """Each of many clients is served by the one or the other, and both have some."""
    with channel.serve(url.format(tmp_path / "socket"), **options(url)) as server:
        with running(serve_for_ever, server) as end:
            child = process(serve_for_ever, server)
            reached: list[int] = []
            while len(reached) < 100 or len(set(reached)) < 2:
                with channel.connect(server.url, timeout=WATCHDOG, **options(url)) as client:
                    reached.append(client.recv(WATCHDOG))
            assert set(reached) == {os.getpid(), child.pid}
            server.close()
        assert end == [None]


@pytest.fixture
def unproven() -> Iterator[tuple[channel.Server, socket.socket]]:
    """A server, and a connection to it that has not said yet whether it knows the key."""
    with channel.serve("tcp://127.0.0.1:0", key=KEY) as server:
        with socket.create_connection(server._listener.socket.getsockname()) as client:
            wait_until(lambda: server.try_accept() or server._listener._unproven)
            yield server, client


def test_a_forked_child_does_not_turn_away_who_proves_himself_to_its_parent(
    unproven: tuple[channel.Server, socket.socket], process: Processes
) -> None:
    """The child closes; the parent hears what the connection says then."""
    server, client = unproven
    child = process(server.close)
    child.join(WATCHDOG)
    assert child.exitcode == 0
    with running(authenticate, client, KEY, "connector", WATCHDOG) as proven:
        server.accept(WATCHDOG).close()
    assert proven == [None]


def test_a_forked_child_keeps_nobody_who_was_proving_himself(
    unproven: tuple[channel.Server, socket.socket], process: Processes
) -> None:
    """The parent turns the connection away: its client is told, though the child takes connections."""
    server, client = unproven
    receiver, sender = channel.pair()
    with receiver, sender:

        def take_connections() -> None:
            server.try_accept()
            sender.send("takes connections")
            signal.pause()

        process(take_connections)
        receiver.recv(WATCHDOG)
        server.close()
        client.settimeout(WATCHDOG)
        while client.recv(100):
            pass


def test_connecting_to_who_says_nothing_keeps_the_time() -> None:
    """TimeoutError, which says where, and how long it was."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(TimeoutError, match=rf"{url} .*within 0\.02 s"):
            channel.connect(url, key=KEY, timeout=0.02)


def test_connecting_to_who_does_not_even_answer_keeps_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel drops what comes to a queue that is full, as a machine does that is not there."""
    monkeypatch.setattr("shmkit.socket.tcp._ATTEMPT_SECONDS", 10 * WATCHDOG)
    with socket.socket() as full, ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        stack.enter_context(socket.create_connection(full.getsockname()))
        url = f"tcp://127.0.0.1:{full.getsockname()[1]}"
        with pytest.raises(shmkit.NoPeer, match=f"{url}: no answer"):
            channel.connect(url, key=KEY, timeout=0.02)


@pytest.mark.parametrize("url", [*URLS, "unix://@{}", "fifo://{}", "ring://{}", "mq://{}", "sysvmq://{}"])
def test_who_is_not_there_is_called_by_its_address(url: str, tmp_path: Path, name: str) -> None:
    """As it is written for connect."""
    path = url.startswith(("unix://{", "fifo"))
    url = url.format(tmp_path / "nobody" if path else name).replace(":0", ":1")
    with pytest.raises(shmkit.NoPeer, match=re.escape(url.partition("?")[0])):
        channel.connect(url, **options(url))


def test_a_fifo_that_was_left_is_called_by_its_address(tmp_path: Path) -> None:
    """The name alone is nobody."""
    fifo.create(tmp_path / "fifo")
    with pytest.raises(shmkit.NoPeer, match=f"fifo://{tmp_path / 'fifo'}"):
        channel.connect(f"fifo://{tmp_path / 'fifo'}")


@pytest.mark.parametrize("url", URLS)
def test_a_server_says_where_it_listens(url: str, tmp_path: Path) -> None:
    """And whether it still does."""
    with channel.serve(url.format(tmp_path / "socket"), **options(url)) as server:
        assert repr(server) == f"<Server {server.url}: open>"
    assert repr(server) == f"<Server {server.url}: closed>"


@pytest.mark.parametrize("url", URLS)
def test_what_is_sent_to_nobody_is_told_from_what_has_no_room(url: str, tmp_path: Path) -> None:
    """By an end that listens, as long as nobody has connected, and after that."""
    with channel.listen(url.format(tmp_path / "socket"), **options(url)) as end:
        for call in (
            lambda: end.send(b"x", 0.01),
            lambda: asyncio.run(end.send_async(b"x", 0.01)),
        ):
            with pytest.raises(TimeoutError, match="nobody has connected within"):
                call()
        with (
            running(end.meet, WATCHDOG),
            channel.connect(end.url, timeout=WATCHDOG, **options(url)) as other,
        ):
            end.meet(WATCHDOG)
            fill(end, bytes(50_000))
            with pytest.raises(TimeoutError, match="no room"):
                end.send(bytes(50_000), 0.01)
            other.close()  # first: nobody takes the rest of a message


@pytest.mark.parametrize("url", URLS)
def test_a_task_that_sends_before_anybody_has_connected(url: str, tmp_path: Path) -> None:
    """It waits for the listener, which becomes readable, and then for room."""
    with channel.listen(url.format(tmp_path / "socket"), **options(url)) as end:

        async def send() -> None:
            sending = asyncio.ensure_future(end.send_async("for the first"))
            await asyncio.sleep(0)  # it has looked once, and waits
            loop = asyncio.get_running_loop()
            other = await loop.run_in_executor(None, lambda: channel.connect(end.url, timeout=WATCHDOG, **options(url)))
            with other:
                await asyncio.wait_for(sending, WATCHDOG)
                assert other.recv(WATCHDOG) == "for the first"

        asyncio.run(send())


LISTENING = [kind for kind in KINDS if not kind.paired and kind.name != "file"]
listening = pytest.mark.parametrize("kind", LISTENING, ids=str)


@listening
def test_to_meet_is_to_wait_for_who_connects(kind: Kind, tmp_path: Path, name: str) -> None:
    """Nobody has, and the time is up; somebody does, and sends nothing; again, there is nothing to wait for."""
    with ends.listen(kind, ends.address(kind, tmp_path, name)) as end:
        with pytest.raises(TimeoutError, match=r"nobody has connected within 0\.01 s"):
            end.meet(0.01)
        threads: list[int] = []
        with running(waiting(lambda: end.meet(WATCHDOG), threads)) as met:
            wait_until(lambda: threads and asleep(threads[0]))
            other = ends.connect(kind, end.url)
        with other:
            assert met == [None]
            end.meet(0)
            other.send("heard", WATCHDOG)
            assert end.recv(WATCHDOG) == "heard"
            end.meet(0)


@listening
def test_who_meets_is_told_that_another_thread_received(kind: Kind, tmp_path: Path, name: str) -> None:
    """Whichever of the two hears of it."""
    with ends.listen(kind, ends.address(kind, tmp_path, name)) as end:
        with running(end.recv, WATCHDOG) as received, running(end.meet, WATCHDOG) as met:
            with ends.connect(kind, end.url) as other:
                other.send("heard", WATCHDOG)
                wait_until(lambda: received and met)
        assert (received, met) == (["heard"], [None])


@listening
def test_who_meets_is_told_that_the_end_was_closed(kind: Kind, tmp_path: Path, name: str) -> None:
    """Closed, as whoever receives is told; and so is who comes later."""
    with ends.listen(kind, ends.address(kind, tmp_path, name)) as end:
        (came,) = closed_while(end.meet, end.close)
        assert isinstance(came, shmkit.Closed), repr(came)
        with pytest.raises(shmkit.Closed):
            end.meet(0)


def test_where_nobody_is_waited_for(tmp_path: Path) -> None:
    """At ends that do not listen, and at a file, which needs no other end."""
    with channel.listen(f"file://{tmp_path / 'log'}") as end:
        end.meet()
    for kind in [kind for kind in KINDS if kind.paired]:
        receiver, sender = channel.pair(kind.url)
        with sender, receiver:
            receiver.meet()
            sender.meet()
