"""What the elements of an array are, in the bytes of an item: see _dtypes.pyx."""

from libc.stdint cimport uint8_t

cimport numpy as cnp


cdef int plain_number(cnp.dtype kind) except -2
cdef bytes say_dtype(object kind)
cdef cnp.dtype heard_dtype(const uint8_t *said, size_t size)
cdef bint is_scalar_kind(object kind) except -1
