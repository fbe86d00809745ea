/* The ring's core: one producer, one consumer, records of any size, in plain C over the structs of _layout.h.
 *
 * Who may call what: the ring_producer_t functions only the process that holds the producer's lease, one thread at a
 * time; the ring_consumer_t functions likewise.  Nothing here raises, allocates, logs or (but for the wait functions)
 * sleeps.  Lock-free; wait-free as long as the ring is neither full nor empty.
 *
 * The algorithm is Lamport's queue (1983) with each side caching the other's index, as in FastForward and MCRingBuffer
 * (2008-10) and many since; records with pads at the lap's end as in Aeron's ring buffers.  What happens when a process
 * is killed between any two instructions is argued in docs/guarantees.md and checked by models/.
 *
 * Handles are private to the process.  capacity and the addresses are copied into them once and checked; the shared
 * copies are never read again.  */
#ifndef SHMKIT_RING_H
#define SHMKIT_RING_H

#include <string.h>

#include "_layout.h"
#include "_lease.h"
#include "_wait.h"

#define RING_VIEWS_MOST 1024u /* records that a consumer may hold unreleased */
#define RING_LINGER_PAUSES 24u
#define RING_LINGER_BATCH 16u
#define RING_PACE_STREAM 8u

/* Commits of this process, on any ring: tells a consumer whether its process answers what it receives.  A hint. */
static uint64_t ring_commits;

static inline uint64_t ring_commits_seen(void) { return load_relaxed_u64(&ring_commits); /* relaxed: a hint */ }

typedef struct {
    ring_header_t *shared;
    uint8_t *data;
    uint64_t capacity;
    uint64_t tail;      /* the next position to write; equals shared->tail */
    uint64_t head_seen; /* the consumer's head when last looked at */
    uint64_t need;      /* head must get here before what was refused fits */
    uint64_t at;        /* an open reservation: position of its record word … */
    uint64_t span;      /* … its length; 0: none is open … */
    uint64_t data_at;   /* … and where its payload starts, from the word */
    uint64_t records;
    uint64_t bytes;
    waiter_t waiter;
    lease_t lease;
} ring_producer_t;

typedef struct {
    ring_header_t *shared;
    uint8_t *data;
    uint64_t capacity;
    uint64_t next;      /* the next position to read */
    uint64_t tail_seen; /* the producer's tail when last looked at */
    uint64_t span;      /* of the record at next, once ring_next has said OK */
    uint64_t records;
    uint64_t bytes;
    uint64_t batch;     /* records since tail was last looked at */
    uint64_t commits;   /* ring_commits then */
    uint32_t pace;
    uint32_t views_first; /* a queue of records held by views: positions, bit 0 set when released out of turn */
    uint32_t views_count;
    uint64_t views[RING_VIEWS_MOST];
    waiter_t waiter;
    lease_t lease;
} ring_consumer_t;

static inline uint64_t round_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) & ~(multiple - 1); }

/* --- the record word ----------------------------------------------------------------------------------------- */

static inline uint64_t record_word(uint32_t kind, uint64_t span, uint64_t data_at, uint64_t nbytes) {
    uint64_t tailpad = span - data_at - nbytes;
    return (span / 8) | (tailpad << RECORD_SPAN_BITS) | ((uint64_t)kind << 48) | ((data_at / 8) << 52);
}

static inline uint64_t record_span(uint64_t word) { return (word & ((1ull << RECORD_SPAN_BITS) - 1)) * 8; }
static inline uint32_t record_kind(uint64_t word) { return (uint32_t)(word >> 48) & 15; }
static inline uint64_t record_data_at(uint64_t word) { return (word >> 52) * 8; }
static inline uint64_t record_nbytes(uint64_t word) {
    return record_span(word) - record_data_at(word) - ((word >> RECORD_SPAN_BITS) & 7);
}

#define RECORD_DATA_AT_MOST (4095u * 8u)

/* The most payload bytes that a record with `head_bytes` before its payload can have. */
static inline uint64_t ring_most(uint64_t capacity, uint64_t head_bytes, uint64_t align) {
    return capacity - round_up(head_bytes, align);
}

/* --- producer ------------------------------------------------------------------------------------------------ */

