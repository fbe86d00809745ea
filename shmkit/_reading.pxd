"""An item's bytes, as they are read: see _reading.pyx, and _codes.pxd for what they mean."""

from libc.stdint cimport uint8_t, uint64_t

from shmkit._codes cimport PART_LEAST


cdef struct reader_t:
    const uint8_t *at
    const uint8_t *end
    uint8_t *body
    size_t body_size
    size_t parts_at   # where the next part may begin
    bint pickles
    int depth


cdef object corrupt(str what)
cdef uint8_t *take_part(reader_t *reader, size_t size) except NULL
cdef uint64_t read_count(reader_t *reader) except? 0xdeadbeef
cdef bytes new_bytes(const uint8_t *at, size_t size)
cdef bytearray new_bytearray(const uint8_t *at, size_t size)
cdef object new_key(const uint8_t *at, size_t size)
cdef object new_text(const uint8_t *at, size_t length, int unit, Py_UCS4 most)


cdef inline const uint8_t *read_raw(reader_t *reader, size_t size) except NULL:
    cdef const uint8_t *at = reader.at
    if size > <size_t>(reader.end - at):
        raise corrupt("it ends in the middle of a value")
    reader.at = at + size
    return at


cdef inline uint64_t read_number(reader_t *reader) except? 0xdeadbeef:
    cdef uint64_t value = 0
    cdef int shift = 0
    cdef uint8_t byte
    while shift < 64:
        byte = read_raw(reader, 1)[0]
        value |= <uint64_t>(byte & 127) << shift
        if byte < 128:
            return value
        shift += 7
    raise corrupt("a number has more than 64 bits")


cdef inline const uint8_t *read_units(reader_t *reader, size_t *size, size_t unit) except NULL:
    """Where a run of bytes stands, a whole number of units."""
    size[0] = read_number(reader)
    if size[0] % unit:
        raise corrupt(f"{size[0]} bytes are no whole number of {unit}")
    if size[0] < PART_LEAST:
        return read_raw(reader, size[0])
    return take_part(reader, size[0])


cdef inline const uint8_t *read_run(reader_t *reader, size_t *size) except NULL:
    """Where a run of bytes stands."""
    cdef const uint8_t *at = reader.at
    if at != reader.end and at[0] < min(128, reader.end - at):  # its size is one byte, and it is there
        size[0] = at[0]
        reader.at = at + 1 + size[0]
        return at + 1
    return read_units(reader, size, 1)
