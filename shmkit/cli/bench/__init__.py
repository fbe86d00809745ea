"""Compare, on this machine, the ways from one process to another: shmkit, the standard library, the kernel, others.

Round trips, and throughput, of messages of several sizes; waking up whoever waits; several producers and consumers;
making and attaching to shared memory; pools.  Each way has processes of its own, in turn.  Every message is checked.  A
rate tells something only beside another one of the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shmkit.cli.command import CommandError, nothing_to_tidy_up, refuse_unwritable
from shmkit.cli.table import painter, width_of_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .face import Contender
    from .report import Row
    from .suite import Plan

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "compare the ways from one process to another"

EXAMPLES = """\
  shmkit bench --quick                     half a minute
  shmkit bench --plot bench.png            everything, some minutes; a picture
  shmkit bench --against os.pipe,pyzmq     beside these only
  shmkit bench --only throughput --sizes 64,1MiB
  shmkit bench --quick --plot -            drawn in the terminal
  shmkit bench --json run.json             kept, and shown again with
  shmkit bench --from run.json --plot run.svg"""

SIZES = "8,1KiB,64KiB,1MiB,8MiB,64MiB"
QUICK_SIZES = "64,4KiB,256KiB,4MiB"
ROUNDS, QUICK_ROUNDS = 3, 2
SECONDS, QUICK_SECONDS = 0.1, 0.03
LEAST, LARGEST, LONGEST_TRIP = 8, 1 << 30, 8 << 20
WATCHDOG = 40.0  # seconds, for a round of one of them
# What a quick run leaves out.
_SLOW = ("tasks", "array tasks", "attach")
# The load of the minute before, above which others compete for the cores.
BUSY = 0.7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``shmkit bench``."""
    parser.add_argument(
        "--quick", action="store_true", help="fewer sizes, patterns and others, shorter and fewer rounds"
    )
    parser.add_argument("--sizes", type=_sizes, metavar="SIZE,…", help=f"of a message (default: {SIZES})")
    parser.add_argument("--rounds", type=_positive, metavar="N", help=f"of everything (default: {ROUNDS})")
    parser.add_argument("--only", metavar="PATTERN,…", help="round trip, throughput, wake-up, many to many, create, …")
    parser.add_argument(
        "--against", metavar="NAME,…", help="beside these only: mp.Queue, os.pipe, faster-fifo, … (default: all)"
    )
    parser.add_argument(
        "--anywhere", action="store_true", help="let the kernel place the processes; else each has a core"
    )
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured; -: print it instead")
    parser.add_argument(
        "--plot", metavar="FILE.png", help="draw a picture (.png, .svg or .pdf); -: in the terminal, with characters"
    )
    parser.add_argument(
        "--from", dest="stored", type=Path, metavar="FILE", help="measure nothing, and show what --json wrote"
    )


def run(options: argparse.Namespace) -> int:
    """Measure and tell; 0 if everything that was tried worked."""
    if options.stored:
        _check(options)
        rows, told = _stored(options.stored)
        return _finish(options, rows, told)
    plan = _plan(options)
    chosen = _chosen(options.against)
    _check(options)
    load = os.getloadavg()[0]
    with nothing_to_tidy_up(), _abandoning():
        rows, told = _measure(plan, chosen)
    told["load_before"] = round(load, 2)
    return _finish(options, rows, told)


def _finish(options: argparse.Namespace, rows: list[Row], told: dict[str, Any]) -> int:
    if options.json == "-":
        print(_json(rows, told))
    else:
        _tell(rows, told)
        if options.json:
            _write(Path(options.json), _json(rows, told))
    if options.plot == "-" or (options.plot is None and options.json != "-" and sys.stdout.isatty()):
        from .terminal import draw as draw_here

        wanted = _wanted(options.against)
        drawn = draw_here(rows, width_of_terminal() or 80, colours=sys.stdout.isatty(), wanted=wanted)
        if drawn is not None:
            print(f"\n{drawn}")
        elif options.plot == "-":
            raise CommandError("a picture in the terminal needs plotext: pip install 'shmkit[cli]'")
    if options.plot and options.plot != "-":
        from .picture import draw

        try:
            draw(rows, told["machine"], Path(options.plot))
        except OSError as error:
            raise CommandError(f"the picture cannot be written: {error.strerror}: {options.plot}") from None
    failed = [row for row in rows if row.error is not None]
    for row in failed:
        print(f"shmkit: {row.mechanism}, {row.pattern}, {row.size} bytes: {row.error}", file=sys.stderr)
    return 1 if failed else 0


