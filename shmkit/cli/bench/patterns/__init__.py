"""The timed loops, one pair per pattern; nothing in them knows a contender."""

from __future__ import annotations

from shmkit.cli.bench.patterns.base import End, Measured, Pattern, WrongMessage, size_name
from shmkit.cli.bench.patterns.queues import Crowd, Objects
from shmkit.cli.bench.patterns.streams import (
    Attaches,
    Batched,
    Blocks,
    Cycles,
    Frames,
    FrameTrips,
    InPlace,
    OneByOne,
)
from shmkit.cli.bench.patterns.tasks import Tasks
from shmkit.cli.bench.patterns.waits import AsleepRoundTrip, Parked, PolledRoundTrip, RoundTrip, WakeUp

__all__ = [
    "AsleepRoundTrip",
    "Attaches",
    "Batched",
    "Blocks",
    "Crowd",
    "Cycles",
    "End",
    "FrameTrips",
    "Frames",
    "InPlace",
    "Measured",
    "Objects",
    "OneByOne",
    "Parked",
    "Pattern",
    "PolledRoundTrip",
    "RoundTrip",
    "Tasks",
    "WakeUp",
    "WrongMessage",
    "size_name",
]
