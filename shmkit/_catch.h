/* catch: signals that come to threads which do not block them, written down for whoever collects them.
 *
 *   a thread of this process                      a collector's pipe                  who waits
 *   signal -> catch_signal -> {number, value, pid, uid} -> | into ........ from | -> read, 16 bytes at a time
 *
 * A handler may do little: it loads one pointer, and makes one system call, a write of 16 bytes, which a pipe takes whole
 * or not at all.  Where the pipe is full, `lost` counts.  Collectors are in a list, the newest first; of each signal the
 * newest that wants it is in catch_newest.  The first of a signal installs the handler, the last brings back what was
 * there; whose turn to leave it is does not matter.
 *
 * When may a collector's pipe be closed?  A handler that has loaded the pointer may be about to write, and the number of
 * a closed descriptor soon means another file.  So handlers are counted while they run, on one of two sides, and who
 * leaves waits for both sides in turn, having sent newcomers to the other (as sleepable RCU does): twice, for a handler
 * may have read which side is which before the first change and counted itself after it.  No handler blocks, so neither
 * does the wait.
 *
 * A handler that finds nobody (the signal came just before the action was brought back) sends the same to its own thread
 * again: it is blocked while the handler runs, and meets the action of now when that returns.  That would go round for
 * ever where somebody installed his own action while there was a collector, and after that left has put this one back
 * (as faulthandler.unregister does) or calls it (as handlers do that hand on what they took): then the handler does what
 * would have been done before the collectors came.  Signals that were written down and not read when a collector leaves
 * are sent to the process again, with their values and senders.
 *
 * fork: a child has the handlers, the collectors and their descriptors, but the parent's pipes.  It gets pipes of its own
 * under the same numbers before anything else runs in it; signals that are collected are blocked from before the fork
 * until then, so that none is written to the parent.  Handlers of threads that the child has not are forgotten. */
#ifndef SHMKIT_CATCH_H
#define SHMKIT_CATCH_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CATCH_SIGNALS 65
#define CATCH_ROOM (1 << 20)

typedef struct {
    int32_t number, value; /* the value is 0 where none was queued */
    int32_t pid;
    uint32_t uid;
} caught_t;

_Static_assert(sizeof(caught_t) == 16, "shmkit/signals.py reads so many bytes");

typedef struct catcher {
    struct catcher *older;
    sigset_t numbers;
    int from, into;
    _Atomic uint64_t lost;
} catcher_t;

typedef void catch_handler_t(int, siginfo_t *, void *);

#define CATCH_DEFAULT ((catch_handler_t *)(uintptr_t)SIG_DFL)
#define CATCH_IGNORED ((catch_handler_t *)(uintptr_t)SIG_IGN)

static catcher_t *catch_list;
static _Atomic(catcher_t *) catch_newest[CATCH_SIGNALS];
static struct sigaction catch_before[CATCH_SIGNALS];
static _Atomic(catch_handler_t *) catch_old[CATCH_SIGNALS]; /* the function of it, for handlers to look at */
static pthread_mutex_t catch_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic unsigned catch_side;
static _Atomic int catch_running[2];
static sigset_t catch_mask; /* of the thread that forks */

static void catch_signal(int number, siginfo_t *info, void *context);

static inline int catch_is_ours(const struct sigaction *action) {
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == catch_signal;
}

/* A signal that nobody collects.  With nobody coming or leaving now, the action and the pointer have gone together: who
 * comes sets the pointer first, who leaves brings the action back first. */
static inline void catch_pass_on(int number, siginfo_t *info, void *context) {
    catch_handler_t *old = atomic_load(&catch_old[number]);
    struct sigaction now;
    sigaction(number, NULL, &now);
    if (atomic_load(&catch_newest[number]) == NULL && now.sa_sigaction != old) {
        if (old != CATCH_DEFAULT && old != CATCH_IGNORED)
            old(number, info, context); /* with all three, as the kernel calls every handler */
        if (old != CATCH_DEFAULT || !catch_is_ours(&now))
            return;
        sigaction(number, &catch_before[number], NULL);
    }
    syscall(SYS_rt_tgsigqueueinfo, getpid(), (pid_t)syscall(SYS_gettid), number, info);
}

static void catch_signal(int number, siginfo_t *info, void *context) {
    int before = errno;
    /* seq_cst throughout: the count must be seen by who leaves before the pointer is loaded here */
    unsigned side = atomic_load(&catch_side) & 1;
    atomic_fetch_add(&catch_running[side], 1);
    catcher_t *to = atomic_load(&catch_newest[number]);
    if (to != NULL) {
        caught_t said = {.number = number, .value = info->si_code == SI_QUEUE ? info->si_value.sival_int : 0};
        if (info->si_code <= 0) { /* sent by a process, not by the kernel */
            said.pid = info->si_pid;
            said.uid = info->si_uid;
        }
        if (write(to->into, &said, sizeof said) != (ssize_t)sizeof said)
            atomic_fetch_add(&to->lost, 1);
    }
    atomic_fetch_sub(&catch_running[side], 1);
    if (to == NULL)
        catch_pass_on(number, info, context);
    errno = before;
}

