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
from shmkit.segment.file import UNFINISHED

__all__ = ["collect", "collect_if_due"]

# A create may spend this part of its time on looking around.
_SHARE = 0.01


class _Next:
    due = 0.0


def collect(folder: str | os.PathLike[str] = posix.FOLDER) -> list[str]:
    """Removes what dead processes left, and returns what that was; in /dev/shm (and of SysV), or in another folder."""
    where = os.fspath(folder)
    removed, companions = _collect_files(where, half_made_only=False)
    if companions and where == posix.FOLDER:
        removed += sysv.collect()
    return removed


def _collect_files(folder: str, half_made_only: bool) -> tuple[list[str], bool]:
    """What was removed, and whether there are companions of SysV segments."""
    removed: list[str] = []
    companions = False
    user = os.geteuid()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                half_made = entry.name.startswith(UNFINISHED)
                companions = companions or entry.name.startswith(posix.COMPANION)
                if not half_made and (half_made_only or entry.name.startswith(posix.COMPANION)):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if status.st_uid != user or not stat.S_ISREG(status.st_mode):
                    continue
                # One that was killed at once has no header yet.
                if status.st_size < _header.HEADER_SIZE and not half_made:
                    continue
                if _make.reclaim(os.fsencode(entry.path), half_made):
                    removed.append(entry.path)
    except OSError:
        # The folder is not there, or not to be read.
        pass
    return removed, companions


def collect_if_due(folder: str | None = None) -> None:
    """Collects, but never so often that it takes more than a small share of this process's time.

    In ``folder``, somebody's own, only what shmkit left half made there.
    """
    now = time.monotonic()
    if now >= _Next.due:
        # Set first, so that threads do not all start.
        _Next.due = now + 1.0
        collect()
        if folder is not None:
            _collect_files(folder, half_made_only=True)
        done = time.monotonic()
        _Next.due = done + (done - now) / _SHARE
