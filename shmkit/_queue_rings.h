/* What a queue consists of: the words of its cells, and the rings that they are in ("queue" in _heap_layout.h).
 *
 * A queue begins with one small ring.  A ring that is full is left behind: a larger one is made, or one that was left earlier is made
 * anew, and linked (_cells.h).  Rings are never given back while the queue lives, so that whoever still looks at an old one finds
 * cells, with tickets that never come again.  */
#ifndef SHMKIT_QUEUE_RINGS_H
#define SHMKIT_QUEUE_RINGS_H

#include "_heap_take.h"
#include "_watch.h"

#define TICKET_SHIFT 16
#define TICKET_MASK ((1ull << 48) - 1)
#define ITEM_LAP_MASK ((1ull << 20) - 1)
#define END_STEP 256ull /* one ticket of tail and head */

/* How one process uses one queue; private to it. */
typedef struct {
    queue_header_t *header;
    heap_t *heap;
    uint64_t held;      /* what the words of its blocks say */
    uint64_t queued_by; /* what the words of the queue's own blocks say: its id */
    uint64_t most, first_ticket;
    uint64_t sender; /* what it tells those with who watch (_watch.h) */
    uint32_t member; /* this process's place among the heap's members */
    struct {
        cell_t *cells;
        uint32_t block, log;
    } rings[QUEUE_RINGS]; /* a ring's place never changes: 0, or as the queue says */
} queue_t;

/* One item, on its way in or out. */
typedef struct {
    uint32_t head_size;
    uint32_t flags;
    uint32_t block; /* 0: none */
    uint64_t body_size;
    uint8_t head[CELL_HEAD];
} item_t;

static inline uint64_t cell_word(uint64_t ticket, uint32_t who, uint32_t phase) {
    return (ticket & TICKET_MASK) << TICKET_SHIFT | who << 3 | phase;
}
static inline uint64_t cell_ticket(uint64_t word) { return word >> TICKET_SHIFT; }
static inline uint32_t cell_phase(uint64_t word) { return word & 7; }
static inline uint32_t cell_who(uint64_t word) { return (word >> 3) & 0x1fff; }

static inline uint64_t ring_word(uint32_t block, uint64_t base, uint32_t member, uint32_t state) {
    return (uint64_t)block << 40 | (base & 0xffffff) << 16 | member << 3 | state;
}
static inline uint32_t ring_word_block(uint64_t word) { return (uint32_t)(word >> 40); }
static inline uint32_t ring_word_base(uint64_t word) { return (word >> 16) & 0xffffff; }
/* The same, but for who makes it and its state. */
static inline uint64_t ring_word_as(uint64_t word, uint32_t member, uint32_t state) {
    return (word & ~0xffffull) | member << 3 | state;
}
static inline uint32_t ring_word_member(uint64_t word) { return (word >> 3) & 0x1fff; }
static inline uint32_t ring_word_state(uint64_t word) { return word & 7; }

/* What the word of a block says that is queued in that cell. */
static inline uint64_t block_queued(uint32_t ring, uint32_t cell, uint64_t lap) {
    return ((uint64_t)ring << 38 | (uint64_t)cell << 20 | (lap & ITEM_LAP_MASK)) << 2 | BLOCK_QUEUED;
}

static inline uint64_t item_word(uint32_t block, uint64_t lap, uint32_t head_size, uint32_t flags) {
    return (uint64_t)block << 40 | (lap & ITEM_LAP_MASK) << 20 | head_size << 12 | (flags & 0xfff);
}
static inline uint32_t item_block(uint64_t item) { return (uint32_t)(item >> 40); }
static inline uint64_t item_lap(uint64_t item) { return (item >> 20) & ITEM_LAP_MASK; }

static inline uint64_t ring_bytes(uint32_t log) { return sizeof(cell_ring_t) + (sizeof(cell_t) << log); }

/* --- rings ------------------------------------------------------------------------------------------------------- */

/* Learns where a ring is; 0: it contradicts itself. */
static inline int queue_learn_ring(queue_t *queue, uint32_t ring) {
    if (ring >= QUEUE_RINGS)
        return 0;
    uint64_t size;
    /* SYNC ring-made: pairs with cas_seq(rings) in queue_make_ring */
    const uint32_t block = ring_word_block(load_acquire_u64(&queue->header->rings[ring]));
    char *at = heap_block_at(queue->heap, block, &size);
    if (at == NULL)
        return 0;
    const uint32_t log = ((cell_ring_t *)at)->cells_log;
    if (log > QUEUE_LOG_MOST || ring_bytes(log) > size)
        return 0;
    queue->rings[ring].block = block;
    queue->rings[ring].log = log;
    /* Private; several threads may store the same.  release: who finds the cells finds how many they are */
    __atomic_store_n(&queue->rings[ring].cells, (cell_t *)(at + sizeof(cell_ring_t)), __ATOMIC_RELEASE);
    return 1;
}

