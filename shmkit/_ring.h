/* The ring's core: one producer, one consumer, records of any size, in plain C over the structs of _layout.h.
 *
 * Who may call what: the ring_producer_t functions only the process that holds the producer's lease, one thread at a time;
 * the ring_consumer_t functions likewise.  Nothing here raises, allocates, logs or (but for the wait functions) sleeps.
 * Lock-free; wait-free as long as the ring is neither full nor empty.
 *
 * The algorithm is Lamport's queue (1983) with each side caching the other's index, as in FastForward and MCRingBuffer
 * (2008-10) and many since; records with pads at the lap's end as in Aeron's ring buffers.  What happens when a process is
 * killed between any two instructions is argued in docs/guarantees.md and checked by models/.
 *
 * Handles are private to the process.  capacity and addresses are copied into them once, checked, and not read again.  */
#ifndef SHMKIT_RING_H
#define SHMKIT_RING_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <string.h>

#include "_layout.h"
#include "_lease.h"
#include "_ring_bell.h"
#include "_wait.h"

#define RING_VIEWS_MOST 1024u /* records that a consumer may hold unreleased */
#define RING_LINGER_PAUSES 24u
#define RING_LINGER_BATCH 16u
#define RING_PACE_STREAM 8u

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
    uint64_t *commits; /* where this process counts its commits, on any ring: see ring_next */
    uint64_t own_commits;
    uint64_t sender; /* what it tells a consumer with that watches (_watch.h) */
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
    uint64_t batch;          /* records since tail was last looked at */
    uint64_t batch_from;     /* and the position then */
    uint64_t commits_seen;   /* *commits then */
    const uint64_t *commits; /* where this process counts what it sends, on any ring */
    uint64_t own_commits;
    uint64_t sender; /* what it tells a producer with that watches */
    uint32_t pace;
    uint32_t within;      /* see ring_within */
    uint32_t views_first; /* a queue of records held by views: positions, bit 0 set when released out of turn */
    uint32_t views_count;
    uint64_t views[RING_VIEWS_MOST];
    uint64_t ordinals[RING_VIEWS_MOST]; /* how many records came before each */
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
    const uint64_t data_at = round_up(head_bytes, align);
    return data_at < capacity ? capacity - data_at : 0;
}

/* --- producer ------------------------------------------------------------------------------------------------ */

/* Finds room for a record of `nbytes`, `head_bytes` before them (the record word included), the payload on a multiple
 * of `align` (8 … 4096).  OK: at, span and data_at describe it, nothing is published.  FULL: `need` is set.
 * A reservation that is neither committed nor followed by another has not happened. */
static inline status_t ring_reserve(ring_producer_t *p, uint64_t head_bytes, uint64_t nbytes, uint64_t align) {
    const uint64_t capacity = p->capacity;
    if (nbytes > capacity || head_bytes > RECORD_DATA_AT_MOST - align || head_bytes + align > capacity ||
        ring_most(capacity, head_bytes, align) < nbytes)
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
        const uint64_t head = load_acquire_u64(&p->shared->head);
        if (p->tail - head > capacity || head % RECORD_ALIGN != 0)
            return CORRUPT;
        p->head_seen = head;
    }
    const uint64_t free = capacity - (p->tail - p->head_seen);
    if (pad != 0 && free >= pad) {
        const uint64_t word = record_word(RECORD_PAD, pad, 8, pad - 8);
        memcpy(p->data + index, &word, 8);
        FAILPOINT("ring.reserve.pad");
        if (pad + span > capacity) {
            /* Both will never have room together, however empty the ring: the pad goes out alone, so that the consumer
             * can pass it and the record gets the whole lap.  Where they will, what is refused has left no trace. */
            p->tail += pad;
            /* SYNC ring-tail: pairs with load_acquire(tail) in ring_next_within; publishes the pad */
            store_seq_u64(&p->shared->tail, p->tail);
            ring_call(&p->shared->consumer_bell, &p->sender, &p->shared->producer_count.wakes);
            pad = 0;
        }
    }
    if (capacity - (p->tail - p->head_seen) < pad + span) {
        /* A pad that goes out alone is waited for alone. */
        p->need = p->tail + (pad + span > capacity ? pad : pad + span) - capacity;
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
    store_relaxed_u64(p->commits, load_relaxed_u64(p->commits) + 1); /* relaxed: a hint */
    FAILPOINT("ring.publish.before");
    /* SYNC ring-tail: pairs with load_acquire(tail) in ring_next_within; publishes the records below it.
     * seq, and not release, so that the look at the bell below is not reordered before it (SYNC bell) */
    store_seq_u64(&shared->tail, p->tail);
    FAILPOINT("ring.publish.tail");
    /* relaxed: statistics with one writer */
    store_relaxed_u64(&shared->producer_count.records, p->records);
    store_relaxed_u64(&shared->producer_count.bytes, p->bytes);
    ring_call(&shared->consumer_bell, &p->sender, &shared->producer_count.wakes);
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
    return wait_round(&p->waiter, &shared->producer_bell.word, ring_room_ready, p, deadline_ns,
                      load_relaxed_u32(&shared->consumer_role.cpu), RING_PACE_STREAM, &shared->producer_count.parks);
}

