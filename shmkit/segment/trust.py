"""Who may have written to a segment: what pickles may be believed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from shmkit.segment import sysv

if TYPE_CHECKING:
    from shmkit.segment.base import Segment

__all__ = ["is_trusted"]


def is_trusted(segment: Segment) -> bool:
    """Whether nobody may have written to it but this process's user, and root; False where that cannot be found out."""
    backing = segment.backing
    if backing == "memfd":
        return True  # whoever has its descriptor was given it
    if backing == "sysv":
        found = [entry for entry in sysv.entries() if entry.key == sysv.key_of(segment.name)]
        return bool(found) and _only_own(found[0].uid, found[0].mode)
    path = segment.mapping.facts.path
    try:
        status = os.fstat(segment.fd) if segment.fd >= 0 or path is None else os.stat(path)
    except OSError:
        return False
    return _only_own(status.st_uid, status.st_mode)


def _only_own(uid: int, mode: int) -> bool:
    return uid in (os.geteuid(), 0) and not mode & 0o022
