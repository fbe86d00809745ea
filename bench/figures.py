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
import sys
import time
from pathlib import Path
from typing import Any

import singles
import suite
from targets import FIGURES, SINGLES, Rows, good, per_second, seconds, share, span, state

RESULTS = Path(__file__).parent / "results"


# -- the table ----------------------------------------------------------------------------------------------------


def shown(setup: suite.Setup, value: float) -> str:
    """A contender's median in the words of its pattern: seconds, or messages a second."""
    if math.isnan(value):
        return "–"
    if setup in suite.PARKED[:1]:
        return share(value)
    timed = (
        suite.ROUND_TRIPS
        + suite.PARKED
        + suite.SEGMENTS
        + suite.LOCKS
        + suite.SIGNALS
        + suite.ASKING
        + suite.TASKS
        + suite.CHANNELS[:1]
    )
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
        beside = run["setups"].get(figure.beside.title, {}).get("cells", {}) if figure.beside else None
        value = figure.reached(rows, beside)
        verdict = "not measured" if math.isnan(value) else "yes" if figure.holds(value) else "**no**"
        reached = "–" if math.isnan(value) else figure.unit(value)
        values = "" if told == figure.setup.title else contender_values(figure.setup, rows)
        told = figure.setup.title
        lines.append(f"| {figure.what} | {reached} | {figure.target} | {verdict} | {values} |")
    for single in SINGLES:
        if measured := run.get("singles", {}).get(single.measurement):
            value = single.read(measured)
            verdict = "yes" if single.holds(value) else "**no**"
            all_of_it = "; ".join(f"{name} {number:.3g}" for name, number in measured.items())
            lines.append(f"| {single.what} | {single.unit(value)} | {single.target} | {verdict} | {all_of_it} |")
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


def measure(setups: list[suite.Setup], plan: suite.Plan, single: list[str], *, full: bool) -> dict[str, Any]:
    from shmkit.cli.bench import harness, machine

    run: dict[str, Any] = {"machine": machine.facts(), "plan": vars(plan), "setups": {}, "skipped": {}}
    start = time.monotonic()

    def progress(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{time.monotonic() - start:5.0f} s  {text}", end="", file=sys.stderr, flush=True)

    for setup in setups:
        present = []
        for contender in setup.judged():
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
    run["singles"] = singles.measure(single, full=full)
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
    single = [name for name in singles.SINGLES if any(text in name for text in wanted)]
    with harness.no_helpers_left():
        run = measure(setups, plan, single, full=options.full)
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
