"""``Executor``: ``concurrent.futures``' ProcessPoolExecutor on shmkit's queues."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from operator import index
from typing import Any, TypeVar

from shmkit._claims import WORKERS_MOST
from shmkit._executing import Core
from shmkit._future import Future
from shmkit._tasks import CALL, EACH_STAR

__all__ = ["Executor"]

T = TypeVar("T")


def _processors() -> int:
    count = getattr(os, "process_cpu_count", os.cpu_count)()
    return min(count or 1, WORKERS_MOST)


class Executor(futures.Executor):
    """Runs functions in worker processes: ``concurrent.futures.ProcessPoolExecutor``, at a few microseconds a task.

    It has the words, the arguments and the exceptions of that, those of the newest Python on every one:
    ``max_tasks_per_child``, ``map`` with ``buffersize``, ``terminate_workers``, ``kill_workers``.  Arrays in arguments
    and results are copied once, into shared memory, and not pickled; a ``SharedArray`` is not copied at all.

    A worker that is killed breaks the executor, at once: every future that is not done raises
    ``concurrent.futures.process.BrokenProcessPool``, which says who died of what.  When the executor's own process is
    killed, the workers end.  In a forked child it refuses: it belongs to the process that made it.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        if max_workers is None:
            max_workers = _processors()
        elif index(max_workers) <= 0:
            raise ValueError("max_workers must be greater than 0")
        elif max_workers > WORKERS_MOST:
            raise ValueError(f"max_workers must be <= {WORKERS_MOST}")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        if mp_context is None:
            mp_context = multiprocessing.get_context("spawn" if max_tasks_per_child is not None else None)
        if max_tasks_per_child is not None and mp_context.get_start_method(allow_none=False) == "fork":
            raise ValueError(
                "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method; "
                "supply a different mp_context."
            )
        self._max_workers = max_workers
        self._mp_context = mp_context
        self._core = Core(self, max_workers, mp_context, initializer, initargs, max_tasks_per_child)

    # What programs look at, under the names that it has in the standard library.

    @property
    def _processes(self) -> dict[int, Any]:
        return self._core.processes

    @property
    def _broken(self) -> str | bool:
        return self._core.broken

    @property
    def _executor_manager_thread(self) -> Any:
        return self._core.collector

    @property
    def _call_queue(self) -> Any:
        return self._core.calls

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> futures.Future[T]:
        """A future of ``fn(*args, **kwargs)`` in a worker.  RuntimeError after `shutdown`; BrokenProcessPool."""
        return self._core.submit(CALL, fn, args, kwargs or None)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """An iterator of ``fn``'s results, in the order of the arguments, which ``zip(*iterables)`` gives.

        With ``chunksize`` as many calls are one task.  With ``buffersize`` at most as many tasks are under way, or
        done and not asked for yet: the iterables are read as results are.  TimeoutError if a result is not there
        ``timeout`` seconds after this call.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        deadline = None if timeout is None else time.monotonic() + timeout
        core = self._core
        arguments = zip(*iterables)  # noqa: B905 (the shortest one ends it)
        if chunksize == 1:
            tasks = (core.submit(CALL, fn, each, None) for each in arguments)
        else:
            chunks = iter(lambda: tuple(itertools.islice(arguments, chunksize)), ())
            tasks = (core.submit(EACH_STAR, fn, chunk, None) for chunk in chunks)
        results = _results(deque(itertools.islice(tasks, buffersize)), None if buffersize is None else tasks, deadline)
        return results if chunksize == 1 else itertools.chain.from_iterable(results)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; those that were submitted are done, but for those that ``cancel_futures`` still can.

        With ``wait``, return when they are, and the workers have ended.  Idempotent.
        """
        self._core.stop(cancel_futures)
        if wait:
            self._core.join()

    def terminate_workers(self) -> None:
        """End the workers (SIGTERM), whatever they do, and shut down without waiting; what is not done is lost."""
        self._core.kill(hard=False)

    def kill_workers(self) -> None:
        """Likewise, with SIGKILL."""
        self._core.kill(hard=True)

    def __repr__(self) -> str:
        core = self._core
        state = "broken " if core.broken else "shut down " if core.refusal is not None else ""
        return f"<{state}shmkit.{type(self).__name__} of {self._max_workers} workers at {id(self):#x}>"


def _results(under_way: deque[Future], more: Iterator[Future] | None, deadline: float | None) -> Iterator[Any]:
    """What they return, in order; if that is not all asked for, the rest are cancelled."""
    try:
        while under_way:
            if more is not None:
                under_way.extend(itertools.islice(more, 1))
            # Nothing here has the result while it is used.
            yield _result_or_cancel(under_way.popleft(), deadline)
    finally:
        for future in under_way:
            future.cancel()


def _result_or_cancel(future: Future, deadline: float | None) -> Any:
    try:
        try:
            return future.result(None if deadline is None else deadline - time.monotonic())
        finally:
            future.cancel()
    finally:
        del future  # an exception's traceback would have it
