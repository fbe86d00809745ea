/* What the steppers of locks, semaphores and events (lock_step.c) and of conditions (condition_step.c) share: who there
 * is, how a lock that anybody died with is had again, and how an operation is taken through its states. */
#ifndef LOCK_STEP_H
#define LOCK_STEP_H

#include "lock_driver.h"
#include "step_driver.h"

#include <pthread.h>

static party_t survivor, late; /* this process; one that has died before */
static party_t child_party;    /* in the child */
static int told;               /* the policy is to tell */
static cells_t cells_before;   /* as they were when the child started */

static inline uint64_t now_or_never(void) { return clock_ns(); }
static inline uint64_t soon(void) { return clock_ns() + 2 * SLICE_FIRST_NS; }

static inline void be(void) {
    join(&child_party);
    report->id = child_party.member.id;
}

static inline status_t lock_wait(lock_t *lock, uint64_t deadline_ns) {
    lock_wait_t wait = {.lock = lock};
    waiter_t waiter;
    status_t status;
    waiter_init(&waiter);
    do
        status = lock_round(&wait, &waiter, deadline_ns);
    while (status == SLICE_OVER || status == INTERRUPTED);
    return status;
}

static inline status_t lock_attempt(lock_t *lock) {
    lock_wait_t wait = {.lock = lock};
    return lock_try(&wait);
}

static inline void hold(void) {
    be();
    const status_t status = lock_attempt(&child_party.lock);
    EXPECT(status == OK || status == INHERITED, "the child cannot have the lock: status %d", status);
}

/* Somebody may be asleep: whoever changes something has to move the gate and to ask the kernel. */
static inline void awaited(void) {
    gate_announce(&cells->lock.gate);
    gate_announce(&cells->rlock.gate);
    gate_announce(&cells->counted.gate);
    gate_announce(&cells->owned.gate);
    gate_announce(&cells->event.gate);
}

static inline int names_child(uint64_t word) { return report->id != 0 && member_of_word(word) == report->id; }

/* Returns once the survivor has it. */
static inline void have(lock_t *lock) {
    lock_wait_t wait = {.lock = lock};
    lock->asked = 0; /* a fresh look */
    const uint64_t word = lock->cell->word;
    if (lock_mine(lock))
        return;
    const status_t expected = word != 0 && told ? INHERITED : OK, status = lock_try(&wait);
    EXPECT(status == expected, "the lock's word is %#" PRIx64 ", and a try says %d", word, status);
    EXPECT(word == 0 || wait.dead == member_of_word(word), "the wrong one is called dead");
    EXPECT(status == OK || lock_recover(lock) == OK, "the heir cannot recover");
}

/* Was the lock inherited and released, and never recovered? */
static inline int is_lost(lock_t *lock) {
    if (lock->cell->word != LOCK_LOST)
        return 0;
    EXPECT(told && lock_attempt(lock) == LOST, "a lock that is lost can be had");
    EXPECT(lock_wait(lock, FOREVER) == LOST && lock_give(lock) == LOST, "a lock that is lost can be had");
    return 1;
}

static inline void lock_works(lock_t *lock) {
    EXPECT(lock_give(lock) == OK && lock->cell->word == 0, "the survivor cannot release");
    EXPECT(lock_take(lock) && lock_give(lock) == OK && lock_give(lock) == NOT_HELD, "the lock does not work any more");
    EXPECT(lock_wait(lock, now_or_never()) == OK && lock_give(lock) == OK, "waiting for a free lock");
}

/* --- somebody is asleep while the child operates ----------------------------------------------------------------- */

static party_t other; /* the sleeper: a thread of this process, and a member of its own */
static pthread_t sleeper;
static status_t slept; /* what its wait has come to */

/* Once the child has what the sleeper is to wait for. */
static inline void put_to_sleep(void *(*sleep)(void *), const uint32_t *gate) {
    EXPECT(pthread_create(&sleeper, NULL, sleep, NULL) == 0, "no thread");
    while (gate != NULL && !(load_seq_u32(gate) & GATE_ASLEEP))
        sched_yield();
}

static inline void awake(void) { EXPECT(pthread_join(sleeper, NULL) == 0, "no thread"); }

/* --- operations -------------------------------------------------------------------------------------------------- */

#define STATES_MOST 10

typedef struct {
    const char *name;
    void (*prepare)(void);
    void (*operate)(void);
    void (*check)(void);
    void (*states[STATES_MOST])(void); /* how the cells are when the child starts */
    void (*sleep)(void);               /* somebody does so, once the child is prepared */
    void (*meanwhile)(void);           /* what happens at the point; the child then goes on to its end */
} operation_t;

static inline void as_made(void) {}

static inline uint64_t step_through(const operation_t *operation, int state) {
    static party_t saved;
    uint64_t point = 0;
    format_cells(told ? POLICY_TELL : POLICY_RECOVER, 0, PERMITS);
    bind_party(&survivor);
    bind_party(&other);
    operation->states[state]();
    cells_before = *cells;
    saved = survivor;
    for (int alive = 1; alive; point++) {
        snprintf(driver_context, sizeof driver_context, "%s, state %d, point %" PRIu64 ": ", operation->name, state,
                 point);
        const pid_t pid = start_child(operation->prepare, operation->operate);
        if (operation->sleep != NULL)
            operation->sleep();
        alive = step_on(pid, point);
        if (operation->meanwhile != NULL) {
            operation->meanwhile();
            step_on(pid, UINT64_MAX);
        }
        kill_child(pid);
        operation->check();
        *cells = cells_before;
        survivor = saved;
    }
    return point;
}

/* A driver's main program; `recovering_too`: or told only, where the policy makes no difference. */
static inline int step_operations(const operation_t *operations, size_t count, int recovering_too, int argc,
                                  char **argv) {
    const operation_t *operation = NULL;
    for (uint64_t i = 0; argc == 2 && i < count; i++)
        if (strcmp(argv[1], operations[i].name) == 0)
            operation = &operations[i];
    EXPECT(operation != NULL, "usage: %s OPERATION", argv[0]);
    cells = step_driver(sizeof *cells);
    lease_fd = lease_file(&lease_inode);
    format_cells(POLICY_TELL, 0, PERMITS);
    join(&survivor);
    join(&other);

    uint64_t kills = 0;
    for (told = !recovering_too; told < 2; told++)
        for (int state = 0; state < STATES_MOST && operation->states[state] != NULL; state++) {
            const uint64_t points = step_through(operation, state);
            printf("%s, %s, state %d: %" PRIu64 " kills\n", operation->name, told ? "told" : "recovering", state,
                   points);
            kills += points;
        }
    printf("%s: %" PRIu64 " kills, %" PRIu64 " steps\n", operation->name, kills, steps);
    return 0;
}

#endif
