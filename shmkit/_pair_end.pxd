"""PairEnd: what a process knows of the two ends of a pipe (see _pair_end.pyx)."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from shmkit._core cimport turn_t
from shmkit._core_pair cimport meet_reader_t, meet_sender_t, pair_note_t, pair_way_t
from shmkit._heap cimport Block, Heap, Hold
from shmkit._pair_tie cimport Names, Tie


cdef class PairEnd:
    cdef Heap heap
    cdef Tie tie              # None: there is none yet, as no other process has an end; or `plain`
    cdef bint plain           # all messages go through the descriptor
    cdef uint64_t again_ns    # … until what failed has been tried again, not before; NEVER: for good
    cdef void *before         # borrowed: its neighbours among those that have no tie yet
    cdef void *after
    cdef bint listed
    cdef Names names
    cdef pair_way_t ways[2]
    cdef uint64_t generation
    cdef uint64_t forks        # of this process, when this was made
    # Small messages from hand to hand (_pair_meet.h), by the end that is sent from, or that receives.
    cdef meet_sender_t senders[2]
    cdef meet_reader_t readers[2]
    cdef turn_t send_turns[2]  # of this process's threads at an end: messages do not tear each other
    cdef turn_t recv_turns[2]
    cdef uint64_t turns_of     # the generation of the process whose they are
    cdef bint left[2]          # ends whose descriptor was closed
    cdef bint retired[2]       # its number is still used, and nothing is behind it (wire_retire)
    cdef uint64_t known_as[2]  # what the descriptor was when somebody asked for its number; 0: nobody has

    cdef int enter(self) except -1
    cdef int begin_anew(self) except -1
    cdef int reset_turns(self) except -1
    cdef bint begin(self, turn_t *turn, int side) except -1
    cdef int end(self, turn_t *turn, int fd, int side) noexcept
    cdef bint in_turn(self, int side) noexcept
    cdef int tied(self) except -1
    cdef int tied_or_never(self) except -1
    cdef int do_without(self, object error) except -1
    cdef bint try_again(self) except -1
    cdef int settle(self, Tie tie) except -1
    cdef int unlist(self) noexcept
    cdef Hold holding(self)
    cdef Hold may_hold(self)
    cdef Block room(self, int fd, int side, uint64_t size)
    cdef int wait_taken(self, int fd, int side, uint64_t most, uint32_t count) except -1
    cdef bint is_itself(self, int fd, int side) noexcept
    cdef bint hand(self, int fd, int side, const void *data, size_t size, uint32_t note) except -1
    cdef int put(self, int fd, int side, const uint8_t *data, size_t size) except -1
    cdef int64_t get(self, int fd, int side, uint64_t *into, bint *handed) except? -1
    cdef int post(self, int fd, int side, Block block, int kind, uint64_t size) except -1


cdef PairEnd untied(PairEnd pair)
