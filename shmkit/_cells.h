/* Queues: many producers, many consumers, any of whom may be killed ("queue" in _heap_layout.h).
 *
 *   put   claim the cell of tail: FREE → CLAIMED(me); advance tail; copy the head; HELD → QUEUED of the block; READY
 *   get   take the cell of head: READY → TAKEN(me); advance head; copy the head; QUEUED → HELD(me) of the block; FREE
 *
 * A cell's word is the only fact; tail and head are advanced by whoever sees that they lag.  Claims are named, so that those
 * of the dead can be undone (_sweep.h): nobody ever needs the next step of somebody who may be dead.
 *
 * Killed, as a producer, before READY: put has not returned, and the cell will be skipped; a block that was queued already
 * is freed with it, as the item's lap says that it is of this claim.  As a consumer, before FREE: get has not returned; the
 * item, untouched, becomes an orphan, which goes to whoever gets next; a block that was held already is queued again.  After
 * READY, or FREE, all is done but wake-ups: sleeps are slices.
 *
 * Full rings are left behind, not waited for: the last free cell of a ring becomes a link to the next one, of twice the size.
 * After D. Vyukov's bounded MPMC queue (2010), with names in its claims, and tickets in place of its sequence.  */
#ifndef SHMKIT_CELLS_H
#define SHMKIT_CELLS_H

#include "_heap.h"

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
    uint32_t member; /* this process's place among the heap's members */
    uint32_t peeks;  /* gets since orphans were looked for */
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
    if (log > 18 || ring_bytes(log) > size)
        return 0;
    queue->rings[ring].block = block;
    queue->rings[ring].log = log;
    /* SYNC none: private; without a GIL several threads store the same */
    queue->rings[ring].cells = (cell_t *)(at + sizeof(cell_ring_t));
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
    return ring_word_block(load_acquire_u64(&queue->header->rings[ring])); /* SYNC ring-made: as in queue_learn_ring */
}

/* Is nothing in the ring any more, and nobody at it? */
static inline int queue_ring_idle(const queue_t *queue, uint32_t ring) {
    for (uint64_t i = 0; i < 1ull << queue->rings[ring].log; i++) {
        /* SYNC cell: as in queue_get */
        const uint32_t phase = cell_phase(load_acquire_u64(&queue->rings[ring].cells[i].word));
        if (phase != CELL_FREE && phase != CELL_LINK)
            return 0;
    }
    return 1;
}

static inline void queue_format_ring(queue_t *queue, uint32_t ring, uint64_t ticket) {
    const uint64_t cells = 1ull << queue->rings[ring].log;
    for (uint64_t i = 0; i < cells; i++, ticket++)
        /* relaxed: nobody is there but some who look for tickets long gone; published by the link, or by the queue's kind */
        store_relaxed_u64(&queue->rings[ring].cells[ticket & (cells - 1)].word, cell_word(ticket, 0, CELL_FREE));
}

/* Makes a ring whose tickets begin at `ticket`, or makes one anew that was left; *ring receives it.  OK; TOO_MANY: there are as
 * many as there can be; FULL, TOO_LARGE: no memory. */
static inline status_t queue_make_ring(queue_t *queue, uint32_t log, uint64_t ticket, uint32_t *ring, int *error) {
    uint64_t *rings = queue->header->rings;
    uint32_t made = QUEUE_RINGS;
    *error = 0;
    for (uint32_t i = QUEUE_RINGS; i-- != 0;) {      /* the largest ones come last */
        uint64_t word = load_acquire_u64(&rings[i]); /* SYNC ring-made: as in queue_learn_ring */
        if (ring_word_state(word) != RING_RETIRED)
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
        uint32_t block, size_log = log;
        uint64_t size, making = ring_word(0, ticket, queue->member, RING_MAKING);
        status_t status = heap_take(queue->heap, ring_bytes(size_log), queue->held, &block, error);
        if (status != OK) {
            cas_seq_u64(&rings[made], &making, 0);
            return status;
        }
        FAILPOINT("queue.ring.taken");
        char *at = heap_block_at(queue->heap, block, &size);
        ((cell_ring_t *)at)->cells_log = size_log;
        queue->heap->blocks[block].use = USE_RING;
        uint64_t held = queue->held;
        cas_seq_u64(&rings[made], &making, ring_word(block, ticket, queue->member, RING_MAKING)); /* SYNC ring-made */
        FAILPOINT("queue.ring.named");
        cas_seq_u64(&queue->heap->blocks[block].word, &held, queue->queued_by);
        FAILPOINT("queue.ring.given");
        if (!queue_learn_ring(queue, made))
            return CORRUPT;
    }
    queue_format_ring(queue, made, ticket);
    *ring = made;
    return OK;
}

