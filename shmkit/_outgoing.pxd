"""What an end sends at once, for extension modules: see _outgoing.pyx."""

from libc.stdint cimport uint8_t, uint64_t

from shmkit._turns cimport Turn

cdef enum:
    SHUT = 0
    A_PIPE = 1
    A_SOCKET = 2
    A_PACKET = 3
    A_POSIX_QUEUE = 4
    A_SYSV_QUEUE = 5
    # Frames up to this size go and come in one piece: it is quicker to copy them than to say where their parts lie.
    # Those of a queue of messages, too: unless root allows more, none is larger.
    ROOM = 8448

cdef struct message_t:
    long mtype  # of System V; its message follows
    uint8_t frame[ROOM]

cdef class Outgoing:
    cdef public Turn _send_turn, _recv_turn
    cdef public uint64_t _sent, _received, _bytes_sent, _bytes_received
    cdef public uint64_t _send_waits, _recv_waits
    cdef public bint _closed
    # How the next goes (SHUT: the long way), through which descriptor, in which process, and at most how large.
    cdef int send_how, send_fd
    cdef uint64_t send_forks, send_most
    # A queue's priority or type.
    cdef long send_type
    # The most bytes of a frame, where the kernel keeps frames of several senders apart.
    cdef public uint64_t _frame_most

    cdef bint put(self, object value, bint raw, object timeout, bint tries) except -1
    cdef bint put_framed(
        self, object value, message_t *message, Py_ssize_t size, const uint8_t *data, uint64_t nbytes, object timeout,
        bint tries
    ) except -1
    cdef bint put_parts(
        self, object value, uint8_t *head, Py_ssize_t size, const uint8_t *data, uint64_t nbytes, object timeout,
        bint tries
    ) except -1
    cdef Py_ssize_t write_out(self, message_t *message, size_t size) except -2
    cdef bint room_within(self, object timeout) except -1
