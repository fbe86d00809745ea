/* lock_threads SCENE ROUNDS SEED [FUNCTION]: the primitives between threads on one mapping, for the sanitizers.
 *
 * The FUNCTION is one with a planted fault (mutants.h), which has to be found.
 *
 * Ways to take, pauses, time-outs and deaths follow from SEED.  Ends with 0 if nobody was where another one was, and
 * nothing was lost; a sanitizer that finds something ends it with another status. */
#include "lock_threads.h"

/* What is guarded: plain memory. */
static uint64_t inside, entries, deaths, heirs;

/* --- exclusion: one at a time, by whatever means ----------------------------------------------------------------- */

struct means {
    status_t (*attempt)(worker_t *);
    status_t (*wait)(worker_t *, waiter_t *, uint64_t deadline_ns);
    status_t (*give)(worker_t *);
    uint64_t deaths; /* one in so many; 0: nobody dies */
};

static status_t lock_attempt(worker_t *worker) {
    lock_wait_t wait = {.lock = &worker->party->lock};
    return one_in(worker, 2) ? lock_try(&wait) : lock_take(wait.lock) ? OK : FULL;
}

static status_t lock_await(worker_t *worker, waiter_t *waiter, uint64_t deadline_ns) {
    lock_wait_t wait = {.lock = &worker->party->lock};
    return lock_round(&wait, waiter, deadline_ns);
}

static status_t lock_release(worker_t *worker) { return lock_give(&worker->party->lock); }

static status_t rlock_entered(worker_t *worker, status_t status) {
    if (status == OK || status == INHERITED) {
        EXPECT(!lock_thread_mine(&worker->party->rlock), "another one's depth");
        rlock_enter(&worker->party->rlock, 1);
        EXPECT(rlock_again(&worker->party->rlock) == OK && rlock_give(&worker->party->rlock) == OK, "a second level");
    }
    return status;
}

static status_t rlock_attempt(worker_t *worker) {
    lock_wait_t wait = {.lock = &worker->party->rlock};
    EXPECT(rlock_again(wait.lock) == FULL, "another thread's is not mine");
    return rlock_entered(worker, lock_try(&wait));
}

static status_t rlock_await(worker_t *worker, waiter_t *waiter, uint64_t deadline_ns) {
    lock_wait_t wait = {.lock = &worker->party->rlock};
    return rlock_entered(worker, lock_round(&wait, waiter, deadline_ns));
}

static status_t rlock_release(worker_t *worker) { return rlock_give(&worker->party->rlock); }

static status_t counted_attempt(worker_t *worker) { return semaphore_try(&worker->party->counted); }
static status_t counted_await(worker_t *worker, waiter_t *waiter, uint64_t deadline_ns) {
    return semaphore_round(&worker->party->counted, waiter, deadline_ns);
}
static status_t counted_release(worker_t *worker) { return semaphore_give(&worker->party->counted, 1); }

static status_t owned_attempt(worker_t *worker) { return semaphore_try(&worker->party->owned); }
static status_t owned_await(worker_t *worker, waiter_t *waiter, uint64_t deadline_ns) {
    return semaphore_round(&worker->party->owned, waiter, deadline_ns);
}
static status_t owned_release(worker_t *worker) { return semaphore_give(&worker->party->owned, 1); }

static const means_t by_lock = {lock_attempt, lock_await, lock_release, 0};
static const means_t by_rlock = {rlock_attempt, rlock_await, rlock_release, 0};
static const means_t by_counted = {counted_attempt, counted_await, counted_release, 0};
static const means_t by_owned = {owned_attempt, owned_await, owned_release, 0};
static const means_t by_lock_dying = {lock_attempt, lock_await, lock_release, 32};
static const means_t by_owned_dying = {owned_attempt, owned_await, owned_release, 32};

