"""The drop-in with a fault that the tests have to find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shmkit.multiprocessing import _beneath, connection, queues, shared_memory, synchronize


def lock_that_is_always_free() -> None:
    acquire = _beneath.LockBeneath.acquire

    def broken(self: _beneath.LockBeneath, block: bool = True, timeout: float | None = None) -> bool:
        acquire(self, False)
        return True

    _beneath.LockBeneath.acquire = broken  # type: ignore[method-assign]


def condition_that_wakes_all() -> None:
    notify = synchronize.Condition.notify

    def broken(self: synchronize.Condition, n: int = 1) -> None:
        notify(self, 1 << 62)

    synchronize.Condition.notify = broken  # type: ignore[method-assign]


def barrier_that_holds_nobody() -> None:
    synchronize.Barrier.wait = lambda self, timeout=None: 0  # type: ignore[method-assign]


def queue_that_is_a_stack() -> None:
    get = queues.Queue.get

    def broken(self: queues.Queue, block: bool = True, timeout: float | None = None) -> Any:
        items = [get(self, block, timeout)]
        while not self.empty():
            items.append(get(self))
        for item in items[:-1]:
            self.put(item)
        return items[-1]

    queues.Queue.get = broken  # type: ignore[method-assign]


def memory_that_goes_when_it_is_closed() -> None:
    close = shared_memory.SharedMemory.close

    def broken(self: shared_memory.SharedMemory) -> None:
        if self._segment is not None and not self._segment.closed:
            self._segment.unlink(missing_ok=True)
        close(self)

    shared_memory.SharedMemory.close = broken  # type: ignore[method-assign]


def pipe_that_loses_messages() -> None:
    send = connection.Connection.send
    sent = [0]

    def broken(self: connection.Connection, obj: Any) -> None:
        sent[0] += 1
        if sent[0] % 10:
            send(self, obj)

    connection.Connection.send = broken  # type: ignore[method-assign]


def pipe_that_says_too_much() -> None:
    connection.Connection._poll = lambda self, timeout: True  # type: ignore[method-assign]


FAULTS: dict[str, Callable[[], None]] = {
    "lock-always-free": lock_that_is_always_free,
    "condition-wakes-all": condition_that_wakes_all,
    "barrier-holds-nobody": barrier_that_holds_nobody,
    "queue-is-a-stack": queue_that_is_a_stack,
    "memory-goes": memory_that_goes_when_it_is_closed,
    "pipe-loses": pipe_that_loses_messages,
    "pipe-says-too-much": pipe_that_says_too_much,
}
