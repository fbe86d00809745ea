"""Runs the pipeline over one transport: starts the processes, collects, verifies, measures, and cleans up.

The collector is the calling process.  Every frame's result must come back in order and equal, to the byte, what the
collector itself computed from the photograph that the producer was to send.
"""

from __future__ import annotations

import multiprocessing
import resource
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from shmkit import asarray
from shmkit.cli.command import CommandError

from .crew import PATIENCE, Crew
from .examine import RESULT, examine
from .stages import GO, Meter, Plan, Usage, produce, work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.context import DefaultContext

    import numpy as np
    from numpy.typing import NDArray

    from .photographs import Photograph
    from .transport import ResultLink, Transport

__all__ = ["WORKERS", "Outcome", "run_pipeline"]

WORKERS = 2


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
    getting_frames: float  # share of the workers' time that went into waiting for frames and receiving them
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
    # The pixels, and the row that a ring's frame ends with.
    largest = max(photograph.pixels.nbytes + photograph.pixels[0].nbytes for photograph in photographs)
    with Crew(context) as crew:
        frame_links = [transport.frame_link(context, largest) for _ in range(WORKERS)]
        result_links = [transport.result_link(context, RESULT.itemsize + 1024) for _ in range(WORKERS)]
        # Shared, so that they reach the producer by reference: they are decoded once, and not sent to it either.
        arrays = [asarray(photograph.pixels) for photograph in photographs]
        try:
            crew.start("producer", produce, frame_links, arrays, plan)
            for number, (frames, results) in enumerate(zip(frame_links, result_links, strict=True)):
                crew.start(f"worker {number}", work, frames, results, plan)
            crew.hear()
            for link in frame_links:
                link.close()
            crew.tell(GO)
            collected = _collect(crew, result_links, photographs, plan, progress)
            usages = crew.hear()
        except (ConnectionError, EOFError) as error:
            raise crew.obituary() from error
        finally:
            for result_link in result_links:
                result_link.close()
        crew.dismiss()
    return _outcome(transport, photographs, plan, collected, usages)


@dataclass(frozen=True)
class _Collected:
    verified: int
    usage: Usage
    results: tuple[NDArray[np.void], ...]


def _collect(
    crew: Crew,
    links: Sequence[ResultLink],
    photographs: Sequence[Photograph],
    plan: Plan,
    progress: Callable[[int], None],
) -> _Collected:
    expected = [examine(0, photograph.pixels) for photograph in photographs]
    latest: dict[int, NDArray[np.void]] = {}
    meter = Meter(resource.RUSAGE_THREAD)  # another thread may be drawing progress
    verified = 0
    while True:
        if verified == plan.warm_up:
            meter.start()
        result = _next_result(crew, links[verified % len(links)])
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


def _next_result(crew: Crew, link: ResultLink) -> NDArray[np.void] | None:
    while True:
        crew.check()
        with suppress(TimeoutError):
            return link.receive(PATIENCE)


def _difference(result: NDArray[np.void], wanted: NDArray[np.void], name: str) -> str:
    different = [field for field in RESULT.names or () if result[field].tobytes() != wanted[field].tobytes()]
    return (
        f"frame {wanted['sequence'][0]} ({name}) is not what was sent: {', '.join(different)} differ, checksum "
        f"{result['checksum'][0]:016x} instead of {wanted['checksum'][0]:016x}, number {result['sequence'][0]}"
    )


def _outcome(
    transport: Transport,
    photographs: Sequence[Photograph],
    plan: Plan,
    collected: _Collected,
    usages: Sequence[Usage],
) -> Outcome:
    producer, *workers = usages
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
        getting_frames=sum(usage.transferring for usage in workers) / sum(usage.wall for usage in workers),
        results=collected.results,
    )
