"""What children and unrelated programs do besides sending: they listen, receive, and answer."""

from __future__ import annotations

from collections.abc import Callable

import shmkit
from channel.ends import KINDS, WATCHDOG, Kind, connect, listen, messages, same
from shmkit import channel


def ask(end: channel.Channel, most: int) -> None:
    """Sends every message; a duplex channel brings each of them back."""
    for message in messages(most):
        end.send(message, timeout=WATCHDOG)
        if end.duplex:
            assert same(end.recv(WATCHDOG), message)
    end.close()


def answer(end: channel.Channel, most: int) -> None:
    """Receives every message, and then the end; sends each back, if the channel is duplex."""
    with end:
        for message in messages(most):
            received = end.recv(WATCHDOG)
            assert same(received, message)
            if end.duplex:
                end.send(received, timeout=WATCHDOG)
        try:
            more = end.recv(WATCHDOG)
        except shmkit.EndOfStream:
            return
        raise AssertionError(f"after the last message came {more!r}")


def listen_and_answer(kind: Kind, url: str, tell: Callable[[str], object]) -> None:
    """Tells where it listens, and answers there."""
    end = listen(kind, url)
    tell(end.url)
    answer(end, kind.most)


def program(name: str, ours: str, theirs: str) -> None:
    """What an unrelated program does: connects to ``ours`` and answers, if it can; then it listens at ``theirs``."""
    kind = next(kind for kind in KINDS if kind.name == name)
    if kind.duplex:
        answer(connect(kind, ours), kind.most)
    listen_and_answer(kind, theirs, lambda url: print(url, flush=True))