/* Until it is ours: tries, and waits with a deadline, again and again. */
static status_t take(worker_t *worker) {
    for (;;) {
        status_t status = means->attempt(worker);
        if (status == FULL) {
            waiter_t waiter;
            const uint64_t deadline = some_deadline(worker);
            waiter_init(&waiter);
            do
                status = means->wait(worker, &waiter, deadline);
            while (status == SLICE_OVER || status == INTERRUPTED);
        }
        if (status == OK || status == INHERITED)
            return status;
        EXPECT(status == FULL || status == TIMED_OUT, "taking: status %d", status);
    }
}

static void *exclude(void *of) {
    worker_t *worker = (worker_t *)of;
    for (uint64_t round = 0; round < rounds; round++) {
        const status_t status = take(worker);
        if (means->deaths != 0)
            __atomic_load_n(&kernel, __ATOMIC_ACQUIRE);
        if (inside != 0) { /* whoever was here has died here */
            EXPECT(means->deaths != 0 && (means != &by_lock_dying || status == INHERITED), "two at once");
            inside = 0;
            heirs++;
        }
        EXPECT(status != INHERITED || lock_recover(&worker->party->lock) == OK, "the heir cannot recover");
        inside = 1;
        entries++;
        pause_now_and_then(worker);
        if (means->deaths != 0 && one_in(worker, means->deaths)) {
            deaths++;
            die_and_come_back(worker);
            continue;
        }
        inside = 0;
        EXPECT(means->give(worker) == OK, "what is held cannot be given");
        pause_now_and_then(worker);
    }
    return NULL;
}

static void check_exclusion(void) {
    EXPECT(entries == rounds * WORKERS, "%" PRIu64 " entries", entries);
    EXPECT(deaths - heirs == inside, "%" PRIu64 " deaths, %" PRIu64 " heirs", deaths, heirs);
}

/* --- permits: several at once, up to two each -------------------------------------------------------------------- */

static uint32_t among_us; /* permits that are held */

static void *share(void *of) {
    worker_t *worker = (worker_t *)of;
    semaphore_t *semaphore = means == &by_owned ? &worker->party->owned : &worker->party->counted;
    for (uint64_t round = 0; round < rounds; round++) {
        uint32_t mine = 1;
        take(worker);
        EXPECT(__atomic_add_fetch(&among_us, 1, __ATOMIC_RELAXED) <= PERMITS, "a permit that there is not");
        if (one_in(worker, 2)) {
            waiter_t waiter;
            waiter_init(&waiter);
            if (means->wait(worker, &waiter, clock_ns() + 100000) == OK) {
                EXPECT(__atomic_add_fetch(&among_us, 1, __ATOMIC_RELAXED) <= PERMITS, "a permit that there is not");
                mine = 2;
            }
        }
        pause_now_and_then(worker);
        __atomic_sub_fetch(&among_us, mine, __ATOMIC_RELAXED);
        EXPECT(semaphore_give(semaphore, mine) == OK, "what is held cannot be given");
    }
    return NULL;
}

static void check_permits(void) {
    const uint32_t value = semaphore_value(means == &by_owned ? &parties[0].owned : &parties[0].counted);
    EXPECT(value == PERMITS, "%u permits are left", value);
}

/* --- events: to and fro; half of the workers only look on -------------------------------------------------------- */

static uint64_t ball;

static int wait_for(worker_t *worker, event_cell_t *cell, uint64_t deadline_ns) {
    event_wait_t wait;
    waiter_t waiter;
    status_t status = OK;
    waiter_init(&waiter);
    if (one_in(worker, 8) && event_is_up(cell))
        return 1;
    if (!event_begin(&wait, cell))
        do
            status = event_round(&wait, &waiter, deadline_ns);
        while (status == SLICE_OVER || status == INTERRUPTED);
    EXPECT(status == OK || status == TIMED_OUT, "waiting for an event: status %d", status);
    return status == OK;
}

