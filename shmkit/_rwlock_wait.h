/* Readers and writers: how the lock is acquired, waited for, inherited from the dead, and given up (see _rwlock.h). */
#ifndef SHMKIT_RWLOCK_WAIT_H
#define SHMKIT_RWLOCK_WAIT_H

#include "_rwlock.h"

/* --- inheriting --------------------------------------------------------------------------------------------------- */

/* Takes the word from a dead owner.  INHERITED: the lock is ours, for writing; OK: the word is ours, CLAIMED; LOST; EMPTY:
 * there is nothing to inherit. */
static inline status_t rwlock_inherit(rwlock_wait_t *wait) {
    rwlock_t *lock = wait->lock;
    rwlock_cell_t *cell = lock->cell;
    /* SYNC rwlock-word: pairs with store_seq(word) in rwlock_hold */
    uint64_t word = load_seq_u64(&cell->word);
    if (word == LOCK_LOST)
        return LOST;
    if (word == 0 || !member_died(lock->member, member_of_word(word)))
        return EMPTY;
    const int told = (word & RWLOCK_CLAIMED) == 0 && cell->policy == POLICY_TELL;
    wait->dead = member_of_word(word);
    FAILPOINT("rwlock.inherit.asked");
    if (!cas_seq_u64(&cell->word, &word, lock->held | (told ? LOCK_INCONSISTENT : RWLOCK_CLAIMED)))
        return EMPTY; /* somebody else was quicker */
    FAILPOINT("rwlock.inherited");
    rwlock_enter(wait);
    if (told) {
        /* Who owns the word is the only one that grants: this one has not been granted anything. */
        if (wait->state == RWLOCK_WANTS)
            rwlock_forgo(wait);
        return INHERITED;
    }
    if (wait->state != RWLOCK_WANTS) {
        wait->state = RWLOCK_CLAIMS;
        wait->drained = 0;
    }
    return OK;
}

/* The same for one that is to read, and gets no further than that it can try (EMPTY). */
static inline status_t rwlock_read_inherit(rwlock_wait_t *wait) {
    const status_t status = rwlock_inherit(wait);
    if (status != OK)
        return status;
    rwlock_leave(wait->lock, wait->lock->held | RWLOCK_CLAIMED, 0);
    if (wait->state == RWLOCK_CLAIMS)
        wait->state = RWLOCK_NOTHING;
    return EMPTY;
}

/* --- acquiring ---------------------------------------------------------------------------------------------------- */

/* Begins to acquire for writing.  OK, INHERITED: it is ours; LOST; FULL: it is not to be had now.  With `block`, FULL may leave
 * the word claimed, for rwlock_round or rwlock_abandon. */
static inline status_t rwlock_write_begin(rwlock_wait_t *wait, int block) {
    rwlock_t *lock = wait->lock;
    wait->drained = 0;
    if (load_relaxed_u64(&lock->cell->word) == 0) { /* relaxed: whether to look closer */
        /* Who only tries does not hold the readers up, but for the odd time when it asks whether they live. */
        if (!block && !rwlock_drained(wait) && !rwlock_asks(lock))
            return FULL;
        if (rwlock_claim(wait)) {
            if (rwlock_drained(wait) || (!block && rwlock_bury(wait)))
                return rwlock_hold(wait);
            if (!block) {
                wait->state = RWLOCK_NOTHING;
                rwlock_leave(lock, lock->held | RWLOCK_CLAIMED, 0);
            }
            return FULL;
        }
    }
    if (!block && !rwlock_asks(lock))
        return load_relaxed_u64(&lock->cell->word) == LOCK_LOST ? LOST : FULL; /* relaxed: it never changes again */
    const status_t status = rwlock_inherit(wait);
    if (status == OK && rwlock_bury(wait))
        return rwlock_hold(wait);
    if (status == OK && !block) {
        wait->state = RWLOCK_NOTHING;
        rwlock_leave(lock, lock->held | RWLOCK_CLAIMED, 0);
    }
    return status == OK || status == EMPTY ? FULL : status;
}

/* The same for reading.  With `block`, FULL leaves this thread in line; TOO_MANY: more than the entry can count. */
static inline status_t rwlock_read_begin(rwlock_wait_t *wait, int block) {
    rwlock_t *lock = wait->lock;
    if (rwlock_at(lock) == RWLOCK_NOWHERE && !rwlock_enroll(lock))
        return rwlock_write_begin(wait, block);
    if (rwlock_read_take(lock))
        return OK;
    /* relaxed: only this process's threads add to it */
    const uint64_t counts = load_relaxed_u64(&rwlock_reader(lock, rwlock_at(lock))->counts);
    if (counts_reading(counts) + counts_wanting(counts) >= COUNTS_MOST)
        return TOO_MANY;
    if (block) {
        rwlock_want(wait);
        return FULL;
    }
    status_t status = EMPTY;
    if (rwlock_asks(lock))
        status = rwlock_read_inherit(wait);
    if (status != EMPTY)
        return status;
    /* relaxed: it never changes again */
    return rwlock_read_take(lock) ? OK : load_relaxed_u64(&lock->cell->word) == LOCK_LOST ? LOST : FULL;
}