/* Finds room for a record of `nbytes`, `head_bytes` before them (the record word included), the payload on a multiple
 * of `align` (8 … 4096).  OK: at, span and data_at describe it, nothing is published.  FULL: `need` is set.
 * A reservation that is neither committed nor followed by another has not happened. */
static inline status_t ring_reserve(ring_producer_t *p, uint64_t head_bytes, uint64_t nbytes, uint64_t align) {
    const uint64_t capacity = p->capacity;
    if (nbytes > capacity || head_bytes > RECORD_DATA_AT_MOST - align || ring_most(capacity, head_bytes, align) < nbytes)
        return TOO_LARGE;

    const uint64_t index = p->tail & (capacity - 1), room = capacity - index;
    uint64_t data_at = round_up(index + head_bytes, align) - index;
    uint64_t span = round_up(data_at + nbytes, RECORD_ALIGN), pad = 0;
    if (span > room) {
        pad = room;
        data_at = round_up(head_bytes, align);
        span = round_up(data_at + nbytes, RECORD_ALIGN);
    }
    if (capacity - (p->tail - p->head_seen) < pad + span) {
        /* SYNC ring-head: pairs with store_seq(head) in ring_release_to; what the consumer has read may be overwritten */
        p->head_seen = load_acquire_u64(&p->shared->head);
        if (p->tail - p->head_seen > capacity)
            return CORRUPT;
    }
    const uint64_t free = capacity - (p->tail - p->head_seen);
    if (pad != 0 && free >= pad) {
        const uint64_t word = record_word(RECORD_PAD, pad, 8, pad - 8);
        memcpy(p->data + index, &word, 8);
        FAILPOINT("ring.reserve.pad");
        if (free < pad + span) {
            /* The pad goes out alone, so that the consumer can pass it and the record gets the whole lap. */
            p->tail += pad;
            /* SYNC ring-tail: pairs with load_acquire(tail) in ring_next; publishes the pad */
            store_seq_u64(&p->shared->tail, p->tail);
            ring_bell(&p->shared->consumer_bell, &p->shared->producer_count.wakes);
            pad = 0;
        }
    }
    if (capacity - (p->tail - p->head_seen) < pad + span) {
        p->need = p->tail + pad + span - capacity;
        return FULL;
    }
    p->at = p->tail + pad;
    p->span = span;
    p->data_at = data_at;
    return OK;
}

static inline uint8_t *ring_reserved(const ring_producer_t *p) { return p->data + (p->at & (p->capacity - 1)); }

static inline void ring_abort(ring_producer_t *p) { p->span = 0; }

/* Writes the record word of the open reservation, whose payload turned out to be `nbytes` long (not more than
 * reserved), and moves the private tail past it.  Published by ring_publish. */
static inline void ring_fill(ring_producer_t *p, uint32_t kind, uint64_t nbytes) {
    uint64_t span = round_up(p->data_at + nbytes, RECORD_ALIGN);
    uint64_t word = record_word(kind, span, p->data_at, nbytes);
    FAILPOINT("ring.fill.word");
    memcpy(ring_reserved(p), &word, 8);
    p->tail = p->at + span;
    p->span = 0;
    p->records++;
    p->bytes += nbytes;
}

/* Makes everything up to the private tail the consumer's, and wakes it if it sleeps. */
static inline void ring_publish(ring_producer_t *p) {
    ring_header_t *shared = p->shared;
    store_relaxed_u64(&ring_commits, ring_commits_seen() + 1); /* relaxed: a hint */
    FAILPOINT("ring.publish.before");
#ifdef MUTANT_RELAXED_PUBLISH
    store_relaxed_u64(&shared->tail, p->tail);
#else
    /* SYNC ring-tail: pairs with load_acquire(tail) in ring_next; publishes the records below it.
     * seq, and not release, so that the look at the bell below is not reordered before it (SYNC bell) */
    store_seq_u64(&shared->tail, p->tail);
#endif
    FAILPOINT("ring.publish.tail");
    /* relaxed: statistics with one writer */
    store_relaxed_u64(&shared->producer_count.records, p->records);
    store_relaxed_u64(&shared->producer_count.bytes, p->bytes);
    ring_bell(&shared->consumer_bell, &shared->producer_count.wakes);
}

static inline void ring_commit(ring_producer_t *p, uint32_t kind, uint64_t nbytes) {
    ring_fill(p, kind, nbytes);
    ring_publish(p);
}

