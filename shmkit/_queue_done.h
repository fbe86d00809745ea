/* Which of a queue's tasks are done: those that were declared done, and those whose items were dropped ("queue" in _heap_layout.h).
 *
 *   unfinished = tickets - skipped - done
 *
 * A put counts its task when it advances tail, before it has copied anything; a ticket that its claimant's death leaves without an item is
 * skipped by a sweep.  A task of an item that was got is the getter's to declare done, dead or alive.
 *
 * Whoever drops an item does three things to three words: it takes the cell, counts the task as done, and frees the cell.  Killed after
 * the first it has dropped nothing; killed later it must have counted once, and somebody has to go on.  So:
 *
 *   READY → TAKEN(me)         it is a getter like others: if it dies here, its item becomes an orphan
 *   dropping → this ticket    from here on the item is dropped, and counts as done: everybody can see which one, and do the rest
 *   done + 1                  with the turn of `dropping`, and so only once
 *   QUEUED → HELD(me) → free  of the item's block; then the cell is FREE
 *
 * Whoever wants to name another item in `dropping` finishes with the latest one first, and so does a sweep for one that is dead: a cell
 * that is TAKEN and not named there is nobody's drop, or one that has not been counted.  Nobody waits for anybody.
 *
 * `done` has come back to what somebody saw, and means another drop, only if 65,536 drops were none of them counted meanwhile, as all
 * was declared done before it was got.  */
#ifndef SHMKIT_QUEUE_DONE_H
#define SHMKIT_QUEUE_DONE_H

#include "_cells.h"

#define DONE_SHIFT 16 /* of the count */
#define DONE_ONE (1ull << DONE_SHIFT)
#define DROP_TURN 0xffffull /* of `done` and `dropping` */
#define DROP_TICKET ((1ull << 42) - 1)

/* What `dropping` says of a ticket, but for the turn. */
static inline uint64_t drop_name(uint32_t ring, uint64_t ticket) {
    return (ticket & DROP_TICKET) << 22 | (uint64_t)ring << 16;
}
static inline uint32_t drop_ring(uint64_t drop) { return (drop >> 16) & 63; }
static inline uint64_t drop_ticket(uint64_t drop) { return drop >> 22; }

/* --- counting ---------------------------------------------------------------------------------------------------- */

/* How many tasks there ever were: at one instant. */
static inline uint64_t queue_tasks(const queue_t *queue) {
    uint64_t skipped = load_seq_u64(&queue->header->skipped), tail, before;
    do {
        before = skipped;
        tail = load_seq_u64(&queue->header->tail) >> 8;
        skipped = load_seq_u64(&queue->header->skipped);
    } while (skipped != before);
    return tail - queue->first_ticket - skipped; /* the first ticket is as large as the first ring */
}

/* Were all tasks done at one instant?  What is done is looked at first: neither a task that came later, nor its end, hides another
 * one that is not done. */
static inline int queue_is_done(const void *of) {
    const queue_t *queue = (const queue_t *)of;
    const uint64_t done = load_seq_u64(&queue->header->done) >> DONE_SHIFT;
    return (int64_t)(queue_tasks(queue) - done) <= 0;
}

/* Declares one task done.  OK; NOT_HELD: as many were declared as there ever were. */
static inline status_t queue_task_done(queue_t *queue) {
    uint64_t done = load_seq_u64(&queue->header->done);
    for (;;) {
        if ((int64_t)(queue_tasks(queue) - (done >> DONE_SHIFT)) <= 0)
            return NOT_HELD;
        if (cas_seq_u64(&queue->header->done, &done, done + DONE_ONE)) { /* seq: for the look at the gate */
            gate_wake(&queue->header->done_gate, GATE_ALL);
            return OK;
        }
    }
}

/* --- dropping ---------------------------------------------------------------------------------------------------- */

