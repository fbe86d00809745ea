/* catch_threads SCENE ROUNDS SEED: signals with values, written down for collectors that come and go.
 *
 * Three senders, each of which has a signal of its own and sends the next number when the last one has arrived, to the
 * process or to one of two threads that do not block it.  Two collectors start for some of the signals, read for a while
 * and stop; what nobody collects goes to a handler that was there before them.  Each number arrives once, in order, with
 * its sender's pid, whoever takes it.  When a collector has gone, other files get its descriptors' numbers, and nothing
 * is to be written there.  In the scene "forks" children come into being in the middle of it: what is sent to a child
 * is in the child's pipe, under the same number, and nothing else is.
 *
 * The scene "unwaited" does not wait for handlers that run, "unreturned" keeps what was not read, "unwatched" says
 * nothing of forks: planted faults, which must be found.  */
#define _GNU_SOURCE
#include "driver.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

static int unwaited, unreturned, unwatched, forks;

/* The header's own function is catch_wait_void here, and what it calls is catch_wait_. */
#define catch_wait(how) catch_wait_##how(how)
static inline void catch_wait_void(void);
static inline void catch_wait_(void) {
    if (!unwaited)
        catch_wait_void();
}

/* Between the look for a collector and the write anything may happen. */
static ssize_t late_write(int fd, const void *data, size_t size) {
    static _Atomic unsigned dice;
    if (mixed(dice++) % 4 == 0)
        for (int turn = 0; turn < 30; turn++)
            sched_yield();
    return write(fd, data, size);
}
#define write(fd, data, size) late_write(fd, data, size)
#include "_catch.h"
#undef write

#if !defined(__SANITIZE_THREAD__) && defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__
#endif
#endif

#define SENDERS 3u
#define WORKERS 2u
#define COLLECTORS 2u
#define SIGNAL(sender) (SIGRTMIN + 2 + (int)(sender))
#define TO_CHILD (-7)

static uint64_t rounds, seed;
static _Atomic int arrived[SENDERS]; /* the number that is expected next */
static _Atomic int over, by_handler, by_collector, left_over, children;
static pthread_t workers[WORKERS];

static uint64_t chance(uint64_t who, uint64_t *dice) { return mixed(mixed(seed * 31 + who) + (*dice)++); }

/* A number came to somebody of this process. */
static void arrive(int signal, int value, pid_t pid) {
    const unsigned sender = (unsigned)(signal - SIGNAL(0));
    EXPECT(sender < SENDERS, "signal %d was not sent", signal);
    EXPECT(pid == getpid(), "number %d of signal %d came from process %d", value, signal, pid);
    const int expected = atomic_load(&arrived[sender]);
    EXPECT(value == expected, "out of order: number %d of signal %d, after %d", value, signal, expected - 1);
    atomic_store(&arrived[sender], expected + 1);
}

static void old_handler(int signal, siginfo_t *info, void *context) {
    (void)context;
    atomic_fetch_add(&by_handler, 1);
    if (info->si_value.sival_int != TO_CHILD)
        arrive(signal, info->si_value.sival_int, info->si_pid);
}

static void mask(int how) {
    sigset_t all;
    sigemptyset(&all);
    for (unsigned sender = 0; sender < SENDERS; sender++)
        sigaddset(&all, SIGNAL(sender));
    pthread_sigmask(how, &all, NULL);
}

static void *send_all(void *number) {
    const unsigned sender = (unsigned)(uintptr_t)number;
    uint64_t dice = 0;
    mask(SIG_BLOCK);
    for (int round = 0; round < (int)rounds; round++) {
        const union sigval value = {.sival_int = round};
        const uint64_t whom = chance(sender, &dice) % (WORKERS + 1);
        const int error = whom == WORKERS ? (sigqueue(getpid(), SIGNAL(sender), value) == 0 ? 0 : errno)
                                          : pthread_sigqueue(workers[whom], SIGNAL(sender), value);
        EXPECT(error == 0, "not sent: %s", strerror(error));
        const time_t end = time(NULL) + (unreturned ? 2 : 60);
        while (atomic_load(&arrived[sender]) == round) {
            EXPECT(time(NULL) <= end, "lost: number %d of signal %d", round, SIGNAL(sender));
            sched_yield();
        }
    }
    return NULL;
}

static void *work(void *unused) {
    (void)unused;
    mask(SIG_UNBLOCK);
    while (!atomic_load(&over))
        poll(NULL, 0, 1); /* where a sanitizer lets handlers run */
    return NULL;
}

/* Other files under the numbers of a collector that has gone: nothing comes to them. */
static void set_trap(int from, int into, uint64_t patience) {
    int trap[2];
    char found[16];
    EXPECT(pipe2(trap, O_CLOEXEC | O_NONBLOCK) == 0, "no pipe: %m");
    if (trap[0] == from && trap[1] == into)
        for (; patience > 0; patience--)
            sched_yield();
    const ssize_t count = read(trap[0], found, sizeof found);
    EXPECT(count < 0, "a handler wrote %zd bytes to a file that is not its collector's", count);
    close(trap[0]);
    close(trap[1]);
}

