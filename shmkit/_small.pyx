"""Small messages over what the kernel has: one call each way, from the object to the system call and back.

What is not small, not plain, or not all there is left to the caller: nothing has happened then, or what was read is
handed over.  The format is that of ``shmkit/channel/frame.py``.

A ``Short`` is a way in and a way out, each of which the long way opens when it has left all in order, and which is as
good as shut as soon as anything else is the matter.  Any thread may call, and waits for its turn.
"""

from cpython.bytearray cimport (
    PyByteArray_AS_STRING,
    PyByteArray_CheckExact,
    PyByteArray_FromStringAndSize,
    PyByteArray_GET_SIZE,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.buffer cimport PyBUF_READ
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact, PyLong_FromLongLong
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_CheckExact, PyUnicode_DecodeUTF8
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
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
    msgrcv,
    msgsnd,
    poll,
    pollfd,
    recv,
    send,
    syscall,
)
from shmkit._map cimport fork_generation
from shmkit._turns cimport Turn

# The signal module's own getsignal makes an enum of the answer, which takes longer than the write.
import _signal
import pickle

from shmkit.waiting import Deadline

cdef enum:
    HEADER = 16
    MARK = 0xA7
    WHOLE = 6
    BYTES = 16
    BYTEARRAY = 17
    TEXT = 18
    INTEGER = 19
    FLOAT = 20
    NOTHING = 21
    TRUTH = 22
    PICKLE = 24
    SMALL = 4096  # a whole frame: a write of that many bytes to a pipe is never torn
    PAYLOAD_MOST = 4079
    SHUT = 0
    A_PIPE = 1
    A_SOCKET = 2
    A_PACKET = 3
    A_POSIX_QUEUE = 4
    A_SYSV_QUEUE = 5
    # So long a small message is waited for, in milliseconds, before one looks at more than the descriptor.
    QUICK = 50

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
cdef object handler_of = _signal.getsignal, ignored = _signal.SIG_IGN, broken_pipe = _signal.SIGPIPE


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
    if PyByteArray_CheckExact(value):
        size = PyByteArray_GET_SIZE(value)
        if size > PAYLOAD_MOST:
            return 0
        memcpy(frame, PyByteArray_AS_STRING(value), size)
        nbytes[0] = <uint32_t>size
        return BYTEARRAY
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


cdef object value_of(int kind, const uint8_t *payload, uint32_t nbytes):
    """The value of a payload (of a pickle: its text); NotImplemented: it has not the size that it should have."""
    cdef double real
    cdef int64_t number
    if kind == BYTES:
        return PyBytes_FromStringAndSize(<const char *>payload, nbytes)
    if kind == BYTEARRAY:
        return PyByteArray_FromStringAndSize(<const char *>payload, nbytes)
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
        return PyBytes_FromStringAndSize(<const char *>payload, nbytes)
    return NotImplemented


cdef inline bint is_time(object timeout) noexcept:
    """Whether it is a time-out as most are written, whose meaning needs no check."""
    return timeout is None or (PyFloat_CheckExact(timeout) and PyFloat_AS_DOUBLE(timeout) == PyFloat_AS_DOUBLE(timeout))


cdef inline int milliseconds_of(object timeout) noexcept:
    """How long the short way waits."""
    if timeout is None or PyFloat_AS_DOUBLE(timeout) >= QUICK / 1000.0:
        return QUICK
    return <int>(PyFloat_AS_DOUBLE(timeout) * 1000) if PyFloat_AS_DOUBLE(timeout) > 0 else 0


