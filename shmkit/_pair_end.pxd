"""PairEnd: what a process knows of the two ends of a pipe (see _pair_end.pyx)."""

from libc.stdint cimport uint32_t, uint64_t

from shmkit._core cimport lease_t
from shmkit._core_pair cimport pair_header_t, pair_note_t, pair_way_t
from shmkit._heap cimport Block, Heap, Hold


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


cdef class PairEnd:
    cdef Heap heap
    cdef Tie tie              # None: there is none yet, as no other process has an end; or `plain`
    cdef bint plain           # all messages go through the descriptor
    cdef void *before         # borrowed: its neighbours among those that have no tie yet
    cdef void *after
    cdef bint listed
    cdef Names names
    cdef pair_way_t ways[2]
    cdef uint64_t generation

    cdef int enter(self) except -1
    cdef int tied(self) except -1
    cdef int settle(self, Tie tie) except -1
    cdef int unlist(self) noexcept
    cdef Hold holding(self)
    cdef Block room(self, int fd, int side, uint64_t size)
    cdef int wait_taken(self, int fd, int side, uint64_t most, uint32_t count) except -1
    cdef int post(self, int fd, int side, Block block, int kind, uint64_t size) except -1


cdef Tie find_tie(object segment, uint32_t block, uint64_t id)
cdef PairEnd untied(PairEnd pair)
