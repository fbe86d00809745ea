"""Objects to bytes: see _encode.pyx, and _codes.pxd for what the bytes mean."""

from libc.stdint cimport uint8_t


cdef struct writer_t:
    uint8_t *at            # where the stream begins
    size_t used
    size_t room
    void *parcel           # borrowed: the Parcel that takes parts and more room; NULL: neither is to be had
    int depth


cdef struct part_t:
    const uint8_t *at      # NULL: the array `keeper` is copied element by element
    size_t size
    void *keeper           # borrowed from Parcel.keepers


cdef class Parcel:
    cdef uint8_t *head
    cdef size_t head_size
    cdef size_t body_size
    cdef uint8_t *stream
    cdef size_t stream_room
    cdef size_t stream_size  # 0: it is in the head
    cdef part_t *parts
    cdef size_t parts_count
    cdef size_t parts_room
    cdef list keepers
    cdef set seen            # mutable objects that were encoded: one that comes twice is left to pickle

    cdef int pack(self, object item, uint8_t *head, size_t room) except -1
    cdef int write(self, uint8_t *body) except -1
    cdef void clear(self) noexcept
    cdef int add_part(self, object keeper, const void *at, size_t size) except -1
    cdef int write_pickle(self, writer_t *writer, object item) except -1
    cdef int grow(self, writer_t *writer, size_t size) except -1


cdef int pack_small(object item, uint8_t *head, size_t room) except -2
cdef int pack_lent(object array, size_t offset_in_body, uint8_t *head, size_t room) except -2
