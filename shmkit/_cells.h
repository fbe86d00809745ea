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
 * READY, or FREE, all is done but wake-ups: sleeps are slices.  What was taken so as to be dropped: _queue_done.h.
 *
 * Full rings are left behind, not waited for: the last free cell of a ring becomes a link to the next one, of twice the size.
 * After D. Vyukov's bounded MPMC queue (2010), with names in its claims, and tickets in place of its sequence.  */
#ifndef SHMKIT_CELLS_H
#define SHMKIT_CELLS_H

#include "_queue_rings.h"

/* Tail is at a cell that is the last free one: makes a ring and links it.  OK: look again. */
static inline status_t queue_grow(queue_t *queue, uint64_t tail, cell_t *cell, int *error) {
    const uint32_t from = (uint32_t)(tail & 255);
    const uint64_t ticket = tail >> 8;
    const uint32_t log = queue->rings[from].log < QUEUE_LOG_MOST ? queue->rings[from].log + 1 : QUEUE_LOG_MOST;
    uint32_t ring;
    FAILPOINT("queue.growing");
    const status_t status = queue_make_ring(queue, from, log, ticket, &ring, error);
    if (status != OK)
        return status;
    FAILPOINT("queue.ring.formatted");
    uint64_t word = cell_word(ticket, 0, CELL_FREE);
    /* SYNC queue-cell: pairs with load_acquire(word) in queue_put; the new ring is whole */
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
        watch_ring(&queue->header->room_watched, queue->header->watchers, QUEUE_WATCHERS, WATCH_ROOM, &queue->sender);
    }
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
        uint64_t word = load_acquire_u64(&cell->word); /* (SYNC queue-cell) */
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
        /* relaxed: whoever shuts it does so now or then.  Before the room: one that is full has none, and will have none. */
        if (__builtin_expect(load_relaxed_u32(&header->state) != QUEUE_OPEN, 0))
            return CLOSED;
        if (queue->most != QUEUE_UNBOUNDED && ticket - (load_seq_u64(&header->head) >> 8) >= queue->most &&
            (int64_t)(ticket - (queue_true_head(queue) >> 8)) >= (int64_t)queue->most) {
            if (load_seq_u64(&header->tail) != tail)
                continue;
            return FULL;
        }
        cell_t *cell = queue_cell(queue, ring, ticket);
        if (__builtin_expect(cell == NULL, 0))
            return CORRUPT;
        /* SYNC queue-cell: pairs with exchange_seq(word) in queue_finish; its last consumer has copied what was there */
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
            /* SYNC queue-item: pairs with load_acquire(item) in sweep_claimed, once its claimant is dead */
            store_release_u64(&cell->item, item_word(item->block, lap, item->head_size, item->flags));
            FAILPOINT("queue.item");
            if (item->block != 0) {
                uint64_t held = queue->held;
                /* (SYNC block-word); the body is whole */
                cas_seq_u64(&queue->heap->blocks[item->block].word, &held,
                            block_queued(queue->rings[ring].block,
                                         (uint32_t)(ticket & ((1ull << queue->rings[ring].log) - 1)), lap));
                FAILPOINT("queue.queued");
            }
            /* Who watches is told before: whoever then gets the item knows that it was (_watch.h). */
            watch_ring(&header->watched, header->watchers, QUEUE_WATCHERS, WATCH_ITEMS, &queue->sender);
            /* SYNC queue-cell: pairs with load_acquire(word) in queue_take; the item is whole.  seq, so that the look at the gate comes
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
        } else if ((int64_t)(cell_ticket(word) - ticket) > 0) {
            /* That ticket was dealt with, however long ago: tail is not to stay here.  Mostly it has moved by now, and this fails. */
            cas_seq_u64(&header->tail, &tail, tail + END_STEP);
        } else if (load_seq_u64(&header->tail) == tail && load_acquire_u64(&cell->word) == word) /* (SYNC queue-cell) */
            return CORRUPT;
    }
}

/* --- get --------------------------------------------------------------------------------------------------------- */

/* What a cell that this process has TAKEN says of its item.  OK; CORRUPT: that is no item. */
static ALWAYS_INLINE status_t cell_item(const queue_t *queue, const cell_t *cell, uint64_t lap, item_t *item) {
    const uint64_t word = cell->item;
    item->block = item_block(word);
    item->head_size = (word >> 12) & 0xff;
    item->flags = word & 0xfff;
    item->body_size = cell->body_size;
    return __builtin_expect(item->head_size > CELL_HEAD || item_lap(word) != (lap & ITEM_LAP_MASK) ||
                                item->block >= queue->heap->blocks_most,
                            0)
               ? CORRUPT
               : OK;
}

