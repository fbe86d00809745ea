# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""An item's bytes in the making: a stream, and large runs of bytes beside it, which are copied last.

Every ``write_`` returns 0, or NOT_HERE if there is no room: without Parts there is the head's and no more.
"""

from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

cimport numpy as cnp

from shmkit._codes cimport PART_LEAST
from shmkit._decode_arrays cimport copy_array
from shmkit._record cimport copy

cnp.import_array()


cdef int write_run(writer_t *writer, object keeper, const void *data, size_t size) except -1:
    """A run of bytes: in the stream, or a part."""
    if write_number(writer, size):
        return NOT_HERE
    if size < PART_LEAST:
        return write_raw(writer, data, size)
    if writer.parcel == NULL:
        return NOT_HERE
    return (<Parts>writer.parcel).add_part(keeper, data, size)


cdef class Parts:
    """Where an item goes that is more than its head."""

    def __cinit__(self):
        self.keepers = []

    def __dealloc__(self):
        PyMem_Free(self.stream)
        PyMem_Free(self.parts)

    cdef int grow(self, writer_t *writer, size_t size) except -1:
        cdef size_t room = max(writer.used + size, 2 * writer.room, <size_t>256)
        cdef uint8_t *stream = <uint8_t *>PyMem_Realloc(self.stream, room)
        if stream == NULL:
            raise MemoryError()
        if writer.at != self.stream:  # it began in the head
            memcpy(stream, writer.at, writer.used)
        self.stream = stream
        self.stream_room = room
        writer.at = stream
        writer.room = room
        return 0

    cdef int add_part(self, object keeper, const void *at, size_t size) except -1:
        cdef part_t *parts
        cdef size_t room
        if self.parts_count == self.parts_room:
            room = 2 * self.parts_room + 4
            parts = <part_t *>PyMem_Realloc(self.parts, room * sizeof(part_t))
            if parts == NULL:
                raise MemoryError()
            self.parts = parts
            self.parts_room = room
        self.keepers.append(keeper)
        self.parts[self.parts_count].at = <const uint8_t *>at
        self.parts[self.parts_count].size = size
        self.parts[self.parts_count].keeper = <void *>keeper
        self.parts_count += 1
        return 0

    cdef int write(self, uint8_t *body) except -1:
        """Copies the body, of `body_size` bytes, to where it is to be."""
        cdef size_t at, index
        cdef part_t *part
        copy(body, self.stream, self.stream_size)
        at = self.stream_size
        for index in range(self.parts_count):
            part = &self.parts[index]
            at = aligned(at)
            if part.at == NULL:
                copy_array(<cnp.ndarray><object>part.keeper, body + at, part.size)
            else:
                copy(body + at, part.at, part.size)
            at += part.size
        return 0

    cdef void clear(self) noexcept:
        """Lets go of what it was to copy."""
        self.parts_count = 0
        self.stream_size = 0
        self.seen = None
        self.referred = None
        self.counted = False
        if self.keepers:
            self.keepers = []
