"""Ties and names of pipes (see _pair_tie.pyx)."""

from libc.stdint cimport uint32_t, uint64_t

from shmkit._core cimport lease_t
from shmkit._core_pair cimport pair_header_t
from shmkit._heap cimport Heap


cdef class Names:
    # The ids of messages that this process is writing: their lease ends with it.
    cdef lease_t lease
    cdef uint64_t first
    cdef uint64_t next
    cdef uint64_t generation
    cdef uint32_t pid


cdef class Tie:
    # The part of a process, and of the children that it forks, in keeping what is on its way.
    cdef Heap heap
    cdef uint64_t id
    cdef uint32_t block
    cdef pair_header_t *header
    cdef lease_t lease
    cdef uint64_t made_in     # the generation of the process that pickled references; 0: none were


cdef uint64_t new_ids(Heap heap, lease_t *lease, short type, bint inherited) except 0
cdef Names names_in(Heap heap)
cdef Tie new_tie()
cdef bint may_pass(object error) except -1
cdef Tie find_tie(object segment, uint32_t block, uint64_t id)
cdef int park(Tie tie) except -1
cdef bint is_parked() noexcept
