"""Arrays that no cache can hold are copied with other instructions: at any place, and whatever they are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

import shmkit
import shmkit.multiprocessing

WATCHDOG = 30.0
LARGE = (20 << 20) + 77
Way = Callable[[Any], Any]


def by_queue(stack: ExitStack) -> Way:
    queue = shmkit.Queue()
    stack.callback(queue.close)

    def through(item: Any) -> Any:
        queue.put(item, timeout=WATCHDOG)
        return queue.get(timeout=WATCHDOG)

    return through


def by_ring(stack: ExitStack) -> Way:
    ring = stack.enter_context(shmkit.Ring.create(capacity="64 MiB"))

    def through(item: Any) -> Any:
        ring.send(item, timeout=WATCHDOG)
        return ring.recv(timeout=WATCHDOG)

    return through


def by_pipe(stack: ExitStack) -> Way:
    receiver, sender = shmkit.multiprocessing.Pipe(duplex=False)
    stack.callback(receiver.close)
    stack.callback(sender.close)

    def through(item: Any) -> Any:
        # Where no memory can be had for it, it goes through the pipe, which holds less.
        sending = threading.Thread(target=sender.send, args=(item,))
        sending.start()
        try:
            return receiver.recv()
        finally:
            sending.join(WATCHDOG)

    return through


@pytest.mark.parametrize("way", [by_queue, by_ring, by_pipe])
def test_every_byte_arrives_wherever_it_lay(way: Callable[[ExitStack], Way]) -> None:
    """Of arrays that begin at any place in a line, and of bytes; twice, so that a block's old bytes would be seen."""
    source = np.random.default_rng(1).integers(0, 256, LARGE + 64, np.uint8)
    with ExitStack() as stack:
        through = way(stack)
        for begin in (0, 1, 16, 31, 63):
            item = source[begin : begin + LARGE]
            assert np.array_equal(through(item), item)
        text = source.tobytes()
        assert bytes(through(text)) == text
