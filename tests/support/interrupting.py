"""A signal at a line of one's choice."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["interrupted"]


@contextmanager
def interrupted(files: tuple[str, ...], line: int, handler: Callable[[], Any]) -> Iterator[list[Any]]:
    """The handler is called by a signal, before the so many-eth line of those files that this thread runs.

    What it returned or raised is in the list; that is empty if there were fewer lines.
    """
    came: list[Any] = []
    count = 0

    def handle(*_: Any) -> None:
        sys.settrace(None)
        try:
            came.append(handler())
        except Exception as error:
            came.append(error)

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.endswith(files):
            return None
        if event == "line":
            count += 1
            if count == line:
                signal.raise_signal(signal.SIGUSR1)
        return trace

    before = signal.signal(signal.SIGUSR1, handle)
    sys.settrace(trace)
    try:
        yield came
    finally:
        sys.settrace(None)
        signal.signal(signal.SIGUSR1, before)
