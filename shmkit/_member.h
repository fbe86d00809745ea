/* Members: the name by which a process is known in the words of a segment, and whether who bears a name still lives.
 *
 * A member id is a number that no other process ever bears: the pid and 40 random bits ("cells" in _layout.h).  Its bearer
 * holds the lease on the byte of that number (_lease.h), far beyond the file's end.  So there is no table of processes
 * that could be full, nor an entry in it that anybody would have to clean up; whether the holder of a word lives is one
 * question to the kernel, which neither a reused pid, a fork, an exec nor a pid namespace can fool, and a process that
 * is stopped, slow or being debugged lives.
 *
 * The pid within an id is the one that the process has in its own pid namespace.  It is for messages only.  */
#ifndef SHMKIT_MEMBER_H
#define SHMKIT_MEMBER_H

#include <errno.h>
#include <stdint.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "_atomics.h"
#include "_layout.h"
#include "_lease.h"

#define MEMBER_RANDOM_BITS 40
#define MEMBER_FLAG_BITS 2 /* the low bits of a word that names a member */

/* How a process knows a segment's other members, and is known to them.  Private to the process. */
typedef struct {
    uint64_t id;
    lease_t lease;
    int fd;       /* of the segment's file, to ask through */
    uint64_t key; /* of that file (lease_key) */
} member_t;

static inline uint64_t member_word(uint64_t id) { return id << MEMBER_FLAG_BITS; }
static inline uint64_t member_of_word(uint64_t word) { return word >> MEMBER_FLAG_BITS; }
static inline uint32_t member_pid(uint64_t id) { return (uint32_t)(id >> MEMBER_RANDOM_BITS); }

static inline uint64_t member_random(void) {
    uint64_t number = 0;
    if (getrandom(&number, sizeof number, GRND_NONBLOCK) != (ssize_t)sizeof number) {
        /* Before the kernel has gathered any randomness: what differs between two processes of one pid is the time. */
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        number = ((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec) * 0x9e3779b97f4a7c15u >> 8;
    }
    return number & ((1ull << MEMBER_RANDOM_BITS) - 1);
}

/* A number for a member. */
static inline uint64_t member_new_id(uint32_t pid) { return ((uint64_t)pid << MEMBER_RANDOM_BITS) | member_random(); }

/* Joins: finds an id and takes its lease.  Returns 0 or an errno (EBADF: the descriptor was closed behind our back). */
static inline int member_join(member_t *member, int fd, uint64_t key, uint32_t pid) {
    int error = EAGAIN;
    /* A byte that is held already is another living member's, whose 40 bits are ours by a chance of one in 10^12. */
    for (int tries = 0; error == EAGAIN && tries < 100; tries++) {
        member->id = member_new_id(pid);
        error = lease_take(&member->lease, fd, key, LEASE_MEMBERS + (int64_t)member->id);
    }
    member->fd = fd;
    member->key = key;
    return error;
}

/* Has the member `id` died?  Where the kernel cannot be asked (the descriptor was closed by somebody), it has not. */
static inline int member_died(const member_t *asking, uint64_t id) {
    return id != asking->id && lease_ask(asking->fd, asking->key, LEASE_MEMBERS + (int64_t)id) == LEASE_FREE;
}

#endif
