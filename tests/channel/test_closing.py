"""An end that is closed while another thread, a task, or the interrupted call itself waits in it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

import shmkit
from channel.ends import KINDS, WATCHDOG, Kind, both, fill, running
from shmkit.channel.transport import SocketStream
from shmkit.socket import connect_tcp, listen_tcp
from support import Processes, wait_until

every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
with_descriptor = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.descriptor], ids=str)


def asleep(thread: int) -> bool:
    """Whether that thread of this process sleeps in the kernel."""
    return Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def waiting(call: Any, threads: list[int]) -> Any:
    """The call, by a thread that says which it is."""

    def run() -> Any:
        threads.append(threading.get_native_id())
        return call()

    return run


def closed_while(call: Any, close: Any, count: int = 1) -> list[Any]:
    """What came of the call, in so many threads, when they slept in it and this one closed."""
    threads: list[int] = []
    with ExitStack() as stack:
        results = [stack.enter_context(running(waiting(call, threads))) for _ in range(count)]
        wait_until(lambda: len(threads) == count and all(map(asleep, threads)))
        close()
    return [result[0] for result in results]


@every_kind
@pytest.mark.parametrize("timeout", [None, WATCHDOG])
def test_who_waits_for_a_message_is_told(kind: Kind, timeout: float | None, tmp_path: Path, name: str) -> None:
    """Closed, and not for ever without an answer; whoever comes later is told the same."""
    with both(kind, tmp_path, name) as (receiver, _):
        (came,) = closed_while(lambda: receiver.recv(timeout), receiver.close)
        assert isinstance(came, shmkit.Closed), repr(came)
        assert receiver.url in str(came) or "ring" in str(came)
        with pytest.raises(shmkit.Closed):
            receiver.recv(0)


@every_kind
def test_so_are_those_who_wait_for_their_turn(kind: Kind, tmp_path: Path, name: str) -> None:
    """Three threads, of which one at a time waits in the kernel."""
    with both(kind, tmp_path, name) as (receiver, _):
        came = closed_while(receiver.recv, receiver.close, 3)
        assert [type(error) for error in came] == [shmkit.Closed] * 3


@every_kind
def test_who_waits_with_something_received_before(kind: Kind, tmp_path: Path, name: str) -> None:
    """The other end is known to be there by then, and looked at from time to time."""
    with both(kind, tmp_path, name) as (receiver, sender):
        sender.send("first", WATCHDOG)
        assert receiver.recv(WATCHDOG) == "first"
        (came,) = closed_while(lambda: list(receiver), receiver.close)
        assert isinstance(came, shmkit.Closed)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.bounded], ids=str)
def test_who_waits_for_room_is_told(kind: Kind, tmp_path: Path, name: str) -> None:
    """Its message is not sent, and not waited for."""
    with both(kind, tmp_path, name) as (_, sender):
        message = b"x" * min(kind.most // 3, 50_000)
        fill(sender, message)

        def close() -> None:
            with suppress(TimeoutError):  # the rest of what try_send began is not taken
                sender.close(0.01)

        (came,) = closed_while(lambda: sender.send(message), close)
        assert isinstance(came, shmkit.Closed), repr(came)


@every_kind
def test_a_task_that_waits_is_told(kind: Kind, tmp_path: Path, name: str) -> None:
    """Whoever closes it is another task of the same thread."""
    with both(kind, tmp_path, name) as (receiver, _):

        async def wait_and_close() -> None:
            task = asyncio.ensure_future(receiver.recv_async())
            await asyncio.sleep(0.02)
            receiver.close()
            with pytest.raises(shmkit.Closed):
                await asyncio.wait_for(task, WATCHDOG)

        asyncio.run(wait_and_close())


@every_kind
def test_a_signal_handler_may_close_it(kind: Kind, tmp_path: Path, name: str) -> None:
    """The call that it interrupted ends by Closed."""
    with both(kind, tmp_path, name) as (receiver, _):
        before = signal.signal(signal.SIGUSR1, lambda *_: receiver.close())
        main = threading.get_native_id()

        def interrupt() -> None:
            wait_until(lambda: asleep(main))
            os.kill(os.getpid(), signal.SIGUSR1)

        try:
            with running(interrupt), pytest.raises(shmkit.Closed):
                receiver.recv(WATCHDOG)
        finally:
            signal.signal(signal.SIGUSR1, before)


@with_descriptor
def test_a_forked_child_s_closing_is_its_own(kind: Kind, process: Processes, tmp_path: Path, name: str) -> None:
    """Who waits in the parent goes on, and receives."""
    with both(kind, tmp_path, name) as (receiver, sender):
        threads: list[int] = []
        with running(waiting(lambda: receiver.recv(WATCHDOG), threads)) as came:
            wait_until(lambda: threads and asleep(threads[0]))
            child = process(receiver.close)
            child.join(WATCHDOG)
            assert child.exitcode == 0
            sender.send("for the parent", WATCHDOG)
        assert came == ["for the parent"]


def test_many_who_are_the_first_to_wait_share_what_wakes_them() -> None:
    """A sender, a receiver, and those who wait for somebody to connect: one descriptor, which close finds."""
    for _ in range(200):
        one, other = shmkit.pair("unix:")
        begin = threading.Barrier(4)
        found: list[int] = []

        def first(end: Any, begin: threading.Barrier, found: list[int]) -> None:
            begin.wait(WATCHDOG)
            found.append(end._waker_fd())

        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(running(first, one, begin, found))
        assert len(set(found)) == 1
        one.close()
        other.close()


@every_kind
def test_a_linger_that_is_no_time_closes_nothing(kind: Kind, tmp_path: Path, name: str) -> None:
    """The end goes on, and takes its leave when it is closed in earnest."""
    with both(kind, tmp_path, name) as (receiver, sender):
        sender.send("first", WATCHDOG)
        for wrong, error in (("x", TypeError), (True, TypeError), (float("nan"), ValueError)):
            with pytest.raises(error, match="linger"):
                sender.close(wrong)  # type: ignore[arg-type]
        assert not sender.closed
        sender.send("last", WATCHDOG)
        sender.close()
        assert [receiver.recv(WATCHDOG), receiver.recv(WATCHDOG)] == ["first", "last"]
        with pytest.raises(shmkit.EndOfStream):
            receiver.recv(WATCHDOG)


SERVED = ["unix://{}", "unix://{}?type=seqpacket", "tcp://127.0.0.1:0"]


@pytest.mark.parametrize("url", SERVED)
@pytest.mark.parametrize("timeout", [None, WATCHDOG])
def test_those_who_wait_for_connections_are_told(url: str, timeout: float | None, tmp_path: Path) -> None:
    """At a server: the one that waits in the kernel, those that wait for their turn, and whoever comes later."""
    with shmkit.serve(url.format(tmp_path / "socket")) as server:
        came = closed_while(lambda: server.accept(timeout), server.close, 3)
        assert [type(error) for error in came] == [shmkit.Closed] * 3
        assert server.url.partition("?")[0] in str(came[0])
        for call in (lambda: server.accept(0), server.try_accept, server.fileno):
            with pytest.raises(shmkit.Closed):
                call()
        server.close()


def test_a_signal_handler_may_close_a_server(tmp_path: Path) -> None:
    """The call that it interrupted ends by Closed, and lets go of the socket file."""
    path = tmp_path / "socket"
    with shmkit.serve(f"unix://{path}") as server:
        before = signal.signal(signal.SIGUSR1, lambda *_: server.close())
        main = threading.get_native_id()

        def interrupt() -> None:
            wait_until(lambda: asleep(main))
            os.kill(os.getpid(), signal.SIGUSR1)

        try:
            with running(interrupt), pytest.raises(shmkit.Closed):
                server.accept(WATCHDOG)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert not path.exists()


def test_closing_does_not_wait_for_a_connection_that_was_reset() -> None:
    """The other end closes with something unread in it: what is under way is not confirmed any more."""
    with listen_tcp("127.0.0.1", key=None) as listener:
        sock = connect_tcp("127.0.0.1", listener.socket.getsockname()[1], key=None)
        accepted = listener.accept(WATCHDOG)
    with sock, accepted:
        stream = SocketStream(sock)
        while stream.write([bytes(65536)]):
            pass
        with running(stream.shut, 10 * WATCHDOG):
            wait_until(lambda: sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\x04")  # FIN_WAIT1
            accepted.close()
