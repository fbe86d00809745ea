"""Messages over what the kernel has: one call each way, from the object to the system call and back.

Small plain values go every way, arrays and bytes of any size through streams. What is not plain, or not all there is
left to the caller: nothing has happened then, or what was read is handed over. The format is that of
``shmkit/channel/frame.py``.

A ``Short`` is a way in and a way out, each of which the long way opens when it has left all in order, and which is as
good as shut as soon as anything else is the matter.  Any thread may call, and waits for its turn.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.buffer cimport PyBUF_READ
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.errno cimport EAGAIN, EINTR, errno
from libc.math cimport INFINITY
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy
from posix.unistd cimport read, write

from shmkit._core_socket cimport (
    IPC_NOWAIT,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_TRUNC,
    POLLIN,
    POLLOUT,
    SYS_mq_timedreceive,
    SYS_mq_timedsend,
    iovec,
    msgrcv,
    msgsnd,
    poll,
    pollfd,
    recv,
    send,
    syscall,
)
from shmkit._map cimport fork_generation
from shmkit._parts cimport (
    advance,
    begun_at,
    go_on,
    is_time,
    milliseconds_of,
    monotonic,
    move,
    pipes_are_quiet,
    rest_of,
)
from shmkit._plain cimport (
    ARRAY,
    BYTES,
    HEADER,
    MARK,
    META_MOST,
    PICKLE,
    SMALL,
    WHOLE,
    array_of,
    data_of,
    empty_array,
    fill,
    frame_of,
    payload_of,
    value_of,
    write_header,
)
from shmkit._turns cimport Turn

import pickle

from shmkit.waiting import Deadline

cdef enum:
    SHUT = 0
    A_PIPE = 1
    A_SOCKET = 2
    A_PACKET = 3
    A_POSIX_QUEUE = 4
    A_SYSV_QUEUE = 5

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

cdef struct message_t:
    long mtype  # of System V; its message follows
    uint8_t frame[SMALL]

cdef const uint64_t *generation = fork_generation()
cdef object loads = pickle.loads


cdef class Short:
    """What an end does first.  ``_long_send`` and the like are what it does else, and say whether it may again."""

    cdef public Turn _send_turn, _recv_turn
    cdef public uint64_t _sent, _received, _bytes_sent, _bytes_received
    cdef public uint64_t _send_waits, _recv_waits
    cdef public bint _closed
    # Messages that were received and refused; and what was read of one that turned out not to be small.
    cdef public list _held, _fed
    # How the next goes (SHUT: the long way), through which descriptor, in which process, and at most how large.
    cdef int send_how, send_fd, recv_how, recv_fd
    cdef uint64_t send_forks, recv_forks, send_most, recv_most
    # A queue's priority or type.
    cdef long send_type, recv_type
    # Where whole messages are received, whatever their size: only what has been written to takes memory.
    cdef uint8_t *room
    cdef size_t room_size
    # The last array's meta and payload: the next is most often like it, and then takes two reads instead of three.
    cdef uint8_t meta[META_MOST]
    cdef uint32_t meta_size
    cdef uint64_t meta_nbytes
    # The most bytes of a frame, where the kernel keeps frames of several senders apart.
    cdef public uint64_t _frame_most

    def __cinit__(self, *arguments, **options):
        self._closed = True  # until it is open
        self._held, self._fed = [], []
        self._frame_most = <uint64_t>1 << 63

    def __dealloc__(self):
        free(self.room)

    def _open_send(self, int fd, int how, uint64_t most, long mtype=0):
        """The next message may go the short way; ``how`` 0: it must not.  It is the caller's turn."""
        self.send_fd, self.send_how, self.send_most, self.send_type = fd, how, most, mtype
        self.send_forks = generation[0]

    def _open_recv(self, int fd, int how, uint64_t most, size_t room=0, long mtype=0):
        """The same of receiving; ``room`` is the most bytes that a message which comes whole can have."""
        if how >= A_PACKET and room + sizeof(long) > self.room_size:
            free(self.room)
            self.room_size = 0
            self.room = <uint8_t *>malloc(room + sizeof(long))
            if self.room == NULL:
                raise MemoryError
            self.room_size = room + sizeof(long)
        self.recv_fd, self.recv_how, self.recv_most, self.recv_type = fd, how, most, mtype
        self.recv_forks = generation[0]

    # ------------------------------------------------------------------------------------------------------- sending

    def send(self, value, timeout=None):
        """As `Channel` says."""
        if self.send_how == SHUT or not is_time(timeout) or not self.put(value, timeout):
            self._long_send(value, timeout)

    def send_bytes(self, data, timeout=None):
        """As `Channel` says."""
        if self.send_how == SHUT or not PyBytes_CheckExact(data) or not is_time(timeout) or not self.put(data, timeout):
            self._long_send_bytes(data, timeout)

    cdef bint put(self, object value, object timeout) except -1:
        """Sends it, if it is plain and there is room soon."""
        cdef message_t message
        cdef uint32_t small = 0
        cdef uint64_t nbytes
        cdef Py_ssize_t done, size
        cdef const uint8_t *data = NULL
        cdef int kind = fill(value, message.frame + HEADER, &small)
        if kind != 0:
            nbytes, size = small, HEADER + small
            write_header(message.frame, kind, 0, nbytes)
        else:
            size = frame_of(value, message.frame, &data, &nbytes)
            if size == 0:
                return False
        if not self._send_turn.try_it():
            return False
        try:
            if self._closed or self.send_forks != generation[0] or nbytes > self.send_most:
                return False
            if data != NULL:
                if not self.put_large(value, message.frame, size, data, nbytes, timeout):
                    return False
            else:
                done = self.write_out(&message, size)
                if done < 0 and errno == EAGAIN and self.send_how != A_SYSV_QUEUE and self.wait(POLLOUT, timeout):
                    done = self.write_out(&message, size)
                if done <= 0:
                    return False
                if self.send_how <= A_SOCKET and done < size + 1:
                    # It has begun to go; and goes on as this end's long way does it, or is taken back.
                    self.send_how = SHUT
                    rest = PyBytes_FromStringAndSize(<char *>message.frame + done, size + 1 - done)
                    self._send_rest([rest], nbytes, timeout, Deadline(timeout))
            self._sent += 1
            self._bytes_sent += nbytes
        finally:
            self._send_turn.leave()
        return True

    cdef bint put_large(
        self, object value, uint8_t *head, Py_ssize_t size, const uint8_t *data, uint64_t nbytes, object timeout
    ) except -1:
        """What does not fit a small frame, through a stream, from where it lies."""
        cdef iovec parts[3]
        cdef uint8_t tail = WHOLE
        cdef bint sock = self.send_how == A_SOCKET
        cdef Py_ssize_t done, total = size + <Py_ssize_t>nbytes + 1
        cdef double end = INFINITY if timeout is None else monotonic() + <double>timeout
        cdef int fd = self.send_fd, waker
        if self.send_how > A_SOCKET or <uint64_t>total > self._frame_most or not (sock or pipes_are_quiet()):
            return False
        parts[0].iov_base, parts[0].iov_len = head, size
        parts[1].iov_base, parts[1].iov_len = <void *>data, nbytes
        parts[2].iov_base, parts[2].iov_len = &tail, 1
        with nogil:
            done = move(fd, sock, True, parts, 3)
        if done == -EAGAIN and self.wait(POLLOUT, timeout):
            with nogil:
                done = move(fd, sock, True, parts, 3)
        if done <= 0:
            return False
        if done == total:
            return True
        # As above.  Whatever happens from here on, the rest goes, or is taken back.
        advance(parts, 3, done)
        self.send_how = SHUT
        try:
            waker = self._waker_fd()
            with nogil:
                done += go_on(fd, sock, True, parts, 3, waker, end, &self._send_waits)
        except BaseException:
            self._take_back(rest_of(value, parts))
            raise
        if done < total:
            deadline = Deadline(timeout)
            if timeout is not None:
                deadline.end = end
            self._send_rest(rest_of(value, parts), nbytes, timeout, deadline)
        else:
            self.send_how = A_SOCKET if sock else A_PIPE
        return True

    cdef Py_ssize_t write_out(self, message_t *message, size_t size) except -2:
        """How many bytes went; -1: none, and errno says why."""
        cdef int how = self.send_how
        if how == A_PIPE:
            # Else a pipe that nobody reads ends the process.
            if not pipes_are_quiet():
                return 0
            message.frame[size] = WHOLE
            return write(self.send_fd, message.frame, size + 1)
        if how == A_SOCKET:
            message.frame[size] = WHOLE
            return send(self.send_fd, message.frame, size + 1, MSG_DONTWAIT | MSG_NOSIGNAL)
        if how == A_PACKET:
            return send(self.send_fd, message.frame, size, MSG_DONTWAIT | MSG_NOSIGNAL)
        if how == A_POSIX_QUEUE:
            if syscall(SYS_mq_timedsend, self.send_fd, message.frame, size, self.send_type, NULL) < 0:
                return -1
            return size
        if how == A_SYSV_QUEUE:
            message.mtype = self.send_type
            return -1 if msgsnd(self.send_fd, message, size, IPC_NOWAIT) < 0 else <Py_ssize_t>size
        return 0

    cdef bint wait(self, short events, object timeout) except -1:
        """Waits for a moment, with the turn; whether there is something to do, and nobody has closed the end."""
        cdef pollfd fds[2]
        cdef int found, milliseconds = milliseconds_of(timeout)
        if milliseconds == 0:
            return False
        if events == POLLIN:
            self._recv_waits += 1
        else:
            self._send_waits += 1
        fds[0].fd = self.recv_fd if events == POLLIN else self.send_fd
        fds[1].fd = self._waker_fd()
        fds[0].events, fds[1].events = events, POLLIN
        fds[0].revents = fds[1].revents = 0
        with nogil:
            found = poll(fds, 2, milliseconds)
        if found < 0 and errno == EINTR:
            PyErr_CheckSignals()
        return found > 0 and fds[1].revents == 0

    # ----------------------------------------------------------------------------------------------------- receiving

    def recv(self, timeout=None):
        """As `Channel` says."""
        if self.recv_how == SHUT or not is_time(timeout):
            return self._long_recv(timeout, None)
        cdef double begun = 0.0 if timeout is None else monotonic()
        found = self.take(timeout, False, begun)
        if found is NotImplemented:
            return self._long_recv(timeout, None if timeout is None else begun_at(begun, timeout))
        return found

    def recv_bytes(self, timeout=None):
        """As `Channel` says."""
        if self.recv_how == SHUT or not is_time(timeout):
            return self._long_recv_bytes(timeout, None)
        cdef double begun = 0.0 if timeout is None else monotonic()
        found = self.take(timeout, True, begun)
        if found is NotImplemented:
            return self._long_recv_bytes(timeout, None if timeout is None else begun_at(begun, timeout))
        return found

    cdef object take(self, object timeout, bint raw, double begun):
        """The next message, if it is plain (`raw`: bytes) and comes soon; NotImplemented."""
        cdef object value = NotImplemented
        cdef uint64_t nbytes = 0
        cdef int found, kind = 0
        cdef double end = INFINITY if timeout is None else begun + <double>timeout
        if not self._recv_turn.try_it():
            return NotImplemented
        try:
            if not self._closed and self.recv_forks == generation[0] and not self._held and not self._fed:
                value = self.read_in(raw, end, &kind, &nbytes, &found)
                if found == NOTHING_YET and self.recv_how != A_SYSV_QUEUE and self.wait(POLLIN, timeout):
                    value = self.read_in(raw, end, &kind, &nbytes, &found)
                if value is not NotImplemented:
                    self._received += 1
                    self._bytes_received += nbytes
        finally:
            self._recv_turn.leave()
        return loads(value) if kind == PICKLE and value is not NotImplemented else value

    cdef object read_in(self, bint raw, double end, int *kind, uint64_t *nbytes, int *found):
        """Once.  What was read of another message is fed to the long way."""
        cdef uint8_t stack[SMALL]
        cdef uint8_t *frame = stack
        cdef Py_ssize_t got, more, size
        cdef bint whole = self.recv_how >= A_PACKET
        found[0] = OTHERWISE
        if whole:
            got = self.read_whole(&frame)
        elif self.recv_how == A_SOCKET:
            got = recv(self.recv_fd, frame, HEADER, MSG_DONTWAIT)
        elif self.recv_how == A_PIPE:
            got = read(self.recv_fd, frame, HEADER)
        else:
            return NotImplemented
        if got <= 0:
            if got < 0 and errno == EAGAIN:
                found[0] = NOTHING_YET
            return NotImplemented
        if got >= HEADER:
            size = payload_of(frame, self.recv_most, raw)
            if size >= 0:
                kind[0] = frame[1]
                if not whole:
                    # Not a byte more than the header says.
                    if self.recv_how == A_SOCKET:
                        more = recv(self.recv_fd, frame + HEADER, size + 1, MSG_DONTWAIT)
                    else:
                        more = read(self.recv_fd, frame + HEADER, size + 1)
                    got += max(more, 0)
                    whole = more == size + 1 and frame[HEADER + size] == WHOLE
                else:
                    whole = got == HEADER + size
                if whole:
                    value = value_of(frame[1], frame + HEADER, <uint32_t>size)
                    if value is not NotImplemented:
                        nbytes[0] = size
                        found[0] = DONE
                        return value
            elif not whole:
                return self.read_large(raw, end, frame, kind, nbytes)
            elif frame[1] == ARRAY and not raw:
                value = array_of(frame, got, self.recv_most)
                if value is not None:
                    kind[0] = ARRAY
                    memcpy(nbytes, frame + 8, 8)
                    return value
        if self.recv_how >= A_PACKET:
            self._fed.append(PyMemoryView_FromMemory(<char *>frame, got, PyBUF_READ))
        else:
            self._fed.append(PyBytes_FromStringAndSize(<char *>frame, got))
        return NotImplemented

    cdef object read_large(self, bint raw, double end, const uint8_t *header, int *kind, uint64_t *nbytes):
        """The rest of an array, or of bytes, whose header has been read: straight to where it belongs.

        Nothing is lost, whatever happens: what was read is fed to the long way, which begins at the header.
        """
        cdef uint8_t meta[META_MOST]
        cdef iovec parts[3]
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
                if header[1] == BYTES and size == 0:
                    value = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>length)
                    data = <uint8_t *>PyBytes_AS_STRING(value)
                elif header[1] == ARRAY and size <= META_MOST and not raw:
                    guessed = size == self.meta_size and length == self.meta_nbytes
                    if guessed:
                        memcpy(meta, self.meta, size)
                    else:
                        parts[0].iov_base, parts[0].iov_len = meta, size
                        there = <uint32_t>max(move(fd, sock, False, parts, 1), 0)
                    if there == size or guessed:
                        value = empty_array(meta, size, length)
                        if value is not None:
                            data = data_of(value)
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
        total = parts[0].iov_len + <Py_ssize_t>length + 1
        try:
            with nogil:
                got = max(move(fd, sock, False, parts, 3), 0)
            if got < total:
                advance(parts, 3, got)
                waker = self._waker_fd()
                with nogil:
                    got += go_on(fd, sock, False, parts, 3, waker, end, &self._recv_waits)
        finally:
            if got < total or tail != WHOLE:
                self.feed(header, HEADER)
                if guessed:
                    there = <uint32_t>min(got, <Py_ssize_t>size)
                    got -= there
                self.feed(meta, there)
                self.feed(data, min(got, <Py_ssize_t>length))
                self.feed(&tail, max(got - <Py_ssize_t>length, 0))
                value = NotImplemented
        if value is NotImplemented:
            return value
        if guessed and memcmp(meta, self.meta, size) != 0:
            # As large as the last one, and another kind or shape.
            other = None
            try:
                other = empty_array(meta, size, length)
            except MemoryError:
                pass
            if other is None:
                self.feed(header, HEADER)
                self.feed(meta, size)
                self.feed(data, length)
                self.feed(&tail, 1)
                return NotImplemented
            memcpy(data_of(other), data, length)
            value = other
        if header[1] == ARRAY:
            memcpy(self.meta, meta, size)
            self.meta_size, self.meta_nbytes = size, length
        kind[0], nbytes[0] = header[1], length
        return value

    cdef int feed(self, const uint8_t *data, Py_ssize_t size) except -1:
        """What was read, for the long way."""
        if size > 0:
            self._fed.append(PyBytes_FromStringAndSize(<const char *>data, size))
        return 0

    cdef Py_ssize_t read_whole(self, uint8_t **frame) except -2:
        """A message that comes whole."""
        cdef Py_ssize_t got
        frame[0] = self.room
        if self.recv_how == A_PACKET:
            got = recv(self.recv_fd, self.room, self.room_size, MSG_DONTWAIT | MSG_TRUNC)
            if got > <Py_ssize_t>self.room_size:
                self._torn(got)
            return got
        if self.recv_how == A_POSIX_QUEUE:
            return syscall(SYS_mq_timedreceive, self.recv_fd, self.room, self.room_size, NULL, NULL)
        frame[0] = self.room + sizeof(long)
        # Too large for the room (E2BIG): it stays.
        got = msgrcv(self.recv_fd, self.room, self.room_size - sizeof(long), self.recv_type, IPC_NOWAIT)
        return got
