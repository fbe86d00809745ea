"""The kernel's semaphores behind the face of ``shmkit.Semaphore``: POSIX named ones, and System V's.

They are for programs that know nothing of shmkit: ``sem_open`` and ``semop`` find the same semaphore.
"""

from __future__ import annotations

from shmkit.semaphore.posix import PosixSemaphore, unlink_posix
from shmkit.semaphore.sysv import SysVSemaphore, unlink_sysv

__all__ = ["PosixSemaphore", "SysVSemaphore", "unlink_posix", "unlink_sysv"]
