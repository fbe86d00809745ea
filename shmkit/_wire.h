/* Messages on a descriptor, framed as the standard library's connections frame them.
 *
 *   int32 size, in network order, then so many bytes
 *   -1, then uint64 size, in network order, then so many bytes
 *   -2, then a note (pair_note_t in _heap_layout.h): the message lies in a block; never sent by the standard library
 *
 * These functions do nothing but system calls, without the GIL; each returns where a signal came, to be called again. */
#ifndef SHMKIT_WIRE_H
#define SHMKIT_WIRE_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "_failpoint.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif

#define WIRE_ENDED (-1) /* the other end is closed */
#define WIRE_LONG (-1)
#define WIRE_NOTE (-2)

/* Writes `size` bytes, of which *done are written already.  0 or an errno. */
static inline int wire_write(int fd, const void *data, size_t size, size_t *done) {
    while (*done < size) {
        const ssize_t wrote = write(fd, (const char *)data + *done, size - *done);
        if (wrote < 0)
            return errno;
        *done += (size_t)wrote;
        FAILPOINT("wire.written");
    }
    return 0;
}

/* Reads `size` bytes, of which *done are there already.  0, WIRE_ENDED or an errno. */
static inline int wire_read(int fd, void *data, size_t size, size_t *done) {
    while (*done < size) {
        const ssize_t got = read(fd, (char *)data + *done, size - *done);
        if (got < 0)
            return errno;
        if (got == 0)
            return WIRE_ENDED;
        *done += (size_t)got;
        FAILPOINT("wire.read");
    }
    return 0;
}

/* Reads what is there by now, at most `size` bytes, and does not wait.  0 (*done says how many more there are), WIRE_ENDED or an
 * errno: EAGAIN, nothing is there; EOPNOTSUPP, something is, and has not been read. */
static inline int wire_glance(int fd, void *data, size_t size, size_t *done) {
    struct iovec into = {.iov_base = data, .iov_len = size};
    /* Not every C library has a function for it. */
    const ssize_t got = syscall(SYS_preadv2, fd, &into, 1, -1l, -1l, RWF_NOWAIT);
    if (got < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL)) { /* pipes, before Linux 6.4 */
        struct pollfd on = {.fd = fd, .events = POLLIN};
        const int found = poll(&on, 1, 0);
        if (found <= 0)
            return found < 0 ? errno : EAGAIN;
        /* Another reader may be faster: who reads now may wait, which is for the caller to do. */
        return EOPNOTSUPP;
    }
    if (got < 0)
        return errno;
    if (got == 0)
        return WIRE_ENDED;
    *done += (size_t)got;
    FAILPOINT("wire.read");
    return 0;
}

/* Waits for something to read, or the end; at most so many milliseconds, -1: for ever.  1, 0, or minus an errno. */
static inline int wire_poll(int fd, int timeout_ms) {
    struct pollfd on = {.fd = fd, .events = POLLIN};
    const int found = poll(&on, 1, timeout_ms);
    return found < 0 ? -errno : found;
}

/* What became of all that was written: WIRE_BUSY, some of it was not read yet; WIRE_IDLE; WIRE_GONE: nobody is left who could.
 * Where the system cannot say, WIRE_IDLE. */
#define WIRE_BUSY 0
#define WIRE_IDLE 1
#define WIRE_GONE 2

static inline int wire_state(int fd) {
    struct pollfd on = {.fd = fd, .events = 0};
    int unread = 0;
    if (poll(&on, 1, 0) != 0)
        return WIRE_GONE;
    if (ioctl(fd, TIOCOUTQ, &unread) != 0 && ioctl(fd, FIONREAD, &unread) != 0)
        return WIRE_IDLE;
    return unread == 0 ? WIRE_IDLE : WIRE_BUSY;
}

/* Does the kernel say that all that was ever written was read?  *question: what it is asked, which depends on what the descriptor is;
 * 0: not known yet.  No, where it cannot say. */
static inline int wire_is_empty(int fd, unsigned long *question) {
    int unread = 1;
    if (*question == 0) {
        struct stat file;
        if (fstat(fd, &file) != 0)
            return 0;
        /* Of a pipe's either end, what is in the pipe; of a socket, what the other end has not read.  Never FIONREAD of a socket: that
         * is what this end has not. */
        *question = S_ISFIFO(file.st_mode) ? FIONREAD : TIOCOUTQ;
    }
    return ioctl(fd, *question, &unread) == 0 && unread == 0;
}

/* What tells one pipe or socket from all others; 0: there is none. */
static inline uint64_t wire_identity(int fd) {
    struct stat file;
    return fstat(fd, &file) == 0
               ? (uint64_t)file.st_ino ^ (uint64_t)file.st_dev << 48 ^ (uint64_t)(file.st_mode & S_IFMT) << 32
               : 0;
}

/* Closes a descriptor whose number is still used: in its place comes one that has nothing to read, and cannot be written to.  0: it
 * was not closed, as there are no descriptors left. */
static inline int wire_retire(int fd) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return 0;
    close(ends[1]);
    const int retired = dup3(ends[0], fd, O_CLOEXEC) == fd;
    close(ends[0]);
    return retired;
}

/* May it still be written to, so far as this end knows?  A socket may have been shut down; writing nothing tells. */
static inline int wire_is_open(int fd) {
    return send(fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) == 0 || errno == ENOTSOCK;
}

#endif
