# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Barrier: nobody goes on until all have come, or one of them has died.  The protocol is in ``_barrier.h``."""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint32_t, uint64_t

cimport cython

from shmkit._core cimport *
from shmkit._deadline cimport deadline_of
from shmkit._map cimport fork_generation
from shmkit._primitive cimport Primitive

import os
from operator import index

from shmkit import errors
from shmkit._ending import close_at_end

cdef const uint64_t *generation = fork_generation()

cdef dict REASONS = {
    BROKEN_ABORTED: "it was aborted",
    BROKEN_RESET: "it was reset while this one waited",
    BROKEN_TIMED_OUT: "one of those who waited had no more time",
    BROKEN_ACTION: "its action raised an exception",
}


cdef struct wait_t:
    barrier_wait_t own
    uint64_t began               # of the process that waits


cdef status_t round_of_barrier(void *of, waiter_t *waiter, uint64_t deadline_ns) noexcept nogil:
    cdef wait_t *wait = <wait_t *>of
    if wait.began != generation[0]:
        return NOT_HELD  # a signal handler forked, and this is the child
    return barrier_round(&wait.own, waiter, deadline_ns)


cdef status_t round_of_room(void *of, waiter_t *waiter, uint64_t deadline_ns) noexcept nogil:
    return barrier_room_round(<barrier_wait_t *>of, waiter, deadline_ns)


cdef status_t round_of_lock(void *of, waiter_t *waiter, uint64_t deadline_ns) noexcept nogil:
    return lock_round(<lock_wait_t *>of, waiter, deadline_ns)


