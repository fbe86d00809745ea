"""shmkit's classes as the tests get them, and some with a fault that the tests have to find.

They stand at the top of a module, for children find them by name.
"""

from __future__ import annotations

from collections.abc import Callable

import shmkit

NAMES = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event"]
if hasattr(shmkit, "Barrier"):
    NAMES.append("Barrier")


# What multiprocessing's queues ask of the semaphores within them.


class QueueSemaphore(shmkit.Semaphore):
    @property
    def _semlock(self) -> QueueSemaphore:
        return self

    def _get_value(self) -> int:
        return self.get_value()

    def _is_zero(self) -> bool:
        return self.locked()


class QueueBoundedSemaphore(shmkit.BoundedSemaphore):
    _semlock = QueueSemaphore._semlock
    _get_value = QueueSemaphore._get_value
    _is_zero = QueueSemaphore._is_zero


# Faults that the tests have to find.


class LockThatNeverBlocks(shmkit.Lock):
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        return super().acquire(False) or block

    def __enter__(self) -> bool:
        return self.acquire()


class RLockThatNeverBlocks(shmkit.RLock):
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        return super().acquire(False) or block

    def __enter__(self) -> bool:
        return self.acquire()


class SemaphoreOfOneMore(shmkit.Semaphore):
    def __init__(self, value: int = 1) -> None:
        super().__init__(value + 1)


class BoundedSemaphoreOfOneMore(shmkit.BoundedSemaphore):
    def __init__(self, value: int = 1) -> None:
        super().__init__(value + 1)


class ConditionThatWakesAll(shmkit.Condition):
    def notify(self, n: int = 1) -> None:
        super().notify(1 << 62)


class EventThatForgetsToWake(shmkit.Event):
    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


FAULTS: dict[str, dict[str, Callable[..., object]]] = {
    "lock-never-blocks": {"Lock": LockThatNeverBlocks},
    "rlock-never-blocks": {"RLock": RLockThatNeverBlocks},
    "semaphore-one-more": {"Semaphore": SemaphoreOfOneMore, "BoundedSemaphore": BoundedSemaphoreOfOneMore},
    "condition-wakes-all": {"Condition": ConditionThatWakesAll},
    "event-never-waits": {"Event": EventThatForgetsToWake},
}

if hasattr(shmkit, "Barrier"):

    class BarrierThatHoldsNobody(shmkit.Barrier):
        def wait(self, timeout: float | None = None) -> int:
            return 0

    FAULTS["barrier-holds-nobody"] = {"Barrier": BarrierThatHoldsNobody}


def classes(whose: str) -> dict[str, Callable[..., object]]:
    """By name: those of shmkit ("shmkit"), one of them replaced by that with a fault."""
    made = {name: getattr(shmkit, name) for name in NAMES}
    return made if whose == "shmkit" else made | FAULTS[whose]