/* The cell is TAKEN by this process: copies its item, makes its block this process's own, and frees the cell. */
static ALWAYS_INLINE status_t queue_finish(queue_t *queue, cell_t *cell, uint32_t ring, uint64_t ticket, item_t *item) {
    const uint32_t log = queue->rings[ring].log;
    const uint64_t lap = ticket >> log;
    status_t status = cell_item(queue, cell, lap, item);
    if (status != OK)
        item->head_size = item->block = 0;
    memcpy(item->head, cell->head, item->head_size);
    FAILPOINT("queue.copied");
    if (item->block != 0) {
        uint64_t queued = block_queued(queue->rings[ring].block, (uint32_t)(ticket & ((1ull << log) - 1)), lap);
        /* (SYNC block-word) */
        if (!cas_seq_u64(&queue->heap->blocks[item->block].word, &queued, queue->held)) {
            item->block = 0;
            status = CORRUPT;
        }
        FAILPOINT("queue.held");
    }
    /* SYNC queue-cell: pairs with load_acquire(word) in queue_put; what was there is copied.  seq, for the look at the gate */
    exchange_seq_u64(&cell->word, cell_word(ticket + (1ull << log), 0, CELL_FREE));
    FAILPOINT("queue.freed");
    if (queue->most != QUEUE_UNBOUNDED) {
        gate_wake(&queue->header->room_gate, 1);
        watch_ring(&queue->header->room_watched, queue->header->watchers, QUEUE_WATCHERS, WATCH_ROOM, &queue->sender);
    }
    return status;
}

/* Which cell was taken. */
typedef struct {
    cell_t *cell;
    uint64_t ticket;
    uint32_t ring;
} taken_t;

/* Takes what a dead consumer had in its hands.  OK, EMPTY or CORRUPT. */
static inline status_t queue_take_orphan(queue_t *queue, taken_t *taken) {
    queue_header_t *header = queue->header;
    uint32_t flag = 1;
    if (!cas_seq_u32(&header->orphans, &flag, 0))
        return EMPTY;
    for (uint32_t ring = 0; ring < QUEUE_RINGS; ring++) {
        /* Whatever its state: one who looks whether it can be made anew leaves a ring with an orphan in it alone. */
        if (queue_ring(queue, ring) == 0 || queue_cell(queue, ring, 0) == NULL)
            continue;
        for (uint64_t i = 0; i < 1ull << queue->rings[ring].log; i++) {
            cell_t *cell = &queue->rings[ring].cells[i];
            uint64_t word = load_acquire_u64(&cell->word); /* (SYNC queue-cell) */
            if (cell_phase(word) != CELL_ORPHAN)
                continue;
            store_seq_u32(&header->orphans, 1); /* there may be more */
            if (cas_seq_u64(&cell->word, &word, cell_word(cell_ticket(word), queue->member, CELL_TAKEN))) {
                FAILPOINT("queue.orphan.taken");
                *taken = (taken_t){cell, cell_ticket(word), ring};
                return OK;
            }
        }
    }
    return EMPTY;
}

/* Takes what is oldest: its cell is TAKEN by this process from then on.  `orphans`: also what the dead had in their hands, which takes
 * no room.  OK; EMPTY; CORRUPT. */
static ALWAYS_INLINE status_t queue_take(queue_t *queue, taken_t *taken, int orphans) {
    queue_header_t *header = queue->header;
    for (;;) {
        if (orphans && __builtin_expect(load_relaxed_u32(&header->orphans), 0)) { /* relaxed: whether to look */
            const status_t status = queue_take_orphan(queue, taken);
            if (status != EMPTY)
                return status;
        }
        uint64_t head = load_seq_u64(&header->head);
        const uint64_t ticket = head >> 8;
        const uint32_t ring = head & 255;
        cell_t *cell = queue_cell(queue, ring, ticket);
        if (__builtin_expect(cell == NULL, 0))
            return CORRUPT;
        /* SYNC queue-cell: pairs with exchange_seq(word) in queue_put; the item is whole */
        uint64_t word = load_acquire_u64(&cell->word);
        const int64_t ahead = (int64_t)(cell_ticket(word) - ticket);
        if (ahead > 0) { /* it was taken, and freed */
            if (ahead != 1ll << queue->rings[ring].log && load_seq_u64(&header->head) == head &&
                load_acquire_u64(&cell->word) == word) /* (SYNC queue-cell) */
                return CORRUPT;
            cas_seq_u64(&header->head, &head, head + END_STEP);
            continue;
        }
        if (ahead < 0)
            return EMPTY; /* nor has anybody claimed it yet: the cell is still in somebody's hands */
        switch (cell_phase(word)) {
        case CELL_READY:
        case CELL_ORPHAN:
            /* (SYNC queue-cell) */
            if (!cas_seq_u64(&cell->word, &word, cell_word(ticket, queue->member, CELL_TAKEN)))
                continue;
            FAILPOINT("queue.taken");
            cas_seq_u64(&header->head, &head, head + END_STEP);
            FAILPOINT("queue.head");
            *taken = (taken_t){cell, ticket, ring};
            return OK;
        case CELL_TAKEN:
            cas_seq_u64(&header->head, &head, head + END_STEP);
            continue;
        case CELL_SKIP:
            queue_skip(queue, cell, head, word);
            continue;
        case CELL_LINK: {
            const uint64_t here = load_acquire_u64(&header->rings[ring]); /* (SYNC ring-made) */
            queue_chain(queue, cell_who(word), ticket);
            if (cas_seq_u64(&header->head, &head, ticket << 8 | cell_who(word))) {
                FAILPOINT("queue.head.linked");
                queue_retire(queue, ring, here);
            }
            continue;
        }
        default: /* FREE: nothing is there; CLAIMED: not yet */
            return EMPTY;
        }
    }
}

