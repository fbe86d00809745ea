/* Barriers: nobody goes on until all have come ("barrier" in _layout.h).
 *
 *   wait      under the lock: takes a place.  Who finds that all places of a round are taken runs the action (without the lock:
 *             `acting` says that the round is complete), then marks all who wait as passed, and wakes them with one system call.
 *             The others sleep at the gate until the word of their own place has changed.  Each frees its own place
 *   break     under the lock: the state says so, and why; all who wait are marked as broken, and woken
 *
 * What has become of a waiter stands in its own place: a round that has passed stays passed for those who are slow to wake,
 * whatever comes after; and who is quick finds room for the next round beside them.
 *
 * Who ought to come?  The crew: the processes that took part in the last round that passed, and those that have come since.
 * A process that leaves in order (it closes its handle, or ends) takes itself off the list; another one may take its place.
 *
 * Killed at any point:
 *   while it waits, or between two rounds     its place or the crew's list names it.  Whoever waits asks the kernel at the end of
 *                                             each slice, and breaks the barrier, for all
 *   in the action                             the same: it waits, too
 *   under the lock, which is a few words' stores    the next one to take the lock is told (_lock.h), and breaks the barrier.
 *                                             What the dead one had marked stays marked; the rest is broken, or is nobody's
 *   after a mark, before the wake-up          sleepers look at the end of their slice
 *   after it had passed, before it has freed its place    it is one of the crew: see above.  Who finds no free place frees those
 *                                             of the dead
 *   while it takes itself off the list        one compare-and-swap
 *
 * The words of places and crew are changed by compare-and-swap, since who gives up waiting, or leaves, does not take the lock. */
#ifndef SHMKIT_BARRIER_H
#define SHMKIT_BARRIER_H

#include "_lock.h"

#define BARRIER_PACE 2u
#define BARRIER_NOWHERE UINT32_MAX
#define BARRIER_FLAGS 3ull

/* How one process uses one barrier; private to it. */
typedef struct {
    barrier_cell_t *cell;
    lock_t lock;
    uint64_t own;     /* the word of this process, without flags */
    uint32_t parties; /* checked when the process attached */
    uint32_t at;      /* where the search for a free place begins */
    uint32_t where;   /* CPU_HERE: more parties than cores, so that it does not pay to spin */
} barrier_t;

/* One wait; private to the thread. */
typedef struct {
    barrier_t *barrier;
    uint32_t at;    /* its place, or BARRIER_NOWHERE */
    uint32_t value; /* OK: what wait returns; BROKEN: why */
    uint32_t pid;   /* BROKEN: whose death it was */
} barrier_wait_t;

static inline uint32_t barrier_places(const barrier_t *barrier) { return 2 * barrier->parties; }

static ALWAYS_INLINE barrier_place_t *barrier_place(const barrier_t *barrier, uint32_t at) {
    return (barrier_place_t *)(barrier->cell + 1) + at;
}

static ALWAYS_INLINE uint64_t *barrier_crew(const barrier_t *barrier, uint32_t at) {
    return (uint64_t *)barrier_place(barrier, barrier_places(barrier)) + at;
}

static ALWAYS_INLINE uint64_t barrier_word(const barrier_t *barrier, uint32_t at) {
    /* SYNC barrier-place: pairs with cas_seq(word) in barrier_mark: what all stored before they came is visible now */
    return load_seq_u64(&barrier_place(barrier, at)->word);
}

static inline int barrier_waits(const barrier_t *barrier, uint32_t at) {
    return (barrier_word(barrier, at) & BARRIER_FLAGS) == PLACE_WAITS;
}

/* --- under the lock ---------------------------------------------------------------------------------------------- */

/* What has become of who waits at `at`; nothing, if it has given up meanwhile.  Returns whether it waited. */
static inline int barrier_mark(barrier_t *barrier, uint32_t at, uint64_t flag, uint32_t value, uint32_t pid) {
    barrier_place_t *place = barrier_place(barrier, at);
    uint64_t word = barrier_word(barrier, at);
    if ((word & BARRIER_FLAGS) != PLACE_WAITS)
        return 0;
    store_relaxed_u32(&place->value, value); /* relaxed: seen by whoever sees the mark */
    store_relaxed_u32(&place->pid, pid);
    FAILPOINT("barrier.mark");
    /* SYNC barrier-place: pairs with load_seq(word) in barrier_word; seq for the look at the gate (SYNC gate) */
    return cas_seq_u64(&place->word, &word, (word & ~BARRIER_FLAGS) | flag);
}

