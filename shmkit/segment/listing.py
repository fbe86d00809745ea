"""Which segments there are: read from /dev/shm, from the kernel's SysV table, and from the descriptors of processes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from shmkit import _header
from shmkit._header import Header
from shmkit._map import process_start
from shmkit.errors import LayoutMismatch
from shmkit.segment import header, posix, sysv
from shmkit.segment.trouble import Name

__all__ = ["SegmentInfo", "segments"]

_LABEL = "/memfd:shmkit"


@dataclass(frozen=True)
class SegmentInfo:
    """What a look at a segment's header tells.  ``kind`` "idle": memory that waits for its maker's next array."""

    name: Name
    backing: str
    kind: str
    size: int
    lifetime: str
    mode: int
    uid: int
    creator_pid: int
    creator_alive: bool
    created: float
    identity: int


def _info(checked: Header, name: Name, backing: str, mode: int, uid: int) -> SegmentInfo:
    return SegmentInfo(
        name,
        backing,
        header.KINDS[checked.kind],
        checked.payload_size,
        "leased" if checked.flags & _header.LEASED else "named",
        mode & 0o777,
        uid,
        checked.creator_pid,
        process_start(checked.creator_pid) == checked.creator_start,
        checked.created_ns / 1e9,
        checked.identity,
    )


def segments() -> list[SegmentInfo]:
    """All that can be read, each once."""
    return [*_posix(), *_sysv(), *_memfds()]


def _read(path: str, flags: int = 0) -> tuple[bytes, os.stat_result] | None:
    """The start of a regular file; None if it is none, or none of ours to read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | flags)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return None
        return os.pread(fd, _header.HEADER_SIZE, 0), status
    except OSError:
        return None
    finally:
        os.close(fd)


def _posix() -> Iterator[SegmentInfo]:
    try:
        names = sorted(os.listdir(posix.FOLDER))
    except OSError:
        return
    for name in names:
        found = _read(f"{posix.FOLDER}/{name}", os.O_NOFOLLOW)
        if found is not None:
            try:
                checked = header.check(found[0], found[1].st_size, name)
            except LayoutMismatch:
                continue
            yield _info(checked, name, "posix", found[1].st_mode, found[1].st_uid)


def _sysv() -> Iterator[SegmentInfo]:
    for entry in sysv.entries():
        found = sysv.peek(entry)
        if found is not None:
            checked, meta = found
            name = None if entry.removed else meta.get("name", entry.key)
            yield _info(checked, name, "sysv", entry.mode, entry.uid)


def _memfds() -> Iterator[SegmentInfo]:
    seen = set()
    for process in os.listdir("/proc"):
        if not process.isdigit():
            continue
        try:
            numbers = os.listdir(f"/proc/{process}/fd")
        except OSError:
            continue
        for number in numbers:
            path = f"/proc/{process}/fd/{number}"
            try:
                if not os.readlink(path).startswith(_LABEL):
                    continue
                status = os.stat(path)
            except OSError:
                continue
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            found = _read(path)
            if found is not None:
                try:
                    checked = header.check(found[0], found[1].st_size, None, idle_too=True)
                except LayoutMismatch:
                    continue
                yield _info(checked, None, "memfd", found[1].st_mode, found[1].st_uid)
