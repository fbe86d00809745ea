"""Parts of a frame in and out of a stream, straight from and to where they lie, without the interpreter's lock."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from shmkit._core_socket cimport (
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    POLLIN,
    POLLOUT,
    iovec,
    msghdr,
    poll,
    pollfd,
    readv,
    recvmsg,
    sendmsg,
    writev,
)
from shmkit._plain cimport flat_of

# The signal module's own getsignal makes an enum of the answer, which takes longer than the write.
import _signal

from shmkit.waiting import Deadline

cdef enum:
    # So long it is waited for the next bytes, in milliseconds, before one looks at more than the descriptor.
    QUICK = 50
    # To copy so many bytes takes no longer than to give the interpreter's lock away and get it again.
    BRIEF = 65536 + 1024

cdef object handler_of = _signal.getsignal, ignored = _signal.SIG_IGN, broken_pipe = _signal.SIGPIPE


cdef double monotonic() noexcept nogil:
    """Seconds, as time.monotonic has them."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef Py_ssize_t moved(int fd, bint sock, bint out, iovec *parts, int count) noexcept nogil:
    """One system call that does not wait: how many bytes went (0 of a read: the end), or minus an errno."""
    cdef msghdr message
    cdef Py_ssize_t done
    if not sock:
        done = writev(fd, parts, count) if out else readv(fd, parts, count)
    else:
        memset(&message, 0, sizeof(message))
        message.msg_iov = parts
        message.msg_iovlen = count
        if out:
            done = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
        else:
            done = recvmsg(fd, &message, MSG_DONTWAIT)
    return done if done >= 0 else -errno


cdef Py_ssize_t move(int fd, bint sock, bint out, iovec *parts, int count, size_t total) noexcept:
    """The same: what takes long, without the interpreter's lock."""
    cdef Py_ssize_t done
    if total <= BRIEF:
        return moved(fd, sock, out, parts, count)
    with nogil:
        done = moved(fd, sock, out, parts, count)
    return done


cdef void advance(iovec *parts, int count, size_t done) noexcept nogil:
    """Takes the first bytes out of the parts; those that are done are empty."""
    cdef int number
    cdef size_t size
    for number in range(count):
        size = min(done, parts[number].iov_len)
        parts[number].iov_base = <char *>parts[number].iov_base + size
        parts[number].iov_len -= size
        done -= size


cdef Py_ssize_t go_on(
    int fd, bint sock, bint out, iovec *parts, int count, int waker, double end, uint64_t *waits
) noexcept nogil:
    """Moves what is left, and waits between; how many bytes went.

    Not all: nothing has moved for a while, the time is up, a signal came, somebody closes the end, or the other end is
    gone.  Whichever it is the long way finds.
    """
    cdef pollfd fds[2]
    cdef Py_ssize_t done, total = 0
    cdef int first = 0
    cdef double left
    cdef bint full = out
    while True:
        while first < count and parts[first].iov_len == 0:
            first += 1
        if first == count:
            return total
        # What did not take all is full: it is asked again when there is room.
        done = -EAGAIN if full else moved(fd, sock, out, parts + first, count - first)
        if done > 0:
            advance(parts + first, count - first, done)
            total += done
            full = out
            continue
        full = False
        left = min(end - monotonic(), QUICK / 1000.0)
        if done != -EAGAIN or left < 0.001:
            return total
        waits[0] += 1
        fds[0].fd, fds[1].fd = fd, waker
        fds[0].events, fds[1].events = POLLOUT if out else POLLIN, POLLIN
        fds[0].revents = fds[1].revents = 0
        if poll(fds, 2, <int>(left * 1000)) <= 0 or fds[1].revents:
            return total


cdef bint is_time(object timeout) noexcept:
    """Whether it is a time-out as most are written, whose meaning needs no check."""
    return timeout is None or (PyFloat_CheckExact(timeout) and PyFloat_AS_DOUBLE(timeout) == PyFloat_AS_DOUBLE(timeout))


cdef int milliseconds_of(object timeout) noexcept:
    """How long the short way waits."""
    if timeout is None or PyFloat_AS_DOUBLE(timeout) >= QUICK / 1000.0:
        return QUICK
    return <int>(PyFloat_AS_DOUBLE(timeout) * 1000) if PyFloat_AS_DOUBLE(timeout) > 0 else 0


cdef bint waited(int fd, object waker_fd, short events, object timeout, uint64_t *waits) except -1:
    """Waits for a moment; whether there is something to do, and nobody has closed the end."""
    cdef pollfd fds[2]
    cdef int found, milliseconds = milliseconds_of(timeout)
    if milliseconds == 0:
        return False
    waits[0] += 1
    fds[0].fd, fds[1].fd = fd, waker_fd()
    fds[0].events, fds[1].events = events, POLLIN
    fds[0].revents = fds[1].revents = 0
    with nogil:
        found = poll(fds, 2, milliseconds)
    if found < 0 and errno == EINTR:
        PyErr_CheckSignals()
    return found > 0 and fds[1].revents == 0


cdef object begun_at(double end, object timeout):
    """The end of a time-out that began earlier."""
    if timeout is None:
        return None
    deadline = Deadline(timeout)
    deadline.end = end
    return deadline


cdef bint pipes_are_quiet() except -1:
    """Whether a pipe that nobody reads does not end the process."""
    handler = handler_of(broken_pipe)
    return handler is ignored or handler == ignored


cdef list rest_of(object value, iovec *parts):
    """What has not gone of a frame: of the head a copy, the payload where it lies."""
    rest = []
    if parts[0].iov_len:
        rest.append(PyBytes_FromStringAndSize(<char *>parts[0].iov_base, parts[0].iov_len))
    if parts[1].iov_len:
        rest.append(flat_of(value, <const uint8_t *>parts[1].iov_base, parts[1].iov_len))
    rest.append(b"\x06")
    return rest
