/* Semaphores: a number of permits ("semaphore" in _layout.h).
 *
 *   counted   the value is a number: acquire compare-and-swaps v → v - 1, release v → v + 1 and wakes one sleeper.  Who
 *             waits has reserved nothing, so a killed waiter costs nothing; the permits of a killed holder are gone,
 *             as nobody knows how many those were
 *   owned     (undo) each permit is a word that names its holder: acquire compare-and-swaps 0 → me, release me → 0, and
 *             what a dead process held is taken over, word by word, by those who wait
 *
 * Killed at any point: each change is one compare-and-swap; a death before the wake-up costs a sleeper one slice.  */
#ifndef SHMKIT_SEMAPHORE_H
#define SHMKIT_SEMAPHORE_H

#include "_gate.h"
#include "_member.h"

#define SEMAPHORE_PACE 2u
#define SEMAPHORE_TRIES_PER_QUESTION 64u

/* How one process uses one semaphore; private to it. */
typedef struct {
    semaphore_cell_t *cell;
    uint64_t held;   /* the word of a permit while this process holds it; 0: not a member yet */
    uint32_t owners; /* checked when the process attached; 0: counted */
    uint32_t maximum;
    uint32_t start; /* where the search for a free permit begins; any thread's */
    const member_t *member;
    uint32_t tries; /* calls in vain that did not wait */
} semaphore_t;

static inline uint64_t *semaphore_owners(const semaphore_t *semaphore) { return (uint64_t *)(semaphore->cell + 1); }

/* --- counted ------------------------------------------------------------------------------------------------------ */

static ALWAYS_INLINE int counted_take(semaphore_t *semaphore) {
    uint32_t value = load_relaxed_u32(&semaphore->cell->value); /* relaxed: a guess for the compare-and-swap */
    while (value != 0)
        /* SYNC permits: pairs with cas_seq(value) in counted_give; what was stored before a release is visible now */
        if (cas_seq_u32(&semaphore->cell->value, &value, value - 1)) {
            FAILPOINT("semaphore.taken");
            return 1;
        }
    return 0;
}

/* OK, or TOO_MANY: there would be more permits than the maximum. */
static ALWAYS_INLINE status_t counted_give(semaphore_t *semaphore, uint32_t count) {
    semaphore_cell_t *cell = semaphore->cell;
    uint32_t value = load_relaxed_u32(&cell->value); /* relaxed: a guess for the compare-and-swap */
    const uint32_t maximum = semaphore->maximum;
    do
        if (value > maximum || count > maximum - value)
            return TOO_MANY;
    /* SYNC permits: pairs with cas_seq(value) in counted_take; seq for the look at the gate (SYNC gate) */
    while (!cas_seq_u32(&cell->value, &value, value + count));
    FAILPOINT("semaphore.given");
    gate_wake(&cell->gate, (int)count);
    return OK;
}

static inline int counted_ready(const void *of) {
    /* SYNC permits: pairs with cas_seq(value) in counted_give; seq for the look after the announcement */
    return load_seq_u32(&((const semaphore_t *)of)->cell->value) != 0;
}

/* --- owned -------------------------------------------------------------------------------------------------------- */

/* Takes a free permit; `dead_too`: or that of a dead process. */
static inline int owned_take(semaphore_t *semaphore, int dead_too) {
    uint64_t *owners = semaphore_owners(semaphore);
    uint32_t at = load_relaxed_u32(&semaphore->start); /* relaxed: a hint */
    for (uint32_t left = semaphore->owners; left != 0; left--, at = at + 1 < semaphore->owners ? at + 1 : 0) {
        uint64_t word = load_seq_u64(&owners[at]);
        if (word != 0 && !(dead_too && member_died(semaphore->member, member_of_word(word))))
            continue;
        FAILPOINT("semaphore.inherit");
        /* SYNC permit-owner: pairs with cas_seq(owner) in owned_give */
        if (cas_seq_u64(&owners[at], &word, semaphore->held)) {
            FAILPOINT("semaphore.taken");
            store_relaxed_u32(&semaphore->start, at); /* relaxed: a hint */
            return 1;
        }
    }
    return 0;
}

