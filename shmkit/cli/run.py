"""Run a program with multiprocessing accelerated, without touching its files.

shmkit run script.py arguments…, or shmkit run -m module arguments…: as Python itself would run it, after
shmkit.install(), in all of its processes.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from importlib.machinery import SourceFileLoader
from io import open_code
from types import ModuleType, TracebackType

from shmkit.cli.command import INTERRUPTED, CommandError
from shmkit.install import install

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

LAST = -1_000_000  # among multiprocessing's finalizers

HELP = "run a program with multiprocessing accelerated"

EXAMPLES = """\
  shmkit run train.py --epochs 3    a script, and its own arguments
  shmkit run --stats -m package     a module; then says what was accelerated"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``shmkit run``."""
    parser.usage = "shmkit run [--stats] [--only WHAT,…] (SCRIPT | -m MODULE) [ARGUMENT]…"
    parser.add_argument("--stats", action="store_true", help="say at the end, on stderr, what was accelerated")
    parser.add_argument("--only", metavar="WHAT,…", help="install no more than this, as shmkit.install(only=…)")
    parser.add_argument("-m", dest="module", nargs=argparse.REMAINDER, help="run a module; what follows is its own")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="a script, and its arguments")


def run(options: argparse.Namespace) -> int:
    """Run it; its own exit status."""
    words: list[str] = options.module if options.module is not None else options.program
    if not words:
        raise CommandError("run takes a script, or -m and a module", usage=True)
    if options.stats:
        from multiprocessing.util import Finalize

        from shmkit.multiprocessing import _statistics

        _statistics.start()
        # Behind all that multiprocessing does at exit: it waits for children, which count.
        Finalize(None, _say, exitpriority=LAST)
    try:
        install(None if options.only is None else options.only.split(","))
    except ValueError as error:
        raise CommandError(str(error), usage=True) from None
    main = ModuleType("__main__")
    main.__dict__.update(__builtins__=sys.modules["builtins"], __cached__=None)
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main
    try:
        if options.module is not None:
            sys.argv[:] = words
            _first_on_path(os.getcwd())
            runpy._run_module_as_main(words[0])  # type: ignore[attr-defined]
        else:
            sys.argv[:] = words
            _script(words[0], main)
    except SystemExit:
        raise
    except BaseException as error:
        # As Python's own, without the frames of what ran it.
        error.__traceback__ = _without_us(error.__traceback__)
        sys.excepthook(type(error), error, error.__traceback__)
        return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _first_on_path(folder: str) -> None:
    if not getattr(sys.flags, "safe_path", False) and not sys.flags.isolated:
        sys.path[0] = folder


def _script(path: str, main: ModuleType) -> None:
    if os.path.isdir(path) or _is_archive(path):
        sys.path.insert(0, path)
        runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]
        return
    try:
        with open_code(os.path.abspath(path)) as file:
            source = file.read()
    except OSError as error:
        print(f"{sys.executable}: can't open file {os.path.abspath(path)!r}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    _first_on_path(os.path.dirname(os.path.realpath(path)))
    main.__file__ = path
    main.__loader__ = SourceFileLoader("__main__", path)
    exec(compile(source, path, "exec", dont_inherit=True), main.__dict__)


def _is_archive(path: str) -> bool:
    from zipfile import is_zipfile

    return os.path.isfile(path) and not path.endswith((".py", ".pyw")) and is_zipfile(path)


def _without_us(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and (
        traceback.tb_frame.f_code.co_filename in (__file__, runpy.__file__)
        or traceback.tb_frame.f_code.co_filename == "<frozen runpy>"
    ):
        traceback = traceback.tb_next
    return traceback


def _say() -> None:
    from shmkit.multiprocessing import _statistics

    print(_statistics.report(), file=sys.stderr)
