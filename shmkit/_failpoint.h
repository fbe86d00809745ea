/* Failpoints: in a debug build (SHMKIT_DEBUG), the named places where a test can have the process killed.
 *
 *   SHMKIT_FAILPOINT=ring.commit.word:3     dies by SIGKILL the fourth time that it passes "ring.commit.word"
 *
 * In an ordinary build FAILPOINT() is nothing at all.  */
#ifndef SHMKIT_FAILPOINT_H
#define SHMKIT_FAILPOINT_H

#ifdef SHMKIT_DEBUG

#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char failpoint_name[64];
static uint64_t failpoint_skip;
static pid_t failpoint_known; /* the process that has read the wish; 0: nobody yet */

/* Each extension module (each translation unit) reads the environment when it first passes a failpoint in a process. */
static inline void failpoint_read(void) {
    const char *wish = getenv("SHMKIT_FAILPOINT"), *colon = wish ? strrchr(wish, ':') : NULL;
    size_t length = wish ? (colon ? (size_t)(colon - wish) : strlen(wish)) : 0;
    memset(failpoint_name, 0, sizeof failpoint_name);
    if (length < sizeof failpoint_name && length != 0)
        memcpy(failpoint_name, wish, length);
    failpoint_skip = colon ? strtoull(colon + 1, NULL, 10) : 0;
    failpoint_known = getpid();
}

static inline void failpoint_pass(const char *name) {
    if (failpoint_known != getpid()) /* a forked child may have a wish of its own */
        failpoint_read();
    if (failpoint_name[0] == 0 || strcmp(name, failpoint_name) != 0)
        return;
    if (failpoint_skip-- == 0)
        kill(getpid(), SIGKILL);
}

#define FAILPOINT(name) failpoint_pass(name)

#else

#define FAILPOINT(name) ((void)0)

#endif

#endif
