"""What is to be reached: each sentence, how it is read off a run, and the bound that it is held to."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import suite
from patterns import size_name

OURS, CYTHON, RING, FUTEX = "shmkit.Ring", "LIMIT bare Cython ring", "LIMIT C ring", "LIMIT C futex"
QUEUE, BY_REFERENCE = "shmkit.Queue", "SharedArray by Queue"
NAMED, WARM = "shmkit.Segment, reserve=False", "shmkit.empty, warm pool"
FAR_NS = 200  # a cache-line round trip above this: the two CPUs are far apart

Cells = list[dict[str, Any]]
Rows = dict[str, Cells]  # one setup's cells by contender


# -- reading a run ------------------------------------------------------------------------------------------------


def good(rows: Rows, name: str) -> Cells:
    return [cell for cell in rows.get(name, []) if "error" not in cell]


def median(values: Iterable[float]) -> float:
    values = list(values)
    return statistics.median(values) if values else math.nan


def seconds(rows: Rows, name: str) -> float:
    return median(cell["seconds"] for cell in good(rows, name))


def rate(rows: Rows, name: str) -> float:
    return 1 / seconds(rows, name) if good(rows, name) else math.nan


def times(rows: Rows, one: str, other: str) -> float:
    """Median over rounds of how many times ``other`` fits into ``one``'s seconds: the rounds ran side by side."""
    pairs = zip(rows.get(one, []), rows.get(other, []), strict=False)
    return median(a["seconds"] / b["seconds"] for a, b in pairs if "error" not in a and "error" not in b)


def state(cell: dict[str, Any]) -> str | None:
    """Whether the two CPUs were near or far during the cell; None: they moved, or nobody knows."""
    probes = cell.get("core_ns", [])
    if None in probes or not probes:
        return None
    far = {probe > FAR_NS for probe in probes}
    return None if len(far) > 1 else "far" if far.pop() else "near"


def slowest_state(rows: Rows, name: str) -> float:
    """The rate in that state of the cores, near or far, in which it is lower."""
    by_state: dict[str, list[float]] = {}
    for cell in good(rows, name):
        if where := state(cell):
            by_state.setdefault(where, []).append(1 / cell["seconds"])
    return min((median(rates) for rates in by_state.values()), default=rate(rows, name))


# -- what is to be reached ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """One sentence of the issue: how it is read off a setup's cells, and the bound it is held to."""

    what: str
    setup: suite.Setup
    read: Callable[[Rows], float]
    bound: float
    unit: Callable[[float], str]
    at_most: bool = False
    ours: str = OURS
    beside: suite.Setup | None = None  # whose cells are read together with the setup's

    def reached(self, rows: Rows, beside: Rows | None = None) -> float:
        if self.beside is not None:
            # Told apart by what nobody is called.
            rows = {**rows, **{f"{name}, beside": cells for name, cells in (beside or {}).items()}}
        return self.read(rows) if good(rows, self.ours) else math.nan

    def holds(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound

    @property
    def target(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.unit(self.bound)}"


def ratio(value: float) -> str:
    return f"{value:.3g} ×"


def span(value: float) -> str:
    for unit, factor in (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3)):
        if value < 1000 * factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.3g} s"


