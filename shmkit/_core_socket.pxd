"""Sending, receiving and waiting without Python, from the system's headers."""


cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

    Py_ssize_t writev(int fd, const iovec *parts, int count)
    Py_ssize_t readv(int fd, const iovec *parts, int count)

cdef extern from "sys/socket.h" nogil:
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL
        MSG_TRUNC

    Py_ssize_t send(int fd, const void *data, size_t size, int flags)
    Py_ssize_t recv(int fd, void *data, size_t size, int flags)

    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen

    Py_ssize_t sendmsg(int fd, const msghdr *message, int flags)
    Py_ssize_t recvmsg(int fd, msghdr *message, int flags)

cdef extern from "sys/msg.h" nogil:
    enum:
        IPC_NOWAIT

    int msgsnd(int queue, const void *message, size_t size, int flags)
    Py_ssize_t msgrcv(int queue, void *message, size_t size, long mtype, int flags)

# POSIX queues without librt, which has their functions where the C library is older than 2.34.
cdef extern from "sys/syscall.h" nogil:
    enum:
        SYS_mq_timedsend
        SYS_mq_timedreceive

cdef extern from "unistd.h" nogil:
    long syscall(long number, ...)

cdef extern from "poll.h" nogil:
    enum:
        POLLIN
        POLLOUT

    struct pollfd:
        int fd
        short events
        short revents

    int poll(pollfd *fds, unsigned long count, int milliseconds)
