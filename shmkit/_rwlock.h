/* Readers and writers: many hold the lock for reading, or one for writing ("rwlock" in _layout.h).
 *
 *   read      adds 1 to `reading` of this process's own entry, then looks at the word: 0 is the lock.  Else it takes
 *             that back, adds 1 to `wanting`, and sleeps until it was granted, or until the word is 0 and it can try again
 *   write     claims the word, 0 → me + CLAIMED, then looks at every entry: where no one reads, me.  Else it sleeps on the bell,
 *             which each reader rings that leaves while the word is claimed
 *   leave     of a writer: grants all that want to read, me → me + CLAIMED, then entry by entry; then the word is 0, all readers
 *             are woken, and one writer
 *
 * A reader's add and look, and a writer's claim and look, are in the one total order: at least one of the two sees the other.
 * A reader that comes after the claim never gets in, so an entry that the writer has once seen without readers needs no second
 * look.  Readers write to no line that others read, unless a writer comes.
 *
 * Nobody starves: readers wait while a writer has claimed; who wants to read when a writer leaves gets in before the next one.
 *
 * Killed at any point:
 *   a reader     leaves an entry that says `reading` or `wanting`, and names it.  A writer that waits for it asks the kernel at
 *                the end of its slice, and cleans the entry: takes it by compare-and-swap from exactly that dead owner, makes
 *                the counts 0, then the owner.  A dead cleaner is such an owner too.  A grant to a dead entry changes nothing
 *   a writer     that had only claimed the word has changed nothing that the lock guards; one that was leaving had finished.
 *                Whoever waits takes the word over from exactly that dead one, as CLAIMED: a writer goes on as if it had claimed
 *                it itself, a reader leaves at once as a writer leaves, and is granted the lock with the others.  Grants that
 *                the dead one made are `reading` like any other, and what it did not get to is still `wanting`
 *   a writer     that held the lock: the same with POLICY_RECOVER.  With POLICY_TELL exactly one, reader or writer, takes the
 *                word over, holds the lock for writing, and is told.  No reader is inside then: grants are made while CLAIMED
 *   between the word's becoming 0 and the wake-up: sleepers look at the end of their slice
 *
 * A process that finds neither an entry nor one of a dead process takes the lock for writing when it is to read: slower, and
 * as right.  */
#ifndef SHMKIT_RWLOCK_H
#define SHMKIT_RWLOCK_H

#include "_lock.h"

#define RWLOCK_PACE 2u
#define RWLOCK_TRIES_PER_QUESTION 64u
#define RWLOCK_NOWHERE UINT32_MAX
#define RWLOCK_READ 1u
#define RWLOCK_WRITE 2u
#define RWLOCK_FLAGS 3ull

#define READING_ONE 1ull
#define WANTING_ONE (1ull << 16)
#define COUNTS_MOST 0xffffull /* of both together */

/* How one process uses one lock; private to it. */
typedef struct {
    rwlock_cell_t *cell;
    uint64_t held; /* the word while this process holds it for writing */
    const member_t *member;
    uint32_t at;    /* the number of this process's entry, or RWLOCK_NOWHERE; any thread may find one */
    uint32_t tries; /* of any thread; a pace */
} rwlock_t;

/* What an acquisition has left in the cell. */
#define RWLOCK_NOTHING 0u
#define RWLOCK_WANTS 1u
#define RWLOCK_CLAIMS 2u

/* One acquisition; private to the thread. */
typedef struct {
    rwlock_t *lock;
    uint64_t dead;    /* INHERITED: the member that held it */
    uint32_t side;    /* which side was asked for */
    uint32_t state;   /* RWLOCK_NOTHING, … */
    uint32_t grants;  /* WANTS: how many there had been */
    uint64_t *counts; /* WANTS: where it stands in line, whatever entry another thread finds meanwhile */
    uint32_t drained; /* CLAIMS: entries below this number have no readers */
} rwlock_wait_t;

static inline uint64_t counts_reading(uint64_t counts) { return counts & COUNTS_MOST; }
static inline uint64_t counts_wanting(uint64_t counts) { return counts / WANTING_ONE & COUNTS_MOST; }
static inline uint32_t counts_grants(uint64_t counts) { return (uint32_t)(counts >> 32); }

static ALWAYS_INLINE rwlock_reader_t *rwlock_reader(const rwlock_t *lock, uint32_t at) {
    return &lock->cell->reader[at % 8 * 8 + at / 8 % 8];
}

