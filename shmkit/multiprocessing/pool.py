"""``multiprocessing.pool`` with a Pool on shmkit's queues, which says so when a worker was killed, and goes on.

The standard library's pool waits for ever for the result of a task whose worker was killed.  Here that task ends with
`shmkit.WorkerDied`, a chunk of `map` as a whole, and another worker is started.  Words, results and their order are
the standard library's, whose class this one is derived from; what differs is how tasks get to workers and back
(``_pool_line.py``).  ThreadPool is the standard library's own.
"""

from __future__ import annotations

import multiprocessing.pool as _theirs
import os
import queue
import threading
from contextlib import suppress
from multiprocessing import get_context, util
from multiprocessing.connection import wait
from typing import Any

from shmkit._tally import TASKS
from shmkit.multiprocessing._pool_line import GONE, Line, work
from shmkit.multiprocessing._same import attributes_of
from shmkit.multiprocessing.queues import SimpleQueue

__all__ = ["Pool", "ThreadPool"]

__getattr__, __dir__ = attributes_of(_theirs)

ThreadPool = _theirs.ThreadPool

ApplyResult = _theirs.ApplyResult
RUN, TERMINATE = _theirs.RUN, _theirs.TERMINATE

PATIENCE = 0.5  # seconds until it is tried again to start a worker


