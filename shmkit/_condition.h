/* Conditions: who waits stands in line by name ("condition" in _layout.h); the condition's lock guards the line.
 *
 *   wait     under the lock: takes a free place, with a ticket; gives the lock up; sleeps on the place's own word until it is
 *            notified; acquires the lock; under it, leaves the place
 *   notify   under the lock: of those who wait and live, marks the ones with the lowest tickets as notified, and has the
 *            kernel move each of them from its own word to the lock's gate: it is woken when the lock is released, and
 *            nobody is woken only to find the lock taken
 *
 * Exactly as many return as were notified, time-outs included: a waiter whose time is up leaves under the lock, and if it
 * was notified before that, it was.
 *
 * Killed at any point: a waiter that dies is passed over by notify, which asks the kernel.  One that dies after it was
 * notified leaves a place that says so: whoever waits finds it at the end of its slice and takes that place, and with
 * it the notification, by one compare-and-swap.  Who is notified and does not return, or is notified twice (itself, and as
 * heir), passes one on in the same way.  A notifier that dies between mark and wake-up: the marked one looks
 * at the end of its slice.  One that dies with the lock: the lock's affair (_lock.h).
 *
 * Where all places are taken, later waiters sleep at the condition's gate: every notification that finds nobody in line wakes
 * them all.  They may then return without having been notified; nobody is forgotten.  */
#ifndef SHMKIT_CONDITION_H
#define SHMKIT_CONDITION_H

#include <linux/futex.h>

#include "_lock.h"

#define CONDITION_PACE 2u
#define CONDITION_NOWHERE UINT32_MAX

/* How one process uses one condition; private to it. */
typedef struct {
    condition_cell_t *cell;
    lock_t *lock;
} condition_t;

/* One wait; private to the thread. */
typedef struct {
    condition_cell_t *cell;
    uint64_t waits; /* the word of its place, while nothing has happened */
    uint32_t at;    /* its place, or CONDITION_NOWHERE */
    uint32_t left;  /* the place that it had before it took that of a dead one, or CONDITION_NOWHERE */
    uint32_t calls; /* where it has no place: how often those were woken when it began to wait */
} condition_wait_t;

/* The word of whoever waits in this process. */
static inline uint64_t condition_waits(const condition_t *condition) {
    return member_word(condition->lock->member->id) | WAITER_WAITS;
}

static inline uint64_t place_word(const condition_cell_t *cell, uint32_t at) {
    /* SYNC notified: pairs with cas_seq(word) in condition_mark */
    return load_seq_u64(&cell->waiter[at].word);
}

static inline void place_free(condition_cell_t *cell, uint32_t at) {
    store_relaxed_u64(&cell->waiter[at].word, 0); /* relaxed: under the lock */
}

/* Gets in line; the caller holds the lock. */
static inline void condition_begin(condition_t *condition, condition_wait_t *wait) {
    condition_cell_t *cell = condition->cell;
    const member_t *member = condition->lock->member;
    wait->cell = cell;
    wait->waits = condition_waits(condition);
    wait->at = wait->left = CONDITION_NOWHERE;
    wait->calls = load_relaxed_u32(&cell->calls); /* relaxed: under the lock */
    /* Where all are taken, those of the dead are free; with the place of one who was notified goes the notification. */
    for (int dead_too = 0; dead_too < 2; dead_too++)
        for (uint32_t at = 0; at < CONDITION_WAITERS; at++) {
            uint64_t word = place_word(cell, at);
            if (word != 0 && !(dead_too && member_died(member, member_of_word(word))))
                continue;
            if ((word & 3) == WAITER_NOTIFIED) {
                /* SYNC notified: pairs with load_seq(word) in place_word; those who wait may be taking it over, too */
                if (!cas_seq_u64(&cell->waiter[at].word, &word, member_word(member->id) | WAITER_NOTIFIED))
                    continue;
                wait->at = at;
                return;
            }
            wait->at = at;
            /* relaxed: under the lock; a place without a word is nobody's, whatever its ticket */
            store_relaxed_u64(&cell->waiter[at].ticket, cell->tickets++);
            FAILPOINT("condition.ticket");
            store_relaxed_u64(&cell->waiter[at].word, wait->waits);
            FAILPOINT("condition.waits");
            return;
        }
}

