"""A descriptor that an object owns: it is closed with it, once."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

from shmkit.errors import Closed

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Owner", "exchanged"]

_lock = threading.RLock()  # a signal's handler may come back to it


def _new_lock() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()  # another thread of the parent may have held it, and is not here to release it


os.register_at_fork(after_in_child=_new_lock)


def exchanged(thing: Any, name: str, value: Any) -> Any:
    """What an attribute was, which is ``value`` from now on: of several threads, one alone is told that."""
    with _lock:
        before = getattr(thing, name)
        setattr(thing, name, value)
    return before


class Owner:
    """The base of what has one, in ``_fd``; -1: it has none any more, or not yet."""

    __slots__ = ("__weakref__", "_fd")

    _fd: int

    def _what(self) -> str:
        """What messages call it."""
        return f"this {type(self).__name__}"

    def fileno(self) -> int:
        """The descriptor.  Closed."""
        if self._fd < 0:
            raise Closed(f"{self._what()} was closed by this process")
        return self._fd

    @property
    def closed(self) -> bool:
        """Whether this process has closed it."""
        return self._fd < 0

    def close(self) -> None:
        """Let go of it; again changes nothing.  A thread or task that waits through it gets Closed, within a second."""
        fd = exchanged(self, "_fd", -1)
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:  # else it was not made
            self.close()
