# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Lock and RLock: one holder at a time, in any process, which may be killed at any time.

The words and the protocol are in ``_lock.h``.  Uncontended, ``acquire`` and ``release`` are one compare-and-swap each
and no system call.
"""

from libc.stdint cimport uint32_t, uint64_t

cimport cython

from shmkit._core cimport *
from shmkit._deadline cimport deadline_of
from shmkit._map cimport fork_generation
from shmkit._primitive cimport SPIN_WITH_GIL_NS, Primitive

from shmkit import errors

cdef const uint64_t *generation = fork_generation()


cdef status_t round_of_lock(void *of, waiter_t *waiter, uint64_t deadline_ns) noexcept nogil:
    return lock_round(<lock_wait_t *>of, waiter, deadline_ns)


cdef uint32_t policy_of(object on_owner_death) except? 0xffffffff:
    if on_owner_death == "raise":
        return POLICY_TELL
    if on_owner_death == "recover":
        return POLICY_RECOVER
    raise ValueError(f"on_owner_death must be 'raise' or 'recover': got {on_owner_death!r}")


cdef class Lock(Primitive):
    """A lock that processes and threads share, and that outlives its holder.

    ``Lock()`` makes an anonymous one, for children (under any start method) and whoever gets it in a pickle;
    ``Lock.create`` and ``Lock.attach`` share one by name; ``Lock.create_at`` and ``Lock.attach_at`` place it in a
    segment of one's own.  Any thread, and any process, may release it.

    If a process ends while it holds the lock, the next ``acquire`` raises OwnerDied: the caller then holds the lock,
    repairs what it guards, and calls ``recover()``.  (A ``with`` block is not entered in that case: release the lock
    by hand.) Released without, the lock is lost, and every ``acquire`` raises NotRecoverable.  With
    ``on_owner_death="recover"`` it is taken as if it had been released, for what is consistent at any time.

    A released lock goes to whoever comes first.
    """

    def __init__(self, *, on_owner_death="raise"):
        self.fresh()
        self.policy = policy_of(on_owner_death)
        self.settle()

    # --- making and finding ------------------------------------------------------------------------------------

    @classmethod
    def create(cls, name, *, on_owner_death="raise", backing=None, mode=0o600, lifetime=None):
        """Make one under a name, in a segment of its own (see `Segment.create`).  SegmentExists, NoSpace."""
        cdef Lock made = cls.__new__(cls)
        made.policy = policy_of(on_owner_death)
        return made._make_named(name, backing, mode, lifetime)

    @classmethod
    def create_or_attach(cls, name, *, on_owner_death="raise", backing=None, mode=0o600, lifetime=None):
        """Find the one of that name, or make it.  ValueError if it exists with another `on_owner_death`."""
        cdef Lock wanted = cls.__new__(cls)
        wanted.policy = policy_of(on_owner_death)
        cdef Lock found = wanted._create_or_attach(name, backing, mode, lifetime)
        if found.policy != wanted.policy:
            raise ValueError(f"{found._label()} exists with another on_owner_death: got {on_owner_death!r}")
        return found

    @classmethod
    def create_at(cls, segment, offset=0, *, on_owner_death="raise"):
        """Make one at `offset` of a segment, a multiple of 8, and best of 128.  What stood there is overwritten."""
        cdef Lock made = cls.__new__(cls)
        made.policy = policy_of(on_owner_death)
        return made._make_at(segment, offset)

    cdef uint64_t size(self) except 0:
        return sizeof(lock_cell_t)

    cdef uint32_t kind(self) noexcept:
        return CELL_RLOCK if isinstance(self, RLock) else CELL_LOCK

    cdef int format(self) except -1:
        cell_clear(self.cell, sizeof(lock_cell_t), self.policy)
        cell_publish(self.cell, self.kind())
        return 0

    cdef int check(self, uint64_t room) except -1:
        self.check_kind(room, sizeof(lock_cell_t), self.kind())
        self.policy = (<lock_cell_t *>self.cell).policy
        if self.policy != POLICY_TELL and self.policy != POLICY_RECOVER:
            self.refuse("a lock's policy must be one that is known", self.policy)
        return 0

    cdef int bind(self) except -1:
        self.lock.cell = <lock_cell_t *>self.cell
        self.lock.member = &self.member.own
        self.lock.held = member_word(self.member.own.id)
        return 0

    # --- acquiring and releasing -------------------------------------------------------------------------------

    cdef bint won(self, status_t status, lock_wait_t *wait) except -1:
        """Whether the lock is ours; OwnerDied, NotRecoverable."""
        if status == OK:
            return True
        if status == INHERITED:
            pid = member_pid(wait.dead)
            raise errors.OwnerDied(
                f"{self._label()}: process {pid} died while it held it; this process holds it now: repair what "
                f"it guards and call recover()", pid,
            )
        if status == LOST:
            raise errors.NotRecoverable(
                f"{self._label()}: its holder died, and it was released without recover(); what it guards is lost"
            )
        return False

    cdef bint take(self, object block, object timeout) except -1:
        """Acquires the lock for this process."""
        cdef uint64_t deadline = deadline_of(timeout)
        cdef lock_wait_t wait
        cdef status_t status
        self.enter()
        wait.lock = &self.lock
        status = lock_try(&wait)
        if status == FULL and block:
            if lock_spin(&self.lock, SPIN_WITH_GIL_NS) and lock_take(&self.lock):
                status = OK
            else:
                status = <status_t>self.wait_rounds(round_of_lock, &wait, deadline)
        if status == OK or status == INHERITED:
            lock_enter(&self.lock)
        return self.won(status, &wait)

    cdef int retake(self, uint32_t depth) except -1:
        """Acquires the lock whatever comes: what signal handlers raise is raised when the lock is held."""
        cdef lock_wait_t wait
        cdef status_t status
        wait.lock = &self.lock
        interruption = None
        if self.generation != generation[0] and not self.shut:
            self.enter()  # a signal handler forked, and this is the child
        status = OK if lock_take(&self.lock) else FULL
        while status == FULL:
            try:
                status = <status_t>self.wait_rounds(round_of_lock, &wait, FOREVER)
            except BaseException as error:
                interruption = error  # of a handle that is closed meanwhile: Closed, after each slice
        if status == OK or status == INHERITED:
            if isinstance(self, RLock):
                rlock_enter(&self.lock, depth)
            else:
                lock_enter(&self.lock)
        if interruption is not None:
            raise interruption
        self.won(status, &wait)
        return 0

    cdef int give_all(self, uint32_t *depth) except -1:
        """Releases all levels that this thread holds."""
        if isinstance(self, RLock):
            rlock_give_all(&self.lock, depth)
        else:
            depth[0] = 1
            lock_give(&self.lock)
        return 0

    cdef bint mine(self) except -1:
        self.enter()
        return lock_thread_mine(&self.lock)

    @cython.binding(False)
    def acquire(self, block=True, timeout=None) -> bool:
        """Acquire the lock; True, or False if it was not free (`block` false) or not within `timeout` seconds.

        OwnerDied, holding the lock, if its holder died; NotRecoverable if it is lost.
        """
        if timeout is None and self.generation == generation[0] and lock_take(&self.lock):
            lock_enter(&self.lock)
            return True
        return self.take(block, timeout)

    @cython.binding(False)
    def release(self) -> None:
        """Release the lock, whoever holds it.  ReleasedTooOften if nobody does."""
        cdef status_t status
        if self.generation != generation[0]:
            self.enter()
        status = lock_give(&self.lock)
        if status == NOT_HELD:
            raise errors.ReleasedTooOften(f"{self._label()} was released too often: nobody holds it")

    @cython.binding(False)
    def __enter__(self) -> bool:
        if self.generation == generation[0] and lock_take(&self.lock):
            lock_enter(&self.lock)
            return True
        return self.take(True, None)

    @cython.binding(False)
    def __exit__(self, kind, error, traceback) -> None:
        if self.generation != generation[0] or lock_give(&self.lock) == NOT_HELD:
            self.release()

    def recover(self) -> None:
        """Declare what the lock guards consistent again, after OwnerDied.  NotOwner if it was not inherited."""
        self.enter()
        if lock_recover(&self.lock) != OK:
            raise errors.NotOwner(f"{self._label()} was not inherited from a dead process by this one")

    @cython.binding(False)
    def locked(self) -> bool:
        """Whether anybody holds it now."""
        self.enter()
        return load_relaxed_u64(&self.lock.cell.word) != 0  # relaxed: it may change at once

    @property
    def owner_pid(self):
        """The process that holds it now; None: nobody."""
        self.enter()
        cdef uint64_t word = load_relaxed_u64(&self.lock.cell.word)  # relaxed: it may change at once
        return None if word == 0 or word == LOCK_LOST else member_pid(member_of_word(word))

    @cython.binding(False)
    def _is_owned(self) -> bool:
        return self.mine()

    @cython.binding(False)
    def _times_here(self) -> int:
        """How often this process has acquired it, whichever of its threads did."""
        self.enter()
        if not lock_mine(&self.lock):
            return 0
        # relaxed: it may change at once
        return load_relaxed_u32(&self.lock.cell.depth) if isinstance(self, RLock) else 1

    def __repr__(self) -> str:
        cdef uint64_t word
        cdef str what = f"shmkit.{self.called()} object"
        if self.name is not None:
            what += f" {self.name!r}"
        if self.shut or self.mapping is None:
            return f"<closed {what} at {id(self):#x}>"
        self.enter()
        word = load_relaxed_u64(&self.lock.cell.word)  # relaxed: it may change at once
        if word == LOCK_LOST:
            return f"<lost {what} at {id(self):#x}>"
        if word == 0:
            return f"<unlocked {what} at {id(self):#x}>"
        what += f" owner={member_pid(member_of_word(word))}"
        if isinstance(self, RLock):
            what += f" count={load_relaxed_u32(&self.lock.cell.depth)}"
        if word & LOCK_INCONSISTENT:
            what += " inherited"
        if load_relaxed_u32(&self.lock.cell.gate) & GATE_ASLEEP:
            what += " awaited"
        return f"<locked {what} at {id(self):#x}>"


cdef class RLock(Lock):
    """A lock that the thread which holds it may acquire again; it is free when that has released it as often.

    Only that thread may release it.  All else is as with `Lock`, the death of its holder too.
    """

    @cython.binding(False)
    def acquire(self, block=True, timeout=None) -> bool:
        """Acquire the lock, or once more; True, or False if it was not free or not within `timeout` seconds.

        OwnerDied, holding the lock, if its holder died; NotRecoverable if it is lost.
        """
        cdef status_t status
        if timeout is None and self.generation == generation[0] and lock_take(&self.lock):
            rlock_enter(&self.lock, 1)
            return True
        self.enter()
        status = rlock_again(&self.lock)
        if status == TOO_MANY:
            raise OverflowError(f"{self._label()} was acquired too often")
        if status == OK:
            return True
        try:
            if not self.take(block, timeout):
                return False
        except errors.OwnerDied:
            rlock_enter(&self.lock, 1)
            raise
        rlock_enter(&self.lock, 1)
        return True

    @cython.binding(False)
    def release(self) -> None:
        """Release the lock once.  NotOwner if this thread does not hold it."""
        if self.generation != generation[0]:
            self.enter()
        if rlock_give(&self.lock) == NOT_HELD:
            raise errors.NotOwner(f"{self._label()} was released by a thread that does not hold it")

    @cython.binding(False)
    def __enter__(self) -> bool:
        if self.generation == generation[0] and lock_take(&self.lock):
            rlock_enter(&self.lock, 1)
            return True
        return RLock.acquire(self)

    @cython.binding(False)
    def __exit__(self, kind, error, traceback) -> None:
        if self.generation != generation[0] or rlock_give(&self.lock) == NOT_HELD:
            RLock.release(self)

    @cython.binding(False)
    def _recursion_count(self) -> int:
        return load_relaxed_u32(&self.lock.cell.depth) if self.mine() else 0

    # What threading.Condition asks of the RLock that it goes with.

    def _release_save(self):
        cdef uint32_t depth = 0
        if not self.mine():
            raise errors.NotOwner(f"{self._label()} was released by a thread that does not hold it")
        self.give_all(&depth)
        return depth

    def _acquire_restore(self, depth):
        self.enter()
        self.retake(depth)
