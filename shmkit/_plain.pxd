"""Values as the payloads of frames: see _plain.pyx."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cimport numpy as cnp

cdef enum:
    HEADER = 16
    MARK = 0xA7
    WHOLE = 6
    BYTES = 16
    BYTEARRAY = 17
    TEXT = 18
    INTEGER = 19
    FLOAT = 20
    NOTHING = 21
    TRUTH = 22
    ARRAY = 23
    PICKLE = 24
    PAYLOAD_MOST = 4079  # a frame of 4096 bytes: a write of that many to a pipe is never torn
    META_MOST = 512  # of an array: rarer ones take the long way
    DIMENSIONS_MOST = 32  # of every NumPy
    NO_VIEW = -1  # as the size of a buffer's items: there is none to release

cdef class Like:
    cdef uint8_t meta[META_MOST]
    cdef uint32_t size
    cdef uint64_t nbytes
    # None: every array has one of its own.
    cdef object kind
    cdef int ndim
    cdef bint fortran
    cdef cnp.npy_intp shape[DIMENSIONS_MOST]
    cdef bint same(self, const uint8_t *meta, uint32_t size, uint64_t nbytes) noexcept
    cdef object fresh(self)
    cdef int learn(self, const uint8_t *meta, uint32_t size, uint64_t nbytes, cnp.ndarray array) except -1
    cdef object made(self, const uint8_t *meta, uint32_t size, uint64_t nbytes)

cdef int fill(object value, uint8_t *frame, uint32_t *nbytes) except -1
cdef object value_of(int kind, const uint8_t *payload, Py_ssize_t nbytes)
cdef void write_header(uint8_t *frame, int kind, uint32_t meta, uint64_t nbytes) noexcept
cdef Py_ssize_t frame_of(
    object value, bint raw, uint8_t *frame, Py_ssize_t room, const uint8_t **data, uint64_t *nbytes, Py_buffer *view
) except -1
cdef bint buffer_of(object value, Py_buffer *view, int flags) noexcept
cdef object empty_array(const uint8_t *meta, size_t size, uint64_t nbytes)
cdef uint8_t *data_of(object array) noexcept
cdef object flat_of(object owner, const uint8_t *data, uint64_t nbytes)
cdef object whole_of(const uint8_t *frame, Py_ssize_t got, uint64_t most, bint raw, Like like)
cdef Py_ssize_t rest_of_small(const uint8_t *header, uint64_t most, Py_ssize_t room) noexcept nogil
