"""Objects to bytes: see _encode.pyx, and _codes.pxd for what the bytes mean."""

from libc.stdint cimport uint8_t

from shmkit._writing cimport Parts, writer_t


cdef class Parcel(Parts):
    cdef int pack(self, object item, uint8_t *head, size_t room, bint by_value=*) except -1
    cdef int write_pickle(self, writer_t *writer, object item) except -1
    cdef void take_back(self) noexcept


cdef int pack_small(object item, uint8_t *head, size_t room, bint by_value=*) except -2
cdef void take_back(object item) noexcept
cdef int pack_lent(object array, size_t offset_in_body, uint8_t *head, size_t room) except -2
