"""Runs the pipeline over one transport: starts the processes, collects, verifies, measures, and cleans up.

The collector is the calling process.  Every frame's result must come back in order and equal, to the byte, what the
collector itself computed from the photograph that the producer was to send.
"""

from __future__ import annotations

import multiprocessing
import resource
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, cast

from shmkit.cli.command import CommandError

from .examine import RESULT, examine
from .stages import GO, Meter, Plan, Usage, produce, work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import DefaultContext
    from multiprocessing.process import BaseProcess

    import numpy as np
    from numpy.typing import NDArray

    from .photographs import Photograph
    from .transport import ResultLink, Transport

__all__ = ["WORKERS", "Outcome", "run_pipeline"]

WORKERS = 2

# How often a collector that gets no result asks whether the other processes live, in seconds.
PATIENCE = 0.2

# A stage that was told to go gets this long to do so, in seconds, before it is killed.
GRACE = 2.0


@dataclass(frozen=True)
class Outcome:
    """One transport's run: what was verified, and what the measured frames cost all processes together."""

    transport: str
    copies: tuple[str, ...]
    verified: int  # frames, the warm-up's included
    frames: int  # measured
    nbytes: int  # of the measured frames' pixels
    seconds: float  # from the last result of the warm-up to the last result
    cpu: float  # seconds, user and system
    computing: float  # seconds of cpu that went into examining frames
    minor_faults: int
    worker_waits: float  # share of the workers' time in which they had no frame
    results: tuple[NDArray[np.void], ...]  # one per photograph, as a worker saw it

    @property
    def frames_per_second(self) -> float:
        """Measured frames per second of wall time."""
        return self.frames / self.seconds

    @property
    def gigabytes_per_second(self) -> float:
        """Pixels per second of wall time, in 10⁹ bytes."""
        return self.nbytes / self.seconds / 1e9

    @property
    def cpu_per_frame(self) -> float:
        """CPU seconds of all processes per frame."""
        return self.cpu / self.frames

    @property
    def computing_per_frame(self) -> float:
        """The part of ``cpu_per_frame`` that went into examining it."""
        return self.computing / self.frames

    @property
    def moving_per_frame(self) -> float:
        """The part of ``cpu_per_frame`` that did not."""
        return max(0.0, self.cpu_per_frame - self.computing_per_frame)

    @property
    def faults_per_frame(self) -> float:
        """Fresh pages that the kernel had to hand out or map."""
        return self.minor_faults / self.frames


@dataclass
class _Stage:
    name: str
    process: BaseProcess
    control: Connection
    usage: Usage | None = None


def run_pipeline(
    transport: Transport,
    photographs: Sequence[Photograph],
    plan: Plan,
    *,
    start_method: str | None = None,
    progress: Callable[[int], None] = lambda verified: None,
) -> Outcome:
    """Stream ``plan``'s frames through ``transport``; raises CommandError when a process dies or a frame is wrong."""
    context = cast("DefaultContext", multiprocessing.get_context(start_method))
    largest = max(photograph.pixels.nbytes + photograph.pixels.shape[1] * 3 for photograph in photographs)
    frame_links = [transport.frame_link(context, largest) for _ in range(WORKERS)]
    result_links = [transport.result_link(context, RESULT.itemsize + 1024) for _ in range(WORKERS)]
    arrays = [photograph.pixels for photograph in photographs]

    stages: list[_Stage] = []

    def start(name: str, target: Callable[..., None], *arguments: object) -> None:
        ours, theirs = context.Pipe()
        with theirs, _interrupts_held_back():
            process = context.Process(target=target, args=(theirs, *arguments, plan), name=name, daemon=True)
            process.start()
            stages.append(_Stage(name, process, ours))

    try:
        start("producer", produce, frame_links, arrays)
        for number, (frames, results) in enumerate(zip(frame_links, result_links, strict=True)):
            start(f"worker {number}", work, frames, results)
        for stage in stages:
            _hear(stage, stages)
        for link in frame_links:
            link.close()
        for stage in stages:
            stage.control.send(GO)
        collected = _collect(result_links, photographs, plan, stages, progress)
        for stage in stages:
            stage.usage = _hear(stage, stages)
        return _outcome(transport, photographs, plan, collected, stages)
    except (ConnectionError, EOFError) as error:
        raise _obituary(stages) from error
    finally:
        _end(stages)
        for result_link in result_links:
            result_link.close()


@dataclass(frozen=True)
class _Collected:
    verified: int
    usage: Usage
    results: tuple[NDArray[np.void], ...]