/* The item of a cell that was taken, for whoever is about to drop it: its block is the queue's still.  OK or CORRUPT. */
static inline status_t queue_look(const queue_t *queue, const taken_t *taken, item_t *item) {
    const status_t status = cell_item(queue, taken->cell, taken->ticket >> queue->rings[taken->ring].log, item);
    if (status == OK)
        memcpy(item->head, taken->cell->head, item->head_size);
    return status;
}

/* Gets one item; its block, if it has one, is held by this process from then on.  OK; EMPTY; CORRUPT. */
static ALWAYS_INLINE status_t queue_get(queue_t *queue, item_t *item) {
    taken_t taken;
    const status_t status = queue_take(queue, &taken, 1);
    return status == OK ? queue_finish(queue, taken.cell, taken.ring, taken.ticket, item) : status;
}

/* Whatever was waited for may have come: everybody looks again.  Call it after a seq store. */
static inline void queue_tell_all(queue_header_t *header) {
    gate_wake(&header->items_gate, GATE_ALL);
    gate_wake(&header->room_gate, GATE_ALL);
    gate_wake(&header->done_gate, GATE_ALL);
    watch_ring(&header->watched, header->watchers, QUEUE_WATCHERS, WATCH_ITEMS, NULL);
    watch_ring(&header->room_watched, header->watchers, QUEUE_WATCHERS, WATCH_ROOM, NULL);
}

/* --- looking ----------------------------------------------------------------------------------------------------- */

/* Would queue_get find something, or something to do? */
static inline int queue_has_item(const void *of) {
    queue_t *queue = (queue_t *)of;
    const uint64_t head = load_seq_u64(&queue->header->head);
    const cell_t *cell = queue_cell(queue, head & 255, head >> 8);
    if (cell == NULL || load_seq_u32(&queue->header->orphans) != 0 || load_seq_u32(&queue->header->state) != QUEUE_OPEN)
        return 1;
    const uint64_t word = load_seq_u64(&cell->word); /* (SYNC queue-cell); seq for the look after the announcement */
    const int64_t ahead = (int64_t)(cell_ticket(word) - (head >> 8));
    return ahead > 0 || (ahead == 0 && cell_phase(word) != CELL_FREE && cell_phase(word) != CELL_CLAIMED);
}

/* Is something there, or being put?  What one who watches looks at, once it has armed. */
static inline int queue_is_coming(const void *of) {
    queue_t *queue = (queue_t *)of;
    const uint64_t head = queue_true_head(queue); /* past what is in others' hands: that is not to be had */
    const cell_t *cell = queue_cell(queue, head & 255, head >> 8);
    if (cell == NULL || load_seq_u32(&queue->header->orphans) != 0 || load_seq_u32(&queue->header->state) != QUEUE_OPEN)
        return 1;
    const uint64_t word = load_seq_u64(&cell->word); /* (SYNC queue-cell); seq for the look after arming */
    return word != cell_word(head >> 8, 0, CELL_FREE) && (int64_t)(cell_ticket(word) - (head >> 8)) >= 0;
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
            if (queue_ring(queue, ring) == 0 || queue_cell(queue, ring, 0) == NULL)
                continue;
            for (uint64_t i = 0; i < 1ull << queue->rings[ring].log; i++) {
                const uint32_t phase =
                    cell_phase(load_acquire_u64(&queue->rings[ring].cells[i].word)); /* (SYNC queue-cell) */
                size += phase == CELL_READY || phase == CELL_ORPHAN || phase == CELL_CLAIMED;
            }
        }
    }
    return size > 0 ? (uint64_t)size : 0;
}

#endif