@contextmanager
def _abandoning() -> Iterator[None]:
    """Whoever ends this process by a signal that can be caught finds nothing of what was just measured."""
    from . import harness

    def tidied(number: int, frame: Any) -> None:
        harness.abandon()
        signal.signal(number, previous[number])
        if callable(previous[number]):
            previous[number](number, frame)
        os.kill(os.getpid(), number)

    previous: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, tidied)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _plan(options: argparse.Namespace) -> Plan:
    from .suite import PATTERNS, Plan

    wanted = [name for name in PATTERNS if not options.quick or name not in _SLOW]
    if options.only:
        names = [name.strip().lower() for name in options.only.split(",") if name.strip()]
        for name in names:
            if name not in PATTERNS:
                raise CommandError(f"there is no pattern {name!r}: there are {', '.join(PATTERNS)}", usage=True)
        wanted = [name for name in PATTERNS if name in names]
    return Plan(
        QUICK_SECONDS if options.quick else SECONDS,
        options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS),
        options.sizes or _sizes(QUICK_SIZES if options.quick else SIZES),
        tuple(wanted),
        not options.anywhere,
        options.quick,
        LARGEST if options.sizes else LONGEST_TRIP,
    )


def _check(options: argparse.Namespace) -> None:
    """Before minutes are spent: whether the results can be written."""
    for name, what in ((options.plot, "the picture"), (options.json, "the file")):
        if name and name != "-":
            refuse_unwritable(Path(name), what)
    if options.plot and options.plot != "-":
        if Path(options.plot).suffix not in (".png", ".svg", ".pdf"):
            raise CommandError(f"a picture is a .png, .svg or .pdf: got {options.plot}", usage=True)
        if find_spec("matplotlib") is None:
            raise CommandError("a picture needs matplotlib: pip install 'shmkit[bench]'")


