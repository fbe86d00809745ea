/* Words that users share: plain integers, each access with the order that the caller names, and waiting for a change.
 *
 * The word is all there is in shared memory, as C's _Atomic int64_t, uint64_t and uint32_t lie there, so that a program in
 * any language can be the other side.  So there is no gate either: who changes a word wakes its sleepers by a call of its
 * own, which costs a system call whether anybody sleeps or not.  Sleepers sleep on the word itself, in slices (_wait.h);
 * the kernel compares 32 bits, of a 64-bit word the lower half (little-endian: the first), and the sleeper all of it.  A
 * change of the upper half alone that comes between a look and the sleep is seen when the slice ends.
 *
 * A built-in takes its order as a constant; given a variable, it is sequentially consistent.  Hence the switches.  */
#ifndef SHMKIT_WORD_H
#define SHMKIT_WORD_H

#include <limits.h>

#include "_wait.h"

#define WORD_PACE 2u
#define WORD_ALL INT_MAX

typedef enum { RELAXED = 0, ACQUIRE, RELEASE, ACQ_REL, SEQ_CST } order_t;

/* The order of a compare-and-swap that stores nothing, where none is named: what C11 makes of the order of one that does. */
static inline order_t order_of_failure(order_t order) {
    return order == ACQ_REL ? ACQUIRE : order == RELEASE ? RELAXED : order;
}

#define SHMKIT_BY_ORDER(order, call)                                                                                   \
    switch (order) {                                                                                                   \
    case RELAXED:                                                                                                      \
        return call(__ATOMIC_RELAXED);                                                                                 \
    case ACQUIRE:                                                                                                      \
        return call(__ATOMIC_ACQUIRE);                                                                                 \
    case RELEASE:                                                                                                      \
        return call(__ATOMIC_RELEASE);                                                                                 \
    case ACQ_REL:                                                                                                      \
        return call(__ATOMIC_ACQ_REL);                                                                                 \
    default:                                                                                                           \
        return call(__ATOMIC_SEQ_CST);                                                                                 \
    }

/* Reads, changes and stores in one step; answers what was there before. */
#define SHMKIT_DEFINE_CHANGE(what)                                                                                     \
    static inline uint64_t word_##what(uint64_t *word, uint64_t value, order_t order) {                                \
        SHMKIT_BY_ORDER(order, SHMKIT_CHANGE_##what)                                                                   \
    }

#define SHMKIT_CHANGE_add(order) __atomic_fetch_add(word, value, order)
#define SHMKIT_CHANGE_sub(order) __atomic_fetch_sub(word, value, order)
#define SHMKIT_CHANGE_and(order) __atomic_fetch_and(word, value, order)
#define SHMKIT_CHANGE_or(order) __atomic_fetch_or(word, value, order)
#define SHMKIT_CHANGE_xor(order) __atomic_fetch_xor(word, value, order)
#define SHMKIT_CHANGE_exchange(order) __atomic_exchange_n(word, value, order)

SHMKIT_DEFINE_CHANGE(add)
SHMKIT_DEFINE_CHANGE(sub)
SHMKIT_DEFINE_CHANGE(and)
SHMKIT_DEFINE_CHANGE(or)
SHMKIT_DEFINE_CHANGE(xor)
SHMKIT_DEFINE_CHANGE(exchange)