/* --- consumer ------------------------------------------------------------------------------------------------ */

/* Gives everything below `head`, `records` in all, back to the producer, and wakes it if it sleeps. */
static inline void ring_release_to(ring_consumer_t *c, uint64_t head, uint64_t records) {
    ring_header_t *shared = c->shared;
    FAILPOINT("ring.release.before");
    /* SYNC ring-head: pairs with load_acquire(head) in ring_reserve; the reads of the record are over.
     * seq, and not release, so that the look at the bell below is not reordered before it (SYNC bell) */
    store_seq_u64(&shared->head, head);
    FAILPOINT("ring.release.head");
    /* relaxed: a statistic with one writer */
    store_relaxed_u64(&shared->consumer_count.below, records);
    ring_call(&shared->producer_bell, &c->sender, &shared->consumer_count.wakes);
}

/* A view may die in any thread, beside the thread whose turn it is to receive.  With the GIL both are under it; without one, the
 * few lines that touch next, the list of views and head are a critical section of this process: a spin, as none of them calls
 * Python.  A receiver moves next in there once it has copied, so that a view which dies gives back nothing of that. */
static inline void ring_within(ring_consumer_t *c) {
#ifdef Py_GIL_DISABLED
    while (exchange_acquire_u32(&c->within, 1) != 0)
        cpu_relax();
#else
    (void)c;
#endif
}

static inline void ring_without(ring_consumer_t *c) {
#ifdef Py_GIL_DISABLED
    store_release_u32(&c->within, 0);
#else
    (void)c;
#endif
}

/* Passes a pad that stands next.  A producer may be waiting for just that: its record is to start at the next lap. */
static inline void ring_pass_pad(ring_consumer_t *c) {
    uint64_t word;
    if (c->next == c->tail_seen) {
        /* relaxed: a hint; it is not worth a look at tail after each record */
        if (load_relaxed_u32(&c->shared->producer_bell.word) == 0)
            return;
        /* SYNC ring-tail: pairs with store_seq(tail) in ring_reserve; the pad's word is whole */
        const uint64_t tail = load_acquire_u64(&c->shared->tail);
        if (tail == c->next || tail - c->next > c->capacity || tail % RECORD_ALIGN != 0)
            return;
        c->tail_seen = tail;
    }
    const uint64_t index = c->next & (c->capacity - 1);
    memcpy(&word, c->data + index, 8);
    if (record_kind(word) == RECORD_PAD && record_span(word) == c->capacity - index &&
        record_span(word) <= c->tail_seen - c->next)
        c->next += record_span(word);
}

/* Gives back all that is not held by views; within. */
static inline void ring_release_within(ring_consumer_t *c) {
    if (c->views_count != 0)
        return;
    ring_pass_pad(c);
    ring_release_to(c, c->next, c->records);
}

