/* The two roles of a ring: taken, left, taken over from the dead, and asked about; and what a new ring looks like.
 *
 * A role is a lease (_lease.h): the kernel decides who has it, and frees it when its holder can no longer touch the memory.
 * The role struct ("ring" in _layout.h) says what became of the latest holder.  */
#ifndef SHMKIT_RING_ROLES_H
#define SHMKIT_RING_ROLES_H

#include "_ring.h"

/* Writes who now has the role.  The caller holds the role's lease; epoch, pid, state, in this order (see ring_ask). */
static inline void ring_role_open(ring_role_t *role, uint32_t pid, uint64_t start) {
    FAILPOINT("ring.claim.leased");
    /* SYNC role-epoch: pairs with the second load of epoch in ring_ask: whoever sees this OPEN sees this epoch */
    store_seq_u32(&role->epoch, load_relaxed_u32(&role->epoch) + 1);
    FAILPOINT("ring.claim.epoch");
    /* SYNC role-pid: pairs with load_acquire(pid) in ring_ask: whoever sees this pid sees this epoch */
    store_release_u32(&role->pid, pid);
    /* relaxed: a hint for messages, and one for the other side's spinning */
    store_relaxed_u64(&role->start, start);
    store_relaxed_u32(&role->cpu, this_cpu() | CPU_CLAIMED);
    /* SYNC role-state: pairs with load_seq(state) in ring_ask */
    store_seq_u32(&role->state, ROLE_OPEN);
    FAILPOINT("ring.claim.open");
}

static inline void ring_attach_memory(void *payload, ring_header_t **shared, uint8_t **data, uint64_t *capacity,
                                      uint64_t checked_capacity) {
    *shared = (ring_header_t *)payload;
    *data = (uint8_t *)payload + RING_DATA_AT;
    *capacity = checked_capacity;
}

/* Formats the payload of a new segment: all zeros before. */
static inline void ring_format(void *payload, uint64_t capacity) {
    ring_header_t *shared = (ring_header_t *)payload;
    shared->capacity = capacity;
    shared->data_at = RING_DATA_AT;
}

/* Returns the capacity that a payload of `size` bytes claims, or 0 if it is not a ring that this version can trust. */
static inline uint64_t ring_check(const void *payload, uint64_t size) {
    const ring_header_t *shared = (const ring_header_t *)payload;
    if (size < RING_DATA_AT)
        return 0;
    /* relaxed: constants since before the segment had a name */
    uint64_t capacity = load_relaxed_u64(&shared->capacity);
    if (capacity < RING_MIN_CAPACITY || (capacity & (capacity - 1)) != 0 || capacity > size - RING_DATA_AT)
        return 0;
    return load_relaxed_u64(&shared->data_at) == RING_DATA_AT ? capacity : 0;
}

/* Counts the records between head and tail, and so what `records` of the side that takes over should be: the dead one
 * may have been killed between its index and its counter.  A hint: given up if the other side keeps moving. */
static inline uint64_t ring_recount(const ring_header_t *shared, const uint8_t *data, uint64_t capacity, int producer) {
    for (int tries = 0; tries < 8; tries++) {
        uint64_t head = load_acquire_u64(&shared->head), tail = load_acquire_u64(&shared->tail), waiting = 0;
        if (tail - head > capacity || (head | tail) % RECORD_ALIGN != 0)
            break;
        uint64_t other = load_relaxed_u64(producer ? &shared->consumer_count.below : &shared->producer_count.records);
        for (uint64_t at = head; at != tail;) {
            uint64_t word;
            memcpy(&word, data + (at & (capacity - 1)), 8);
            uint64_t span = record_span(word);
            if (span == 0 || span > tail - at)
                break;
            waiting += record_kind(word) != RECORD_PAD;
            at += span;
        }
        if (load_acquire_u64(&shared->head) == head && load_acquire_u64(&shared->tail) == tail)
            return producer ? other + waiting : other - waiting;
    }
    return load_relaxed_u64(producer ? &shared->producer_count.records : &shared->consumer_count.records);
}

/* Becomes the ring's producer.  OK, TAKEN, CORRUPT, or FAILED with errno set where no lease can be taken at all. */
static inline status_t ring_claim_producer(ring_producer_t *p, void *payload, uint64_t capacity, int fd, uint64_t key,
                                           uint32_t pid, uint64_t start) {
    memset(p, 0, sizeof *p);
    ring_attach_memory(payload, &p->shared, &p->data, &p->capacity, capacity);
    int error = lease_take(&p->lease, fd, key, LEASE_PRODUCER);
    if (error != 0) {
        errno = error;
        return error == EAGAIN ? TAKEN : FAILED;
    }
    /* The kernel has released the dead one's lease after its last store: tail is final.  What it had written above
     * tail was never committed. */
    p->tail = load_acquire_u64(&p->shared->tail);
    p->head_seen = load_acquire_u64(&p->shared->head);
    if (p->tail - p->head_seen > capacity || p->tail % RECORD_ALIGN != 0 || p->head_seen % RECORD_ALIGN != 0) {
        lease_drop(&p->lease);
        return CORRUPT;
    }
    p->commits = &p->own_commits;
    p->records = ring_recount(p->shared, p->data, capacity, 1);
    p->bytes = load_relaxed_u64(&p->shared->producer_count.bytes);
    waiter_init(&p->waiter);
    store_relaxed_u32(&p->shared->producer_bell.word,
                      BELL_AWAKE); /* relaxed: the dead one's, a needless wake-up at worst */
    ring_role_open(&p->shared->producer_role, pid, start);
    store_relaxed_u64(&p->shared->producer_count.records, p->records);
    /* Who watches learns whose death to look out for. */
    ring_announce(&p->shared->consumer_bell, &p->sender, &p->shared->producer_count.wakes);
    return OK;
}

