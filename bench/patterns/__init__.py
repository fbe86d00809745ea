"""The timed loops, one pair per pattern; nothing in them knows a contender."""

from __future__ import annotations

from patterns.base import End, Measured, Pattern, WrongMessage, size_name
from patterns.streams import Attaches, Batched, Blocks, Cycles, Frames, InPlace, OneByOne
from patterns.waits import AsleepRoundTrip, Parked, PolledRoundTrip, RoundTrip, WakeUp

__all__ = [
    "AsleepRoundTrip",
    "Attaches",
    "Batched",
    "Blocks",
    "Cycles",
    "End",
    "Frames",
    "InPlace",
    "Measured",
    "OneByOne",
    "Parked",
    "Pattern",
    "PolledRoundTrip",
    "RoundTrip",
    "WakeUp",
    "WrongMessage",
    "size_name",
]
