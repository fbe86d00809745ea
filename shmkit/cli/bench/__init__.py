"""Compare, on this machine, the ways from one process to another: shmkit, the standard library, the kernel, others.

Round trips, and throughput, of messages of several sizes, each way in a pair of processes of its own, in turn.  Every
message is checked.  A rate tells something only beside another one of the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from shmkit.cli.command import CommandError, nothing_to_tidy_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .mechanisms import Mechanism
    from .report import Row

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "compare the ways from one process to another"

EXAMPLES = """\
  shmkit bench --quick                     half a minute
  shmkit bench --plot bench.png            and a picture
  shmkit bench --against os.pipe,pyzmq     beside these only
  shmkit bench --sizes 64,1MiB --json -    for a program"""

SIZES = "8,512,4KiB,32KiB,256KiB,2MiB,16MiB"
QUICK_SIZES = "64,4KiB,256KiB,4MiB"
ROUNDS, QUICK_ROUNDS = 5, 3
SECONDS, QUICK_SECONDS = 0.25, 0.06
LARGEST = 1 << 30
# The load of the minute before, above which others compete for the cores.
BUSY = 0.7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``shmkit bench``."""
    parser.add_argument("--quick", action="store_true", help="fewer sizes, shorter and fewer rounds")
    parser.add_argument("--sizes", type=_sizes, metavar="SIZE,…", help=f"of a message (default: {SIZES})")
    parser.add_argument("--rounds", type=_positive, metavar="N", help=f"of everything (default: {ROUNDS})")
    parser.add_argument(
        "--against", metavar="NAME,…", help="beside these only: mp.Queue, os.pipe, faster-fifo, … (default: all)"
    )
    parser.add_argument(
        "--anywhere", action="store_true", help="let the kernel place the processes; else each has a core"
    )
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured; -: print it instead")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw a picture (.png, .svg or .pdf)")


def run(options: argparse.Namespace) -> int:
    """Measure and tell; 0 if everything that was tried worked."""
    chosen, absent = _chosen(options.against)
    _check(options)
    sizes: list[int] = options.sizes or _sizes(QUICK_SIZES if options.quick else SIZES)
    rounds: int = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    load = os.getloadavg()[0]
    # Ctrl-C: the pair that runs is killed as this process ends.
    with nothing_to_tidy_up():
        rows = _measure(chosen, sizes, rounds, QUICK_SECONDS if options.quick else SECONDS, _cores(options.anywhere))
    if options.json == "-":
        print(_json(rows, rounds, load))
    else:
        _tell(rows, absent)
        if load > BUSY:
            print(f"\nOther programs were running (load {load:.1f}): another run will tell other figures.")
        if options.json:
            _write(Path(options.json), _json(rows, rounds, load))
    if options.plot:
        from .picture import draw

        try:
            draw(rows, options.plot)
        except OSError as error:
            raise CommandError(f"the picture cannot be written: {error.strerror}: {options.plot}") from None
    failed = [row for row in rows if row.error is not None]
    for row in failed:
        print(f"shmkit: {row.mechanism}, {row.pattern}, {row.size} bytes: {row.error}", file=sys.stderr)
    return 1 if failed else 0


def _check(options: argparse.Namespace) -> None:
    """Before minutes are spent: whether the results can be written."""
    for path in (options.plot, options.json and options.json != "-" and Path(options.json)):
        if path and not path.parent.is_dir():
            raise CommandError(f"there is no folder for it: {path}")
    if options.plot:
        if options.plot.suffix not in (".png", ".svg", ".pdf"):
            raise CommandError(f"a picture is a .png, .svg or .pdf: got {options.plot}", usage=True)
        if find_spec("matplotlib") is None:
            raise CommandError("a picture needs matplotlib: pip install 'shmkit[bench]'")


def _cores(anywhere: bool) -> tuple[int, int] | None:
    there = sorted(os.sched_getaffinity(0))
    return None if anywhere or len(there) < 2 else (there[0], there[1])


