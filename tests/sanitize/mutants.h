/* Planted faults: compiled with -DMUTANTS, the sequentially consistent accesses of the one function that `mutant` names
 * order nothing.  The tests use it to prove that a sanitizer's driver can fail.
 *
 * Included after _atomics.h and before the headers that are tried, whose functions then look for their own name. */
#ifndef MUTANTS_H
#define MUTANTS_H

#include <string.h>

#include "_atomics.h"

static const char *mutant = "";

#ifdef MUTANTS
#define MUTANT_IS_HERE (strcmp(__func__, mutant) == 0)
#define MUTANT_CAS(word, expected, value)                                                                              \
    __atomic_compare_exchange_n(word, expected, value, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)
/* A macro's own name within it is the function's. */
#define cas_seq_u32(word, expected, value)                                                                             \
    (MUTANT_IS_HERE ? MUTANT_CAS(word, expected, value) : cas_seq_u32(word, expected, value))
#define cas_seq_u64(word, expected, value)                                                                             \
    (MUTANT_IS_HERE ? MUTANT_CAS(word, expected, value) : cas_seq_u64(word, expected, value))
#define exchange_seq_u64(word, value)                                                                                  \
    (MUTANT_IS_HERE ? __atomic_exchange_n(word, value, __ATOMIC_RELAXED) : exchange_seq_u64(word, value))
#define store_seq_u32(word, value) (MUTANT_IS_HERE ? store_relaxed_u32(word, value) : store_seq_u32(word, value))
#define store_seq_u64(word, value) (MUTANT_IS_HERE ? store_relaxed_u64(word, value) : store_seq_u64(word, value))
#endif

#endif