/* Whoever comes to a link says, before anything else, that the ring behind it is chained: if it is still the one that was linked
 * at that ticket. */
static inline void queue_chain(queue_t *queue, uint32_t ring, uint64_t ticket) {
    if (ring >= QUEUE_RINGS)
        return;
    uint64_t word = load_acquire_u64(&queue->header->rings[ring]); /* SYNC ring-made */
    if (ring_word_state(word) == RING_MAKING && ring_word_base(word) == (ticket & 0xffffff))
        cas_seq_u64(&queue->header->rings[ring], &word, ring_word_as(word, 0, RING_CHAINED));
}

static inline void queue_retire(queue_t *queue, uint32_t ring) {
    uint64_t word = load_acquire_u64(&queue->header->rings[ring]); /* SYNC ring-made */
    if (ring_word_state(word) == RING_CHAINED)
        cas_seq_u64(&queue->header->rings[ring], &word, ring_word_as(word, 0, RING_RETIRED));
}

/* Tail is at a cell that is the last free one: makes a ring and links it.  OK: look again. */
static inline status_t queue_grow(queue_t *queue, uint64_t tail, cell_t *cell, int *error) {
    const uint32_t from = (uint32_t)(tail & 255);
    const uint64_t ticket = tail >> 8;
    const uint32_t log = queue->rings[from].log < 18 ? queue->rings[from].log + 1 : 18;
    uint32_t ring;
    const status_t status = queue_make_ring(queue, log, ticket, &ring, error);
    if (status != OK)
        return status;
    FAILPOINT("queue.ring.formatted");
    uint64_t word = cell_word(ticket, 0, CELL_FREE);
    /* SYNC cell: pairs with load_acquire(word) in queue_put and queue_get; the new ring is whole */
    if (cas_seq_u64(&cell->word, &word, cell_word(ticket, ring, CELL_LINK))) {
        FAILPOINT("queue.linked");
        queue_chain(queue, ring, ticket);
    } else {                                                  /* somebody was quicker */
        word = load_relaxed_u64(&queue->header->rings[ring]); /* relaxed: ours */
        cas_seq_u64(&queue->header->rings[ring], &word, ring_word_as(word, 0, RING_RETIRED));
    }
    return OK;
}

/* Passes the cell at head, which a dead producer had claimed. */
static inline void queue_skip(queue_t *queue, cell_t *cell, uint64_t head, uint64_t word) {
    const uint64_t next = (head >> 8) + (1ull << queue->rings[head & 255].log);
    if (cas_seq_u64(&cell->word, &word, cell_word(next, 0, CELL_FREE))) {
        cas_seq_u64(&queue->header->head, &head, head + END_STEP);
        gate_wake(&queue->header->room_gate, 1);
    }
}

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
    const status_t status = queue_make_ring(queue, log, 1ull << log, &ring, error);
    if (status != OK)
        return status;
    queue_chain(queue, ring, 1ull << log);
    header->first = queue->first_ticket = 1ull << log;
    header->tail = header->head = (1ull << log) << 8 | ring;
    cell_publish(header, CELL_QUEUE);
    queue->heap->blocks[block].use = USE_QUEUE;
    FAILPOINT("queue.formatted");
    /* SYNC block-word: as in heap_take_word */
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

/* --- put --------------------------------------------------------------------------------------------------------- */

