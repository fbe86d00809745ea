# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""References to shared arrays in an item that is dropped: they are counted off, as if it had been received.

Else whoever put it kept their memory for as long as it lives.  The item's bytes are gone through without making
anything of them (``_codes.pxd`` says what they mean); what is in a pickle is not found.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from shmkit._codes cimport *
from shmkit._reading cimport corrupt, read_count, read_number, read_raw, read_run, read_units, reader_t
from shmkit._shared cimport SHARED_STRIDED, opened, shared_t


cdef list references_in(const uint8_t *head, size_t head_size, uint8_t *body, size_t body_size):
    """The references in an item, as the bytes that they are; up to where it contradicts itself, if it does."""
    cdef reader_t reader
    cdef uint64_t size
    cdef list found = []
    reader.at = head
    reader.end = head + head_size
    reader.body = body
    reader.body_size = body_size
    reader.parts_at = 0
    reader.pickles = False
    reader.depth = 0
    try:
        if head_size and head[0] == CODE_SPILLED:
            reader.at += 1
            size = read_number(&reader)
            if body == NULL or size > body_size:
                return found
            reader.at = body
            reader.end = body + size
            reader.parts_at = size
        go_through(&reader, found)
    except Exception:
        pass  # who is to get it would be told; nobody is
    return found


cdef int let_go(list references) except -1:
    """They are under way no more."""
    cdef shared_t said
    for said_in_bytes in references:
        memcpy(&said, <const uint8_t *>(<bytes>said_in_bytes), sizeof(said))
        try:
            opened(&said)
        except Exception:
            pass  # whoever had that memory has ended, and it with him
    return 0


cdef int go_through_all(reader_t *reader, uint64_t count, list found) except -1:
    cdef uint64_t _index
    if reader.depth >= 2 * DEPTH_MOST:
        raise corrupt("values are in each other too deep")
    reader.depth += 1
    for _index in range(count):
        go_through(reader, found)
    reader.depth -= 1
    return 0


cdef int go_through(reader_t *reader, list found) except -1:
    """One value."""
    cdef uint8_t code = read_raw(reader, 1)[0]
    cdef size_t size
    cdef uint64_t count, _index
    if code <= CODE_PLAIN:
        pass_plain(reader, code)
    elif code <= CODE_FROZENSET:
        count = read_count(reader)
        go_through_all(reader, 2 * count if code == CODE_DICT else count, found)
    elif code == CODE_SCALAR or code == CODE_ARRAY or code == CODE_ARRAY_AT:
        pass_dtype(reader)
        if code != CODE_SCALAR:
            pass_shape(reader)
        if code == CODE_ARRAY_AT:
            read_number(reader)
        else:
            read_run(reader, &size)
    elif code == CODE_PICKLE:
        read_run(reader, &size)
        count = read_number(reader)
        for _index in range(count):
            read_raw(reader, 1)
            read_run(reader, &size)
    elif code == CODE_SHARED:
        pass_shared(reader, found)
    elif CODE_INSTANCE <= code <= CODE_CLASS:
        go_through_instance(reader, code, found)
    else:
        raise corrupt(f"there is no code {code}")
    return 0


cdef int pass_plain(reader_t *reader, uint8_t code) except -1:
    cdef size_t size
    if code == CODE_INT8:
        read_raw(reader, 1)
    elif code == CODE_INT64 or code == CODE_FLOAT:
        read_raw(reader, 8)
    elif code == CODE_COMPLEX:
        read_raw(reader, 16)
    elif code == CODE_UCS2:
        read_units(reader, &size, 2)
    elif code == CODE_UCS4:
        read_units(reader, &size, 4)
    elif code > CODE_FALSE:
        read_run(reader, &size)
    return 0


cdef int pass_dtype(reader_t *reader) except -1:
    cdef size_t size
    if read_raw(reader, 1)[0] >= DTYPE_TEXT:
        read_run(reader, &size)
    return 0


cdef int pass_shape(reader_t *reader) except -1:
    """How many dimensions there are."""
    cdef int _axis, count = read_raw(reader, 1)[0] & ~ORDER_F
    for _axis in range(count):
        read_number(reader)
    return count


cdef int pass_shared(reader_t *reader, list found) except -1:
    cdef shared_t said
    cdef const uint8_t *at
    cdef int count
    pass_dtype(reader)
    count = pass_shape(reader)
    at = read_raw(reader, sizeof(said))
    memcpy(&said, at, sizeof(said))
    if said.flags & SHARED_STRIDED:
        read_raw(reader, 8 * count)
    found.append(at[:sizeof(said)])
    return 0


cdef int go_through_instance(reader_t *reader, uint8_t code, list found) except -1:
    cdef size_t size, index
    cdef const uint8_t *at = read_run(reader, &size)
    cdef uint64_t count = 0
    if code == CODE_INSTANCE or code == CODE_SLOTS or code == CODE_STATED:
        for index in range(size):
            count += at[index] == 0
        count = max(count, <uint64_t>1) - 1  # names, beside those of the module and the class
    elif code == CODE_NAMED:
        count = read_count(reader)
    elif code == CODE_MADE or code == CODE_SET_UP:
        count = 1
    elif code == CODE_EXTENDED or code == CODE_FILLED:
        count = read_count(reader) * (1 + (code == CODE_FILLED)) + 1  # what the class is called with comes first
    return go_through_all(reader, count, found)
