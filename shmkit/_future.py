"""Futures that cost a tenth of ``concurrent.futures``' own, of which they are a subclass.

What a future needs only while somebody waits for it, or wants to be called back (a condition and two lists), is made
when it is first asked for.  Whoever makes it, and whoever sets a result, holds one lock of the module: so either the
result is seen by who made it, or it by who sets the result, who then does all that the standard library's does.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent import futures
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING
from typing import Any, Protocol

__all__ = ["Future", "finish"]


class Owner(Protocol):
    """Who knows what becomes of the tasks."""

    def withdraw(self, future: Future) -> bool | None:
        """Whether its task will not be run; None: it is done, or was withdrawn before."""

    def is_running(self, future: Future) -> bool:
        """Whether its task is run now."""


_MADE_LATE: dict[str, Callable[[], Any]] = {
    "_condition": threading.Condition, "_waiters": list, "_done_callbacks": list
}  # fmt: skip
_late = threading.Lock()


def _new_lock() -> None:
    global _late  # noqa: PLW0603
    _late = threading.Lock()  # another thread of the parent may have held it, and is not here to release it


os.register_at_fork(after_in_child=_new_lock)


class Future(futures.Future):  # type: ignore[type-arg]
    """The result, to be, of one task."""

    _state: str = PENDING
    _result: Any = None
    _exception: BaseException | None = None
    _ticket = 0
    _withdrawn = False

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def __getattr__(self, name: str) -> Any:
        make = _MADE_LATE.get(name)
        if make is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        with _late:
            return self.__dict__.setdefault(name, make())

    def cancel(self) -> bool:
        """Have the task not run; False if that is too late."""
        withdrawn = self._owner.withdraw(self)
        if withdrawn is None:
            return self._state in (CANCELLED, CANCELLED_AND_NOTIFIED) or self._withdrawn
        if not withdrawn or not super().cancel():
            return False
        self.set_running_or_notify_cancel()
        return True

    def running(self) -> bool:
        """Whether the task is run now."""
        return self._state == PENDING and self._owner.is_running(self)

    def done(self) -> bool:
        """Whether it was cancelled, or has run."""
        return self._state in (FINISHED, CANCELLED_AND_NOTIFIED, CANCELLED)

    def result(self, timeout: float | None = None) -> Any:
        """What the task returned; raises what it raised.  TimeoutError; CancelledError."""
        if self._state == FINISHED and self._exception is None:
            return self._result
        return super().result(timeout)


def finish(done: Iterable[tuple[Future, bool, Any]]) -> None:
    """Gives each its result, or its exception; none of them was cancelled."""
    watched = []
    with _late:
        for each in done:
            future, good, value = each
            state = future.__dict__
            if "_condition" in state or "_done_callbacks" in state or "_waiters" in state:
                watched.append(each)
            else:
                if good:
                    state["_result"] = value
                else:
                    state["_exception"] = value
                state["_state"] = FINISHED
    for future, good, value in watched:
        try:
            if good:
                future.set_result(value)
            else:
                future.set_exception(value)
        except futures.InvalidStateError:  # noqa: PERF203
            pass  # it was given up before: the executor broke, or its user set something
