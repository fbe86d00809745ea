"""Children by os.fork, which multiprocessing knows nothing of."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

__all__ = ["fork"]

WATCHDOG = 60.0


def fork(work: Callable[[], None]) -> int:
    """A child by os.fork, which ends with status 0 if its work came to an end."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(int(WATCHDOG))
            work()
            status = 0
        finally:
            os._exit(status)
    return pid