static void *collect(void *number) {
    uint64_t who = SENDERS + (uintptr_t)number, dice = 0;
    mask(SIG_BLOCK);
    while (!atomic_load(&over)) {
        catcher_t *one = calloc(1, sizeof *one);
        const uint64_t wanted = chance(who, &dice) % 7 + 1;
        caught_t said;
        EXPECT(one != NULL && catch_pipe(one) == 0, "no pipe: %m");
        sigemptyset(&one->numbers);
        for (unsigned sender = 0; sender < SENDERS; sender++)
            if (wanted >> sender & 1)
                sigaddset(&one->numbers, SIGNAL(sender));
        EXPECT(catch_start(one) == 0, "not started");
        for (uint64_t looks = chance(who, &dice) % 60; looks > 0; looks--) {
            if (read(one->from, &said, sizeof said) == (ssize_t)sizeof said) {
                atomic_fetch_add(&by_collector, 1);
                arrive(said.number, said.value, said.pid);
            }
            sched_yield();
        }
        catch_stop(one);
        EXPECT(atomic_load(&one->lost) == 0, "a pipe was full");
        const int from = one->from, into = one->into;
        struct pollfd left = {.fd = from, .events = POLLIN};
        atomic_fetch_add(&left_over, poll(&left, 1, 0));
        if (!unreturned)
            catch_return(one);
        close(from);
        close(into);
        free(one);
        set_trap(from, into, chance(who, &dice) % 40);
    }
    return NULL;
}

/* To the child itself.  ThreadSanitizer runs no handler in the child of several threads: there the pipe has to do. */
static int send_to_child(const catcher_t *one, int signal) {
#if defined(__SANITIZE_THREAD__)
    const caught_t said = {.number = signal, .value = TO_CHILD, .pid = getpid()};
    return one == NULL || write(one->into, &said, sizeof said) == (ssize_t)sizeof said;
#else
    const union sigval value = {.sival_int = TO_CHILD};
    (void)one;
    return sigqueue(getpid(), signal, value) == 0;
#endif
}

/* What a child has: one signal that it sends to itself, and nothing of its parent's. */
static int child(int signal, pid_t parent) {
    /* Who has taken its signal from it may have ended at that; in "unwatched" that it waits for ever is expected. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        return 6;
    alarm(unwatched ? 2 : 60);
    mask(SIG_UNBLOCK);
    const catcher_t *one = atomic_load(&catch_newest[signal]);
    const int before = atomic_load(&by_handler);
    if (!send_to_child(one, signal))
        return 2;
    if (one == NULL) {
#if defined(__SANITIZE_THREAD__)
        return 0;
#endif
        while (atomic_load(&by_handler) == before)
            poll(NULL, 0, 1);
        return 0;
    }
    struct pollfd came = {.fd = one->from, .events = POLLIN};
    caught_t said;
    while (poll(&came, 1, 1000) < 1)
        ;
    if (read(one->from, &said, sizeof said) != (ssize_t)sizeof said)
        return 3;
    if (said.number != signal || said.value != TO_CHILD || said.pid != getpid())
        return 4;
    return read(one->from, &said, sizeof said) < 0 ? 0 : 5;
}

static void *fork_children(void *unused) {
    uint64_t dice = 0;
    (void)unused;
    mask(SIG_BLOCK);
    while (!atomic_load(&over)) {
        const int signal = SIGNAL(chance(99, &dice) % SENDERS);
        const pid_t parent = getpid(), pid = fork();
        if (pid == 0)
            _exit(child(signal, parent));
        int status = 0;
        EXPECT(pid > 0 && waitpid(pid, &status, 0) == pid, "no child: %m");
        EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child has what is not its own: status %#x", status);
        atomic_fetch_add(&children, 1);
    }
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t senders[SENDERS], collectors[COLLECTORS], forking;
    EXPECT(argc == 4, "usage: catch_threads SCENE ROUNDS SEED");
    forks = strcmp(argv[1], "forks") == 0 || strcmp(argv[1], "unwatched") == 0;
    unwaited = strcmp(argv[1], "unwaited") == 0;
    unreturned = strcmp(argv[1], "unreturned") == 0;
    unwatched = strcmp(argv[1], "unwatched") == 0;
    rounds = strtoull(argv[2], NULL, 10);
    seed = strtoull(argv[3], NULL, 10);
    alarm(90);
    struct sigaction old = {.sa_sigaction = old_handler, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigfillset(&old.sa_mask);
    for (unsigned sender = 0; sender < SENDERS; sender++)
        EXPECT(sigaction(SIGNAL(sender), &old, NULL) == 0, "no handler: %m");
    mask(SIG_BLOCK);
    EXPECT(unwatched || catch_watch_forks() == 0, "forks are not watched");
    for (uintptr_t number = 0; number < WORKERS; number++)
        pthread_create(&workers[number], NULL, work, NULL);
    for (uintptr_t number = 0; number < COLLECTORS; number++)
        pthread_create(&collectors[number], NULL, collect, (void *)number);
    for (uintptr_t number = 0; number < SENDERS; number++)
        pthread_create(&senders[number], NULL, send_all, (void *)number);
    if (forks)
        pthread_create(&forking, NULL, fork_children, NULL);
    for (unsigned number = 0; number < SENDERS; number++)
        pthread_join(senders[number], NULL);
    atomic_store(&over, 1);
    for (unsigned number = 0; number < COLLECTORS; number++)
        pthread_join(collectors[number], NULL);
    for (unsigned number = 0; number < WORKERS; number++)
        pthread_join(workers[number], NULL);
    if (forks)
        pthread_join(forking, NULL);
    EXPECT(by_handler > 0 && by_collector > 0, "idle: %d by the handler, %d by collectors", by_handler, by_collector);
    EXPECT(left_over > 0, "idle: every collector had read all");
    EXPECT(!forks || children > 0, "idle: no child");
    EXPECT(atomic_load(&catch_running[0]) == 0 && atomic_load(&catch_running[1]) == 0, "a handler counts for ever");
    for (unsigned sender = 0; sender < SENDERS; sender++) {
        struct sigaction now;
        sigaction(SIGNAL(sender), NULL, &now);
        EXPECT(now.sa_sigaction == old_handler, "the handler that was there before is not there again");
    }
    return 0;
}
