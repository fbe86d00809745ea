"""QueueEnd: one process's handle on a queue (see _queue_end.pyx)."""

from libc.stdint cimport uint32_t, uint64_t

from shmkit._core cimport lease_t, status_t
from shmkit._core_heap cimport queue_habit_t, queue_header_t, queue_t
from shmkit._heap cimport Heap, Hold
from shmkit._watch cimport Watch

cdef enum:
    JOINABLE = 16            # a flag: what is got is to be declared done
    POLICY_BLOCK = 0
    POLICY_RAISE = 1
    POLICY_DROP_OLDEST = 2
    POLICY_DROP_NEWEST = 3
    LOOK_EVERY_NS = 100_000_000  # between two looks for the dead


cdef class Share:
    # One handle's part in keeping a queue: the queue goes when nobody has any.
    cdef lease_t lease
    cdef Heap heap            # keeps the memory mapped
    cdef queue_header_t *header
    cdef uint64_t id
    cdef uint32_t block
    cdef bint made            # references to it were pickled


cdef class QueueEnd:
    cdef queue_t c
    cdef readonly Heap heap   # that its items lie in
    cdef Share share
    cdef uint64_t generation  # of the process that this handle knows itself in; NEVER once closed
    cdef bint shut
    cdef bint pickles         # whether pickles in it are trusted
    cdef uint32_t policy
    cdef uint32_t operations
    cdef queue_habit_t items_habit
    cdef public bint _sleeps  # a get that finds nothing sleeps at once, and leaves its core to others
    cdef public int _role     # who gets: what is counted of that (_tally.pxd)
    cdef uint64_t got_size, got_in_block  # of what a worker got last, where that is counted
    cdef queue_habit_t room_habit
    cdef Watch items_watch    # None: nobody has asked for a descriptor
    cdef Watch room_watch
    cdef object __weakref__

    cdef int enter(self) except -1
    cdef int bind(self, Share share) except -1
    cdef Hold hold(self)
    cdef Share kept(self)
    cdef int usable(self) except -1
    cdef int bear(self, Hold hold) except -1
    cdef int settle_items(self) except -1
    cdef int empty_watch(self, bint room) except -1
    cdef int drain(self) except -1
    cdef status_t drop_one(self, Hold hold, bint orphans) except *
    cdef object corrupt(self)
    cdef dict counts(self)
    cdef int discard(self, uint32_t block, Hold hold) except -1


cdef bint believed(Heap heap) except -1
cdef bint counts_tasks(QueueEnd queue) except -1
