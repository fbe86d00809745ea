"""How much room there is: on a file system, in memory, in the control group that this process is confined to.

Asked before a large reservation.  The kernel would answer an over-large one with its out-of-memory killer, which takes
any process it likes; an exception takes nobody.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["LARGE", "free_bytes", "in_memory"]

# Below, a reservation is too small to matter, and asking would cost more than the reservation.
LARGE = 64 * 2**20


def free_bytes(folder: str | None) -> int | None:
    """The bytes that can still be reserved in ``folder`` (None: in memory that no file system bounds), if known."""
    limits = []
    if folder is not None:
        try:
            status = os.statvfs(folder)
        except OSError:
            return None
        limits.append(status.f_bavail * status.f_frsize)
    if folder is None or in_memory(folder):
        limits += [memory for memory in (_available(), _group_available()) if memory is not None]
    return min(limits, default=None)


def in_memory(folder: str) -> bool:
    """Whether the files of ``folder`` live in memory (tmpfs) and not on a disk."""
    try:
        device = os.stat(folder).st_dev
        with open("/proc/self/mountinfo") as mounts:
            for line in mounts:
                words = line.split()
                if words[2] == f"{os.major(device)}:{os.minor(device)}":
                    return words[words.index("-") + 1] in ("tmpfs", "ramfs")
    except OSError:
        pass
    return False


def _available() -> int | None:
    """What the kernel could find for this machine's processes, swap included."""
    found = 0
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith(("MemAvailable:", "SwapFree:")):
                    found += int(line.split()[1]) * 1024
    except OSError:
        return None
    return found or None


def _group_available() -> int | None:
    """What the control groups of this process leave it; None where none bounds it."""
    limits = []
    for folder, limit_name, usage_name in _groups():
        limit, usage = _number(folder / limit_name), _number(folder / usage_name)
        if limit is not None and usage is not None:
            limits.append(max(0, limit - usage + _reclaimable(folder)))
    return min(limits, default=None)


def _groups() -> Iterator[tuple[Path, str, str]]:
    """The folders of the groups that bound this process, with the names of their limit and usage files."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = Path("/sys/fs/cgroup"), ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, names = Path("/sys/fs/cgroup/memory"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        group = root / path.lstrip("/")
        # In a container the path may be the host's, of which only the root is seen here.
        for folder in {root, group, *(parent for parent in group.parents if parent.is_relative_to(root))}:
            yield folder, *names


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _reclaimable(folder: Path) -> int:
    """Cached files that the group's usage counts and that the kernel drops before it kills."""
    try:
        for line in (folder / "memory.stat").read_text().splitlines():
            key, _, value = line.partition(" ")
            if key in ("inactive_file", "total_inactive_file"):
                return int(value)
    except (OSError, ValueError):
        pass
    return 0
