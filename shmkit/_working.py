"""What the workers of an `Executor` run."""

from __future__ import annotations

from concurrent.futures import _base
from concurrent.futures import process as _process

from shmkit._tally import TASKS
from shmkit._tasks import perform
from shmkit.errors import Empty, HeapFull

TYPE_CHECKING = False  # a child that is spawned need not import typing
if TYPE_CHECKING:
    from typing import Any

    from shmkit._claims import Claims
    from shmkit._lock import Lock
    from shmkit.queue import Queue

__all__ = ["FAILED", "GONE", "LEAVES", "PASSED_OVER", "SUCCEEDED", "UNFIT", "work"]

# What a worker says of a task, (ticket, status, value); one that leaves adds its number, times 4.
FAILED = 0
SUCCEEDED = 1
LEAVES = 2
PASSED_OVER = -1  # it was withdrawn
GONE = -2  # not a worker's word: what who watches them says of a process that has ended
UNFIT = -3  # value: a worker's number, and what its initializer raised

_with_traceback: Any = _process._ExceptionWithTraceback

PATIENCE = 1.0  # seconds between two looks whether there is still an executor
WITHOUT_ROOM = 60  # such looks, until a result for which there is no memory is given up


def work(
    calls: Queue,
    results: Queue,
    claims: Claims,
    number: int,
    executor_lives: Lock,
    initializer: Any,
    initargs: Any,
    most: int | None,
) -> None:
    """Does tasks until it is told to go, has done `most` of them, or its executor's process has ended."""
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException as error:
            _base.LOGGER.critical("Exception in initializer:", exc_info=True)
            _report_unfit(results, number, initializer, error)
            return  # which breaks the executor
    left = most or -1
    calls._role = TASKS
    while True:
        try:
            task = calls.get(True, PATIENCE)
        except Empty:
            if executor_lives.acquire(timeout=0.001):  # its process had it, as long as it lived
                return
            continue
        if task is None:
            return
        ticket = task[0]
        if not claims.claim(ticket, number):
            results.put((ticket, PASSED_OVER, None))
            continue
        calls._count_got()
        left -= 1
        leaves = 0 if left else number * 4 + LEAVES
        try:
            message = (ticket, leaves + SUCCEEDED, perform(*task[1:]))
        except BaseException as error:
            message = (ticket, leaves + FAILED, _with_traceback(error, error.__traceback__))
        try:
            delivered = _deliver(results, message, executor_lives)
        except BaseException as error:
            wrapped = _with_traceback(error, error.__traceback__)
            delivered = _deliver(results, (ticket, leaves + FAILED, wrapped), executor_lives)
        if leaves or not delivered:
            return
        # What was got, and what was made of it, may be large, and is not to outlive the task.
        del task, message


def _report_unfit(results: Queue, number: int, initializer: Any, error: BaseException) -> None:
    from traceback import format_exception_only

    what = getattr(initializer, "__qualname__", None) or repr(initializer)
    why = "".join(format_exception_only(type(error), error)).strip()
    try:
        results.put((0, UNFIT, (number, f"its initializer {what} raised {why}")), False)
    except Exception:
        pass  # that it ended is seen


def _deliver(results: Queue, message: Any, executor_lives: Lock) -> bool:
    """Puts it; False if nobody is left to get it."""
    for look in range(WITHOUT_ROOM):
        try:
            results.put(message, True, PATIENCE)
            break
        except HeapFull:
            # Somebody may let go of what it has received.
            if executor_lives.acquire(timeout=0.001):
                return False
            if look == WITHOUT_ROOM - 1:
                raise
    return True
