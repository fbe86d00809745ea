"""The timed loops, one pair per pattern; nothing in them knows a contender."""

from __future__ import annotations

from patterns.base import End, Measured, Pattern, WrongMessage, size_name
from patterns.locks import Asking, Contended, Pairs, SignalRoundTrip, SignalWakeUp, WithBlocks
from patterns.queues import Crowd, Objects
from patterns.streams import Attaches, Batched, Blocks, Cycles, Frames, InPlace, OneByOne
from patterns.waits import AsleepRoundTrip, Parked, PolledRoundTrip, RoundTrip, WakeUp

__all__ = [
    "Asking",
    "AsleepRoundTrip",
    "Attaches",
    "Batched",
    "Blocks",
    "Contended",
    "Crowd",
    "Cycles",
    "End",
    "Frames",
    "InPlace",
    "Measured",
    "Objects",
    "OneByOne",
    "Pairs",
    "Parked",
    "Pattern",
    "PolledRoundTrip",
    "RoundTrip",
    "SignalRoundTrip",
    "SignalWakeUp",
    "WakeUp",
    "WithBlocks",
    "WrongMessage",
    "size_name",
]
