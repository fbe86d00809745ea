"""Signal handlers that use, or close, an end while it lets its other end in."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import shmkit
from channel.ends import KEY, WATCHDOG, running
from shmkit import channel
from support.interrupting import interrupted

URLS = ["unix://{}", "unix://{}?type=seqpacket", "tcp://127.0.0.1:0"]
FILES = ("channel/door.py", "channel/sockets.py", "socket/listener.py")
# What a handler does.
CALLS: list[tuple[str, Callable[[channel.Channel], Any]]] = [
    ("try_send", lambda end: end.try_send("from the handler")),
    ("poll", lambda end: end.poll(0.0)),
    ("try_recv", lambda end: end.try_recv()),
    ("meet", lambda end: end.meet(WATCHDOG)),
    ("close", lambda end: end.close()),
]


@pytest.mark.parametrize(("name", "call"), CALLS, ids=[name for name, _ in CALLS])
@pytest.mark.parametrize("url", URLS[:2], ids=["unix", "seqpacket"])
def test_a_handler_does_not_wait_for_the_thread_that_it_interrupts(
    url: str, name: str, call: Callable[[channel.Channel], Any], tmp_path: Path
) -> None:
    """At whichever line of the call that it interrupts: it is served, or is told; and then the call goes on."""
    told: list[Any] = []
    path = tmp_path / "socket"
    url = url.format(path)
    while True:
        with channel.listen(url) as end, channel.connect(url) as peer:
            with interrupted(FILES, len(told) + 1, partial(call, end)) as came:
                try:
                    end.meet(WATCHDOG)
                except shmkit.Closed:
                    assert name == "close"
            assert end.closed or end.statistics().sent == (came == [True])
            assert not path.exists()
            if end.closed:
                # Also where it had been let in.
                with pytest.raises((EOFError, shmkit.Broken)):
                    peer.recv(WATCHDOG)
            else:
                if came == [True]:
                    assert peer.recv(WATCHDOG) == "from the handler"
                end.send("goes on", WATCHDOG)
                assert peer.recv(WATCHDOG) == "goes on"
        if not came:
            break
        told += came
    assert len(told) > 10
    errors = [error for error in told if isinstance(error, Exception)]
    assert all(isinstance(error, RuntimeError) for error in errors), told
    assert bool(errors) == (name != "close")


@pytest.mark.parametrize("url", URLS, ids=["unix", "seqpacket", "tcp"])
def test_who_sends_while_it_is_received_is_told(url: str, tmp_path: Path) -> None:
    """The words of the error say what the matter is."""
    options: dict[str, Any] = {"key": KEY} if url.startswith("tcp") else {}
    with channel.listen(url.format(tmp_path / "socket"), **options) as end:
        listener = end._door._listener  # type: ignore[attr-defined]
        accept = listener.try_accept
        told: list[Any] = []

        def handle(*_: Any) -> None:
            with pytest.raises(RuntimeError, match="in use by this very thread: called from a signal handler") as error:
                end.send("from the handler", WATCHDOG)
            told.append(error)

        def interrupted_accept() -> socket.socket | None:
            signal.raise_signal(signal.SIGUSR1)
            return accept()

        listener.try_accept = interrupted_accept
        before = signal.signal(signal.SIGUSR1, handle)
        try:
            with running(lambda: channel.connect(end.url, timeout=WATCHDOG, **options)) as other:
                end.meet(WATCHDOG)
        finally:
            signal.signal(signal.SIGUSR1, before)
        with other[0] as peer:
            assert told
            peer.send("there", WATCHDOG)
            assert end.recv(WATCHDOG) == "there"
