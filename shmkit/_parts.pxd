"""Parts of a frame in and out of a stream: see _parts.pyx."""

from libc.stdint cimport uint64_t

from shmkit._core_socket cimport iovec

cdef Py_ssize_t move(int fd, bint sock, bint out, iovec *parts, int count, size_t total) noexcept
cdef void advance(iovec *parts, int count, size_t done) noexcept nogil
cdef Py_ssize_t go_on(
    int fd, bint sock, bint out, iovec *parts, int count, int waker, double end, uint64_t *waits
) noexcept nogil
cdef double monotonic() noexcept nogil
cdef bint is_time(object timeout) noexcept
cdef int milliseconds_of(object timeout) noexcept
cdef bint waited(int fd, object waker_fd, short events, object timeout, uint64_t *waits) except -1
cdef object begun_at(double end, object timeout)
cdef bint pipes_are_quiet() except -1
cdef list rest_of(object value, iovec *parts)
