"""What stands beneath the drop-in's locks, where the standard library has a ``_multiprocessing.SemLock``.

They are shmkit's own primitives, acquired and released without a step in between, with the names that the standard
library's classes, and third parties, look at.
"""

from __future__ import annotations

from shmkit._lock import Lock, RLock
from shmkit._primitive import Primitive
from shmkit._sem import BoundedSemaphore, Semaphore

__all__ = ["MUTEX", "SEMAPHORE", "BoundedBeneath", "LockBeneath", "RLockBeneath", "SemaphoreBeneath"]

MUTEX = 0
SEMAPHORE = 1


class _Beneath(Primitive):
    """What a SemLock has beside ``acquire`` and ``release``.  Its name is None: the kernel frees it with its users."""

    kind = SEMAPHORE
    maxvalue = 1

    @property
    def handle(self) -> int:
        """The descriptor of the memory in which it stands."""
        return self.segment.fd

    def _after_fork(self) -> None:
        """A forked child's handle knows by itself that it is another process's."""


class LockBeneath(Lock, _Beneath):
    """A lock; what a killed process held goes on to the next."""

    _called = "Lock"

    def __init__(self) -> None:
        super().__init__(on_owner_death="recover")

    _is_mine = Lock._is_owned
    _is_zero = Lock.locked
    _count = Lock._times_here

    def _get_value(self) -> int:
        return int(not self.locked())


class RLockBeneath(RLock, LockBeneath):
    """A lock that its thread may acquire again."""

    _called = "RLock"
    kind = MUTEX


class SemaphoreBeneath(Semaphore, _Beneath):
    """A number of permits."""

    _called = "Semaphore"
    maxvalue = 2**31 - 1
    _get_value = Semaphore.get_value
    _is_zero = Semaphore.locked

    def _is_mine(self) -> bool:
        return False

    def _count(self) -> int:
        return 0


class BoundedBeneath(BoundedSemaphore, SemaphoreBeneath):
    """A number of permits that cannot grow."""

    _called = "BoundedSemaphore"
    maxvalue: int

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)
        self.maxvalue = value

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (*super().__reduce__(), {"maxvalue": self.maxvalue})
