"""Bytes to objects: see _decode.pyx, and _codes.pxd for what the bytes mean."""

from libc.stdint cimport uint8_t

cimport numpy as cnp


cdef object unpack(const uint8_t *head, size_t head_size, uint8_t *body, size_t body_size, object owner, bint pickles)
cdef cnp.ndarray new_array(cnp.dtype kind, int count, const cnp.npy_intp *sides, void *data, bint fortran)
cdef int copy_array(cnp.ndarray array, uint8_t *to, size_t size) except -1
cdef object array_owner(object array)