/* Is there room again, or nobody left to make any? */
static inline int ring_room_ready(const void *of) {
    const ring_producer_t *p = (const ring_producer_t *)of;
    /* SYNC ring-head: pairs with store_seq(head) in ring_release_to; seq for the look after the announcement */
    uint64_t head = load_seq_u64(&p->shared->head);
    return (int64_t)(head - p->need) >= 0 ||
           /* SYNC consumer-closed: pairs with store_seq(state) in ring_close_consumer */
           load_seq_u32(&p->shared->consumer_role.state) == ROLE_CLOSED;
}

static inline int ring_spin_room(ring_producer_t *p, uint64_t limit_ns) {
    return wait_spin(ring_room_ready, p, limit_ns, RING_PACE_STREAM);
}

static inline status_t ring_wait_room(ring_producer_t *p, uint64_t deadline_ns) {
    ring_header_t *shared = p->shared;
    /* relaxed: hints for the other side's spinning */
    store_relaxed_u32(&shared->producer_role.cpu, this_cpu());
    return wait_round(&p->waiter, &shared->producer_bell, ring_room_ready, p, deadline_ns,
                      load_relaxed_u32(&shared->consumer_role.cpu), RING_PACE_STREAM, &shared->producer_count.parks);
}

/* --- consumer ------------------------------------------------------------------------------------------------ */

/* Gives everything below `head` back to the producer, and wakes it if it sleeps. */
static inline void ring_release_to(ring_consumer_t *c, uint64_t head) {
    ring_header_t *shared = c->shared;
    FAILPOINT("ring.release.before");
#ifdef SHMKIT_DEBUG
    /* Poison what is given back, so that a view kept for too long shows. */
    for (uint64_t at = load_relaxed_u64(&shared->head); at != head;) {
        uint64_t index = at & (c->capacity - 1);
        uint64_t bytes = head - at < c->capacity - index ? head - at : c->capacity - index;
        memset(c->data + index, 0xdd, bytes);
        at += bytes;
    }
#endif
    /* SYNC ring-head: pairs with load_acquire(head) in ring_reserve; the reads of the record are over.
     * seq, and not release, so that the look at the bell below is not reordered before it (SYNC bell) */
    store_seq_u64(&shared->head, head);
    FAILPOINT("ring.release.head");
    ring_bell(&shared->producer_bell, &shared->consumer_count.wakes);
}

/* Looks at the next record.  OK: it is at c->next, whole, its word in *word, c->span long.  EMPTY or CORRUPT else. */
static inline status_t ring_next(ring_consumer_t *c, uint64_t *word) {
    const uint64_t capacity = c->capacity;
    for (;;) {
        if (c->next == c->tail_seen) {
            /* Both sides in lockstep would move the line with tail from core to core for each record.  A consumer that
             * only consumes lets a few records gather first; one that answers (it has sent since) does not wait. */
            int answers = c->commits != ring_commits_seen();
            c->pace = answers ? 1 : RING_PACE_STREAM;
            if (c->batch != 0 && c->batch < RING_LINGER_BATCH && !answers)
                for (uint32_t i = 0; i < RING_LINGER_PAUSES; i++)
                    cpu_relax();
            c->batch = 0;
            c->commits = ring_commits_seen();
            /* SYNC ring-tail: pairs with store_seq(tail) in ring_publish; the records below it are whole */
            uint64_t tail = load_acquire_u64(&c->shared->tail);
            if (tail == c->next)
                return EMPTY;
            if (tail - c->next > capacity || tail % RECORD_ALIGN != 0)
                return CORRUPT;
            c->tail_seen = tail;
        }
        const uint64_t index = c->next & (capacity - 1);
        memcpy(word, c->data + index, 8);
        const uint64_t span = record_span(*word);
        const uint32_t kind = record_kind(*word);
        if (span == 0 || span > c->tail_seen - c->next || span > capacity - index)
            return CORRUPT;
        if (kind == RECORD_PAD) {
            c->next += span;
            if (c->views_count == 0)
                ring_release_to(c, c->next);
            continue;
        }
        const uint64_t data_at = record_data_at(*word), tailpad = (*word >> RECORD_SPAN_BITS) & 7;
        if ((kind != RECORD_BYTES && kind != RECORD_ARRAY) || data_at < 8 || data_at + tailpad > span)
            return CORRUPT;
        c->span = span;
        c->batch++;
        return OK;
    }
}

