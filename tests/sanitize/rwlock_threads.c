/* rwlock_threads SCENE ROUNDS SEED [FUNCTION]: readers and writers, and barriers, between threads on one mapping.
 *
 * The FUNCTION is one with a planted fault (mutants.h), which has to be found.  Ways to acquire, pauses, time-outs and
 * deaths follow from SEED.  Ends with 0 if no reader saw a writer's work half done and nobody passed a barrier alone; a
 * sanitizer that finds something ends it with another status. */
#include "lock_threads.h"

#include "rwlock_driver.h"

struct means {
    uint64_t deaths;    /* one in so many; 0: nobody dies */
    uint64_t writers;   /* one in so many acquisitions is a writer's */
    int told;           /* the policy is to tell */
    void (*act)(void);  /* a barrier's action */
    uint64_t breakages; /* one in so many waits at a barrier is an abort; 0: none is */
};

/* --- readers and writers: a page of two sides, which only a writer changes --------------------------------------- */

static uint64_t left_side, right_side; /* plain memory, and so is … */
static uint64_t written;               /* … what is counted under the lock */
static uint64_t writes, readings, heirs;

static int dies(worker_t *worker) { return means->deaths != 0 && one_in(worker, means->deaths); }

/* Until it is ours: tries, and waits with a deadline, now and then given up; or, if mortal, died of. */
static status_t acquire(worker_t *worker, uint32_t side) {
    for (;;) {
        rwlock_wait_t wait;
        const int block = !one_in(worker, 4);
        status_t status = rwlock_begin(&wait, worker->party, side, block);
        if (status == FULL && block) {
            waiter_t waiter;
            const uint64_t deadline = some_deadline(worker);
            waiter_init(&waiter);
            do {
                status = rwlock_round(&wait, &waiter, deadline);
                if ((status == SLICE_OVER || status == INTERRUPTED) && one_in(worker, 4)) {
                    if (dies(worker))
                        die_and_come_back(worker); /* in line, or as one that has claimed the word */
                    else
                        rwlock_abandon(&wait);
                    status = TIMED_OUT;
                }
            } while (status == SLICE_OVER || status == INTERRUPTED);
        }
        if (means->deaths != 0)
            __atomic_load_n(&kernel, __ATOMIC_ACQUIRE);
        if (status == OK || status == INHERITED)
            return status;
        EXPECT(status == FULL || status == TIMED_OUT, "acquiring: status %d", status);
        if (status == FULL)
            sched_yield();
    }
}

/* Returns whether the worker is still alive, and holds the lock. */
static int write_page(worker_t *worker) {
    EXPECT(left_side == right_side, "the page is torn: %" PRIu64 ", %" PRIu64, left_side, right_side);
    left_side++;
    written++;
    __atomic_fetch_add(&writes, 1, __ATOMIC_RELAXED);
    pause_now_and_then(worker);
    const int dying = dies(worker);
    if (!dying || !means->told) /* who is not told of a death cannot repair */
        right_side++;
    if (dying)
        die_and_come_back(worker);
    return !dying;
}

static int read_page(worker_t *worker) {
    const uint64_t left = left_side;
    __atomic_fetch_add(&readings, 1, __ATOMIC_RELAXED);
    pause_now_and_then(worker);
    EXPECT(left == right_side && left == left_side, "a reader sees a writer's work: %" PRIu64 ", %" PRIu64 ", %" PRIu64,
           left, right_side, left_side);
    if (!dies(worker))
        return 1;
    die_and_come_back(worker);
    return 0;
}

