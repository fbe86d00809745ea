"""Runs one pattern over one contender in two processes, and contenders against each other in turn.

::

      parent ──fork──> role 0 (producer, client)  on CPU a ─┐   control words in shared memory:
         │                                                  ├── meeting point, count of the next round,
         └─────fork──> role 1 (consumer, server)  on CPU b ─┘   start of role 0, stop of both

A cell is one such pair.  Its rounds grow from a few messages until one lasts long enough to tell the pace; by then
every page has been touched, so the timed round that follows runs in steady state.  Start and stop come from the
monotonic clock that both processes share.  Whatever happens (an exception, a wrong message, a watchdog that runs out),
both children are killed and reaped before the cell returns.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import mmap
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import statistics
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from shmkit.cli.bench import calls, machine
from shmkit.cli.bench.face import Contender, Job, Link
from shmkit.cli.bench.patterns import Pattern

__all__ = ["Cell", "Comparison", "abandon", "compare", "no_helpers_left", "percentiles", "run_cell", "traced_cell"]

_context = multiprocessing.get_context("fork")
_PR_SET_PDEATHSIG = 1


class Control:
    """The words through which the two children of a cell agree on rounds."""

    # _AT, _STOP and _COUNTED have a word for each role
    _AT, _COUNT, _START, _STOP, _COUNTED, _GO = 0, 2, 3, 4, 6, 8

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._words = memoryview(self._memory).cast("Q")

    def meet(self, role: int, *, patiently: bool = False) -> None:
        """Returns when the other role has come to the same meeting; ``patiently``: without asking all the time."""
        words = self._words
        words[self._AT + role] += 1
        mine = words[self._AT + role]
        while words[self._AT + 1 - role] < mine:
            if patiently:
                time.sleep(0.001)
            else:
                os.sched_yield()

    def start(self) -> None:
        self._words[self._START] = time.monotonic_ns()

    def stop(self, role: int) -> None:
        self._words[self._STOP + role] = time.monotonic_ns()

    def counted(self, role: int) -> bool:
        """Whether the role's system calls count just now."""
        return bool(self._words[self._COUNTED + role])

    def set_counted(self, role: int, value: bool) -> None:
        self._words[self._COUNTED + role] = value

    def let_go(self) -> None:
        """Whoever awaits it may begin."""
        self._words[self._GO] = 1

    def await_go(self) -> None:
        while not self._words[self._GO]:
            time.sleep(0.001)

    @property
    def elapsed(self) -> float:
        stop = max(self._words[self._STOP], self._words[self._STOP + 1])
        return (stop - self._words[self._START]) / 1e9

    @property
    def count(self) -> int:
        return self._words[self._COUNT]

    @count.setter
    def count(self, value: int) -> None:
        self._words[self._COUNT] = value


@dataclass
class Cell:
    """What one run of one contender gave."""

    contender: str
    seconds: float = math.nan  # per message, trip or cycle
    count: int = 0
    elapsed: float = 0.0
    faults: float = 0.0  # minor page faults per message, both processes
    cpu: tuple[float, float] = (0.0, 0.0)  # CPU seconds of both roles in the timed round
    sleeps: float = 0.0  # how often one of the two gave its CPU away to wait, per message
    percentiles: dict[str, float] = field(default_factory=dict)  # seconds
    core_ns: tuple[float | None, float | None] = (None, None)  # cache-line round trip before and after
    extra: dict[str, float] = field(default_factory=dict)  # what else the pattern measured
    others: float = 0.0  # share of the two CPUs that somebody else used
    error: str | None = None

    def record(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in (None, {}, ())}


def percentiles(samples: Iterable[float]) -> dict[str, float]:
    """The 50th, the 99th and the 99.9th."""
    ordered = sorted(samples)
    if not ordered:
        return {}
    last = len(ordered) - 1
    return {f"p{p:g}": ordered[min(last, math.ceil(p / 100 * len(ordered)) - 1)] for p in (50, 99, 99.9)}


# -- in a child ---------------------------------------------------------------------------------------------------


def _usage() -> tuple[int, int, float]:
    """Minor page faults, sleeps and CPU seconds of this process and of the children that it has waited for."""
    used, theirs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.process_time() + theirs.ru_utime + theirs.ru_stime
    return used.ru_minflt + theirs.ru_minflt, used.ru_nvcsw + theirs.ru_nvcsw, seconds