static inline uint8_t *ring_record(const ring_consumer_t *c) { return c->data + (c->next & (c->capacity - 1)); }

static inline void ring_count_received(ring_consumer_t *c, uint64_t nbytes) {
    c->records++;
    c->bytes += nbytes;
    /* relaxed: statistics with one writer */
    store_relaxed_u64(&c->shared->consumer_count.records, c->records);
    store_relaxed_u64(&c->shared->consumer_count.bytes, c->bytes);
}

/* Done with the record at next: it has been copied.  Records held by views keep their place and all behind them. */
static inline void ring_pass(ring_consumer_t *c, uint64_t nbytes) {
    c->next += c->span;
    ring_count_received(c, nbytes);
    if (c->views_count == 0)
        ring_release_to(c, c->next);
}

/* Moves on, but keeps the record at next for a view, whose ticket is the record's position.  OK or TOO_MANY. */
static inline status_t ring_hold(ring_consumer_t *c, uint64_t nbytes, uint64_t *ticket) {
    if (c->views_count == RING_VIEWS_MOST)
        return TOO_MANY;
    *ticket = c->next;
    c->views[(c->views_first + c->views_count++) % RING_VIEWS_MOST] = c->next;
    c->next += c->span;
    ring_count_received(c, nbytes);
    return OK;
}

/* A view is done with its record.  Head moves to the oldest record still held (or to next, if none is). */
static inline void ring_unhold(ring_consumer_t *c, uint64_t ticket) {
    uint32_t at = c->views_first;
    for (uint32_t left = c->views_count; left != 0; left--, at = (at + 1) % RING_VIEWS_MOST)
        if (c->views[at] == ticket) {
            c->views[at] |= 1;
            break;
        }
    if (c->views_count == 0 || (c->views[c->views_first] & 1) == 0)
        return;
    while (c->views_count != 0 && (c->views[c->views_first] & 1) != 0) {
        c->views_first = (c->views_first + 1) % RING_VIEWS_MOST;
        c->views_count--;
    }
    ring_release_to(c, c->views_count != 0 ? c->views[c->views_first] : c->next);
}

/* Is there a record (or a pad), or will there be none any more? */
static inline int ring_records_ready(const void *of) {
    const ring_consumer_t *c = (const ring_consumer_t *)of;
    /* SYNC ring-tail: pairs with store_seq(tail) in ring_publish; seq for the look after the announcement */
    return load_seq_u64(&c->shared->tail) != c->next ||
           /* SYNC producer-closed: pairs with store_seq(state) in ring_close_producer */
           load_seq_u32(&c->shared->producer_role.state) == ROLE_CLOSED;
}

static inline int ring_spin_records(ring_consumer_t *c, uint64_t limit_ns) {
    return wait_spin(ring_records_ready, c, limit_ns, c->pace);
}

static inline status_t ring_wait_records(ring_consumer_t *c, uint64_t deadline_ns) {
    ring_header_t *shared = c->shared;
    /* relaxed: hints for the other side's spinning */
    store_relaxed_u32(&shared->consumer_role.cpu, this_cpu());
    return wait_round(&c->waiter, &shared->consumer_bell, ring_records_ready, c, deadline_ns,
                      load_relaxed_u32(&shared->producer_role.cpu), c->pace, &shared->consumer_count.parks);
}

/* --- roles --------------------------------------------------------------------------------------------------- */