/* This process's entry; RWLOCK_NOWHERE: none yet.  relaxed: it never changes for another process's */
static ALWAYS_INLINE uint32_t rwlock_at(const rwlock_t *lock) { return load_relaxed_u32(&lock->at); }

/* For a call that does not wait: is it this one's turn to look closer? */
static inline int rwlock_asks(rwlock_t *lock) {
    return add_relaxed_u32(&lock->tries, 1) % RWLOCK_TRIES_PER_QUESTION == 0; /* relaxed: a pace */
}

static inline uint32_t rwlock_used(const rwlock_t *lock) {
    /* SYNC rwlock-used: pairs with cas_seq(used) in rwlock_extend; an entry that is not seen was taken after the claim */
    const uint32_t used = load_seq_u32(&lock->cell->used);
    return used < RWLOCK_READERS ? used : RWLOCK_READERS;
}

/* After a reader has left, or taken back its try: a writer that has claimed may be waiting for it. */
static ALWAYS_INLINE void rwlock_ring(const rwlock_t *lock) {
    /* SYNC rwlock-word: pairs with cas_seq(word) in rwlock_claim: it sees the reader gone, or we see the claim */
    const uint64_t word = load_seq_u64(&lock->cell->word);
    if (__builtin_expect((word & RWLOCK_CLAIMED) != 0, 0))
        ring_bell(&lock->cell->bell, NULL);
}

/* --- entries ------------------------------------------------------------------------------------------------------ */

/* Takes the entry from `owner`, who is dead or nobody, and cleans it.  Whoever has marked it is alone with its counts, but
 * for a grant, which is made void.  Leaves it to `heir`.  Returns whether it did: another may have been quicker. */
static inline int reader_clean(rwlock_t *lock, uint32_t at, uint64_t owner, uint64_t heir) {
    rwlock_reader_t *reader = rwlock_reader(lock, at);
    if (!cas_seq_u64(&reader->owner, &owner, lock->held | RWLOCK_CLEANED))
        return 0;
    FAILPOINT("rwlock.clean.marked");
    /* SYNC rwlock-counts: pairs with load_seq(counts) in rwlock_drained */
    exchange_seq_u64(&reader->counts, 0);
    FAILPOINT("rwlock.clean.counts");
    store_seq_u64(&reader->owner, heir);
    FAILPOINT("rwlock.clean.owner");
    rwlock_ring(lock);
    return 1;
}

/* The number of the first entry that was never taken, from now on a taken one, or RWLOCK_NOWHERE. */
static inline uint32_t rwlock_extend(rwlock_t *lock) {
    uint32_t used = rwlock_used(lock);
    while (used < RWLOCK_READERS)
        /* SYNC rwlock-used: pairs with load_seq(used) in rwlock_used; raised before anybody reads by that entry */
        if (cas_seq_u32(&lock->cell->used, &used, used + 1))
            return used;
    return RWLOCK_NOWHERE;
}

