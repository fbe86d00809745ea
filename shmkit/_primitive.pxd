"""Primitive: what locks, semaphores and their kin have in common (see _primitive.pyx)."""

from libc.stdint cimport uint32_t, uint64_t

from shmkit._core cimport status_t, waiter_t
from shmkit._map cimport Mapping
from shmkit._membership cimport Member

cdef enum:
    SPIN_WITH_GIL_NS = 1000

# One round of a wait, without the GIL: OK, TIMED_OUT, INTERRUPTED, SLICE_OVER, or what the primitive makes of it.
ctypedef status_t (*round_t)(void *of, waiter_t *waiter, uint64_t deadline_ns) noexcept nogil

cdef str kind_text(uint32_t kind)


cdef class Primitive:
    cdef void *cell                  # of this primitive, in the mapping
    cdef Mapping mapping             # kept until this handle dies, so that no thread ever waits on memory that is gone
    cdef Member member
    cdef readonly object segment     # a Segment; of anonymous ones, the segment that they share
    cdef uint64_t at                 # where the cell stands in the payload
    cdef object room                 # the Room that an anonymous one has in a shared segment
    cdef uint64_t generation         # of the process that this handle knows itself in; NEVER once closed
    cdef bint shut
    cdef uint64_t spin_ns            # learnt by waits
    cdef object __weakref__

    # What each primitive says of itself.
    cdef uint64_t size(self) except 0
    cdef int format(self) except -1
    cdef int check(self, uint64_t room) except -1
    cdef int bind(self) except -1

    cdef int fresh(self) except -1
    cdef int settle(self) except -1
    cdef int settle_at(self, Mapping mapping, object segment, uint64_t at) except -1
    cdef int check_kind(self, uint64_t room, uint64_t size, uint32_t kind) except -1
    cdef int enter(self) except -1
    cdef int wait_rounds(self, round_t round, void *of, uint64_t deadline_ns) except -1
    cdef str called(self)
    cdef int refuse(self, str rule, object value) except -1
