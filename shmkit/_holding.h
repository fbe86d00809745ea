/* What a mapping owns in this process, and how it is given back; what of it is kept for later.
 *
 *   holding   an address range, the descriptor and the lease that go with it
 *   warm      holdings of anonymous arrays that nobody else ever saw: the next array of that size takes one, and finds
 *             pages that are already there (a fresh page costs 30 times a warm copy)
 *   parked    holdings whose references are still on their way to a receiver: let go once they were taken
 *
 * The two lists are bounded and guarded by one mutex, never held across a system call that waits.  At a fork the mutex
 * is taken, so that the child finds both lists whole; it then gives back its copies at once.  */
#ifndef SHMKIT_HOLDING_H
#define SHMKIT_HOLDING_H

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>

#include "_atomics.h"
#include "_file.h"
#include "_fork.h"
#include "_layout.h"

#define HOLDING_NOTHING 0u
#define HOLDING_MMAP 1u
#define HOLDING_SHMAT 2u

/* A warm segment's kind: it waits in its maker's pool. */
#define SEGMENT_KIND_IDLE 0u

typedef struct {
    char *addr;          /* the first mapped byte: the segment's header, or a raw segment's first byte */
    uint64_t size;       /* mapped bytes */
    uint32_t how;        /* HOLDING_… */
    int fd;              /* of the file to take and ask leases through (SysV: the companion file); -1: not kept open */
    uint64_t inode, dev; /* of that file, whether its descriptor is kept or not */
    char *lease_path;    /* from malloc: leased; who is last removes this name.  NULL: not leased */
    int shmid;           /* SysV segment that goes with that name, or -1 */
    char *pin;           /* a page of the companion file: pins the lease of a SysV segment.  NULL: none */
} holding_t;

static inline segment_header_t *holding_header(const holding_t *own) { return (segment_header_t *)own->addr; }

/* Unmaps and closes.  `leave`: and removes the name of a leased segment if this was its last user. */
static inline void holding_release(holding_t *own, int leave) {
    if (own->how == HOLDING_MMAP)
        munmap(own->addr, own->size);
    else if (own->how == HOLDING_SHMAT)
        shmdt(own->addr);
    if (own->pin != NULL)
        munmap(own->pin, PAGE);
    file_close(own->fd, own->dev, own->inode);
    if (own->lease_path != NULL) {
        if (leave)
            file_leave(own->lease_path, own->dev, own->inode, own->shmid);
        free(own->lease_path);
    }
    memset(own, 0, sizeof *own);
    own->fd = own->shmid = -1;
}

/* Gives up the lease although the memory stays mapped (views may still be alive while the interpreter goes down): the
 * range, or the pin, is replaced in place by a mapping of the same file through a description without the lock. */
