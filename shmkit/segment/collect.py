"""Removes what crashes left behind: leased segments whose users are all dead, and half-made ones.

The kernel says who is dead (``_file.h``), so a segment in use is never taken, whoever calls this and however often.
Every create does it first, unless it was done just before.
"""

from __future__ import annotations

import os
import stat
import time

from shmkit import _header, _make
from shmkit.segment import posix, sysv

__all__ = ["collect", "collect_if_due"]

# A create may spend this part of its time on looking around.
_SHARE = 0.01


class _Next:
    due = 0.0


def collect() -> list[str]:
    """Removes what dead processes left, and returns what that was."""
    removed = []
    user = os.geteuid()
    companions = False
    try:
        with os.scandir(posix.FOLDER) as entries:
            for entry in entries:
                if entry.name.startswith(posix.COMPANION):
                    companions = True
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if status.st_uid != user or not stat.S_ISREG(status.st_mode) or status.st_size < _header.HEADER_SIZE:
                    continue
                if _make.reclaim(os.fsencode(entry.path), entry.name.startswith(posix.UNFINISHED)):
                    removed.append(entry.path)
    except OSError:
        return removed
    if companions:
        removed += sysv.collect()
    return removed


def collect_if_due() -> None:
    """Collects, but never so often that it takes more than a small share of this process's time."""
    now = time.monotonic()
    if now >= _Next.due:
        # Set first, so that threads do not all start.
        _Next.due = now + 1.0
        collect()
        done = time.monotonic()
        _Next.due = done + (done - now) / _SHARE
