# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""What is done once for each task of a pool: it is sent, done by a worker, and its result given to who waits for it.

Twenty thousand tasks that do nothing are little but this.  What is done once for each worker, or when one has died, is
in ``multiprocessing/_pool_line.py``.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint32_t, uint64_t

cimport cython

from shmkit._claims cimport Claims
from shmkit._core_heap cimport queue_spin_items
from shmkit._queue cimport QueueBase
from shmkit._tasks cimport perform, refer

from multiprocessing.pool import mapstar, starmapstar

from shmkit._queue_put import uncount
from shmkit._tasks import CALL as _CALL, EACH as _EACH, EACH_STAR as _EACH_STAR
from shmkit.errors import Empty

cdef enum:
    OTHERS_TURN = 32  # tasks, after which other threads are let run
    LINGER_NS = 5_000  # how long a worker that has just done a task looks for another one before it sleeps

# What is said of a task, (ticket, status, value), by the worker that did it.
FAILED, SUCCEEDED = 0, 1


cdef tuple as_sent(object ticket, task):
    """A task, as a pool has it, as workers get it."""
    _, _, function, args, options = task
    how = _CALL
    if function is mapstar or function is starmapstar:
        how = _EACH if function is mapstar else _EACH_STAR
        ((function, args),) = args
    module, name = refer(function)
    return ticket, how, module, name, args, options or None


cdef class LineBase:
    """The tasks that are on their way, seen from the pool.

    Tasks come from any thread, and results in one; a ticket is given out and noted without a step in between in which
    another thread, a signal's handler or a finalizer could run.  Who derives from it has `hear(status, value, cache)`,
    for what is no result, and `refused(receiver, task, cache)`, for a result whose receiver raises.
    """

    cdef readonly QueueBase calls
    cdef readonly QueueBase results
    cdef readonly Claims claims
    cdef readonly dict tasks  # on their way, by ticket
    cdef public object pace  # how many may be
    cdef public object over  # why there will be no more workers; None

    def __init__(self, QueueBase calls, QueueBase results, Claims claims, pace):
        self.calls, self.results, self.claims, self.pace = calls, results, claims, pace
        self.tasks = {}

    cdef bint has_room(self) except -1:
        return len(self.tasks) < <Py_ssize_t>self.pace.depth

    def named(self, task):
        """The function of a task, or its name."""
        return as_sent(0, task)[3]

    def call(self, ticket, task) -> None:
        """Puts a task that has a ticket; HeapFull, and what pickling raises."""
        self.calls.put_one(as_sent(ticket, task), False, None, False)

    cpdef int64_t offer(self, task) except -1:
        """A ticket for a task that is on its way from now on; 0: there is no place for it."""
        cdef int64_t ticket
        with cython.critical_section(self):
            ticket = self.claims.offer()
            if ticket:
                self.tasks[ticket] = task
        return ticket

    cpdef bint put_at_once(self, task) except -1:
        """Sends a task, if that takes no waiting; False if it was not sent.

        Then there is no room, or no memory, or it cannot be pickled: `put` waits for those and says that.
        """
        cdef int64_t ticket
        if not self.has_room():
            return False
        ticket = self.offer(task)
        if ticket == 0:
            return False
        try:
            if self.over is None:
                self.calls.put_one(as_sent(ticket, task), False, None, False)
                return True
        except Exception:
            return not self.take_back(ticket)
        except BaseException:
            self.take_back(ticket)
            raise
        return not self.take_back(ticket)

    cpdef bint take_back(self, int64_t ticket) except -1:
        """Whether a task that could not be put is on its way no more, and nobody has said what became of it.

        A worker may have it all the same: `hear` puts again what it sees on its way and unclaimed.
        """
        if not self.claims.withdraw(ticket) or self.tasks.pop(ticket, None) is None:
            return False
        self.claims.settle(ticket)
        return True

    def put_each(self, tasks, thread, running, slowly) -> int:
        """Sends `tasks`, one after the other, and each of them that takes waiting by `slowly(task)`.

        How many there were, as their numbers say; -1: `slowly` said that it is enough, or `thread._state` is no more
        `running`.
        """
        cdef int64_t count = 0
        for task in tasks:
            if thread._state != running:
                return -1
            if not self.put_at_once(task) and not slowly(task):
                return -1
            count = task[1] + 1
        return count

    def give(self, list messages, cache) -> bool:
        """Gives results to whom they are for; whether there was an end (None) among them."""
        cdef bint ended = False
        for message in messages:
            if message is None:
                uncount(message)
                ended = True
                continue
            ticket, status, value = message
            if status < 0:
                uncount(message)
                self.hear(status, value, cache)
                continue
            task = self.tasks.pop(ticket, None)
            if task is None:
                continue
            self.claims.settle(ticket)
            self.give_one(task, status == SUCCEEDED, value, cache)
        return ended

    cpdef object give_one(self, task, succeeded, value, cache):
        """Gives what has become of a task to who waits for it, if anybody does."""
        receiver = cache.get(task[0])
        if receiver is None:
            return
        try:
            receiver._set(task[1], (succeeded, value))
        except Exception:
            self.refused(receiver, task, cache)


def work_through(
    QueueBase calls, QueueBase results, Claims claims, uint64_t number, int64_t left, double patience, goes_on, failure,
    deliver,
):
    """Does tasks until it is told to go, has done `left` of them (-1: any number), or nobody wants them any more.

    Where there is none for `patience` seconds, `goes_on()` says whether any will come.  `failure(error, task)` makes of
    an exception what is sent instead of a value; `deliver(message, value)` puts what `put` could not.
    """
    cdef uint32_t turns = 0
    while left:
        # Tasks that are no Python code would let neither signals' handlers nor other threads run.
        PyErr_CheckSignals()
        turns += 1
        if turns % OTHERS_TURN == 0:
            with nogil:
                pass
        try:
            task = calls.get_one(True, patience)
        except Empty:
            if not goes_on():
                return
            continue
        if task is None:
            return
        ticket, how, module, function, args, options = task
        if not claims.claim(ticket, number):
            continue  # it stood in the queue twice
        calls._count_got()
        status = SUCCEEDED
        try:
            value = perform(how, module, function, args, options)
        except Exception as error:
            status, value = FAILED, failure(error, function)
        message = ticket, status, value
        try:
            results.put_one(message, False, None, False)
        except Exception:
            if not deliver(message):
                return
        claims.answer(ticket, number)
        # What was got, and what was made of it, may be large, and is not to outlive the task.
        task = value = message = args = options = None
        left -= 1
        # Tasks that do nothing are done faster than they are sent.  Who slept at once would have to be woken for each,
        # by the sender, for whom that is dearer than the task.
        queue_spin_items(&calls.c, &calls.items_habit, LINGER_NS)
