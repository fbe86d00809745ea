"""Bytes to objects: see _decode.pyx, and _codes.pxd for what the bytes mean."""

from libc.stdint cimport uint8_t


cdef object unpack(const uint8_t *head, size_t head_size, uint8_t *body, size_t body_size, object owner, bint pickles)
