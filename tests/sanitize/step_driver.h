/* What the steppers share: a child that ptrace takes through one operation, instruction by instruction, and its death.
 *
 * It is killed before the first, and then, a new child each time, after each instruction that others can notice: those
 * that change shared memory, and system calls.  All others change nothing but registers and private memory, which end
 * with the process, so a kill after one of them is the same as a kill before it.  (With STEP_EVERYWHERE in the
 * environment the child is killed after those, too.)
 *
 * A driver that uses this ends with 0 (all is well), 77 (ptrace is not allowed here) or 1. */
#ifndef STEP_DRIVER_H
#define STEP_DRIVER_H

#include "driver.h"

#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#define NOT_ALLOWED 77

static struct {
    uint32_t finished;
    uint64_t result; /* what the operation says that it has done */
    uint64_t id;     /* what the child calls itself */
} *report;           /* shared with the child */

static uint64_t steps; /* of all children together */
static int everywhere; /* kill after steps that nobody can notice, too */

#define WATCHED_MOST 24u
static struct {
    const void *memory; /* what others can notice a change of */
    uint8_t *seen;      /* how it was after the latest step */
    size_t size;
} watched[WATCHED_MOST];
static size_t watched_count;

static inline void watch(const void *memory, size_t size) {
    EXPECT(watched_count < WATCHED_MOST, "too many places to watch");
    watched[watched_count].memory = memory;
    watched[watched_count].size = size;
    EXPECT((watched[watched_count].seen = malloc(size)) != NULL, "no memory");
    watched_count++;
}

/* Looks at all that is watched; returns whether it has changed. */
static inline int look(void) {
    int changed = 0;
    for (size_t i = 0; i < watched_count; i++)
        if (memcmp(watched[i].seen, watched[i].memory, watched[i].size) != 0) {
            memcpy(watched[i].seen, watched[i].memory, watched[i].size);
            changed = 1;
        }
    return changed;
}

static void child(void (*prepare)(void), void (*operate)(void)) {
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(NOT_ALLOWED);
    prepare();
    raise(SIGSTOP);
    operate();
    report->finished = 1;
    raise(SIGSTOP);
    _exit(0);
}

/* The child's code is this process's code, at the same addresses: it was forked. */
static int at_system_call(pid_t pid) {
    static const uint8_t system_call[] = {0x0f, 0x05};
    const long at = ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user_regs_struct, rip), NULL);
    return memcmp((const void *)at, system_call, sizeof system_call) == 0;
}

/* Lets the child execute one instruction; returns whether others can notice it. */
static int step(pid_t pid) {
    int status, call = at_system_call(pid);
    EXPECT(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0 && waitpid(pid, &status, 0) == pid, "no step: %m");
    EXPECT(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP, "the child failed: status %#x", status);
    steps++;
    return look() || call || everywhere;
}

/* Starts a child; `prepare` is not stepped, `operate` is to be.  Both run in the child. */
static pid_t start_child(void (*prepare)(void), void (*operate)(void)) {
    int status;
    memset(report, 0, sizeof *report);
    const pid_t pid = fork();
    EXPECT(pid >= 0, "no child: %m");
    if (pid == 0)
        child(prepare, operate);
    EXPECT(waitpid(pid, &status, 0) == pid, "no child: %m");
    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_ALLOWED)
        exit(NOT_ALLOWED);
    EXPECT(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP, "the child could not prepare: status %#x", status);
    EXPECT(ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_EXITKILL) == 0, "no options: %m");
    look();
    return pid;
}

/* Takes the child `points` points further; returns whether there were as many. */
static int step_on(pid_t pid, uint64_t points) {
    for (uint64_t passed = 0; passed < points && !report->finished;)
        passed += (uint64_t)step(pid);
    return !report->finished;
}

/* Lets the child go on to the end of its operation, without steps. */
static inline void run_on(pid_t pid) {
    int status;
    if (report->finished)
        return;
    EXPECT(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0 && waitpid(pid, &status, 0) == pid, "it does not go on: %m");
    EXPECT(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP && report->finished, "the child failed: status %#x",
           status);
}

static void kill_child(pid_t pid) {
    int status;
    kill(pid, SIGKILL);
    EXPECT(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status), "the child was not killed: status %#x", status);
}

/* Starts a child and kills it at the `point`th point of its operation.  Returns whether it got that far. */
static inline int run_and_kill(void (*prepare)(void), void (*operate)(void), uint64_t point) {
    const pid_t pid = start_child(prepare, operate);
    const int alive = step_on(pid, point);
    kill_child(pid);
    return alive;
}

/* The tracer and its child take turns: on one core they need no wake-up across cores. */
static void stay_on_one_core(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(sched_getcpu(), &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void *shared_memory(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT(memory != MAP_FAILED, "no memory: %m");
    return memory;
}

/* Before anything else. */
static inline void step_begin(void) {
    everywhere = getenv("STEP_EVERYWHERE") != NULL;
    setlinebuf(stdout); /* a run that hangs has said how far it got */
    report = shared_memory(sizeof *report);
    stay_on_one_core();
}

/* The same; returns the memory to watch. */
static inline void *step_driver(size_t size) {
    step_begin();
    void *memory = shared_memory(size);
    watch(memory, size);
    return memory;
}

#endif
