"""Messages over what the kernel has: one call each way, from the object to the system call and back.

Plain values of any size: bytes, text, numbers, None, arrays.  What is not plain, or not all there is left to the
caller: nothing has happened then, or what was read is handed over.  The format is that of ``shmkit/channel/frame.py``.

A ``Short`` is a way out (_outgoing.pyx) and a way in, each of which the long way opens when it has left all in order,
and which is as good as shut as soon as anything else is the matter.  Any thread may call, and waits for its turn.
"""

from cpython.buffer cimport PyBUF_READ, PyBUF_WRITABLE, PyBuffer_Release
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.errno cimport EAGAIN, EINTR, ENOMSG, errno
from libc.math cimport INFINITY
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from posix.unistd cimport read

from shmkit._ahead cimport Ahead, ahead_t
from shmkit._core_socket cimport (
    IPC_NOWAIT,
    MSG_DONTWAIT,
    MSG_TRUNC,
    POLLIN,
    SYS_mq_timedreceive,
    iovec,
    msghdr,
    msgrcv,
    recv,
    recvmsg,
    syscall,
)
from shmkit._map cimport fork_generation
from shmkit._outgoing cimport A_PACKET, A_PIPE, A_POSIX_QUEUE, A_SOCKET, A_SYSV_QUEUE, ROOM, SHUT, Outgoing
from shmkit._parts cimport advance, begun_at, go_on, is_time, milliseconds_of, monotonic, move, waited
from shmkit._plain cimport (
    ARRAY,
    BYTEARRAY,
    BYTES,
    HEADER,
    MARK,
    META_MOST,
    PICKLE,
    TEXT,
    WHOLE,
    Like,
    buffer_of,
    data_of,
    empty_array,
    rest_of_small,
    value_of,
    whole_of,
)

import pickle

from shmkit._arriving import Arriving
from shmkit.alarm import thread_alarm

PIPE = A_PIPE
SOCKET = A_SOCKET
PACKETS = A_PACKET
POSIX_QUEUE = A_POSIX_QUEUE
SYSV_QUEUE = A_SYSV_QUEUE

# What came of a try.
cdef enum:
    DONE
    NOTHING_YET
    OTHERWISE

cdef enum:
    # A packet with an array of so many bytes is received straight to where the array belongs, if it is like the last.
    WORTH_GUESSING = 16384

# What is wanted of the next message, and what became of it.
cdef struct wanted_t:
    bint raw        # bytes
    uint8_t *into   # where they belong; NULL: memory of their own
    uint64_t most   # as many of them
    double end      # when the time is up
    int found
    int kind
    uint64_t nbytes

cdef const uint64_t *generation = fork_generation()
cdef object loads = pickle.loads


