"""RingWatch: a descriptor that says when to look at a ring (see _ring_watch.pyx)."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmkit._core cimport ring_bell_t, ring_role_t
from shmkit._map cimport Mapping

ctypedef bint (*ring_ready_t)(const void *) noexcept nogil


cdef class Descriptors:
    cdef int fd                # what the program waits with
    cdef int socket            # what the other end tells; -1: there are none
    cdef uint64_t inode        # of the socket


cdef class RingWatch:
    cdef readonly int fd       # what the program waits with; -1: stopped
    cdef int socket            # what the other end tells
    cdef int peer              # readable once the other end's process has ended; -1: none
    cdef uint64_t inode        # of the socket
    cdef Descriptors opened    # who closes the first two; None: stopped
    cdef uint64_t id
    cdef uint64_t generation   # of the process whose descriptors they are
    cdef ring_bell_t *bell
    cdef const ring_role_t *role
    cdef ring_ready_t ready
    cdef const void *of
    cdef bint told             # there is a datagram in the socket
    cdef bint dead             # whoever the role names is
    cdef uint32_t epoch, state, pid
    cdef int lease_fd          # where the other end's role is asked for
    cdef uint64_t lease_key
    cdef int64_t lease_byte
    cdef object keeps          # the memory that the bell is in

    cdef bint sound(self)
    cdef void settle(self) noexcept
    cdef void stop(self) noexcept
    cdef void tell(self) noexcept
    cdef bint held(self, uint32_t *epoch, uint32_t *state, uint32_t *pid)
    cdef int follow(self) except -1
    cdef void forget_peer(self) noexcept
    cdef int look_out(self, uint32_t pid) except -1


cdef RingWatch new_ring_watch(
    ring_bell_t *bell, const ring_role_t *role, ring_ready_t ready, const void *of, Mapping keeps, uint64_t lease_key,
    int64_t lease_byte, str label
)
