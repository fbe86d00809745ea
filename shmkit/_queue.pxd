"""QueueBase: many producers, many consumers, any Python object (see _queue.pyx)."""

from libc.stdint cimport uint32_t, uint64_t

from shmkit._core cimport lease_t, status_t
from shmkit._core_heap cimport item_t, queue_header_t, queue_t
from shmkit._heap cimport Heap, Hold


cdef class Share:
    # One handle's part in keeping a queue: the queue goes when nobody has any.
    cdef lease_t lease
    cdef Heap heap            # keeps the memory mapped
    cdef queue_header_t *header
    cdef uint64_t id
    cdef uint32_t block
    cdef bint made            # references to it were pickled


cdef class QueueBase:
    cdef queue_t c
    cdef readonly Heap heap  # that its items lie in
    cdef Share share
    cdef uint64_t generation  # of the process that this handle knows itself in; NEVER once closed
    cdef bint shut
    cdef bint pickles         # whether pickles in it are trusted
    cdef uint32_t policy
    cdef uint32_t operations
    cdef uint64_t spin_items_ns
    cdef uint64_t spin_room_ns
    cdef object __weakref__

    cdef int enter(self) except -1
    cdef int bind(self, Share share) except -1
    cdef Hold hold(self)
    cdef int send(self, item_t *item, Hold hold, uint64_t deadline, bint block) except -1
    cdef int put_large(self, object item, object block, object timeout, bint move) except -1
    cdef bint put_again(self, object obj, object owner, object block, object timeout, bint move) except -1
    cdef int wait_room(self, uint64_t deadline, bint block) except -1
    cdef int discard(self, item_t *item, Hold hold) except -1
    cdef status_t refused(self, status_t status, int error) except *
    cdef bint fetch(self, item_t *item, uint64_t deadline, bint block) except -1
    cdef object open_item(self, item_t *item, Hold hold)
