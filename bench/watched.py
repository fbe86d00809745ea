"""What a ring pays for being watched: its throughput with and without `shmkit top` beside it, in turns.

    python bench/watched.py [--interval 0.1] [--rounds 15]

One thread sends and receives, on a core of its own, so that nothing but what is measured can be in its way; `top` runs
on another core.  Printed are the median of the ratios of neighbouring turns, and the quartiles.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

import shmkit

NAME = f"watched-{os.getpid()}"
MESSAGE = b"x" * 64
BATCH = 256


def turn(ring: shmkit.Ring, seconds: float) -> float:
    """Messages per second of CPU time: what another program takes of the core is not the ring's."""
    count = 0
    began = time.thread_time()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(BATCH):
            ring.send(MESSAGE)
        for _ in range(BATCH):
            ring.recv()
        count += BATCH
    return count / (time.thread_time() - began)


def watcher(interval: float, core: int | None) -> subprocess.Popen[bytes]:
    """top, which has looked once."""
    command = [sys.executable, "-m", "shmkit", "top", "--json", "--interval", str(interval)]
    program = subprocess.Popen(command, stdout=subprocess.PIPE)
    if core is not None:
        os.sched_setaffinity(program.pid, {core})
    assert program.stdout is not None
    assert NAME.encode() in program.stdout.readline()
    return program


def main() -> None:
    """Measure, and print a line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--interval", type=float, default=0.1, help="how often top looks (seconds)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    other = cores[1] if len(cores) > 1 else None
    os.sched_setaffinity(0, {cores[0]})
    ratios = []
    with shmkit.Ring.create(NAME, "1 MiB", lifetime="leased") as ring:
        turn(ring, options.seconds)
        for _ in range(options.rounds):
            alone = turn(ring, options.seconds)
            top = watcher(options.interval, other)
            watched = turn(ring, options.seconds)
            top.kill()
            top.communicate()
            ratios.append(watched / alone)
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"watched every {options.interval:g} s: {middle:.3f} of the throughput unwatched ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
