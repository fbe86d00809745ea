/* How the queues of a heap, and its memory, are waited for: at gates (_gate.h), in slices.
 *
 * Before anybody sleeps there are three ways to wait, and which of them pays depends on where the others are:
 *
 *   spin     the other side runs on another core, and answers within a microsecond
 *   yield    it is to run on this very core, after this process: what it does then costs a switch, a tenth of a sleep
 *   spin on  it is being woken
 *
 * Several producers and consumers are mostly more than there are cores, and a queue with little room has each of them
 * wait after every few items.  Spinning in vain, while those who are waited for could run on this core, would then be most
 * of what is done.  So each side of a handle keeps what its last waits were ended by: one that a yield ended is followed
 * by one that yields at once, and spins in vain are followed by ever rarer ones.  Either is tried again now and then, as
 * processes move from core to core.  Where others want the cores, and a yield takes long, none of it is done for a while
 * (crowd_t in _wait.h). */
#ifndef SHMKIT_QUEUE_WAIT_H
#define SHMKIT_QUEUE_WAIT_H

#include "_sweep.h"

#define QUEUE_PACE 4u /* pauses between two looks of a spinner: more leave the lines to those who work */

#define QUEUE_YIELDS 4     /* one for each who may have to run before the one that is waited for */
#define QUEUE_TRY_SPIN 64u /* waits that yields end, and one that spins first */
#define QUEUE_TRY_LONG 32u /* spins in vain, and a long one */

/* What the waits of one side of a handle were ended by: private to the process, and all zero at first. */
typedef struct {
    uint32_t yielded; /* yields ended so many in a row */
    uint32_t vain;    /* nothing came while so many in a row spun on */
} queue_habit_t;

static ALWAYS_INLINE int queue_spin(ready_t ready, queue_t *queue, queue_habit_t *habit, uint64_t limit_ns) {
    if (habit->yielded % QUEUE_TRY_SPIN != 0)
        return 0;
    if (load_relaxed_u32(&crowd_here()->left) != 0) /* relaxed: a hint */
        return ready(queue);
    if (!spin_until(ready, queue, limit_ns, QUEUE_PACE))
        return 0;
    habit->yielded = 0;
    return 1;
}

/* The first spin of a wait: whether an item came within so long. */
static inline int queue_spin_items(queue_t *queue, queue_habit_t *habit, uint64_t limit_ns) {
    return queue_spin(queue_has_item, queue, habit, limit_ns);
}

static inline int queue_spin_room(queue_t *queue, queue_habit_t *habit, uint64_t limit_ns) {
    return queue_spin(queue_has_room, queue, habit, limit_ns);
}

/* How long a wait that yields have not ended spins on: long at first, and after 1, 2, 4, 8 and 16 times, and each 32, in vain. */
static inline uint64_t queue_spin_on_ns(const queue_habit_t *habit) {
    const uint32_t vain = habit->vain;
    return (vain & (vain - 1)) == 0 || vain % QUEUE_TRY_LONG == 0 ? SPIN_FIRST_NS : SPIN_LEAST_NS;
}

/* The beginning of a wait: yields, then spins on.  Whether it is over; otherwise it is time to sleep. */
static ALWAYS_INLINE int queue_begin(ready_t ready, queue_t *queue, waiter_t *waiter, queue_habit_t *habit,
                                     uint64_t deadline_ns) {
    uint64_t now = waiter->begun_ns = clock_ns();
    crowd_t *const crowd = crowd_here();
    waiter->slice_end_ns = 0;
    if (crowd_waits(crowd)) {
        if (ready(queue))
            waiter->begun_ns = 0;
        return waiter->begun_ns == 0;
    }
    for (int yields = 0; yields < QUEUE_YIELDS; yields++) {
        const uint64_t before = now;
        sched_yield();
        const int came = ready(queue);
        now = clock_ns();
        const int crowded = now - before > CROWD_YIELD_NS;
        if (crowded)
            crowd_yielded(crowd, now - before);
        if (came) {
            habit->yielded++;
            waiter->begun_ns = 0;
            return 1;
        }
        if (crowded) {
            habit->yielded = 0;
            return 0;
        }
    }
    habit->yielded = 0;
    uint64_t spin_ns = queue_spin_on_ns(habit);
    if (deadline_ns <= now || deadline_ns - now < spin_ns)
        spin_ns = deadline_ns > now ? deadline_ns - now : 0;
    if (!spin_until(ready, queue, spin_ns, QUEUE_PACE)) {
        habit->vain++;
        return 0;
    }
    if (spin_ns > SPIN_LEAST_NS)
        habit->vain = 0;
    waiter->begun_ns = 0;
    return 1;
}

/* What was waited for had come, and somebody else took it: the next round sleeps at once.  So of many who wait for the same
 * not each spins, on the cores of those who work. */
static inline void queue_was_late(waiter_t *waiter) {
    waiter->begun_ns = clock_ns();
    waiter->slice_end_ns = 0;
}

/* One round of waiting for an item, or for the queue to be shut.  OK (look), TIMED_OUT, INTERRUPTED, SLICE_OVER. */
static inline status_t queue_items_round(queue_t *queue, waiter_t *waiter, queue_habit_t *habit, uint64_t deadline_ns) {
    if (waiter->begun_ns == 0 && queue_begin(queue_has_item, queue, waiter, habit, deadline_ns))
        return OK;
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
static inline status_t queue_room_round(queue_t *queue, waiter_t *waiter, queue_habit_t *habit, uint64_t deadline_ns) {
    if (waiter->begun_ns == 0 && queue_begin(queue_has_room, queue, waiter, habit, deadline_ns))
        return OK;
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

/* One round of waiting until every task was declared done: likewise. */
static inline status_t queue_done_round(queue_t *queue, waiter_t *waiter, uint64_t deadline_ns) {
    return gate_round(waiter, &queue->header->done_gate, queue_is_done, queue, deadline_ns, CPU_UNKNOWN, QUEUE_PACE);
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
