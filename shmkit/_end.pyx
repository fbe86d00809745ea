"""End: one process's handle on a ring: which roles it plays, whose turn it is, and how it waits.

A role is a lease (``_lease.h``), taken at first use.  After a fork the child's handle knows itself by the generation
and has no role; nothing is released by a child for its parent.  Threads take turns (``_turn.h``).

Every wait is a loop: look, spin a microsecond with the GIL, then without it spin, yield and park for a slice; after
each slice signals are handled, and after a whole slice without change the kernel is asked whether the other end lives.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EBADF, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport strerror

cimport cython

from shmkit._core cimport *
from shmkit._core_watch cimport ring_bell
from shmkit._deadline cimport deadline_after
from shmkit._map cimport fork_generation, process_start

import os

from shmkit import errors
from shmkit._ending import close_at_end, look_up

cdef const uint64_t *generation = fork_generation()

cdef enum:
    SPIN_WITH_GIL_NS = 1000
    LOOKS_PER_QUESTION = 256
    LEAVING_TRIES = 1000  # of a millisecond each


cdef inline bint begin(End end, turn_t *turn, const bint *plays) noexcept:
    """Takes the turn at an end where all is as usual: the role is this process's, and nobody waits or has closed it."""
    if not (plays[0] and not end.shut and end.session.generation == generation[0] and turn_try(turn)):
        return False
    if FREE_THREADED and (end.shut or not plays[0]):  # by now: who closes it has had the turn
        turn_end(turn)
        return False
    return True


# Commits of this process, on any ring: tells a consumer whether its process answers what it receives.
cdef uint64_t process_commits = 0