@cython.no_gc_clear
cdef class Barrier(Primitive):
    """A point that nobody passes until `parties` threads or processes have come there.

    ``Barrier(3)`` makes an anonymous one; ``create``, ``attach``, ``create_at`` and ``attach_at`` are those of `Lock`.
    One of those who have come calls `action` before any of them goes on; `timeout` is what ``wait`` waits at most
    unless it is told otherwise.

    If a process is killed that waits, or that has passed the last time and would have to come again, the barrier
    breaks: the others get BrokenBarrier, which says who died, instead of waiting for ever.  A process that closes its
    barrier, or ends in order, does not break it: another one may take its place.
    """

    cdef barrier_t barrier
    cdef uint32_t number
    cdef object action, timeout
    cdef uint64_t enrolled           # the generation that leaves the crew when the process ends

    def __init__(self, parties, action=None, timeout=None):
        self.fresh()
        self.plan(parties, action, timeout)
        self.settle()

    cdef int plan(self, object parties, object action, object timeout) except -1:
        number = index(parties)
        if not 1 <= number <= BARRIER_PARTIES_MOST:
            raise ValueError(f"a Barrier has from 1 to {BARRIER_PARTIES_MOST} parties: got {number}")
        self.number = number
        return self.equip(action, timeout)

    cdef int equip(self, object action, object timeout) except -1:
        if action is not None and not callable(action):
            raise TypeError(f"a Barrier's action is called: got {action!r}")
        deadline_of(timeout)
        self.action = action
        self.timeout = timeout
        self.enrolled = <uint64_t>-1
        return 0

    # --- making and finding ------------------------------------------------------------------------------------

    @classmethod
    def create(cls, name, parties, action=None, timeout=None, *, backing=None, mode=0o600, lifetime=None):
        """Make one under a name, in a segment of its own (see `Segment.create`).  SegmentExists, NoSpace."""
        cdef Barrier made = cls.__new__(cls)
        made.plan(parties, action, timeout)
        return made._make_named(name, backing, mode, lifetime)

    @classmethod
    def attach(cls, name, action=None, timeout=None, *, backing=None, owner=None):
        """Find the one that was created under `name`; action and time-out are this process's own.

        Raises SegmentNotFound, SegmentPermission, LayoutMismatch (it is something else).
        """
        cdef Barrier made = cls.__new__(cls)
        made.equip(action, timeout)
        return made._find_named(name, backing, owner)

    @classmethod
    def create_or_attach(cls, name, parties, action=None, timeout=None, *, backing=None, mode=0o600, lifetime=None):
        """Find the one of that name, or make it.  ValueError if it exists with another number of parties."""
        cdef Barrier wanted = cls.__new__(cls)
        wanted.plan(parties, action, timeout)
        cdef Barrier found = wanted._create_or_attach(name, backing, mode, lifetime)
        found.equip(action, timeout)
        if found.number != wanted.number:
            raise ValueError(f"{found._label()} exists with {found.number} parties: got {wanted.number}")
        return found

    @classmethod
    def create_at(cls, segment, offset=0, parties=2, action=None, timeout=None):
        """Make one at `offset` of a segment, a multiple of 8, and best of 128.  What stood there is overwritten."""
        cdef Barrier made = cls.__new__(cls)
        made.plan(parties, action, timeout)
        return made._make_at(segment, offset)

    @classmethod
    def attach_at(cls, segment, offset=0, action=None, timeout=None):
        """Find the one that was created at `offset` of a segment; LayoutMismatch if there is none."""
        cdef Barrier made = cls.__new__(cls)
        made.equip(action, timeout)
        return made._find_at(segment, offset)

    def __reduce__(self):
        found = Primitive.__reduce__(self)
        return _restore, (*found[1], self.action, self.timeout)

    cdef uint64_t size(self) except 0:
        return sizeof(barrier_cell_t) + 2 * self.number * (sizeof(barrier_place_t) + sizeof(uint64_t))

    cdef int format(self) except -1:
        cdef barrier_cell_t *cell = <barrier_cell_t *>self.cell
        cell_clear(cell, self.size(), POLICY_TELL)
        cell.parties = self.number
        cell_publish(&cell.lock, CELL_LOCK)
        cell_publish(cell, CELL_BARRIER)
        return 0

    cdef int check(self, uint64_t room) except -1:
        cdef barrier_cell_t *cell = <barrier_cell_t *>self.cell
        self.check_kind(room, sizeof(barrier_cell_t), CELL_BARRIER)
        self.number = cell.parties
        if not 1 <= self.number <= BARRIER_PARTIES_MOST:
            number, self.number = self.number, 1
            self.refuse(f"a Barrier has from 1 to {BARRIER_PARTIES_MOST} parties", number)
        if self.size() > room:
            self.refuse(f"a Barrier of {self.number} parties has {self.size()} bytes", room)
        return 0

    cdef int bind(self) except -1:
        self.barrier.cell = <barrier_cell_t *>self.cell
        self.barrier.lock.cell = &self.barrier.cell.lock
        self.barrier.lock.member = &self.member.own
        self.barrier.lock.held = self.barrier.own = member_word(self.member.own.id)
        self.barrier.parties = self.number
        self.barrier.at = 0
        self.barrier.where = CPU_HERE if self.number > len(os.sched_getaffinity(0)) else CPU_UNKNOWN
        return 0

    def __dealloc__(self):
        self.leave()

    cdef void leave(self) noexcept:
        """This process's death is nobody's affair any more."""
        if self.generation == generation[0]:
            barrier_leave(&self.barrier)

    def close(self) -> None:
        """End the use of this handle, in order: nobody waits for this process any more.  Idempotent."""
        self.leave()
        Primitive.close(self)

    # --- the lock ----------------------------------------------------------------------------------------------

    cdef int lock_in(self) except -1:
        """Takes the lock.  What a signal's handler raises ends that."""
        cdef lock_wait_t wait
        cdef status_t status
        wait.lock = &self.barrier.lock
        status = lock_try(&wait)
        if status == FULL:
            status = <status_t>self.wait_rounds(round_of_lock, &wait, FOREVER)
        return self.locked_in(status, wait.dead)

    cdef object lock_in_now(self):
        """Takes the lock, whatever comes; returns what a signal's handler raised meanwhile."""
        cdef lock_wait_t wait
        cdef waiter_t waiter
        cdef status_t status
        interruption = None
        wait.lock = &self.barrier.lock
        status = lock_try(&wait)
        waiter_init(&waiter)
        while status == FULL or status == INTERRUPTED or status == SLICE_OVER:
            with nogil:
                status = lock_round(&wait, &waiter, FOREVER)
            try:
                PyErr_CheckSignals()
            except BaseException as error:
                interruption = error
        self.locked_in(status, wait.dead)
        return interruption

    cdef int locked_in(self, status_t status, uint64_t dead) except -1:
        """Who finds that the lock's holder died breaks the barrier."""
        if status == LOST:
            raise errors.NotRecoverable(f"{self._label()} is lost: its words contradict each other")
        if status == INHERITED:
            barrier_break(&self.barrier, BROKEN_DIED, member_pid(dead))
            barrier_bury(&self.barrier)
            lock_recover(&self.barrier.lock)
        return 0

    cdef int lock_out(self) except -1:
        lock_give(&self.barrier.lock)
        return 0

    # --- waiting -----------------------------------------------------------------------------------------------

    def wait(self, timeout=None) -> int:
        """Wait until all have come; returns a number from 0 to parties - 1, to each another.

        BrokenBarrier if it is broken, or breaks: by ``abort`` or ``reset``, by the death of one of the processes, by an
        action that raises, or because one of those who wait has waited for `timeout` seconds.
        """
        cdef uint64_t deadline = deadline_of(self.timeout if timeout is None else timeout)
        cdef wait_t wait
        cdef status_t status
        self.enter()
        if self.enrolled != generation[0]:
            close_at_end(self)
            self.enrolled = generation[0]
        wait.own.barrier = &self.barrier
        status = self.arrive(&wait)
        if status == BROKEN:
            self.raise_broken(&wait.own)
        try:
            if status == COMPLETE and self.action is not None:
                self.act(&wait)
            elif status == OK:
                self.await_others(&wait, deadline)
        finally:
            if wait.began == generation[0]:  # else it is this process's parent that has come
                status = barrier_end(&wait.own)
            else:
                status = NOT_HELD
        if status == NOT_HELD:
            raise errors.NotOwner(f"{self._label()}: it is this process's parent that has come (a handler forked)")
        if status == BROKEN:
            self.raise_broken(&wait.own)
        return wait.own.value

    cdef status_t arrive(self, wait_t *wait) except *:
        """Comes, as soon as there is room.  OK: this one is to wait; COMPLETE: it came last; BROKEN."""
        cdef status_t status
        while True:
            self.enter()
            self.lock_in()
            wait.began = self.generation  # a signal handler may have forked in between: the child comes, too
            status = barrier_arrive(&wait.own, self.action is not None)
            self.lock_out()
            if status == COMPLETE or status == BROKEN:
                barrier_wake(&self.barrier)
            if status != FULL:
                return status
            self.wait_rounds(round_of_room, &wait.own, FOREVER)
            PyErr_CheckSignals()

    cdef int await_others(self, wait_t *wait, uint64_t deadline) except -1:
        """Waits until this one has passed, or the barrier is broken."""
        cdef status_t status
        interruption = None
        while True:
            status = <status_t>self.wait_rounds(round_of_barrier, wait, deadline)
            if status == OK or status == NOT_HELD:
                return 0
            interruption = self.lock_in_now()
            if wait.began == generation[0] and not barrier_ready(&wait.own):
                if status == DIED:
                    barrier_bury(&self.barrier)
                elif barrier_acting(&self.barrier):
                    deadline = FOREVER  # all have come in time
                else:
                    barrier_break(&self.barrier, BROKEN_TIMED_OUT, 0)
            self.lock_out()
            barrier_wake(&self.barrier)
            if interruption is not None:
                raise interruption

    cdef int act(self, wait_t *wait) except -1:
        """Calls the action, and lets all pass, or breaks the barrier."""
        cdef bint done = False
        interruption = None
        try:
            self.action()
            done = True
        finally:
            if wait.began == generation[0]:
                interruption = self.lock_in_now()
                if not barrier_ready(&wait.own):
                    if done:
                        barrier_pass(&self.barrier, wait.own.at)
                    else:
                        barrier_break(&self.barrier, BROKEN_ACTION, 0)
                self.lock_out()
                barrier_wake(&self.barrier)
        if interruption is not None:
            raise interruption
        return 0

    cdef int raise_broken(self, barrier_wait_t *wait) except -1:
        pid = wait.pid
        if wait.value == BROKEN_DIED:
            raise errors.BrokenBarrier(f"{self._label()} is broken: process {pid} died", pid)
        raise errors.BrokenBarrier(f"{self._label()} is broken: {REASONS.get(wait.value, 'its words say so')}")

    cdef int break_now(self, uint32_t why) except -1:
        self.enter()
        interruption = self.lock_in_now()
        barrier_break(&self.barrier, why, 0)
        self.lock_out()
        barrier_wake(&self.barrier)
        if interruption is not None:
            raise interruption
        return 0

    def reset(self) -> None:
        """Make it as new.  Those who wait get BrokenBarrier."""
        self.break_now(BROKEN_RESET)

    def abort(self) -> None:
        """Break it: those who wait, and those who come, get BrokenBarrier, until somebody resets it."""
        self.break_now(BROKEN_ABORTED)

    @property
    def parties(self) -> int:
        """How many have to come."""
        return self.number

    @property
    def n_waiting(self) -> int:
        """How many have come, and wait for the others."""
        self.enter()
        return barrier_waiting(&self.barrier)

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        self.enter()
        return barrier_broken(&self.barrier)

    def __repr__(self) -> str:
        cdef str what = "shmkit.Barrier" if self.name is None else f"shmkit.Barrier {self.name!r}"
        if self.shut or self.mapping is None:
            return f"<{what} at {id(self):#x}: closed>"
        if self.broken:
            return f"<{what} at {id(self):#x}: broken>"
        return f"<{what} at {id(self):#x}: waiters={self.n_waiting}/{self.number}>"


def _restore(kind, segment, at, action, timeout):
    """What a pickle calls."""
    cdef Barrier made = kind.__new__(kind)
    made.equip(action, timeout)
    return made._find_at(segment, at)
