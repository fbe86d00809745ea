/* What both drivers of the ring's core share: records whose bytes can be checked, and a ring.
 *
 * Record number n has a size and bytes that follow from n alone, so whoever receives it knows whether it is the right
 * one, and whole. */
#ifndef RING_DRIVER_H
#define RING_DRIVER_H

#include "driver.h"

#include "_ring_roles.h"

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

static inline void place_leases(place_t *place) { place->fd = lease_file(&place->inode); }

static inline status_t claim_producer(ring_producer_t *p, const place_t *place) {
    return ring_claim_producer(p, place->payload, place->capacity, place->fd, place->inode, (uint32_t)getpid(), 1);
}

static inline status_t claim_consumer(ring_consumer_t *c, const place_t *place) {
    return ring_claim_consumer(c, place->payload, place->capacity, place->fd, place->inode, (uint32_t)getpid(), 1);
}

#endif