/* Counts what `drop` names as done, if that was not done yet.  Returns whether it is still the latest one. */
static inline int drop_count(queue_t *queue, uint64_t drop) {
    queue_header_t *header = queue->header;
    for (;;) {
        uint64_t done = load_seq_u64(&header->done);
        if (((done ^ drop) & DROP_TURN) == 0)
            return 1;
        /* After `done`: if that has changed since, by one who named another, the compare-and-swap fails. */
        if (load_seq_u64(&header->dropping) != drop)
            return 0;
        const uint64_t count = done >> DONE_SHIFT;
        /* No more are done than were put: one may have been declared done before it was got. */
        const uint64_t next = count + ((int64_t)(queue_tasks(queue) - count) > 0);
        /* seq: for the look at the gate */
        if (cas_seq_u64(&header->done, &done, next << DONE_SHIFT | (drop & DROP_TURN))) {
            gate_wake(&header->done_gate, GATE_ALL);
            return 1;
        }
    }
}

/* Frees the cell of what `drop` names, if that was not done yet. */
static inline void drop_free(queue_t *queue, uint64_t drop) {
    queue_header_t *header = queue->header;
    const uint32_t ring = drop_ring(drop);
    cell_t *cell = queue_ring(queue, ring) == 0 ? NULL : queue_cell(queue, ring, drop_ticket(drop));
    if (cell == NULL)
        return;
    uint64_t word = load_acquire_u64(&cell->word); /* (SYNC queue-cell) */
    const uint64_t ticket = cell_ticket(word);
    if (cell_phase(word) != CELL_TAKEN || drop_name(ring, ticket) != (drop & ~DROP_TURN))
        return;
    const uint32_t log = queue->rings[ring].log;
    const uint64_t lap = ticket >> log, item = load_acquire_u64(&cell->item); /* (SYNC queue-item) */
    const uint32_t block = item_block(item);
    int held = 0;
    if (block != 0 && item_lap(item) == (lap & ITEM_LAP_MASK) && block < queue->heap->blocks_most) {
        uint64_t queued = block_queued(queue->rings[ring].block, (uint32_t)(ticket & ((1ull << log) - 1)), lap);
        /* (SYNC block-word) */
        held = cas_seq_u64(&queue->heap->blocks[block].word, &queued, queue->held);
        FAILPOINT("drop.held");
    }
    /* (SYNC queue-cell); nothing was copied, and whoever helps looks at nothing that it has not compared */
    if (cas_seq_u64(&cell->word, &word, cell_word(ticket + (1ull << log), 0, CELL_FREE))) {
        FAILPOINT("drop.freed");
        if (header->most != QUEUE_UNBOUNDED) {
            gate_wake(&header->room_gate, 1);
            watch_ring(&header->room_watched, header->watchers, QUEUE_WATCHERS, WATCH_ROOM, NULL);
        }
    }
    if (held)
        heap_drop(queue->heap, block, queue->held);
}

/* Does what is left to be done for `drop`, which is, or was, the latest item that was dropped. */
static inline void drop_finish(queue_t *queue, uint64_t drop) {
    if (drop_count(queue, drop)) {
        FAILPOINT("drop.counted");
        drop_free(queue, drop);
    }
}

/* Drops what was taken (queue_take): it is gone, and its task done. */
static inline void queue_drop_taken(queue_t *queue, const taken_t *taken) {
    uint64_t *dropping = &queue->header->dropping;
    uint64_t latest = load_seq_u64(dropping), drop;
    do {
        drop_finish(queue, latest);
        drop = drop_name(taken->ring, taken->ticket) | ((latest + 1) & DROP_TURN);
    } while (!cas_seq_u64(dropping, &latest, drop));
    FAILPOINT("drop.named");
    drop_finish(queue, drop);
    add_relaxed_u64(&queue->header->removed, 1); /* relaxed: a count */
}

/* Drops what is oldest.  `orphans`: as in queue_take.  OK; EMPTY; CORRUPT. */
static inline status_t queue_drop(queue_t *queue, int orphans) {
    taken_t taken;
    const status_t status = queue_take(queue, &taken, orphans);
    if (status == OK)
        queue_drop_taken(queue, &taken);
    return status;
}

/* Is this cell's item, which somebody has taken, one that was dropped? */
static inline int queue_is_dropped(const queue_t *queue, uint32_t ring, uint64_t ticket) {
    return (load_seq_u64(&queue->header->dropping) & ~DROP_TURN) == drop_name(ring, ticket);
}

#endif