/* Advances head past what has been taken already; returns it. */
static inline uint64_t queue_true_head(queue_t *queue) {
    for (;;) {
        uint64_t head = load_seq_u64(&queue->header->head);
        const uint64_t ticket = head >> 8;
        cell_t *cell = queue_cell(queue, head & 255, ticket);
        if (cell == NULL)
            return head;
        uint64_t word = load_acquire_u64(&cell->word); /* SYNC cell: as in queue_get */
        if (cell_ticket(word) == ticket && cell_phase(word) == CELL_SKIP)
            queue_skip(queue, cell, head, word);
        else if ((cell_ticket(word) == ticket && cell_phase(word) == CELL_TAKEN) ||
                 cell_ticket(word) == ticket + (1ull << queue->rings[head & 255].log))
            cas_seq_u64(&queue->header->head, &head, head + END_STEP);
        else
            return head;
    }
}

/* Puts one item: its block, if it has one, is held by this process.  OK; FULL; CLOSED; or what queue_make_ring says. */
static ALWAYS_INLINE status_t queue_put(queue_t *queue, const item_t *item, int *error) {
    queue_header_t *header = queue->header;
    for (;;) {
        uint64_t tail = load_seq_u64(&header->tail);
        const uint64_t ticket = tail >> 8;
        const uint32_t ring = tail & 255;
        if (queue->most != QUEUE_UNBOUNDED && ticket - (load_seq_u64(&header->head) >> 8) >= queue->most &&
            (int64_t)(ticket - (queue_true_head(queue) >> 8)) >= (int64_t)queue->most) {
            if (load_seq_u64(&header->tail) != tail)
                continue;
            return FULL;
        }
        if (__builtin_expect(load_relaxed_u32(&header->state) != QUEUE_OPEN,
                             0)) /* relaxed: whoever shuts it does so now or then */
            return CLOSED;
        cell_t *cell = queue_cell(queue, ring, ticket);
        if (__builtin_expect(cell == NULL, 0))
            return CORRUPT;
        /* SYNC cell: pairs with exchange_seq(word) in queue_get; its last consumer has copied what was there */
        uint64_t word = load_acquire_u64(&cell->word);
        if (__builtin_expect(word == cell_word(ticket, 0, CELL_FREE), 1)) {
            const cell_t *next = queue_cell(queue, ring, ticket + 1);
            /* relaxed: whether it is free can only become true */
            if (__builtin_expect(load_relaxed_u64(&next->word) != cell_word(ticket + 1, 0, CELL_FREE), 0)) {
                const status_t status = queue_grow(queue, tail, cell, error);
                if (status != OK)
                    return status;
                continue;
            }
            if (!cas_seq_u64(&cell->word, &word, cell_word(ticket, queue->member, CELL_CLAIMED)))
                continue;
            FAILPOINT("queue.claimed");
            cas_seq_u64(&header->tail, &tail, tail + END_STEP);
            FAILPOINT("queue.tail");
            const uint64_t lap = ticket >> queue->rings[ring].log;
            cell->body_size = item->body_size;
            memcpy(cell->head, item->head, item->head_size);
            /* SYNC item: a sweep loads it, once the kernel has said that its claimant stores no more */
            store_release_u64(&cell->item, item_word(item->block, lap, item->head_size, item->flags));
            FAILPOINT("queue.item");
            if (item->block != 0) {
                uint64_t held = queue->held;
                /* SYNC block-word: as in heap_take_word; the body is whole */
                cas_seq_u64(&queue->heap->blocks[item->block].word, &held,
                            block_queued(queue->rings[ring].block,
                                         (uint32_t)(ticket & ((1ull << queue->rings[ring].log) - 1)), lap));
                FAILPOINT("queue.queued");
            }
            /* SYNC cell: pairs with load_acquire(word) in queue_get; the item is whole.  seq, so that the look at the gate comes
             * after it; an exchange will do, as nobody else changes the cell of a claimant that lives */
            exchange_seq_u64(&cell->word, cell_word(ticket, 0, CELL_READY));
            FAILPOINT("queue.ready");
            gate_wake(&header->items_gate, 1);
            return OK;
        }
        if (cell_ticket(word) == ticket) {
            if (cell_phase(word) == CELL_LINK) {
                queue_chain(queue, cell_who(word), ticket);
                cas_seq_u64(&header->tail, &tail, ticket << 8 | cell_who(word));
            } else
                cas_seq_u64(&header->tail, &tail, tail + END_STEP);
        } else if ((int64_t)(cell_ticket(word) - ticket) < 0 && load_seq_u64(&header->tail) == tail &&
                   load_acquire_u64(&cell->word) == word) /* SYNC cell: as above */
            return CORRUPT;
    }
}

