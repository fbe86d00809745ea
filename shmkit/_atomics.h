/* Atomic loads, stores, exchanges and compare-and-swaps on plain integers.  The memory order is in the name:
 *
 *   relaxed   the value is whole, nothing else is ordered
 *   acquire   what is written below in program order is not seen before this load
 *   release   what is written above in program order is seen by whoever acquires this store
 *   seq       takes part in the one total order; a seq store followed by a seq load of another word is not reordered
 *
 * The compiler's __atomic built-ins do the work on x86-64 and aarch64 alike; ThreadSanitizer understands them (it does
 * not understand stand-alone fences, so none is used).  Every word is naturally aligned and at most 8 bytes, so each
 * operation is lock-free and works between processes.  */
#ifndef SHMKIT_ATOMICS_H
#define SHMKIT_ATOMICS_H

#include <stdint.h>

#if !defined(__x86_64__) && !defined(__aarch64__)
#error "shmkit supports x86-64 and aarch64: the rings need lock-free 64-bit atomics"
#endif

#define SHMKIT_DEFINE_ATOMICS(bits)                                                                                    \
    static inline uint##bits##_t load_relaxed_u##bits(const uint##bits##_t *word) {                                    \
        return __atomic_load_n(word, __ATOMIC_RELAXED);                                                                \
    }                                                                                                                  \
    static inline uint##bits##_t load_acquire_u##bits(const uint##bits##_t *word) {                                    \
        return __atomic_load_n(word, __ATOMIC_ACQUIRE);                                                                \
    }                                                                                                                  \
    static inline uint##bits##_t load_seq_u##bits(const uint##bits##_t *word) {                                        \
        return __atomic_load_n(word, __ATOMIC_SEQ_CST);                                                                \
    }                                                                                                                  \
    static inline void store_relaxed_u##bits(uint##bits##_t *word, uint##bits##_t value) {                             \
        __atomic_store_n(word, value, __ATOMIC_RELAXED);                                                               \
    }                                                                                                                  \
    static inline void store_release_u##bits(uint##bits##_t *word, uint##bits##_t value) {                             \
        __atomic_store_n(word, value, __ATOMIC_RELEASE);                                                               \
    }                                                                                                                  \
    static inline void store_seq_u##bits(uint##bits##_t *word, uint##bits##_t value) {                                 \
        __atomic_store_n(word, value, __ATOMIC_SEQ_CST);                                                               \
    }                                                                                                                  \
    static inline uint##bits##_t exchange_acquire_u##bits(uint##bits##_t *word, uint##bits##_t value) {                \
        return __atomic_exchange_n(word, value, __ATOMIC_ACQUIRE);                                                     \
    }                                                                                                                  \
    static inline uint##bits##_t exchange_release_u##bits(uint##bits##_t *word, uint##bits##_t value) {                \
        return __atomic_exchange_n(word, value, __ATOMIC_RELEASE);                                                     \
    }                                                                                                                  \
    static inline uint##bits##_t exchange_seq_u##bits(uint##bits##_t *word, uint##bits##_t value) {                    \
        return __atomic_exchange_n(word, value, __ATOMIC_SEQ_CST);                                                     \
    }                                                                                                                  \
    static inline uint##bits##_t add_relaxed_u##bits(uint##bits##_t *word, uint##bits##_t value) {                     \
        return __atomic_fetch_add(word, value, __ATOMIC_RELAXED);                                                      \
    }                                                                                                                  \
    /* One strong compare-and-swap; on failure *expected receives what was there. */                                   \
    static inline int cas_seq_u##bits(uint##bits##_t *word, uint##bits##_t *expected, uint##bits##_t value) {          \
        return __atomic_compare_exchange_n(word, expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);              \
    }

SHMKIT_DEFINE_ATOMICS(16)
SHMKIT_DEFINE_ATOMICS(32)
SHMKIT_DEFINE_ATOMICS(64)

/* Tells the core that this is a spin loop: the sibling thread gets the pipeline and leaving the loop costs no
 * memory-order mis-speculation. */
static inline void cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("isb" ::: "memory"); /* a real delay on aarch64, where "yield" is a no-op on most cores */
#endif
}

#endif