static inline void ring_release_passed(ring_consumer_t *c) { ring_within(c), ring_release_within(c), ring_without(c); }

static inline status_t ring_next_within(ring_consumer_t *c, uint64_t *word) {
    const uint64_t capacity = c->capacity;
    for (;;) {
        if (c->next == c->tail_seen) {
            /* Both sides in lockstep would move the line with tail from core to core for each record.  A consumer that only
             * consumes lets a few small ones gather first; one that answers (it has sent since) does not wait. */
            const uint64_t commits = load_relaxed_u64(c->commits); /* relaxed: a hint */
            const int answers = commits != c->commits_seen;
            c->pace = answers ? 1 : RING_PACE_STREAM;
            if (c->batch != 0 && c->batch < RING_LINGER_BATCH && !answers && c->next - c->batch_from < capacity / 16)
                for (uint32_t i = 0; i < RING_LINGER_PAUSES; i++)
                    cpu_relax();
            c->batch = 0;
            c->batch_from = c->next;
            c->commits_seen = commits;
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
            ring_release_within(c);
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

/* Looks at the next record.  OK: it is at c->next, whole, its word in *word, c->span long.  EMPTY or CORRUPT else. */
static inline status_t ring_next(ring_consumer_t *c, uint64_t *word) {
    ring_within(c);
    const status_t status = ring_next_within(c, word);
    ring_without(c);
    return status;
}

static inline uint8_t *ring_record(const ring_consumer_t *c) { return c->data + (c->next & (c->capacity - 1)); }

static inline void ring_count_received(ring_consumer_t *c, uint64_t nbytes) {
    c->records++;
    c->bytes += nbytes;
    /* relaxed: statistics with one writer */
    store_relaxed_u64(&c->shared->consumer_count.records, c->records);
    store_relaxed_u64(&c->shared->consumer_count.bytes, c->bytes);
}

/* Done with the record at next: it has been copied.  It is given back later, together with others. */
static inline void ring_step(ring_consumer_t *c, uint64_t nbytes) {
    ring_within(c);
    c->next += c->span;
    ring_count_received(c, nbytes);
    ring_without(c);
}

/* The same, and it is given back at once.  Records held by views keep their place and all behind them. */
static inline void ring_pass(ring_consumer_t *c, uint64_t nbytes) {
    ring_within(c);
    c->next += c->span;
    ring_count_received(c, nbytes);
    ring_release_within(c);
    ring_without(c);
}

/* Moves on, but keeps the record at next for a view, whose ticket is the record's position.  OK or TOO_MANY. */
static inline status_t ring_hold(ring_consumer_t *c, uint64_t nbytes, uint64_t *ticket) {
    if (c->views_count == RING_VIEWS_MOST)
        return TOO_MANY;
    ring_within(c);
    *ticket = c->next;
    const uint32_t at = (c->views_first + c->views_count++) % RING_VIEWS_MOST;
    c->views[at] = c->next;
    c->ordinals[at] = c->records;
    c->next += c->span;
    ring_count_received(c, nbytes);
    ring_without(c);
    return OK;
}

/* In a debug build, what a view gives back is overwritten, so that an array kept for too long shows.  The record word stays:
 * a successor still finds its way if this process is killed before head moves. */
static inline void ring_poison(const ring_consumer_t *c, uint64_t ticket) {
#ifdef SHMKIT_DEBUG
    uint8_t *record = c->data + (ticket & (c->capacity - 1));
    uint64_t word;
    memcpy(&word, record, 8);
    if (record_span(word) <= c->capacity - (ticket & (c->capacity - 1)) && record_nbytes(word) <= record_span(word))
        memset(record + record_data_at(word), 0xdd, record_nbytes(word));
#else
    (void)c;
    (void)ticket;
#endif
}

/* A view is done with its record: head moves to the oldest that is held, or to next.  Within, if the view counts still. */
static inline void ring_unhold(ring_consumer_t *c, uint64_t ticket) {
    uint32_t at = c->views_first;
    for (uint32_t left = c->views_count; left != 0; left--, at = (at + 1) % RING_VIEWS_MOST)
        if (c->views[at] == ticket) {
            c->views[at] |= 1;
            break;
        }
    if (c->views_count != 0 && (c->views[c->views_first] & 1) != 0) {
        do {
            ring_poison(c, c->views[c->views_first] & ~1ull);
            c->views_first = (c->views_first + 1) % RING_VIEWS_MOST;
            c->views_count--;
        } while (c->views_count != 0 && (c->views[c->views_first] & 1) != 0);
        if (c->views_count != 0)
            ring_release_to(c, c->views[c->views_first], c->ordinals[c->views_first]);
        ring_release_within(c);
    }
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
    return wait_round(&c->waiter, &shared->consumer_bell.word, ring_records_ready, c, deadline_ns,
                      load_relaxed_u32(&shared->producer_role.cpu), c->pace, &shared->consumer_count.parks);
}

/* --- many at once -------------------------------------------------------------------------------------------- */

#define RING_ROWS_BATCH 32u /* records per publication */

static inline uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* memcpy of one row.  A size that the compiler knows is a few moves instead of a call, and a line of 64 bytes is what
 * small rows mostly are; always inlined, so that the choice is made once and not for each row. */
static ALWAYS_INLINE void copy_row(uint8_t *target, const uint8_t *source, uint64_t row_size) {
    if (row_size == 64)
        memcpy(target, source, 64);
    else
        memcpy(target, source, row_size);
}

/* Sends as many of `count` rows of `row_size` bytes as there is room for; *status says why not more. */
static inline uint64_t ring_send_rows(ring_producer_t *p, const uint8_t *rows, uint64_t row_size, uint64_t count,
                                      status_t *status) {
    uint64_t done = 0;
    *status = OK;
    while (done < count && (*status = ring_reserve(p, 8, row_size, RECORD_ALIGN)) == OK) {
        /* What follows without another look at head, and without a pad, needs no further questions. */
        const uint64_t span = p->span, word = record_word(RECORD_BYTES, span, 8, row_size);
        const uint64_t room = least(p->capacity - (p->at & (p->capacity - 1)), p->capacity - (p->at - p->head_seen));
        const uint64_t batch = least(least(room / span, count - done), RING_ROWS_BATCH);
        uint8_t *record = ring_reserved(p);
        for (uint64_t i = 0; i < batch; i++, record += span, rows += row_size) {
            memcpy(record, &word, 8);
            copy_row(record + 8, rows, row_size);
        }
        FAILPOINT("ring.rows.filled");
        p->tail = p->at + batch * span;
        p->span = 0;
        p->records += batch;
        p->bytes += batch * row_size;
        ring_publish(p);
        done += batch;
    }
    return done;
}

/* Receives up to `count` records of `row_size` bytes; *status is TOO_LARGE before one of another size. */
static inline uint64_t ring_recv_rows(ring_consumer_t *c, uint8_t *rows, uint64_t row_size, uint64_t count,
                                      status_t *status) {
    uint64_t done = 0, word;
    *status = OK;
    while (done < count && (*status = ring_next(c, &word)) == OK) {
        if (record_nbytes(word) != row_size) {
            *status = TOO_LARGE;
            break;
        }
        /* Records with the very same word follow each other in the same way: no need to check each anew. */
        const uint64_t span = c->span, data_at = record_data_at(word);
        const uint64_t there = least(c->tail_seen - c->next, c->capacity - (c->next & (c->capacity - 1)));
        const uint64_t batch = least(least(there / span, count - done), RING_ROWS_BATCH);
        const uint8_t *record = ring_record(c);
        uint64_t same = 0;
        do {
            copy_row(rows, record + data_at, row_size);
            record += span, rows += row_size, same++;
        } while (same < batch && memcmp(record, &word, 8) == 0);
        ring_within(c);
        c->next += same * span;
        c->batch += same - 1;
        c->records += same - 1;
        c->bytes += (same - 1) * row_size;
        ring_count_received(c, row_size);
        ring_release_within(c);
        ring_without(c);
        done += same;
    }
    return done;
}

#endif
