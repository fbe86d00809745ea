"""One measurement: a mechanism, a pattern, a size, in two processes.

::

    parent ──fork──> sender   ──messages──>  receiver <──fork── parent
                        ^────── answers ────────'

"throughput": the sender sends, and the receiver answers the last of each batch.  "round trip": the receiver answers
every message with one of the same size.  Batches grow until one takes long enough: that one counts, the others have
touched every page by then.  Each message bears its number in its first and its last eight bytes, and both are compared.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import struct
import time
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from .mechanisms import Mechanism, Way

__all__ = ["LEAST", "PATTERNS", "Cell", "Pattern", "copying", "measure"]

Pattern = Literal["round trip", "throughput"]
PATTERNS: tuple[Pattern, ...] = ("round trip", "throughput")
LEAST = 8
WATCHDOG = 60.0
_PR_SET_PDEATHSIG = 1
_NUMBER = struct.Struct("<Q")
_ANSWER, _STOP = 1 << 62, 1 << 63


class Cell(NamedTuple):
    """``seconds`` of a round trip, or of a message; ``cpu`` seconds of both processes for it.  Or what went wrong."""

    seconds: float = 0.0
    messages: int = 0
    cpu: float = 0.0
    error: str | None = None


def measure(
    mechanism: Mechanism, pattern: Pattern, size: int, seconds: float, cores: tuple[int, int] | None = None
) -> Cell:
    """Measures for about ``seconds``, each process on its own of ``cores`` if any are given.

    Whatever happens, both processes are gone afterwards.
    """
    context = multiprocessing.get_context("fork")
    children = []
    pipes: list[Connection] = []
    ways: list[Way] = []
    try:
        ways.append(mechanism.make(size))
        ways.append(mechanism.make(size if pattern == "round trip" else LEAST))
        for at, role in enumerate((_send, _receive)):
            ours, theirs = context.Pipe(duplex=False)
            pipes.append(ours)
            child = context.Process(
                target=_child,
                args=(role, *ways, pattern, size, seconds, os.getpid(), cores and cores[at], theirs),
                daemon=True,
            )
            child.start()
            children.append(child)
            theirs.close()
        sent, received = _results(pipes)
        return Cell(sent["seconds"], sent["count"], sent["cpu"] + received["cpu"])
    except _Failed as error:
        return Cell(error=str(error))
    except (OSError, ValueError) as error:
        return Cell(error=f"{type(error).__name__}: {error}")
    finally:
        for child in children:
            child.kill()
            child.join()
            child.close()
        for pipe in pipes:
            pipe.close()
        for way in ways:
            way.close()


class _Failed(Exception):
    pass


def _results(pipes: list[Connection]) -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    deadline = time.monotonic() + WATCHDOG
    while len(found) < len(pipes):
        ready = wait([pipe for at, pipe in enumerate(pipes) if at not in found], max(0, deadline - time.monotonic()))
        if not ready:
            raise _Failed(f"nothing came through within {WATCHDOG:.0f} s")
        for at, pipe in enumerate(pipes):
            if pipe not in ready:
                continue
            try:
                found[at] = pipe.recv()
            except EOFError:
                raise _Failed("a process ended before it was done") from None
            if "error" in found[at]:
                raise _Failed(found[at]["error"])
    return [found[at] for at in range(len(pipes))]


def _child(
    role: Callable[..., dict[str, Any]],
    forth: Way,
    back: Way,
    pattern: Pattern,
    size: int,
    seconds: float,
    parent: int,
    core: int | None,
    pipe: Connection,
) -> None:
    # Ctrl-C is the parent's affair, which then kills this process; it also ends with the parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        pipe.send(role(forth, back, pattern, size, seconds))
        # Until it is killed: threads of some libraries still have something to deliver.
        signal.pause()
    except BaseException as error:
        with contextlib.suppress(OSError):
            pipe.send({"error": f"{type(error).__name__}: {error}"})


def _send(forth: Way, back: Way, pattern: Pattern, size: int, seconds: float) -> dict[str, Any]:
    number = 0
    tail = size - LEAST
    every = pattern == "round trip"
    flags = 0

    def stamp(buffer: Any) -> None:
        _NUMBER.pack_into(buffer, 0, number | flags)
        _NUMBER.pack_into(buffer, tail, number | flags)

    def answered(buffer: Any) -> None:
        (found,) = _NUMBER.unpack_from(buffer, 0)
        if found != number:
            raise ValueError(f"the answer to message {number} bears the number {found}")

    def batch(count: int) -> float:
        nonlocal number, flags
        start = time.perf_counter()
        for left in range(count - 1, -1, -1):
            number += 1
            flags = _ANSWER if every or not left else 0
            forth.send(stamp)
            if flags:
                back.recv(answered)
        return time.perf_counter() - start

    count = 1
    while (took := batch(count)) < seconds / 4:
        # Not by more than eight: the first ones tell little.
        count = max(count + 1, min(8 * count, int(count * seconds / 2 / max(took, 1e-9))))
    count = max(1, int(count * seconds / took))
    before = time.process_time()
    took = batch(count)
    cpu = time.process_time() - before
    number, flags = number + 1, _STOP
    forth.send(stamp)
    return {"seconds": took / count, "count": count, "cpu": cpu / count}


def _receive(forth: Way, back: Way, pattern: Pattern, size: int, seconds: float) -> dict[str, Any]:
    number = found = 0
    tail = size - LEAST
    back_tail = (size if pattern == "round trip" else LEAST) - LEAST

    def look(buffer: Any) -> None:
        nonlocal number, found
        number += 1
        (found,) = _NUMBER.unpack_from(buffer, 0)
        (last,) = _NUMBER.unpack_from(buffer, tail)
        if found != last or found & (_ANSWER - 1) != number:
            raise ValueError(f"message {number} bears the numbers {found & (_ANSWER - 1)} and {last & (_ANSWER - 1)}")

    def stamp(buffer: Any) -> None:
        _NUMBER.pack_into(buffer, 0, number)
        _NUMBER.pack_into(buffer, back_tail, number)

    # The last batch is the one between the last two answers; of round trips all count.
    first = last = (0, time.process_time())
    while True:
        forth.recv(look)
        if found & _ANSWER:
            back.send(stamp)
            if pattern == "throughput":
                first, last = last, (number, time.process_time())
        elif found & _STOP:
            break
    if pattern == "round trip":
        last = (number, time.process_time())
    return {"cpu": (last[1] - first[1]) / (last[0] - first[0])}


def copying(size: int, seconds: float) -> Cell:
    """The same bytes, copied by one process into the memory of two messages, in turn: a bound for one copy."""
    source = np.full(size, 7, "uint8")
    places = [np.zeros(size, "uint8") for _ in range(2)]
    count = took = 0.0
    start = time.perf_counter()
    while took < seconds:
        for _ in range(32 if size < 1 << 20 else 1):
            for place in places:
                np.copyto(place, source)
                count += 1
        took = time.perf_counter() - start
    return Cell(took / count, int(count), took / count)