@cython.no_gc_clear
cdef class End:
    """The base of Ring; see there."""

    def __cinit__(self, segment):
        self.segment = segment
        self.mapping = segment.mapping
        self.label = "the anonymous ring" if segment.name is None else f"ring {segment.name!r}"
        self.payload = <uint8_t *>self.mapping.own.addr + self.mapping.payload_at
        self.ring_capacity = ring_check(self.payload, self.mapping.payload_size)
        if self.ring_capacity == 0:
            raise errors.LayoutMismatch(
                f"segment {segment.name!r} of {self.mapping.payload_size} bytes does not hold a ring that this version "
                f"can read"
            )
        self.session.generation = generation[0]
        self.lease_key = lease_key(self.mapping.own.dev, self.mapping.own.inode)

    # --- roles -------------------------------------------------------------------------------------------------

    cdef int usable(self) except -1:
        """Raise Closed; in a forked child, forget the parent's roles (its leases are not ours)."""
        if self.session.generation != generation[0]:
            self.begin_anew()
        if self.shut:
            raise errors.Closed(f"{self.label} was closed by this process")
        return 0

    @cython.critical_section
    cdef int begin_anew(self) except -1:
        if self.session.generation != generation[0]:
            lease_forget(&self.p.lease)
            lease_forget(&self.c.lease)
            turn_reset(&self.send_turn)
            turn_reset(&self.recv_turn)
            self.produces = self.consumes = False
            self.records_watch = self.room_watch = None
            self.session.number += 1
            self.session.generation = generation[0]
        return 0

    cdef int claimed(self, status_t status, const ring_role_t *role, str what) except -1:
        if status == TAKEN:
            raise errors.RoleTaken(
                f"{self.label} has a {what} already: process {load_relaxed_u32(&role.pid)}. One process at a "
                f"time may be it, until it closes the ring or ends"
            )
        if status == CORRUPT:
            raise errors.RecordCorrupt(f"{self.label}: head and tail contradict the capacity {self.ring_capacity}")
        if status != OK and errno == EBADF:
            raise errors.SegmentError(
                f"{self.label}: this process has closed the descriptor through which the {what}'s role is taken "
                f"(by os.closerange, say); attach to the ring anew"
            )
        if status != OK:
            raise OSError(errno, f"{self.label}: no lease on its {what}'s role: {strerror(errno).decode()}")
        return 0

    cdef bint may_leave(self, ring_role_t *role, int *tries) except -1:
        """Whether to try for a role (again): between saying CLOSED and dropping its lease, the holder leaves."""
        self.usable()
        tries[0] += 1
        if tries[0] == 1:
            return True
        if tries[0] > LEAVING_TRIES or load_seq_u32(&role.state) != ROLE_CLOSED:
            return False
        with nogil:
            futex_wait(&role.state, ROLE_CLOSED, 1000000)
        PyErr_CheckSignals()
        self.usable()
        return True

    cdef int claim_producer(self) except -1:
        self.usable()
        cdef status_t status = TAKEN
        cdef ring_role_t *role = &(<ring_header_t *>self.payload).producer_role
        cdef int tries = 0
        if self.produces:
            return 0
        close_at_end(self)
        while status == TAKEN and self.may_leave(role, &tries):
            if self.produces:  # another thread was quicker
                return 0
            # No Python may run from here on: another thread, or an exception, which would leave a role to nobody.
            status = ring_claim_producer(
                &self.p, self.payload, self.ring_capacity, self.mapping.own.fd, self.lease_key,
                os.getpid(), process_start(),
            )
        if status == OK:
            self.p.commits = &process_commits
            self.produces = True
        return self.claimed(status, role, "producer")

    cdef int claim_consumer(self) except -1:
        self.usable()
        cdef status_t status = TAKEN
        cdef ring_role_t *role = &(<ring_header_t *>self.payload).consumer_role
        cdef int tries = 0
        if self.consumes:
            return 0
        close_at_end(self)
        while status == TAKEN and self.may_leave(role, &tries):
            if self.consumes:
                return 0
            status = ring_claim_consumer(
                &self.c, self.payload, self.ring_capacity, self.mapping.own.fd, self.lease_key,
                os.getpid(), process_start(),
            )
        if status == OK:
            self.c.commits = &process_commits
            self.c.commits_seen = process_commits
            self.consumes = True
        return self.claimed(status, role, "consumer")

    cdef int become(self, turn_t *turn, const bint *plays, bint producer) except -1:
        """Claim the role of an end, unless it is this process's: without a GIL, that is for who has the turn."""
        self.usable()
        while FREE_THREADED and not plays[0]:
            if self.take_turn(turn, clock_ns() + 1000000):
                try:
                    return self.claim_producer() if producer else self.claim_consumer()
                finally:
                    turn_end(turn)
        return self.claim_producer() if producer else self.claim_consumer()

    cdef bint take_turn(self, turn_t *turn, uint64_t deadline) except -1:
        """Wait for this thread's turn at an end; False if there is none before `deadline`."""
        cdef uint64_t now, limit
        while not turn_try(turn):
            if turn_mine(turn):
                raise RuntimeError(f"{self.label} is in use by this very thread: called from a signal handler?")
            now = clock_ns()
            if now >= deadline:
                return False
            limit = min(deadline - now, <uint64_t>50000000)
            turn_ask(turn)
            with nogil:
                turn_wait(turn, limit)
            PyErr_CheckSignals()
            self.usable()
        return True

    cdef uint64_t deadline(self, object timeout, uint64_t since_turn) except? 0:
        """The end of a wait that may have begun with waiting for the turn."""
        return since_turn if since_turn != 0 else deadline_after(timeout)

    cdef bint begin_send(self, object timeout, bint wait) except -1:
        """Become the producer, and take the turn; False where that would mean waiting and `wait` is False."""
        cdef uint64_t deadline
        if not begin(self, &self.send_turn, &self.produces):
            self.usable()
            deadline = deadline_after(timeout) if wait else 0
            if not self.take_turn(&self.send_turn, deadline):
                if wait:
                    raise TimeoutError(f"{self.label}: another thread was sending for {timeout} s")
                return False
            self.send_deadline = deadline
            try:
                self.claim_producer()
            except BaseException:
                turn_end(&self.send_turn)
                raise
        else:
            self.send_deadline = 0
            if timeout is not None and type(timeout) is not float:
                self.check_timeout(&self.send_turn, timeout)
        if self.p.span != 0:
            turn_end(&self.send_turn)
            raise RuntimeError(f"{self.label} has an open reservation: commit or abort it first")
        return True

    cdef int check_timeout(self, turn_t *turn, object timeout) except -1:
        """Refuse what is no time-out even where nothing has to be waited for."""
        try:
            deadline_after(timeout)
        except BaseException:
            turn_end(turn)
            raise
        return 0

    cdef bint begin_recv(self, object timeout, bint wait) except -1:
        cdef uint64_t deadline
        if not begin(self, &self.recv_turn, &self.consumes):
            self.usable()
            deadline = deadline_after(timeout) if wait else 0
            if not self.take_turn(&self.recv_turn, deadline):
                if wait:
                    raise TimeoutError(f"{self.label}: another thread was receiving for {timeout} s")
                return False
            self.recv_deadline = deadline
            try:
                self.claim_consumer()
            except BaseException:
                turn_end(&self.recv_turn)
                raise
        else:
            self.recv_deadline = 0
            if timeout is not None and type(timeout) is not float:
                self.check_timeout(&self.recv_turn, timeout)
        return True

    # --- waiting for room --------------------------------------------------------------------------------------

    cdef int refuse_size(self, uint64_t nbytes, uint64_t head, uint64_t align) except -1:
        if head > RECORD_DATA_AT_MOST - align:
            raise errors.RecordTooLarge(
                f"a description of {head} bytes is too long for a record ({self.label})"
            )
        raise errors.RecordTooLarge(
            f"a record of {nbytes} bytes can never fit: {self.label} of capacity {self.ring_capacity} takes at "
            f"most {ring_most(self.ring_capacity, head, align)}"
        )

    cdef int pass_own_pads(self) except -1:
        """Where this process is the consumer too, nobody else can pass the pad that stands before the next record."""
        cdef uint64_t word
        if self.consumes and self.c.views_count == 0 and turn_try(&self.recv_turn):
            ring_next(&self.c, &word)
            turn_end(&self.recv_turn)
        return 0

    cdef bint room(self, uint64_t head, uint64_t nbytes, uint64_t align, object timeout, bint wait) except -1:
        """Reserve; wait until there is room.  False if there is none and `wait` is False.

        TimeoutError; RecordTooLarge; Broken if the consumer has closed, PeerDied if it died, and the ring is full.
        """
        cdef status_t status = ring_reserve(&self.p, head, nbytes, align)
        if status == OK:
            return True
        cdef uint64_t deadline = self.deadline(timeout, self.send_deadline) if wait else 0
        cdef int fate = OK
        self.p.waiter.begun_ns = 0
        while True:
            if status == TOO_LARGE:
                self.refuse_size(nbytes, head, align)
            if status == CORRUPT:
                raise errors.RecordCorrupt(f"{self.label}: head contradicts the capacity {self.ring_capacity}")
            self.pass_own_pads()
            if load_seq_u32(&self.p.shared.consumer_role.state) == ROLE_CLOSED:
                fate = CLOSED
            status = ring_reserve(&self.p, head, nbytes, align)
            if status == OK:
                return True
            if status == FULL:
                if fate == CLOSED:
                    raise errors.Broken(f"{self.label} is full and its consumer has closed it")
                if fate == DIED:
                    raise errors.PeerDied(
                        f"{self.label} is full and its consumer, process {self.peer_pid}, has died", self.peer_pid
                    )
                if not wait:
                    self.full_looks += 1
                    if (self.full_looks % LOOKS_PER_QUESTION == 0 or self.room_watch is not None) and fate == OK:
                        fate = ring_ask_consumer(&self.p, self.mapping.own.fd, self.lease_key, &self.peer_pid)
                        if fate != OK:
                            continue
                    return False
                fate = self.await_room(deadline)
                status = ring_reserve(&self.p, head, nbytes, align)
                if status == OK:
                    return True

    cdef int await_room(self, uint64_t deadline) except -1:
        """Wait until the consumer may have made room (OK), or has left (CLOSED, DIED).  TimeoutError."""
        cdef status_t status, fate
        if ring_spin_room(&self.p, SPIN_WITH_GIL_NS):
            return OK
        while True:
            with nogil:
                status = ring_wait_room(&self.p, deadline)
            PyErr_CheckSignals()
            if FREE_THREADED:
                look_up()
            self.usable()
            if status == OK or (status == SLICE_OVER and self.consumes):
                return OK  # in the latter case for pass_own_pads
            if status == SLICE_OVER or status == TIMED_OUT:
                fate = ring_ask_consumer(&self.p, self.mapping.own.fd, self.lease_key, &self.peer_pid)
                if fate != OK:
                    return fate
            if status == TIMED_OUT:
                raise TimeoutError(f"{self.label} was full for all of the time-out")

    # --- waiting for records -----------------------------------------------------------------------------------

    cdef int corrupt(self) except -1:
        raise errors.RecordCorrupt(
            f"{self.label}: the record at position {self.c.next} contradicts itself; what follows cannot be found"
        )

    cdef bint ended(self, uint64_t *word) except -1:
        """Nothing is there.  False if there is after all; EndOfStream if there never will be; else True."""
        cdef status_t status
        if load_seq_u32(&self.c.shared.producer_role.state) != ROLE_CLOSED:
            return True
        status = ring_next(&self.c, word)  # what was sent before the producer closed is visible now
        if status == CORRUPT:
            self.corrupt()
        if status == EMPTY:
            raise errors.EndOfStream(f"{self.label}: its producer has closed it, and everything is received")
        return False

    cdef int bury(self, status_t fate, uint64_t *word) except -1:
        """The producer has gone.  Return 1 with the record that it left meanwhile, 0 if it has an heir; or raise."""
        cdef status_t status = ring_next(&self.c, word)
        if status == OK:
            return 1
        if status == CORRUPT:
            self.corrupt()
        if fate == CLOSED:
            return 0 if self.ended(word) else 1
        raise errors.PeerDied(
            f"{self.label}: its producer, process {self.peer_pid}, has died; all that it had committed is received",
            self.peer_pid,
        )

    cdef int await_record(self, uint64_t *word, object timeout) except -1:
        """Wait until ring_next says OK.  TimeoutError, EndOfStream, PeerDied, RecordCorrupt."""
        cdef uint64_t deadline = self.deadline(timeout, self.recv_deadline)
        cdef status_t status = EMPTY, fate
        self.c.waiter.begun_ns = 0
        while True:
            if not self.ended(word):
                return 0
            if ring_spin_records(&self.c, SPIN_WITH_GIL_NS):
                status = OK
            else:
                with nogil:
                    status = ring_wait_records(&self.c, deadline)
                if status != OK:
                    PyErr_CheckSignals()
                    if FREE_THREADED:
                        look_up()  # views that others dropped
                    self.usable()
                if status == SLICE_OVER or status == TIMED_OUT:
                    fate = ring_ask_producer(&self.c, self.mapping.own.fd, self.lease_key, &self.peer_pid)
                    if fate != OK and self.bury(fate, word):
                        return 0
            if status == TIMED_OUT:
                raise TimeoutError(f"{self.label} was empty for all of the time-out")
            status = ring_next(&self.c, word)
            if status == OK:
                return 0
            if status == CORRUPT:
                self.corrupt()

    cdef int next(self, uint64_t *word, object timeout) except -1:
        """Find the next record, waiting for it; the turn is ours."""
        cdef status_t status = ring_next(&self.c, word)
        if status == OK:
            return 0
        if status == CORRUPT:
            self.corrupt()
        return self.await_record(word, timeout)

    cdef bint try_next(self, uint64_t *word) except -1:
        cdef status_t status = ring_next(&self.c, word)
        if status == OK:
            self.empty_looks = 0
            return True
        if status == CORRUPT:
            self.corrupt()
        if not self.ended(word):
            return True
        self.empty_looks += 1
        if self.empty_looks % LOOKS_PER_QUESTION == 0 or self.records_watch is not None:
            status = ring_ask_producer(&self.c, self.mapping.own.fd, self.lease_key, &self.peer_pid)
            if status != OK:
                return self.bury(status, word)
        return False

    # --- leaving -----------------------------------------------------------------------------------------------

    cdef int close_end(self) except -1:
        """What `close` does."""
        cdef bint sending = False, receiving = False, within = False
        cdef ring_header_t *ring = <ring_header_t *>self.payload
        with cython.critical_section(self):
            if self.shut:
                return 0
            self.usable()
            self.shut = True
        try:
            # Who waits at an end is woken, and gives up its turn; without a GIL, so does who is about to take a role.
            if self.consumes or FREE_THREADED:
                receiving = self.finish(&self.recv_turn, &ring.consumer_bell.word)
                within |= not receiving
            if self.produces or FREE_THREADED:
                sending = self.finish(&self.send_turn, &ring.producer_bell.word)
                within |= not sending
        finally:
            self.leave()
            if sending:
                turn_end(&self.send_turn)
            if receiving:
                turn_end(&self.recv_turn)
            if not within:  # else whoever called this within an operation of ours still looks at the memory
                with cython.critical_section(self):
                    self.mapping = None
            self.segment.close()

    cdef bint finish(self, turn_t *turn, uint32_t *bell) except -1:
        """Wait until no thread is within an operation at that end, and take the turn; False: this one has it."""
        while not turn_try(turn):
            if turn_mine(turn):
                return False
            ring_bell(bell, NULL)
            turn_ask(turn)
            with nogil:
                turn_wait(turn, 1000000)
        return True

    cdef void settle_records(self) noexcept:
        """What the descriptor says, once an operation at the receiving end is over."""
        cdef RingWatch watch
        if self.consumes and not self.shut:
            with cython.critical_section(self):
                watch = self.records_watch
            if watch is not None:
                watch.settle()

    cdef void settle_room(self) noexcept:
        cdef RingWatch watch
        if self.produces and not self.shut:
            with cython.critical_section(self):
                watch = self.room_watch
            if watch is not None:
                watch.settle()

    @cython.critical_section
    cdef void leave(self) noexcept:
        if self.records_watch is not None:
            self.records_watch.stop()
        if self.room_watch is not None:
            self.room_watch.stop()
        if self.session.generation == generation[0]:
            ring_within(&self.c)  # as a view may be at it, which from here on gives nothing back
            self.session.number += 1
            ring_without(&self.c)
            if self.produces:
                ring_close_producer(&self.p)
            if self.consumes:
                ring_close_consumer(&self.c)
        self.produces = self.consumes = False

    def __dealloc__(self):
        if self.mapping is not None:
            self.leave()
