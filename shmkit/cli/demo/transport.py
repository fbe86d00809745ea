"""How frames and results travel: the one part in which the demo's programs differ.

::

    producer ──frames──▶ worker 0 ──results──▶ collector
             ──frames──▶ worker 1 ──results──▶

Every arrow is a link: one sender, one receiver, in order.  ``RingTransport`` makes each of a ``shmkit.Ring``,
``SharedQueueTransport`` of a ``shmkit.Queue``, ``QueueTransport`` of a ``multiprocessing.Queue``.  A link is made by
the collector and handed to the processes as an argument; an end belongs to the process that first uses it.
"""

from __future__ import annotations

import pickle
import queue
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from multiprocessing.context import BaseContext

    import numpy as np
    from numpy.typing import NDArray

    from shmkit import Ring

__all__ = [
    "TRANSPORTS",
    "YARDSTICK",
    "Frame",
    "FrameLink",
    "QueueTransport",
    "ResultLink",
    "RingTransport",
    "SharedQueueTransport",
    "Transport",
]

# Frames waiting for a worker: one that it can begin with at once, and one that the producer can write meanwhile.
FRAMES_WAITING = 2

# Results waiting for the collector.  So few fit into a pipe's 64 KiB that a worker never sleeps in the middle of
# writing one: should it be killed, the collector finds whole results only.
RESULTS_WAITING = 4


class Frame(NamedTuple):
    """A frame as its receiver sees it, on whatever memory the link keeps it."""

    sequence: int
    pixels: NDArray[np.uint8]


class FrameLink(Protocol):
    """From the producer to one worker."""

    def send(self, sequence: int, pixels: NDArray[np.uint8]) -> None:
        """Send a frame; waits while the link is full."""

    def receive(self) -> AbstractContextManager[Frame | None]:
        """The next frame, for the time of a ``with``; None when the producer has finished."""

    def finish(self) -> None:
        """The producer has sent its last frame; returns when the receiver can have all."""

    def close(self) -> None:
        """This process has no more use for the link."""


class ResultLink(Protocol):
    """From one worker to the collector."""

    def send(self, result: NDArray[np.void]) -> None:
        """Send a result; waits while the link is full."""

    def receive(self, timeout: float) -> NDArray[np.void] | None:
        """The next result; None when the worker has finished; TimeoutError when there is neither in time."""

    def finish(self) -> None:
        """The worker has sent its last result; returns when the collector can have all."""

    def close(self) -> None:
        """This process has no more use for the link."""


class Transport(Protocol):
    """Makes the links of one pipeline."""

    name: str
    # Each line is one copy of a frame's pixels on the way from the producer's array to the worker's.
    copies: tuple[str, ...]

    def frame_link(self, context: BaseContext, largest: int) -> FrameLink:
        """A link for frames of at most ``largest`` bytes."""

    def result_link(self, context: BaseContext, largest: int) -> ResultLink:
        """A link for results of at most ``largest`` bytes."""


# ── shmkit.Ring ─────────────────────────────────────────────────────────────────────────────────────────────────────


class RingFrames:
    """Frames that are written straight into a ring and read where they lie.

    A frame is its rows of pixels and, as many cameras send it, one more row that begins with the frame's number.
    """

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    def send(self, sequence: int, pixels: NDArray[np.uint8]) -> None:
        height, width, channels = pixels.shape
        with self._ring.reserve((height + 1, width, channels), "uint8") as frame:
            frame[:height] = pixels
            frame[height].reshape(-1)[:8].view("<u8")[0] = sequence

    @contextmanager
    def receive(self) -> Iterator[Frame | None]:
        from shmkit.errors import EndOfStream

        try:
            view = self._ring.recv_view()
        except EndOfStream:
            yield None
            return
        with view as frame:
            yield Frame(int(frame[-1].reshape(-1)[:8].view("<u8")[0]), frame[:-1])

    def finish(self) -> None:
        self._ring.close()

    def close(self) -> None:
        self._ring.close()