/* Writes who now has the role.  The caller holds the role's lease; epoch goes first (see ring_ask). */
static inline void ring_role_open(ring_role_t *role, uint32_t pid, uint64_t start) {
    FAILPOINT("ring.claim.leased");
    /* relaxed: read for messages only */
    store_relaxed_u32(&role->pid, pid);
    store_relaxed_u64(&role->start, start);
    store_relaxed_u32(&role->cpu, CPU_UNKNOWN);
    /* SYNC role-epoch: pairs with the second load of epoch in ring_ask: whoever sees this OPEN sees this epoch */
    store_seq_u32(&role->epoch, load_relaxed_u32(&role->epoch) + 1);
    FAILPOINT("ring.claim.epoch");
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
        if (tail - head > capacity)
            break;
        uint64_t other = load_relaxed_u64(producer ? &shared->consumer_count.records : &shared->producer_count.records);
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
static inline status_t ring_claim_producer(ring_producer_t *p, void *payload, uint64_t capacity, int fd, uint32_t pid,
                                           uint64_t start) {
    memset(p, 0, sizeof *p);
    ring_attach_memory(payload, &p->shared, &p->data, &p->capacity, capacity);
    int error = lease_take(&p->lease, fd, LEASE_PRODUCER);
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
    p->records = ring_recount(p->shared, p->data, capacity, 1);
    p->bytes = load_relaxed_u64(&p->shared->producer_count.bytes);
    waiter_init(&p->waiter);
    store_relaxed_u32(&p->shared->producer_bell, 0); /* relaxed: the dead one's, a needless wake-up at worst */
    ring_role_open(&p->shared->producer_role, pid, start);
    store_relaxed_u64(&p->shared->producer_count.records, p->records);
    return OK;
}

static inline status_t ring_claim_consumer(ring_consumer_t *c, void *payload, uint64_t capacity, int fd, uint32_t pid,
                                           uint64_t start) {
    memset(c, 0, sizeof *c);
    ring_attach_memory(payload, &c->shared, &c->data, &c->capacity, capacity);
    int error = lease_take(&c->lease, fd, LEASE_CONSUMER);
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
    c->commits = ring_commits_seen();
    c->records = ring_recount(c->shared, c->data, capacity, 0);
    c->bytes = load_relaxed_u64(&c->shared->consumer_count.bytes);
    waiter_init(&c->waiter);
    store_relaxed_u32(&c->shared->consumer_bell, 0); /* relaxed: as above */
    ring_role_open(&c->shared->consumer_role, pid, start);
    store_relaxed_u64(&c->shared->consumer_count.records, c->records);
    return OK;
}

/* Leaves in order: the other end is told, then the role is free. */
static inline void ring_close_producer(ring_producer_t *p) {
    /* SYNC producer-closed: pairs with load_seq(state) in ring_records_ready; every record was published before */
    store_seq_u32(&p->shared->producer_role.state, ROLE_CLOSED);
    FAILPOINT("ring.close.state");
    ring_bell(&p->shared->consumer_bell, &p->shared->producer_count.wakes);
    lease_drop(&p->lease);
}

static inline void ring_close_consumer(ring_consumer_t *c) {
    if (c->views_count != 0) {
        c->views_count = 0;
        ring_release_to(c, c->next); /* what views hold has been received */
    }
    /* SYNC consumer-closed: pairs with load_seq(state) in ring_room_ready */
    store_seq_u32(&c->shared->consumer_role.state, ROLE_CLOSED);
    FAILPOINT("ring.close.state");
    ring_bell(&c->shared->producer_bell, &c->shared->consumer_count.wakes);
    lease_drop(&c->lease);
}

/* What became of the other end?  OK: it lives, or nobody has come yet, or it cannot be told.  CLOSED, or DIED.
 * The caller looks at the ring once more before it believes CLOSED or DIED: records may have come in between. */
static inline status_t ring_ask(const ring_role_t *role, int fd, uint64_t inode, int64_t byte) {
    for (;;) {
        uint32_t epoch = load_seq_u32(&role->epoch);
        if (lease_ask(fd, inode, byte) != LEASE_FREE)
            return OK;
        /* SYNC role-state: pairs with store_seq(state) in ring_role_open */
        uint32_t state = load_seq_u32(&role->state);
        /* SYNC role-epoch: pairs with store_seq(epoch) in ring_role_open; a successor came while we asked */
        if (load_seq_u32(&role->epoch) != epoch)
            continue;
        return state == ROLE_OPEN ? DIED : state == ROLE_CLOSED ? CLOSED : OK;
    }
}

static inline status_t ring_ask_producer(const ring_consumer_t *c, int fd, uint64_t inode) {
    return ring_ask(&c->shared->producer_role, fd, inode, LEASE_PRODUCER);
}

static inline status_t ring_ask_consumer(const ring_producer_t *p, int fd, uint64_t inode) {
    return ring_ask(&p->shared->consumer_role, fd, inode, LEASE_CONSUMER);
}

#endif
