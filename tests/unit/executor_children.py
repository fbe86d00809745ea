"""What the workers of the tests of executors and pools do."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

kept: Any = None


def double(value: Any) -> Any:
    return 2 * value


def give(value: Any) -> Any:
    return value


def add(first: int, second: int = 0, *, third: int = 0) -> int:
    return first + second + third


def fail(value: Any) -> None:
    raise ValueError(value)


def keep(value: Any) -> None:
    global kept
    kept = value


def get_kept() -> Any:
    return kept


def refuse_to_start() -> None:
    raise RuntimeError("not today")


def pid() -> int:
    return os.getpid()


def make_lambda(_: object) -> Any:
    return lambda: 0


def kill_itself(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
    time.sleep(600)


def kill_itself_at(value: int, fatal: int) -> int:
    if value == fatal:
        kill_itself()
    return value


def leave(status: int) -> None:
    os._exit(status)


def exit_in_order(status: int) -> None:
    sys.exit(status)


def tell_and_wait(log: Any, place: int) -> None:
    """Says that it has begun, and waits to be killed."""
    log[place] = os.getpid()
    time.sleep(600)


def note(log: Any, place: int) -> int:
    """Counts, in shared memory, how often this was run."""
    log.add(place)
    return place


class Unpicklable:
    def __reduce__(self) -> Any:
        raise AttributeError("not this one")


class FailsToLoad:
    def __reduce__(self) -> Any:
        return fail, ("cannot be loaded",)


def make_unpicklable(_: object) -> Any:
    return Unpicklable()


def make_unloadable(_: object) -> Any:
    return FailsToLoad()


def make_unloadable_at(value: int, which: int) -> Any:
    return FailsToLoad() if value == which else value