def _child(
    role: int, parent: int, pattern: Pattern, link: Link, control: Control, cpu: int | None, pipe: Any, traced: int
) -> None:
    """``traced``: so many messages, whose system calls are counted; 0: as many as take the time, timed."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    # Ctrl-C is the parent's affair, which then kills this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        if traced:
            control.await_go()
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
        gc.collect()
        gc.disable()
        end = pattern.open(role, link)
        run = pattern.roles[role]

        def one_round() -> tuple[Any, int, int, float]:
            control.meet(role)
            if role == 0:
                control.start()
            faults, sleeps, seconds = _usage()
            found = run(end, control.count)
            faults_after, sleeps_after, seconds_after = _usage()
            control.stop(role)
            control.meet(role)
            return found, faults_after - faults, sleeps_after - sleeps, seconds_after - seconds

        if role == 0:
            control.count = traced or pattern.first_count
        if traced:
            # Who is traced asks slowly.
            run(end, traced)
            control.meet(role, patiently=True)
            control.set_counted(role, True)
            run(end, traced)
            control.set_counted(role, False)
            control.meet(role, patiently=True)
            end.leave()
            pipe.send({"n": traced})
            return
        warm = 0
        while pattern.calibrated:
            one_round()
            count, elapsed = control.count, control.elapsed
            done = elapsed >= pattern.pilot and (warm >= link.warm or not pattern.laps)
            warm += count
            control.meet(role)  # both have read the round's figures
            if role == 0:
                control.count = pattern.next_count(count, elapsed, done=done)
            if done:
                break
        samples, faults, sleeps, seconds = one_round()
        timed = {"elapsed": control.elapsed, "n": control.count}
        pipe.send({"samples": samples, "faults": faults, "sleeps": sleeps, "cpu": seconds, **timed})
        end.leave()
        control.meet(role)  # nobody leaves while the other still needs it
    except BaseException:
        pipe.send({"error": traceback.format_exc()})
        raise SystemExit(1) from None


# -- in the parent ------------------------------------------------------------------------------------------------


def _collect(
    children: list[Any], pipes: list[Any], seconds: float, tracer: calls.Tracer | None = None
) -> list[dict[str, Any]]:
    """What each child reported; raises when one failed, died or took too long."""
    found: dict[int, dict[str, Any]] = {}
    deadline = time.monotonic() + seconds
    while len(found) < 2:
        waiting = [pipes[role] for role in (0, 1) if role not in found]
        patience = max(0.0, deadline - time.monotonic())
        if tracer is None:
            ready = multiprocessing.connection.wait(waiting, patience)
        else:
            tracer.serve()
            ready = multiprocessing.connection.wait(waiting, 0)
            if not ready and patience:
                signal.sigtimedwait([signal.SIGCHLD], min(patience, 0.05))
                continue
        if not ready:
            raise TimeoutError(f"no result within {seconds:g} s")
        for pipe in ready:
            role = pipes.index(pipe)
            try:
                found[role] = pipes[role].recv()
            except EOFError:
                children[role].join(1)
                raise RuntimeError(f"role {role} died: exit code {children[role].exitcode}") from None
            if "error" in found[role]:
                raise RuntimeError(found[role]["error"])
    return [found[0], found[1]]


# The pairs that are running, as far as they are made: children, and links.
_running: list[tuple[list[Any], list[Link]]] = []


def abandon() -> None:
    """Kills whoever is measured, and removes what belongs to them: for who is about to end at once."""
    for children, links in _running:
        for child in children:
            with contextlib.suppress(Exception):
                child.kill()
                child.join()
        for link in links:
            with contextlib.suppress(Exception):
                link.close()


@contextlib.contextmanager
def _pair(contender: Contender, pattern: Pattern, job: Job, traced: int = 0) -> Iterator[tuple[Any, ...]]:
    """The link, the control words, both children and their pipes; whatever happens, they are gone afterwards."""
    children: list[Any] = []
    pipes: list[Any] = []
    links: list[Link] = []
    _running.append((children, links))
    try:
        links.append(contender.link(job, pattern))
        link = links[0]
        control = Control()
        for role in (0, 1):
            mine, theirs = _context.Pipe(duplex=False)
            pipes.append(mine)
            cpu = machine.SPLIT[role] if pattern.split and machine.SPLIT else None
            arguments = (role, os.getpid(), pattern, link, control, cpu, theirs, traced)
            children.append(_context.Process(target=_child, args=arguments, daemon=True))
            children[-1].start()
            theirs.close()
        yield link, control, children, pipes
    finally:
        for child in children:
            child.kill()
            child.join()
            child.close()
        for pipe in pipes:
            pipe.close()
        for made in links:
            made.close()
        _running.pop()


def run_cell(contender: Contender, pattern: Pattern, job: Job, watchdog: float = 90.0) -> Cell:
    """One pair of processes, one timed round."""
    cell = Cell(contender.name)
    before = machine.core_distance()
    busy = machine.Busy()
    try:
        with _pair(contender, pattern, job) as (link, _, children, pipes):
            first, second = _collect(children, pipes, watchdog)
            for child in children:
                child.join(5)
            cell.count = first["n"]
            cell.elapsed = first["elapsed"]
            cell.faults = (first["faults"] + second["faults"]) / cell.count
            cell.sleeps = (first["sleeps"] + second["sleeps"]) / cell.count
            cell.cpu = (first["cpu"], second["cpu"])
            result = pattern.tally(link.forth) or pattern.result(cell.count, cell.elapsed, first, second)
            cell.seconds = result.seconds
            cell.extra = result.extra
            cell.percentiles = percentiles(result.samples)
    except Exception as error:
        cell.error = f"{type(error).__name__}: {error}".strip()
    cell.others = busy.stop()
    cell.core_ns = (before, machine.core_distance())
    return cell


def traced_cell(contender: Contender, pattern: Pattern, job: Job, watchdog: float = 30.0) -> float | None:
    """System calls per message, of both processes and their threads; None: they cannot be counted.

    So many messages that what is done once hardly shows; a first round, of as many, does not count.
    """
    enough = 4 if job.size >= 1 << 20 else 16 if getattr(pattern, "gap", 0) else 128
    count = math.ceil(enough / pattern.multiple) * pattern.multiple
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        with _pair(contender, pattern, job, count) as (_, control, children, pipes):
            tracer = calls.Tracer(control.counted)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
            try:
                for role, child in enumerate(children):
                    tracer.seize(child.pid, role)
                control.let_go()
                _collect(children, pipes, watchdog, tracer)
            finally:
                tracer.end()
            return tracer.calls / count
    except Exception:
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@dataclass
class Comparison:
    """All cells of one pattern and job, by contender, repetition by repetition."""

    title: str
    job: Job
    cells: dict[str, list[Cell]]
    calls: dict[str, float] = field(default_factory=dict)  # system calls per message

    def good(self, name: str) -> list[Cell]:
        return [cell for cell in self.cells.get(name, []) if cell.error is None]

    def median(self, name: str, quantity: Callable[[Cell], float] = lambda cell: cell.seconds) -> float:
        values = [quantity(cell) for cell in self.good(name)]
        return statistics.median(values) if values else math.nan

    def ratio(self, one: str, other: str, quantity: Callable[[Cell], float] = lambda cell: cell.seconds) -> float:
        """Median over repetitions of one / other: each pair ran side by side, so that a drift hits both."""
        pairs = zip(self.cells.get(one, []), self.cells.get(other, []), strict=False)
        values = [quantity(a) / quantity(b) for a, b in pairs if a.error is None and b.error is None]
        return statistics.median(values) if values else math.nan

    def record(self) -> dict[str, Any]:
        cells = {name: [cell.record() for cell in cells] for name, cells in self.cells.items()}
        return {"title": self.title, "job": self.job._asdict(), "cells": cells, "calls": self.calls}


def compare(
    pattern: Pattern,
    job: Job,
    contenders: list[Contender],
    repetitions: int,
    progress: Callable[[str], None] = lambda _: None,
    traced: bool = False,
    watchdog: float = 90.0,
) -> Comparison:
    """Repetitions in turn (A B C, B C A, …), so that no contender has a quieter machine than another.

    ``traced``: and one more of each, whose system calls are counted.
    """
    cells: dict[str, list[Cell]] = {contender.name: [] for contender in contenders}
    for repetition in range(repetitions):
        shift = repetition % max(1, len(contenders))
        for contender in contenders[shift:] + contenders[:shift]:
            progress(f"{pattern.title(job)}: {contender.name} ({repetition + 1} of {repetitions})")
            cells[contender.name].append(run_cell(contender, pattern, job, watchdog))
    comparison = Comparison(pattern.title(job), job, cells)
    if traced and pattern.traceable:
        for contender in contenders:
            progress(f"{pattern.title(job)}: {contender.name}, system calls")
            if comparison.good(contender.name):
                found = traced_cell(contender, pattern, job)
                if found is not None:
                    comparison.calls[contender.name] = found
    return comparison


@contextlib.contextmanager
def no_helpers_left() -> Iterator[None]:
    """Ends the process that the standard library keeps for SharedMemory, where one was started here."""
    from multiprocessing import resource_tracker

    tracker: Any = resource_tracker._resource_tracker
    before = getattr(tracker, "_pid", None)  # perhaps that of a process which has forked this one
    try:
        yield
    finally:
        if getattr(tracker, "_pid", None) not in (None, before):
            tracker._stop()
