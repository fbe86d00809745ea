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
from multiprocessing.pool import (  # type: ignore[attr-defined]
    ApplyResult,
    ExceptionWithTraceback,
    MaybeEncodingError,
    _helper_reraises_exception,
)
from typing import Any

from shmkit._claims import WORKERS_MOST, Claims
from shmkit._line import FAILED, LineBase, work_through
from shmkit._lock import Lock
from shmkit._queue import QueueBase
from shmkit._tally import ANSWERS, TASKS
from shmkit._tasks import Pace, how_it_ended
from shmkit.errors import Full, HeapFull, WorkerDied

__all__ = ["Line", "work"]

ON_THE_WAY = 1024  # tasks, at most
PATIENCE = 1.0  # seconds between two looks whether there is still a pool

# What is said of a task, (ticket, status, value), where it is not a worker's answer.
GONE = -2  # value: number, name, pid and exit code of a worker
MARK = -3  # see Line.look_for_lost
FIT = -4  # value: number of a worker that is ready for tasks
UNFIT_MOST = 10  # workers in a row that end before they are, at least, until no more are started
WITHOUT_ROOM = 60  # such looks, until a result for which there is no memory is given up
SENT_MOST = 50  # workers that end while a task waits, until it is not sent again
AGAIN = 0.005  # seconds between two marks


class Line(LineBase):
    """Seen from the pool."""

    def __init__(self, calls: QueueBase, results: QueueBase, workers: int) -> None:
        super().__init__(calls, results, Claims(ON_THE_WAY), Pace(2 * workers, ON_THE_WAY))
        results._role = ANSWERS  # this process's thread has nothing else to do
        self.workers = workers
        self.lives = Lock(on_owner_death="recover")  # held as long as this process lives
        self.lives.acquire()
        self.lock = threading.Lock()
        self.room = threading.Event()  # set when there is room again, or when it does not matter any more
        self.numbers: dict[int, bool] = {}  # of workers, which they claim tasks with: whether it came to be ready
        self.again: dict[int, int] = {}  # by ticket, how many workers ended while it waited
        self.unfit = 0  # how many of them in a row did not
        self.unfit_most = max(UNFIT_MOST, 3 * workers)
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
        while (ticket := self.offer(task)) == 0:  # `put_at_once` has taken the last place
            self.room.clear()
            self.room.wait(0.001)
            if not goes_on():
                return False
        if self.over is not None and self.take_back(ticket):  # else `give_up` has seen it
            raise self.over
        try:
            while True:
                try:
                    self.call(ticket, task)
                    return True
                except Full:  # noqa: PERF203
                    # There is no memory until somebody lets go of some.
                    if len(self.tasks) == 1 or not goes_on():
                        raise
                    self.pace.slow_down()
                    self.room.clear()
                    self.room.wait(0.01)
        except Exception:
            if not self.take_back(ticket):
                return True  # a worker has it all the same, or somebody has said what became of it
            raise
        except BaseException:
            self.take_back(ticket)
            raise

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
        ended = self.give(messages, cache)
        self.pace.done(len(messages))
        if 2 * len(self.tasks) <= self.pace.depth and not self.room.is_set():
            self.room.set()
        return ended

    @staticmethod
    def refused(receiver: Any, task: Any, cache: Any) -> None:
        """A callback raises: it is told, and neither who waits for the result nor anybody else has to wait for that."""
        traceback.print_exc()
        if isinstance(receiver, ApplyResult):
            receiver._event.set()  # type: ignore[attr-defined]
            if task[0] in cache:
                del cache[task[0]]

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
        self.again = {ticket: count for ticket, count in self.again.items() if ticket in self.tasks}
        for ticket, task in list(self.tasks.items()):
            holder = self.claims.holder(ticket)
            if holder == number:
                function = self.named(task)
                what = getattr(function, "__qualname__", None) or function
                words = f"{how_it_ended(pid, exitcode)} ({name}) while it ran {what}, which is not run again"
                self.fail(ticket, WorkerDied(words, pid, exitcode), cache)
            elif holder == 0:
                # It may have been got by the dead one, who had not claimed it yet; and may be why that one ended.
                try:
                    if exitcode:
                        self.again[ticket] = self.again.get(ticket, 0) + 1
                        if self.again[ticket] == SENT_MOST:
                            words = f"{how_it_ended(pid, exitcode)} ({name}), the last of {SENT_MOST} that ended while "
                            words += "this task waited: unpickling its arguments may be what ends them"
                            raise WorkerDied(words, pid, exitcode)
                    self.call(ticket, task)
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
                self.give_one(task, False, self.over, cache)
        self.room.set()

    def fail(self, ticket: int, error: BaseException, cache: Any) -> None:
        task = self.tasks.pop(ticket)
        self.claims.settle(ticket)
        self.give_one(task, False, error, cache)

    def look_for_lost(self) -> None:
        """A result was got and could not be unpickled; whose it was is known by and by.

        What was answered before a mark was put comes before the mark: what then still is on its way is lost.
        """
        self.results.put((0, MARK, [ticket for ticket in list(self.tasks) if self.claims.was_answered(ticket)]))


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

    def goes_on() -> bool:
        return not pool_lives.acquire(timeout=0.001)  # its process has it, as long as it lives

    def failure(error: Exception, function: Any) -> Any:
        if wraps and function != _helper_reraises_exception.__name__:
            return ExceptionWithTraceback(error, error.__traceback__)
        return error

    def deliver(message: Any) -> bool:
        try:
            return _deliver(results, message, pool_lives)
        except Exception as error:
            return _deliver(results, (message[0], FAILED, MaybeEncodingError(error, message[2])), pool_lives)

    calls._role = TASKS
    calls._sleeps = True  # the others wait for the same, and only one of all will get it
    work_through(calls, results, claims, number, most or -1, PATIENCE, goes_on, failure, deliver)


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