static inline void holding_leave_early(holding_t *own, int writable) {
    if (own->lease_path == NULL)
        return;
    int fd = open(own->lease_path, (writable ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return;
    if (file_is_behind(fd, own->dev, own->inode)) {
        int protection = PROT_READ | (writable ? PROT_WRITE : 0);
        void *same = own->pin != NULL ? mmap(own->pin, PAGE, PROT_NONE, MAP_SHARED | MAP_FIXED, fd, 0)
                                      : mmap(own->addr, own->size, protection, MAP_SHARED | MAP_FIXED, fd, 0);
        if (same != MAP_FAILED) {
            if (own->fd >= 0 && file_is_behind(own->fd, own->dev, own->inode))
                dup3(fd, own->fd, O_CLOEXEC);
            file_leave(own->lease_path, own->dev, own->inode, own->shmid);
        }
    }
    close(fd);
}

/* References: pickles of a segment that were made, and those that a receiver opened.  Counters only ever grow, and no
 * more are taken than were made, however often one pickle is loaded. */
static inline void references_make(segment_header_t *head) {
    /* relaxed: a hint, ordered by nothing */
    add_relaxed_u64(&head->references_made, 1);
}

static inline void references_take(segment_header_t *head) {
    uint64_t taken = load_relaxed_u64(&head->references_taken);
    /* relaxed: a hint; the compare-and-swap only keeps it from passing `made` */
    while (taken < load_relaxed_u64(&head->references_made))
        if (cas_seq_u64(&head->references_taken, &taken, taken + 1))
            return;
}

static inline int references_under_way(segment_header_t *head) {
    /* relaxed: a hint; an old value only parks a segment a little longer */
    return load_relaxed_u64(&head->references_taken) < load_relaxed_u64(&head->references_made);
}

#define KEPT_MOST 256
#define WARM_COUNT 64
#define WARM_BYTES (256ull << 20)

typedef struct {
    holding_t items[KEPT_MOST]; /* oldest first */
    uint64_t bytes;
    uint32_t count;
    uint32_t count_limit;
    uint64_t bytes_limit;
} kept_t;

static pthread_mutex_t kept_mutex = PTHREAD_MUTEX_INITIALIZER;
static kept_t kept_warm = {.count_limit = WARM_COUNT, .bytes_limit = WARM_BYTES};
static kept_t kept_parked = {.count_limit = KEPT_MOST, .bytes_limit = UINT64_MAX};
static uint32_t kept_cursor; /* where the look for taken references goes on */

static inline void kept_lock(void) { pthread_mutex_lock(&kept_mutex); }
static inline void kept_unlock(void) { pthread_mutex_unlock(&kept_mutex); }

static inline holding_t kept_remove(kept_t *kept, uint32_t index) {
    holding_t own = kept->items[index];
    kept->count -= 1;
    kept->bytes -= own.size;
    memmove(&kept->items[index], &kept->items[index + 1], (kept->count - index) * sizeof own);
    return own;
}

/* Adds `own`, and releases the oldest as long as the list is over its limits; the newest always stays. */
static inline void kept_add(kept_t *kept, const holding_t *own) {
    holding_t oldest;
    kept_lock();
    while (kept->count && (kept->count >= kept->count_limit || kept->bytes + own->size > kept->bytes_limit)) {
        oldest = kept_remove(kept, 0);
        kept_unlock();
        holding_release(&oldest, 1);
        kept_lock();
    }
    kept->items[kept->count] = *own;
    kept->count += 1;
    kept->bytes += own->size;
    kept_unlock();
}

/* Takes a warm holding of exactly `size` bytes, the latest used; 0: there is none. */
static inline int kept_warm_take(uint64_t size, holding_t *own) {
    int found = 0;
    kept_lock();
    for (uint32_t index = kept_warm.count; index-- > 0 && !found;)
        if (kept_warm.items[index].size == size) {
            *own = kept_remove(&kept_warm, index);
            found = 1;
        }
    kept_unlock();
    return found;
}

/* Lets go of parked holdings whose references were all taken: looks at up to `most` of them, in turn. */
static inline void kept_unpark(uint32_t most) {
    while (kept_parked.count != 0 && most-- > 0) {
        holding_t own = {.fd = -1, .shmid = -1};
        kept_lock();
        if (kept_parked.count != 0) {
            if (kept_cursor >= kept_parked.count)
                kept_cursor = 0;
            if (references_under_way(holding_header(&kept_parked.items[kept_cursor])))
                kept_cursor += 1;
            else
                own = kept_remove(&kept_parked, kept_cursor);
        }
        kept_unlock();
        if (own.how != HOLDING_NOTHING)
            holding_release(&own, 1);
    }
}

/* Releases all of a list; returns how many bytes that were. */
static inline uint64_t kept_clear(kept_t *kept) {
    uint64_t bytes = 0;
    for (;;) {
        holding_t own = {.fd = -1, .shmid = -1};
        kept_lock();
        if (kept->count)
            own = kept_remove(kept, kept->count - 1);
        kept_unlock();
        if (own.how == HOLDING_NOTHING)
            return bytes;
        bytes += own.size;
        holding_release(&own, 1);
    }
}

/* The child's copies of its parent's lists serve nobody: given back, the names left to the parent. */
static inline void kept_in_child(void) {
    while (kept_warm.count)
        holding_release(&kept_warm.items[--kept_warm.count], 0);
    while (kept_parked.count)
        holding_release(&kept_parked.items[--kept_parked.count], 0);
    kept_warm.bytes = kept_parked.bytes = 0;
    kept_unlock();
}

static pthread_once_t kept_once = PTHREAD_ONCE_INIT;
static int kept_once_error;

static inline void kept_watch_once(void) {
    kept_once_error = fork_watch();
    if (kept_once_error == 0)
        kept_once_error = pthread_atfork(kept_lock, kept_unlock, kept_in_child);
}

/* Before the first mapping: forks are counted and the lists survive them.  Returns 0 or an errno. */
static inline int kept_watch_forks(void) {
    pthread_once(&kept_once, kept_watch_once);
    return kept_once_error;
}

#endif