static inline int rwlock_write_ready(const void *of) {
    /* SYNC rwlock-word: pairs with cas_seq(word) in rwlock_leave; seq for the look after the announcement */
    const uint64_t word = load_seq_u64(&((const rwlock_cell_t *)of)->word);
    return word == 0 || word == LOCK_LOST;
}

/* A holder in this process runs when we do not. */
static inline uint32_t rwlock_where(const rwlock_t *lock) {
    return (load_relaxed_u64(&lock->cell->word) & ~RWLOCK_FLAGS) == lock->held ? CPU_HERE : CPU_UNKNOWN;
}

static inline status_t rwlock_read_round(rwlock_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns) {
    for (;;) {
        const status_t status = gate_round(waiter, &wait->lock->cell->reads, rwlock_read_ready, wait, deadline_ns,
                                           rwlock_where(wait->lock), RWLOCK_PACE);
        if (status == INTERRUPTED)
            return status;
        const status_t heir = status == OK ? EMPTY : rwlock_read_inherit(wait);
        const status_t own = heir == EMPTY ? rwlock_read_again(wait) : heir;
        if (own != EMPTY) {
            if (own == LOST && wait->state == RWLOCK_WANTS)
                rwlock_forgo(wait);
            return own;
        }
        if (status == TIMED_OUT)
            return rwlock_forgo(wait) ? OK : TIMED_OUT;
        if (status == SLICE_OVER)
            return status;
    }
}

static inline status_t rwlock_drain_round(rwlock_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns) {
    rwlock_t *lock = wait->lock;
    if (rwlock_drained(wait))
        return rwlock_hold(wait);
    const status_t status =
        wait_round(waiter, &lock->cell->bell, rwlock_drained, wait, deadline_ns, CPU_UNKNOWN, RWLOCK_PACE, NULL);
    if (status == OK || (status != INTERRUPTED && rwlock_bury(wait)))
        return rwlock_hold(wait);
    if (status == TIMED_OUT) {
        wait->state = RWLOCK_NOTHING;
        rwlock_leave(lock, lock->held | RWLOCK_CLAIMED, 0);
    }
    return status;
}

/* One round of waiting for either side.  OK and INHERITED: it is ours; LOST, TIMED_OUT: nothing is left in the cell;
 * INTERRUPTED, SLICE_OVER: rwlock_abandon, or another round. */
static inline status_t rwlock_round(rwlock_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns) {
    rwlock_cell_t *cell = wait->lock->cell;
    if (wait->state == RWLOCK_WANTS)
        return rwlock_read_round(wait, waiter, deadline_ns);
    for (;;) {
        if (wait->state == RWLOCK_CLAIMS)
            return rwlock_drain_round(wait, waiter, deadline_ns);
        const status_t status = gate_round(waiter, &cell->writes, rwlock_write_ready, cell, deadline_ns,
                                           rwlock_where(wait->lock), RWLOCK_PACE);
        if (status == INTERRUPTED)
            return status;
        if (status == OK) {
            if (!rwlock_claim(wait) && load_relaxed_u64(&cell->word) == LOCK_LOST) /* relaxed: it never changes again */
                return LOST;
            continue; /* ours to drain, or somebody was quicker */
        }
        const status_t heir = rwlock_inherit(wait);
        if (heir == INHERITED || heir == LOST)
            return heir;
        if (heir == EMPTY)
            return status;
    }
}

/* Takes back what an acquisition that is given up has left in the cell. */
static inline void rwlock_abandon(rwlock_wait_t *wait) {
    if (wait->state == RWLOCK_WANTS && rwlock_forgo(wait))
        reader_leave(wait->lock, wait->counts);
    else if (wait->state == RWLOCK_CLAIMS)
        rwlock_leave(wait->lock, wait->lock->held | RWLOCK_CLAIMED, 0);
    wait->state = RWLOCK_NOTHING;
}

/* Says that what the lock guards is consistent again.  OK, or NOT_HELD: this process has not inherited it. */
static inline status_t rwlock_recover(rwlock_t *lock) {
    uint64_t word = lock->held | LOCK_INCONSISTENT;
    return cas_seq_u64(&lock->cell->word, &word, lock->held) ? OK : NOT_HELD;
}

/* How many hold it for reading, as far as the words say. */
static inline uint64_t rwlock_readers(const rwlock_t *lock) {
    uint64_t readers = 0;
    for (uint32_t at = 0; at < rwlock_used(lock); at++)
        readers += counts_reading(load_seq_u64(&rwlock_reader(lock, at)->counts));
    return readers;
}

#endif
