"""Messages on a descriptor: see _wire.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint32_t


cdef object refused(int error)
cdef int put_all(int fd, const void *data, size_t size) except -1
cdef int put_frame(int fd, const uint8_t *data, size_t size) except -1
cdef int get_all(int fd, void *data, size_t size, size_t done) except -1
cdef int64_t get_size(int fd, uint32_t head, size_t done) except -1
cdef bytes get_body(int fd, int64_t size)
