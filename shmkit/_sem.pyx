# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Semaphore and BoundedSemaphore: a number of permits, counted or (with undo) named by who holds them.

The words and the protocol are in ``_semaphore.h``.
"""

from libc.stdint cimport uint32_t, uint64_t

cimport cython

from shmkit._core cimport *
from shmkit._deadline cimport deadline_of
from shmkit._map cimport fork_generation
from shmkit._primitive cimport SPIN_WITH_GIL_NS, Primitive

from operator import index

from shmkit import errors

cdef const uint64_t *generation = fork_generation()


cdef status_t round_of_semaphore(void *of, waiter_t *waiter, uint64_t deadline_ns) noexcept nogil:
    return semaphore_round(<semaphore_t *>of, waiter, deadline_ns)


cdef class Semaphore(Primitive):
    """A number of permits that processes and threads share: `value` of them are free at first.

    ``Semaphore(3)`` makes an anonymous one; ``create``, ``attach``, ``create_at`` and ``attach_at`` are those of
    `Lock`.

    Counted, as it is unless told otherwise, any process may release without having acquired, and the permits that a
    killed process held are gone.  With ``undo=True`` each permit names the process that holds it: there are never more
    than `value`, only who holds one may release it, and what a process that ended held comes back by itself.
    """

    cdef semaphore_t semaphore
    cdef uint32_t value, maximum, owners

    def __init__(self, value=1, *, undo=False):
        self.fresh()
        self.plan(value, undo)
        self.settle()

    cdef int plan(self, object value, object undo) except -1:
        number = index(value)
        most = SEMAPHORE_OWNERS_MOST if undo else SEMAPHORE_MOST
        if number < 0 or number > most:
            raise errors.InvalidPermits(f"a semaphore has from 0 to {most} permits at first: got {number}")
        if undo and number == 0:
            raise errors.InvalidPermits("a semaphore with undo has at least one permit, as none can be added: got 0")
        self.value = number
        self.owners = number if undo else 0
        self.maximum = number if undo or self.bounded() else SEMAPHORE_MOST
        return 0

    cdef bint bounded(self):
        return isinstance(self, BoundedSemaphore)

    @classmethod
    def create(cls, name, value=1, *, undo=False, backing=None, mode=0o600, lifetime=None):
        """Make one under a name, in a segment of its own (see `Segment.create`).  SegmentExists, NoSpace."""
        cdef Semaphore made = cls.__new__(cls)
        made.plan(value, undo)
        return made._make_named(name, backing, mode, lifetime)

    @classmethod
    def create_or_attach(cls, name, value=1, *, undo=False, backing=None, mode=0o600, lifetime=None):
        """Find the one of that name, or make it.  ValueError if it exists with another maximum, or without undo."""
        cdef Semaphore wanted = cls.__new__(cls)
        wanted.plan(value, undo)
        cdef Semaphore found = wanted._create_or_attach(name, backing, mode, lifetime)
        if found.maximum != wanted.maximum or found.owners != wanted.owners:
            raise ValueError(
                f"{found._label()} exists with at most {found.maximum} permits, undo={found.owners != 0}: got "
                f"{wanted.maximum}, undo={wanted.owners != 0}"
            )
        return found

    @classmethod
    def create_at(cls, segment, offset=0, value=1, *, undo=False):
        """Make one at `offset` of a segment, a multiple of 8, and best of 128.  What stood there is overwritten."""
        cdef Semaphore made = cls.__new__(cls)
        made.plan(value, undo)
        return made._make_at(segment, offset)

    cdef uint64_t size(self) except 0:
        return sizeof(semaphore_cell_t) + self.owners * sizeof(uint64_t)

    cdef int format(self) except -1:
        cdef semaphore_cell_t *cell = <semaphore_cell_t *>self.cell
        cell_clear(cell, self.size(), SEMAPHORE_BOUNDED if self.bounded() else 0)
        cell.maximum = self.maximum
        cell.value = 0 if self.owners else self.value
        cell.owners = self.owners
        cell_publish(cell, CELL_SEMAPHORE)
        return 0

    cdef int check(self, uint64_t room) except -1:
        cdef semaphore_cell_t *cell = <semaphore_cell_t *>self.cell
        self.check_kind(room, sizeof(semaphore_cell_t), CELL_SEMAPHORE)
        self.maximum = cell.maximum
        self.owners = cell.owners
        if self.maximum > SEMAPHORE_MOST:
            self.refuse(f"a semaphore has at most {SEMAPHORE_MOST} permits", self.maximum)
        if self.owners > SEMAPHORE_OWNERS_MOST or (self.owners and self.owners != self.maximum):
            self.refuse(f"a semaphore of {self.maximum} permits has as many owners, or none", self.owners)
        if self.size() > room:
            self.refuse(f"a semaphore with {self.owners} owners has {self.size()} bytes", room)
        if self.bounded() and self.maximum == SEMAPHORE_MOST and cell.policy != SEMAPHORE_BOUNDED:
            self.refuse("a BoundedSemaphore has a maximum", "a Semaphore")
        return 0

    cdef int bind(self) except -1:
        self.semaphore.cell = <semaphore_cell_t *>self.cell
        self.semaphore.member = &self.member.own
        self.semaphore.held = member_word(self.member.own.id)
        self.semaphore.owners = self.owners
        self.semaphore.maximum = self.maximum
        self.semaphore.start = self.member.own.id % self.owners if self.owners else 0
        return 0

    cdef bint take(self, object block, object timeout) except -1:
        cdef uint64_t deadline = deadline_of(timeout)
        cdef status_t status
        self.enter()
        status = semaphore_try(&self.semaphore)
        if status == FULL and block:
            if semaphore_spin(&self.semaphore, SPIN_WITH_GIL_NS) and semaphore_try(&self.semaphore) == OK:
                return True
            status = <status_t>self.wait_rounds(round_of_semaphore, &self.semaphore, deadline)
        return status == OK

    cdef int give(self, uint32_t count) except -1:
        cdef status_t status
        if self.generation != generation[0]:
            self.enter()
        status = semaphore_give(&self.semaphore, count)
        if status == TOO_MANY:
            raise errors.ReleasedTooOften(
                f"{self._label()} was released too often: it has at most {self.maximum} permits"
            )
        if status == NOT_HELD:
            raise errors.ReleasedTooOften(
                f"{self._label()} was released too often: this process holds fewer than {count} of its permits"
            )
        return 0

    @cython.binding(False)
    def acquire(self, block=True, timeout=None) -> bool:
        """Acquire a permit; True, or False if none was free (`block` false) or not within `timeout` seconds."""
        if timeout is None and self.generation == generation[0] and self.owners == 0 and counted_take(&self.semaphore):
            return True
        return self.take(block, timeout)

    @cython.binding(False)
    def release(self, n=1) -> None:
        """Release a permit, or `n` of them at once.  ReleasedTooOften where there would be more than can be."""
        if n is 1:
            self.give(1)
            return
        count = index(n)
        if not 1 <= count <= SEMAPHORE_MOST:
            raise ValueError(f"n must be one or more: got {n}")
        self.give(count)

    @cython.binding(False)
    def __enter__(self) -> bool:
        return self.acquire()

    @cython.binding(False)
    def __exit__(self, kind, error, traceback) -> None:
        self.give(1)

    @cython.binding(False)
    def get_value(self) -> int:
        """How many permits are free now."""
        self.enter()
        return semaphore_value(&self.semaphore)

    @cython.binding(False)
    def locked(self) -> bool:
        """Whether no permit is free now."""
        return self.get_value() == 0

    @property
    def undo(self) -> bool:
        """Whether what a dead process held comes back."""
        return self.owners != 0

    def __repr__(self) -> str:
        cdef str what = f"shmkit.{self.called()}"
        if self.name is not None:
            what += f" {self.name!r}"
        if self.shut or self.mapping is None:
            return f"<{what} at {id(self):#x}: closed>"
        value = str(self.get_value())
        if self.maximum != SEMAPHORE_MOST:
            value += f"/{self.maximum}"
        if self.owners:
            value += ", undo"
        if load_relaxed_u32(&self.semaphore.cell.gate) & GATE_ASLEEP:
            value += ", awaited"
        return f"<{what} at {id(self):#x}: value={value}>"


cdef class BoundedSemaphore(Semaphore):
    """A semaphore that never has more permits than at first: to release it too often raises ReleasedTooOften."""
