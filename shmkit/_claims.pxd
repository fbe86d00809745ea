"""Claims: which tasks are to be done, and who does each (see _claims.pyx)."""

from libc.stdint cimport int64_t, uint64_t


cdef class Claims:
    cdef readonly object segment
    cdef uint64_t *words
    cdef readonly Py_ssize_t places
    cdef list free  # places that no task has; None in a worker
    cdef uint64_t count

    cdef int bind(self, object segment) except -1
    cdef uint64_t *word(self, uint64_t ticket) except NULL
    cpdef int64_t offer(self) except -1
    cpdef object settle(self, uint64_t ticket)
    cpdef bint claim(self, uint64_t ticket, uint64_t worker) except -1
    cpdef object answer(self, uint64_t ticket, uint64_t worker)