/* --- get --------------------------------------------------------------------------------------------------------- */

/* The cell is TAKEN by this process: copies its item, makes its block this process's own, and frees the cell. */
static ALWAYS_INLINE status_t queue_finish(queue_t *queue, cell_t *cell, uint32_t ring, uint64_t ticket, item_t *item) {
    const uint32_t log = queue->rings[ring].log;
    const uint64_t word = cell->item, lap = ticket >> log;
    status_t status = OK;
    item->block = item_block(word);
    item->head_size = (word >> 12) & 0xff;
    item->flags = word & 0xfff;
    item->body_size = cell->body_size;
    if (__builtin_expect(item->head_size > CELL_HEAD || item_lap(word) != (lap & ITEM_LAP_MASK) ||
                             item->block >= queue->heap->blocks_most,
                         0)) {
        item->head_size = item->block = 0;
        status = CORRUPT;
    }
    memcpy(item->head, cell->head, item->head_size);
    FAILPOINT("queue.copied");
    if (item->block != 0) {
        uint64_t queued = block_queued(queue->rings[ring].block, (uint32_t)(ticket & ((1ull << log) - 1)), lap);
        /* SYNC block-word: as in heap_take_word */
        if (!cas_seq_u64(&queue->heap->blocks[item->block].word, &queued, queue->held)) {
            item->block = 0;
            status = CORRUPT;
        }
        FAILPOINT("queue.held");
    }
    /* SYNC cell: pairs with load_acquire(word) in queue_put; what was there is copied.  seq, for the look at the gate */
    exchange_seq_u64(&cell->word, cell_word(ticket + (1ull << log), 0, CELL_FREE));
    FAILPOINT("queue.freed");
    if (queue->most != QUEUE_UNBOUNDED)
        gate_wake(&queue->header->room_gate, 1);
    return status;
}

/* What a dead consumer had in its hands.  OK, EMPTY or CORRUPT. */
static inline status_t queue_get_orphan(queue_t *queue, item_t *item) {
    queue_header_t *header = queue->header;
    uint32_t flag = 1;
    if (!cas_seq_u32(&header->orphans, &flag, 0))
        return EMPTY;
    for (uint32_t ring = 0; ring < QUEUE_RINGS; ring++) {
        /* SYNC ring-made: as in queue_learn_ring */
        const uint32_t state = ring_word_state(load_acquire_u64(&header->rings[ring]));
        if ((state != RING_CHAINED && state != RING_RETIRED) || queue_cell(queue, ring, 0) == NULL)
            continue;
        for (uint64_t i = 0; i < 1ull << queue->rings[ring].log; i++) {
            cell_t *cell = &queue->rings[ring].cells[i];
            uint64_t word = load_acquire_u64(&cell->word); /* SYNC cell: as in queue_get */
            if (cell_phase(word) != CELL_ORPHAN)
                continue;
            store_seq_u32(&header->orphans, 1); /* there may be more */
            if (cas_seq_u64(&cell->word, &word, cell_word(cell_ticket(word), queue->member, CELL_TAKEN))) {
                FAILPOINT("queue.orphan.taken");
                return queue_finish(queue, cell, ring, cell_ticket(word), item);
            }
        }
    }
    return EMPTY;
}