/* Finds this process's entry, or one that is nobody's, or a dead one's, or a new one.  Returns whether there is one. */
static inline int rwlock_enroll(rwlock_t *lock) {
    const uint32_t used = rwlock_used(lock);
    for (uint32_t at = 0; at < used; at++)
        if (load_seq_u64(&rwlock_reader(lock, at)->owner) == lock->held) {
            store_relaxed_u32(&lock->at, at); /* relaxed: see rwlock_at */
            return 1;
        }
    for (int dead_too = 0; dead_too < 2; dead_too++)
        for (uint32_t at = 0; at < used; at++) {
            const uint64_t owner = load_seq_u64(&rwlock_reader(lock, at)->owner);
            if (owner != 0 && !(dead_too && member_died(lock->member, member_of_word(owner))))
                continue;
            if (reader_clean(lock, at, owner, lock->held)) {
                store_relaxed_u32(&lock->at, at); /* relaxed: as above */
                return 1;
            }
        }
    for (;;) {
        const uint32_t at = rwlock_extend(lock);
        FAILPOINT("rwlock.extended");
        if (at == RWLOCK_NOWHERE)
            return 0;
        if (reader_clean(lock, at, 0, lock->held)) {
            store_relaxed_u32(&lock->at, at); /* relaxed: see rwlock_at */
            return 1;
        }
    }
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* Gives up one reading of the entry whose counts those are.  Returns whether there was one. */
static ALWAYS_INLINE int reader_leave(const rwlock_t *lock, uint64_t *word) {
    uint64_t counts = load_relaxed_u64(word); /* relaxed: a guess for the compare-and-swap */
    do
        if (counts_reading(counts) == 0)
            return 0;
    /* SYNC rwlock-counts: pairs with load_seq(counts) in rwlock_drained: what was read was read before */
    while (!cas_seq_u64(word, &counts, counts - READING_ONE));
    FAILPOINT("rwlock.read.left");
    rwlock_ring(lock);
    return 1;
}

/* Gives up one reading of this process, by whatever entry: two threads that looked for one at once, without the GIL, may have
 * found two.  Returns whether there was one. */
static inline int readers_leave(const rwlock_t *lock) {
    const uint32_t used = rwlock_used(lock);
    for (uint32_t at = 0; at < used; at++) {
        rwlock_reader_t *reader = rwlock_reader(lock, at);
        if (load_seq_u64(&reader->owner) == lock->held && reader_leave(lock, &reader->counts))
            return 1;
    }
    return 0;
}

/* Takes back a try that was counted there.  Another thread of this process that left may have taken it for its own reading,
 * which is counted elsewhere: then that is given up. */
static inline void rwlock_withdraw(const rwlock_t *lock, uint64_t *word) {
    if (!reader_leave(lock, word))
        readers_leave(lock);
    FAILPOINT("rwlock.read.withdrawn");
}

/* One try; the caller has checked that this process is a member. */
static ALWAYS_INLINE int rwlock_read_take(rwlock_t *lock) {
    const uint32_t at = rwlock_at(lock);
    /* relaxed: a guess that saves the writer the trouble */
    if (at == RWLOCK_NOWHERE || load_relaxed_u64(&lock->cell->word) != 0)
        return 0;
    uint64_t *word = &rwlock_reader(lock, at)->counts;
    uint64_t counts = load_relaxed_u64(word); /* relaxed: a guess for the compare-and-swap */
    do
        if (counts_reading(counts) + counts_wanting(counts) >= COUNTS_MOST)
            return 0;
    while (!cas_seq_u64(word, &counts, counts + READING_ONE));
    FAILPOINT("rwlock.read.counted");
    /* SYNC rwlock-word: pairs with cas_seq(word) in rwlock_leave; what the last writer stored is visible now */
    if (__builtin_expect(load_seq_u64(&lock->cell->word) == 0, 1))
        return 1;
    rwlock_withdraw(lock, word);
    return 0;
}

/* Waits in line from now on. */
static inline void rwlock_want(rwlock_wait_t *wait) {
    uint64_t *word = wait->counts = &rwlock_reader(wait->lock, rwlock_at(wait->lock))->counts;
    uint64_t counts = load_relaxed_u64(word); /* relaxed: a guess for the compare-and-swap */
    while (!cas_seq_u64(word, &counts, counts + WANTING_ONE))
        ;
    wait->grants = counts_grants(counts);
    wait->state = RWLOCK_WANTS;
    FAILPOINT("rwlock.read.wants");
}

/* Leaves the line.  Returns whether it has been granted the lock by then. */
static inline int rwlock_forgo(rwlock_wait_t *wait) {
    /* SYNC rwlock-grant: pairs with cas_seq(counts) in rwlock_grant */
    uint64_t counts = load_seq_u64(wait->counts);
    wait->state = RWLOCK_NOTHING;
    do
        if (counts_grants(counts) != wait->grants)
            return 1;
    while (!cas_seq_u64(wait->counts, &counts, counts - WANTING_ONE));
    FAILPOINT("rwlock.read.forgone");
    return 0;
}

static inline int rwlock_read_ready(const void *of) {
    const rwlock_wait_t *wait = (const rwlock_wait_t *)of;
    /* SYNC rwlock-word: pairs with cas_seq(word) in rwlock_leave; seq for the look after the announcement */
    const uint64_t word = load_seq_u64(&wait->lock->cell->word);
    if (word == 0 || word == LOCK_LOST)
        return 1;
    /* SYNC rwlock-grant: pairs with cas_seq(counts) in rwlock_grant; what the writer stored is visible now */
    return counts_grants(load_seq_u64(wait->counts)) != wait->grants;
}

/* Who waits in line looks whether the lock is its own (OK), or LOST; EMPTY: neither. */
static inline status_t rwlock_read_again(rwlock_wait_t *wait) {
    rwlock_t *lock = wait->lock;
    uint64_t *own = wait->counts;
    for (;;) {
        const uint64_t word = load_seq_u64(&lock->cell->word);
        uint64_t counts = load_seq_u64(own);
        if (counts_grants(counts) != wait->grants) {
            wait->state = RWLOCK_NOTHING;
            return OK;
        }
        if (word == LOCK_LOST) {
            rwlock_forgo(wait); /* nobody will grant anything any more */
            return LOST;
        }
        if (word != 0)
            return EMPTY;
        if (!cas_seq_u64(own, &counts, counts - WANTING_ONE + READING_ONE))
            continue;
        FAILPOINT("rwlock.read.counted");
        /* SYNC rwlock-word: pairs with cas_seq(word) in rwlock_leave */
        if (load_seq_u64(&lock->cell->word) == 0) {
            wait->state = RWLOCK_NOTHING;
            return OK;
        }
        rwlock_withdraw(lock, own);
        rwlock_want(wait);
    }
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

/* Does this process own the word, holding the lock? */
static inline int rwlock_mine(const rwlock_t *lock) {
    /* relaxed: what this process stored it sees, and nobody else stores its id */
    return (load_relaxed_u64(&lock->cell->word) & ~(uint64_t)LOCK_INCONSISTENT) == lock->held;
}

/* A number for this thread of this member, never 0.  Threads of forked processes have the same pthread_self(), and a dead
 * writer's number stands in the cell until its heir has stored its own: so the member goes into it. */
static inline uint64_t rwlock_thread(const rwlock_t *lock) {
    return ((uint64_t)pthread_self() ^ lock->held * 0x9e3779b97f4a7c15u) | 1;
}

/* Does this very thread own the word, or wait for the readers to leave? */
static inline int rwlock_thread_mine(const rwlock_t *lock) {
    /* relaxed: as above; only this thread ever stores its own number */
    return (load_relaxed_u64(&lock->cell->word) & ~RWLOCK_FLAGS) == lock->held &&
           load_relaxed_u64(&lock->cell->thread) == rwlock_thread(lock);
}

/* The word has just become this thread's. */
static ALWAYS_INLINE void rwlock_enter(rwlock_wait_t *wait) {
    rwlock_cell_t *cell = wait->lock->cell;
    store_relaxed_u64(&cell->thread, rwlock_thread(wait->lock)); /* relaxed: see rwlock_thread_mine */
    store_relaxed_u32(&cell->side, wait->side);                  /* relaxed: read by this process only */
}

static ALWAYS_INLINE int rwlock_claim(rwlock_wait_t *wait) {
    uint64_t free_word = 0;
    /* SYNC rwlock-word: pairs with cas_seq(word) in rwlock_leave; what the last writer stored is visible now */
    if (!cas_seq_u64(&wait->lock->cell->word, &free_word, wait->lock->held | RWLOCK_CLAIMED))
        return 0;
    FAILPOINT("rwlock.claimed");
    rwlock_enter(wait);
    wait->state = RWLOCK_CLAIMS;
    wait->drained = 0;
    return 1;
}

/* Have the readers left?  Called by who has claimed; entries that were seen without readers stay so. */
static ALWAYS_INLINE int rwlock_drained(const void *of) {
    rwlock_wait_t *wait = (rwlock_wait_t *)of;
    for (uint32_t used = rwlock_used(wait->lock); wait->drained < used; wait->drained++)
        /* SYNC rwlock-counts: pairs with cas_seq(counts) in reader_leave; seq for the look after the claim */
        if (counts_reading(load_seq_u64(&rwlock_reader(wait->lock, wait->drained)->counts)) != 0)
            return 0;
    return 1;
}

/* Cleans the entries of dead readers.  Returns whether all have left then. */
static inline int rwlock_bury(rwlock_wait_t *wait) {
    rwlock_t *lock = wait->lock;
    const uint32_t used = rwlock_used(lock);
    for (uint32_t at = wait->drained; at < used; at++) {
        const rwlock_reader_t *reader = rwlock_reader(lock, at);
        const uint64_t owner = load_seq_u64(&reader->owner);
        if (counts_reading(load_seq_u64(&reader->counts)) != 0 && owner != 0 &&
            member_died(lock->member, member_of_word(owner)))
            reader_clean(lock, at, owner, 0);
    }
    return rwlock_drained(wait);
}

static ALWAYS_INLINE status_t rwlock_hold(rwlock_wait_t *wait) {
    FAILPOINT("rwlock.drained");
    wait->state = RWLOCK_NOTHING;
    /* Nobody takes a living one's word.  It says that the lock is held before anything that the lock guards is changed.
     * SYNC rwlock-word: pairs with cas_seq(word) in rwlock_inherit */
    store_seq_u64(&wait->lock->cell->word, wait->lock->held);
    FAILPOINT("rwlock.held");
    return OK;
}

/* Makes all that want to read readers.  The caller owns the word, which is CLAIMED. */
static inline void rwlock_grant(rwlock_t *lock) {
    const uint32_t used = rwlock_used(lock);
    for (uint32_t at = 0; at < used; at++) {
        uint64_t *word = &rwlock_reader(lock, at)->counts;
        uint64_t counts = load_seq_u64(word), next;
        do {
            if (counts_wanting(counts) == 0)
                break;
            next = (uint64_t)(counts_grants(counts) + 1) << 32 | (counts_reading(counts) + counts_wanting(counts));
        } /* SYNC rwlock-grant: pairs with load_seq(counts) in rwlock_read_ready */
        while (!cas_seq_u64(word, &counts, next));
        FAILPOINT("rwlock.granted");
    }
}

static inline int rwlock_wanted(const rwlock_t *lock) {
    const uint32_t used = rwlock_used(lock);
    for (uint32_t at = 0; at < used; at++)
        if (counts_wanting(load_seq_u64(&rwlock_reader(lock, at)->counts)) != 0)
            return 1;
    return 0;
}

/* Gives the word up, which is `word` and this process's; next: 0 or LOCK_LOST.  Returns whether it was `word`. */
static inline int rwlock_leave(rwlock_t *lock, uint64_t word, uint64_t next) {
    rwlock_cell_t *cell = lock->cell;
    store_relaxed_u64(&cell->thread, 0); /* relaxed: before the word is free, see rwlock_thread_mine */
    if (next == 0 && ((word & RWLOCK_CLAIMED) || rwlock_wanted(lock))) {
        if (!(word & RWLOCK_CLAIMED) && !cas_seq_u64(&cell->word, &word, lock->held | RWLOCK_CLAIMED))
            return 0;
        FAILPOINT("rwlock.leaving");
        rwlock_grant(lock);
        word = lock->held | RWLOCK_CLAIMED;
    }
    /* SYNC rwlock-word: pairs with load_seq(word) in rwlock_read_take; what this writer stored is whole.
     * seq for the look at the gates (SYNC gate) */
    if (!cas_seq_u64(&cell->word, &word, next))
        return 0;
    FAILPOINT("rwlock.left");
    gate_wake(&cell->reads, GATE_ALL);
    FAILPOINT("rwlock.readers.woken");
    gate_wake(&cell->writes, next == 0 ? 1 : GATE_ALL);
    return 1;
}

/* OK; LOST: it was inherited and never recovered, so nobody can have it again; NOT_HELD: by this process. */
static inline status_t rwlock_write_give(rwlock_t *lock) {
    const uint64_t word = load_relaxed_u64(&lock->cell->word); /* relaxed: see rwlock_mine */
    const uint64_t next = word & LOCK_INCONSISTENT ? LOCK_LOST : 0;
    FAILPOINT("rwlock.give");
    if (!rwlock_mine(lock) || !rwlock_leave(lock, word, next))
        return NOT_HELD;
    return next == 0 ? OK : LOST;
}

/* OK, LOST (see above), or NOT_HELD: this process does not hold the lock for reading. */
static ALWAYS_INLINE status_t rwlock_read_give(rwlock_t *lock) {
    /* Where it was asked for reading and is held for writing, a reading is another thread's try that will be taken back.
     * relaxed: stored by this process */
    if (__builtin_expect(rwlock_mine(lock) && load_relaxed_u32(&lock->cell->side) == RWLOCK_READ, 0))
        return rwlock_write_give(lock);
    const uint32_t at = rwlock_at(lock);
    if (__builtin_expect(at != RWLOCK_NOWHERE && reader_leave(lock, &rwlock_reader(lock, at)->counts), 1))
        return OK;
    return readers_leave(lock) ? OK : NOT_HELD;
}

#endif