/* The cell of a ticket; NULL: the queue contradicts itself. */
static ALWAYS_INLINE cell_t *queue_cell(queue_t *queue, uint32_t ring, uint64_t ticket) {
    if (__builtin_expect(ring >= QUEUE_RINGS || queue->rings[ring].cells == NULL, 0) && !queue_learn_ring(queue, ring))
        return NULL;
    return &queue->rings[ring].cells[ticket & ((1ull << queue->rings[ring].log) - 1)];
}

/* The block of a ring; 0: there is no such ring. */
static inline uint32_t queue_ring(const queue_t *queue, uint32_t ring) {
    return ring_word_block(load_acquire_u64(&queue->header->rings[ring])); /* (SYNC ring-made) */
}

/* Is nothing in the ring any more, and nobody at it? */
static inline int queue_ring_idle(const queue_t *queue, uint32_t ring) {
    for (uint64_t i = 0; i < 1ull << queue->rings[ring].log; i++) {
        /* (SYNC queue-cell) */
        const uint32_t phase = cell_phase(load_acquire_u64(&queue->rings[ring].cells[i].word));
        if (phase != CELL_FREE && phase != CELL_LINK)
            return 0;
    }
    return 1;
}

static inline void cells_format(cell_t *cells, uint32_t log, uint64_t ticket) {
    const uint64_t count = 1ull << log;
    for (uint64_t i = 0; i < count; i++, ticket++)
        /* relaxed: nobody is there but some who look for tickets long gone; published by the ring's word, or by the link */
        store_relaxed_u64(&cells[ticket & (count - 1)].word, cell_word(ticket, 0, CELL_FREE));
}

/* Makes a ring whose tickets begin at `ticket`, or makes one anew that was left; *ring receives it.  Never the ring `from`, where tail
 * was with that ticket (QUEUE_RINGS: nowhere): head may have followed a link from there, and so left it, before tail has.  Made anew with
 * the very ticket of tail, it would take the items that head looks for behind the link.  Whoever makes a ring of that ticket comes from
 * there; others come once tail has left it, too.  OK; TOO_MANY: there are as
 * many as there can be; FULL, TOO_LARGE: no memory. */
static inline status_t queue_make_ring(queue_t *queue, uint32_t from, uint32_t least_log, uint64_t ticket,
                                       uint32_t *ring, int *error) {
    uint64_t *rings = queue->header->rings;
    uint32_t made = QUEUE_RINGS, log = least_log;
    *error = 0;
    for (uint32_t i = QUEUE_RINGS; i-- != 0;) {      /* the largest ones come last */
        uint64_t word = load_acquire_u64(&rings[i]); /* (SYNC ring-made) */
        /* A new one is larger than any that there is, so that they do not become many. */
        if (ring_word_block(word) != 0 && queue_cell(queue, i, 0) != NULL && queue->rings[i].log >= log)
            log = queue->rings[i].log < QUEUE_LOG_MOST ? queue->rings[i].log + 1 : QUEUE_LOG_MOST;
        if (ring_word_state(word) != RING_RETIRED || i == from)
            continue;
        const uint64_t making = ring_word(ring_word_block(word), ticket, queue->member, RING_MAKING);
        if (!cas_seq_u64(&rings[i], &word, making))
            continue;
        FAILPOINT("queue.ring.again");
        if (queue_cell(queue, i, 0) != NULL && queue_ring_idle(queue, i)) {
            made = i;
            break;
        }
        word = making;
        cas_seq_u64(&rings[i], &word, ring_word_as(making, 0, RING_RETIRED));
    }
    if (made == QUEUE_RINGS) {
        for (uint32_t i = 0; i < QUEUE_RINGS; i++) {
            uint64_t word = load_relaxed_u64(&rings[i]); /* relaxed: a guess for the compare-and-swap */
            if (word == 0 && cas_seq_u64(&rings[i], &word, ring_word(0, ticket, queue->member, RING_MAKING))) {
                made = i;
                break;
            }
        }
        if (made == QUEUE_RINGS)
            return TOO_MANY;
        FAILPOINT("queue.ring.new");
        uint32_t block;
        uint64_t size, making = ring_word(0, ticket, queue->member, RING_MAKING);
        status_t status = heap_take(queue->heap, ring_bytes(log), queue->held, &block, error);
        if (status != OK) {
            cas_seq_u64(&rings[made], &making, 0);
            return status;
        }
        FAILPOINT("queue.ring.taken");
        char *at = heap_block_at(queue->heap, block, &size);
        ((cell_ring_t *)at)->cells_log = log;
        /* Before it is named: whoever sweeps, or looks for orphans, looks at the cells of every ring that has a name. */
        cells_format((cell_t *)(at + sizeof(cell_ring_t)), log, ticket);
        block_set_use(queue->heap, block, USE_RING);
        uint64_t held = queue->held;
        /* SYNC ring-made: pairs with load_acquire(rings) in queue_learn_ring; the ring says how large it is, and is whole */
        cas_seq_u64(&rings[made], &making, ring_word(block, ticket, queue->member, RING_MAKING));
        FAILPOINT("queue.ring.named");
        cas_seq_u64(&queue->heap->blocks[block].word, &held, queue->queued_by);
        FAILPOINT("queue.ring.given");
        if (!queue_learn_ring(queue, made))
            return CORRUPT;
    } else
        cells_format(queue->rings[made].cells, queue->rings[made].log, ticket);
    *ring = made;
    return OK;
}

