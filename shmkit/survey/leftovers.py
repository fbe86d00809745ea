"""What the dead left behind, and why it is known to be that: exactly what ``shmkit.collect`` removes.

Whatever shows a sign of use is not touched.  Of the rest the kernel is asked as the collector asks: a lock that nobody
else can hold is taken, for an instant.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from typing import NamedTuple

from shmkit.segment import posix
from shmkit.segment.file import UNFINISHED
from shmkit.survey.find import Survey
from shmkit.survey.objects import SharedObject
from shmkit.survey.system_v import companion_of, segments

__all__ = ["Leftover", "leftovers"]


class Leftover(NamedTuple):
    """Something that nobody can use any more; ``label`` is what ``shmkit.collect`` calls it."""

    address: str
    label: str
    uid: int
    size: int
    why: str


def leftovers(survey: Survey | None = None, folder: str = posix.FOLDER) -> list[Leftover]:
    """What a collection would remove now, of whomever: only its owner, and nobody else, can."""
    survey = Survey() if survey is None else survey
    return [*_files(survey, folder), *(_sysv(survey) if folder == posix.FOLDER else ())]


def _files(survey: Survey, folder: str) -> Iterator[Leftover]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        if name.startswith(posix.COMPANION):
            continue
        path = f"{folder}/{name}"
        found = survey.at(path)
        if found is None or found.leased:
            continue
        half_made = name.startswith(UNFINISHED)
        if not half_made and found.lifetime != "leased":
            continue
        if not found.users and _is_free(path):
            why = "it was never finished: its maker has died" if half_made else _whose(found)
            yield Leftover(found.address, path, found.uid, found.resident or 0, why)


def _sysv(survey: Survey) -> Iterator[Leftover]:
    alive: set[str] = set()
    goes_with: dict[str, str] = {}
    for found in segments(survey.processes, survey.leases):
        companion = found.path if found.state in ("half made", "in the making") else companion_of(found.identity)
        if companion is None:
            continue
        alive.add(companion)
        gone = found.state == "half made" and not found.attached
        if gone or (found.whole and found.lifetime == "leased" and not found.leased and _is_free(companion)):
            why = "it was never finished: its maker has died" if gone else _whose(found)
            goes_with[companion] = found.address
            yield Leftover(found.address, f"SysV segment {found.id}", found.uid, found.resident or 0, why)
    try:
        names = sorted(os.listdir(posix.FOLDER))
    except OSError:
        return
    for name in names:
        path = f"{posix.FOLDER}/{name}"
        if not name.startswith(posix.COMPANION):
            continue
        if path in goes_with or (path not in alive and _is_free(path)):
            try:
                status = os.lstat(path)
            except OSError:
                continue
            why = "the SysV segment that it was for has gone"
            if name.startswith(posix.QUEUE_COMPANION):
                why = "nobody receives from the SysV message queue that it was for"
            if path in goes_with:
                why = f"it bears the leases of {goes_with[path]}, which goes too"
            yield Leftover(path, path, status.st_uid, status.st_blocks * 512, why)


def _whose(found: SharedObject) -> str:
    creator = found.creator
    if creator is None or creator.alive is not False:
        return "it is leased, and its last user has died"
    return f"it is leased, its maker (process {creator.pid}) has died, and nobody uses it"


def _is_free(path: str) -> bool:
    """Whether nobody has a share in the lease of the file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