def _chosen(against: str | None) -> tuple[list[Mechanism], list[str]]:
    from .mechanisms import MECHANISMS, installed

    if against is None:
        return [known for known in MECHANISMS if installed(known)], [
            known.name for known in MECHANISMS if not installed(known)
        ]
    wanted = [name.strip() for name in against.split(",") if name.strip()]
    names = {known.name.lower(): known for known in MECHANISMS if known.group != "shmkit"}
    for name in wanted:
        if name.lower() not in names:
            others = ", ".join(known.name for known in names.values())
            raise CommandError(f"there is no {name!r} to compare with: there are {others}", usage=True)
        if not installed(names[name.lower()]):
            raise CommandError(f"{name} is not installed: pip install 'shmkit[bench]'")
    ours = [known for known in MECHANISMS if known.group == "shmkit"]
    return [*ours, *(names[name.lower()] for name in wanted)], []


def _measure(
    chosen: list[Mechanism], sizes: list[int], rounds: int, seconds: float, cores: tuple[int, int] | None
) -> list[Row]:
    from .cell import PATTERNS, Cell, copying, measure
    from .report import MEMCPY, Row

    rows: list[Row] = []
    with _progress(rounds * len(PATTERNS) * sum(len(chosen) for _ in sizes)) as step:
        for pattern in PATTERNS:
            for size in sizes:
                able = [known for known in chosen if size <= known.most]
                cells: dict[str, list[Cell]] = {known.name: [] for known in able}
                copies = []
                for number in range(rounds):
                    # In turn, and each time another one first: no one has the quieter machine.
                    first = number % max(1, len(able))
                    for known in able[first:] + able[:first]:
                        step(f"{pattern}, {size} bytes: {known.name}")
                        cells[known.name].append(measure(known, pattern, size, seconds, cores))
                    if pattern == "throughput":
                        copies.append(copying(size, seconds / 4))
                rows += [Row(it.name, it.group, it.copies, pattern, size, cells[it.name]) for it in able]
                if copies:
                    rows.append(Row(MEMCPY, "limit", True, pattern, size, copies))
    return rows


def _tell(rows: list[Row], absent: list[str]) -> None:
    from shmkit.cli.table import painter, width_of_terminal

    from .report import machine, table, volume

    print(f"On {machine()}.")
    width, paint = width_of_terminal(), painter()
    for pattern, size in dict.fromkeys((row.pattern, row.size) for row in rows):
        print(f"\n{pattern.capitalize()}, {volume(size)}\n")
        print(table([row for row in rows if (row.pattern, row.size) == (pattern, size)], width, paint))
    print("\n*        no bytes are moved: written in place, or handed on by reference")
    print("SPREAD   from the fastest to the slowest round     CPU   of both processes, for each message")
    if absent:
        print(f"\nNot installed: {', '.join(absent)} (pip install 'shmkit[bench]').")


def _json(rows: list[Row], rounds: int, load: float) -> str:
    from shmkit import __version__

    from .report import as_json

    return json.dumps(
        as_json(rows, {"shmkit": __version__, "rounds": rounds, "load_before": load}), indent=1, ensure_ascii=False
    )


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"it cannot be written: {error.strerror}: {path}") from None


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """Tells, on a terminal, what is measured now, and how much of it is done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    done = 0
    try:
        import rich.progress
    except ImportError:

        def count(what: str) -> None:
            nonlocal done
            print(f"\r\x1b[K{100 * done // total:3} %  {what}", end="", file=sys.stderr, flush=True)
            done += 1

        try:
            yield count
        finally:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        return
    columns = (
        rich.progress.BarColumn(bar_width=24),
        rich.progress.TaskProgressColumn(),
        rich.progress.TimeRemainingColumn(),
        rich.progress.TextColumn("{task.description}"),
    )
    # Drawn between two measurements, never during one: no thread of its own.
    console = rich.console.Console(stderr=True)
    with rich.progress.Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task("", total=total)

        def advance(what: str) -> None:
            nonlocal done
            progress.update(task, completed=done, description=what)
            progress.refresh()
            done += 1

        yield advance


def _sizes(text: str) -> list[int]:
    from shmkit.sizes import parse_size

    from .cell import LEAST

    sizes = []
    for part in text.split(","):
        try:
            size = parse_size(part.strip())
        except (ValueError, TypeError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        if not LEAST <= size <= LARGEST:
            raise argparse.ArgumentTypeError(f"a message has {LEAST} bytes to 1 GiB: got {part.strip()}")
        sizes.append(size)
    return sorted(set(sizes))


def _positive(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be positive: {text}")
    return value