cdef class Short(Outgoing):
    """What an end does first.  ``_long_recv`` and the like are what it does else, and say whether it may again."""

    # Messages that were received and refused; and what was read of one that turned out not to be small.
    cdef public list _held, _fed
    # How the next comes (SHUT: the long way), through which descriptor, in which process, and at most how large.
    cdef int recv_how, recv_fd
    cdef uint64_t recv_forks, recv_most
    # Of a queue.
    cdef long recv_type
    # Where whole messages are received, whatever their size: only what has been written to takes memory.
    cdef uint8_t *room
    cdef size_t room_size
    cdef Like like
    # The header of a stream's next message; NULL: none comes along.
    cdef Ahead next
    cdef ahead_t *ahead

    def __cinit__(self, *arguments, **options):
        self._held, self._fed = [], []
        self.like = Like()

    def __dealloc__(self):
        free(self.room)

    def _open_recv(self, int fd, int how, uint64_t most, size_t room=0, long mtype=0):
        """As `_open_send`; ``room`` is the most bytes that a message which comes whole can have."""
        if how >= A_PACKET and room + sizeof(long) > self.room_size:
            free(self.room)
            self.room_size = 0
            self.room = <uint8_t *>malloc(room + sizeof(long))
            if self.room == NULL:
                raise MemoryError
            self.room_size = room + sizeof(long)
        self.recv_fd, self.recv_how, self.recv_most, self.recv_type = fd, how, most, mtype
        self.recv_forks = generation[0]

    def _read_ahead(self, Ahead header):
        """From now on the next header comes along, and stands there."""
        self.next = header
        self.ahead = header.at

    def __iter__(self):
        return Arriving(self.recv)

    def recv(self, timeout=None):
        """As `Channel` says."""
        cdef wanted_t wanted
        if self.recv_how == SHUT or not is_time(timeout):
            return self._long_recv(timeout, None)
        found = self.take(timeout, False, NULL, 0, &wanted)
        if found is NotImplemented:
            return self._long_recv(timeout, begun_at(wanted.end, timeout))
        return found

    def recv_bytes(self, timeout=None):
        """As `Channel` says."""
        cdef wanted_t wanted
        if self.recv_how == SHUT or not is_time(timeout):
            return self._long_recv_bytes(timeout, None)
        found = self.take(timeout, True, NULL, 0, &wanted)
        if found is NotImplemented:
            return self._long_recv_bytes(timeout, begun_at(wanted.end, timeout))
        return found

    def recv_into(self, buffer, timeout=None):
        """As `Channel` says."""
        cdef wanted_t wanted
        cdef Py_buffer view
        if self.recv_how == SHUT or not is_time(timeout) or not buffer_of(buffer, &view, PyBUF_WRITABLE):
            return self._long_recv_into(buffer, timeout, None)
        try:
            found = self.take(timeout, True, <uint8_t *>view.buf, view.len, &wanted)
        finally:
            PyBuffer_Release(&view)
        if found is NotImplemented:
            return self._long_recv_into(buffer, timeout, begun_at(wanted.end, timeout))
        return wanted.nbytes

    def try_recv(self, default=None):
        """As `Channel` says."""
        cdef wanted_t wanted
        if self.recv_how != SHUT:
            found = self.take(0.0, False, NULL, 0, &wanted)
            if found is not NotImplemented:
                return found
        return self._long_try_recv(default)

    cdef object take(self, object timeout, bint raw, uint8_t *into, uint64_t most, wanted_t *wanted):
        """The next message, if it is plain and comes soon; NotImplemented."""
        cdef object value = NotImplemented
        wanted.raw, wanted.into, wanted.most = raw, into, most
        wanted.kind, wanted.nbytes = 0, 0
        wanted.end = INFINITY if timeout is None else monotonic() + max(<double>timeout, 0.0)
        if not self._recv_turn.try_it():
            return NotImplemented
        try:
            if not self._closed and self.recv_forks == generation[0] and not self._held and not self._fed:
                value = self.read_in(wanted)
                if wanted.found == NOTHING_YET:
                    if self.recv_how == A_SYSV_QUEUE:
                        value = self.read_sysv_within(timeout, wanted)
                    elif waited(self.recv_fd, self._waker_fd, POLLIN, timeout, &self._recv_waits):
                        value = self.read_in(wanted)
                if value is not NotImplemented:
                    self._received += 1
                    self._bytes_received += wanted.nbytes
        finally:
            self._recv_turn.leave()
        return loads(value) if wanted.kind == PICKLE and value is not NotImplemented else value

    cdef object read_in(self, wanted_t *wanted):
        """Once.  What was read of another message is fed to the long way."""
        cdef uint8_t frame[ROOM + HEADER]
        cdef Py_ssize_t got, more, rest, beyond
        cdef bint known = False
        wanted.found = OTHERWISE
        if self.recv_how >= A_PACKET:
            return self.read_whole(wanted)
        if self.ahead.size == HEADER and not self.ahead.given:
            memcpy(frame, self.ahead.header, HEADER)
            got, known, self.ahead.size = HEADER, True, 0
        elif self.ahead.size:
            return NotImplemented
        elif self.recv_how == A_SOCKET:
            got = recv(self.recv_fd, frame, HEADER, MSG_DONTWAIT)
        else:
            got = read(self.recv_fd, frame, HEADER)
        if got <= 0:
            if got < 0 and errno == EAGAIN:
                wanted.found = NOTHING_YET
            return NotImplemented
        if got == HEADER:
            rest = -1 if wanted.into != NULL else rest_of_small(frame, self.recv_most, ROOM - HEADER)
            if rest < 0:
                return self.read_large(frame, wanted)
            # Just what the header says, and the next one.
            beyond = HEADER if self.ahead.alone else 0
            if self.recv_how == A_SOCKET:
                more = recv(self.recv_fd, frame + HEADER, rest + beyond, MSG_DONTWAIT)
            else:
                more = read(self.recv_fd, frame + HEADER, rest + beyond)
            if more > rest:
                memcpy(self.ahead.header, frame + HEADER + rest, more - rest)
                self.ahead.size = <uint32_t>(more - rest)
                more = rest
            elif more < 0 and known and errno == EAGAIN:
                self.ahead.size = HEADER
                wanted.found = NOTHING_YET
                return NotImplemented
            got += max(more, 0)
            if more == rest and frame[got - 1] == WHOLE:
                value = self.value_in(frame, got - 1, wanted)
                if value is not NotImplemented:
                    return value
        self.feed(frame, got)
        return NotImplemented

    cdef object value_in(self, const uint8_t *frame, Py_ssize_t size, wanted_t *wanted):
        """What a whole message is, if it is what is wanted; NotImplemented."""
        cdef uint32_t meta
        value = NotImplemented
        if wanted.into != NULL:
            memcpy(&wanted.nbytes, frame + 8, 8)
            memcpy(&meta, frame + 4, 4)
            if not self.fits(frame, wanted) or <uint64_t>size != HEADER + meta + wanted.nbytes:
                return NotImplemented
            memcpy(wanted.into, frame + HEADER + meta, wanted.nbytes)
            value = None
        else:
            try:
                value = whole_of(frame, size, self.recv_most, wanted.raw, self.like)
            except MemoryError:
                return NotImplemented  # the long way says it
        if value is not NotImplemented:
            memcpy(&wanted.nbytes, frame + 8, 8)
            wanted.kind, wanted.found = frame[1], DONE
        return value

    cdef bint fits(self, const uint8_t *header, wanted_t *wanted) noexcept:
        """Whether a message is bytes, or can be taken as such, and goes where they are wanted."""
        cdef uint32_t meta
        cdef uint64_t nbytes
        memcpy(&meta, header + 4, 4)
        memcpy(&nbytes, header + 8, 8)
        if header[0] != MARK or header[2] or header[3] or nbytes > self.recv_most or nbytes > wanted.most:
            return False
        return meta <= META_MOST if header[1] == ARRAY else meta == 0 and header[1] in (BYTES, BYTEARRAY)

    cdef object read_large(self, const uint8_t *header, wanted_t *wanted):
        """The rest of a message through a stream whose header has been read: straight to where it belongs.

        Nothing is lost, whatever happens: what was read is fed to the long way, which begins at the header.
        """
        cdef uint8_t meta[META_MOST]
        cdef iovec parts[4]
        cdef uint8_t tail = 0
        cdef uint8_t *data = NULL
        cdef bint sock = self.recv_how == A_SOCKET, guessed = False
        cdef int fd = self.recv_fd, waker
        cdef uint32_t size, there = 0
        cdef uint64_t length
        cdef Py_ssize_t got = 0, total
        cdef object value = None
        memcpy(&size, header + 4, 4)
        memcpy(&length, header + 8, 8)
        if header[0] == MARK and header[2] == 0 and header[3] == 0 and 0 < length <= self.recv_most:
            try:
                if wanted.into != NULL:
                    if self.fits(header, wanted):
                        guessed, data, value = True, wanted.into, NotImplemented
                elif header[1] == ARRAY and size <= META_MOST and not wanted.raw:
                    guessed = size == self.like.size and length == self.like.nbytes
                    if not guessed:
                        parts[0].iov_base, parts[0].iov_len = meta, size
                        there = <uint32_t>max(move(fd, sock, False, parts, 1, size), 0)
                    if guessed:
                        value = self.like.fresh()
                    elif there == size:
                        value = empty_array(meta, size, length)
                    if value is not None:
                        data = data_of(value)
                elif header[1] == BYTEARRAY and size == 0 and not wanted.raw:
                    value = PyByteArray_FromStringAndSize(NULL, <Py_ssize_t>length)
                    data = <uint8_t *>PyByteArray_AS_STRING(value)
                elif size == 0 and (
                    header[1] in (BYTES, BYTEARRAY) if wanted.raw else header[1] in (BYTES, TEXT, PICKLE)
                ):
                    value = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>length)
                    data = <uint8_t *>PyBytes_AS_STRING(value)
            except MemoryError:
                value = None  # the long way says it
        # To make an array may take Python, and a signal's handler may have closed the end.
        if value is None or self._closed or self.recv_forks != generation[0]:
            self.feed(header, HEADER)
            self.feed(meta, there)
            return NotImplemented
        parts[0].iov_base, parts[0].iov_len = meta, size if guessed else 0
        parts[1].iov_base, parts[1].iov_len = data, length
        parts[2].iov_base, parts[2].iov_len = &tail, 1
        parts[3].iov_base, parts[3].iov_len = self.ahead.header, HEADER if self.ahead.alone else 0
        total = parts[0].iov_len + <Py_ssize_t>length + 1
        try:
            got = max(move(fd, sock, False, parts, 4, total), 0)
            if got > total:
                self.ahead.size = <uint32_t>(got - total)
                got = total
            elif got < total:
                advance(parts, 3, got)
                waker = self._waker_fd()
                with nogil:
                    got += go_on(fd, sock, False, parts, 3, waker, wanted.end, &self._recv_waits)
        finally:
            if got < total or tail != WHOLE:
                self.feed(header, HEADER)
                if guessed:
                    there = <uint32_t>min(got, <Py_ssize_t>size)
                    got -= there
                self.feed(meta, there)
                self.feed(data, min(got, <Py_ssize_t>length))
                self.feed(&tail, max(got - <Py_ssize_t>length, 0))
                value = None
        if value is None:
            return NotImplemented
        value = self.large_value(header[1], meta, size, data, length, guessed, value, wanted)
        if value is NotImplemented:
            self.feed(header, HEADER)
            self.feed(meta, size)
            self.feed(data, length)
            self.feed(&tail, 1)
            return NotImplemented
        wanted.kind, wanted.nbytes, wanted.found = header[1], length, DONE
        return value

    cdef object large_value(
        self, int kind, const uint8_t *meta, uint32_t size, const uint8_t *data, uint64_t length, bint guessed,
        object value, wanted_t *wanted
    ):
        """What came, of what was read; NotImplemented: the long way has to look at it."""
        if wanted.into != NULL:
            return None
        try:
            if kind == ARRAY:
                if guessed and not self.like.same(meta, size, length):
                    # As large as the last one, and another kind or shape.
                    other = empty_array(meta, size, length)
                    if other is None:
                        return NotImplemented
                    memcpy(data_of(other), data, length)
                    value, guessed = other, False
                if not guessed:
                    self.like.learn(meta, size, length, value)
            elif kind == TEXT:
                return value_of(TEXT, data, <Py_ssize_t>length)
        except MemoryError:
            return NotImplemented
        return value

    cdef int feed(self, const uint8_t *data, Py_ssize_t size) except -1:
        """What was read, for the long way."""
        if size > 0:
            self._fed.append(PyBytes_FromStringAndSize(<const char *>data, size))
        return 0

    cdef object read_whole(self, wanted_t *wanted):
        """A message that comes whole."""
        cdef uint8_t *frame = self.room
        cdef Py_ssize_t got
        if self.recv_how == A_PACKET:
            if wanted.into == NULL and not wanted.raw and self.like.nbytes >= WORTH_GUESSING:
                return self.read_guessed(wanted)
            got = recv(self.recv_fd, frame, self.room_size, MSG_DONTWAIT | MSG_TRUNC)
            if got > <Py_ssize_t>self.room_size:
                self._torn(got)
        elif self.recv_how == A_POSIX_QUEUE:
            got = syscall(SYS_mq_timedreceive, self.recv_fd, frame, self.room_size, NULL, NULL)
        else:
            # Too large for the room (E2BIG): it stays.
            got = msgrcv(self.recv_fd, frame, self.room_size - sizeof(long), self.recv_type, IPC_NOWAIT)
            frame += sizeof(long)
        return self.whole(frame, got, wanted)

    cdef object read_sysv_within(self, object timeout, wanted_t *wanted):
        """Waits for a moment for a message of a queue that is no descriptor: an alarm ends the call."""
        cdef Py_ssize_t got = -1
        cdef int milliseconds = milliseconds_of(timeout), error = ENOMSG
        cdef uint8_t *room = self.room
        cdef size_t size = self.room_size - sizeof(long)
        cdef int queue = self.recv_fd
        cdef long mtype = self.recv_type
        if milliseconds == 0:
            return NotImplemented
        self._recv_waits += 1
        alarm = thread_alarm()
        depth = alarm.depth
        try:
            if alarm.set(milliseconds / 1000.0):
                with nogil:
                    got = msgrcv(queue, room, size, mtype, 0)
                    error = errno
                if got < 0 and error == EINTR:
                    # Here, and not in the midst of what clears the alarm.
                    PyErr_CheckSignals()
        finally:
            # Set, or about to be, when a handler raised what comes out of here.
            if alarm.depth > depth:
                alarm.clear()
        if got < 0:
            wanted.found = OTHERWISE
            return NotImplemented
        return self.whole(room + sizeof(long), got, wanted)

    cdef object whole(self, const uint8_t *frame, Py_ssize_t got, wanted_t *wanted):
        """What came of it."""
        if got <= 0:
            if got < 0 and errno in (EAGAIN, ENOMSG):
                wanted.found = NOTHING_YET
            return NotImplemented
        value = self.value_in(frame, got, wanted) if got >= HEADER else NotImplemented
        if value is NotImplemented:
            self._fed.append(PyMemoryView_FromMemory(<char *>frame, got, PyBUF_READ))
        return value

    cdef object read_guessed(self, wanted_t *wanted):
        """A packet, as if it were an array like the last one: if it is not, it is put together in the room."""
        cdef iovec parts[3]
        cdef msghdr message
        cdef uint8_t *frame = self.room
        cdef size_t head = HEADER + self.like.size
        cdef uint64_t length = self.like.nbytes, nbytes
        cdef Py_ssize_t got
        cdef uint32_t size
        try:
            value = self.like.fresh()
        except MemoryError:
            value = None
        if value is None or head + length >= self.room_size:
            return NotImplemented
        parts[0].iov_base, parts[0].iov_len = frame, head
        parts[1].iov_base, parts[1].iov_len = data_of(value), length
        parts[2].iov_base, parts[2].iov_len = frame + head + length, self.room_size - head - length
        memset(&message, 0, sizeof(message))
        message.msg_iov, message.msg_iovlen = parts, 3
        got = recvmsg(self.recv_fd, &message, MSG_DONTWAIT | MSG_TRUNC)
        if got > <Py_ssize_t>self.room_size:
            self._torn(got)
        if got == <Py_ssize_t>(head + length):
            memcpy(&size, frame + 4, 4)
            memcpy(&nbytes, frame + 8, 8)
            if frame[0] == MARK and frame[1] == ARRAY and frame[2] == 0 and frame[3] == 0 and nbytes <= self.recv_most:
                if self.like.same(frame + HEADER, size, nbytes):
                    wanted.kind, wanted.nbytes, wanted.found = ARRAY, length, DONE
                    return value
        if got > <Py_ssize_t>head:
            memcpy(frame + head, data_of(value), min(<uint64_t>got - head, length))
        return self.whole(frame, got, wanted)
