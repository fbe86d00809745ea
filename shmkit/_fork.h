/* Which process this is: a forked child finds itself one generation on, and a process knows when it began.
 *
 *   fork_generation_word   goes up by one in each forked child: a handle that noted it knows its own process
 *   fork_count             goes up by one at each fork, in parent and child: memory that saw a fork may be shared
 *
 * Both are stored only between fork's first and last step, when the forking thread is alone with them, so plain loads
 * do.  Only _map.pyx may use this header: its words are static, and everybody must read the same ones.  */
#ifndef SHMKIT_FORK_H
#define SHMKIT_FORK_H

#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t fork_generation_word;
static uint64_t fork_count;

static inline void fork_before(void) { fork_count += 1; }
static inline void fork_in_child(void) { fork_generation_word += 1; }

/* Starts counting; returns 0 or an errno.  Call it once. */
static inline int fork_watch(void) { return pthread_atfork(fork_before, NULL, fork_in_child); }

/* Clock ticks from boot to the start of process `pid` (0: this one): field 22 of /proc/<pid>/stat.  0: no such process.
 * Together with the pid it names a process for good: pids are used again, starts are not. */
static inline uint64_t process_start_ticks(uint32_t pid) {
    char path[40], text[1024];
    ssize_t length;
    int fd;

    if (pid == 0)
        snprintf(path, sizeof path, "/proc/self/stat");
    else
        snprintf(path, sizeof path, "/proc/%u/stat", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0)
        return 0;
    text[length] = 0;
    /* The second field is the program's name in parentheses, which may itself hold spaces and parentheses. */
    char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at == NULL ? 0 : strtoull(at + 1, NULL, 10);
}

#endif
