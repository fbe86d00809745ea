"""What was measured on: facts for the record, and how disturbed and how far apart the two CPUs were meanwhile."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from limits import compiled

CPUS = sorted(os.sched_getaffinity(0))
# Producer and consumer of a pinned run; one CPU alone has no "split".
SPLIT: tuple[int, int] | None = (CPUS[0], CPUS[1]) if len(CPUS) > 1 else None

_TICKS = os.sysconf("SC_CLK_TCK")


def core_distance() -> float | None:
    """Nanoseconds of a cache line's way between the two CPUs and back; None where there is one CPU."""
    return None if SPLIT is None else float(compiled.line_ns(*SPLIT))


class Busy:
    """How much of the machine somebody else used between ``start`` and ``stop``, as a share of the two CPUs."""

    def __init__(self) -> None:
        self._start = self._read()

    @staticmethod
    def _read() -> tuple[float, float, float]:
        """Instant, busy seconds of our CPUs, and seconds used by this process and its reaped children."""
        busy = 0.0
        with open("/proc/stat") as lines:
            for line in lines:
                name, *fields = line.split()
                if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in CPUS[:2]:
                    # user nice system idle iowait irq softirq steal
                    busy += (sum(map(int, fields[:8])) - int(fields[3]) - int(fields[4])) / _TICKS
        own = 0.0
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
            used = resource.getrusage(who)
            own += used.ru_utime + used.ru_stime
        return time.monotonic(), busy, own

    def stop(self) -> float:
        start, stop = self._start, self._read()
        capacity = (stop[0] - start[0]) * min(2, len(CPUS))
        return max(0.0, (stop[1] - start[1]) - (stop[2] - start[2])) / capacity


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def facts() -> dict[str, Any]:
    """Machine, kernel, Python, compiler, commit and the versions of everything that is compared."""
    packages = ("shmkit", "numpy", "Cython", "faster-fifo", "pyzmq", "iceoryx2", "posix_ipc")
    compiler = _output(os.environ.get("CC", "cc"), "--version").splitlines()
    return {
        "machine": f"{platform.machine()}, {_cpu_model()}, {len(CPUS)} CPUs",
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "python_compiler": platform.python_compiler(),
        "compiler": compiler[0] if compiler else None,
        "commit": _output("git", "rev-parse", "--short=12", "HEAD") or None,
        "modified": bool(_output("git", "status", "--porcelain", "--", "../shmkit")),
        "packages": {name: version for name in packages if (version := _version(name))},
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
    }
