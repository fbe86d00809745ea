"""What was read of a stream's next message: see _ahead.pyx."""

from libc.stdint cimport uint8_t, uint32_t

from shmkit._plain cimport HEADER

cdef struct ahead_t:
    uint8_t header[HEADER]  # the first bytes of the next message
    uint32_t size           # how many of them are here
    uint32_t given          # they were handed on, with the end
    uint32_t alone          # who reads here is the only one, and through this end: more may be read

cdef class Ahead:
    cdef ahead_t *at
