"""What an end sends with one call, from the object to the system call.

Plain values: bytes, text, numbers, None, arrays.  What is not plain, or does not go at once, is left to the caller:
nothing has happened then.  The format is that of ``shmkit/channel/frame.py``.
"""

from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_CheckExact, PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, errno
from libc.math cimport INFINITY
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from posix.unistd cimport write

from shmkit._core_socket cimport (
    IPC_NOWAIT,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    POLLOUT,
    SYS_mq_timedsend,
    iovec,
    msgsnd,
    send,
    syscall,
)
from shmkit._map cimport fork_generation
from shmkit._parts cimport advance, go_on, is_time, monotonic, move, pipes_are_quiet, rest_of, waited
from shmkit._plain cimport HEADER, NO_VIEW, WHOLE, fill, frame_of, write_header

from shmkit.waiting import Deadline

cdef const uint64_t *generation = fork_generation()


cdef class Outgoing:
    """An end that sends.  ``_long_send`` and the like are what it does else, and say whether it may again."""

    def __cinit__(self, *arguments, **options):
        self._closed = True  # until it is open
        self._frame_most = <uint64_t>1 << 63

    def _open_send(self, int fd, int how, uint64_t most, long mtype=0):
        """The next message may go the short way; ``how`` 0: it must not.  It is the caller's turn."""
        self.send_fd, self.send_how, self.send_most, self.send_type = fd, how, most, mtype
        self.send_forks = generation[0]

    def send(self, value, timeout=None):
        """As `Channel` says."""
        if self.send_how == SHUT or not is_time(timeout) or not self.put(value, False, timeout, False):
            self._long_send(value, timeout)

    def send_bytes(self, data, timeout=None):
        """As `Channel` says."""
        if self.send_how == SHUT or not is_time(timeout) or not self.put(data, True, timeout, False):
            self._long_send_bytes(data, timeout)

    def try_send(self, value):
        """As `Channel` says."""
        if self.send_how != SHUT and self.put(value, False, 0.0, True):
            return True
        return self._long_try_send(value)

    cdef bint put(self, object value, bint raw, object timeout, bint tries) except -1:
        """Sends it, if it is plain and there is room soon; ``tries``: what has begun to go counts."""
        cdef message_t message
        cdef Py_buffer view
        cdef uint32_t small = 0
        cdef uint64_t nbytes = 0
        cdef Py_ssize_t size
        cdef const uint8_t *data = NULL
        cdef int kind = 0
        view.itemsize = NO_VIEW
        try:
            if not raw or PyBytes_CheckExact(value):
                kind = fill(value, message.frame + HEADER, &small)
            if kind != 0:
                nbytes, size = small, HEADER + small
                write_header(message.frame, kind, 0, nbytes)
            else:
                size = frame_of(value, raw, message.frame, ROOM - 1, &data, &nbytes, &view)
                if size == 0:
                    return False
            if not self._send_turn.try_it():
                return False
            try:
                if not self.put_framed(value, &message, size, data, nbytes, timeout, tries):
                    return False
                self._sent += 1
                self._bytes_sent += nbytes
            finally:
                self._send_turn.leave()
            return True
        finally:
            if view.itemsize != NO_VIEW:
                PyBuffer_Release(&view)

    cdef bint put_framed(
        self, object value, message_t *message, Py_ssize_t size, const uint8_t *data, uint64_t nbytes, object timeout,
        bint tries
    ) except -1:
        """The same, with the turn, of what begins in ``message``; ``data``: the payload lies elsewhere."""
        cdef Py_ssize_t done
        if self._closed or self.send_forks != generation[0] or nbytes > self.send_most:
            return False
        if size + (nbytes if data != NULL else 0) + 1 > self._frame_most:
            return False
        if data != NULL:
            return self.put_parts(value, message.frame, size, data, nbytes, timeout, tries)
        done = self.write_out(message, size)
        if done < 0 and errno == EAGAIN and self.send_how != A_SYSV_QUEUE and self.room_within(timeout):
            done = self.write_out(message, size)
        if done <= 0:
            return False
        if self.send_how <= A_SOCKET and done < size + 1:
            # It has begun to go; and goes on as this end's long way does it, or is taken back.
            self.send_how = SHUT
            rest = [PyBytes_FromStringAndSize(<char *>message.frame + done, size + 1 - done)]
            if tries:
                self._keep_rest(rest)
            else:
                self._send_rest(rest, nbytes, timeout, Deadline(timeout))
        return True

    cdef bint put_parts(
        self, object value, uint8_t *head, Py_ssize_t size, const uint8_t *data, uint64_t nbytes, object timeout,
        bint tries
    ) except -1:
        """What is larger, from where it lies."""
        cdef iovec parts[3]
        cdef uint8_t tail = WHOLE
        cdef int how = self.send_how, fd = self.send_fd, waker, count = 2 if how == A_PACKET else 3
        cdef bint sock = how != A_PIPE
        cdef Py_ssize_t done, total = size + <Py_ssize_t>nbytes + (count == 3)
        cdef double end = INFINITY if timeout is None else monotonic() + <double>timeout
        if how > A_PACKET or not (sock or pipes_are_quiet()):
            return False
        parts[0].iov_base, parts[0].iov_len = head, size
        parts[1].iov_base, parts[1].iov_len = <void *>data, nbytes
        parts[2].iov_base, parts[2].iov_len = &tail, 1
        done = move(fd, sock, True, parts, count, total)
        if done == -EAGAIN and self.room_within(timeout):
            done = move(fd, sock, True, parts, count, total)
        if done <= 0:
            return False
        if done == total:
            return True
        # As above.  Whatever happens from here on, the rest goes, or is taken back.
        advance(parts, 3, done)
        self.send_how = SHUT
        if tries:
            self._keep_rest(rest_of(value, parts))
            return True
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
            self.send_how = how
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

    cdef bint room_within(self, object timeout) except -1:
        """Waits for a moment, with the turn; whether there may be room, and nobody has closed the end."""
        return waited(self.send_fd, self._waker_fd, POLLOUT, timeout, &self._send_waits)
