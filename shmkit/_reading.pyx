# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""An item's bytes, as they are read: what is checked before anything is believed, and runs of bytes and characters."""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_DATA, PyUnicode_GET_LENGTH, PyUnicode_New
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from shmkit._codes cimport PART_ALIGN
from shmkit._record cimport COPY_WITHOUT_GIL, copy

import sys

from shmkit.errors import RecordCorrupt

cdef enum:
    KEY_MOST = 32              # characters

cdef PyObject *_keys[512]      # keys of dicts that came, all of them ASCII; ours

# Without it the table would change while it is read.
cdef bint HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


cdef object corrupt(str what):
    return RecordCorrupt(f"an item in shared memory contradicts itself: {what}")


cdef uint8_t *take_part(reader_t *reader, size_t size) except NULL:
    cdef size_t at = (reader.parts_at + PART_ALIGN - 1) // PART_ALIGN * PART_ALIGN
    if reader.body == NULL or at > reader.body_size or size > reader.body_size - at:
        raise corrupt(f"it has no {size} bytes at {at} of {reader.body_size}")
    reader.parts_at = at + size
    return reader.body + at


cdef uint64_t read_count(reader_t *reader) except? 0xdeadbeef:
    """How many values follow: each has a byte at least."""
    cdef uint64_t count = read_number(reader)
    if count > <uint64_t>(reader.end - reader.at):
        raise corrupt(f"a container has {count} values, and less than that follows")
    return count


cdef bytes new_bytes(const uint8_t *at, size_t size):
    cdef bytes made
    if size < COPY_WITHOUT_GIL:
        return PyBytes_FromStringAndSize(<const char *>at, size)
    made = PyBytes_FromStringAndSize(NULL, size)
    copy(PyBytes_AS_STRING(made), at, size)
    return made


cdef bytearray new_bytearray(const uint8_t *at, size_t size):
    cdef bytearray made = PyByteArray_FromStringAndSize(NULL, size)
    copy(PyByteArray_AS_STRING(made), at, size)
    return made


cdef object new_text(const uint8_t *at, size_t length, int unit, Py_UCS4 most):
    """A str of those characters, if they are such as Python wants in that form.

    They are looked at where nobody else can change them: a str that is not what it says is a crash later on.
    """
    cdef const uint8_t *bytes_
    cdef const uint16_t *narrow
    cdef const uint32_t *wide
    cdef size_t index
    cdef uint32_t all = 0
    cdef bint well
    if length == 0:
        return ""
    text = PyUnicode_New(length, most)
    copy(PyUnicode_DATA(text), at, length * unit)
    if unit == 1:
        bytes_ = <const uint8_t *>PyUnicode_DATA(text)
        for index in range(length):
            all |= bytes_[index]
        well = (all > 127) == (most > 127)
    elif unit == 2:
        narrow = <const uint16_t *>PyUnicode_DATA(text)
        for index in range(length):
            all |= narrow[index]
        well = all > 255
    else:
        wide = <const uint32_t *>PyUnicode_DATA(text)
        for index in range(length):
            all = max(all, wide[index])
        well = 0xffff < all <= 0x10ffff
    if not well:
        raise corrupt(f"a text of {length} characters has others than it says")
    return text


cdef object new_key(const uint8_t *at, size_t size):
    """Likewise of a few ASCII characters: the same one as last time, if possible, as keys come again and again."""
    cdef uint64_t first = 0, last = 0
    cdef PyObject **entry
    cdef PyObject *old
    if not 1 <= size <= KEY_MOST or not HAS_GIL:
        return new_text(at, size, 1, 127)
    memcpy(&first, at, min(size, <size_t>8))
    if size > 8:
        memcpy(&last, at + size - 8, 8)
    entry = &_keys[((first ^ last * 31) * 0x9E3779B97F4A7C15ULL ^ size << 60) >> 55]
    if entry[0] != NULL and <size_t>PyUnicode_GET_LENGTH(<object>entry[0]) == size and (
        memcmp(PyUnicode_DATA(<object>entry[0]), at, size) == 0
    ):
        return <object>entry[0]
    text = new_text(at, size, 1, 127)
    Py_INCREF(text)
    old, entry[0] = entry[0], <PyObject *>text
    Py_XDECREF(old)
    return text
