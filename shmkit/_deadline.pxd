"""Time-outs, as instants (see _deadline.pyx)."""

from libc.stdint cimport uint64_t

cdef uint64_t deadline_of(object timeout) except? 0
cdef int check_timeout(object timeout) except -1
cdef uint64_t deadline_after(object timeout) except? 0
cdef object timeout_clock(object timeout)
