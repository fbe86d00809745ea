"""The kernel's message queues: POSIX (``mq_open``: priorities, descriptors) and System V (``msgget``: types).

They are for programs that know nothing of shmkit, and for a few small messages; ``shmkit.Queue`` and ``shmkit.Ring``
are faster, and take messages of any size.
"""

from __future__ import annotations

from shmkit.mqueue.message import PosixQueueStatistics, SysVQueueStatistics
from shmkit.mqueue.posix import PosixMessageQueue, unlink_posix
from shmkit.mqueue.sysv import SysVMessageQueue, unlink_sysv

__all__ = [
    "PosixMessageQueue",
    "PosixQueueStatistics",
    "SysVMessageQueue",
    "SysVQueueStatistics",
    "unlink_posix",
    "unlink_sysv",
]
