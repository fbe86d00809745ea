/* A ring's bells: how one end is woken that sleeps, or told that waits with a descriptor ("bells" in _layout.h, _watch.h). */
#ifndef SHMKIT_RING_BELL_H
#define SHMKIT_RING_BELL_H

#include "_layout.h"
#include "_watch.h"

/* Kept out of the way of those who find nobody. */
static inline void ring_rouse(ring_bell_t *bell, uint64_t *sender, uint64_t *wakes) __attribute__((cold));
static inline void ring_rouse(ring_bell_t *bell, uint64_t *sender, uint64_t *wakes) {
    const uint32_t was = exchange_seq_u32(&bell->word, BELL_AWAKE);
    if (was == BELL_AWAKE)
        return;
    FAILPOINT("bell.cleared");
    store_relaxed_u64(wakes, load_relaxed_u64(wakes) + 1); /* relaxed: a statistic with one writer */
    if (was != BELL_WATCHED) {
        futex_wake(&bell->word, 1);
        return;
    }
    const int saved = errno,
              error = watch_tell(sender, load_relaxed_u64(&bell->watch)); /* relaxed: came with the word */
    uint32_t now = BELL_AWAKE;
    if (error != 0 && error != ECONNREFUSED) /* no descriptor to be had: the next time it is tried again */
        cas_seq_u32(&bell->word, &now, BELL_WATCHED);
    errno = saved;
}

/* Wakes the owner of `bell` if it sleeps, and tells it if it watches.  Call it after a seq store of what it waits for. */
static ALWAYS_INLINE void ring_call(ring_bell_t *bell, uint64_t *sender, uint64_t *wakes) {
    /* SYNC bell: pairs with store_seq(bell, 1) in wait_round and store_seq(bell) in ring_arm */
    if (__builtin_expect(load_seq_u32(&bell->word) != BELL_AWAKE, 0))
        ring_rouse(bell, sender, wakes);
}

/* ring_call() of one who has just taken a role, of which the owner learns by it whose death to look out for.  A bell that is watched
 * stays so: were it cleared, and the caller killed before the datagram, nobody would ever tell the owner of anything again, neither
 * of that death nor, as the bell is clear, of who takes the role next.  A datagram more is nothing but a look too many. */
static inline void ring_announce(ring_bell_t *bell, uint64_t *sender, uint64_t *wakes) {
    /* SYNC bell: pairs with store_seq(bell) in ring_arm, as in ring_call */
    if (load_seq_u32(&bell->word) != BELL_WATCHED) {
        ring_call(bell, sender, wakes);
        return;
    }
    const int saved = errno;
    store_relaxed_u64(wakes, load_relaxed_u64(wakes) + 1); /* relaxed: a statistic with one writer */
    watch_tell(sender, load_relaxed_u64(&bell->watch));    /* relaxed: came with the word */
    errno = saved;
    FAILPOINT("bell.announced");
}

/* The owner of `bell` is told by a datagram to `id` when next something changes.  Look at what is waited for after it. */
static inline void ring_arm(ring_bell_t *bell, uint64_t id) {
    store_relaxed_u64(&bell->watch, id); /* relaxed: comes with the word */
    /* SYNC bell: pairs with load_seq(bell) in ring_call; as in wait_round */
    store_seq_u32(&bell->word, BELL_WATCHED);
    FAILPOINT("ring.armed");
}

/* Nobody need tell it any more. */
static inline void ring_disarm(ring_bell_t *bell) {
    uint32_t now = BELL_WATCHED;
    cas_seq_u32(&bell->word, &now, BELL_AWAKE);
}

#endif
