"""SendingEnd: the half of a ring that sends."""

from libc.stdint cimport uint8_t, uint64_t

cimport numpy as cnp

from shmkit._describe cimport Form, Memo
from shmkit._end cimport End


cdef uint64_t positive_size(object value) except? 0


cdef class SendingEnd(End):
    cdef Memo sent                    # the last dtype sent
    cdef Form reserved                # what reserve() was last asked for
    cdef bint put_array(self, cnp.ndarray array, object timeout, bint wait) except -1
    cdef bint put_bytes(self, const uint8_t *source, uint64_t nbytes, object timeout, bint wait) except -1
    cdef bint put(self, object data, object timeout, bint wait) except -1
    cdef Py_ssize_t put_items(self, object items, object timeout, Py_ssize_t *sent) except -1
    cdef Py_ssize_t put_rows(self, object items, object itemsize, object timeout, Py_ssize_t *sent) except -1
    cdef Form form_of(self, object shape, object dtype, object order)
