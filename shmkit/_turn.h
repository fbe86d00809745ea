/* Turns: the threads of one process take turns at one end of a ring.
 *
 * A turn lasts for a whole operation, its waiting included.  With the GIL the word is touched under it and costs two
 * plain stores; without one it is an atomic exchange.  A turn is never shared between processes: a forked child resets it.
 * The owner is remembered so that a signal handler that comes back to the same end is refused instead of hanging. */
#ifndef SHMKIT_TURN_H
#define SHMKIT_TURN_H

#include <Python.h>
#include <pthread.h>
#include <stdint.h>

#include "_atomics.h"
#include "_futex.h"

/* Whether threads of this process run Python at the same time: what the GIL orders elsewhere is ordered here by turns, by
 * critical sections (of an object: as a GIL of its own), and by atomic counts. */
#ifdef Py_GIL_DISABLED
#define FREE_THREADED 1
#else
#define FREE_THREADED 0
#endif

/* Adds to a count that all threads of this process change; returns what it was. */
static inline uint64_t threads_add(uint64_t *count, uint64_t by) {
#ifdef Py_GIL_DISABLED
    return add_relaxed_u64(count, by); /* relaxed: a count */
#else
    *count += by;
    return *count - by;
#endif
}

typedef struct {
    uint32_t word; /* 0 free, 1 taken, 2 taken and somebody waits */
    uint64_t owner;
} turn_t;

static inline uint64_t turn_thread(void) { return (uint64_t)pthread_self(); }

static inline int turn_try(turn_t *turn) {
#ifdef Py_GIL_DISABLED
    uint32_t expected = 0;
    if (!cas_seq_u32(&turn->word, &expected, 1))
        return 0;
#else
    if (turn->word != 0)
        return 0;
    turn->word = 1;
#endif
    turn->owner = turn_thread();
    return 1;
}

static inline int turn_mine(const turn_t *turn) { return turn->word != 0 && turn->owner == turn_thread(); }

/* Whether any thread has it, as of now. */
static inline int turn_is_taken(const turn_t *turn) { return load_seq_u32(&turn->word) != 0; }

/* Says, with the GIL, that somebody waits; then turn_wait waits, without it, and the caller tries again. */
static inline void turn_ask(turn_t *turn) {
    uint32_t expected = 1;
    cas_seq_u32(&turn->word, &expected, 2);
}

static inline void turn_wait(turn_t *turn, uint64_t limit_ns) { futex_wait_private(&turn->word, 2, limit_ns); }

static inline void turn_end(turn_t *turn) {
#ifdef Py_GIL_DISABLED
    turn->owner = 0;
    if (exchange_release_u32(&turn->word, 0) == 2)
        futex_wake_private(&turn->word, 1 << 30);
#else
    if (__builtin_expect(turn->word == 2, 0)) {
        turn->word = 0;
        futex_wake_private(&turn->word, 1 << 30);
    } else
        turn->word = 0;
#endif
}

static inline void turn_reset(turn_t *turn) {
    turn->word = 0;
    turn->owner = 0;
}

/* One role of one process, from its claim to its end: a view or a reservation acts only in the session that it came
 * from, and only in the process that opened it. */
typedef struct {
    uint64_t number;
    uint64_t generation; /* of the process: another one in a forked child */
} session_t;

#endif