/* Returns when every handler that ran when it was called is over. */
static inline void catch_wait(void) {
    for (int turn = 0; turn < 2; turn++) {
        unsigned side = atomic_fetch_add(&catch_side, 1) & 1;
        while (atomic_load(&catch_running[side]) != 0)
            sched_yield();
    }
}

static inline catcher_t *catch_who(int number) {
    catcher_t *one = catch_list;
    while (one != NULL && !sigismember(&one->numbers, number))
        one = one->older;
    return one;
}

/* Returns 0 or an errno. */
static inline int catch_pipe(catcher_t *one) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return errno;
    one->from = ends[0];
    one->into = ends[1];
    /* Where this user may not have as much, 4096 signals have to do. */
    (void)fcntl(one->into, F_SETPIPE_SZ, CATCH_ROOM);
    return 0;
}

/* A pipe of its own, under the same numbers: even if no other descriptor is to be had.  Where the system has none at all,
 * what comes is lost, and counted, rather than the parent's. */
static inline void catch_pipe_again(catcher_t *one) {
    int from = one->from, into = one->into;
    close(from);
    close(into);
    one->from = one->into = -1;
    if (catch_pipe(one) != 0)
        return;
    /* The kernel gives the lowest numbers, and from < into: if one of the two was given, from was. */
    if (one->into != into) {
        dup3(one->into, into, O_CLOEXEC);
        if (one->into != from)
            close(one->into);
        one->into = into;
    }
    if (one->from != from) {
        dup3(one->from, from, O_CLOEXEC);
        close(one->from);
        one->from = from;
    }
}

static void catch_before_fork(void) {
    pthread_mutex_lock(&catch_lock);
    sigset_t all;
    sigemptyset(&all);
    for (int number = 1; number < CATCH_SIGNALS; number++)
        if (catch_who(number) != NULL)
            sigaddset(&all, number);
    pthread_sigmask(SIG_BLOCK, &all, &catch_mask);
}

static void catch_in_parent(void) {
    sigset_t mask = catch_mask;
    pthread_mutex_unlock(&catch_lock);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

static void catch_in_child(void) {
    atomic_store(&catch_running[0], 0);
    atomic_store(&catch_running[1], 0);
    for (catcher_t *one = catch_list; one != NULL; one = one->older) {
        atomic_store(&one->lost, 0);
        catch_pipe_again(one);
    }
    catch_in_parent();
}

/* Returns 0 or an errno.  Call it once. */
static inline int catch_watch_forks(void) { return pthread_atfork(catch_before_fork, catch_in_parent, catch_in_child); }

/* Collects the numbers of `one`, which has a pipe, until catch_stop.  Returns 0 or an errno, and then nothing is new. */
static inline int catch_start(catcher_t *one) {
    struct sigaction ours = {.sa_sigaction = catch_signal, .sa_flags = SA_SIGINFO | SA_RESTART}, now;
    int error = 0;
    sigfillset(&ours.sa_mask);
    pthread_mutex_lock(&catch_lock);
    for (int number = 1; number < CATCH_SIGNALS && !error; number++)
        if (sigismember(&one->numbers, number) == 1 && sigaction(number, NULL, &now) != 0)
            error = errno; /* the C library keeps that one for itself */
    if (!error) {
        one->older = catch_list;
        catch_list = one;
        for (int number = 1; number < CATCH_SIGNALS; number++) {
            if (sigismember(&one->numbers, number) != 1)
                continue;
            int first = atomic_load(&catch_newest[number]) == NULL;
            /* before the action: a handler that runs finds it */
            atomic_store(&catch_newest[number], one);
            if (first && sigaction(number, &ours, &now) == 0 && !catch_is_ours(&now)) {
                catch_before[number] = now;
                atomic_store(&catch_old[number], now.sa_sigaction);
            }
        }
    }
    pthread_mutex_unlock(&catch_lock);
    return error;
}

/* Afterwards no handler writes to the pipe of `one` any more. */
static inline void catch_stop(catcher_t *one) {
    pthread_mutex_lock(&catch_lock);
    catcher_t **link = &catch_list;
    while (*link != NULL && *link != one)
        link = &(*link)->older;
    if (*link == one)
        *link = one->older;
    for (int number = 1; number < CATCH_SIGNALS; number++) {
        if (atomic_load(&catch_newest[number]) != one)
            continue;
        catcher_t *next = catch_who(number);
        struct sigaction now;
        /* What somebody has installed meanwhile is left to him; the action first, so that who finds nobody meets it. */
        if (next == NULL && sigaction(number, NULL, &now) == 0 && catch_is_ours(&now))
            sigaction(number, &catch_before[number], NULL);
        atomic_store(&catch_newest[number], next);
    }
    pthread_mutex_unlock(&catch_lock);
    catch_wait();
}

/* Sends what was written down to the process again: what nobody has asked for is treated as ever. */
static inline void catch_return(catcher_t *one) {
    caught_t said;
    while (read(one->from, &said, sizeof said) == (ssize_t)sizeof said) {
        siginfo_t info;
        memset(&info, 0, sizeof info);
        info.si_signo = said.number;
        info.si_code = SI_QUEUE;
        info.si_pid = said.pid;
        info.si_uid = said.uid;
        info.si_value.sival_int = said.value;
        syscall(SYS_rt_sigqueueinfo, getpid(), said.number, &info);
    }
}

#endif
