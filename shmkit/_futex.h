/* Waiting on a 32-bit word and waking who waits there.  One section per operating system; today Linux.
 *
 * The shared calls work between processes on any mapping of the same page; the private ones only between threads of
 * one process, and are cheaper.  Nobody may rely on a wake-up alone: a waker can be killed between its store and its
 * wake, so every wait has a time limit and the caller re-checks its condition.  */
#ifndef SHMKIT_FUTEX_H
#define SHMKIT_FUTEX_H

#include <errno.h>
#include <stdint.h>
#include <time.h>

#include "_atomics.h"

#if defined(__linux__)

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Sleeps while *word == expected, at most limit_ns.  Returns 0 (woken, or spuriously), EAGAIN (the word differed),
 * ETIMEDOUT or EINTR. */
static inline int futex_wait_op(uint32_t *word, uint32_t expected, uint64_t limit_ns, int operation) {
    struct timespec limit;
    limit.tv_sec = (time_t)(limit_ns / 1000000000u);
    limit.tv_nsec = (long)(limit_ns % 1000000000u);
    if (syscall(SYS_futex, word, operation, expected, &limit, (void *)0, 0) == 0)
        return 0;
    return errno;
}

static inline int futex_wait(uint32_t *word, uint32_t expected, uint64_t limit_ns) {
    return futex_wait_op(word, expected, limit_ns, FUTEX_WAIT);
}

static inline int futex_wait_private(uint32_t *word, uint32_t expected, uint64_t limit_ns) {
    return futex_wait_op(word, expected, limit_ns, FUTEX_WAIT_PRIVATE);
}

/* Wakes up to `count` waiters; returns how many. */
static inline int futex_wake(uint32_t *word, int count) {
    return (int)syscall(SYS_futex, word, FUTEX_WAKE, count, (void *)0, (void *)0, 0);
}

static inline int futex_wake_private(uint32_t *word, int count) {
    return (int)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, (void *)0, (void *)0, 0);
}

#else
#error "shmkit runs on Linux: this system has no section in _futex.h yet"
#endif

#endif