static inline int condition_ready(const void *of) {
    const condition_wait_t *wait = (const condition_wait_t *)of;
    if (wait->at == CONDITION_NOWHERE)
        /* SYNC calls: pairs with store_seq(calls) in condition_call; seq for the look after the announcement */
        return load_seq_u32(&wait->cell->calls) != wait->calls;
    return place_word(wait->cell, wait->at) != wait->waits;
}

/* Takes over a notification whose receiver died before it could leave.  Returns whether there was one. */
static inline int condition_inherit(condition_t *condition, condition_wait_t *wait) {
    condition_cell_t *cell = condition->cell;
    const member_t *member = condition->lock->member;
    for (uint32_t at = 0; at < CONDITION_WAITERS; at++) {
        uint64_t word = place_word(cell, at);
        if ((word & 3) != WAITER_NOTIFIED || !member_died(member, member_of_word(word)))
            continue;
        FAILPOINT("condition.inherit");
        if (cas_seq_u64(&cell->waiter[at].word, &word, member_word(member->id) | WAITER_NOTIFIED)) {
            FAILPOINT("condition.inherited");
            wait->left = wait->at;
            wait->at = at;
            return 1;
        }
    }
    return 0;
}

/* One round of waiting, without the lock: OK (notified), TIMED_OUT, INTERRUPTED, SLICE_OVER. */
static inline status_t condition_round(condition_t *condition, condition_wait_t *wait, waiter_t *waiter,
                                       uint64_t deadline_ns) {
    condition_cell_t *cell = condition->cell;
    if (wait->at == CONDITION_NOWHERE) {
        status_t status =
            gate_round(waiter, &cell->gate, condition_ready, wait, deadline_ns, CPU_UNKNOWN, CONDITION_PACE);
        /* There may be nobody else who waits and could take it. */
        if ((status == SLICE_OVER || status == TIMED_OUT) && condition_inherit(condition, wait))
            status = OK;
        return status;
    }
    if (waiter->begun_ns == 0 && wait_begin(waiter, condition_ready, wait, deadline_ns, CPU_UNKNOWN, CONDITION_PACE))
        return OK;
    uint64_t now = clock_ns();
    const uint64_t until_ns = wait_slice(waiter, now, deadline_ns);
    int error = 0;
    while (error != EINTR && now < until_ns && !condition_ready(wait)) {
        /* The lower half is enough: it has the two bits that change. */
        error = futex_wait((uint32_t *)&cell->waiter[wait->at].word, (uint32_t)wait->waits, until_ns - now);
        FAILPOINT("condition.awake");
        now = clock_ns();
    }
    if (condition_ready(wait) || (now >= until_ns && condition_inherit(condition, wait))) {
        wait_learn(waiter, now);
        return OK;
    }
    if (now < until_ns)
        return INTERRUPTED;
    if (now >= deadline_ns) {
        wait_learn(waiter, now);
        return TIMED_OUT;
    }
    wait_slice_over(waiter, now);
    return SLICE_OVER;
}

/* Marks who stands at `at` as notified, and sends it on to the lock; the caller holds the lock. */
static inline void condition_mark(condition_t *condition, uint32_t at) {
    uint64_t word = place_word(condition->cell, at);
    uint64_t *place = &condition->cell->waiter[at].word;
    /* SYNC notified: pairs with load_seq(word) in place_word */
    if (!cas_seq_u64(place, &word, (word & ~3ull) | WAITER_NOTIFIED))
        return;
    FAILPOINT("condition.marked");
    /* Wakes nobody, moves one.  Where nobody sleeps on the word yet, its owner finds the word changed. */
    syscall(SYS_futex, place, FUTEX_REQUEUE, 0, (void *)1, &condition->lock->cell->gate, 0);
    FAILPOINT("condition.moved");
    /* On behalf of who was moved there, asleep; and after that, as the kernel does not compare the gate: whoever released
     * the lock before us may still be about to clear the bit, having found nobody there.  Either it finds who was moved,
     * or the announcement comes after it or makes it fail.  Our own release, which is to wake who was moved, comes last. */
    gate_announce(&condition->lock->cell->gate);
    FAILPOINT("condition.announced");
}