/* OK, or NOT_HELD: this process has fewer than `count` permits; it keeps those, unless another of its threads is releasing
 * them too. */
static inline status_t owned_give(semaphore_t *semaphore, uint32_t count) {
    uint64_t *owners = semaphore_owners(semaphore);
    uint32_t mine = 0, given = 0;
    for (uint32_t at = 0; at < semaphore->owners; at++)
        mine +=
            load_relaxed_u64(&owners[at]) == semaphore->held; /* relaxed: only this process stores and clears its id */
    if (mine < count)
        return NOT_HELD;
    uint32_t at = load_relaxed_u32(&semaphore->start); /* relaxed: a hint */
    for (uint32_t left = semaphore->owners; left != 0 && given < count; left--) {
        uint64_t word = semaphore->held;
        /* SYNC permit-owner: pairs with cas_seq(owner) in owned_take; seq for the look at the gate (SYNC gate) */
        given += cas_seq_u64(&owners[at], &word, 0);
        at = at + 1 < semaphore->owners ? at + 1 : 0;
    }
    FAILPOINT("semaphore.given");
    gate_wake(&semaphore->cell->gate, (int)given);
    return given == count ? OK : NOT_HELD; /* another thread was quicker */
}

static inline uint32_t owned_free(const semaphore_t *semaphore) {
    const uint64_t *owners = semaphore_owners(semaphore);
    uint32_t free_ones = 0;
    for (uint32_t at = 0; at < semaphore->owners; at++)
        /* SYNC permit-owner: pairs with cas_seq(owner) in owned_give; seq for the look after the announcement */
        free_ones += load_seq_u64(&owners[at]) == 0;
    return free_ones;
}

static inline int owned_ready(const void *of) { return owned_free((const semaphore_t *)of) != 0; }

/* --- either ------------------------------------------------------------------------------------------------------- */

/* Without waiting: OK or FULL (all permits are held). */
static inline status_t semaphore_try(semaphore_t *semaphore) {
    if (semaphore->owners == 0)
        return counted_take(semaphore) ? OK : FULL;
    if (owned_take(semaphore, 0))
        return OK;
    /* A loop of tries learns of deaths too. */
    const uint32_t tries = add_relaxed_u32(&semaphore->tries, 1); /* relaxed: any thread's, a pace */
    return tries % SEMAPHORE_TRIES_PER_QUESTION == 0 && owned_take(semaphore, 1) ? OK : FULL;
}

static inline int semaphore_spin(semaphore_t *semaphore, uint64_t limit_ns) {
    return wait_spin(semaphore->owners != 0 ? owned_ready : counted_ready, semaphore, limit_ns, SEMAPHORE_PACE);
}

/* One round of waiting for a permit: OK (it is ours), TIMED_OUT, INTERRUPTED, SLICE_OVER. */
static inline status_t semaphore_round(semaphore_t *semaphore, waiter_t *waiter, uint64_t deadline_ns) {
    const int owned = semaphore->owners != 0;
    for (;;) {
        status_t status = owned ? gate_round(waiter, &semaphore->cell->gate, owned_ready, semaphore, deadline_ns,
                                             CPU_UNKNOWN, SEMAPHORE_PACE)
                                : gate_round(waiter, &semaphore->cell->gate, counted_ready, semaphore, deadline_ns,
                                             CPU_UNKNOWN, SEMAPHORE_PACE);
        if (status == OK) {
            if (owned ? owned_take(semaphore, 0) : counted_take(semaphore))
                return OK;
            continue; /* somebody was quicker */
        }
        if (owned && (status == SLICE_OVER || status == TIMED_OUT) && owned_take(semaphore, 1))
            return OK;
        return status;
    }
}

static inline status_t semaphore_give(semaphore_t *semaphore, uint32_t count) {
    return semaphore->owners == 0 ? counted_give(semaphore, count) : owned_give(semaphore, count);
}

static inline uint32_t semaphore_value(const semaphore_t *semaphore) {
    /* relaxed: it may have changed by the time that the caller has it */
    return semaphore->owners == 0 ? load_relaxed_u32(&semaphore->cell->value) : owned_free(semaphore);
}

#endif
