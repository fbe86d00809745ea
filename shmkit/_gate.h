/* Gates: where any number of processes and threads sleep until something changes.
 *
 *   who waits     announces at the gate, looks at what it waits for, and sleeps if the gate has not moved since
 *   who changes   stores, looks at the gate, and if somebody may be asleep there moves it and wakes as many as it is to
 *
 * Both stores and both looks are in the one total order, so at least one of the two sees the other.  A gate holds a
 * sequence and one bit ("gates" in _layout.h).  Every announcement moves the sequence, so that the bit can be cleared
 * exactly: by a waker that found fewer asleep than it would have woken, unless somebody has announced since.  Where nobody
 * waits a waker pays one load of a word beside the one that it has just stored.
 *
 * A waker can be killed between its store and its wake, and a woken one before it acts: so sleeps are slices (_wait.h).
 * This is an eventcount (D. Vyukov, "Eventcounts", 2008), with a bit for a count of waiters, so that the dead owe nothing. */
#ifndef SHMKIT_GATE_H
#define SHMKIT_GATE_H

#include <limits.h>

#include "_wait.h"

#define GATE_ASLEEP 1u
#define GATE_STEP 2u
#define GATE_ALL INT_MAX

/* Says that somebody may be asleep from now on; returns what the gate is then. */
static inline uint32_t gate_announce(uint32_t *gate) {
    uint32_t now = load_relaxed_u32(gate), next; /* relaxed: a guess for the compare-and-swap */
    do
        next = (now + GATE_STEP) | GATE_ASLEEP;
    /* SYNC gate: pairs with load_seq(gate) in gate_wake; the announcement comes before the look in the one order, as
     * the other side's store comes before its look at the gate */
    while (!cas_seq_u32(gate, &now, next));
    FAILPOINT("gate.announced");
    return next;
}

/* Wakes up to `count` of those who sleep at the gate.  Call it after a seq store of what they wait for. */
static ALWAYS_INLINE void gate_wake(uint32_t *gate, int count) {
    /* SYNC gate: pairs with cas_seq(gate) in gate_announce */
    uint32_t now = load_seq_u32(gate);
    if (__builtin_expect((now & GATE_ASLEEP) == 0, 1))
        return;
    /* Whoever has announced and does not sleep yet looks again. */
    while (!cas_seq_u32(gate, &now, now + GATE_STEP))
        if ((now & GATE_ASLEEP) == 0)
            return; /* another waker found nobody left */
    FAILPOINT("gate.moved");
    if (futex_wake(gate, count) >= count)
        return;
    /* Nobody is left asleep, unless somebody has announced meanwhile: then the gate has moved and the bit stays. */
    now += GATE_STEP;
    FAILPOINT("gate.woken");
    cas_seq_u32(gate, &now, (now + GATE_STEP) & ~GATE_ASLEEP);
}

/* One round of waiting at a gate.  The first of a wait yields and spins, unless `peer_cpu` is this one; each sleeps for
 * one slice at most.  Returns OK (ready), TIMED_OUT, INTERRUPTED (a signal came) or SLICE_OVER. */
static ALWAYS_INLINE status_t gate_round(waiter_t *waiter, uint32_t *gate, ready_t ready, const void *of,
                                         uint64_t deadline_ns, uint32_t peer_cpu, uint32_t pace) {
    if (waiter->begun_ns == 0 && wait_begin(waiter, ready, of, deadline_ns, peer_cpu, pace))
        return OK;
    uint64_t now = clock_ns();
    if (now >= deadline_ns) {
        wait_learn(waiter, now);
        return TIMED_OUT;
    }
    const uint64_t until_ns = wait_slice(waiter, now, deadline_ns);
    for (;;) {
        const uint32_t announced = gate_announce(gate);
        int error = 0;
        if (!ready(of))
            /* A slice that a signal interrupted may be over by now: its handler took that long. */
            error = futex_wait(gate, announced, until_ns > now ? until_ns - now : 0);
        FAILPOINT("gate.awake");
        now = clock_ns();
        if (ready(of)) {
            wait_learn(waiter, now);
            return OK;
        }
        if (now >= until_ns) {
            wait_slice_over(waiter, now);
            return SLICE_OVER;
        }
        if (error == EINTR)
            return INTERRUPTED;
        /* Woken, and somebody was quicker; or the gate had moved. */
    }
}

#endif
