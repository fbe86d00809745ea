/* How the queues of a heap, and its memory, are waited for: at gates (_gate.h), in slices. */
#ifndef SHMKIT_QUEUE_WAIT_H
#define SHMKIT_QUEUE_WAIT_H

#include "_sweep.h"

#define QUEUE_PACE 4u /* pauses between two looks of a spinner: more leave the lines to those who work */

static inline int queue_spin_items(queue_t *queue, uint64_t limit_ns) {
    return wait_spin(queue_has_item, queue, limit_ns, QUEUE_PACE);
}

static inline int queue_spin_room(queue_t *queue, uint64_t limit_ns) {
    return wait_spin(queue_has_room, queue, limit_ns, QUEUE_PACE);
}

/* One round of waiting for an item, or for the queue to be shut.  OK (look), TIMED_OUT, INTERRUPTED, SLICE_OVER. */
static inline status_t queue_items_round(queue_t *queue, waiter_t *waiter, uint64_t deadline_ns) {
    return gate_round(waiter, &queue->header->items_gate, queue_has_item, queue, deadline_ns, CPU_UNKNOWN, QUEUE_PACE);
}

/* Called by who was woken for an item and has got one, or leaves it to others: wakes another one if there is more.
 *
 * Each item that comes wakes one who waits.  But it may be ready behind one that is still being put: whoever is woken then finds
 * nothing to be had, and sleeps again; and what comes to the head at last makes two ready, and wakes one.  So who was woken passes
 * it on, as does the next, until nothing is left or nobody sleeps.
 *
 * One who sleeps has announced, and then seen the head not ready, before it was made so; whoever got that item looks at the gate
 * afterwards, so it sees the announcement (SYNC gate).  What it does not see ready yet wakes somebody itself.  Killed before it
 * gets here: whoever sleeps looks at the end of its slice. */
static inline void queue_pass_on(queue_t *queue) {
    if (queue_has_item(queue))
        gate_wake(&queue->header->items_gate, 1);
}

/* One round of waiting for room.  OK (look), TIMED_OUT, INTERRUPTED, SLICE_OVER. */
static inline status_t queue_room_round(queue_t *queue, waiter_t *waiter, uint64_t deadline_ns) {
    return gate_round(waiter, &queue->header->room_gate, queue_has_room, queue, deadline_ns, CPU_UNKNOWN, QUEUE_PACE);
}

/* Likewise for room, called by who was woken for it: once it has put its item, or cannot put it after all, or has to wait for
 * something else first.  Whoever puts what is large is woken for room before it has memory for its item.
 *
 * One who sleeps has announced, and then seen no room.  If there is some now, head has moved since; whoever looks at the gate after
 * it has seen that sees the announcement (SYNC gate).  Killed before it gets here: as above. */
static inline void queue_pass_room_on(queue_t *queue) {
    if (queue->most != QUEUE_UNBOUNDED && queue_has_room(queue))
        gate_wake(&queue->header->room_gate, 1);
}

static inline int queue_is_done(const void *of) {
    const queue_t *queue = (const queue_t *)of;
    /* The first ticket is as large as the first ring. */
    const uint64_t put =
        (load_seq_u64(&queue->header->tail) >> 8) - queue->first_ticket - load_seq_u64(&queue->header->skipped);
    return (int64_t)(put - load_seq_u64(&queue->header->done)) <= 0;
}

/* One round of waiting until every task was declared done: likewise. */
static inline status_t queue_done_round(queue_t *queue, waiter_t *waiter, uint64_t deadline_ns) {
    return gate_round(waiter, &queue->header->done_gate, queue_is_done, queue, deadline_ns, CPU_UNKNOWN, QUEUE_PACE);
}

/* Declares one task done.  OK; NOT_HELD: as many were declared as there ever were. */
static inline status_t queue_task_done(queue_t *queue) {
    uint64_t done = load_seq_u64(&queue->header->done);
    for (;;) {
        const uint64_t put =
            (load_seq_u64(&queue->header->tail) >> 8) - queue->first_ticket - load_seq_u64(&queue->header->skipped);
        if ((int64_t)(put - done) <= 0)
            return NOT_HELD;
        if (cas_seq_u64(&queue->header->done, &done, done + 1)) { /* seq: for the look at the gate */
            gate_wake(&queue->header->done_gate, GATE_ALL);
            return OK;
        }
    }
}

/* Nothing is put any more (`state` QUEUE_SHUT), or got either (QUEUE_VOID). */
static inline void queue_shut(queue_t *queue, uint32_t state) {
    uint32_t now = load_seq_u32(&queue->header->state);
    while (now < state && !cas_seq_u32(&queue->header->state, &now, state))
        ;
    queue_tell_all(queue->header);
}

/* Waiting for memory: each look is a try. */
typedef struct {
    heap_t *heap;
    uint64_t size, held;
    uint32_t block;
    int error;
    status_t status;
} heap_wait_t;

static inline int heap_try(const void *of) {
    heap_wait_t *wait = (heap_wait_t *)of;
    wait->status = heap_take(wait->heap, wait->size, wait->held, &wait->block, &wait->error);
    return wait->status != FULL;
}

static inline status_t heap_round(heap_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns) {
    return gate_round(waiter, &wait->heap->header->room_gate, heap_try, wait, deadline_ns, CPU_HERE, QUEUE_PACE);
}

#endif