def per_second(value: float) -> str:
    for unit, factor in (("M/s", 1e6), ("k/s", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.3g} /s"


def share(value: float) -> str:
    return f"{100 * value:.3g} %"


def plain(value: float) -> str:
    return f"{value:.3g}"


def slower(other: str, ours: str = OURS) -> Callable[[Rows], float]:
    return lambda rows: times(rows, ours, other)


def faster(other: str, ours: str = OURS) -> Callable[[Rows], float]:
    return lambda rows: times(rows, other, ours)


# Those of shmkit's own whose names do not say so; who receives where it was written, without a copy of its own.
_OURS = ("shmkit", "SharedArray by", "drop-in", "Executor, install", "LIMIT")
_VIEWS = ("hand-made ring", "SharedMemory, semaphores", "iceoryx2", "momentumx", "kickmsg")


def best_peer(rows: Rows, *, copying: bool = False) -> str | None:
    """Whoever is fastest and neither shmkit nor a limit; ``copying``: whose receiver gets memory of its own."""
    names = [name for name in rows if good(rows, name) and not name.startswith(_OURS) and "://" not in name]
    if copying:
        names = [name for name in names if name not in _VIEWS]
    return min(names, key=lambda name: seconds(rows, name), default=None)


def ahead_of_peers(rows: Rows) -> float:
    peer = best_peer(rows)
    return math.nan if peer is None else times(rows, peer, OURS)


def faults(rows: Rows, name: str = OURS) -> float:
    return median(cell.get("faults", 0.0) for cell in good(rows, name))


def _queue_figures() -> list[Figure]:
    """What queues are to reach, beside multiprocessing's."""
    native, pickled = suite.OBJECTS
    two, two_pickled, four, blocked = suite.CROWDS
    single, lists, _ = suite.SMALL_MESSAGES
    default, asleep = suite.ROUND_TRIPS[1], suite.ROUND_TRIPS[3]

    def beside(what: str, setup: suite.Setup, bound: float) -> Figure:
        return Figure(what, setup, faster("mp.Queue", QUEUE), bound, ratio, ours=QUEUE)

    def ahead(setup: suite.Setup, *, copying: bool = False) -> Figure:
        def read(rows: Rows) -> float:
            peer = best_peer(rows, copying=copying)
            return math.nan if peer is None else times(rows, peer, QUEUE)

        what = "… × the best peer that copies" if copying else "… × the best peer"
        return Figure(what, setup, read, 1.0, ratio, ours=QUEUE)

    found = [
        beside("Queue: 64 B by put and get, × mp.Queue", single, 25),
        ahead(single),
        Figure("… put_many, get_many", lists, lambda rows: rate(rows, QUEUE), 15e6, per_second, ours=QUEUE),
        Figure(
            "… × one by one",
            lists,
            lambda rows: rate(rows, QUEUE) / rate(rows, f"{QUEUE}, beside"),
            3,
            ratio,
            ours=QUEUE,
            beside=single,
        ),
        beside("… tuples of int, float, str, bytes, × mp.Queue", native, 25),
        ahead(native),
        beside("… pickled objects, × mp.Queue", pickled, 10),
        ahead(pickled),
        beside("… 2 producers, 2 consumers, × mp.Queue", two, 16),
        ahead(two),
        Figure(
            "… shares of the two consumers",
            two,
            lambda rows: median(cell["extra"]["balance"] for cell in good(rows, QUEUE)),
            0.8,
            plain,
            ours=QUEUE,
        ),
        beside("… the same, pickled, × mp.Queue", two_pickled, 10),
        beside("… the same, where everybody has to wait, × mp.Queue", blocked, 8),
        ahead(two_pickled),
        Figure("… 4 producers, 4 consumers", four, lambda rows: rate(rows, QUEUE), 1e6, per_second, ours=QUEUE),
        Figure("… there and back", default, lambda rows: seconds(rows, QUEUE), 1e-6, span, True, QUEUE),
        Figure("… there and back, both asleep, ÷ os.pipe", asleep, slower("os.pipe", QUEUE), 1.2, ratio, True, QUEUE),
    ]
    for setups, how in ((suite.FRAMES[1:], ""), (suite.SUMMED[1:], " and summed")):
        for setup in setups:
            frames = f"… arrays of {size_name(setup.job.size)}{how}"
            found.append(Figure(f"{frames}, × C ring", setup, faster(RING, QUEUE), 0.75, ratio, ours=QUEUE))
            found.append(beside(f"{frames}, × mp.Queue", setup, 50))
            found.append(ahead(setup, copying=True))
            if not how:
                found.append(
                    Figure("… page faults per array", setup, lambda rows: faults(rows, QUEUE), 0.01, plain, True, QUEUE)
                )
                found.append(
                    Figure(
                        f"A SharedArray of {size_name(setup.job.size)}",
                        setup,
                        lambda rows: rate(rows, BY_REFERENCE),
                        500e3,
                        per_second,
                        ours=BY_REFERENCE,
                    )
                )
    return found


def _drop_in_figures() -> list[Figure]:
    """What the drop-in is to reach, beside what it stands for."""
    single, default = suite.SMALL_MESSAGES[0], suite.ROUND_TRIPS[1]
    trivial, arrays = suite.TASKS
    queue, pipe = "drop-in Queue", "drop-in Pipe"
    pool, executor, installed = "shmkit Pool", "shmkit.Executor", "Executor, install()"
    return [
        Figure("The drop-in's Queue: 64 B, × shmkit.Queue", single, faster(QUEUE, queue), 0.9, ratio, ours=queue),
        *(
            Figure(
                f"The drop-in's Queue: arrays of {size_name(setup.job.size)}, × shmkit.Queue",
                setup,
                faster(QUEUE, queue),
                0.9,
                ratio,
                ours=queue,
            )
            for setup in suite.FRAMES[1:]
        ),
        *(
            Figure(
                f"The drop-in's Pipe: arrays of {size_name(setup.job.size)}, × C ring",
                setup,
                faster(RING, pipe),
                0.7,
                ratio,
                ours=pipe,
            )
            for setup in suite.FRAMES[1:]
        ),
        Figure("The drop-in's Pipe: 64 B, × mp.Pipe", single, faster("mp.Pipe", pipe), 0.95, ratio, ours=pipe),
        Figure("The drop-in's Pipe: there and back, × mp.Pipe", default, faster("mp.Pipe", pipe), 5, ratio, ours=pipe),
        Figure("Pool.map, 1 MiB to and fro, × mp.Pool", arrays, faster("mp.Pool", pool), 6, ratio, ours=pool),
        Figure(
            "Pool.map, a task that does nothing", trivial, lambda rows: seconds(rows, pool), 2.5e-6, span, True, pool
        ),
        Figure(
            "ProcessPoolExecutor under install(), arrays, × without",
            arrays,
            faster("ProcessPoolExecutor", installed),
            5,
            ratio,
            ours=installed,
        ),
        Figure(
            "ProcessPoolExecutor under install(), a task that does nothing, × without",
            trivial,
            faster("ProcessPoolExecutor", installed),
            1.5,
            ratio,
            ours=installed,
        ),
        Figure(
            "shmkit.Executor, a task that does nothing",
            trivial,
            lambda rows: seconds(rows, executor),
            6e-6,
            span,
            True,
            executor,
        ),
        Figure(
            "shmkit.Executor, arrays, × ProcessPoolExecutor",
            arrays,
            faster("ProcessPoolExecutor", executor),
            5,
            ratio,
            ours=executor,
        ),
    ]


def _channel_figures() -> list[Figure]:
    """What each address is to reach, beside the same system calls in C, or by hand in Python."""
    trip, single, *frames = suite.CHANNELS
    by_hand = {
        "pipe:": "os.pipe, framed",
        "fifo://": "FIFO, framed",
        "unix://": "UNIX socket, framed",
        "unix://, seqpacket": "UNIX socket, seqpacket",
        "tcp://": "TCP socket, framed",
        "mq://": "POSIX queue",
        "sysvmq://": "System V queue",
    }
    most = {"unix://, seqpacket": 64 << 10, "mq://": 4 << 10, "sysvmq://": 4 << 10}
    in_c = {
        "pipe:": "LIMIT C pipe, framed",
        "fifo://": "LIMIT C FIFO, framed",
        "unix://": "LIMIT C UNIX socket, framed",
        "unix://, seqpacket": "LIMIT C UNIX packets",
        "tcp://": "LIMIT C TCP socket, framed",
        "mq://": "LIMIT C POSIX queue",
        "sysvmq://": "LIMIT C System V queue",
    }
    found = []
    for name, other in by_hand.items():
        found.append(Figure(f"{name}: 8 B to and fro, ÷ by hand", trip, slower(other, name), 1.3, ratio, True, name))
        found.append(Figure(f"{name}: 64 B one by one, ÷ by hand", single, slower(other, name), 1.3, ratio, True, name))
        for setup in frames:
            if name in in_c and setup.job.size <= most.get(name, setup.job.size):
                what = f"{name}: {size_name(setup.job.size)}, ÷ C"
                found.append(Figure(what, setup, slower(in_c[name], name), 1.1, ratio, True, name))
            if name in ("unix://", "tcp://") and setup.job.size == 8 * suite.MIB:
                what = f"{name}: {size_name(setup.job.size)}, × by hand"
                found.append(Figure(what, setup, faster(other, name), 1.0, ratio, ours=name))
    return found


@dataclass(frozen=True)
class Single:
    """A figure that is measured without contenders: ``read`` of what singles.py found."""

    what: str
    measurement: str
    read: Callable[[dict[str, float]], float]
    bound: float
    unit: Callable[[float], str]

    def holds(self, value: float) -> bool:
        return value <= self.bound

    @property
    def target(self) -> str:
        return f"≤ {self.unit(self.bound)}"


SINGLES = [
    Single("Price of the protocol, put and get in C", "protocol", lambda it: it["price of the protocol"], 25e-9, span),
    Single("Blocks used by arrays of 1 MiB, depth 8", "stream", lambda it: it["blocks used by the stream"], 16, plain),
    Single("… page faults per array", "stream", lambda it: it["faults per array"], 0.01, plain),
    Single(
        "… of the memory in use, kept by an idle heap",
        "stream",
        lambda it: it["resident when idle"] / it["resident while busy"],
        0.1,
        share,
    ),
    Single(
        "import shmkit.multiprocessing, beyond the standard library's",
        "imports",
        lambda it: it["import beyond the standard library's"],
        60e-3,
        span,
    ),
]


def _figures() -> list[Figure]:
    spinning, default, _, asleep, asleep_anywhere = suite.ROUND_TRIPS
    single, lists, blocks = suite.SMALL_MESSAGES
    parked, wake, wake_anywhere = suite.PARKED
    cycles = suite.SEGMENTS[0]
    found = [
        Figure("Round trip of 8 B, both spinning, ÷ bare Cython", spinning, slower(CYTHON), 1.15, ratio, True),
        Figure("… by default, ÷ bare Cython spinning in C", default, slower(CYTHON), 1.15, ratio, True),
        Figure("… by default, the peer answers at once", default, lambda rows: seconds(rows, OURS), 500e-9, span, True),
        Figure("… both asleep, split cores, ÷ C futex", asleep, slower(FUTEX), 1.1, ratio, True),
        Figure("… both asleep, unpinned, ÷ C futex", asleep_anywhere, slower(FUTEX), 1.1, ratio, True),
        Figure("64 B one by one, × mp.Queue", single, faster("mp.Queue"), 45, ratio),
        Figure("… in the slower state of the cores", single, lambda rows: slowest_state(rows, OURS), 8e6, per_second),
        Figure("… × the best peer", single, ahead_of_peers, 1.0, ratio),
        Figure("64 B in lists", lists, lambda rows: rate(rows, OURS), 20e6, per_second),
        Figure("64 B in one buffer", blocks, lambda rows: rate(rows, OURS), 50e6, per_second),
    ]
    of_c = {64 * suite.KIB: 0.8, suite.MIB: 0.9, 8 * suite.MIB: 0.9, 64 * suite.MIB: 0.95}
    for setup in suite.FRAMES:
        frames = f"Frames of {size_name(setup.job.size)}"
        if bound := of_c.get(setup.job.size):
            found.append(Figure(f"{frames}, × C ring", setup, faster(RING), bound, ratio))
            found.append(Figure("… × mp.Queue", setup, faster("mp.Queue"), 60, ratio))
        else:
            found.append(Figure(frames, setup, lambda rows: rate(rows, OURS), 2e6, per_second))
        found.append(Figure("… × the best peer", setup, ahead_of_peers, 1.0, ratio))
        found.append(Figure("… page faults per message", setup, faults, 0.01, plain, True))
    found += [
        Figure(f"In place, {size_name(setup.job.size)}", setup, lambda rows: rate(rows, OURS), 2e6, per_second)
        for setup in suite.IN_PLACE
    ]
    found += _queue_figures()
    found += [
        Figure("Parked receiver, share of a core", parked, lambda rows: seconds(rows, OURS), 0.001, share, True),
        Figure("… wake-up, split cores, ÷ os.pipe", wake, slower("os.pipe"), 1.2, ratio, True),
        Figure("… wake-up, unpinned, ÷ os.pipe", wake_anywhere, slower("os.pipe"), 1.2, ratio, True),
        Figure(
            "Named segment of 1 MiB, there and gone",
            cycles,
            lambda rows: seconds(rows, NAMED),
            14e-6,
            span,
            True,
            NAMED,
        ),
        Figure("Array of 1 MiB from the warm pool", cycles, lambda rows: seconds(rows, WARM), 2e-6, span, True, WARM),
    ]
    return found


def fairness(rows: Rows, name: str) -> float:
    return median(cell["extra"]["fairness"] for cell in good(rows, name))


def _lock_figures() -> list[Figure]:
    pairs, blocks = suite.LOCKS
    two, four = suite.CONTENDED
    split, unpinned, to_and_fro = suite.SIGNALS
    lock, alone, event = "shmkit.Lock", "shmkit.Lock, two of them", "shmkit.Event"
    found = [
        Figure("A lock alone, acquire and release, ÷ mp.Lock", pairs, slower("mp.Lock", lock), 1.05, ratio, True, lock),
        Figure("… with, ÷ mp.Lock", blocks, slower("mp.Lock", lock), 0.55, ratio, True, lock),
        Figure("A lock contended by 2 processes, × mp.Lock", two, faster("mp.Lock", lock), 1.6, ratio, ours=lock),
        Figure("… fairness", two, lambda rows: fairness(rows, lock), 0.7, plain, ours=lock),
        Figure("… 4 processes, × 2 of them", four, faster(alone, lock), 0.5, ratio, ours=lock),
    ]
    for setup, where in ((split, "split cores"), (unpinned, "unpinned")):
        for what in ("Semaphore", "Event", "Condition"):
            name = f"shmkit.{what}"
            found.append(
                Figure(f"Wake-up, {what}, {where}, ÷ C futex", setup, slower(FUTEX, name), 1.1, ratio, True, name)
            )
        found.append(Figure("… Event, × mp.Event", setup, faster("mp.Event", event), 2.5, ratio, ours=event))
    semaphore = "shmkit.Semaphore"
    found.append(
        Figure(
            "A signal to who still spins, one way",
            to_and_fro,
            lambda rows: seconds(rows, semaphore) / 2,
            1e-6,
            span,
            True,
            semaphore,
        )
    )
    asked = "shmkit, a lease"
    found.append(
        Figure(
            "Asking whether a process lives",
            suite.ASKING[0],
            lambda rows: seconds(rows, asked),
            0.5e-6,
            span,
            True,
            asked,
        )
    )
    return found


FIGURES = _figures() + _lock_figures() + _drop_in_figures() + _channel_figures()
