/* What both drivers of the ring's core share: records whose bytes can be checked, and how a driver fails.
 *
 * Record number n has a size and bytes that follow from n alone, so whoever receives it knows whether it is the right
 * one, and whole. */
#ifndef RING_DRIVER_H
#define RING_DRIVER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "_ring_roles.h"

#define DRIVER_MINUTE 60000000000u

static char driver_context[200]; /* what is being tried, for the message of a failure */

#define FAIL(...)                                                                                                      \
    do {                                                                                                               \
        fprintf(stderr, "%s:%d: %s", __FILE__, __LINE__, driver_context);                                              \
        fprintf(stderr, __VA_ARGS__);                                                                                  \
        fputc('\n', stderr);                                                                                           \
        exit(1);                                                                                                       \
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

/* The payload: the number, then bytes that follow from it; shorter payloads have its first bytes. */
static inline void fill_payload(uint8_t *payload, uint64_t number, uint64_t nbytes) {
    uint64_t word = number;
    for (uint64_t at = 0; at < nbytes; at += 8, word = mixed(number + at))
        memcpy(payload + at, &word, nbytes - at < 8 ? nbytes - at : 8);
}

static inline int payload_is_whole(const uint8_t *payload, uint64_t number, uint64_t nbytes) {
    uint64_t word = number;
    for (uint64_t at = 0; at < nbytes; at += 8, word = mixed(number + at))
        if (memcmp(payload + at, &word, nbytes - at < 8 ? nbytes - at : 8) != 0)
            return 0;
    return 1;
}

/* A ring: its memory, and a file on which its leases are taken. */
typedef struct {
    void *payload;
    uint64_t capacity;
    int fd;
    uint64_t inode;
} place_t;

static inline void place_leases(place_t *place) {
    struct stat file;
    place->fd = memfd_create("shmkit-driver", MFD_CLOEXEC);
    EXPECT(place->fd >= 0 && ftruncate(place->fd, PAGE) == 0 && fstat(place->fd, &file) == 0, "no memfd: %m");
    place->inode = (uint64_t)file.st_ino;
}

static inline status_t claim_producer(ring_producer_t *p, const place_t *place) {
    return ring_claim_producer(p, place->payload, place->capacity, place->fd, place->inode, (uint32_t)getpid(), 1);
}

static inline status_t claim_consumer(ring_consumer_t *c, const place_t *place) {
    return ring_claim_consumer(c, place->payload, place->capacity, place->fd, place->inode, (uint32_t)getpid(), 1);
}

#endif
