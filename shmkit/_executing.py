"""The inside of an `Executor`: its queues, its workers, the tasks on their way, and the two threads that see to them.

``submit`` puts a task on the queue of calls itself, in the caller's thread.  One thread, the *collector*, gets what
comes back, many at a time, resolves futures, and puts what waited for its turn.  Another one, the *watcher*, sleeps
until a worker ends; what it then puts on the queue of results comes behind all that the dead one had put there.

It knows nothing of the Executor but a weak reference: what is submitted is done even if nobody has that any more.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from concurrent import futures
from concurrent.futures._base import PENDING
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from multiprocessing.connection import wait
from traceback import format_exception
from typing import Any, cast

from shmkit._claims import WORKERS_MOST, Claims
from shmkit._future import Future, finish
from shmkit._lock import Lock
from shmkit._queue_put import uncount
from shmkit._tally import ANSWERS
from shmkit._tasks import Pace, how_it_ended, refer
from shmkit._working import GONE, LEAVES, SUCCEEDED, UNFIT, work
from shmkit.errors import Full
from shmkit.queue import Queue

__all__ = ["Core"]

ON_THE_WAY = 1024  # tasks on the queue of calls, and with workers, at most
SECONDS_TO_END = 5.0  # for a worker that is told to (SIGTERM) when the executor breaks


_remote: Any = _RemoteTraceback  # whose stub wants what it is not given


class _Here:
    """Another object in each process."""

    process = object()
    cores: set[Core] = set()  # that have threads  # noqa: RUF012
    exiting = False

    @staticmethod
    def after_fork() -> None:
        _Here.process = object()
        _Here.cores = set()


def _at_exit() -> None:
    _Here.exiting = True
    cores = list(_Here.cores)
    for core in cores:
        core.bell.ring()
    for core in cores:
        core.join()


os.register_at_fork(after_in_child=_Here.after_fork)
# Before threads are joined, which is before atexit's functions are called.
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]


class Bell:
    """What wakes the watcher; may be rung by a finaliser, at any moment, in any thread."""

    def __init__(self) -> None:
        self.home = _Here.process
        self.lock = threading.RLock()
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self.fd

    def ring(self) -> None:
        if self.home is not _Here.process:
            return  # the lock may be held by a thread that was not forked
        with self.lock:
            if self.fd >= 0:
                os.eventfd_write(self.fd, 1)

    def heard(self) -> None:
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass

    def close(self) -> None:
        with self.lock:
            fd, self.fd = self.fd, -1
            if fd >= 0:
                os.close(fd)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class Core:
    """Everything but the words that users know."""

    def __init__(
        self, executor: object, most: int, context: Any, initializer: Any, initargs: Any, most_tasks: int | None
    ) -> None:
        self.most_workers = most
        self.context = context
        self.worker_args = (initializer, initargs, most_tasks)
        # Forking is for before there are threads.
        self.on_demand = context.get_start_method(allow_none=False) != "fork"
        self.home = _Here.process
        self.lock = threading.RLock()
        self.calls, self.results = Queue(), Queue()
        self.results._role = ANSWERS  # the collector has nothing else to do
        self.claims = Claims(ON_THE_WAY)
        self.lives = Lock(on_owner_death="recover")  # held as long as this process lives
        self.bell = Bell()
        self.under_way: dict[int, Future] = {}  # by ticket
        self.waiting: deque[tuple[Future, int, Any, Any, Any]] = deque()
        self.pace = Pace(2 * most, ON_THE_WAY)  # how many may be under way
        self.processes: dict[int, Any] = {}  # by pid
        self.numbers: dict[int, Any] = {}  # processes by the number that they claim tasks with
        self.unfit: dict[int, str] = {}  # by pid of a worker: what its initializer raised
        self.idle = 0  # workers that were started for a task, and have done it: as the standard library counts them
        self.refusal: Exception | None = None
        self.broken: str | bool = False
        self.cancels = False  # what has not begun, when it stops
        self.ended = False
        self.collector: threading.Thread | None = None
        bell = self.bell
        self.executor = weakref.ref(executor, lambda _: bell.ring())

    # --- submitting ------------------------------------------------------------------------------------------------

    def submit(self, how: int, function: Any, args: Any, options: Any) -> Future:
        """A future of the task.  RuntimeError; BrokenProcessPool."""
        if self.home is not _Here.process:
            raise RuntimeError("this executor belongs to the process that made it: a forked child makes its own")
        future = Future(self)
        with self.lock:
            if self.refusal is not None:
                raise type(self.refusal)(*self.refusal.args)
            if _Here.exiting:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            if self.collector is None:
                self._start()
            if self.on_demand:
                self._start_worker_if_needed(1)
                self.idle = max(0, self.idle - 1)
            if self.waiting or len(self.under_way) >= self.pace.depth or not (ticket := self.claims.offer()):
                self.waiting.append((future, how, function, args, options))
                ticket = 0
            else:
                self.under_way[ticket] = future
                future._ticket = ticket
        if ticket:
            self._send(ticket, future, how, function, args, options)
        return future

    def _send(self, ticket: int, future: Future, how: int, function: Any, args: Any, options: Any) -> None:
        module, name = refer(function)
        try:
            self.calls.put((ticket, how, module, name, args, options), False)
        except Full as error:
            with self.lock:
                if self.under_way.pop(ticket, None) is None:
                    return
                self.claims.settle(ticket)
                future._ticket = 0
                if self.under_way:
                    # There is no memory before some of these are done.
                    self.pace.slow_down()
                    self.waiting.appendleft((future, how, function, args, options))
                    return
            self._fail(future, error)
        except BaseException as error:
            with self.lock:
                if self.under_way.pop(ticket, None) is not None:
                    self.claims.settle(ticket)
            text = "".join(format_exception(type(error), error, error.__traceback__))
            error.__cause__ = _remote(f'\n"""\n{text}"""')
            self._fail(future, error)
            self.bell.ring()  # somebody may wait for the last one
            if not isinstance(error, Exception):
                raise

    def _fail(self, future: Future, error: BaseException) -> None:
        try:
            future.set_exception(error)
        except futures.InvalidStateError:
            pass  # it was cancelled

    def withdraw(self, future: Future) -> bool | None:
        """See `shmkit._future.Owner`."""
        with self.lock:
            if future._state != PENDING or future._withdrawn:
                return None
            if future._ticket and (future._ticket not in self.under_way or not self.claims.withdraw(future._ticket)):
                return False
            future._withdrawn = True
            return True

    def is_running(self, future: Future) -> bool:
        """See `shmkit._future.Owner`."""
        return future._ticket != 0 and self.claims.holder(future._ticket) > 0

    # --- workers ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if not self.lives.acquire(False):
            raise RuntimeError("the executor's lock is held by nobody that could have it")
        try:
            while not self.on_demand and len(self.processes) < self.most_workers:
                self._start_worker()
            self.collector = threading.Thread(target=self._collect, name="shmkit-executor-collector")
            self.collector.start()
        except BaseException:
            self.collector = None
            for process in self.processes.values():
                process.terminate()
                process.join()
            self.processes.clear()
            self.numbers.clear()
            self.lives.release()
            raise
        _Here.cores.add(self)

    def _start_worker(self) -> None:
        number = next(number for number in range(1, WORKERS_MOST + 1) if number not in self.numbers)
        process = self.context.Process(
            target=work, args=(self.calls, self.results, self.claims, number, self.lives, *self.worker_args)
        )
        process.start()
        self.processes[process.pid] = process
        self.numbers[number] = process
        self.bell.ring()

    def _start_worker_if_needed(self, more: int = 0) -> None:
        """Starts one if there are more tasks than workers, `more` of them still to come, or nobody is idle for one."""
        if len(self.processes) >= self.most_workers or self.ended:
            return
        if len(self.under_way) + len(self.waiting) + more > len(self.processes) or (more and not self.idle):
            self._start_worker()

    # --- collecting ------------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        watcher = threading.Thread(target=self._watch, name="shmkit-executor-watcher")
        try:
            watcher.start()
        except RuntimeError as error:  # the interpreter ends
            self._break("its threads cannot be started any more", error)
            self.ended = True
        while not self.ended:
            try:
                self._step()
            except BaseException as error:  # so that nobody waits for ever  # noqa: PERF203
                self._break("its collector failed", error)
        self.bell.ring()
        if watcher.ident is not None:
            watcher.join()
        self.bell.close()
        # A worker may have been killed before it had come to have them.
        self.calls._forget_references()
        self.results._forget_references()
        _Here.cores.discard(self)
        self.collector = None

    def _step(self) -> None:
        """Deals with what has come; waits until something does."""
        leaving: list[int] = []
        gone: list[int] = []
        done: list[tuple[Future, bool, Any]] = []
        try:
            messages = self.results.get_many(ON_THE_WAY)
        except BaseException as error:
            self._break("a result could not be unpickled", error)
            return
        with self.lock:
            for message in messages:
                if message is None:
                    uncount(message)
                    continue
                ticket, status, value = message
                if status < 0:
                    uncount(message)
                if status == GONE:
                    gone.append(value)
                    continue
                if status == UNFIT:
                    self.unfit[self.numbers[value[0]].pid] = value[1]
                    continue
                future = self.under_way.pop(ticket, None)
                if future is None:
                    continue
                self.claims.settle(ticket)
                self.idle += 1
                if status < 0:
                    continue
                done.append((future, status & SUCCEEDED == SUCCEEDED, value))
                if status & LEAVES:
                    leaving.append(status // 4)
        self.pace.done(len(done))
        finish(done)
        # Nothing of it is kept while there is nothing to do.
        messages = message = value = future = None  # type: ignore[assignment]
        done.clear()
        for number in leaving:
            self._let_leave(number)
        if self.cancels and self._stops():
            self._cancel()
        unexpected = [self.processes[pid] for pid in gone if pid in self.processes]
        if unexpected and (self.under_way or self.waiting or not self._stops()):
            self._break("; ".join(map(self._end_of, unexpected)), None)
            return
        for process in unexpected:
            self._forget(process)
        self._feed()
        if self._stops():
            self._stop()

    def _feed(self) -> None:
        """Puts those whose turn has come."""
        while self.waiting:
            with self.lock:
                if len(self.under_way) >= self.pace.depth or not self.waiting:
                    return
                task = self.waiting.popleft()
                future = task[0]
                if future._withdrawn:
                    continue
                future._ticket = ticket = self.claims.offer()
                self.under_way[ticket] = future
            self._send(ticket, *task)

    def _let_leave(self, number: int) -> None:
        """Waits for a worker that has done as much as it may, and starts another if there is work for it."""
        with self.lock:
            process = self.numbers[number]
        process.join()
        self._forget(process)
        try:
            with self.lock:
                self._start_worker_if_needed()
        except BaseException as error:
            self._break("a worker could not be started", error)

    def _forget(self, process: Any) -> None:
        with self.lock:
            for pid in [pid for pid, one in self.processes.items() if one is process]:
                del self.processes[pid]
            for number in [number for number, one in self.numbers.items() if one is process]:
                del self.numbers[number]

    # --- ending ----------------------------------------------------------------------------------------------------

    def stop(self, cancels: bool) -> None:
        """Takes no more tasks, and ends when what it has is done."""
        if self.home is not _Here.process:
            return  # a forked child has no part in it
        with self.lock:
            if self.refusal is None:
                self.refusal = RuntimeError("cannot schedule new futures after shutdown")
            self.cancels |= cancels
        self.bell.ring()

    def join(self) -> None:
        """Returns when it has ended."""
        collector = self.collector
        if collector is not None and self.home is _Here.process:
            collector.join()

    def _stops(self) -> bool:
        return _Here.exiting or self.refusal is not None or self.executor() is None

    def _cancel(self) -> None:
        with self.lock:
            # The first few are what the workers were started for, even if they have not come to them yet.
            pending = [*self.under_way.values(), *(task[0] for task in self.waiting)][len(self.processes) :]
        for future in pending:
            future.cancel()
        self._feed()  # passes over them

    def _stop(self) -> None:
        with self.lock:
            if self.refusal is None:
                self.refusal = RuntimeError("cannot schedule new futures after shutdown")
            if self.under_way or self.waiting:
                return
            self.ended = True
            processes = list(self.processes.values())
        for _ in processes:
            self.calls.put(None)
        for process in processes:
            process.join()
            self._forget(process)
        self.lives.release()

    def _break(self, why: str, error: BaseException | None) -> None:
        """A worker has ended that was not to, or what it said is not understood: nothing is to be had of the rest."""
        with self.lock:
            self.broken = (
                f"A child process terminated abruptly, the process pool is not usable anymore: {why}"
                if error is None
                else f"The process pool is not usable anymore: {why}"
            )
            if self.refusal is None or isinstance(self.refusal, RuntimeError):
                self.refusal = BrokenProcessPool(self.broken)
            pending = [*self.under_way.values(), *(task[0] for task in self.waiting)]
            for ticket in self.under_way:
                self.claims.settle(ticket)
            self.under_way.clear()
            self.waiting.clear()
            self.ended = True
            processes = list(self.processes.values())
        for process in processes:
            process.terminate()
        for future in pending:
            failure = BrokenProcessPool(
                f"A process in the process pool was terminated abruptly while the future was running or pending: {why}"
                if error is None
                else f"The process pool broke while the future was running or pending: {why}"
            )
            if error is not None:
                text = "".join(format_exception(type(error), error, error.__traceback__))
                failure.__cause__ = _remote(f"\n'''\n{text}'''")
            self._fail(future, failure)
        for process in processes:
            process.join(SECONDS_TO_END)
            if process.exitcode is None:
                process.kill()
                process.join()
            self._forget(process)

    def kill(self, hard: bool) -> None:
        """Ends the workers, whatever they do."""
        if self.home is not _Here.process:
            return
        with self.lock:
            processes = list(self.processes.values())
        self.stop(True)
        for process in processes:
            try:
                if process.is_alive():
                    (process.kill if hard else process.terminate)()
            except (ProcessLookupError, ValueError):  # noqa: PERF203
                pass  # it has ended

    def _watch(self) -> None:
        """Tells the collector of the bell, and of workers that have ended."""
        told: set[int] = set()
        while not self.ended:
            with self.lock:
                watched = {process.sentinel: pid for pid, process in self.processes.items() if pid not in told}
            for ready in wait([*watched, cast(Any, self.bell)]):
                if isinstance(ready, Bell):
                    ready.heard()
                    self.results.put(None)
                else:
                    told.add(watched[ready])
                    self.results.put((0, GONE, watched[ready]))
            told &= self.processes.keys()

    def _end_of(self, process: Any) -> str:
        process.join()
        ended: str = how_it_ended(process.pid, process.exitcode)
        why = self.unfit.get(process.pid)
        return ended if why is None else f"{ended}: {why}"
