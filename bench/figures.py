"""Measures everything once, contenders in turn, and sets what shmkit reached beside what it is to reach.

    python bench/figures.py                       a few minutes
    python bench/figures.py --full                every size, nine rounds of half a second; alone on the machine
    python bench/figures.py --only round,frames   patterns whose title contains one of these
    python bench/figures.py --table FILE          the table of a run that was saved

Writes ``results/NAME.json`` (everything measured, and on what), ``NAME.md`` (the table) and ``NAME.png`` (the picture).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import suite
from patterns import size_name

RESULTS = Path(__file__).parent / "results"
OURS, CYTHON, RING, FUTEX = "shmkit.Ring", "LIMIT bare Cython ring", "LIMIT C ring", "LIMIT C futex"
QUEUE = "shmkit.Queue"
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

    def reached(self, rows: Rows) -> float:
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


def best_peer(rows: Rows) -> str | None:
    """Whoever is fastest and neither shmkit nor a limit."""
    names = [name for name in rows if good(rows, name) and not name.startswith(("shmkit", "LIMIT"))]
    return min(names, key=lambda name: seconds(rows, name), default=None)


def ahead_of_peers(rows: Rows) -> float:
    peer = best_peer(rows)
    return math.nan if peer is None else times(rows, peer, OURS)


def faults(rows: Rows) -> float:
    return median(cell.get("faults", 0.0) for cell in good(rows, OURS))


def _queue_figures() -> list[Figure]:
    """What queues are to reach, beside multiprocessing's."""
    native, pickled = suite.OBJECTS
    two, two_pickled, four = suite.CROWDS
    single, lists, _ = suite.SMALL_MESSAGES
    default, asleep = suite.ROUND_TRIPS[1], suite.ROUND_TRIPS[3]

    def beside(what: str, setup: suite.Setup, bound: float) -> Figure:
        return Figure(what, setup, faster("mp.Queue", QUEUE), bound, ratio, ours=QUEUE)

    def ahead(setup: suite.Setup) -> Figure:
        def read(rows: Rows) -> float:
            peer = best_peer(rows)
            return math.nan if peer is None else times(rows, peer, QUEUE)

        return Figure("… × the best peer", setup, read, 1.0, ratio, ours=QUEUE)

    found = [
        beside("Queue: 64 B by put and get, × mp.Queue", single, 25),
        Figure("… put_many, get_many", lists, lambda rows: rate(rows, QUEUE), 15e6, per_second, ours=QUEUE),
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
        Figure("… 4 producers, 4 consumers", four, lambda rows: rate(rows, QUEUE), 1e6, per_second, ours=QUEUE),
        Figure("… there and back", default, lambda rows: seconds(rows, QUEUE), 1e-6, span, True, QUEUE),
        Figure("… there and back, both asleep, ÷ os.pipe", asleep, slower("os.pipe", QUEUE), 1.2, ratio, True, QUEUE),
    ]
    for setup in suite.FRAMES[1:]:
        frames = f"… arrays of {size_name(setup.job.size)}"
        found.append(Figure(f"{frames}, × C ring", setup, faster(RING, QUEUE), 0.75, ratio, ours=QUEUE))
        found.append(beside(f"{frames}, × mp.Queue", setup, 50))
    return found


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


FIGURES = _figures() + _lock_figures()


# -- the table ----------------------------------------------------------------------------------------------------


def shown(setup: suite.Setup, value: float) -> str:
    """A contender's median in the words of its pattern: seconds, or messages a second."""
    if math.isnan(value):
        return "–"
    if setup in suite.PARKED[:1]:
        return share(value)
    timed = suite.ROUND_TRIPS + suite.PARKED + suite.SEGMENTS + suite.LOCKS + suite.SIGNALS + suite.ASKING
    return span(value) if setup in timed else per_second(1 / value)


def contender_values(setup: suite.Setup, rows: Rows) -> str:
    order = sorted((name for name in rows if good(rows, name)), key=lambda name: seconds(rows, name))
    values = [f"{name} {shown(setup, seconds(rows, name))}" for name in order]
    values += [f"{name} failed" for name in rows if name not in order]
    return "; ".join(values)


