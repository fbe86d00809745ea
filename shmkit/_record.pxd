"""Records as Python sees them: a view or a reservation holds the ring (and so the mapping) and points into it."""

from libc.stdint cimport uint8_t, uint64_t

cimport numpy as cnp

from shmkit._core cimport ring_consumer_t, ring_producer_t, session_t, turn_t
from shmkit._describe cimport Form, Memo


cdef enum:
    COPY_WITHOUT_GIL = 262144

# Memory inside a ring.  One struct serves views and reservations, so that one free list does.
cdef class Payload:
    cdef object ring                     # whose counters the release goes to
    cdef object mapping                  # outlives the ring's close()
    cdef uint8_t *data
    cdef uint64_t nbytes
    cdef Form form                       # None: the payload is bytes
    cdef bint done                       # released; committed or aborted
    cdef const session_t *current        # the ring's session now …
    cdef session_t session               # … and the one that this belongs to
    cdef ring_consumer_t *consumer       # views
    cdef uint64_t ticket
    cdef ring_producer_t *producer       # reservations
    cdef turn_t *turn                    # at the end that they are made at
    cdef object over(self)

cdef class RecordView(Payload):
    cdef void let_go(self) noexcept

cdef class Reservation(Payload):
    cdef void send(self, uint64_t nbytes) noexcept
    cdef bint send_once(self, uint64_t nbytes) noexcept
    cdef void give_up(self) noexcept
    cdef int refuse(self) except -1

cdef void copy(void *target, const void *source, size_t nbytes) noexcept
cdef Form read_form(const uint8_t *record, uint64_t word, Memo memo)
cdef object copy_out(const uint8_t *record, uint64_t word, Memo memo)
cdef void write_description(
    uint8_t *record, int ndim, const cnp.npy_intp *shape, bint fortran, bytes text
) noexcept
