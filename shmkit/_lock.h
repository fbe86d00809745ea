/* Locks: one holder, named by the lock's word ("lock" in _layout.h).
 *
 *   acquire   compare-and-swap 0 → me; else wait until the word is 0, in slices, and after each slice without change ask the
 *             kernel whether the holder lives.  From a dead holder the word is taken by compare-and-swap, so exactly one
 *             waiter inherits, and it is told (POLICY_TELL) or not (POLICY_RECOVER)
 *   release   compare-and-swap me → 0, then wake one of those who sleep at the gate.  Any thread, and any process, may
 *
 * Killed at any point: before the word is stored nothing has happened; after it the word names the dead, and whoever waits
 * takes over; between the release and its wake-up a sleeper finds the word free when its slice ends.  Ids are never used
 * again (_member.h), so a word that still is what it was when the kernel said "dead" is the dead one's.
 *
 * Nothing here is fair by force: a lock that is released goes to whoever comes first, since handing it to a sleeper would
 * cost a wake-up each time.  A sleeper that was woken spins before it sleeps again, so nobody starves.  */
#ifndef SHMKIT_LOCK_H
#define SHMKIT_LOCK_H

#include <pthread.h>

#include "_gate.h"
#include "_member.h"

#define LOCK_PACE                                                                                                      \
    2u /* pauses between two looks of a spinner: more leaves the line to the holder, fewer see it sooner */
#define LOCK_TRIES_PER_QUESTION 64u

/* How one process uses one lock; private to it. */
typedef struct {
    lock_cell_t *cell;
    uint64_t held; /* the word while this process holds it; 0: not a member yet */
    const member_t *member;
    uint64_t asked; /* the word when the kernel was last asked by a call that does not wait */
    uint32_t tries; /* such calls since then */
} lock_t;

/* One acquisition; private to the thread. */
typedef struct {
    lock_t *lock;
    uint64_t dead; /* INHERITED: the member that held it */
} lock_wait_t;

/* One try.  The caller has checked that it is a member. */
static ALWAYS_INLINE int lock_take(lock_t *lock) {
    uint64_t free_word = 0;
    /* SYNC lock-word: pairs with cas_seq(word) in lock_give; what the last holder stored is visible now */
    int taken = cas_seq_u64(&lock->cell->word, &free_word, lock->held);
    FAILPOINT("lock.taken");
    return taken;
}

/* Inherits from a dead holder.  OK or INHERITED: it is ours; LOST; EMPTY: there is nothing to inherit. */
static inline status_t lock_inherit(lock_wait_t *wait) {
    lock_t *lock = wait->lock;
    lock_cell_t *cell = lock->cell;
    uint64_t word = load_seq_u64(&cell->word);
    if (word == LOCK_LOST)
        return LOST;
    if (word == 0 || !member_died(lock->member, member_of_word(word)))
        return EMPTY;
    const int told = cell->policy == POLICY_TELL;
    wait->dead = member_of_word(word);
    FAILPOINT("lock.inherit.asked");
    /* SYNC lock-word: pairs with cas_seq(word) in lock_take: the kernel has said that the dead one stores no more */
    if (!cas_seq_u64(&cell->word, &word, lock->held | (told ? LOCK_INCONSISTENT : 0)))
        return EMPTY; /* somebody else was quicker */
    FAILPOINT("lock.inherited");
    return told ? INHERITED : OK;
}

/* Without waiting.  OK, INHERITED, LOST or FULL (somebody has it).  Asks the kernel when the holder is another one than last
 * time, and now and then, so that a loop of tries learns of a death too. */
static inline status_t lock_try(lock_wait_t *wait) {
    lock_t *lock = wait->lock;
    if (lock_take(lock))
        return OK;
    const uint64_t word = load_relaxed_u64(&lock->cell->word); /* relaxed: whether to look closer */
    if (word == LOCK_LOST)
        return LOST;
    /* relaxed: any thread's; a pace */
    if (word == load_relaxed_u64(&lock->asked) && (add_relaxed_u32(&lock->tries, 1) + 1) % LOCK_TRIES_PER_QUESTION != 0)
        return FULL;
    store_relaxed_u64(&lock->asked, word); /* relaxed: as above */
    status_t status = lock_inherit(wait);
    if (status == EMPTY)
        status = lock_take(lock) ? OK : FULL;
    return status;
}

/* Free, or never to be had? */
static inline int lock_ready(const void *of) {
    /* SYNC lock-word: pairs with cas_seq(word) in lock_give; seq for the look after the announcement */
    const uint64_t word = load_seq_u64(&((const lock_cell_t *)of)->word);
    return word == 0 || word == LOCK_LOST;
}

/* Spins while another process holds the lock; returns whether it can be tried again. */
static inline int lock_spin(lock_t *lock, uint64_t limit_ns) {
    /* relaxed: a hint; a holder in this process does not run while we spin with the GIL */
    if ((load_relaxed_u64(&lock->cell->word) & ~3ull) == lock->held)
        return 0;
    return wait_spin(lock_ready, lock->cell, limit_ns, LOCK_PACE);
}