static void *read_and_write(void *of) {
    worker_t *worker = (worker_t *)of;
    for (uint64_t round = 0; round < rounds; round++) {
        const uint32_t side = one_in(worker, means->writers) ? RWLOCK_WRITE : RWLOCK_READ;
        const status_t status = acquire(worker, side);
        if (status == INHERITED) {
            /* The dead one may have inherited it itself, asked for reading. */
            EXPECT(means->told && left_side - right_side <= 1, "the page: %" PRIu64 ", %" PRIu64, left_side,
                   right_side);
            right_side = left_side;
            heirs++;
            EXPECT(rwlock_recover(&worker->party->rwlock) == OK, "the heir cannot recover");
        }
        if (side == RWLOCK_WRITE ? write_page(worker) : read_page(worker))
            EXPECT(rwlock_give(worker->party, side) == OK, "what is held cannot be given");
        pause_now_and_then(worker);
    }
    return NULL;
}

static void recovering(void) { cells->rwlock.policy = POLICY_RECOVER; }

static void check_page(void) {
    EXPECT(left_side == writes && written == writes, "%" PRIu64 " writes, %" PRIu64 " are there", writes, left_side);
    EXPECT(writes + readings == rounds * WORKERS, "%" PRIu64 " writes, %" PRIu64 " readings", writes, readings);
    EXPECT(means->deaths != 0 || (cells->rwlock.word == 0 && rwlock_readers(&parties[0].rwlock) == 0), "all have left");
}

/* --- grants: whose time is over at the very moment when it was granted the lock reads what the writer wrote -------- */

static uint64_t heard;

static uint32_t in_line(void) {
    uint64_t wanting = 0;
    for (uint32_t at = 0; at < RWLOCK_READERS; at++)
        wanting += counts_wanting(load_relaxed_u64(&cells->rwlock.reader[at].counts));
    return (uint32_t)wanting;
}

static void write_to_all(worker_t *worker, uint64_t round) {
    rwlock_wait_t wait;
    EXPECT(rwlock_get(&wait, worker->party, RWLOCK_WRITE, FOREVER) == OK, "the writer");
    while (in_line() != WORKERS - 1)
        sched_yield();
    left_side = round;
    EXPECT(rwlock_write_give(&worker->party->rwlock) == OK, "the writer");
}

static void hear(worker_t *worker) {
    rwlock_wait_t wait;
    for (;;) {
        while (load_relaxed_u64(&cells->rwlock.word) == 0)
            sched_yield();
        if (rwlock_begin(&wait, worker->party, RWLOCK_READ, 1) == FULL)
            break;
        rwlock_read_give(&worker->party->rwlock);
    }
    while (counts_grants(load_relaxed_u64(wait.counts)) == wait.grants)
        sched_yield();
    EXPECT(rwlock_forgo(&wait), "it was granted");
    const uint64_t said = left_side;
    __atomic_fetch_add(&heard, said, __ATOMIC_RELAXED);
    EXPECT(rwlock_read_give(&worker->party->rwlock) == OK, "it was granted");
}

static void *grant(void *of) {
    worker_t *worker = (worker_t *)of;
    for (uint64_t round = 0; round < rounds; round++)
        if (worker->number == 0)
            write_to_all(worker, round);
        else
            hear(worker);
    return NULL;
}

static void check_heard(void) {
    EXPECT(heard == (WORKERS - 1) * rounds * (rounds - 1) / 2, "what was heard is %" PRIu64, heard);
}

/* --- barriers: all hand over to all ------------------------------------------------------------------------------ */

static uint64_t desk[WORKERS]; /* plain memory, and so is … */
static uint64_t acts;          /* … what the action does */
static uint32_t numbers, passed, broken;

static void act(void) { acts++; }
static void act_alone(void) { usleep(20); }

static uint32_t meet(worker_t *worker) {
    barrier_wait_t wait;
    EXPECT(barrier_meet(&wait, &worker->party->barrier, means->act, clock_ns() + DRIVER_MINUTE) == OK, "it is broken");
    return wait.value;
}