def table(run: dict[str, Any]) -> str:
    """The figures of a run, as Markdown."""
    machine = run["machine"]
    commit = f"commit {machine['commit']}{' and changes' if machine['modified'] else ''}"
    lines = [
        "; ".join([*(machine[fact] for fact in ("machine", "kernel", "python", "compiler")), commit]) + ".",
        f"Command: `{machine['command']}`.  {disturbance(run)}",
        "",
        "| figure | reached | target | | contenders, median |",
        "|---|---|---|---|---|",
    ]
    told = None
    for figure in FIGURES:
        rows = run["setups"].get(figure.setup.title, {}).get("cells")
        if rows is None:
            continue
        value = figure.reached(rows)
        verdict = "not measured" if math.isnan(value) else "yes" if figure.holds(value) else "**no**"
        reached = "–" if math.isnan(value) else figure.unit(value)
        values = "" if told == figure.setup.title else contender_values(figure.setup, rows)
        told = figure.setup.title
        lines.append(f"| {figure.what} | {reached} | {figure.target} | {verdict} | {values} |")
    judged = {figure.setup.title for figure in FIGURES}
    for setup in suite.EVERYTHING:
        if setup.title in run["setups"] and setup.title not in judged:
            rows = run["setups"][setup.title]["cells"]
            lines.append(f"| {setup.title} | | | | {contender_values(setup, rows)} |")
    return "\n".join(lines) + "\n"


def disturbance(run: dict[str, Any]) -> str:
    cells = [cell for setup in run["setups"].values() for row in setup["cells"].values() for cell in row]
    states = [state(cell) for cell in cells]
    disturbed = sum(cell.get("others", 0.0) > 0.15 for cell in cells)
    return (
        f"{len(cells)} cells: cores near in {states.count('near')}, far in {states.count('far')}, moved in "
        f"{states.count(None)}; in {disturbed} somebody else used more than 15 % of the two CPUs."
    )


# -- running ------------------------------------------------------------------------------------------------------


def measure(setups: list[suite.Setup], plan: suite.Plan) -> dict[str, Any]:
    from shmkit.cli.bench import harness, machine

    run: dict[str, Any] = {"machine": machine.facts(), "plan": vars(plan), "setups": {}, "skipped": {}}
    start = time.monotonic()

    def progress(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{time.monotonic() - start:5.0f} s  {text}", end="", file=sys.stderr, flush=True)

    for setup in setups:
        present = []
        for contender in setup.contenders():
            reason = contender.missing()
            if reason is None:
                present.append(contender)
            else:
                run["skipped"][contender.name] = reason
        pattern = setup.make(plan)
        if pattern.split and machine.SPLIT is None:
            run["skipped"][setup.title] = "this machine has one CPU"
            continue
        comparison = harness.compare(pattern, setup.job, present, plan.repetitions, progress)
        run["setups"][setup.title] = comparison.record()
        progress("")
        print(f"{setup.title}: {contender_values(setup, run['setups'][setup.title]['cells'])}", flush=True)
    run["seconds"] = round(time.monotonic() - start, 1)
    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="every size, longer rounds, more of them")
    parser.add_argument("--only", default="", metavar="TEXT,…", help="setups whose title contains one of these")
    parser.add_argument("--repetitions", type=int, help="rounds of every contender")
    parser.add_argument("--name", default="figures", help="of the files in results/ (default: %(default)s)")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print the table of a saved run and measure nothing")
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.table.read_text())))
        return 0

    import plot
    from shmkit.cli.bench import harness

    plan = suite.FULL if options.full else suite.QUICK
    plan = suite.Plan(plan.seconds, options.repetitions or plan.repetitions, plan.parked)
    wanted = [text.strip() for text in options.only.split(",")]
    setups = [setup for setup in suite.EVERYTHING if any(text in setup.title for text in wanted)]
    if not options.full:
        setups = [setup for setup in setups if setup.quick]
    with harness.no_helpers_left():
        run = measure(setups, plan)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{options.name}.json").write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n")
    (RESULTS / f"{options.name}.md").write_text(table(run))
    plot.draw(run, RESULTS / f"{options.name}.png")
    print()
    print(table(run))
    for name, reason in run["skipped"].items():
        print(f"skipped {name}: {reason}")
    print(f"{run['seconds']} s; results/{options.name}.json, .md, .png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