/* Wakes all who have no place in line; the caller holds the lock. */
static inline void condition_call(condition_cell_t *cell) {
    /* SYNC calls: pairs with load_seq(calls) in condition_ready; seq for the look at the gate (SYNC gate) */
    store_seq_u32(&cell->calls, load_relaxed_u32(&cell->calls) + 1);
    gate_wake(&cell->gate, GATE_ALL);
}

/* The place of the one who waits, lives and came first; the places of dead ones before it are freed.  CONDITION_NOWHERE:
 * nobody stands in line.  The caller holds the lock. */
static inline uint32_t condition_oldest(condition_t *condition) {
    condition_cell_t *cell = condition->cell;
    const member_t *member = condition->lock->member;
    for (;;) {
        uint32_t oldest = CONDITION_NOWHERE;
        uint64_t ticket = 0;
        for (uint32_t at = 0; at < CONDITION_WAITERS; at++)
            /* relaxed: tickets change under the lock only */
            if ((place_word(cell, at) & 3) == WAITER_WAITS &&
                (oldest == CONDITION_NOWHERE || load_relaxed_u64(&cell->waiter[at].ticket) < ticket)) {
                oldest = at;
                ticket = load_relaxed_u64(&cell->waiter[at].ticket);
            }
        if (oldest == CONDITION_NOWHERE || !member_died(member, member_of_word(place_word(cell, oldest))))
            return oldest;
        place_free(cell, oldest);
    }
}

/* Notifies up to `count` of those who wait; the caller holds the lock. */
static inline void condition_notify(condition_t *condition, uint64_t count) {
    for (; count != 0; count--) {
        const uint32_t oldest = condition_oldest(condition);
        if (oldest == CONDITION_NOWHERE) {
            condition_call(condition->cell);
            return;
        }
        condition_mark(condition, oldest);
    }
}

/* Passes a notification of the caller's, at `at`, on to somebody else who waits; the caller holds the lock.
 *
 * To free the place and to mark another are two steps, and a death between them would lose the notification (or double
 * it).  So it becomes nobody's, in one: whoever waits finds it at the end of its slice, like that of a dead one, as id 0
 * is never alive. */
static inline void condition_pass(condition_t *condition, uint32_t at) {
    if (condition_oldest(condition) == CONDITION_NOWHERE) {
        condition_call(condition->cell);
        place_free(condition->cell, at);
        return;
    }
    /* SYNC notified: pairs with load_seq(word) in place_word */
    store_seq_u64(&condition->cell->waiter[at].word, WAITER_NOTIFIED);
    FAILPOINT("condition.passed");
}

/* Leaves the line; the caller holds the lock again.  Returns whether it was notified, and makes use of it; where it does
 * not return (`returns`: false), the notification is the next one's. */
static inline int condition_end(condition_t *condition, condition_wait_t *wait, int returns) {
    condition_cell_t *cell = condition->cell;
    if (wait->at == CONDITION_NOWHERE)
        return condition_ready(wait);
    if (wait->left != CONDITION_NOWHERE) {
        if (place_word(cell, wait->left) == wait->waits)
            place_free(cell, wait->left);
        else /* notified, and heir to a notification: one of them is somebody else's */
            condition_pass(condition, wait->left);
    }
    FAILPOINT("condition.leave");
    const int notified = place_word(cell, wait->at) != wait->waits;
    if (notified && !returns)
        condition_pass(condition, wait->at);
    else
        place_free(cell, wait->at);
    return notified;
}

/* How many wait, as far as the words say; those without a place are not counted. */
static inline uint32_t condition_waiting(const condition_cell_t *cell) {
    uint32_t waiting = 0;
    for (uint32_t at = 0; at < CONDITION_WAITERS; at++)
        waiting += (place_word(cell, at) & 3) == WAITER_WAITS;
    return waiting;
}

#endif
