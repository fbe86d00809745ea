/* Sets of descriptors that are waited for as one: readable while any of them is. */
#ifndef SHMKIT_POLL_H
#define SHMKIT_POLL_H

#include <string.h>
#include <sys/epoll.h>

static inline int poll_control(int set, int operation, int fd) {
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    return epoll_ctl(set, operation, fd, &event);
}

/* A new set, or -1 and errno. */
static inline int poll_new(void) { return epoll_create1(EPOLL_CLOEXEC); }

static inline int poll_add(int set, int fd) { return poll_control(set, EPOLL_CTL_ADD, fd); }
static inline int poll_drop(int set, int fd) { return poll_control(set, EPOLL_CTL_DEL, fd); }

/* Is what has that number now the very thing that was added under it?  Not if the program has closed either. */
static inline int poll_has(int set, int fd) { return poll_control(set, EPOLL_CTL_MOD, fd) == 0; }

#endif