/* One round of waiting for the lock.  OK and INHERITED: it is ours; LOST, TIMED_OUT, INTERRUPTED, SLICE_OVER. */
static inline status_t lock_round(lock_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns) {
    lock_t *lock = wait->lock;
    lock_cell_t *cell = lock->cell;
    for (;;) {
        /* relaxed: a hint; a holder in this process runs when we do not */
        const uint64_t word = load_relaxed_u64(&cell->word);
        const uint32_t where = (word & ~3ull) == lock->held ? CPU_HERE : CPU_UNKNOWN;
        status_t status = gate_round(waiter, &cell->gate, lock_ready, cell, deadline_ns, where, LOCK_PACE);
        if (status == OK) {
            if (lock_take(lock))
                return OK;
            if (load_relaxed_u64(&cell->word) == LOCK_LOST) /* relaxed: it never changes again */
                return LOST;
            continue; /* somebody was quicker */
        }
        if (status == SLICE_OVER || status == TIMED_OUT) {
            const status_t heir = lock_inherit(wait);
            if (heir != EMPTY)
                return heir;
        }
        return status;
    }
}

/* Gives the lock up, whoever holds it.  OK; LOST: it was inherited and never recovered, so nobody can have it again;
 * NOT_HELD: it is free. */
static inline status_t lock_give(lock_t *lock) {
    lock_cell_t *cell = lock->cell;
    uint64_t word = lock->held;
    FAILPOINT("lock.give");
    /* SYNC lock-word: pairs with cas_seq(word) in lock_take; what this holder stored is whole.
     * seq, and not release, so that the look at the gate is not reordered before it (SYNC gate) */
    if (__builtin_expect(cas_seq_u64(&cell->word, &word, 0), 1)) {
        FAILPOINT("lock.given");
        gate_wake(&cell->gate, 1);
        return OK;
    }
    for (;;) {
        if (word == 0)
            return NOT_HELD;
        if (word == LOCK_LOST)
            return LOST;
        const uint64_t next = word & LOCK_INCONSISTENT ? LOCK_LOST : 0;
        /* SYNC lock-word: pairs with load_seq(word) in lock_ready */
        if (cas_seq_u64(&cell->word, &word, next)) {
            FAILPOINT("lock.given");
            gate_wake(&cell->gate, next == 0 ? 1 : GATE_ALL);
            return next == 0 ? OK : LOST;
        }
    }
}

/* Says that what the lock guards is consistent again.  OK, or NOT_HELD: this process has not inherited it. */
static inline status_t lock_recover(lock_t *lock) {
    uint64_t word = lock->held | LOCK_INCONSISTENT;
    return cas_seq_u64(&lock->cell->word, &word, lock->held) ? OK : NOT_HELD;
}

/* Does this process hold it? */
static inline int lock_mine(const lock_t *lock) {
    /* relaxed: what this process stored it sees, and nobody else stores its id */
    return (load_relaxed_u64(&lock->cell->word) & ~(uint64_t)LOCK_INCONSISTENT) == lock->held && lock->held != 0;
}

/* --- recursive: the holder is a thread --------------------------------------------------------------------------- */

/* A number for this thread of this member.  Threads of forked processes have the same pthread_self(), and a dead holder's
 * number stands in the cell until its heir has stored its own: meanwhile another thread of the heir's process must not take
 * it for its own.  So the member goes into it, by a multiplication that spreads its bits.  Never 0. */
static inline uint64_t lock_thread(const lock_t *lock) {
    return ((uint64_t)pthread_self() ^ lock->held * 0x9e3779b97f4a7c15u) | 1;
}

/* Does this very thread hold it?  Of a lock that is not recursive: has it, and not another thread of this process, acquired it? */
static inline int lock_thread_mine(const lock_t *lock) {
    /* relaxed: only this thread ever stores its own number, and clears it before it releases a recursive lock */
    return lock_mine(lock) && load_relaxed_u64(&lock->cell->thread) == lock_thread(lock);
}

/* The lock has just become this thread's. */
static ALWAYS_INLINE void lock_enter(lock_t *lock) {
    store_relaxed_u64(&lock->cell->thread, lock_thread(lock)); /* relaxed: see lock_thread_mine */
}

static ALWAYS_INLINE void rlock_enter(lock_t *lock, uint32_t depth) {
    lock_enter(lock);
    store_relaxed_u32(&lock->cell->depth, depth);
}

/* Acquires again what this thread holds.  OK, FULL (it does not hold it) or TOO_MANY. */
static ALWAYS_INLINE status_t rlock_again(lock_t *lock) {
    if (!lock_thread_mine(lock))
        return FULL;
    const uint32_t depth = load_relaxed_u32(&lock->cell->depth);
    if (depth == UINT32_MAX)
        return TOO_MANY;
    store_relaxed_u32(&lock->cell->depth, depth + 1);
    return OK;
}

/* Gives up all levels; the caller holds it.  *depth receives how many there were. */
static inline status_t rlock_give_all(lock_t *lock, uint32_t *depth) {
    *depth = load_relaxed_u32(&lock->cell->depth);
    store_relaxed_u64(&lock->cell->thread, 0); /* relaxed: before the word is free, see lock_thread_mine */
    store_relaxed_u32(&lock->cell->depth, 0);
    return lock_give(lock);
}

/* OK; NOT_HELD: by this thread; LOST, as of any lock: so that a `with` block that learns of it within ends with that. */
static ALWAYS_INLINE status_t rlock_give(lock_t *lock) {
    if (!lock_thread_mine(lock))
        return load_relaxed_u64(&lock->cell->word) == LOCK_LOST ? LOST : NOT_HELD; /* relaxed: it never changes again */
    uint32_t depth = load_relaxed_u32(&lock->cell->depth);
    if (depth > 1) {
        store_relaxed_u32(&lock->cell->depth, depth - 1);
        return OK;
    }
    return rlock_give_all(lock, &depth);
}

#endif
