"""What children do at one end of a ring; importable, so that spawned ones can do it too."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from typing import Any

import shmkit

WATCHDOG = 30.0


def send_all(ring: shmkit.Ring, items: list[Any]) -> None:
    """Sends, and ends without a word."""
    for item in items:
        ring.send(item, timeout=WATCHDOG)


def send_and_vanish(ring: shmkit.Ring, items: list[Any]) -> None:
    """Sends, and ends as if it had been killed: nothing is closed."""
    send_all(ring, items)
    os._exit(0)


def send_and_fail(ring: shmkit.Ring, items: list[Any]) -> None:
    """Sends, and ends by an exception."""
    send_all(ring, items)
    raise SystemExit(3)


def receive(ring: shmkit.Ring, count: int) -> None:
    """Receives so many, and ends without a word."""
    for _ in range(count):
        ring.recv(timeout=WATCHDOG)


def echo(ring: shmkit.Ring, back: shmkit.Ring) -> None:
    """Sends back what it receives, until there is no more."""
    while True:
        try:
            item = ring.recv(timeout=WATCHDOG)
        except shmkit.EndOfStream:
            return
        back.send(item, timeout=WATCHDOG)


def write(ring: shmkit.Ring, data: bytes) -> None:
    """Sends through a reservation."""
    with ring.reserve(len(data), timeout=WATCHDOG) as inside:
        inside[:] = data


def receive_rows(ring: shmkit.Ring, itemsize: int) -> bytes:
    """Receives what is there into one buffer."""
    buffer = bytearray(100)
    return bytes(buffer[: itemsize * ring.recv_many_into(buffer, itemsize, WATCHDOG)])


def play(rings: tuple[shmkit.Ring, ...], orders: Connection) -> None:
    """Does with one of the rings what it is told, and says what came of it."""
    others = {
        "write": write,
        "recv_rows": receive_rows,
        "send_rows": lambda ring, rows, itemsize: ring.send_many(rows, itemsize=itemsize),
        # A view is a handle of this process: the other one is told what it shows.
        "recv_view": lambda ring: bytes(ring.recv_view(WATCHDOG).buf),
    }
    for which, what, *args in iter(orders.recv, None):
        method = others.get(what) or getattr(shmkit.Ring, what)
        try:
            answer = method(rings[which], *args)
        except Exception as error:
            answer = error
        orders.send(answer)