static inline status_t ring_claim_consumer(ring_consumer_t *c, void *payload, uint64_t capacity, int fd, uint64_t key,
                                           uint32_t pid, uint64_t start) {
    memset(c, 0, sizeof *c);
    ring_attach_memory(payload, &c->shared, &c->data, &c->capacity, capacity);
    int error = lease_take(&c->lease, fd, key, LEASE_CONSUMER);
    if (error != 0) {
        errno = error;
        return error == EAGAIN ? TAKEN : FAILED;
    }
    /* What the dead one had read but not given back is read again: its call had not returned. */
    c->next = c->tail_seen = load_acquire_u64(&c->shared->head);
    if (c->next % RECORD_ALIGN != 0 || load_acquire_u64(&c->shared->tail) - c->next > capacity) {
        lease_drop(&c->lease);
        return CORRUPT;
    }
    c->pace = RING_PACE_STREAM;
    c->commits = &c->own_commits;
    c->records = ring_recount(c->shared, c->data, capacity, 0);
    c->bytes = load_relaxed_u64(&c->shared->consumer_count.bytes);
    waiter_init(&c->waiter);
    store_relaxed_u32(&c->shared->consumer_bell.word, BELL_AWAKE); /* relaxed: as above */
    ring_role_open(&c->shared->consumer_role, pid, start);
    store_relaxed_u64(&c->shared->consumer_count.records, c->records);
    store_relaxed_u64(&c->shared->consumer_count.below, c->records);
    ring_announce(&c->shared->producer_bell, &c->sender, &c->shared->consumer_count.wakes);
    return OK;
}

/* Leaves in order: the other end is told, then the role is free. */
static inline void ring_close_producer(ring_producer_t *p) {
    /* SYNC producer-closed: pairs with load_seq(state) in ring_records_ready; every record was published before */
    store_seq_u32(&p->shared->producer_role.state, ROLE_CLOSED);
    FAILPOINT("ring.close.state");
    ring_call(&p->shared->consumer_bell, &p->sender, &p->shared->producer_count.wakes);
    sender_close(&p->sender);
    lease_drop(&p->lease);
}

static inline void ring_close_consumer(ring_consumer_t *c) {
    /* What views hold has been received, and so has what a batch had copied when something closed the ring within it. */
    for (; c->views_count != 0; c->views_count--, c->views_first = (c->views_first + 1) % RING_VIEWS_MOST)
        ring_poison(c, c->views[c->views_first] & ~1ull);
    if (c->next != load_relaxed_u64(&c->shared->head)) /* relaxed: only this end stores head */
        ring_release_to(c, c->next, c->records);
    /* SYNC consumer-closed: pairs with load_seq(state) in ring_room_ready */
    store_seq_u32(&c->shared->consumer_role.state, ROLE_CLOSED);
    FAILPOINT("ring.close.state");
    ring_call(&c->shared->producer_bell, &c->sender, &c->shared->consumer_count.wakes);
    sender_close(&c->sender);
    lease_drop(&c->lease);
}

/* Who has a role, as its latest holder says, and whether anybody has it, as the kernel says. */
static inline int ring_role_is_held(const ring_role_t *role, int fd, uint64_t key, int64_t byte, uint32_t *epoch,
                                    uint32_t *state, uint32_t *pid) {
    for (;;) {
        *epoch = load_seq_u32(&role->epoch);
        *state = load_seq_u32(&role->state);
        *pid = load_acquire_u32(&role->pid); /* SYNC role-pid: pairs with store_release(pid) in ring_role_open */
        const int held = lease_ask(fd, key, byte) != LEASE_FREE;
        if (load_seq_u32(&role->epoch) == *epoch) /* SYNC role-epoch: pairs with store_seq(epoch) in ring_role_open */
            return held;
    }
}

/* What became of the other end?  OK: it lives, or nobody has come yet, or it cannot be told.  CLOSED, or DIED, with the
 * dead one's pid.  The caller looks at the ring once more before it believes CLOSED or DIED: records may have come. */
static inline status_t ring_ask(const ring_role_t *role, int fd, uint64_t key, int64_t byte, uint32_t *pid) {
    for (;;) {
        const uint32_t epoch = load_seq_u32(&role->epoch);
        if (lease_ask(fd, key, byte) != LEASE_FREE)
            return OK;
        /* SYNC role-state: pairs with store_seq(state) in ring_role_open */
        const uint32_t state = load_seq_u32(&role->state);
        /* SYNC role-pid: pairs with store_release(pid) in ring_role_open */
        *pid = load_acquire_u32(&role->pid);
        /* SYNC role-epoch: pairs with store_seq(epoch) in ring_role_open; a successor came while we asked */
        if (load_seq_u32(&role->epoch) != epoch)
            continue;
        return state == ROLE_OPEN ? DIED : state == ROLE_CLOSED ? CLOSED : OK;
    }
}

static inline status_t ring_ask_producer(const ring_consumer_t *c, int fd, uint64_t key, uint32_t *pid) {
    return ring_ask(&c->shared->producer_role, fd, key, LEASE_PRODUCER, pid);
}

static inline status_t ring_ask_consumer(const ring_producer_t *p, int fd, uint64_t key, uint32_t *pid) {
    return ring_ask(&p->shared->consumer_role, fd, key, LEASE_CONSUMER, pid);
}

#endif
