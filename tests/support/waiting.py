"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], watchdog: float = 30.0, what: str | None = None) -> T:
    """Returns the condition's first true value.

    The watchdog is no part of what is tested: it only turns a hang into a failure that says what did not happen.
    """
    give_up = time.monotonic() + watchdog
    pause = 0.0002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > give_up:
            description = what or getattr(condition, "__doc__", None) or getattr(condition, "__qualname__", condition)
            raise AssertionError(f"did not happen within {watchdog:g} s: {description}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)