class RingResults:
    """Results over a ring, one record each."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    def send(self, result: NDArray[np.void]) -> None:
        self._ring.send(result)

    def receive(self, timeout: float) -> NDArray[np.void] | None:
        from shmkit.errors import EndOfStream

        try:
            result: NDArray[np.void] = self._ring.recv(timeout=timeout)
        except EndOfStream:
            return None
        return result

    def finish(self) -> None:
        self._ring.close()

    def close(self) -> None:
        self._ring.close()


class RingTransport:
    """``shmkit.Ring``, on anonymous memory: no name that could be left behind."""

    name = "shmkit.Ring"
    copies: tuple[str, ...] = ("producer: array → the ring, where the worker finds it",)

    def frame_link(self, context: BaseContext, largest: int) -> RingFrames:
        from shmkit import Ring

        return RingFrames(Ring.create(capacity=_power_of_two(FRAMES_WAITING * largest)))

    def result_link(self, context: BaseContext, largest: int) -> RingResults:
        from shmkit import Ring

        return RingResults(Ring.create(capacity=_power_of_two((RESULTS_WAITING + 1) * largest)))


# ── shmkit.Queue and multiprocessing.Queue, with the same words ─────────────────────────────────────────────────────


class AnyQueue(Protocol):
    """What the demo asks of a queue, whoever made it."""

    def put(self, obj: object) -> None:
        """Put ``obj``; waits while the queue is full."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The next item."""

    def close(self) -> None:
        """This process puts nothing more."""

    def join_thread(self) -> None:
        """Return when what was put is on its way."""


class QueueFrames:
    """Frames as (number, array) pairs through a queue."""

    def __init__(self, frames: AnyQueue) -> None:
        self._queue = frames

    def send(self, sequence: int, pixels: NDArray[np.uint8]) -> None:
        import numpy as np

        # As a plain ndarray: a SharedArray would travel by reference, through either queue.
        self._queue.put((sequence, pixels.view(np.ndarray)))

    @contextmanager
    def receive(self) -> Iterator[Frame | None]:
        item = self._queue.get()
        yield None if item is None else Frame(*item)

    def finish(self) -> None:
        self._queue.put(None)
        self._queue.close()
        self._queue.join_thread()

    def close(self) -> None:
        self._queue.close()


class QueueResults:
    """Results through a queue."""

    def __init__(self, results: AnyQueue) -> None:
        self._queue = results

    def send(self, result: NDArray[np.void]) -> None:
        self._queue.put(result)

    def receive(self, timeout: float) -> NDArray[np.void] | None:
        try:
            result: NDArray[np.void] | None = self._queue.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None
        return result

    def finish(self) -> None:
        self._queue.put(None)
        self._queue.close()
        self._queue.join_thread()

    def close(self) -> None:
        self._queue.close()


class SharedQueueTransport:
    """``shmkit.Queue``, on anonymous memory too, with room for as many frames as a ring has at least."""

    name = "shmkit.Queue"
    copies: tuple[str, ...] = ("producer: array → a block of the heap, where the worker finds it",)

    def frame_link(self, context: BaseContext, largest: int) -> QueueFrames:
        from shmkit import Queue

        return QueueFrames(Queue(maxsize=FRAMES_WAITING))

    def result_link(self, context: BaseContext, largest: int) -> QueueResults:
        from shmkit import Queue

        return QueueResults(Queue(maxsize=RESULTS_WAITING))


class QueueTransport:
    """``multiprocessing.Queue``, with room for as many frames as a ring has at least."""

    name = "multiprocessing.Queue"
    # Read in the multiprocessing and pickle of CPython 3.10 to 3.13.  NumPy's arrays keep the bytes that they are
    # unpickled from, and with pickle's protocol 5, the default from Python 3.14 on, they need no bytes to be pickled.
    copies: tuple[str, ...] = (
        *(("producer: array → bytes, when the array is pickled",) if pickle.DEFAULT_PROTOCOL < 5 else ()),
        "producer: array or its bytes → the pickle",
        "producer: pickle → the pipe, in the kernel, 64 KiB at a time",
        "worker: pipe → bytes, one object per read",
        "worker: bytes → the pickle, put together again",
        "worker: pickle → the bytes under the new array",
    )

    def frame_link(self, context: BaseContext, largest: int) -> QueueFrames:
        return QueueFrames(context.Queue(maxsize=FRAMES_WAITING))

    def result_link(self, context: BaseContext, largest: int) -> QueueResults:
        return QueueResults(context.Queue(maxsize=RESULTS_WAITING))


# By the words that choose them.  The one that the others are measured against comes last.
TRANSPORTS: dict[str, Transport] = {
    "ring": RingTransport(),
    "queue": SharedQueueTransport(),
    "multiprocessing": QueueTransport(),
}
YARDSTICK = TRANSPORTS["multiprocessing"].name


def _power_of_two(least: int) -> int:
    return 1 << max(12, (least - 1).bit_length())
