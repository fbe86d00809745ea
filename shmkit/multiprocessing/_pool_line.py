"""What goes to a pool's workers and comes back: two queues, and between them the tasks that are on their way.

Whoever looks after the pool is told, in the queue of results and behind all that a worker had put there, that it has
ended.  Then it is known what became of each task: claimed by the dead one and not answered, it ends with `WorkerDied`;
claimed by nobody, it may have been in the dead one's hands, and is put again, as a task that stands in the queue twice
is run once.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.pool import (  # type: ignore[attr-defined]
    ApplyResult,
    ExceptionWithTraceback,
    MaybeEncodingError,
    _helper_reraises_exception,
    mapstar,
    starmapstar,
)
from typing import Any

from shmkit._claims import WORKERS_MOST, Claims
from shmkit._lock import Lock
from shmkit._queue import QueueBase
from shmkit._tasks import CALL, EACH, EACH_STAR, Pace, how_it_ended, perform, refer
from shmkit.errors import Empty, Full, HeapFull, WorkerDied

__all__ = ["Line", "work"]

ON_THE_WAY = 1024  # tasks, at most
PATIENCE = 1.0  # seconds between two looks whether there is still a pool

# What is said of a task, (ticket, status, value), where it is not a worker's answer.
FAILED, SUCCEEDED = 0, 1
GONE = -2  # value: number, name, pid and exit code of a worker
MARK = -3  # see Line.look_for_lost
FIT = -4  # value: number of a worker that is ready for tasks
UNFIT_MOST = 10  # workers in a row that end before they are, at least, until no more are started
WITHOUT_ROOM = 60  # such looks, until a result for which there is no memory is given up
AGAIN = 0.005  # seconds between two marks


class Line:
    """Seen from the pool."""

    def __init__(self, calls: QueueBase, results: QueueBase, workers: int) -> None:
        self.calls, self.results = calls, results
        self.workers = workers
        self.call = partial(QueueBase.put, calls)  # a SimpleQueue's own takes no time-out
        self.claims = Claims(ON_THE_WAY)
        self.lives = Lock(on_owner_death="recover")  # held as long as this process lives
        self.lives.acquire()
        self.lock = threading.Lock()
        self.tasks: dict[int, Any] = {}  # on their way, by ticket
        self.pace = Pace(2 * workers, ON_THE_WAY)  # how many may be
        self.room = threading.Event()  # set when there is room again, or when it does not matter any more
        self.numbers: dict[int, bool] = {}  # of workers, which they claim tasks with: whether it came to be ready
        self.unfit = 0  # how many of them in a row did not
        self.unfit_most = max(UNFIT_MOST, 3 * workers)
        self.over: WorkerDied | None = None  # why there will be no more workers
        self.unread: list[BaseException] = []  # why results could not be unpickled, whose tasks are not known yet

    def new_number(self) -> int:
        """For a worker to claim tasks with."""
        with self.lock:
            number = next(number for number in range(1, WORKERS_MOST + 1) if number not in self.numbers)
            self.numbers[number] = False
        return number

    # --- there -----------------------------------------------------------------------------------------------------

    def put(self, task: Any, goes_on: Callable[[], bool]) -> bool:
        """Sends a task, once there is room; False if it is not to be sent any more.  What pickling raises."""
        while len(self.tasks) >= self.pace.depth:
            self.room.clear()
            if len(self.tasks) >= self.pace.depth:
                self.room.wait(PATIENCE)
            if not goes_on():
                return False
        message = _message(task)
        while (ticket := self._ticket(task, True)) == 0:  # `put_at_once` has taken the last place
            self.room.clear()
            self.room.wait(0.001)
            if not goes_on():
                return False
        if self.over is not None and self.tasks.pop(ticket, None) is not None:  # else `give_up` has seen it
            self.claims.settle(ticket)
            raise self.over
        try:
            while True:
                try:
                    self.call((ticket, *message), False)
                    return True
                except Full:  # noqa: PERF203
                    # There is no memory until somebody lets go of some.
                    if len(self.tasks) == 1 or not goes_on():
                        raise
                    self.pace.slow_down()
                    self.room.clear()
                    self.room.wait(0.01)
        except BaseException:
            if self.tasks.pop(ticket, None) is not None:
                self.claims.settle(ticket)
            raise

    def put_at_once(self, task: Any) -> bool:
        """Sends a task for the thread that has it, which saves a hop from thread to thread; False if it was not sent.

        Then there is no room, or no memory, or it cannot be pickled: `put` waits for those and says that, in a thread
        in which a callback disturbs nobody.
        """
        if len(self.tasks) >= self.pace.depth:
            return False
        message = _message(task)
        ticket = self._ticket(task, False)
        if ticket == 0:
            return False
        try:
            if self.over is None:
                self.call((ticket, *message), False)
                return True
        except Exception:
            return not self._take_back(ticket)
        except BaseException:
            self._take_back(ticket)
            raise
        return not self._take_back(ticket)

    def _ticket(self, task: Any, waits: bool) -> int:
        """One for a task that is on its way from now on; 0: there is no place for it, or somebody just takes one."""
        # `put_at_once` does not wait: it may be called by a signal handler or a finalizer, amid another one's call.
        if not self.lock.acquire(waits):
            return 0
        try:
            ticket = self.claims.offer()
            if ticket:
                self.tasks[ticket] = task
        finally:
            self.lock.release()
        return ticket

    def _take_back(self, ticket: int) -> bool:
        """Whether a task that could not be put is on its way no more, and nobody has said what became of it.

        A worker may have it all the same: `hear` puts again what it sees on its way and unclaimed.
        """
        if not self.claims.withdraw(ticket) or self.tasks.pop(ticket, None) is None:
            return False
        self.claims.settle(ticket)
        return True

    # --- back ------------------------------------------------------------------------------------------------------

    def get(self, cache: Any) -> bool:
        """Waits until something comes back, and gives it to whom it is for; whether that was an end (None)."""
        # One result at a time is as quick as who waits for it and who makes it, and they need the cores.  A spinner has
        # them, and who yields waits for a whole turn of everybody who is running.
        self.results._sleeps = len(self.tasks) <= self.workers
        try:
            messages = self.results.get_many(ON_THE_WAY)
        except Exception as error:
            self.unread.append(error)
            self.look_for_lost()
            return False
        ended = False
        tasks = self.tasks
        for message in messages:
            if message is None:
                ended = True
                continue
            ticket, status, value = message
            if status < 0:
                self.hear(status, value, cache)
                continue
            task = tasks.pop(ticket, None)
            if task is not None:
                self.claims.settle(ticket)
                _give(cache, task, (status == SUCCEEDED, value))
        self.pace.done(len(messages))
        if 2 * len(tasks) <= self.pace.depth and not self.room.is_set():
            self.room.set()
        return ended

    def hear(self, status: int, value: Any, cache: Any) -> None:
        """What a message says that is not an answer."""
        if status == MARK:
            lost = [ticket for ticket in value if ticket in self.tasks]
            for ticket, error in zip(lost, list(self.unread), strict=False):
                self.unread.remove(error)
                self.fail(ticket, error, cache)
            if any(self.claims.holder(ticket) > 0 or self.claims.was_answered(ticket) for ticket in self.tasks):
                if self.unread:
                    time.sleep(AGAIN)  # who answered has not said so yet
                    self.look_for_lost()
            else:
                self.unread.clear()
            return
        if status == FIT:
            self.numbers[value] = True
            self.unfit = 0
            return
        number, name, pid, exitcode = value
        for ticket, task in list(self.tasks.items()):
            holder = self.claims.holder(ticket)
            if holder == number:
                what = getattr(_message(task)[2], "__qualname__", None) or _message(task)[2]
                words = f"{how_it_ended(pid, exitcode)} ({name}) while it ran {what}, which is not run again"
                self.fail(ticket, WorkerDied(words, pid, exitcode), cache)
            elif holder == 0:
                # It may have been got by the dead one, who had not claimed it yet.
                try:
                    self.call((ticket, *_message(task)), False)
                except Exception as error:
                    if self.claims.withdraw(ticket):
                        self.fail(ticket, error, cache)
        with self.lock:
            fit = self.numbers.pop(number)
        self.unfit = 0 if fit else self.unfit + 1
        if self.unfit >= self.unfit_most:
            self.give_up(name, pid, exitcode, cache)

    def give_up(self, name: str, pid: int, exitcode: int, cache: Any) -> None:
        """Has all tasks fail, those to come too: the next worker would end as all of the last ones did."""
        self.over = WorkerDied(
            f"{self.unfit} workers in a row ended before they could do a task, the last one: "
            f"{how_it_ended(pid, exitcode)} ({name}): an initializer that raises, or a main module without "
            "`if __name__ == '__main__':`, ends every one; the traceback is on its stderr",
            pid,
            exitcode,
        )
        for ticket in list(self.tasks):
            if (task := self.tasks.pop(ticket, None)) is not None:
                self.claims.settle(ticket)
                _give(cache, task, (False, self.over))
        self.room.set()

    def fail(self, ticket: int, error: BaseException, cache: Any) -> None:
        task = self.tasks.pop(ticket)
        self.claims.settle(ticket)
        _give(cache, task, (False, error))

    def look_for_lost(self) -> None:
        """A result was got and could not be unpickled; whose it was is known by and by.

        What was answered before a mark was put comes before the mark: what then still is on its way is lost.
        """
        self.results.put((0, MARK, [ticket for ticket in list(self.tasks) if self.claims.was_answered(ticket)]))


def _give(cache: Any, task: Any, result: Any) -> None:
    receiver = cache.get(task[0])
    if receiver is None:
        return  # nobody waits for it any more
    try:
        receiver._set(task[1], result)
    except Exception:
        # A callback's: it is told, and neither who waits for the result nor anybody else has to wait for that.
        traceback.print_exc()
        if isinstance(receiver, ApplyResult):
            receiver._event.set()  # type: ignore[attr-defined]
            if task[0] in cache:
                del cache[task[0]]


def _message(task: Any) -> tuple[int, str | None, Any, Any, Any]:
    _, _, function, args, options = task
    how = CALL
    if function is mapstar or function is starmapstar:
        how = EACH if function is mapstar else EACH_STAR
        ((function, args),) = args
    module, name = refer(function)
    return how, module, name, args, options or None


def work(
    calls: QueueBase,
    results: QueueBase,
    claims: Claims,
    number: int,
    pool_lives: Lock,
    initializer: Any,
    initargs: Any,
    most: int | None,
    wraps: bool,
) -> None:
    """Does tasks until it is told to go, has done `most` of them, or the pool's process has ended."""
    if initializer is not None:
        initializer(*initargs)
    if not _deliver(results, (0, FIT, number), pool_lives):
        return
    get = partial(QueueBase.get, calls)
    calls._sleeps = True  # the others wait for the same, and only one of all will get it
    left = most or -1
    while left:
        try:
            task = get(True, PATIENCE)
        except Empty:
            if pool_lives.acquire(timeout=0.001):  # its process had it, as long as it lived
                break
            continue
        if task is None:
            break
        ticket = task[0]
        if not claims.claim(ticket, number):
            continue  # it stood in the queue twice
        status = SUCCEEDED
        try:
            value = perform(*task[1:])
        except Exception as error:
            status, value = FAILED, error
            if wraps and task[3] != _helper_reraises_exception.__name__:
                value = ExceptionWithTraceback(error, error.__traceback__)
        try:
            delivered = _deliver(results, (ticket, status, value), pool_lives)
        except Exception as error:
            delivered = _deliver(results, (ticket, FAILED, MaybeEncodingError(error, value)), pool_lives)
        if not delivered:
            break
        claims.answer(ticket, number)
        # What was got, and what was made of it, may be large, and is not to outlive the task.
        task = value = None
        left -= 1


def _deliver(results: QueueBase, message: Any, pool_lives: Lock) -> bool:
    """Puts it; False if nobody is left to get it."""
    for look in range(WITHOUT_ROOM):
        try:
            QueueBase.put(results, message, True, PATIENCE)
            break
        except HeapFull:
            # Somebody may let go of what it has received.
            if pool_lives.acquire(timeout=0.001):
                return False
            if look == WITHOUT_ROOM - 1:
                raise
    return True