def _collect(
    links: Sequence[ResultLink],
    photographs: Sequence[Photograph],
    plan: Plan,
    stages: Sequence[_Stage],
    progress: Callable[[int], None],
) -> _Collected:
    expected = [examine(0, photograph.pixels) for photograph in photographs]
    latest: dict[int, NDArray[np.void]] = {}
    meter = Meter(resource.RUSAGE_THREAD)  # another thread may be drawing progress
    verified = 0
    while True:
        if verified == plan.warm_up:
            meter.start()
        result = _next_result(links[verified % len(links)], stages)
        if result is None:
            break
        photograph = verified % len(photographs)
        wanted = expected[photograph]
        wanted["sequence"] = verified
        if result.tobytes() != wanted.tobytes():
            raise CommandError(_difference(result, wanted, photographs[photograph].name))
        latest[photograph] = result
        verified += 1
        progress(verified)
    usage = meter.stop()
    usage.frames = verified - plan.warm_up
    return _Collected(verified, usage, tuple(latest[number] for number in sorted(latest)))


def _next_result(link: ResultLink, stages: Sequence[_Stage]) -> NDArray[np.void] | None:
    while not any(stage.process.exitcode for stage in stages):
        with suppress(TimeoutError):
            return link.receive(PATIENCE)
    raise _obituary(stages)


def _difference(result: NDArray[np.void], wanted: NDArray[np.void], name: str) -> str:
    different = [field for field in RESULT.names or () if result[field].tobytes() != wanted[field].tobytes()]
    return (
        f"frame {wanted['sequence'][0]} ({name}) is not what was sent: {', '.join(different)} differ, checksum "
        f"{result['checksum'][0]:016x} instead of {wanted['checksum'][0]:016x}, number {result['sequence'][0]}"
    )


def _hear(stage: _Stage, stages: Sequence[_Stage]) -> Any:
    """What a stage has to say next; CommandError when some stage dies instead."""
    while True:
        wait([stage.control, *(each.process.sentinel for each in stages)], PATIENCE)
        if stage.control.poll():
            return stage.control.recv()
        if any(each.process.exitcode for each in stages):
            raise _obituary(stages)


def _obituary(stages: Sequence[_Stage]) -> CommandError:
    """Who died first: the one that a signal killed, for the others end in an orderly way when a neighbour is gone."""
    deadline = time.monotonic() + GRACE
    while True:
        for stage in stages:
            if (code := stage.process.exitcode) is not None and code < 0:
                return _end_of(stage, f"was killed by {signal.Signals(-code).name}")
        living = [stage.process.sentinel for stage in stages if stage.process.exitcode is None]
        if not living or not wait(living, deadline - time.monotonic()):
            break
    for stage in stages:
        if stage.process.exitcode:
            return _end_of(stage, f"ended with status {stage.process.exitcode}")
    return CommandError("a process of the pipeline left before the stream ended")


def _end_of(stage: _Stage, how: str) -> CommandError:
    return CommandError(f"the demo's {stage.name} (process {stage.process.pid}) {how}; the others were stopped")


def _end(stages: Sequence[_Stage]) -> None:
    with _interrupts_held_back():
        finished = all(stage.usage is not None for stage in stages)
        deadline = time.monotonic() + GRACE
        for stage in stages:
            if finished:
                stage.process.join(max(0.0, deadline - time.monotonic()))
            # Nothing that a stage owns outlives it, so there is nothing that it need be asked to tidy up.
            stage.process.kill()
            stage.process.join()
            stage.control.close()
            stage.process.close()


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Ctrl-C waits until this is over; a process that is started meanwhile is born with it held back."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _outcome(
    transport: Transport,
    photographs: Sequence[Photograph],
    plan: Plan,
    collected: _Collected,
    stages: Sequence[_Stage],
) -> Outcome:
    producer, *workers = [stage.usage for stage in stages if stage.usage is not None]
    if producer.frames != collected.usage.frames:
        raise CommandError(f"the producer sent {producer.frames} frames, {collected.usage.frames} came back")
    every = [producer, *workers, collected.usage]
    numbers = range(plan.warm_up, collected.verified)
    return Outcome(
        transport=transport.name,
        copies=transport.copies,
        verified=collected.verified,
        frames=collected.usage.frames,
        nbytes=sum(photographs[number % len(photographs)].pixels.nbytes for number in numbers),
        seconds=collected.usage.wall,
        cpu=sum(usage.cpu for usage in every),
        computing=sum(usage.computing for usage in workers),
        minor_faults=sum(usage.minor_faults for usage in every),
        worker_waits=sum(usage.transferring for usage in workers) / sum(usage.wall for usage in workers),
        results=collected.results,
    )
