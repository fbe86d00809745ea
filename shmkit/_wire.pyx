# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Messages on a descriptor, in the standard library's own framing (``_wire.h``), with its exceptions.

The GIL is released in every system call; a signal's handler runs, and the call goes on.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR
from libc.limits cimport INT_MAX
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from shmkit._core cimport clock_ns
from shmkit._core_pair cimport WIRE_ENDED, WIRE_LONG, WIRE_NOTE, wire_poll, wire_read, wire_write
from shmkit._tally cimport tally_of_run, wait_begins, wait_ends

import os

cdef uint64_t **tally = tally_of_run()

cdef enum:
    TOGETHER_MOST = 16384      # bytes of a message that is written together with its size: in one call
    SIZE_MOST = 0x7fffffff     # of what an int32 says


cdef inline uint32_t swapped(uint32_t number) noexcept nogil:
    return (number >> 24) | ((number >> 8) & 0xff00) | ((number << 8) & 0xff0000) | (number << 24)


cdef object refused(int error):
    return OSError(error, os.strerror(error))


cdef int put_all(int fd, const void *data, size_t size) except -1:
    """Writes all of it; OSError as ``os.write`` raises it."""
    cdef size_t done = 0
    cdef int error
    while True:
        with nogil:
            error = wire_write(fd, data, size, &done)
        if error == 0:
            return 0
        if error != EINTR:
            raise refused(error)
        PyErr_CheckSignals()


cdef int put_frame(int fd, const uint8_t *data, size_t size) except -1:
    """Writes a message."""
    cdef uint8_t frame[TOGETHER_MOST + 4]
    cdef uint32_t head
    cdef int index
    if size > SIZE_MOST:
        head = <uint32_t>WIRE_LONG
        put_all(fd, &head, 4)
        for index in range(8):
            frame[index] = <uint8_t>(<uint64_t>size >> (56 - 8 * index))
        put_all(fd, frame, 8)
        return put_all(fd, data, size)
    head = swapped(<uint32_t>size)
    memcpy(frame, &head, 4)
    if size <= TOGETHER_MOST:
        memcpy(frame + 4, data, size)
        return put_all(fd, frame, size + 4)
    put_all(fd, frame, 4)
    return put_all(fd, data, size)


cdef int get_all(int fd, void *data, size_t size, size_t done) except -1:
    """Reads that many bytes, of which so many are there already; EOFError where there are none any more, OSError where
    they end too early."""
    cdef int error
    while True:
        with nogil:
            error = wire_read(fd, data, size, &done)
        if error == 0:
            return 0
        if error == WIRE_ENDED:
            if done == 0:
                raise EOFError
            raise OSError("got end of file during message")
        if error != EINTR:
            raise refused(error)
        PyErr_CheckSignals()


cdef int64_t get_size(int fd, uint32_t head, size_t done) except -1:
    """Reads how many bytes a message has, of which the first `done` bytes are there already; WIRE_NOTE: a note
    follows."""
    cdef uint8_t large[8]
    cdef uint64_t size = 0
    cdef int32_t said
    cdef int index
    get_all(fd, &head, 4, done)
    said = <int32_t>swapped(head)
    if said >= 0:
        return said
    if said == WIRE_NOTE:
        return WIRE_NOTE
    if said != WIRE_LONG:
        raise OSError(f"bad message length: {said}")
    get_all(fd, large, 8, 0)
    for index in range(8):
        size = size << 8 | large[index]
    if size >> 63:
        raise OSError(f"bad message length: {size}")
    return <int64_t>size


cdef bytes get_body(int fd, int64_t size):
    """Reads a message whose size is known."""
    cdef bytes data = PyBytes_FromStringAndSize(NULL, size)
    if size:
        get_all(fd, PyBytes_AS_STRING(data), size, 0)
    return data


def read(int fd, most=None):
    """Reads a message of bytes: True if there are more than `most`, which are left; None if a note follows."""
    cdef int64_t size = get_size(fd, 0, 0)
    if size == WIRE_NOTE:
        return None
    return True if most is not None and size > most else get_body(fd, size)


def poll(int fd, timeout=0.0) -> bool:
    """Whether there is something to read, or the end; waits for it, at most `timeout` seconds, None: for ever."""
    cdef double seconds = -1.0 if timeout is None else min(max(timeout, 0.0), 1e9)
    cdef uint64_t deadline = clock_ns() + <uint64_t>(seconds * 1e9) if seconds > 0 else 0
    cdef uint64_t now, left, since
    cdef int found, wait_ms = -1 if seconds < 0 else 0
    while True:
        if seconds > 0:
            now = clock_ns()
            left = (deadline - now + 999_999) // 1_000_000 if deadline > now else 0
            wait_ms = <int>min(left, <uint64_t>INT_MAX)
        since = 0 if wait_ms == 0 else wait_begins(tally)
        with nogil:
            found = wire_poll(fd, wait_ms)
        wait_ends(tally, since)
        if found > 0:
            return True
        if found == 0:
            if wait_ms != INT_MAX:
                return False
        elif found != -EINTR:
            raise refused(-found)
        PyErr_CheckSignals()
