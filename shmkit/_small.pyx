"""Small messages over byte streams: one call each way, from the object to the system call and back.

What is not small, not plain, or not all there is left to the caller: nothing has happened then, or what was read is
handed over.  The format is that of ``shmkit/channel/frame.py``.  Any thread may call, one at a time for each direction.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact, PyLong_FromLongLong
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_CheckExact, PyUnicode_DecodeUTF8
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.unistd cimport read, write

from shmkit._core_socket cimport MSG_DONTWAIT, MSG_NOSIGNAL, POLLIN, poll, pollfd, recv, send

cdef enum:
    HEADER = 16
    MARK = 0xA7
    WHOLE = 6
    BYTES = 16
    TEXT = 18
    INTEGER = 19
    FLOAT = 20
    NOTHING = 21
    TRUTH = 22
    PICKLE = 24
    SMALL = 4096  # a whole frame: a write of that many bytes to a pipe is never torn
    PAYLOAD_MOST = 4079
    A_PIPE = 1
    A_SOCKET = 2

PIPE = A_PIPE
SOCKET = A_SOCKET


cdef inline int integer_size(int64_t number) noexcept nogil:
    """As many bytes as it takes with its sign: what ``bit_length() // 8 + 1`` says."""
    cdef uint64_t rest = <uint64_t>number if number >= 0 else <uint64_t>0 - <uint64_t>number
    cdef int bits = 0
    while rest:
        bits += 1
        rest >>= 1
    return bits // 8 + 1


cdef int fill(object value, uint8_t *frame, uint32_t *nbytes) except -1:
    """Writes the payload of a small plain value, and returns its kind; 0: it is none."""
    cdef const char *text
    cdef Py_ssize_t size
    cdef int64_t number
    cdef double real
    cdef int overflow = 0
    if PyBytes_CheckExact(value):
        size = PyBytes_GET_SIZE(value)
        if size > PAYLOAD_MOST:
            return 0
        memcpy(frame, PyBytes_AS_STRING(value), size)
        nbytes[0] = <uint32_t>size
        return BYTES
    if PyUnicode_CheckExact(value):
        if len(value) > PAYLOAD_MOST:
            return 0
        try:
            text = PyUnicode_AsUTF8AndSize(value, &size)
        except UnicodeEncodeError:
            return 0  # lone surrogates
        if size > PAYLOAD_MOST:
            return 0
        memcpy(frame, text, size)
        nbytes[0] = <uint32_t>size
        return TEXT
    if value is None:
        nbytes[0] = 0
        return NOTHING
    if value is True or value is False:
        frame[0] = 1 if value is True else 0
        nbytes[0] = 1
        return TRUTH
    if PyFloat_CheckExact(value):
        real = PyFloat_AS_DOUBLE(value)
        memcpy(frame, &real, 8)
        nbytes[0] = 8
        return FLOAT
    if PyLong_CheckExact(value):
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow != 0 or number == (<int64_t>1 << 63):
            return 0
        size = integer_size(number)
        if size > 8:
            return 0
        memcpy(frame, &number, size)
        nbytes[0] = <uint32_t>size
        return INTEGER
    return 0


def send_small(int fd, int how, object value, uint64_t limit):
    """Send a frame at once: how many bytes its payload has; or bytes, the rest of what has begun to go.

    None: it is not small, or there is no room, or nobody reads; nothing has happened.
    """
    cdef uint8_t frame[SMALL]
    cdef uint32_t nbytes = 0
    cdef uint64_t length
    cdef Py_ssize_t done
    cdef int kind = fill(value, frame + HEADER, &nbytes)
    if kind == 0 or nbytes > limit:
        return None
    memset(frame, 0, HEADER)
    frame[0] = MARK
    frame[1] = <uint8_t>kind
    length = nbytes
    memcpy(frame + 8, &length, 8)
    frame[HEADER + nbytes] = WHOLE
    if how == A_SOCKET:
        done = send(fd, frame, HEADER + nbytes + 1, MSG_DONTWAIT | MSG_NOSIGNAL)
    else:
        done = write(fd, frame, HEADER + nbytes + 1)
    if done == <Py_ssize_t>(HEADER + nbytes + 1):
        return nbytes
    if done <= 0:
        return None
    return PyBytes_FromStringAndSize(<char *>frame + done, HEADER + nbytes + 1 - done)


cdef object value_of(int kind, const uint8_t *payload, uint32_t nbytes):
    """The value of a payload; NotImplemented: it has not the size that it should have."""
    cdef double real
    cdef int64_t number
    if kind == BYTES:
        return PyBytes_FromStringAndSize(<const char *>payload, nbytes)
    if kind == TEXT:
        try:
            return PyUnicode_DecodeUTF8(<const char *>payload, nbytes, NULL)
        except UnicodeDecodeError:
            return NotImplemented
    if kind == INTEGER:
        if nbytes < 1 or nbytes > 8:
            return NotImplemented
        number = -1 if payload[nbytes - 1] & 0x80 else 0
        memcpy(&number, payload, nbytes)
        return PyLong_FromLongLong(number)
    if kind == FLOAT and nbytes == 8:
        memcpy(&real, payload, 8)
        return real
    if kind == NOTHING and nbytes == 0:
        return None
    if kind == TRUTH and nbytes == 1:
        return payload[0] != 0
    if kind == PICKLE:
        return (PyBytes_FromStringAndSize(<const char *>payload, nbytes),)
    return NotImplemented


cdef inline Py_ssize_t take(int fd, int how, void *data, size_t size) noexcept nogil:
    if how == A_SOCKET:
        return recv(fd, data, size, MSG_DONTWAIT)
    return read(fd, data, size)


def recv_small(int fd, int how, int waker, int milliseconds, uint64_t limit, list rest):
    """Receive a small message, waiting for it so long: its value (of a pickle: the text in a tuple).

    NotImplemented: it is another kind of message, or not all there, or nothing is; what was read is put into `rest`.
    """
    cdef uint8_t frame[SMALL]
    cdef pollfd fds[2]
    cdef uint64_t nbytes, meta
    cdef Py_ssize_t got, more
    cdef int found
    got = take(fd, how, frame, HEADER)
    if got < 0:
        if milliseconds == 0:
            return NotImplemented
        fds[0].fd, fds[0].events, fds[0].revents = fd, POLLIN, 0
        fds[1].fd, fds[1].events, fds[1].revents = waker, POLLIN, 0
        with nogil:
            found = poll(fds, 2, milliseconds)
        if found <= 0 or fds[1].revents != 0:
            if found < 0 and errno == EINTR:
                PyErr_CheckSignals()
            return NotImplemented
        got = take(fd, how, frame, HEADER)
    if got <= 0:
        return NotImplemented
    if got == HEADER:
        memcpy(&meta, frame, 8)  # mark, kind, two empty bytes, size of the meta
        memcpy(&nbytes, frame + 8, 8)
        if (meta >> 16) == 0 and frame[0] == MARK and nbytes <= PAYLOAD_MOST and nbytes <= limit and (
            BYTES <= frame[1] <= PICKLE
        ):
            more = take(fd, how, frame + HEADER, <size_t>nbytes + 1)
            if more > 0:
                got += more
            if more == <Py_ssize_t>nbytes + 1 and frame[HEADER + nbytes] == WHOLE:
                value = value_of(frame[1], frame + HEADER, <uint32_t>nbytes)
                if value is not NotImplemented:
                    return value
    rest.append(PyBytes_FromStringAndSize(<char *>frame, got))
    return NotImplemented
