/* What the drivers of readers and writers, and of barriers, share: whole acquisitions and whole waits, as _rwlock.pyx and
 * _barrier.pyx make them of the core's pieces. */
#ifndef RWLOCK_DRIVER_H
#define RWLOCK_DRIVER_H

#include "lock_driver.h"

/* --- readers and writers ----------------------------------------------------------------------------------------- */

static inline status_t rwlock_begin(rwlock_wait_t *wait, party_t *party, uint32_t side, int block) {
    *wait = (rwlock_wait_t){.lock = &party->rwlock, .side = side};
    return side == RWLOCK_READ ? rwlock_read_begin(wait, block) : rwlock_write_begin(wait, block);
}

static inline status_t rwlock_await(rwlock_wait_t *wait, uint64_t deadline_ns) {
    waiter_t waiter;
    status_t status;
    waiter_init(&waiter);
    do
        status = rwlock_round(wait, &waiter, deadline_ns);
    while (status == SLICE_OVER || status == INTERRUPTED);
    return status;
}

static inline status_t rwlock_get(rwlock_wait_t *wait, party_t *party, uint32_t side, uint64_t deadline_ns) {
    const status_t status = rwlock_begin(wait, party, side, 1);
    return status == FULL ? rwlock_await(wait, deadline_ns) : status;
}

static inline status_t rwlock_give(party_t *party, uint32_t side) {
    return side == RWLOCK_READ ? rwlock_read_give(&party->rwlock) : rwlock_write_give(&party->rwlock);
}

/* --- barriers ---------------------------------------------------------------------------------------------------- */

static inline void barrier_lock(barrier_t *barrier) {
    lock_wait_t wait = {.lock = &barrier->lock};
    status_t status = lock_try(&wait);
    waiter_t waiter;
    waiter_init(&waiter);
    while (status == FULL || status == SLICE_OVER || status == INTERRUPTED)
        status = lock_round(&wait, &waiter, FOREVER);
    EXPECT(status == OK || status == INHERITED, "the barrier's lock: status %d", status);
    if (status == INHERITED) {
        barrier_break(barrier, BROKEN_DIED, member_pid(wait.dead));
        barrier_bury(barrier);
        EXPECT(lock_recover(&barrier->lock) == OK, "the heir cannot recover");
    }
}

static inline void barrier_unlock(barrier_t *barrier) {
    EXPECT(lock_give(&barrier->lock) == OK, "the barrier's lock cannot be given");
    barrier_wake(barrier);
}

static inline void barrier_break_now(barrier_t *barrier, uint32_t why) {
    barrier_lock(barrier);
    barrier_break(barrier, why, 0);
    barrier_unlock(barrier);
}

/* OK: it waits; COMPLETE: it came last; BROKEN. */
static inline status_t barrier_come(barrier_wait_t *wait, barrier_t *barrier, int acts) {
    *wait = (barrier_wait_t){.barrier = barrier, .at = BARRIER_NOWHERE};
    for (;;) {
        waiter_t waiter;
        waiter_init(&waiter);
        barrier_lock(barrier);
        status_t status = barrier_arrive(wait, acts);
        barrier_unlock(barrier);
        if (status != FULL)
            return status;
        do
            status = barrier_room_round(wait, &waiter, FOREVER);
        while (status == INTERRUPTED);
    }
}

/* Until it has passed, or the barrier is broken. */
static inline void barrier_await(barrier_wait_t *wait, uint64_t deadline_ns) {
    barrier_t *barrier = wait->barrier;
    waiter_t waiter;
    waiter_init(&waiter);
    for (;;) {
        const status_t status = barrier_round(wait, &waiter, deadline_ns);
        if (status == OK)
            return;
        if (status == SLICE_OVER || status == INTERRUPTED)
            continue;
        barrier_lock(barrier);
        if (!barrier_ready(wait)) {
            if (status == DIED)
                barrier_bury(barrier);
            else if (barrier_acting(barrier))
                deadline_ns = FOREVER; /* all have come in time */
            else
                barrier_break(barrier, BROKEN_TIMED_OUT, 0);
        }
        barrier_unlock(barrier);
    }
}

/* The action is over. */
static inline void barrier_acted(barrier_wait_t *wait) {
    barrier_lock(wait->barrier);
    if (!barrier_ready(wait))
        barrier_pass(wait->barrier, wait->at);
    barrier_unlock(wait->barrier);
}

/* All of it; `act`, if any, is the action.  OK, or BROKEN. */
static inline status_t barrier_meet(barrier_wait_t *wait, barrier_t *barrier, void (*act)(void), uint64_t deadline_ns) {
    const status_t status = barrier_come(wait, barrier, act != NULL);
    if (status == BROKEN)
        return BROKEN;
    if (status == OK) {
        barrier_await(wait, deadline_ns);
    } else if (act != NULL) {
        act();
        barrier_acted(wait);
    }
    return barrier_end(wait);
}

#endif
