"""Every kind of channel: how its two ends are made, and what it can do; and what children do with an end."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import shmkit
from shmkit import channel

WATCHDOG = 30.0


@dataclass(frozen=True)
class Kind:
    """A kind of channel, and what is particular about it."""

    name: str
    url: str
    """With {path} and {name} to be filled in."""
    paired: bool = False
    duplex: bool = False
    most: int = 2**30
    """The largest message."""
    descriptor: bool = True
    notices_receiver: bool = True
    """The sender is told when the receiver has closed."""
    sender: str = ""
    """Options of the end that connects."""
    bounded: bool = True
    """It becomes full."""
    sees_death: bool = True

    @property
    def is_stream(self) -> bool:
        """It carries bytes, in which messages follow each other."""
        return "seqpacket" not in self.url and not self.url.startswith(("ring", "mq", "sysvmq", "file"))

    def __str__(self) -> str:
        return self.name


KINDS = [
    Kind("pipe", "pipe:", paired=True),
    Kind("pipes", "pipe:?duplex=yes", paired=True, duplex=True),
    Kind("unix pair", "unix:", paired=True, duplex=True),
    Kind("seqpacket pair", "unix:?type=seqpacket", paired=True, duplex=True, most=150_000),
    Kind("ring pair", "ring:?capacity=1MiB", paired=True, most=1_000_000),
    Kind("fifo", "fifo://{path}"),
    Kind("fifo of many", "fifo://{path}", sender="?writers=many", most=4000),
    Kind("unix", "unix://{path}", duplex=True),
    Kind("unix abstract", "unix://@{name}", duplex=True),
    Kind("seqpacket", "unix://{path}?type=seqpacket", duplex=True, most=150_000),
    Kind("tcp", "tcp://127.0.0.1:0", duplex=True),
    Kind("tcp6", "tcp://[::1]:0", duplex=True),
    Kind("ring", "ring://{name}?capacity=1MiB", most=1_000_000),
    Kind("mq", "mq://{name}", most=8000),
    Kind("sysvmq", "sysvmq://{name}", descriptor=False, most=8000),
    Kind("file", "file://{path}", descriptor=False, notices_receiver=False, bounded=False),
]
KEY = b"known to both sides"


def address(kind: Kind, folder: Path, name: str) -> str:
    return kind.url.format(path=folder / name[-24:], name=name)


def connect(kind: Kind, url: str, timeout: float = WATCHDOG) -> channel.Channel:
    options: dict[str, Any] = {"key": KEY} if kind.url.startswith("tcp") else {}
    return channel.connect(url + kind.sender, timeout=timeout, **options)


def listen(kind: Kind, url: str) -> channel.Channel:
    options: dict[str, Any] = {"key": KEY} if kind.url.startswith("tcp") else {}
    return channel.listen(url, **options)


def make(kind: Kind, folder: Path, name: str) -> tuple[channel.Channel, channel.Channel]:
    """The end that receives, and the one that sends (both do, where they can)."""
    if kind.paired:
        return channel.pair(kind.url)
    receiver = listen(kind, address(kind, folder, name))
    meeting = threading.Thread(target=receiver.meet, args=(WATCHDOG,))
    meeting.start()
    try:
        return receiver, connect(kind, receiver.url)
    finally:
        meeting.join()


@contextmanager
def both(kind: Kind, folder: Path, name: str) -> Iterator[tuple[channel.Channel, channel.Channel]]:
    receiver, sender = make(kind, folder, name)
    with sender, receiver:
        yield receiver, sender


@contextmanager
def running(target: Callable[..., Any], *args: Any) -> Iterator[list[Any]]:
    """Runs it in a thread meanwhile; what it returned (or raised) is in the list afterwards."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(target(*args))
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield result
    thread.join(WATCHDOG)
    assert not thread.is_alive()


def digest(array: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def fill(sender: channel.Channel, message: Any) -> int:
    """Sends until there is no more room; how many went."""
    count = 0
    while sender.try_send(message):
        count += 1
        assert count < 10**6
    return count


# ── what children do ────────────────────────────────────────────────────────────────────────────────────────────────


def messages(most: int, count: int = 20) -> list[Any]:
    """Objects, bytes and arrays, the same in every process."""
    random = np.random.default_rng(5)
    found: list[Any] = []
    for number in range(count):
        size = int(random.integers(1, max(2, min(most, 200_000) // 10)))
        found.append(
            [
                {"number": number, "text": "ü" * 5},
                random.bytes(size),
                random.random(max(1, size // 8)),
                (number, None, [random.integers(0, 9, size // 4, dtype="u1")]),
            ][number % 4]
        )
    return found


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return type(one) is type(other) and one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, (tuple, list)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


def send_messages(end: channel.Channel, most: int) -> None:
    for message in messages(most):
        end.send(message, timeout=WATCHDOG)
    end.close()


def connect_and_send(kind: Kind, url: str) -> None:
    send_messages(connect(kind, url), kind.most)


def receive_messages(end: channel.Channel, most: int) -> None:
    received = list(end)
    if not same(received, messages(most)):
        os._exit(3)


def send_and_vanish(end: channel.Channel, count: int) -> None:
    """Sends, and is killed."""
    for number in range(count):
        end.send(number, timeout=WATCHDOG)
    os.kill(os.getpid(), signal.SIGKILL)


def connect_and_vanish(kind: Kind, url: str, count: int) -> None:
    send_and_vanish(connect(kind, url), count)


PROGRAM = """
import sys
from channel import ends
kind = next(kind for kind in ends.KINDS if kind.name == sys.argv[1])
ends.connect_and_send(kind, sys.argv[2])
"""

__all__ = ["KINDS", "Kind", "both", "make", "running", "shmkit"]
