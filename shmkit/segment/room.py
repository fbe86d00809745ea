"""How much room there is: on a file system, in memory, in the control group that this process is confined to.

Asked before a large reservation.  The kernel would answer an over-large one with its out-of-memory killer, which takes
any process it likes; an exception takes nobody.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

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
        limit, usage = _number(f"{folder}/{limit_name}"), _number(f"{folder}/{usage_name}")
        if limit is not None and usage is not None:
            limits.append(max(0, limit - usage + _reclaimable(folder)))
    return min(limits, default=None)


def _groups() -> Iterator[tuple[str, str, str]]:
    """The folders of the groups that bound this process, with the names of their limit and usage files."""
    try:
        with open("/proc/self/cgroup") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = "/sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, names = "/sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        # In a container the path may be the host's, of which only the root is seen here.
        yield root, *names
        while path.strip("/"):
            yield f"{root}/{path.strip('/')}", *names
            path = os.path.dirname(path.rstrip("/"))


def _number(path: str) -> int | None:
    try:
        with open(path) as file:
            text = file.read().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _reclaimable(folder: str) -> int:
    """Cached files that the group's usage counts and that the kernel drops before it kills."""
    try:
        with open(f"{folder}/memory.stat") as lines:
            for line in lines:
                key, _, value = line.partition(" ")
                if key in ("inactive_file", "total_inactive_file"):
                    return int(value)
    except (OSError, ValueError):
        pass
    return 0
