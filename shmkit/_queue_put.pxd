"""QueuePut: putting into a queue (see _queue_put.pyx)."""

from libc.stdint cimport uint32_t, uint64_t

from shmkit._core cimport status_t
from shmkit._core_heap cimport item_t
from shmkit._heap cimport Hold
from shmkit._queue_end cimport QueueEnd


cdef class QueuePut(QueueEnd):
    cdef object face  # a weak reference to who is told of what pickling raises
    cdef readonly bint _was_put     # something was put through a face
    cdef public bint _face_closed   # no more is to be

    cdef object face_is_closed(self)
    cdef int put_one(self, object obj, object block, object timeout, bint move) except -1
    cdef status_t refused(self, status_t status, int error) except *
    cdef int send(self, item_t *item, Hold hold, uint64_t deadline, bint block) except -1
    cdef int put_large(self, object item, object block, object timeout, bint move) except -1
    cdef uint32_t take(self, uint64_t size, Hold hold, uint64_t deadline, bint waited) except? 0
    cdef bint drop_oldest(self, Hold hold) except -1
    cdef bint put_again(self, object obj, object owner, object block, object timeout, bint move) except -1
    cdef int wait_room(self, uint64_t deadline, bint block) except -1
