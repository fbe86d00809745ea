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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CPUS", "PACKAGES", "SPLIT", "Busy", "core_distance", "facts", "in_words", "use_probe"]

CPUS = sorted(os.sched_getaffinity(0))
# Producer and consumer of a pinned run; one CPU alone has no "split".
SPLIT: tuple[int, int] | None = (CPUS[0], CPUS[1]) if len(CPUS) > 1 else None

# What may be compared, by the names under which it is installed.
PACKAGES = (
    "shmkit", "numpy", "Cython", "faster-fifo", "pyzmq", "iceoryx2", "posix_ipc", "sysv_ipc", "kickmsg", "momentumx",
    "subetha-ipc", "cloudtoid-interprocess", "py-sharedmemory", "SharedArray", "torch", "joblib", "loky",
)  # fmt: skip

_TICKS = os.sysconf("SC_CLK_TCK")
_probe: Callable[[int, int], float] | None = None


def use_probe(probe: Callable[[int, int], float]) -> None:
    """Lets ``core_distance`` ask this, given two CPUs: it takes compiled code, which is not here."""
    global _probe  # noqa: PLW0603
    _probe = probe


def core_distance() -> float | None:
    """Nanoseconds of a cache line's way between the two CPUs and back; None: there is one CPU, or no probe."""
    return None if SPLIT is None or _probe is None else float(_probe(*SPLIT))


class Busy:
    """How much of the machine somebody else used between ``start`` and ``stop``, as a share of the two CPUs."""

    def __init__(self) -> None:
        self._start = self._read()

    @staticmethod
    def _read() -> tuple[float, float, float]:
        """Instant, busy seconds of our CPUs, and seconds used by this process and its reaped children."""
        busy = 0.0
        with open("/proc/stat", encoding="utf-8") as lines:
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
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def in_words() -> str:
    """What is measured on, in a line."""
    many = "s" if len(CPUS) != 1 else ""
    return (
        f"{_cpu_model()}, {len(CPUS)} core{many}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def facts() -> dict[str, Any]:
    """Machine, kernel, Python, compiler, commit and the versions of everything that is compared."""
    compiler = _output(os.environ.get("CC", "cc"), "--version").splitlines()
    return {
        "machine": f"{platform.machine()}, {_cpu_model()}, {len(CPUS)} CPUs",
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "python_compiler": platform.python_compiler(),
        "compiler": compiler[0] if compiler else None,
        "commit": _output("git", "rev-parse", "--short=12", "HEAD") or None,
        "modified": bool(_output("git", "status", "--porcelain", "--", "../..")),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
    }
