"""Stream photographs through worker processes, over shmkit.Ring and over multiprocessing.Queue.

A producer sends several-megapixel photographs, over and over, to two workers.  They examine each frame (checksum of
every byte, histogram, edges) and send what they saw to a collector, which verifies every frame.  The program runs
twice, and only how frames and results travel differs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from shmkit.cli.command import CommandError

from .photographs import AUTHORS, SIZES, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .photographs import Photograph
    from .pipeline import Outcome
    from .stages import Plan

__all__ = ["HELP", "add_arguments", "run"]

HELP = "stream photographs through worker processes, beside multiprocessing.Queue"

FRAMES = 240
QUICK_FRAMES = 40


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
    parser.add_argument("--start-method", choices=multiprocessing.get_all_start_methods(), help="default: Python's own")
    picture = parser.add_mutually_exclusive_group()
    picture.add_argument("--output", type=Path, default=Path("demo.png"), metavar="FILE.png", help="default: demo.png")
    picture.add_argument("--no-plot", action="store_true", help="draw no picture")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of a table")


def run(options: argparse.Namespace) -> int:
    """Run the demo; 0 if every frame of both runs was verified."""
    _require("numpy", "PIL", "xxhash", *([] if options.no_plot else ["matplotlib"]))
    from .report import as_json, copies_explained, machine, table

    photographs = load(options.photograph or AUTHORS, options.size or ("half" if options.quick else "full"))
    if not options.json:
        print(_opening(photographs))
    outcomes = _run_both(photographs, _plan(options), options.start_method)
    if options.json:
        print(json.dumps(as_json(photographs, outcomes), indent=2))
    else:
        print(f"\n{table(*outcomes)}\n")
        print(*(copies_explained(outcome) for outcome in outcomes), f"On {machine()}.", sep="\n")
    if not options.no_plot:
        from .picture import draw

        draw(photographs, outcomes, options.output)
        print(f"Picture: {options.output}", file=sys.stderr if options.json else sys.stdout)
    return 0


def _run_both(photographs: Sequence[Photograph], plan: Plan, start_method: str | None) -> list[Outcome]:
    from .pipeline import run_pipeline
    from .progress import show_progress
    from .transport import TRANSPORTS

    outcomes = []
    for transport in TRANSPORTS:
        total = None if plan.frames is None else plan.warm_up + plan.frames
        with show_progress(transport.name, total) as progress:
            outcomes.append(run_pipeline(transport, photographs, plan, start_method=start_method, progress=progress))
    return outcomes


def _plan(options: argparse.Namespace) -> Plan:
    from .stages import Plan

    frames = options.frames or (QUICK_FRAMES if options.quick else FRAMES)
    return Plan(warm_up=10, frames=None if options.seconds else frames, seconds=options.seconds)


def _opening(photographs: Sequence[Photograph]) -> str:
    sizes = ", ".join(f"{photograph.name} {photograph.megapixels:.1f}" for photograph in photographs)
    return (
        f"Photographs (megapixels): {sizes}\n"
        "producer → 2 workers → collector, which verifies every frame's checksum, number and results"
    )


def _require(*modules: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise CommandError(f"the demo needs {', '.join(missing)}: pip install 'shmkit[demo]'")


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
