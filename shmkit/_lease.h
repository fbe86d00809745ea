/* Who is alive: a lease is a byte of a file that the kernel keeps locked until the process can no longer touch memory.
 *
 *   take    open the file anew, lock one byte of that open file description (OFD lock), map one page of the same
 *           description with MADV_DONTFORK, close the descriptor
 *   ends    with the mapping: munmap, exec, exit, or SIGKILL at any instruction
 *
 * The mapping pins the description and the description pins the lock.  So a lease needs no descriptor (closing all
 * descriptors does not end it), is not inherited by fork (the page is not in the child), and is not fooled by a reused
 * pid or another pid namespace.  Asking whether somebody holds a byte is one fcntl, about 0.3 µs; ask only after a
 * wait slice without change.  Never a heartbeat, never a time-out: a stopped process still holds its lease.  */
#ifndef SHMKIT_LEASE_H
#define SHMKIT_LEASE_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef F_OFD_SETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#endif

#define LEASE_FREE 0
#define LEASE_HELD 1
#define LEASE_UNKNOWN 2 /* the descriptor to ask through has been closed behind our back */

typedef struct {
    void *page; /* the mapping that pins the lock; NULL: no lease */
    uint64_t size;
} lease_t;

/* What tells a file from every other on this machine, in one number: inodes are unique on one device only. */
static inline uint64_t lease_key(uint64_t dev, uint64_t inode) { return inode ^ dev * 0x9e3779b97f4a7c15u; }

static inline uint64_t lease_key_of(const struct stat *file) {
    return lease_key((uint64_t)file->st_dev, (uint64_t)file->st_ino);
}

/* Takes the lease on `count` bytes from `byte` on of the file behind `fd`: alone (F_WRLCK) or with others (F_RDLCK), for this
 * process only or with the children that it forks.  The file must be the one of that key.  Returns 0, EAGAIN (somebody else holds it),
 * EBADF (the descriptor was closed behind our back, and may name another file by now) or another errno.
 * Call it with the GIL held: a fork between the lock and the close would let the child share the lock. */
static inline int lease_take_span(lease_t *lease, int fd, uint64_t key, int64_t byte, int64_t count, short type,
                                  int inherited) {
    char path[40];
    struct stat file;
    int own, error;

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    own = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (own < 0)
        return errno == ENOENT ? EBADF : errno;
    if (fstat(own, &file) != 0 || lease_key_of(&file) != key) {
        close(own);
        return EBADF;
    }
    struct flock lock;
    memset(&lock, 0, sizeof lock);
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte;
    lock.l_len = count;
    if (fcntl(own, F_OFD_SETLK, &lock) != 0) {
        error = errno == EACCES ? EAGAIN : errno;
        close(own);
        return error;
    }
    /* A page of hugetlbfs is as large as its blocks; elsewhere one ordinary page is enough. */
    uint64_t size = (uint64_t)sysconf(_SC_PAGESIZE);
    if (file.st_blksize > (long)size && file.st_blksize >= (1 << 20))
        size = (uint64_t)file.st_blksize;
    void *page = mmap(NULL, size, PROT_NONE, MAP_SHARED, own, 0);
    if (page == MAP_FAILED || (!inherited && madvise(page, size, MADV_DONTFORK) != 0)) {
        error = errno;
        if (page != MAP_FAILED)
            munmap(page, size);
        close(own);
        return error;
    }
    close(own);
    lease->page = page;
    lease->size = size;
    return 0;
}

static inline int lease_take_as(lease_t *lease, int fd, uint64_t key, int64_t byte, short type, int inherited) {
    return lease_take_span(lease, fd, key, byte, 1, type, inherited);
}

static inline int lease_take(lease_t *lease, int fd, uint64_t key, int64_t byte) {
    return lease_take_as(lease, fd, key, byte, F_WRLCK, 0);
}

/* From now on forked children hold the lease too: it ends when the last of them has let go.  Returns 0 or an errno. */
static inline int lease_bequeath(const lease_t *lease) {
    return lease->page == NULL || madvise(lease->page, lease->size, MADV_DOFORK) == 0 ? 0 : errno;
}

static inline void lease_drop(lease_t *lease) {
    if (lease->page != NULL)
        munmap(lease->page, lease->size);
    lease->page = NULL;
}

/* In a forked child the page does not exist, and its address may already be somebody else's: forget, do not unmap. */
static inline void lease_forget(lease_t *lease) { lease->page = NULL; }

/* Is any of `count` bytes leased by anybody?  The key guards against a descriptor that was closed and now names another file. */
static inline int lease_ask_span(int fd, uint64_t key, int64_t byte, int64_t count) {
    struct flock lock;
    struct stat file;

    memset(&lock, 0, sizeof lock);
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte;
    lock.l_len = count;
    if (fcntl(fd, F_OFD_GETLK, &lock) != 0)
        return LEASE_UNKNOWN;
    if (lock.l_type != F_UNLCK)
        return LEASE_HELD; /* in whichever file: nobody is declared dead */
    /* Only of the right file does a free byte mean anything. */
    if (fstat(fd, &file) != 0 || lease_key_of(&file) != key)
        return LEASE_UNKNOWN;
    return LEASE_FREE;
}

static inline int lease_ask(int fd, uint64_t key, int64_t byte) { return lease_ask_span(fd, key, byte, 1); }

#endif
