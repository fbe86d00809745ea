"""What runs in each process of the pipeline, and what it cost.

A stage says that it is ready, waits for the word to go, works until the stream ends and reports its Usage, all over
its control connection.  It leaves Ctrl-C to the collector, and never outlives it.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from .examine import examine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

    import numpy as np
    from numpy.typing import NDArray

    from .transport import FrameLink, ResultLink

__all__ = ["GO", "READY", "Meter", "Plan", "Usage", "produce", "work"]

READY = "ready"
GO = "go"


@dataclass(frozen=True)
class Plan:
    """``warm_up`` frames that are verified but not measured, then ``frames``, or as many as ``seconds`` allow."""

    warm_up: int
    frames: int | None
    seconds: float | None


@dataclass
class Usage:
    """What a stage cost while it was measured; times in seconds."""

    frames: int = 0
    wall: float = 0.0
    cpu: float = 0.0  # user and system, every thread
    computing: float = 0.0  # of cpu: spent on the pixels, not on moving them
    transferring: float = 0.0  # wall time inside send and receive, waiting included
    minor_faults: int = 0


class Meter:
    """Measures one stage, from ``start`` to ``stop``: its whole process, or one thread of it."""

    def __init__(self, who: int = resource.RUSAGE_SELF) -> None:
        self.usage = Usage()
        self._who = who
        self._began: tuple[float, float, int] | None = None

    @property
    def running(self) -> bool:
        """Whether ``start`` was called."""
        return self._began is not None

    def start(self) -> None:
        """Everything before was warm-up."""
        self.usage = Usage()
        self._began = self._now()

    def stop(self) -> Usage:
        """The cost since ``start``; nothing, if the stream ended before."""
        if self._began is not None:
            wall, cpu, faults = (now - then for now, then in zip(self._now(), self._began, strict=True))
            self.usage.wall, self.usage.cpu, self.usage.minor_faults = wall, cpu, int(faults)
        return self.usage

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Counts this thread's CPU time as computing."""
        began = time.thread_time()
        yield
        self.usage.computing += time.thread_time() - began

    def _now(self) -> tuple[float, float, int]:
        used = resource.getrusage(self._who)
        return time.monotonic(), used.ru_utime + used.ru_stime, used.ru_minflt


def produce(
    control: Connection, links: Sequence[FrameLink], photographs: Sequence[NDArray[np.uint8]], plan: Plan
) -> None:
    """Stream the photographs, over and over, to the workers in turn."""

    def body() -> Usage:
        meter = Meter()
        sequence = 0
        ends: float | None = None
        while True:
            if sequence == plan.warm_up:
                meter.start()
                ends = time.monotonic() + plan.seconds if plan.seconds is not None else None
            measured = sequence - plan.warm_up
            if measured == plan.frames or (ends is not None and time.monotonic() >= ends):
                break
            asked = time.monotonic()
            links[sequence % len(links)].send(sequence, photographs[sequence % len(photographs)])
            meter.usage.transferring += time.monotonic() - asked
            sequence += 1
        for link in links:
            link.finish()
        usage = meter.stop()
        usage.frames = sequence - plan.warm_up
        return usage

    _run(control, body)


def work(control: Connection, frames: FrameLink, results: ResultLink, plan: Plan) -> None:
    """Examine every frame and send what was seen."""

    def body() -> Usage:
        meter = Meter()
        while True:
            asked = time.monotonic()
            with frames.receive() as frame:
                received = time.monotonic()
                if frame is None:
                    break
                if frame.sequence >= plan.warm_up and not meter.running:
                    meter.start()
                with meter.computing():
                    result = examine(*frame)
            # Through a queue it is an array that keeps its memory for as long as somebody has it.
            del frame
            results.send(result)
            meter.usage.frames += 1
            meter.usage.transferring += received - asked
        results.finish()
        return meter.stop()

    _run(control, body)


def _run(control: Connection, body: Callable[[], Usage]) -> None:
    # The terminal sends Ctrl-C to every process; the collector alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        control.send(READY)
        if control.recv() == GO:
            control.send(body())
    except (BrokenPipeError, EOFError):
        # Another stage has gone (shmkit.Broken and PeerDied are BrokenPipeErrors); the collector says which.
        sys.exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