/* Gets one item; its block, if it has one, is held by this process from then on.  OK; EMPTY; CORRUPT. */
static ALWAYS_INLINE status_t queue_get(queue_t *queue, item_t *item) {
    queue_header_t *header = queue->header;
    for (;;) {
        if (__builtin_expect(load_relaxed_u32(&header->orphans), 0)) { /* relaxed: whether to look */
            const status_t status = queue_get_orphan(queue, item);
            if (status != EMPTY)
                return status;
        }
        uint64_t head = load_seq_u64(&header->head);
        const uint64_t ticket = head >> 8;
        const uint32_t ring = head & 255;
        cell_t *cell = queue_cell(queue, ring, ticket);
        if (__builtin_expect(cell == NULL, 0))
            return CORRUPT;
        /* SYNC cell: pairs with exchange_seq(word) in queue_put; the item is whole */
        uint64_t word = load_acquire_u64(&cell->word);
        const int64_t ahead = (int64_t)(cell_ticket(word) - ticket);
        if (ahead > 0) { /* it was taken, and freed */
            if (ahead != 1ll << queue->rings[ring].log && load_seq_u64(&header->head) == head &&
                load_acquire_u64(&cell->word) == word) /* SYNC cell: as above */
                return CORRUPT;
            cas_seq_u64(&header->head, &head, head + END_STEP);
            continue;
        }
        if (ahead < 0)
            return EMPTY; /* nor has anybody claimed it yet: the cell is still in somebody's hands */
        switch (cell_phase(word)) {
        case CELL_READY:
        case CELL_ORPHAN:
            /* SYNC cell: as above */
            if (!cas_seq_u64(&cell->word, &word, cell_word(ticket, queue->member, CELL_TAKEN)))
                continue;
            FAILPOINT("queue.taken");
            cas_seq_u64(&header->head, &head, head + END_STEP);
            FAILPOINT("queue.head");
            return queue_finish(queue, cell, ring, ticket, item);
        case CELL_TAKEN:
            cas_seq_u64(&header->head, &head, head + END_STEP);
            continue;
        case CELL_SKIP:
            queue_skip(queue, cell, head, word);
            continue;
        case CELL_LINK:
            queue_chain(queue, cell_who(word), ticket);
            if (cas_seq_u64(&header->head, &head, ticket << 8 | cell_who(word))) {
                FAILPOINT("queue.head.linked");
                queue_retire(queue, ring);
            }
            continue;
        default: /* FREE: nothing is there; CLAIMED: not yet */
            return EMPTY;
        }
    }
}

/* --- looking ----------------------------------------------------------------------------------------------------- */

/* Would queue_get find something, or something to do? */
static inline int queue_has_item(const void *of) {
    queue_t *queue = (queue_t *)of;
    const uint64_t head = load_seq_u64(&queue->header->head);
    const cell_t *cell = queue_cell(queue, head & 255, head >> 8);
    if (cell == NULL || load_seq_u32(&queue->header->orphans) != 0 || load_seq_u32(&queue->header->state) != QUEUE_OPEN)
        return 1;
    const uint64_t word =
        load_seq_u64(&cell->word); /* SYNC cell: as in queue_get; seq for the look after the announcement */
    const int64_t ahead = (int64_t)(cell_ticket(word) - (head >> 8));
    return ahead > 0 || (ahead == 0 && cell_phase(word) != CELL_FREE && cell_phase(word) != CELL_CLAIMED);
}

/* Would queue_put find room? */
static inline int queue_has_room(const void *of) {
    queue_t *queue = (queue_t *)of;
    const uint64_t tail = load_seq_u64(&queue->header->tail) >> 8;
    return (int64_t)(tail - (queue_true_head(queue) >> 8)) < (int64_t)queue->most ||
           load_seq_u32(&queue->header->state) != QUEUE_OPEN;
}

/* How many items are in it: exact when nobody changes it. */
static inline uint64_t queue_size(queue_t *queue) {
    const uint64_t tail = load_seq_u64(&queue->header->tail) >> 8, head = queue_true_head(queue) >> 8;
    int64_t size = (int64_t)(tail - head);
    if (load_seq_u64(&queue->header->skipped) != 0 || load_seq_u32(&queue->header->orphans) != 0) {
        size = 0;
        for (uint32_t ring = 0; ring < QUEUE_RINGS; ring++) {
            const uint32_t state = ring_word_state(load_acquire_u64(&queue->header->rings[ring])); /* SYNC ring-made */
            if ((state != RING_CHAINED && state != RING_RETIRED) || queue_cell(queue, ring, 0) == NULL)
                continue;
            for (uint64_t i = 0; i < 1ull << queue->rings[ring].log; i++) {
                const uint32_t phase = cell_phase(load_acquire_u64(&queue->rings[ring].cells[i].word)); /* SYNC cell */
                size += phase == CELL_READY || phase == CELL_ORPHAN || phase == CELL_CLAIMED;
            }
        }
    }
    return size > 0 ? (uint64_t)size : 0;
}

#endif