/* The round is over.  passed: who has not taken part is not of the crew any more; else all stay. */
static inline void barrier_muster(barrier_t *barrier, int passed) {
    for (uint32_t at = 0; at < barrier_places(barrier); at++) {
        uint64_t *crew = barrier_crew(barrier, at), word = load_seq_u64(crew);
        if ((word & CREW_CAME) || (passed && word != 0))
            cas_seq_u64(crew, &word, word & CREW_CAME ? word & ~BARRIER_FLAGS : 0); /* it may have left */
    }
}

/* Breaks the barrier for all who wait.  why: BROKEN_…; `pid`: of who died. */
static inline void barrier_break(barrier_t *barrier, uint32_t why, uint32_t pid) {
    barrier_cell_t *cell = barrier->cell;
    store_relaxed_u32(&cell->why, why); /* relaxed: under the lock */
    store_relaxed_u32(&cell->pid, pid);
    FAILPOINT("barrier.break");
    /* SYNC barrier-state: pairs with load_seq(state) in barrier_room_ready */
    store_seq_u32(&cell->state, why == BROKEN_RESET ? BARRIER_WHOLE : BARRIER_BROKEN);
    FAILPOINT("barrier.broken");
    for (uint32_t at = 0; at < barrier_places(barrier); at++)
        barrier_mark(barrier, at, PLACE_BROKEN, why, pid);
    barrier_muster(barrier, 0);
    /* SYNC barrier-acting: pairs with load_seq(acting) in barrier_room_ready */
    store_seq_u64(&cell->acting, 0);
    FAILPOINT("barrier.acted");
}

/* Lets all pass who wait; the caller, whose place is `last`, came last. */
static inline void barrier_pass(barrier_t *barrier, uint32_t last) {
    uint32_t value = 0;
    for (uint32_t at = 0; at < barrier_places(barrier); at++)
        if (at != last)
            value += barrier_mark(barrier, at, PLACE_PASSED, value, 0);
    barrier_mark(barrier, last, PLACE_PASSED, barrier->parties - 1, 0);
    FAILPOINT("barrier.passed");
    barrier_muster(barrier, 1);
    /* SYNC barrier-acting: pairs with load_seq(acting) in barrier_room_ready */
    store_seq_u64(&barrier->cell->acting, 0);
}

/* Puts this process on the crew's list, as one that has come.  Where there is no room its death is seen while it waits only. */
static inline void barrier_enlist(barrier_t *barrier) {
    uint32_t place = BARRIER_NOWHERE;
    for (uint32_t at = 0; at < barrier_places(barrier); at++) {
        const uint64_t word = load_seq_u64(barrier_crew(barrier, at));
        if ((word & ~BARRIER_FLAGS) == barrier->own) {
            place = at;
            break;
        }
        if (word == 0 && place == BARRIER_NOWHERE)
            place = at;
    }
    if (place == BARRIER_NOWHERE)
        return;
    /* SYNC barrier-crew: pairs with load_seq(crew) in barrier_casualty */
    store_seq_u64(barrier_crew(barrier, place), barrier->own | CREW_CAME);
    FAILPOINT("barrier.enlisted");
}

/* A place that is free, or whose owner is dead and does not wait; or BARRIER_NOWHERE. */
static inline uint32_t barrier_find(barrier_t *barrier, int dead_too) {
    uint32_t at = barrier->at;
    for (uint32_t left = barrier_places(barrier); left != 0; left--) {
        const uint64_t word = barrier_word(barrier, at);
        if (word == 0 || (dead_too && (word & BARRIER_FLAGS) != PLACE_WAITS &&
                          member_died(barrier->lock.member, member_of_word(word))))
            return at;
        at = at + 1 < barrier_places(barrier) ? at + 1 : 0;
    }
    return BARRIER_NOWHERE;
}

