"""Starting children so that none outlives its test, whatever happens to the test."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from .waiting import wait_until

PR_SET_PDEATHSIG = 1
# A child answers it with the stacks of all its threads on stderr.
STACKS = signal.SIGRTMAX - 1

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Has the kernel kill this process when the one that started it ends, so that a killed test run leaves nobody."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def alive(pid: int) -> bool:
    """Whether the process runs or could run again: stopped counts, a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat[stat.rindex(b")") + 2 : stat.rindex(b")") + 3] not in (b"Z", b"X")


def _child(target: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    die_with_parent()
    # The parent of a forkserver's child is the server, which lives as long as anybody holds the other end of this pipe.
    server = forkserver._forkserver  # type: ignore[attr-defined]
    if server._forkserver_alive_fd is not None:
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None
    # sys.stderr is pytest's in a forked child; the descriptor is what the child really has.
    faulthandler.register(STACKS, file=2, all_threads=True)
    target(*args, **kwargs)


class Processes:
    """Starts processes, and kills and reaps every one of them in ``end``.

    ``process(target, *args, context=...)`` runs a function (importable, unless the context forks);
    ``process.python(code_or_script, *argv)`` and ``process.popen(argv)`` run programs.
    """

    def __init__(self) -> None:
        self._children: list[BaseProcess] = []
        self._programs: list[subprocess.Popen[Any]] = []

    def __call__(
        self, target: Callable[..., object], *args: Any, context: BaseContext | str = "fork", **kwargs: Any
    ) -> BaseProcess:
        """Starts ``target(*args, **kwargs)`` in a child; context is a multiprocessing context or a start method."""
        if isinstance(context, str):
            context = multiprocessing.get_context(context)
        child: BaseProcess = context.Process(target=_child, args=(target, args, kwargs))  # type: ignore[attr-defined]
        child.start()
        self._children.append(child)
        return child

    def popen(self, argv: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
        """``subprocess.Popen`` with text pipes, ended with the others."""
        options.setdefault("text", True)
        program = subprocess.Popen([str(word) for word in argv], **options)
        self._programs.append(program)
        return program

    def python(
        self, code: str | Path, *argv: str | Path, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """Runs a script (a Path) or source text with this interpreter, stdout on a pipe."""
        options.setdefault("stdout", subprocess.PIPE)
        start = [code] if isinstance(code, Path) else ["-c", code]
        return self.popen([sys.executable, *start, *argv], env=env, **options)

    @property
    def pids(self) -> list[int]:
        """Those that run."""
        started = [child.pid for child in self._children] + [program.pid for program in self._programs]
        return [pid for pid in started if pid is not None and alive(pid)]

    def end(self, show_stacks: bool = False) -> None:
        """Kills and reaps all; first has the children print their stacks, if asked (after a test that failed)."""
        if show_stacks:
            for child in self._children:
                if child.pid is not None and alive(child.pid):
                    _print_stacks(child.pid)
        for child in self._children:
            # SIGKILL ends a stopped process too.
            child.kill()
            child.join()
            child.close()
        for program in self._programs:
            program.kill()
            for pipe in (program.stdin, program.stdout, program.stderr):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
            program.wait()
        self._children.clear()
        self._programs.clear()


def _print_stacks(pid: int) -> None:
    def taken() -> bool:
        """the child took the signal that has it print its stacks"""
        if not alive(pid):
            return True
        status = Path(f"/proc/{pid}/status").read_text()
        pending = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd", "ShdPnd"))]
        return not any(mask & (1 << (STACKS - 1)) for mask in pending)

    with contextlib.suppress(ProcessLookupError, FileNotFoundError, AssertionError):
        print(f"stacks of child {pid}:", file=sys.stderr, flush=True)
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, STACKS)
        wait_until(taken, 1.0)
