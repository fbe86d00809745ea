"""Which files have leases on them: one look at /proc/locks, which takes nothing and disturbs nobody."""

from __future__ import annotations

import fcntl
import os
import re
from collections import defaultdict

from shmkit import _fields
from shmkit.survey.processes import File, file_of

__all__ = ["Leases"]

# "7: FLOCK  ADVISORY  READ 1234 00:1a:5 0 EOF"; whoever only waits for a lock has an arrow.
_LOCK = re.compile(r"^\d+: (FLOCK|OFDLCK|POSIX) +\S+ +\S+ +(-?\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) (\d+) ", re.MULTILINE)


class Leases:
    """``shared``: files that somebody has taken a share in.  ``members``: file → the member ids that are leased.

    ``known`` is false where the kernel shows no locks, not even this process's own: then nothing can be concluded.
    """

    def __init__(self) -> None:
        self.shared: set[File] = set()
        self.members: dict[File, set[int]] = defaultdict(set)
        self.known = False
        mine = os.memfd_create("shmkit-survey", os.MFD_CLOEXEC)
        try:
            fcntl.flock(mine, fcntl.LOCK_SH)
            self._read(file_of(os.fstat(mine)))
        except OSError:
            pass
        finally:
            os.close(mine)

    def _read(self, mine: File) -> None:
        with open("/proc/locks") as text:
            table = text.read()
        for kind, _, major, minor, inode, start in _LOCK.findall(table):
            file = int(major, 16), int(minor, 16), int(inode)
            if file == mine:
                self.known = True
            elif kind == "FLOCK":
                self.shared.add(file)
            elif int(start) >= _fields.MEMBER_BYTES:
                self.members[file].add(int(start) - _fields.MEMBER_BYTES)