cdef inline double monotonic() noexcept nogil:
    """Seconds, as time.monotonic has them."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef object begun_at(double begun, double timeout):
    """The end of a time-out that began then."""
    deadline = Deadline(timeout)
    if timeout > 0:
        deadline.end = begun + timeout
    return deadline


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

    def __cinit__(self, *arguments, **options):
        self._closed = True  # until it is open
        self._held, self._fed = [], []

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
        """Sends it, if it is small and plain and there is room soon."""
        cdef message_t message
        cdef uint32_t nbytes = 0
        cdef uint64_t length
        cdef Py_ssize_t done
        cdef int kind = fill(value, message.frame + HEADER, &nbytes)
        if kind == 0:
            return False
        memset(message.frame, 0, HEADER)
        message.frame[0] = MARK
        message.frame[1] = <uint8_t>kind
        length = nbytes
        memcpy(message.frame + 8, &length, 8)
        if not self._send_turn.try_it():
            return False
        try:
            if self._closed or self.send_forks != generation[0] or nbytes > self.send_most:
                return False
            done = self.write_out(&message, HEADER + nbytes)
            if done < 0 and errno == EAGAIN and self.send_how != A_SYSV_QUEUE and self.wait(POLLOUT, timeout):
                done = self.write_out(&message, HEADER + nbytes)
            if done <= 0:
                return False
            if self.send_how <= A_SOCKET and done < <Py_ssize_t>(HEADER + nbytes + 1):
                # It has begun to go; and goes on as this end's long way does it, or is taken back.
                self.send_how = SHUT
                self._send_rest(
                    PyBytes_FromStringAndSize(<char *>message.frame + done, HEADER + nbytes + 1 - done), timeout
                )
            self._sent += 1
            self._bytes_sent += nbytes
        finally:
            self._send_turn.leave()
        return True

    cdef Py_ssize_t write_out(self, message_t *message, size_t size) except -2:
        """How many bytes went; -1: none, and errno says why."""
        cdef int how = self.send_how
        if how == A_PIPE:
            # Else a pipe that nobody reads ends the process.
            handler = handler_of(broken_pipe)
            if handler is not ignored and handler != ignored:
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
        found = self.take(timeout, False)
        if found is NotImplemented:
            return self._long_recv(timeout, None if timeout is None else begun_at(begun, timeout))
        return found

    def recv_bytes(self, timeout=None):
        """As `Channel` says."""
        if self.recv_how == SHUT or not is_time(timeout):
            return self._long_recv_bytes(timeout, None)
        cdef double begun = 0.0 if timeout is None else monotonic()
        found = self.take(timeout, True)
        if found is NotImplemented:
            return self._long_recv_bytes(timeout, None if timeout is None else begun_at(begun, timeout))
        return found

    cdef object take(self, object timeout, bint raw):
        """The next message, if it is small and plain (`raw`: bytes) and comes soon; NotImplemented."""
        cdef object value = NotImplemented
        cdef uint64_t nbytes = 0
        cdef int found, kind = 0
        if not self._recv_turn.try_it():
            return NotImplemented
        try:
            if not self._closed and self.recv_forks == generation[0] and not self._held and not self._fed:
                value = self.read_in(raw, &kind, &nbytes, &found)
                if found == NOTHING_YET and self.recv_how != A_SYSV_QUEUE and self.wait(POLLIN, timeout):
                    value = self.read_in(raw, &kind, &nbytes, &found)
                if value is not NotImplemented:
                    self._received += 1
                    self._bytes_received += nbytes
        finally:
            self._recv_turn.leave()
        return loads(value) if kind == PICKLE and value is not NotImplemented else value

    cdef object read_in(self, bint raw, int *kind, uint64_t *nbytes, int *found):
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
        if self.recv_how >= A_PACKET:
            self._fed.append(PyMemoryView_FromMemory(<char *>frame, got, PyBUF_READ))
        else:
            self._fed.append(PyBytes_FromStringAndSize(<char *>frame, got))
        return NotImplemented

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


cdef inline Py_ssize_t payload_of(const uint8_t *header, uint64_t most, bint raw) noexcept nogil:
    """The bytes of a small message's payload; -1: it is not one, or not one of bytes where those are wanted."""
    cdef uint64_t nbytes, meta
    memcpy(&meta, header, 8)  # mark, kind, two empty bytes, size of the meta
    memcpy(&nbytes, header + 8, 8)
    if meta >> 16 or header[0] != MARK or nbytes > PAYLOAD_MOST or nbytes > most:
        return -1
    if header[1] != BYTES if raw else not BYTES <= header[1] <= PICKLE:
        return -1
    return <Py_ssize_t>nbytes
