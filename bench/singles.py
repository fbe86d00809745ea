"""What is measured without a race between contenders: the price of the protocol, memory that is used, imports.

Each function returns figures by name, in seconds, bytes or counts.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np

from limits import FLAGS, HERE, cache_folder

REPOSITORY = Path(__file__).parents[1]
MIB = 1 << 20


def protocol(*, full: bool) -> dict[str, float]:
    """What put and get cost in C, in the queue's own cells and in a bare ring (``limits/protocol.c``)."""
    headers = [REPOSITORY / "shmkit", REPOSITORY / "tests" / "sanitize"]
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    binary = folder / "protocol"
    options = [*FLAGS, "-pthread", *(f"-I{header}" for header in headers)]
    subprocess.run([os.environ.get("CC", "cc"), *options, "-o", binary, HERE / "protocol.c"], check=True)
    said = subprocess.run([binary, "101" if full else "51"], check=True, capture_output=True, text=True).stdout
    real, bare, price = (float(word) * 1e-9 for word in said.split())
    return {"put and get in C": real, "the same in a bare ring": bare, "price of the protocol": price}


def _consume(queue: Any, count: int) -> None:
    for number in range(count):
        array = queue.get()
        if array[0] != number or array[-1] != number:
            raise AssertionError(f"array {number} is not what was put")


def stream(*, full: bool) -> dict[str, float]:
    """Arrays of 1 MiB through a queue of depth 8: how many blocks they use, faults, and what an idle heap keeps."""
    import multiprocessing
    import resource

    import shmkit

    count = 1_000_000 if full else 10_000
    queue = shmkit.Queue(8)
    heap = queue.heap
    consumer = multiprocessing.get_context("fork").Process(target=_consume, args=(queue, count), daemon=True)
    consumer.start()
    source = np.zeros(MIB // 8)
    used, before = [], 0
    for number in range(count):
        source[0] = source[-1] = number
        queue.put(source)
        if number == count // 10:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        if number % 97 == 0:
            told = heap.statistics()
            used.append(told["blocks_held"] + told["blocks_queued"])
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    consumer.join(60)
    if consumer.exitcode != 0:
        raise RuntimeError("the consumer failed")
    busy = heap.statistics()["resident"]
    # Whoever waits for items gives the memory back: after two seconds.
    with contextlib.suppress(Empty):
        queue.get(timeout=3)
    idle = heap.statistics()["resident"]
    queue.close()
    return {
        "arrays": count,
        "blocks used by the stream": max(used),
        "faults per array": faults / (count - count // 10),
        "resident while busy": busy,
        "resident when idle": idle,
    }


def imports(*, full: bool) -> dict[str, float]:
    """How much longer importing the drop-in takes than importing what it replaces, in new processes."""

    def one(module: str) -> float:
        # In an interpreter that has done what every program does first.
        code = f"import time, sys, os; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
        said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        return float(said.stdout)

    both = [(one("shmkit.multiprocessing"), one("multiprocessing")) for _ in range(15 if full else 5)]
    return {
        "import shmkit.multiprocessing": statistics.median(ours for ours, _ in both),
        "import multiprocessing": statistics.median(theirs for _, theirs in both),
        "import beyond the standard library's": statistics.median(ours - theirs for ours, theirs in both),
    }


SINGLES: dict[str, Callable[..., dict[str, float]]] = {"protocol": protocol, "stream": stream, "imports": imports}


def measure(names: list[str], *, full: bool) -> dict[str, dict[str, float]]:
    """All of these, with how long each took."""
    found = {}
    for name in names:
        start = time.monotonic()
        found[name] = SINGLES[name](full=full)
        found[name]["seconds"] = round(time.monotonic() - start, 1)
    return found
