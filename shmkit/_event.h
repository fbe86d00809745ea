/* Events: a flag, and how often it went up ("event" in _layout.h).
 *
 * Who waits notes the word and sleeps until the flag is up or has been up since: a flag that is set and cleared at once has
 * woken everybody who waited then.  Nobody is named, so nobody's death matters: killed before the word changes, nothing has
 * happened; killed between that and the wake-up, a sleeper looks when its slice ends.  */
#ifndef SHMKIT_EVENT_H
#define SHMKIT_EVENT_H

#include "_gate.h"

#define EVENT_UP 1u
#define EVENT_STEP 2u
#define EVENT_PACE 2u

/* What one waiter waits for; private to it. */
typedef struct {
    event_cell_t *cell;
    uint64_t before; /* the word when it began to wait */
} event_wait_t;

static inline int event_is_up(const event_cell_t *cell) {
    /* SYNC event: pairs with cas_seq(word) in event_set; what was stored before the flag went up is visible now */
    return (load_seq_u64(&cell->word) & EVENT_UP) != 0;
}

static inline void event_set(event_cell_t *cell) {
    uint64_t word = load_relaxed_u64(&cell->word), next; /* relaxed: a guess for the compare-and-swap */
    do /* where it is up already it is stored all the same: whoever sees it sees what this caller stored before */
        next = word & EVENT_UP ? word : (word + EVENT_STEP) | EVENT_UP;
    /* SYNC event: pairs with load_seq(word) in event_is_up; seq for the look at the gate (SYNC gate) */
    while (!cas_seq_u64(&cell->word, &word, next));
    FAILPOINT("event.set");
    if (word != next)
        gate_wake(&cell->gate, GATE_ALL);
}

static inline void event_clear(event_cell_t *cell) {
    uint64_t word = load_relaxed_u64(&cell->word); /* relaxed: a guess for the compare-and-swap */
    while ((word & EVENT_UP) && !cas_seq_u64(&cell->word, &word, word & ~(uint64_t)EVENT_UP))
        ;
}

/* Begins to wait; returns whether the flag is up. */
static inline int event_begin(event_wait_t *wait, event_cell_t *cell) {
    wait->cell = cell;
    /* SYNC event: pairs with cas_seq(word) in event_set */
    wait->before = load_seq_u64(&cell->word);
    return (wait->before & EVENT_UP) != 0;
}

static inline int event_ready(const void *of) {
    const event_wait_t *wait = (const event_wait_t *)of;
    /* SYNC event: pairs with cas_seq(word) in event_set; seq for the look after the announcement */
    const uint64_t word = load_seq_u64(&wait->cell->word);
    return (word & EVENT_UP) != 0 || word / EVENT_STEP != wait->before / EVENT_STEP;
}

static inline int event_spin(event_wait_t *wait, uint64_t limit_ns) {
    return wait_spin(event_ready, wait, limit_ns, EVENT_PACE);
}

/* One round of waiting: OK (it is or was up), TIMED_OUT, INTERRUPTED, SLICE_OVER. */
static inline status_t event_round(event_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns) {
    return gate_round(waiter, &wait->cell->gate, event_ready, wait, deadline_ns, CPU_UNKNOWN, EVENT_PACE);
}

#endif
