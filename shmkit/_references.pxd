"""References to shared arrays in an item that nobody gets: see _references.pyx."""

from libc.stdint cimport uint8_t

cdef list references_in(const uint8_t *head, size_t head_size, uint8_t *body, size_t body_size)
cdef int let_go(list references) except -1