class Pool(_theirs.Pool):
    """A pool of worker processes; see ``multiprocessing.pool.Pool``, which it is."""

    _state: str = _theirs.INIT  # for __del__, whatever becomes of __init__
    _wrap_exception: bool
    _initializer: Any
    _initargs: Any

    @classmethod
    def _stands_for(cls, kind: type) -> bool:
        """Not for pools with queues of their own, such as those of threads."""
        return kind._setup_queues is _theirs.Pool._setup_queues  # type: ignore[attr-defined]

    def __init__(
        self,
        processes: int | None = None,
        initializer: Any = None,
        initargs: Any = (),
        maxtasksperchild: Any = None,
        context: Any = None,
    ) -> None:
        self._pool: list[Any] = []
        if processes is None:
            processes = _processors()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._ctx: Any = get_context() if context is None else context
        self._processes = processes
        self._maxtasksperchild = maxtasksperchild
        self._initializer, self._initargs = initializer, initargs
        self._setup_queues()
        self._line = Line(self._inqueue._queue, self._outqueue._queue, processes)
        self._taskqueue: Any = _Tasks()
        self._change_notifier = SimpleQueue()
        self._change_notifier._queue._role = TASKS  # of which none is counted
        self._cache: Any = _Cache(notifier=self._change_notifier)
        try:
            self._repopulate_pool()
        except Exception:
            for process in self._pool:
                if process.exitcode is None:
                    process.terminate()
            for process in self._pool:
                process.join()
            raise
        # None of the threads has the pool itself, so that one which nobody has any more can go.
        line, pool, cache = self._line, self._pool, self._cache
        crew = (line, self._ctx, self.Process, processes, pool, initializer, initargs, maxtasksperchild)
        wraps = self._wrap_exception
        self._worker_handler = _start(_look_after_workers, crew, wraps, cache, self._taskqueue, self._change_notifier)
        cache.handler = self._worker_handler
        self._task_handler = _start(_send_tasks, line, pool, cache, self._taskqueue)
        self._result_handler = _start(_give_results, line, cache)
        self._terminate = util.Finalize(
            self, _end,
            args=(line, pool, self._taskqueue, self._change_notifier,
                  self._worker_handler, self._task_handler, self._result_handler),
            exitpriority=15,
        )  # fmt: skip
        self._state = RUN

    def _setup_queues(self) -> None:
        self._inqueue: Any = SimpleQueue()
        self._outqueue: Any = SimpleQueue()
        self._quick_put = self._inqueue._writer.send
        self._quick_get = self._outqueue._reader.recv

    def apply_async(
        self,
        func: Any,
        args: Any = (),
        kwds: Any = {},  # noqa: B006  (the standard library's signature; it is not changed)
        callback: Any = None,
        error_callback: Any = None,
    ) -> Any:
        """Run ``func(*args, **kwds)`` in a worker; see ``multiprocessing.pool.Pool``.

        Sent by the calling thread where nothing else is waiting to be sent, so that tasks stay in their order.
        """
        self._check_running()  # type: ignore[attr-defined]
        result: Any = ApplyResult(self, callback, error_callback)
        task = (result._job, 0, func, args, kwds)
        try:
            if self._taskqueue.unsent or not self._line.put_at_once(task):
                self._taskqueue.put(([task], None))
        except BaseException:
            with suppress(KeyError):
                del self._cache[result._job]
            raise
        return result

    def _map_async(
        self,
        func: Any,
        iterable: Any,
        mapper: Any,
        chunksize: int | None = None,
        callback: Any = None,
        error_callback: Any = None,
    ) -> Any:
        """As the standard library's, which divides by the number of workers of this moment: all may have just ended."""
        self._check_running()  # type: ignore[attr-defined]
        if chunksize is None:
            if not hasattr(iterable, "__len__"):
                iterable = list(iterable)
            chunksize = -(-len(iterable) // (4 * self._processes))
        return super()._map_async(func, iterable, mapper, chunksize, callback, error_callback)  # type: ignore[misc]

    def _repopulate_pool(self) -> None:
        """Starts as many workers as there are too few."""
        _repopulate(
            (self._line, self._ctx, self.Process, self._processes, self._pool, self._initializer, self._initargs,
             self._maxtasksperchild),
            self._wrap_exception,
        )  # fmt: skip


class _Cache(_theirs._PoolCache):  # type: ignore[name-defined,misc]
    """Results that are waited for.  That it is empty is told to who looks after the workers when that is awaited: once
    the pool is closed, which is told too.  Else each task by itself would wake that thread.
    """

    handler: Any = None

    def __delitem__(self, item: int) -> None:
        dict.__delitem__(self, item)
        if len(self) == 0 and (self.handler is None or self.handler._state != RUN):
            self.notifier.put(None)


class _Tasks(queue.SimpleQueue):  # type: ignore[type-arg]
    """What the thread that sends tasks has still to send, which knows whether that is anything at all."""

    def __init__(self) -> None:
        # By identity.  Not a count: a put may come amid another one, in a signal handler or a finalizer.
        self.unsent: dict[int, Any] = {}

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        if item is not None:
            self.unsent[id(item)] = item
        super().put(item)


def _processors() -> int:
    count: int | None = getattr(os, "process_cpu_count", os.cpu_count)()
    return count or 1


def _start(run: Any, *args: Any) -> Any:
    thread: Any = threading.Thread(target=run, args=args, daemon=True)
    thread._state = RUN
    thread.start()
    return thread


def _repopulate(crew: Any, wraps: bool) -> None:
    line, context, make, processes, pool, initializer, initargs, most = crew
    for _ in range(processes - len(pool)):
        number = line.new_number()
        process = make(
            context, target=work,
            args=(line.calls, line.results, line.claims, number, line.lives, initializer, initargs, most, wraps),
        )  # fmt: skip
        process.name = process.name.replace("Process", "PoolWorker")
        process.daemon = True
        process._shmkit_number = number
        try:
            process.start()
        except BaseException:
            line.numbers.pop(number)
            raise
        pool.append(process)
        util.debug("added worker")


def _look_after_workers(crew: Any, wraps: bool, cache: Any, taskqueue: Any, notifier: Any) -> None:
    """Starts workers for those that have ended, and has their tasks end, as long as there may be tasks."""
    thread: Any = threading.current_thread()
    line, pool = crew[0], crew[4]
    while thread._state == RUN or (cache and thread._state != TERMINATE):
        ended = [process for process in pool if process.exitcode is not None]
        for process in ended:
            process.join()
            pool.remove(process)
            line.results.put((0, GONE, (process._shmkit_number, process.name, process.pid, process.exitcode)))
        patience = None
        try:
            if line.over is None:
                _repopulate(crew, wraps)
        except OSError as error:  # there is no room for another process just now
            util.debug("no worker could be started: %s", error)
            patience = PATIENCE
        wait([notifier._reader, *(process.sentinel for process in pool)], patience)
        while not notifier.empty():
            notifier.get()
    taskqueue.put(None)
    util.debug("worker handler exiting")


def _send_tasks(line: Line, pool: Any, cache: Any, taskqueue: Any) -> None:
    """Puts tasks, as they come, until the end of them."""
    thread: Any = threading.current_thread()

    def goes_on() -> bool:
        return bool(thread._state == RUN)

    def slowly(task: Any) -> bool:
        try:
            return line.put(task, goes_on)
        except Exception as error:
            with suppress(KeyError):
                cache[task[0]]._set(task[1], (False, error))
            return True

    for item in iter(taskqueue.get, None):
        tasks, set_length = item
        try:
            length = line.put_each(tasks, thread, RUN, slowly)
            if length < 0:
                break
            if set_length:
                set_length(length)
        finally:
            taskqueue.unsent.pop(id(item), None)
            item = tasks = set_length = None
    line.results.put(None)
    for _ in list(pool):
        line.calls.put(None)
    util.debug("task handler exiting")


def _give_results(line: Line, cache: Any) -> None:
    """Gives results to whom they are for; when there will be no more tasks, until the last one has come."""
    thread: Any = threading.current_thread()
    ended = False
    while (not ended or cache) and thread._state == RUN:
        ended |= line.get(cache)
    util.debug("result handler exiting: len(cache)=%s, thread._state=%s", len(cache), thread._state)


def _end(
    line: Line, pool: Any, taskqueue: Any, notifier: Any, worker_handler: Any, task_handler: Any, result_handler: Any
) -> None:
    """Ends everything; called once."""
    util.debug("finalizing pool")
    worker_handler._state = task_handler._state = TERMINATE
    notifier.put(None)
    taskqueue.put(None)
    line.room.set()
    me = threading.current_thread()
    # Before the workers end: it would start others.
    if me is not worker_handler:
        worker_handler.join()
    result_handler._state = TERMINATE
    line.results.put(None)
    util.debug("terminating workers")
    for process in pool:
        if process.exitcode is None:
            process.terminate()
    for handler in (task_handler, result_handler):
        if me is not handler:
            handler.join()
    util.debug("joining pool workers")
    for process in pool:
        if process.is_alive():
            process.join()
    # One of them may have been killed before it had come to have them.
    line.calls._forget_references()
    line.results._forget_references()
