"""posix_ipc and sysv_ipc: where Python runs without a GIL, each imported when something of it is first used.

There they switch the GIL on, as neither says that it can do without.  Few programs use what they are for (memory,
semaphores and message queues that others made), and that is the price of using them, not of importing shmkit.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

__all__ = ["posix_ipc", "sysv_ipc"]


class _Later:
    """Stands for a module."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        value = getattr(import_module(self._module), name)
        self.__dict__[name] = value
        return value


_how = import_module if getattr(sys, "_is_gil_enabled", lambda: True)() else _Later
posix_ipc: Any = _how("posix_ipc")
sysv_ipc: Any = _how("sysv_ipc")