/* Whoever comes to a link says, before anything else, that the ring behind it is chained: if it is still the one that was linked
 * at that ticket. */
static inline void queue_chain(queue_t *queue, uint32_t ring, uint64_t ticket) {
    if (ring >= QUEUE_RINGS)
        return;
    uint64_t word = load_acquire_u64(&queue->header->rings[ring]); /* (SYNC ring-made) */
    if (ring_word_state(word) == RING_MAKING && ring_word_base(word) == (ticket & 0xffffff))
        cas_seq_u64(&queue->header->rings[ring], &word, ring_word_as(word, 0, RING_CHAINED));
}

/* Head has left the ring, whose word was `word` while head was there.  A sweep may have said so already, and the ring be another
 * one's by now: then its word is another, too. */
static inline void queue_retire(queue_t *queue, uint32_t ring, uint64_t word) {
    if (ring_word_state(word) == RING_CHAINED)
        cas_seq_u64(&queue->header->rings[ring], &word, ring_word_as(word, 0, RING_RETIRED));
}

/* --- making and opening ------------------------------------------------------------------------------------------ */

/* Makes a queue in a block of this process's, and gives it to the holder `id`, whose lease is taken.  `most`: items at one
 * time, at most.  OK, or as heap_take; then the caller still has the block. */
static inline status_t queue_format(queue_t *queue, uint32_t block, uint64_t id, uint64_t most, uint32_t flags,
                                    int *error) {
    uint64_t size, held = queue->held;
    queue_header_t *header = (queue_header_t *)heap_block_at(queue->heap, block, &size);
    uint32_t ring, log = 6;
    if (header == NULL)
        return CORRUPT;
    cell_clear(header, sizeof *header, flags);
    header->id = id;
    header->most = queue->most = most;
    queue->header = header;
    queue->queued_by = block_held(id);
    while (most < QUEUE_CELLS_MOST / 2 && (1ull << log) < 2 * most && log < 13)
        log++;
    const status_t status = queue_make_ring(queue, QUEUE_RINGS, log, 1ull << log, &ring, error);
    if (status != OK)
        return status;
    queue_chain(queue, ring, 1ull << log);
    header->first = queue->first_ticket = 1ull << log;
    header->tail = header->head = (1ull << log) << 8 | ring;
    cell_publish(header, CELL_QUEUE);
    block_set_use(queue->heap, block, USE_QUEUE);
    FAILPOINT("queue.formatted");
    /* (SYNC block-word) */
    cas_seq_u64(&queue->heap->blocks[block].word, &held, block_held(id));
    return OK;
}

/* Opens a queue whose header is at `header`, in a block that was checked to be large enough, with the id that it was told of.
 * OK or CORRUPT. */
static inline status_t queue_open(queue_t *queue, heap_t *heap, queue_header_t *header, uint64_t id) {
    memset(queue, 0, sizeof *queue);
    queue->header = header;
    queue->heap = heap;
    queue->queued_by = block_held(id);
    queue->most = header->most;
    queue->first_ticket = header->first;
    return cell_kind(header) == CELL_QUEUE && header->id == id && queue->most != 0 ? OK : CORRUPT;
}

#endif
