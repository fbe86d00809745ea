"""What is measured: every pattern with its sizes, once, for pytest and for figures.py."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import contenders
import patterns as p
from shmkit.cli.bench.face import Contender, Job

KIB, MIB = 1 << 10, 1 << 20


# What goes by an address, and beside it the same in C and by hand: measured one after the other, as the distance
# of the cores may be another a few seconds later.
_MECHANISMS = (
    ("ring://",),
    ("pipe:", "LIMIT C pipe, framed", "os.pipe, framed", "LIMIT C pipe"),
    ("fifo://", "LIMIT C FIFO, framed", "FIFO, framed", "FIFO", "LIMIT C FIFO"),
    ("unix://", "LIMIT C UNIX socket, framed", "UNIX socket, framed", "UNIX socket", "LIMIT C UNIX socket"),
    ("unix://, seqpacket", "LIMIT C UNIX packets", "UNIX socket, seqpacket"),
    ("tcp://", "LIMIT C TCP socket, framed", "TCP socket, framed", "TCP socket", "LIMIT C TCP socket"),
    ("mq://", "LIMIT C POSIX queue", "POSIX queue"),
    ("sysvmq://", "LIMIT C System V queue", "System V queue"),
    ("file://",),
)
# os.pipe is a measure of other things, too.
_ADDRESSES = tuple(name for mechanism in _MECHANISMS for name in mechanism)


@dataclass(frozen=True)
class Plan:
    """How thorough: seconds of a timed round, rounds of every contender, seconds that a receiver stays parked."""

    seconds: float
    repetitions: int
    parked: float


QUICK = Plan(seconds=0.15, repetitions=3, parked=2.0)
FULL = Plan(seconds=0.5, repetitions=9, parked=10.0)


@dataclass(frozen=True)
class Setup:
    """A pattern and its job, before it is known how long to measure."""

    pattern: type[p.Pattern]
    job: Job
    options: tuple[tuple[str, Any], ...] = field(default=())
    quick: bool = True  # measured without being asked for everything
    among: tuple[str, ...] = ()  # these only; its title says so

    def make(self, plan: Plan) -> p.Pattern:
        seconds = plan.parked if self.pattern is p.Parked else plan.seconds
        return self.pattern(seconds, **dict(self.options))

    def contenders(self) -> list[Contender]:
        """Who can do this at all, installed or not."""
        able = contenders.supporting(self.make(QUICK), self.job)
        if not self.among:
            return able
        return sorted((one for one in able if one.name in self.among), key=lambda one: self.among.index(one.name))

    def judged(self) -> list[Contender]:
        """Those of them that figures.py needs: addresses and bare calls are compared with each other, elsewhere."""
        return [one for one in self.contenders() if self.among or one.name not in _ADDRESSES]

    @property
    def title(self) -> str:
        return self.make(QUICK).title(self.job) + (", addresses and bare calls" if self.among else "")


def _setup(
    pattern: type[p.Pattern], job: Job, *, quick: bool = True, among: tuple[str, ...] = (), **options: Any
) -> Setup:
    return Setup(pattern, job, tuple(options.items()), quick, among)


# A page or two for what goes to and fro; a quarter of a core's second-level cache for small messages; for frames as
# many as a stream of them would have in flight.
_WORD = Job(8, 8 * KIB)
_SMALL = Job(64, 256 * KIB)
_FRAMES = [
    Job(KIB, 256 * KIB),
    Job(64 * KIB, MIB),
    Job(MIB, 8 * MIB),
    Job(8 * MIB, 64 * MIB),
    Job(64 * MIB, 256 * MIB),
]

ROUND_TRIPS = [
    _setup(p.PolledRoundTrip, _WORD),
    _setup(p.RoundTrip, _WORD),
    _setup(p.RoundTrip, _WORD, quick=False, split=False),
    _setup(p.AsleepRoundTrip, _WORD),
    _setup(p.AsleepRoundTrip, _WORD, split=False),
]
SMALL_MESSAGES = [_setup(p.OneByOne, _SMALL), _setup(p.Batched, _SMALL), _setup(p.Blocks, _SMALL)]
FRAMES = [_setup(p.Frames, job) for job in _FRAMES]
SUMMED = [_setup(p.Frames, job, quick=job.size in (MIB, 64 * MIB), summed=True) for job in _FRAMES]
IN_PLACE = [_setup(p.InPlace, job, quick=job.size in (KIB, MIB, 64 * MIB)) for job in _FRAMES]
PARKED = [_setup(p.Parked, _WORD), _setup(p.WakeUp, _WORD), _setup(p.WakeUp, _WORD, split=False)]
SEGMENTS = [_setup(p.Cycles, Job(MIB)), _setup(p.Attaches, Job(MIB))]
_NOTHING = Job(0)
LOCKS = [_setup(p.Pairs, _NOTHING), _setup(p.WithBlocks, _NOTHING)]
CONTENDED = [_setup(p.Contended, _NOTHING), _setup(p.Contended, _NOTHING, split=False, workers=4)]
SIGNALS = [
    _setup(p.SignalWakeUp, _NOTHING),
    _setup(p.SignalWakeUp, _NOTHING, split=False),
    _setup(p.SignalRoundTrip, _NOTHING),
]
ASKING = [_setup(p.Asking, _NOTHING)]
OBJECTS = [_setup(p.Objects, _SMALL), _setup(p.Objects, _SMALL, pickled=True)]
# Seconds in which each of some processes has had two cores for a hundred times or so.
_SHARED_OUT = 0.5
CROWDS = [
    _setup(p.Crowd, _SMALL, at_least=_SHARED_OUT),
    _setup(p.Crowd, _SMALL, at_least=_SHARED_OUT, pickled=True),
    _setup(p.Crowd, _SMALL, at_least=_SHARED_OUT, workers=4),
    _setup(p.Crowd, _SMALL, at_least=_SHARED_OUT, maxsize=4),
]
TASKS = [_setup(p.Tasks, _NOTHING), _setup(p.Tasks, Job(MIB))]
CHANNELS = [
    _setup(p.RoundTrip, _WORD, among=("os.pipe", *_ADDRESSES)),
    _setup(p.OneByOne, _SMALL, among=("os.pipe", *_ADDRESSES)),
    *(
        _setup(p.Frames, job, among=("os.pipe", *_ADDRESSES))
        for job in (Job(4 * KIB, 256 * KIB), Job(64 * KIB, MIB), Job(MIB, 8 * MIB), Job(8 * MIB, 64 * MIB))
    ),
]

PRIMITIVES = LOCKS + CONTENDED + SIGNALS + ASKING
QUEUES = OBJECTS + CROWDS
EVERYTHING = ROUND_TRIPS + SMALL_MESSAGES + FRAMES + SUMMED + IN_PLACE + PARKED + SEGMENTS + PRIMITIVES + QUEUES
EVERYTHING += TASKS + CHANNELS


@dataclass(frozen=True)
class Case:
    """One contender in one setup: what a test is about."""

    setup: Setup
    contender: Contender

    def __str__(self) -> str:
        """A test id that ``-k`` can select."""
        return re.sub(r"[^0-9A-Za-z.=-]+", "_", f"{self.setup.title}-{self.contender.name}")


def cases(setups: Iterable[Setup]) -> list[Case]:
    return [Case(setup, contender) for setup in setups for contender in setup.contenders()]