static void *play(void *of) {
    worker_t *worker = (worker_t *)of;
    event_cell_t *mine = worker->number == 0 ? &cells->event : &cells->answer;
    event_cell_t *theirs = worker->number == 0 ? &cells->answer : &cells->event;
    for (uint64_t round = 0; round < rounds; round++) {
        if (worker->number > 1) {
            wait_for(worker, mine, some_deadline(worker));
            continue;
        }
        if (worker->number == 1 || round != 0) {
            while (!wait_for(worker, theirs, some_deadline(worker)))
                ;
            event_clear(theirs);
        }
        EXPECT(ball == 2 * round + worker->number, "the ball is %" PRIu64 " in round %" PRIu64, ball, round);
        ball++;
        event_set(mine);
        pause_now_and_then(worker);
    }
    return NULL;
}

static void check_play(void) { EXPECT(ball == 2 * rounds, "the ball is %" PRIu64, ball); }

/* --- conditions -------------------------------------------------------------------------------------------------- */

/* Waits under the lock, which is held before and after.  `woken`, if any, runs in between, without the lock. */
static int condition_await(worker_t *worker, uint64_t deadline_ns, void (*woken)(void)) {
    condition_t *condition = &worker->party->condition;
    condition_wait_t wait;
    waiter_t waiter;
    status_t status;
    waiter_init(&waiter);
    condition_begin(condition, &wait);
    lock_give(condition->lock);
    do
        status = condition_round(condition, &wait, &waiter, deadline_ns);
    while (status == SLICE_OVER || status == INTERRUPTED);
    EXPECT(status == OK || status == TIMED_OUT, "waiting for a condition: status %d", status);
    if (status == OK && woken != NULL)
        woken();
    if (means->deaths != 0 && one_in(worker, means->deaths)) {
        die_and_come_back(worker); /* in line, notified or not; and somebody else goes on as if nothing had been */
        take(worker);
        return 0;
    }
    take(worker);
    const int notified = condition_end(condition, &wait, 1);
    EXPECT(notified || status == TIMED_OUT, "woken, and not notified");
    return notified;
}

/* A queue: half of the workers put, half of them get. */
static uint64_t stock, put, got, sent, received;

static void *trade(void *of) {
    worker_t *worker = (worker_t *)of;
    const int puts = worker->number % 2 == 0;
    for (uint64_t round = 0; round < rounds; round++) {
        take(worker);
        if (puts) {
            const uint32_t standing = condition_waiting(&cells->condition);
            const uint64_t count = one_in(worker, 8) ? UINT64_MAX : 1;
            stock++;
            put++;
            sent += count < standing ? count : standing;
            condition_notify(&worker->party->condition, count);
        } else {
            while (stock == 0)
                received += (uint64_t)condition_await(worker, some_deadline(worker), NULL);
            stock--;
            got++;
        }
        lock_give(&worker->party->lock);
        pause_now_and_then(worker);
    }
    return NULL;
}

static void check_trade(void) {
    EXPECT(stock == 0 && put == got && got == rounds * WORKERS / 2, "%" PRIu64 " put, %" PRIu64 " got", put, got);
    /* Of those who stood there some were dead, and some were notified that did not live to hear of it. */
    EXPECT(sent == received || means->deaths != 0, "%" PRIu64 " notified, %" PRIu64 " were", sent, received);
}

/* One tells, the others hear: who was notified may read what was written before, even without the lock. */
static uint64_t news, listening;
static uint64_t heard;

static void hear(void) {
    const uint64_t read = news;
    __atomic_fetch_add(&heard, read, __ATOMIC_RELAXED);
}

static void *tell(void *of) {
    worker_t *worker = (worker_t *)of;
    for (uint64_t round = 0; round < rounds; round++) {
        take(worker);
        if (worker->number != 0) {
            listening++;
            while (!condition_await(worker, clock_ns() + DRIVER_MINUTE, hear))
                ;
        } else {
            while (listening != WORKERS - 1) {
                lock_give(&worker->party->lock);
                sched_yield();
                take(worker);
            }
            listening = 0;
            news = round;
            condition_notify(&worker->party->condition, UINT64_MAX);
        }
        lock_give(&worker->party->lock);
        pause_now_and_then(worker);
    }
    return NULL;
}

static void check_told(void) {
    EXPECT(heard == (WORKERS - 1) * rounds * (rounds - 1) / 2, "what was heard is %" PRIu64, heard);
}

