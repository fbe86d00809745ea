"""What the demo says of its queues is so: how often a frame is copied, and into what."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest

import shmkit
from shmkit.cli.demo import transport

PIXELS = np.random.default_rng(7).integers(0, 256, (270, 480, 3), np.uint8)


@pytest.mark.parametrize("over", ["queue", "multiprocessing"])
def test_a_queue_carries_the_pixels_themselves(over: str) -> None:
    """Neither queue is helped by an array that would travel by reference."""
    pixels = shmkit.asarray(PIXELS)
    link = transport.TRANSPORTS[over].frame_link(multiprocessing.get_context("fork"), pixels.nbytes)
    link.send(3, pixels)
    with link.receive() as frame:
        assert frame is not None
        assert frame.sequence == 3
        assert type(frame.pixels) is np.ndarray
        assert not np.shares_memory(frame.pixels, pixels)
        np.testing.assert_array_equal(frame.pixels, PIXELS)
    link.finish()


def test_a_frame_in_a_shared_queue_is_copied_once(name: str) -> None:
    """Into a block of the heap.  The worker's array is that block, which is free again when the array has gone."""
    queue = shmkit.Queue.create(name, capacity="64 MiB")  # so that nobody else uses its heap

    def blocks() -> tuple[int, int]:
        statistics = queue.heap.statistics()
        return statistics["blocks_queued"], statistics["blocks_held"]

    try:
        queued, held = blocks()
        in_use = queue.heap.statistics()["in_use"]
        link = transport.QueueFrames(queue)
        link.send(3, PIXELS)
        assert blocks() == (queued + 1, held)
        assert queue.heap.statistics()["in_use"] - in_use < 2 * PIXELS.nbytes
        with link.receive() as frame:
            assert frame is not None
            assert not frame.pixels.flags.owndata
            assert blocks() == (queued, held + 1)
        del frame
        assert blocks() == (queued, held)
        link.close()
    finally:
        queue.unlink()
