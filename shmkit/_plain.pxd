"""Values as the payloads of frames: see _plain.pyx."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

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
    SMALL = 4096  # a whole frame: a write of that many bytes to a pipe is never torn
    PAYLOAD_MOST = 4079
    META_MOST = 512  # of an array: rarer ones take the long way

cdef int fill(object value, uint8_t *frame, uint32_t *nbytes) except -1
cdef object value_of(int kind, const uint8_t *payload, uint32_t nbytes)
cdef void write_header(uint8_t *frame, int kind, uint32_t meta, uint64_t nbytes) noexcept
cdef Py_ssize_t frame_of(object value, uint8_t *frame, const uint8_t **data, uint64_t *nbytes) except -1
cdef object empty_array(const uint8_t *meta, size_t size, uint64_t nbytes)
cdef uint8_t *data_of(object array) noexcept
cdef object flat_of(object owner, const uint8_t *data, uint64_t nbytes)
cdef object array_of(const uint8_t *frame, Py_ssize_t got, uint64_t most)
cdef Py_ssize_t payload_of(const uint8_t *header, uint64_t most, bint raw) noexcept nogil