/* All places are taken, by one that was notified and has not left yet. */
static void crowd(void) {
    for (uint32_t at = 0; at < CONDITION_WAITERS; at++)
        cells->condition.waiter[at].word = parties[WORKERS - 1].lock.held | WAITER_NOTIFIED;
}

/* --- signals: a handler that takes longer than the slice that it interrupts -------------------------------------- */

static uint32_t waiting;

static void handle(int number) { (void)number; }

static void wait_in_vain(worker_t *worker, waiter_t *waiter) {
    const uint64_t deadline = clock_ns() + 8 * SLICE_FIRST_NS;
    status_t status;
    do {
        status = means->wait(worker, waiter, deadline);
        while (status == INTERRUPTED && clock_ns() <= waiter->slice_end_ns)
            ; /* the handler */
    } while (status == SLICE_OVER || status == INTERRUPTED);
    EXPECT(status == TIMED_OUT, "waiting for what cannot be had: status %d", status);
}

static void *be_interrupted(void *of) {
    for (uint64_t round = 0; round < rounds; round++) {
        waiter_t waiter;
        waiter_init(&waiter);
        wait_in_vain((worker_t *)of, &waiter);
    }
    __atomic_sub_fetch(&waiting, 1, __ATOMIC_RELAXED);
    return NULL;
}

/* One that was interrupted before, and will not be again: nothing but its deadline ends its wait. */
static void *come_late(void *of) {
    for (uint64_t round = 0; round < rounds; round++) {
        waiter_t waiter;
        waiter_init(&waiter);
        waiter.begun_ns = waiter.slice_end_ns = clock_ns();
        wait_in_vain((worker_t *)of, &waiter);
    }
    return NULL;
}

static void interrupt(void) {
    while (__atomic_load_n(&waiting, __ATOMIC_RELAXED) != 0) {
        for (uint32_t i = 0; i < WORKERS; i++)
            pthread_kill(workers[i].thread, SIGUSR1);
        usleep(300);
    }
}

static void hold_all(void) {
    const struct sigaction action = {.sa_handler = handle};
    EXPECT(sigaction(SIGUSR1, &action, NULL) == 0, "no handler: %m");
    EXPECT(lock_take(&parties[0].lock), "not free");
    waiting = WORKERS;
}

/* --- all of them ------------------------------------------------------------------------------------------------- */

static const scene_t scenes[] = {
    {"lock", &by_lock, exclude, NULL, NULL, check_exclusion, 0, 1, 2},
    {"rlock", &by_rlock, exclude, NULL, NULL, check_exclusion, 0, 1, 2},
    {"counted", &by_counted, exclude, NULL, NULL, check_exclusion, 1, 1, 2},
    {"owned", &by_owned, exclude, NULL, NULL, check_exclusion, 0, 1, 2},
    {"lock-deaths", &by_lock_dying, exclude, NULL, NULL, check_exclusion, 0, 1, 1},
    {"owned-deaths", &by_owned_dying, exclude, NULL, NULL, check_exclusion, 0, 1, 1},
    {"counted-permits", &by_counted, share, NULL, NULL, check_permits, PERMITS, 1, 2},
    {"owned-permits", &by_owned, share, NULL, NULL, check_permits, 0, PERMITS, 1},
    {"event", NULL, play, NULL, NULL, check_play, 0, 1, 2},
    {"condition-queue", &by_lock, trade, NULL, NULL, check_trade, 0, 1, 1},
    {"condition-deaths", &by_lock_dying, trade, NULL, NULL, check_trade, 0, 1, 1},
    {"condition-news", &by_lock, tell, NULL, NULL, check_told, 0, 1, 1},
    {"condition-crowd", &by_lock, tell, crowd, NULL, check_told, 0, 1, 1},
    {"signals", &by_lock, be_interrupted, hold_all, interrupt, NULL, 0, 1, 2},
    {"late", &by_lock, come_late, hold_all, NULL, NULL, 0, 1, 2},
};

int main(int argc, char **argv) { return play_scenes(scenes, sizeof scenes / sizeof *scenes, argc, argv); }
