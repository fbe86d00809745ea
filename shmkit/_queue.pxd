"""QueueBase: many producers, many consumers, any Python object (see _queue.pyx)."""

from libc.stdint cimport uint64_t

from shmkit._core_heap cimport item_t
from shmkit._heap cimport Hold
from shmkit._queue_put cimport QueuePut
from shmkit._watch cimport Watch


cdef class QueueBase(QueuePut):
    # What the last get_many met after the items that it returned; or the items that it had when it was interrupted.
    cdef object trouble

    cdef object get_one(self, object block, object timeout)
    cdef int found_empty(self) except -1
    cdef Watch watch_items(self)
    cdef Watch watch_room(self)
    cdef Hold fetch(self, item_t *item, uint64_t deadline, bint block)
    cdef object open_item(self, item_t *item, Hold hold)
    cdef void count_item(self, item_t *item) noexcept
