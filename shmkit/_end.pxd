"""End: one process's handle on a ring."""

from libc.stdint cimport uint32_t, uint64_t

from shmkit._core cimport (
    ring_consumer_t, ring_producer_t, ring_role_t, session_t, status_t, turn_end, turn_t,
)
from shmkit._map cimport Mapping
from shmkit._ring_watch cimport RingWatch


cdef class End:
    cdef ring_producer_t p
    cdef ring_consumer_t c
    cdef turn_t send_turn
    cdef turn_t recv_turn
    cdef session_t session            # goes on with each role taken or left, and in a forked child
    cdef bint produces
    cdef bint consumes
    cdef bint shut
    cdef uint64_t ring_capacity       # checked once; the shared one is not read again
    cdef void *payload
    cdef uint64_t lease_key           # of the file that leases are taken on
    cdef uint32_t peer_pid            # of the other end's holder, when it was last asked about
    cdef uint32_t empty_looks
    cdef uint32_t full_looks
    cdef uint64_t send_deadline       # where the turn had to be waited for: when that wait ends; 0: it had not
    cdef uint64_t recv_deadline
    cdef RingWatch records_watch      # None: nobody has asked for a descriptor
    cdef RingWatch room_watch
    cdef readonly object segment
    cdef str label                    # what messages call it
    cdef Mapping mapping              # None once closed
    cdef object __weakref__
    cdef int usable(self) except -1
    cdef int begin_anew(self) except -1
    cdef int become(self, turn_t *turn, const bint *plays, bint producer) except -1
    cdef int claimed(self, status_t status, const ring_role_t *role, str what) except -1
    cdef bint may_leave(self, ring_role_t *role, int *tries) except -1
    cdef int claim_producer(self) except -1
    cdef int claim_consumer(self) except -1
    cdef bint take_turn(self, turn_t *turn, uint64_t deadline) except -1
    cdef uint64_t deadline(self, object timeout, uint64_t since_turn) except? 0
    cdef int check_timeout(self, turn_t *turn, object timeout) except -1
    cdef bint begin_send(self, object timeout, bint wait) except -1
    cdef bint begin_recv(self, object timeout, bint wait) except -1
    cdef int refuse_size(self, uint64_t nbytes, uint64_t head, uint64_t align) except -1
    cdef int pass_own_pads(self) except -1
    cdef bint room(self, uint64_t head, uint64_t nbytes, uint64_t align, object timeout, bint wait) except -1
    cdef int await_room(self, uint64_t deadline) except -1
    cdef int corrupt(self) except -1
    cdef bint ended(self, uint64_t *word) except -1
    cdef int bury(self, status_t fate, uint64_t *word) except -1
    cdef int await_record(self, uint64_t *word, object timeout) except -1
    cdef int next(self, uint64_t *word, object timeout) except -1
    cdef bint try_next(self, uint64_t *word) except -1
    cdef void settle_records(self) noexcept
    cdef void settle_room(self) noexcept
    cdef int close_end(self) except -1
    cdef bint finish(self, turn_t *turn, uint32_t *bell) except -1
    cdef void leave(self) noexcept


cdef inline void end_recv(End end) noexcept:
    """The operation at the receiving end is over."""
    if end.records_watch is not None:
        end.settle_records()
    turn_end(&end.recv_turn)


cdef inline void end_send(End end) noexcept:
    if end.room_watch is not None:
        end.settle_room()
    turn_end(&end.send_turn)
