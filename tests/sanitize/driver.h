/* What all drivers share: how a driver fails, chance that follows from a number, and a file to take leases on. */
#ifndef DRIVER_H
#define DRIVER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
#include <fcntl.h>
/* What the dead have stored is there for who asks the kernel after them, as it lets go of a lock only then: ThreadSanitizer, which
 * knows nothing of such locks, is told so. */
void __tsan_acquire(void *);
void __tsan_release(void *);
static char kernel_locks;
#define munmap(...) (__tsan_release(&kernel_locks), munmap(__VA_ARGS__))
#define fcntl(...)                                                                                                     \
    __extension__({                                                                                                    \
        const int answer = fcntl(__VA_ARGS__);                                                                         \
        __tsan_acquire(&kernel_locks);                                                                                 \
        answer;                                                                                                        \
    })
#endif

#include "_lease.h"

#define DRIVER_MINUTE 60000000000u

static char driver_context[200]; /* what is being tried, for the message of a failure */

/* Handlers and children of forks fail too, where exit() could wait for a lock for ever.  Who fails second says nothing. */
#define FAIL(...)                                                                                                      \
    do {                                                                                                               \
        flockfile(stderr);                                                                                             \
        fprintf(stderr, "%s:%d: %s", __FILE__, __LINE__, driver_context);                                              \
        fprintf(stderr, __VA_ARGS__);                                                                                  \
        fputc('\n', stderr);                                                                                           \
        _exit(1);                                                                                                      \
    } while (0)

#define EXPECT(condition, ...)                                                                                         \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            FAIL(__VA_ARGS__);                                                                                         \
    } while (0)

/* splitmix64: a good hash of a counter. */
static inline uint64_t mixed(uint64_t n) {
    n += 0x9e3779b97f4a7c15u;
    n = (n ^ (n >> 30)) * 0xbf58476d1ce4e5b9u;
    n = (n ^ (n >> 27)) * 0x94d049bb133111ebu;
    return n ^ (n >> 31);
}

/* A file without a name; returns its descriptor. */
static inline int lease_file(uint64_t *key) {
    struct stat file;
    const int fd = memfd_create("shmkit-driver", MFD_CLOEXEC);
    EXPECT(fd >= 0 && ftruncate(fd, 4096) == 0 && fstat(fd, &file) == 0, "no memfd: %m");
    *key = lease_key_of(&file);
    return fd;
}

#endif
