"""How new segments get their headers."""

from libc.stdint cimport uint32_t, uint64_t

from shmkit._core cimport segment_header_t


cdef uint64_t new_identity() except 0
cdef int fill_header(
    segment_header_t *head, uint64_t payload_size, uint32_t kind, uint32_t flags, bytes meta, uint64_t identity
) except -1
cdef void store_header(char *addr, const segment_header_t *head, bytes meta) noexcept
cdef int write_header(int fd, const segment_header_t *head, bytes meta) except -1
