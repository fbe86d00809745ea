# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""RWLock: many hold it for reading, or one for writing, in any process, which may be killed at any time.

The words and the protocol are in ``_rwlock.h`` and ``_rwlock_wait.h``.  Uncontended, to acquire for reading and to
release that is one compare-and-swap each, on a line that no other process writes to.
"""

from libc.stdint cimport uint32_t, uint64_t

cimport cython

from shmkit._core cimport *
from shmkit._deadline cimport deadline_of
from shmkit._lock cimport policy_of
from shmkit._map cimport fork_generation
from shmkit._primitive cimport Primitive

from shmkit import errors

cdef const uint64_t *generation = fork_generation()


cdef struct wait_t:
    rwlock_wait_t own
    uint64_t began               # of the process that waits


cdef status_t round_of_rwlock(void *of, waiter_t *waiter, uint64_t deadline_ns) noexcept nogil:
    cdef wait_t *wait = <wait_t *>of
    if wait.began != generation[0]:
        return NOT_HELD  # a signal handler forked, and this is the child
    return rwlock_round(&wait.own, waiter, deadline_ns)


cdef class RWLock(Primitive):
    """A lock that many threads and processes hold for reading at a time, or one for writing.

    ``with lock.read:`` and ``with lock.write:`` acquire the sides; each has ``acquire`` and ``release`` as well.
    ``RWLock()`` makes an anonymous one; ``create``, ``attach``, ``create_at`` and ``attach_at`` are those of `Lock`.

    While a writer waits, new readers wait; when it leaves, those who waited get in before the next writer: neither side
    starves.  So it is not for acquiring twice: a thread that holds the write side and asks for either is refused with
    RuntimeError; one that holds the read side and asks for the write side waits for itself.

    A reader that is killed is forgotten by the next writer.  If a process is killed while it holds the write side,
    the next ``acquire``, of either side, raises OwnerDied: the caller then holds the lock for writing, repairs what it
    guards, calls ``recover()``, and releases the side that it asked for.  Released without, the lock is lost, and
    every ``acquire`` raises NotRecoverable.  With ``on_owner_death="recover"`` it is taken as if it had been released.

    More than 64 processes at a time may use it; those that find no room among the readers read one at a time.
    """

    cdef rwlock_t lock
    cdef uint32_t policy

    def __init__(self, *, on_owner_death="raise"):
        self.fresh()
        self.policy = policy_of(on_owner_death)
        self.settle()

    # --- making and finding ------------------------------------------------------------------------------------

    @classmethod
    def create(cls, name, *, on_owner_death="raise", backing=None, mode=0o600, lifetime=None):
        """Make one under a name, in a segment of its own (see `Segment.create`).  SegmentExists, NoSpace."""
        cdef RWLock made = cls.__new__(cls)
        made.policy = policy_of(on_owner_death)
        return made._make_named(name, backing, mode, lifetime)

    @classmethod
    def create_or_attach(cls, name, *, on_owner_death="raise", backing=None, mode=0o600, lifetime=None):
        """Find the one of that name, or make it.  ValueError if it exists with another `on_owner_death`."""
        cdef RWLock wanted = cls.__new__(cls)
        wanted.policy = policy_of(on_owner_death)
        cdef RWLock found = wanted._create_or_attach(name, backing, mode, lifetime)
        if found.policy != wanted.policy:
            raise ValueError(f"{found._label()} exists with another on_owner_death: got {on_owner_death!r}")
        return found

    @classmethod
    def create_at(cls, segment, offset=0, *, on_owner_death="raise"):
        """Make one at `offset` of a segment, a multiple of 8, and best of 128.  What stood there is overwritten."""
        cdef RWLock made = cls.__new__(cls)
        made.policy = policy_of(on_owner_death)
        return made._make_at(segment, offset)

    cdef uint64_t size(self) except 0:
        return sizeof(rwlock_cell_t)

    cdef int format(self) except -1:
        cell_clear(self.cell, sizeof(rwlock_cell_t), self.policy)
        cell_publish(self.cell, CELL_RWLOCK)
        return 0

    cdef int check(self, uint64_t room) except -1:
        self.check_kind(room, sizeof(rwlock_cell_t), CELL_RWLOCK)
        self.policy = (<rwlock_cell_t *>self.cell).policy
        if self.policy != POLICY_TELL and self.policy != POLICY_RECOVER:
            self.refuse("a lock's policy must be one that is known", self.policy)
        return 0

    cdef int bind(self) except -1:
        self.lock.cell = <rwlock_cell_t *>self.cell
        self.lock.member = &self.member.own
        self.lock.held = member_word(self.member.own.id)
        self.lock.at = RWLOCK_NOWHERE
        return 0

    # --- acquiring and releasing -------------------------------------------------------------------------------

    cdef bint take(self, uint32_t side, object block, object timeout) except -1:
        """Acquires one side for this process."""
        cdef uint64_t deadline = deadline_of(timeout)
        cdef wait_t wait
        cdef status_t status = NOT_HELD
        cdef bint patient = bool(block)
        while status == NOT_HELD:
            self.enter()
            if rwlock_thread_mine(&self.lock):
                raise RuntimeError(f"{self._label()} is held for writing, or waited for, by this very thread")
            wait.began = generation[0]
            wait.own.lock = &self.lock
            wait.own.side = side
            wait.own.state = RWLOCK_NOTHING
            if side == RWLOCK_READ:
                status = rwlock_read_begin(&wait.own, patient)
            else:
                status = rwlock_write_begin(&wait.own, patient)
            if status != FULL or not patient:
                break
            try:
                status = <status_t>self.wait_rounds(round_of_rwlock, &wait, deadline)
            except BaseException:
                if wait.began == generation[0]:  # else it is this process's parent that waits
                    rwlock_abandon(&wait.own)
                raise
        if status == OK:
            return True
        if status == INHERITED:
            pid = member_pid(wait.own.dead)
            raise errors.OwnerDied(
                f"{self._label()}: process {pid} died while it held it for writing; this process holds it so now: "
                f"repair what it guards and call recover()", pid,
            )
        if status == LOST:
            self.lost()
        if status == TOO_MANY:
            raise OverflowError(f"{self._label()} is held for reading too often by this process")
        return False

    cdef int lost(self) except -1:
        raise errors.NotRecoverable(
            f"{self._label()}: its writer died, and it was released without recover(); what it guards is lost"
        )

    cdef int give(self, uint32_t side) except -1:
        cdef status_t status
        if self.generation != generation[0]:
            self.enter()
        status = rwlock_read_give(&self.lock) if side == RWLOCK_READ else rwlock_write_give(&self.lock)
        if status == NOT_HELD:
            what = "reading" if side == RWLOCK_READ else "writing"
            raise errors.NotOwner(f"{self._label()} was released by a process that does not hold it for {what}")
        return 0

    @property
    def read(self):
        """The side of the readers: a context manager, with ``acquire`` and ``release``."""
        cdef ReadSide side = ReadSide.__new__(ReadSide)
        side.whole = self
        return side

    @property
    def write(self):
        """The side of the writers: a context manager, with ``acquire`` and ``release``."""
        cdef WriteSide side = WriteSide.__new__(WriteSide)
        side.whole = self
        return side

    def recover(self) -> None:
        """Declare what the lock guards consistent again, after OwnerDied.  NotOwner if it was not inherited."""
        self.enter()
        if rwlock_recover(&self.lock) != OK:
            raise errors.NotOwner(f"{self._label()} was not inherited from a dead process by this one")

    def locked(self) -> bool:
        """Whether anybody holds it now, for reading or for writing."""
        return self.readers != 0 or self.writer_pid is not None

    @property
    def readers(self) -> int:
        """How many hold it for reading now."""
        self.enter()
        return rwlock_readers(&self.lock)

    @property
    def writer_pid(self):
        """The process that holds it for writing now; None: nobody."""
        self.enter()
        cdef uint64_t word = load_relaxed_u64(&self.lock.cell.word)  # relaxed: it may change at once
        return None if word == 0 or word & RWLOCK_CLAIMED else member_pid(member_of_word(word))

    def __repr__(self) -> str:
        cdef uint64_t word
        cdef str what = "shmkit.RWLock"
        if self.name is not None:
            what += f" {self.name!r}"
        if self.shut or self.mapping is None:
            return f"<closed {what} at {id(self):#x}>"
        readers = self.readers
        word = load_relaxed_u64(&self.lock.cell.word)  # relaxed: it may change at once
        if word == LOCK_LOST:
            return f"<lost {what} at {id(self):#x}>"
        if word != 0:
            what += f" {'awaited by' if word & RWLOCK_CLAIMED else 'writer'}={member_pid(member_of_word(word))}"
        if readers:
            what += f" readers={readers}"
        if word & LOCK_INCONSISTENT:
            what += " inherited"
        return f"<{'locked' if word or readers else 'unlocked'} {what} at {id(self):#x}>"


@cython.freelist(8)
cdef class ReadSide:
    """The side of an RWLock's readers."""

    cdef RWLock whole

    def __init__(self):
        raise TypeError("a ReadSide is made by RWLock.read")

    def acquire(self, block=True, timeout=None) -> bool:
        """Acquire for reading; True, or False if it was not to be had (`block` false) or not within `timeout` seconds.

        OwnerDied, holding the lock for writing, if a writer died; NotRecoverable if it is lost.
        """
        cdef RWLock whole = self.whole
        if timeout is None and whole.generation == generation[0] and rwlock_read_take(&whole.lock):
            return True
        return whole.take(RWLOCK_READ, block, timeout)

    def release(self) -> None:
        """Release what this process holds for reading, in any of its threads.  NotOwner if it does not."""
        self.whole.give(RWLOCK_READ)

    def __enter__(self) -> bool:
        cdef RWLock whole = self.whole
        if whole.generation == generation[0] and rwlock_read_take(&whole.lock):
            return True
        return whole.take(RWLOCK_READ, True, None)

    def __exit__(self, kind, error, traceback) -> None:
        self.whole.give(RWLOCK_READ)

    def __reduce__(self):
        return getattr, (self.whole, "read")

    def __repr__(self) -> str:
        return f"<the read side of {self.whole!r}>"


@cython.freelist(8)
cdef class WriteSide:
    """The side of an RWLock's writers."""

    cdef RWLock whole

    def __init__(self):
        raise TypeError("a WriteSide is made by RWLock.write")

    def acquire(self, block=True, timeout=None) -> bool:
        """Acquire for writing; True, or False if it was not to be had (`block` false) or not within `timeout` seconds.

        OwnerDied, holding the lock, if a writer died; NotRecoverable if it is lost.
        """
        return self.whole.take(RWLOCK_WRITE, block, timeout)

    def release(self) -> None:
        """Release what this process holds for writing.  NotOwner if it does not."""
        self.whole.give(RWLOCK_WRITE)

    def __enter__(self) -> bool:
        return self.whole.take(RWLOCK_WRITE, True, None)

    def __exit__(self, kind, error, traceback) -> None:
        self.whole.give(RWLOCK_WRITE)

    def __reduce__(self):
        return getattr, (self.whole, "write")

    def __repr__(self) -> str:
        return f"<the write side of {self.whole!r}>"
