/* Which process this is: a forked child finds itself one generation on.
 *
 *   fork_generation_word   goes up by one in each forked child: a handle that noted it knows its own process
 *   fork_count             goes up by one at each fork, in parent and child: memory that saw a fork may be shared
 *
 * Both are stored only between fork's first and last step, when the forking thread is alone with them, so plain loads
 * do.  Only _map.pyx may use this header: its words are static, and everybody must read the same ones.  */
#ifndef SHMKIT_FORK_H
#define SHMKIT_FORK_H

#include <pthread.h>
#include <stdint.h>

#include "_process.h"

static uint64_t fork_generation_word;
static uint64_t fork_count;

static inline void fork_before(void) { fork_count += 1; }
static inline void fork_in_child(void) { fork_generation_word += 1; }

/* Starts counting; returns 0 or an errno.  Call it once. */
static inline int fork_watch(void) { return pthread_atfork(fork_before, NULL, fork_in_child); }

#endif
