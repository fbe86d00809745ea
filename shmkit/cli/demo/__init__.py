"""Stream photographs through worker processes, over shmkit.Ring, shmkit.Queue and multiprocessing.Queue.

A producer sends several-megapixel photographs, over and over, to two workers.  They examine each frame (checksum of
every byte, histogram, edges) and send what they saw to a collector, which verifies every frame.  The program runs
once over each of them, and only how frames and results travel differs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from shmkit.cli.command import CommandError, nothing_to_tidy_up, refuse_unwritable, words_of

from .photographs import AUTHORS, SIZES, load
from .transport import TRANSPORTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .photographs import Photograph
    from .pipeline import Outcome
    from .stages import Plan
    from .transport import Transport

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "stream photographs, beside multiprocessing.Queue"

EXAMPLES = """\
  shmkit demo --quick              some seconds
  shmkit demo --no-plot --json     figures for a program
  shmkit demo --over queue,multiprocessing
  shmkit demo --photograph fig --output fig.png"""

FRAMES = 280
QUICK_FRAMES = 40

# Streamed first, verified but not measured: by then each process has touched every page of its rings, and of the blocks
# that its queues use again and again.
WARM_UP = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``shmkit demo``."""
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--frames", type=_positive_int, metavar="N", help=f"frames to measure (default: {FRAMES})")
    length.add_argument("--seconds", type=_positive_float, metavar="S", help="measure for S seconds instead, each time")
    length.add_argument("--quick", action="store_true", help=f"{QUICK_FRAMES} frames, photographs at half their width")
    parser.add_argument("--size", choices=SIZES, help="width of the photographs (default: full)")
    parser.add_argument(
        "--photograph", choices=AUTHORS, action="append", help="stream this one; may be given again (default: all)"
    )
    every = ",".join(TRANSPORTS)
    parser.add_argument(
        "--over", type=_transports, default=every, metavar="WHAT,…", help=f"what frames travel over (default: {every})"
    )
    parser.add_argument("--start-method", choices=multiprocessing.get_all_start_methods(), help="default: Python's own")
    picture = parser.add_mutually_exclusive_group()
    picture.add_argument("--output", type=Path, default=Path("demo.png"), metavar="FILE.png", help="default: demo.png")
    picture.add_argument("--no-plot", action="store_true", help="draw no picture")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of a table")


def run(options: argparse.Namespace) -> int:
    """Run the demo; 0 if every frame of every run was verified."""
    # While a pipeline runs, its crew answers Ctrl-C instead.
    with nothing_to_tidy_up():
        _require("numpy", "PIL", "xxhash", *([] if options.no_plot else ["matplotlib"]))
        if not options.no_plot:
            refuse_unwritable(options.output, "the picture")
        photographs = load(options.photograph or AUTHORS, options.size or ("half" if options.quick else "full"))
        if not options.json:
            print(_opening(photographs), flush=True)
        outcomes = _run_each(options.over, photographs, _plan(options), options.start_method)
        print(_report(photographs, outcomes, options.json), flush=True)
        if not options.no_plot:
            from .picture import draw

            try:
                draw(photographs, outcomes, options.output)
            except OSError as error:
                raise CommandError(f"the picture cannot be written: {words_of(error)}: {options.output}") from None
            print(f"Picture: {options.output}", file=sys.stderr if options.json else sys.stdout)
    return 0


def _run_each(
    transports: Sequence[Transport], photographs: Sequence[Photograph], plan: Plan, start_method: str | None
) -> list[Outcome]:
    from .pipeline import run_pipeline
    from .progress import show_progress

    outcomes = []
    for transport in transports:
        total = None if plan.frames is None else plan.warm_up + plan.frames
        with show_progress(transport.name, total) as progress:
            outcomes.append(run_pipeline(transport, photographs, plan, start_method=start_method, progress=progress))
    return outcomes


def _plan(options: argparse.Namespace) -> Plan:
    from .stages import Plan

    frames = options.frames or (QUICK_FRAMES if options.quick else FRAMES)
    return Plan(warm_up=WARM_UP, frames=None if options.seconds else frames, seconds=options.seconds)


def _opening(photographs: Sequence[Photograph]) -> str:
    sizes = ", ".join(f"{photograph.name} {photograph.megapixels:.1f}" for photograph in photographs)
    return (
        f"Photographs (megapixels): {sizes}\n"
        "producer → 2 workers → collector, which verifies every frame's checksum, number and results"
    )


def _report(photographs: Sequence[Photograph], outcomes: Sequence[Outcome], as_json: bool) -> str:
    from . import report

    if as_json:
        return json.dumps(report.as_json(photographs, outcomes), indent=2)
    copies = "\n".join(report.copies_explained(outcome) for outcome in outcomes)
    return f"\n{report.table(outcomes)}\n\n{copies}\nOn {report.machine()}."


def _require(*modules: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise CommandError(f"the demo needs {', '.join(missing)}: pip install 'shmkit[demo]'")


def _transports(text: str) -> list[Transport]:
    """Those of that name, each once and in the order of TRANSPORTS."""
    wanted = [word.strip() for word in text.split(",")]
    for word in wanted:
        if word not in TRANSPORTS:
            raise argparse.ArgumentTypeError(f"there is no {word!r}: there are {', '.join(TRANSPORTS)}")
    return [transport for word, transport in TRANSPORTS.items() if word in wanted]


def _positive_int(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be positive: {text}")
    return value


def _positive_float(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be positive: {text}")
    return value