/* Comes.  OK: it waits; COMPLETE: all have come, and this one is to run the action and to call barrier_pass; FULL: there is no
 * room now; BROKEN.  acts: there is an action. */
static inline status_t barrier_arrive(barrier_wait_t *wait, int acts) {
    barrier_t *barrier = wait->barrier;
    barrier_cell_t *cell = barrier->cell;
    uint64_t acting = load_relaxed_u64(&cell->acting); /* relaxed: under the lock */
    if (acting != 0 && member_died(barrier->lock.member, member_of_word(acting)))
        barrier_break(barrier, BROKEN_DIED, member_pid(member_of_word(acting)));
    if (load_relaxed_u32(&cell->state) != BARRIER_WHOLE) { /* relaxed: under the lock */
        wait->value = load_relaxed_u32(&cell->why);
        wait->pid = load_relaxed_u32(&cell->pid);
        return BROKEN;
    }
    uint32_t at = acting == 0 ? barrier_find(barrier, 0) : BARRIER_NOWHERE;
    if (at == BARRIER_NOWHERE && acting == 0)
        at = barrier_find(barrier, 1);
    if (at == BARRIER_NOWHERE)
        return FULL;
    uint32_t came = 1;
    for (uint32_t other = 0; other < barrier_places(barrier); other++)
        came += barrier_waits(barrier, other);
    barrier_enlist(barrier);
    /* SYNC barrier-place: pairs with load_seq(word) in barrier_word; under the lock, which orders all that came before */
    store_seq_u64(&barrier_place(barrier, at)->word, barrier->own | PLACE_WAITS);
    FAILPOINT("barrier.came");
    wait->at = barrier->at = at;
    if (came < barrier->parties)
        return OK;
    if (acts)
        store_seq_u64(&cell->acting, barrier->own);
    else
        barrier_pass(barrier, at);
    FAILPOINT("barrier.complete");
    return COMPLETE;
}

/* Is the round of this waiter complete, and its action still running? */
static inline int barrier_acting(const barrier_t *barrier) {
    return load_relaxed_u64(&barrier->cell->acting) != 0; /* relaxed: under the lock */
}

/* Who leaves in order takes its word away before its lease ends: a word that is still there when the kernel has said "dead" is
 * that of one who was killed. */
static inline int barrier_killed(const barrier_t *barrier, const uint64_t *at, uint64_t word) {
    return member_died(barrier->lock.member, member_of_word(word)) && load_seq_u64(at) == word;
}

/* The word of one that was killed, and was to come or has come and waits; 0: there is none, as far as the kernel knows. */
static inline uint64_t barrier_casualty(const barrier_t *barrier) {
    for (uint32_t at = 0; at < barrier_places(barrier); at++) {
        /* SYNC barrier-crew: pairs with store_seq(crew) in barrier_enlist */
        const uint64_t crew = load_seq_u64(barrier_crew(barrier, at));
        if (crew != 0 && barrier_killed(barrier, barrier_crew(barrier, at), crew))
            return crew;
        const uint64_t word = barrier_word(barrier, at);
        if ((word & BARRIER_FLAGS) == PLACE_WAITS && barrier_killed(barrier, &barrier_place(barrier, at)->word, word))
            return word;
    }
    return 0;
}

/* Breaks the barrier if somebody has died; all the dead leave the crew, so that they are told of once. */
static inline void barrier_bury(barrier_t *barrier) {
    uint64_t casualty = barrier_casualty(barrier);
    if (casualty == 0)
        return;
    barrier_break(barrier, BROKEN_DIED, member_pid(member_of_word(casualty)));
    for (uint32_t at = 0; at < barrier_places(barrier); at++) {
        uint64_t *crew = barrier_crew(barrier, at), word = load_seq_u64(crew);
        if (word != 0 && member_died(barrier->lock.member, member_of_word(word)))
            store_seq_u64(crew, 0);
    }
    FAILPOINT("barrier.buried");
}

/* --- without the lock --------------------------------------------------------------------------------------------- */