static void *meet_twice(void *of) {
    worker_t *worker = (worker_t *)of;
    for (uint64_t round = 0; round < rounds; round++) {
        desk[worker->number] = round;
        pause_now_and_then(worker);
        __atomic_fetch_add(&numbers, 1u << 8 * meet(worker), __ATOMIC_RELAXED);
        for (uint32_t i = 0; i < WORKERS; i++)
            EXPECT(desk[i] == round, "round %" PRIu64 " passed without worker %u", round, i);
        EXPECT(means->act == NULL || acts == 2 * round + 1, "%" PRIu64 " actions", acts);
        pause_now_and_then(worker);
        meet(worker);
    }
    return NULL;
}

/* With time-outs, aborts, resets and deaths: at each place, and holding the lock. */
static void *meet_or_not(void *of) {
    worker_t *worker = (worker_t *)of;
    barrier_t *barrier = &worker->party->barrier;
    for (uint64_t round = 0; round < rounds; round++) {
        barrier_wait_t wait;
        status_t status = OK;
        if (one_in(worker, means->breakages)) {
            barrier_break_now(barrier, BROKEN_ABORTED);
            continue;
        }
        if (dies(worker)) {
            if (one_in(worker, 2))
                barrier_come(&wait, barrier, one_in(worker, 2));
            if (one_in(worker, 2))
                barrier_lock(barrier);
            die_and_come_back(worker);
            continue;
        }
        if (one_in(worker, 64)) {
            barrier_leave(barrier);
        } else {
            status = barrier_meet(&wait, barrier, one_in(worker, 2) ? act_alone : NULL, some_deadline(worker));
            __atomic_fetch_add(status == OK ? &passed : &broken, 1, __ATOMIC_RELAXED);
            EXPECT(status == OK ? wait.value < WORKERS : wait.value != 0, "status %d, value %u", status, wait.value);
            EXPECT(status == OK || wait.value != BROKEN_DIED || means->deaths != 0, "nobody has died");
        }
        if (status == BROKEN && one_in(worker, 2))
            barrier_break_now(barrier, BROKEN_RESET);
    }
    return NULL;
}

static void check_met(void) {
    EXPECT(numbers == (uint32_t)rounds * 0x01010101u, "a number was given twice: %#x", numbers);
    EXPECT(barrier_waiting(&parties[0].barrier) == 0 && !barrier_broken(&parties[0].barrier),
           "the barrier is not as new");
    EXPECT(acts == (means->act == NULL ? 0 : 2 * rounds), "%" PRIu64 " actions", acts);
}

/* --- all of them ------------------------------------------------------------------------------------------------- */

static const means_t evenly = {.writers = 3};
static const means_t mortal = {.writers = 3, .deaths = 32, .told = 1};
static const means_t untold = {.writers = 3, .deaths = 32};
static const means_t without_action = {0};
static const means_t with_action = {.act = act};
static const means_t breaking = {.breakages = 32};
static const means_t breaking_and_mortal = {.breakages = 64, .deaths = 32};

static const scene_t scenes[] = {
    {"rwlock", &evenly, read_and_write, NULL, NULL, check_page, 0, 1, 2},
    {"rwlock-alone", &evenly, read_and_write, NULL, NULL, check_page, 0, 1, 1},
    {"rwlock-deaths", &mortal, read_and_write, NULL, NULL, check_page, 0, 1, 1},
    {"rwlock-untold", &untold, read_and_write, recovering, NULL, check_page, 0, 1, 1},
    {"rwlock-grants", &evenly, grant, NULL, NULL, check_heard, 0, 1, 1},
    {"barrier", &without_action, meet_twice, NULL, NULL, check_met, 0, 1, 2},
    {"barrier-action", &with_action, meet_twice, NULL, NULL, check_met, 0, 1, 1},
    {"barrier-breaks", &breaking, meet_or_not, NULL, NULL, NULL, 0, 1, 1},
    {"barrier-deaths", &breaking_and_mortal, meet_or_not, NULL, NULL, NULL, 0, 1, 1},
};

int main(int argc, char **argv) { return play_scenes(scenes, sizeof scenes / sizeof *scenes, argc, argv); }
