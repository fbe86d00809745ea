"""shmkit's queues as the tests get them, and some with a fault that the tests have to find.

They stand at the top of a module, for children find them by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import shmkit

NAMES = ("Queue", "SimpleQueue", "JoinableQueue")


class QueueThatIsAStack(shmkit.Queue):
    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        items = [super().get(block, timeout)]
        while not self.empty():
            items.append(super().get())
        for item in items[:-1]:
            self.put(item)
        return items[-1]


class QueueOfOneMore(shmkit.Queue):
    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize + (maxsize > 0))


class QueueThatNeverWaits(shmkit.Queue):
    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return super().get(False)


class SimpleQueueThatKeepsOne(shmkit.SimpleQueue):
    def empty(self) -> bool:
        return False


FAULTS: dict[str, dict[str, Callable[..., object]]] = {
    "stack": {"Queue": QueueThatIsAStack},
    "one-more": {"Queue": QueueOfOneMore},
    "never-waits": {"Queue": QueueThatNeverWaits},
    "never-empty": {"SimpleQueue": SimpleQueueThatKeepsOne},
}


def queues(fault: str) -> dict[str, Callable[..., object]]:
    """By name: those of shmkit, one of them replaced by that with a fault, if any is named."""
    made: dict[str, Callable[..., object]] = {name: getattr(shmkit, name) for name in NAMES}
    return made | (FAULTS[fault] if fault else {})
