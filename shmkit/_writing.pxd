"""An item's bytes in the making: see _writing.pyx, and _codes.pxd for what the bytes mean."""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    NOT_HERE = 1             # not to be encoded without pickle, or there is no room


cdef struct writer_t:
    uint8_t *at              # where the stream begins
    size_t used
    size_t room
    void *parcel             # borrowed: the Parts that takes more than the room; NULL: there is no more
    int depth
    int common               # tuples that this value is in, and that may come twice
    int hashed               # sets, and keys of dicts, that it is in
    int instances            # instances that it is in: pickle's ways are kept to the letter there
    bint by_value            # shared arrays are copied, as others are: nothing in it refers to other memory


cdef struct part_t:
    const uint8_t *at        # NULL: the array `keeper` is copied element by element
    size_t size
    void *keeper             # borrowed from Parts.keepers


cdef class Parts:
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
    cdef list referred       # the mappings of shared arrays that the item refers to; None: there are none
    cdef bint counted        # those references count as under way

    cdef int add_part(self, object keeper, const void *at, size_t size) except -1
    cdef int grow(self, writer_t *writer, size_t size) except -1
    cdef int write(self, uint8_t *body) except -1
    cdef void clear(self) noexcept


cdef int write_run(writer_t *writer, object keeper, const void *data, size_t size) except -1


cdef inline void begin(writer_t *writer, uint8_t *head, size_t room, void *parcel, bint by_value=False) noexcept:
    writer.at = head
    writer.used = 0
    writer.room = room
    writer.parcel = parcel
    writer.depth = 0
    writer.common = 0
    writer.hashed = 0
    writer.instances = 0
    writer.by_value = by_value


cdef inline int need(writer_t *writer, size_t size) except -1:
    """Makes sure of room for `size` bytes more; NOT_HERE if there is none."""
    if size <= writer.room - writer.used:
        return 0
    if writer.parcel == NULL:
        return NOT_HERE
    return (<Parts>writer.parcel).grow(writer, size)


cdef inline int write_byte(writer_t *writer, uint8_t value) except -1:
    if need(writer, 1):
        return NOT_HERE
    writer.at[writer.used] = value
    writer.used += 1
    return 0


cdef inline int write_raw(writer_t *writer, const void *data, size_t size) except -1:
    if need(writer, size):
        return NOT_HERE
    memcpy(writer.at + writer.used, data, size)
    writer.used += size
    return 0


cdef inline int write_coded(writer_t *writer, uint8_t code, const void *data, size_t size) except -1:
    """A code, and a few bytes."""
    if need(writer, size + 1):
        return NOT_HERE
    writer.at[writer.used] = code
    memcpy(writer.at + writer.used + 1, data, size)
    writer.used += size + 1
    return 0


cdef inline int write_number(writer_t *writer, uint64_t value) except -1:
    if need(writer, 10):
        if value >= 128 or need(writer, 1):
            return NOT_HERE
    while value >= 128:
        writer.at[writer.used] = <uint8_t>(value | 128)
        writer.used += 1
        value >>= 7
    writer.at[writer.used] = <uint8_t>value
    writer.used += 1
    return 0


cdef inline size_t aligned(size_t at) noexcept nogil:
    return (at + 63) & ~<size_t>63
