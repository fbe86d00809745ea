"""What children do with semaphores; importable, so that spawned ones can do it too."""

from __future__ import annotations

import os
from typing import Any

import shmkit

WATCHDOG = 60.0


def guard(semaphore: Any, total: Any, times: int) -> None:
    """Adds to what the semaphore guards, not atomically."""
    for _ in range(times):
        with semaphore:
            total[0] += 1


def take_and_wait(semaphore: Any, taken: shmkit.Event) -> None:
    """Acquires, says so, and waits to be killed."""
    assert semaphore.acquire(timeout=WATCHDOG)
    taken.set()
    shmkit.Event().wait()


def take_and_vanish(semaphore: Any) -> None:
    """Acquires, and ends without releasing."""
    assert semaphore.acquire(timeout=WATCHDOG)
    os._exit(0)


def give(semaphore: Any, times: int) -> None:
    """Releases what it never acquired."""
    for _ in range(times):
        semaphore.release()