def _stored(path: Path) -> tuple[list[Row], dict[str, Any]]:
    from .report import from_json

    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return from_json(told), {key: value for key, value in told.items() if key not in ("schema", "results")}
    except OSError as error:
        raise CommandError(f"it cannot be read: {error.strerror}: {path}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CommandError(f"it is not what shmkit bench --json has written: {path}: {error}") from None


def _chosen(against: str | None) -> list[Contender] | None:
    """Who takes part; None: everybody that is there."""
    if against is None:
        return None
    from .suite import EVERYBODY, knows, named

    ours = [one for one in EVERYBODY if one.family == "shmkit"]
    chosen: list[Contender] = []
    for name in named(against):
        known = knows(name)
        if not known:
            others = "; ".join(one.name for one in EVERYBODY if one not in ours)
            raise CommandError(f"there is no {name!r} to compare with: there are {others}", usage=True)
        if all(one.missing() for one in known):
            raise CommandError(f"{known[0].name} is not installed: pip install {known[0].package}")
        chosen += known
    # Beside all of ours, unless it was said which.
    return chosen if any(one.family == "shmkit" for one in chosen) else [*ours, *chosen]


def _wanted(against: str | None) -> list[str]:
    """Whom somebody has asked for, as the tables name them."""
    from .suite import knows, named

    return [one.name for name in named(against or "") for one in knows(name)]


def _measure(plan: Plan, chosen: list[Contender] | None) -> tuple[list[Row], dict[str, Any]]:
    from shmkit import __version__

    from . import calls, harness, machine
    from .report import MEMCPY, Row, rows_of
    from .suite import EVERYBODY, setups

    planned = setups(plan, chosen)
    absent = {one.name: reason for one in EVERYBODY if (reason := one.missing()) is not None}
    uncounted = calls.why_not()
    rows: list[Row] = []
    present = [setup._replace(contenders=[one for one in setup.contenders if not one.missing()]) for setup in planned]
    if not any(setup.contenders for setup in present):
        patterns = ", ".join(plan.patterns)
        names = ", ".join(one.name for one in chosen or ())
        raise CommandError(f"nothing is to be measured: no part in {patterns} for {names or 'anybody'}", usage=True)
    total = sum(len(setup.contenders) * (setup.rounds + (setup.traced and not uncounted)) for setup in present)
    began = time.monotonic()
    # Of the standard library's helper, about what a killed process has left: what made it removes it.
    os.environ["PYTHONWARNINGS"] = "ignore"
    with harness.no_helpers_left(), _progress(total) as step:
        for setup in present:
            copies = []
            found = harness.compare(
                setup.pattern,
                setup.job,
                setup.contenders,
                setup.rounds,
                step,
                traced=setup.traced and not uncounted,
                watchdog=WATCHDOG,
            )
            rows += rows_of(found, setup)
            if setup.name == "throughput":
                copies = [_copying(setup.size, plan.seconds / 4) for _ in range(setup.rounds)]
                rows.append(Row(MEMCPY, "limit", True, setup.name, setup.size, copies, sum(copies) / len(copies)))
    told = {
        "shmkit": __version__,
        "machine": machine.in_words(),
        "facts": machine.facts(),
        "rounds": plan.rounds,
        "seconds": round(time.monotonic() - began, 1),
        "absent": [name for name in absent if chosen is None],
        "uncounted": uncounted,
    }
    return rows, told


def _copying(size: int, seconds: float) -> float:
    """Seconds for the same bytes, copied by one process to two places in turn: a bound for one copy."""
    import numpy as np

    source = np.full(size, 7, "uint8")
    places = [np.zeros(size, "uint8") for _ in range(2)]
    count = 0
    start = time.perf_counter()
    while (took := time.perf_counter() - start) < seconds or not count:
        for _ in range(32 if size < 1 << 20 else 1):
            for place in places:
                np.copyto(place, source)
                count += 1
    return took / count


def _tell(rows: list[Row], told: dict[str, Any]) -> None:
    from .report import overviews, table, volume
    from .suite import TITLES

    print(f"On {told['machine']}.")
    width, paint = width_of_terminal(), painter()
    for pattern, size in dict.fromkeys((row.pattern, row.size) for row in rows):
        sized = pattern in ("round trip", "throughput", "array tasks", "create", "attach")
        print(f"\n{TITLES[pattern]}{f', {volume(size)}' if sized else ''}\n")
        print(table([row for row in rows if (row.pattern, row.size) == (pattern, size)], width, paint))
    for pattern in dict.fromkeys(row.pattern for row in rows):
        mine = [row for row in rows if row.pattern == pattern]
        if len({row.size for row in mine}) > 1:
            for measure, text in overviews(mine, width, paint).items():
                print(f"\n{TITLES[pattern]}, all sizes, {measure}\n")
                print(text)
    print("\n*        no bytes are moved: written in place, or handed on by reference")
    print("SPREAD   from the fastest to the slowest round")
    print("CPU      of all processes, for each message")
    print(f"CALLS    {told.get('uncounted') or 'system calls for each message'}")
    print("SLEEPS   how often a process gave its core away to wait, for each message")
    if told.get("absent"):
        _say(f"Not installed: {', '.join(told['absent'])} (pip install 'shmkit[bench,peers]').")
    if told.get("load_before", 0) > BUSY:
        _say(f"Other programs were running (load {told['load_before']:.1f}): another run will tell other figures.")


def _say(text: str) -> None:
    """A paragraph, as wide as the terminal."""
    import textwrap

    from shmkit.cli.table import width_of_terminal

    width = width_of_terminal()
    print()
    print(text if width is None else textwrap.fill(text, width, break_on_hyphens=False, break_long_words=False))


def _json(rows: list[Row], told: dict[str, Any]) -> str:
    from .report import as_json

    return json.dumps(as_json(rows, told), ensure_ascii=False).replace('{"mechanism"', '\n {"mechanism"')


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"the file cannot be written: {error.strerror}: {path}") from None


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

    sizes = []
    for part in text.split(","):
        try:
            size = parse_size(part.strip())
        except (ValueError, TypeError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        if not LEAST <= size <= LARGEST:
            raise argparse.ArgumentTypeError(f"a message has {LEAST} bytes to 1 GiB: got {part.strip()}")
        if size % 8:
            raise argparse.ArgumentTypeError(f"a message consists of numbers of 8 bytes: got {part.strip()}")
        sizes.append(size)
    return sorted(set(sizes))


def _positive(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be positive: {text}")
    return value
