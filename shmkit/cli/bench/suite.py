"""What ``shmkit bench`` measures: patterns, their sizes, and who takes part."""

from __future__ import annotations

from typing import Literal, NamedTuple

from shmkit.cli.bench import patterns as p
from shmkit.cli.bench.contenders import POOLS, SEGMENTS, WAYS
from shmkit.cli.bench.face import Contender, Job

__all__ = ["ARRAYS_FROM", "EVERYBODY", "PATTERNS", "TITLES", "Plan", "Setup", "knows", "named", "setups"]

Name = Literal["round trip", "throughput", "wake-up", "many to many", "create", "attach", "tasks", "array tasks"]
PATTERNS: tuple[Name, ...] = (
    "round trip", "throughput", "wake-up", "many to many", "create", "attach", "tasks", "array tasks",
)  # fmt: skip
TITLES = {
    "round trip": "Round trip",
    "throughput": "Throughput",
    "wake-up": "Waking up a receiver that has been waiting for 2 ms",
    "many to many": "Two producers, two consumers, small tuples",
    "create": "Create, map, close, unlink",
    "attach": "Attach, map, close",
    "tasks": "A pool of two workers, tasks that do nothing",
    "array tasks": "A pool of two workers, tasks that take and return an array",
}
# Messages are bytes below this size, and arrays of float64 from it on.
ARRAYS_FROM = 1024
SEGMENT = 1 << 20

EVERYBODY: list[Contender] = [*WAYS, *SEGMENTS, *POOLS]
# Of these alone a quick run tells, as long as nobody asks for others.
_QUICK = {
    "shmkit.Ring", "shmkit.Queue", "SharedArray by Queue", "pipe:", "unix://", "os.pipe", "UNIX socket", "mp.Queue",
    "mp.Pipe", "faster-fifo", "pyzmq", "shmkit.Segment", "shmkit.empty, warm pool", "SharedMemory", "mp.Pool",
    "shmkit Pool",
}  # fmt: skip


class Plan(NamedTuple):
    """How thorough: seconds of a timed round, rounds of every contender, sizes, and which patterns."""

    seconds: float
    rounds: int
    sizes: list[int]
    patterns: tuple[str, ...]
    split: bool = True
    quick: bool = False
    longest_trip: int = 1 << 40
    """Round trips are not made with anything larger."""


class Setup(NamedTuple):
    """A pattern at a size, and who takes part."""

    name: str
    size: int
    pattern: p.Pattern
    job: Job
    contenders: list[Contender]
    rounds: int
    traced: bool


def _job(size: int, *, frames: bool) -> Job:
    """Room for as many messages as 8 MiB hold, but two at least; of small ones as much as a core's cache holds."""
    return Job(size, max(256 << 10, min(8 << 20, 64 * size), 2 * (size + 4096)) if frames else 256 << 10)


def _made(name: str, size: int, plan: Plan) -> tuple[p.Pattern, Job]:
    seconds, split, frames = plan.seconds, plan.split, size >= ARRAYS_FROM
    job = _job(size, frames=frames)
    pattern: p.Pattern
    match name:
        case "round trip":
            pattern = p.FrameTrips(seconds, split=split) if frames else p.RoundTrip(seconds, split=split)
        case "throughput":
            pattern = p.Frames(seconds, split=split) if frames else p.OneByOne(seconds, split=split)
        case "wake-up":
            pattern = p.WakeUp(min(0.3, 2 * seconds), split=split)
        case "many to many":
            pattern = p.Crowd(max(seconds, 0.1))
        case "create" | "attach":
            pattern = (p.Cycles if name == "create" else p.Attaches)(seconds)
        case _:
            pattern = p.Tasks(seconds)
    return pattern, job


def setups(plan: Plan, chosen: list[Contender] | None) -> list[Setup]:
    """Everything that is to be measured, in order; ``chosen``: these only."""
    found = []
    for name in plan.patterns:
        trips = [size for size in plan.sizes if size <= plan.longest_trip]
        sizes = {
            "round trip": trips, "throughput": plan.sizes, "wake-up": [8], "many to many": [64],
            "create": [SEGMENT], "attach": [SEGMENT], "tasks": [0], "array tasks": [SEGMENT],
        }[name]  # fmt: skip
        for at, size in enumerate(sizes):
            pattern, job = _made(name, size, plan)
            able = [one for one in (EVERYBODY if chosen is None else chosen) if one.supports(pattern, job)]
            if plan.quick and chosen is None:
                able = [one for one in able if one.name in _QUICK]
            # Of large ones the system calls say little, and each round takes its time.
            traced = name not in ("many to many", "tasks", "array tasks") and size <= 1 << 20
            rounds = min(plan.rounds, 2) if size >= 32 << 20 else plan.rounds
            found.append(Setup(name, size, pattern, job, able, rounds, traced and (at == 0 or not plan.quick)))
    return found


def knows(name: str) -> list[Contender]:
    """Whom somebody means by a name, with its commas or without, or by what pip calls a package."""
    wanted = _plain(name)
    return [one for one in EVERYBODY if wanted in (_plain(one.name), _plain(one.package or ""))]


def named(names: str) -> list[str]:
    """The names of a list with commas, some of which have commas themselves: as long ones as there are."""
    found, parts = [], [part for part in map(_plain, names.split(",")) if part]
    while parts:
        several = (count for count in range(len(parts), 1, -1) if knows(" ".join(parts[:count])))
        count = next(several, 1)
        found.append(" ".join(parts[:count]))
        del parts[:count]
    return found


def _plain(name: str) -> str:
    return " ".join(name.lower().replace(",", " ").split())
