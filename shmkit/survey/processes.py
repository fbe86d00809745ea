"""Which processes there are, and what shared memory each has mapped or open: one look at /proc.

Of other users' processes the kernel shows only to root what they have mapped; how many stayed hidden is counted.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from typing import NamedTuple

from shmkit._map import process_start

__all__ = ["File", "Process", "Processes", "file_of"]

# A file as the kernel names it in maps and locks: device (major, minor) and inode.
File = tuple[int, int, int]

# address perms offset major:minor inode path, of a shared mapping of a file
_SHARED = re.compile(rb"^\S+ ...s \S+ ([0-9a-f]+):([0-9a-f]+) (\d+) +(/.*)$", re.MULTILINE)
_IN_MEMORY = ("/dev/shm/", "/memfd:")
# What the mapping of a file is called that had no name when it was made: by its inode, in its folder.
_NAMELESS = re.compile(rb"/#\d+ \(deleted\)$")
# What is mapped and shared, but never shared memory of anybody's.
_OTHERS = (b"/dev/", b"/SYSV", b"/memfd:", b"anon_inode", b"socket:", b"/run/", b"/proc/", b"/sys/")


class Process(NamedTuple):
    """A process that was seen; ``command`` is its short name."""

    pid: int
    uid: int
    command: str


def file_of(status: os.stat_result) -> File:
    """The key of a file whose status is known."""
    return os.major(status.st_dev), os.minor(status.st_dev), status.st_ino


class Processes:
    """What a look at all processes has shown.

    ``mapped`` and ``opened``: file → pids.  ``sysv``: SysV id → pids.  ``memfds``: anonymous memory → where it can be
    opened, or None if it is only mapped.  ``files``: file → path, of other mapped files.  ``hidden``: pids whose
    mappings may not be looked at.
    """

    def __init__(self) -> None:
        self.mapped: dict[File, set[int]] = defaultdict(set)
        self.opened: dict[File, set[int]] = defaultdict(set)
        self.sysv: dict[int, set[int]] = defaultdict(set)
        self.memfds: dict[File, str | None] = {}
        self.files: dict[File, str] = {}
        self.hidden: set[int] = set()
        self._known: dict[int, Process | None] = {}
        self._starts: dict[int, int] = {}
        self._own_ipc = _namespace("self")
        entries = os.listdir("/proc")
        for entry in entries:
            if entry.isdigit():
                self._look_at(int(entry))
        if "1" not in entries and self.hides(1):
            # It stands for all those of whom /proc does not even say that they are there.
            self.hidden.add(1)

    def _look_at(self, pid: int) -> None:
        try:
            with open(f"/proc/{pid}/maps", "rb") as text:
                maps = text.read()
        except PermissionError:
            self.hidden.add(pid)
            return
        except OSError:
            return
        foreign: bool | None = None
        for major, minor, inode, path in _SHARED.findall(maps):
            file = int(major, 16), int(minor, 16), int(inode)
            if path.startswith(b"/SYSV"):
                # The inode is the id in the process's own table, which may be another one than ours.
                if foreign is None:
                    foreign = _namespace(pid) != self._own_ipc
                if not foreign:
                    self.sysv[file[2]].add(pid)
                continue
            self.mapped[file].add(pid)
            if path.startswith(b"/memfd:shmkit"):
                self.memfds.setdefault(file, None)
            elif not path.startswith(_OTHERS) and (_NAMELESS.search(path) or not path.endswith(b" (deleted)")):
                self.files.setdefault(file, os.fsdecode(path))
        self._look_at_descriptors(pid)

    def _look_at_descriptors(self, pid: int) -> None:
        folder = f"/proc/{pid}/fd"
        try:
            numbers = os.listdir(folder)
        except OSError:
            return
        for number in numbers:
            path = f"{folder}/{number}"
            try:
                target = os.readlink(path)
                if not target.startswith(_IN_MEMORY):
                    continue
                file = file_of(os.stat(path))
            except OSError:
                continue
            self.opened[file].add(pid)
            if target.startswith("/memfd:shmkit") and self.memfds.get(file) is None:
                self.memfds[file] = path

    def users(self, file: File) -> set[int]:
        """The processes that were seen to have the file mapped or open."""
        return self.mapped.get(file, set()) | self.opened.get(file, set())

    def start(self, pid: int) -> int:
        """When the process started, in clock ticks from boot; 0: there is none."""
        if pid not in self._starts:
            self._starts[pid] = process_start(pid) if 0 < pid < 2**31 else 0
        return self._starts[pid]

    def hides(self, pid: int) -> bool:
        """Whether the process is there, and when it started is not to be seen: /proc is missing, or hides others'."""
        if self.start(pid) or not 0 < pid < 2**31:
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True

    def get(self, pid: int) -> Process | None:
        """The process of that pid, if it lives."""
        if pid not in self._known:
            self._known[pid] = _look_up(pid)
        return self._known[pid]


def _look_up(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/comm", "rb") as text:
            command = text.read().rstrip(b"\n").decode(errors="replace")
        return Process(pid, os.stat(f"/proc/{pid}").st_uid, command)
    except OSError:
        return None


def _namespace(pid: int | str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/ipc")
    except OSError:
        return None