static inline int barrier_ready(const void *of) {
    const barrier_wait_t *wait = (const barrier_wait_t *)of;
    return barrier_word(wait->barrier, wait->at) != (wait->barrier->own | PLACE_WAITS);
}

/* Frees the place.  OK: it has passed; BROKEN; EMPTY: it was still waiting, and does not any more. */
static inline status_t barrier_end(barrier_wait_t *wait) {
    barrier_t *barrier = wait->barrier;
    barrier_place_t *place = barrier_place(barrier, wait->at);
    uint64_t word = barrier->own | PLACE_WAITS;
    status_t status = EMPTY;
    if (!cas_seq_u64(&place->word, &word, 0)) {
        status = (word & BARRIER_FLAGS) == PLACE_PASSED ? OK : BROKEN;
        wait->value = load_relaxed_u32(&place->value); /* relaxed: the word was read before */
        wait->pid = load_relaxed_u32(&place->pid);
        FAILPOINT("barrier.leaves");
        /* SYNC barrier-place: pairs with load_seq(word) in barrier_word; seq for the look at the gate (SYNC gate) */
        store_seq_u64(&place->word, 0);
    }
    FAILPOINT("barrier.left");
    gate_wake(&barrier->cell->room, GATE_ALL);
    wait->at = BARRIER_NOWHERE;
    return status;
}

/* One round of waiting: OK (passed or broken), TIMED_OUT, DIED (somebody: barrier_bury), INTERRUPTED, SLICE_OVER. */
static inline status_t barrier_round(barrier_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns) {
    barrier_t *barrier = wait->barrier;
    const status_t status =
        gate_round(waiter, &barrier->cell->gate, barrier_ready, wait, deadline_ns, barrier->where, BARRIER_PACE);
    return (status == SLICE_OVER || status == TIMED_OUT) && barrier_casualty(barrier) != 0 ? DIED : status;
}

static inline int barrier_room_ready(const void *of) {
    const barrier_t *barrier = (const barrier_t *)of;
    /* SYNC barrier-state: pairs with store_seq(state) in barrier_break */
    if (load_seq_u32(&barrier->cell->state) != BARRIER_WHOLE)
        return 1;
    /* SYNC barrier-acting: pairs with store_seq(acting) in barrier_pass; seq for the look after the announcement */
    if (load_seq_u64(&barrier->cell->acting) != 0)
        return 0;
    for (uint32_t at = 0; at < barrier_places(barrier); at++)
        if (barrier_word(barrier, at) == 0)
            return 1;
    return 0;
}

/* One round of waiting for room.  A slice without any is worth another try, which asks about the dead. */
static inline status_t barrier_room_round(barrier_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns) {
    barrier_t *barrier = wait->barrier;
    const status_t status = gate_round(waiter, &barrier->cell->room, barrier_room_ready, barrier, deadline_ns,
                                       barrier->where, BARRIER_PACE);
    return status == SLICE_OVER ? FULL : status;
}

/* After the lock was given up: who waits looks again. */
static inline void barrier_wake(barrier_t *barrier) {
    gate_wake(&barrier->cell->gate, GATE_ALL);
    FAILPOINT("barrier.woken");
    gate_wake(&barrier->cell->room, GATE_ALL);
}

/* This process leaves the crew in order. */
static inline void barrier_leave(barrier_t *barrier) {
    for (uint32_t at = 0; at < barrier_places(barrier); at++) {
        uint64_t word = load_seq_u64(barrier_crew(barrier, at));
        while ((word & ~BARRIER_FLAGS) == barrier->own && !cas_seq_u64(barrier_crew(barrier, at), &word, 0))
            ;
    }
}

static inline uint32_t barrier_waiting(const barrier_t *barrier) {
    uint32_t waiting = 0;
    for (uint32_t at = 0; at < barrier_places(barrier); at++)
        waiting += (uint32_t)barrier_waits(barrier, at);
    return waiting;
}

static inline int barrier_broken(const barrier_t *barrier) {
    return load_seq_u32(&barrier->cell->state) != BARRIER_WHOLE;
}

#endif