#define SHMKIT_DEFINE_WORD(bits)                                                                                       \
    static inline uint##bits##_t word_load_u##bits(const uint##bits##_t *word, order_t order) {                        \
        switch (order) {                                                                                               \
        case RELAXED:                                                                                                  \
            return __atomic_load_n(word, __ATOMIC_RELAXED);                                                            \
        case ACQUIRE:                                                                                                  \
            return __atomic_load_n(word, __ATOMIC_ACQUIRE);                                                            \
        default:                                                                                                       \
            return __atomic_load_n(word, __ATOMIC_SEQ_CST);                                                            \
        }                                                                                                              \
    }                                                                                                                  \
    static inline void word_store_u##bits(uint##bits##_t *word, uint##bits##_t value, order_t order) {                 \
        switch (order) {                                                                                               \
        case RELAXED:                                                                                                  \
            __atomic_store_n(word, value, __ATOMIC_RELAXED);                                                           \
            break;                                                                                                     \
        case RELEASE:                                                                                                  \
            __atomic_store_n(word, value, __ATOMIC_RELEASE);                                                           \
            break;                                                                                                     \
        default:                                                                                                       \
            __atomic_store_n(word, value, __ATOMIC_SEQ_CST);                                                           \
        }                                                                                                              \
    }

SHMKIT_DEFINE_WORD(32)
SHMKIT_DEFINE_WORD(64)

/* Stores 1; answers whether the flag was set before. */
static inline int word_set_flag(uint32_t *word, order_t order) {
#define SHMKIT_SET_FLAG(order) __atomic_exchange_n(word, 1u, order) != 0
    SHMKIT_BY_ORDER(order, SHMKIT_SET_FLAG)
#undef SHMKIT_SET_FLAG
}

/* One strong compare-and-swap, in three strengths: whatever the failure asks for beyond the success's order is granted to
 * both.  Answers whether it stored; *expected receives what was there. */
static inline int word_cas(uint64_t *word, uint64_t *expected, uint64_t value, order_t order, order_t failure) {
    if (order == SEQ_CST || failure == SEQ_CST)
        return __atomic_compare_exchange_n(word, expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    if (failure == ACQUIRE)
        return __atomic_compare_exchange_n(word, expected, value, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    if (order == RELAXED)
        return __atomic_compare_exchange_n(word, expected, value, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return __atomic_compare_exchange_n(word, expected, value, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* What one waiter waits for: that the word differs from `value`; private to it. */
typedef struct {
    const void *word;
    uint64_t value;
    int wide; /* the word has 64 bits */
} word_wait_t;

/* The user's store, of whatever order, is what this load pairs with; the sequentially consistent one does all that a user
 * could ask of it, and waiting is no place to save a nanosecond. */
static inline int word_differs(const void *of) {
    const word_wait_t *wait = (const word_wait_t *)of;
    if (wait->wide)
        return load_seq_u64((const uint64_t *)wait->word) != wait->value;
    return load_seq_u32((const uint32_t *)wait->word) != (uint32_t)wait->value;
}

static inline int word_spin(word_wait_t *wait, uint64_t limit_ns) {
    return word_differs(wait) || wait_spin(word_differs, wait, limit_ns, WORD_PACE);
}

/* One round of waiting: OK (it differs), TIMED_OUT, INTERRUPTED, SLICE_OVER. */
static inline status_t word_round(word_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns) {
    if (waiter->begun_ns == 0 && wait_begin(waiter, word_differs, wait, deadline_ns, CPU_UNKNOWN, WORD_PACE))
        return OK;
    uint64_t now = clock_ns();
    const uint64_t until_ns = wait_slice(waiter, now, deadline_ns);
    for (;;) {
        if (word_differs(wait)) {
            wait_learn(waiter, now);
            return OK;
        }
        if (now >= deadline_ns) {
            wait_learn(waiter, now);
            return TIMED_OUT;
        }
        if (now >= until_ns) {
            wait_slice_over(waiter, now);
            return SLICE_OVER;
        }
        FAILPOINT("word.looked");
        const int error = futex_wait((uint32_t *)wait->word, (uint32_t)wait->value, until_ns - now);
        FAILPOINT("word.awake");
        now = clock_ns();
        if (error == EINTR && !word_differs(wait))
            return INTERRUPTED;
        /* Woken, perhaps for a change that was taken back; or the word was another when the kernel looked. */
    }
}

static inline int word_wake(void *word, int count) { return futex_wake((uint32_t *)word, count); }

#endif
