# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Condition: waiting, under a lock, until somebody says what changed.  The protocol is in ``_condition.h``."""

from libc.stdint cimport uint32_t, uint64_t

from shmkit._core cimport *
from shmkit._deadline cimport deadline_of
from shmkit._lock cimport Lock, RLock
from shmkit._map cimport fork_generation
from shmkit._primitive cimport Primitive, kind_text

import time
from operator import index

from shmkit import errors

cdef const uint64_t *generation = fork_generation()


cdef struct wait_t:
    condition_t *condition
    condition_wait_t own


cdef status_t round_of_condition(void *of, waiter_t *waiter, uint64_t deadline_ns) noexcept nogil:
    cdef wait_t *wait = <wait_t *>of
    if wait.own.waits != condition_waits(wait.condition):
        return NOT_HELD  # a signal handler forked, and this is the child
    return condition_round(wait.condition, &wait.own, waiter, deadline_ns)


cdef class Condition(Primitive):
    """A lock, and waiting until another thread or process that holds it says that something changed.

    ``Condition()`` makes an anonymous one with an RLock of its own, ``Condition(lock)`` one that goes with a `Lock` or
    `RLock`; ``create``, ``attach``, ``create_at`` and ``attach_at`` are those of `Lock` (one that has a name has its
    own RLock).

    Exactly as many are woken as are notified, in the order in which they came.  A waiter that is killed does not use
    up a notification.  If a process dies while it holds the lock, OwnerDied is raised as by `Lock`, by ``wait`` too;
    the caller then holds the lock.
    """

    cdef Lock own_lock
    cdef bint embeds                 # the lock stands right before the condition's own cell
    cdef condition_t condition

    def __init__(self, lock=None):
        self.fresh()
        self.plan(lock)
        self.settle()

    cdef int plan(self, object lock) except -1:
        if lock is None:
            self.embeds = True
        elif isinstance(lock, Lock):
            self.own_lock = lock
        else:
            raise TypeError(f"a Condition goes with a shmkit.Lock or RLock: got {lock!r}")
        return 0

    # --- making and finding ------------------------------------------------------------------------------------

    @classmethod
    def create(cls, name, *, backing=None, mode=0o600, lifetime=None):
        """Make one under a name, in a segment of its own (see `Segment.create`).  SegmentExists, NoSpace."""
        cdef Condition made = cls.__new__(cls)
        made.plan(None)
        return made._make_named(name, backing, mode, lifetime)

    @classmethod
    def create_or_attach(cls, name, *, backing=None, mode=0o600, lifetime=None):
        """Find the one of that name, or make it."""
        cdef Condition wanted = cls.__new__(cls)
        wanted.plan(None)
        return wanted._create_or_attach(name, backing, mode, lifetime)

    @classmethod
    def create_at(cls, segment, offset=0, lock=None):
        """Make one at `offset` of a segment, a multiple of 8, and best of 128.  What stood there is overwritten.

        Its RLock stands there too, unless a `lock` is given, which then has to be given to ``attach_at`` as well.
        """
        cdef Condition made = cls.__new__(cls)
        made.plan(lock)
        return made._make_at(segment, offset)

    @classmethod
    def attach_at(cls, segment, offset=0, lock=None):
        """Find the one that was created at `offset` of a segment; LayoutMismatch if there is none."""
        cdef Condition made = cls.__new__(cls)
        made.plan(lock)
        return made._find_at(segment, offset)

    def _find_named(self, name, backing, owner):
        self.plan(None)
        return Primitive._find_named(self, name, backing, owner)

    def __reduce__(self):
        found = Primitive.__reduce__(self)
        return _restore, (*found[1], None if self.embeds else self.own_lock)

    cdef uint64_t before(self) noexcept:
        """Bytes before the condition's own cell."""
        return sizeof(lock_cell_t) if self.embeds else 0

    cdef uint64_t size(self) except 0:
        return self.before() + sizeof(condition_cell_t)

    cdef condition_cell_t *own_cell(self) noexcept:
        return <condition_cell_t *>(<char *>self.cell + self.before())

    cdef int format(self) except -1:
        if self.embeds:
            cell_clear(self.cell, sizeof(lock_cell_t), POLICY_TELL)
            cell_publish(self.cell, CELL_RLOCK)
        cell_clear(self.own_cell(), sizeof(condition_cell_t), 0)
        cell_publish(self.own_cell(), CELL_CONDITION)
        return 0

    cdef int check(self, uint64_t room) except -1:
        if room < self.size():
            self.refuse(f"a Condition has {self.size()} bytes", room)
        if self.embeds:
            self.check_kind(room, sizeof(lock_cell_t), CELL_RLOCK)
        found = cell_kind(self.own_cell())
        if found != CELL_CONDITION:
            self.refuse(f"the kind of a Condition is {kind_text(CELL_CONDITION)}", kind_text(found))
        return 0

    cdef int bind(self) except -1:
        if self.own_lock is None:
            self.own_lock = RLock.__new__(RLock)
            self.own_lock.room = self.room
            self.own_lock.settle_at(self.mapping, self.segment, self.at)
            self.own_lock.check(sizeof(lock_cell_t))
        self.own_lock.enter()
        self.condition.cell = self.own_cell()
        self.condition.lock = &self.own_lock.lock
        return 0

    # --- the lock ----------------------------------------------------------------------------------------------

    @property
    def lock(self):
        """The lock that it goes with."""
        self.enter()
        return self.own_lock

    def acquire(self, block=True, timeout=None) -> bool:
        """Acquire the lock, as ``lock.acquire`` does."""
        self.enter()
        return self.own_lock.acquire(block, timeout)

    def release(self) -> None:
        """Release the lock, as ``lock.release`` does."""
        self.enter()
        self.own_lock.release()

    def recover(self) -> None:
        """Declare what the lock guards consistent again, after OwnerDied."""
        self.enter()
        self.own_lock.recover()

    def __enter__(self) -> bool:
        self.enter()
        return self.own_lock.__enter__()

    def __exit__(self, kind, error, traceback) -> None:
        if self.own_lock is None:
            self.enter()
        self.own_lock.__exit__(kind, error, traceback)

    cdef int holding(self, str what) except -1:
        self.enter()
        if not self.own_lock.mine():
            raise errors.NotOwner(f"must acquire() {self._label()} before {what}")
        return 0

    # --- waiting and notifying ---------------------------------------------------------------------------------

    def wait(self, timeout=None) -> bool:
        """Release the lock, wait to be notified, and acquire the lock again; False if that took `timeout` seconds.

        NotOwner if the caller does not hold the lock.  Whatever is raised, by a signal's handler say, the lock is held
        then.
        """
        cdef uint64_t deadline = deadline_of(timeout)
        cdef uint32_t depth
        cdef wait_t wait
        cdef bint notified = False, finished = False
        cdef uint64_t began
        self.holding("waiting on it")
        began = self.generation
        wait.condition = &self.condition
        condition_begin(&self.condition, &wait.own)
        self.own_lock.give_all(&depth)
        try:
            self.wait_rounds(round_of_condition, &wait, deadline)
            finished = True
        finally:
            try:
                self.own_lock.retake(depth)
            except errors.NotRecoverable:
                finished = True  # nobody will ever wait or notify again
                raise
            except BaseException:
                finished = False
                raise
            finally:
                if generation[0] == began:
                    notified = condition_end(&self.condition, &wait.own, finished)
        if generation[0] != began:
            raise errors.NotOwner(f"{self._label()}: this process's parent waits, not this one (a handler forked)")
        return notified

    def wait_for(self, predicate, timeout=None):
        """Wait until `predicate()` is true, and return what it was at last; `timeout` seconds at most."""
        result = predicate()
        if result:
            return result
        end = None if timeout is None else time.monotonic() + timeout
        left = None
        while not result:
            if end is not None:
                left = end - time.monotonic()
                if left <= 0:
                    break
            self.wait(left)
            result = predicate()
        return result

    def notify(self, n=1) -> None:
        """Wake `n` of those who wait, those who came first; they return once the lock is released.  NotOwner."""
        count = index(n)
        self.holding("notifying")
        if count > 0:
            condition_notify(&self.condition, min(count, 1 << 62))

    def notify_all(self) -> None:
        """Wake all who wait; they return one after the other, once the lock is released.  NotOwner."""
        self.notify(1 << 62)

    @property
    def waiting(self) -> int:
        """How many wait now."""
        self.enter()
        return condition_waiting(self.condition.cell)

    # What multiprocessing's own tests look at.

    @property
    def _sleeping_count(self):
        return Count(self.waiting)

    @property
    def _woken_count(self):
        return Count(0)

    @property
    def _wait_semaphore(self):
        return Count(0)

    def __repr__(self) -> str:
        if self.shut or self.mapping is None:
            return f"<{type(self).__name__}(closed)>"
        return f"<{type(self).__name__}({self.lock!r}, {self.waiting})>"


cdef class Count:
    """A number that looks like a semaphore's value."""

    cdef object value

    def __cinit__(self, value):
        self.value = value

    def get_value(self):
        return self.value


def _restore(kind, segment, at, lock):
    """What a pickle calls."""
    cdef Condition made = kind.__new__(kind)
    made.plan(lock)
    return made._find_at(segment, at)
