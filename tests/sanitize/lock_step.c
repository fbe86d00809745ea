/* lock_step OPERATION: SIGKILL at every instant of one operation of a lock, semaphore, event or condition.
 *
 * A child is stepped through the operation (step_driver.h).  After each kill this process, the survivor, must find: a
 * lock that it can have at the first question, and be told exactly if the word named the dead one; no permit more than
 * there were, and of owned ones none less; the flag up or down; and who slept at a gate awake.  Done from each state
 * that the operation can begin in. */
#include "lock_step.h"

/* --- the operations (start_child): `result` is what the operation has come to ------------------------------------ */

static void join_only(void) {
    join(&child_party);
    report->result = child_party.member.id;
}

static void lock_take_it(void) { report->result = lock_take(&child_party.lock) ? OK : FULL; }
static void lock_try_it(void) { report->result = lock_attempt(&child_party.lock); }
static void lock_wait_it(void) { report->result = lock_wait(&child_party.lock, soon()); }
static void lock_give_it(void) { report->result = lock_give(&child_party.lock); }
static void lock_recover_it(void) { report->result = lock_recover(&child_party.lock); }

static void rlock_enter_it(void) {
    const status_t status = lock_attempt(&child_party.rlock);
    if (status == OK || status == INHERITED) {
        rlock_enter(&child_party.rlock, 1);
        EXPECT(rlock_again(&child_party.rlock) == OK, "not the child's own");
    }
    report->result = status;
}

static void hold_twice(void) {
    be();
    rlock_enter_it();
}

static void rlock_give_it(void) {
    rlock_give(&child_party.rlock);
    report->result = rlock_give(&child_party.rlock);
}

static status_t permit_wait(semaphore_t *semaphore, uint64_t deadline_ns) {
    waiter_t waiter;
    status_t status;
    waiter_init(&waiter);
    do
        status = semaphore_round(semaphore, &waiter, deadline_ns);
    while (status == SLICE_OVER || status == INTERRUPTED);
    return status;
}

static void counted_take_it(void) { report->result = semaphore_try(&child_party.counted); }
static void counted_wait_it(void) { report->result = permit_wait(&child_party.counted, soon()); }
static void counted_give_it(void) { report->result = semaphore_give(&child_party.counted, 1); }
static void owned_take_it(void) { report->result = semaphore_try(&child_party.owned); }
static void owned_wait_it(void) { report->result = permit_wait(&child_party.owned, soon()); }
static void owned_give_it(void) { report->result = semaphore_give(&child_party.owned, 1); }

static void hold_permit(void) {
    be();
    EXPECT(owned_take(&child_party.owned, 1), "no permit for the child");
}

static void event_set_it(void) { event_set(&cells->event); }
static void event_clear_it(void) { event_clear(&cells->event); }

/* --- states: how the cells are when the child starts ------------------------------------------------------------- */

static void held_by_survivor(void) {
    EXPECT(lock_take(&survivor.lock) && lock_take(&survivor.rlock), "not free");
    rlock_enter(&survivor.rlock, 1);
}

static void held_by_dead(void) {
    join(&late);
    EXPECT(lock_take(&late.lock) && lock_take(&late.rlock), "not free");
    rlock_enter(&late.rlock, 1);
    die(&late);
}

static void one_counted(void) { cells->counted.value = 1; }
static void all_counted(void) { cells->counted.value = PERMITS; }

static void two_owned(void) { EXPECT(owned_take(&survivor.owned, 0) && owned_take(&survivor.owned, 0), "no permit"); }

static void dead_owned(void) {
    two_owned();
    join(&late);
    EXPECT(owned_take(&late.owned, 0), "no permit");
    die(&late);
}

static void up(void) { event_set(&cells->event); }

/* --- what must hold afterwards; each leaves the cell as good as new, and proves it ------------------------------- */

static void check_taken(const lock_cell_t *cell) {
    if (!report->finished)
        return;
    const int has = report->result == OK || report->result == INHERITED;
    EXPECT(has == names_child(cell->word), "status %d, and the word is %#" PRIx64, (int)report->result, cell->word);
    EXPECT((report->result == INHERITED) == (has && (cell->word & LOCK_INCONSISTENT)), "the heir is not told");
}

static void check_lock(void) {
    check_taken(&cells->lock);
    have(&survivor.lock);
    lock_works(&survivor.lock);
}

static void check_given(void) {
    if (report->finished)
        EXPECT(!names_child(cells->lock.word) && (report->result == OK || report->result == LOST), "it was released");
    if (is_lost(&survivor.lock))
        return;
    have(&survivor.lock);
    lock_works(&survivor.lock);
}

static void check_recovered(void) {
    EXPECT(names_child(cells->lock.word), "the heir holds the lock");
    if (report->finished && report->result == OK)
        EXPECT(!(cells->lock.word & LOCK_INCONSISTENT), "it was recovered");
    have(&survivor.lock);
    lock_works(&survivor.lock);
}

static void check_rlock(void) {
    const int mine = lock_mine(&survivor.rlock);
    if (is_lost(&survivor.rlock))
        return;
    have(&survivor.rlock);
    if (!mine) {
        EXPECT(!lock_thread_mine(&survivor.rlock), "the dead one's thread passes for one of the heir's");
        EXPECT(rlock_give(&survivor.rlock) == NOT_HELD, "a thread that has not entered can leave");
        rlock_enter(&survivor.rlock, 1);
    }
    EXPECT(rlock_again(&survivor.rlock) == OK && rlock_give(&survivor.rlock) == OK, "a second level");
    EXPECT(rlock_give(&survivor.rlock) == OK && cells->rlock.word == 0 && cells->rlock.depth == 0, "all levels");
    EXPECT(lock_take(&survivor.rlock), "the lock does not work any more");
    rlock_enter(&survivor.rlock, 1);
    EXPECT(rlock_give(&survivor.rlock) == OK, "the lock does not work any more");
}

static void check_rlock_entered(void) {
    check_taken(&cells->rlock);
    check_rlock();
}

static void check_counted(int change) {
    const uint32_t value = cells->counted.value, after = cells_before.counted.value + (uint32_t)change;
    EXPECT(value == cells_before.counted.value || value == after, "%u permits of %u", value,
           cells_before.counted.value);
    EXPECT(!report->finished || value == (report->result == OK ? after : cells_before.counted.value),
           "status %d, and %u permits of %u", (int)report->result, value, cells_before.counted.value);
    for (uint32_t i = 0; i < value; i++)
        EXPECT(permit_wait(&survivor.counted, now_or_never()) == OK, "a permit that cannot be had");
    EXPECT(semaphore_try(&survivor.counted) == FULL && permit_wait(&survivor.counted, now_or_never()) == TIMED_OUT,
           "a permit that there is not");
    EXPECT(semaphore_give(&survivor.counted, PERMITS) == OK && semaphore_give(&survivor.counted, 1) == TOO_MANY,
           "the semaphore does not work any more");
}

static void check_counted_taken(void) { check_counted(-1); }
static void check_counted_given(void) { check_counted(1); }

static void check_owned(void) {
    uint32_t mine = 0, its = 0;
    for (uint32_t at = 0; at < PERMITS; at++) {
        mine += cells->owners[at] == survivor.owned.held;
        its += names_child(cells->owners[at]);
    }
    EXPECT(its <= 1, "the child has %u permits", its);
    /* All but what a living one has comes back. */
    for (; mine < PERMITS; mine++)
        EXPECT(permit_wait(&survivor.owned, now_or_never()) == OK, "permit %u does not come back", mine);
    EXPECT(!owned_take(&survivor.owned, 1), "a permit that there is not");
    EXPECT(semaphore_give(&survivor.owned, PERMITS + 1) == NOT_HELD, "one too many");
    EXPECT(semaphore_give(&survivor.owned, PERMITS) == OK && owned_free(&survivor.owned) == PERMITS, "all are free");
}

static void check_owned_taken(void) {
    uint32_t its = 0;
    for (uint32_t at = 0; at < PERMITS; at++)
        its += names_child(cells->owners[at]);
    EXPECT(!report->finished || its == (report->result == OK), "status %d, and %u permits", (int)report->result, its);
    check_owned();
}

static void check_owned_given(void) {
    for (uint32_t at = 0; report->finished && at < PERMITS; at++)
        EXPECT(!names_child(cells->owners[at]), "it was released");
    check_owned();
}

static void check_event(uint64_t after) {
    event_wait_t wait = {.cell = &cells->event, .before = cells_before.event.word};
    const uint64_t word = cells->event.word;
    EXPECT(word == after || (!report->finished && word == cells_before.event.word), "the word is %#" PRIx64, word);
    EXPECT(event_ready(&wait) == ((word & EVENT_UP) || word / 2 != cells_before.event.word / 2), "who waited");
    event_set(&cells->event);
    EXPECT(event_is_up(&cells->event) && event_begin(&wait, &cells->event), "the flag is up");
    event_clear(&cells->event);
    EXPECT(!event_is_up(&cells->event) && !event_begin(&wait, &cells->event), "the flag is down");
    event_set(&cells->event);
    event_clear(&cells->event);
    EXPECT(event_ready(&wait), "the flag has been up");
}

static void check_set(void) {
    check_event(cells_before.event.word & EVENT_UP ? cells_before.event.word
                                                   : (cells_before.event.word + EVENT_STEP) | EVENT_UP);
}
static void check_cleared(void) { check_event(cells_before.event.word & ~(uint64_t)EVENT_UP); }

static void check_joined(void) {
    EXPECT(!report->finished || member_died(&survivor.member, report->result), "the dead one passes for alive");
    EXPECT(lease_ask(lease_fd, lease_inode, LEASE_MEMBERS + (int64_t)survivor.member.id) == LEASE_HELD, "I live");
}

/* --- somebody is asleep while the child operates ----------------------------------------------------------------- */

static void *sleep_for_lock(void *unused) {
    slept = lock_wait(&other.lock, clock_ns() + DRIVER_MINUTE);
    return unused;
}

static void *sleep_for_counted(void *unused) {
    slept = permit_wait(&other.counted, clock_ns() + DRIVER_MINUTE);
    return unused;
}

static void *sleep_for_owned(void *unused) {
    slept = permit_wait(&other.owned, clock_ns() + DRIVER_MINUTE);
    return unused;
}

static void *sleep_for_event(void *unused) {
    event_wait_t wait;
    waiter_t waiter;
    waiter_init(&waiter);
    slept = OK;
    if (!event_begin(&wait, &cells->event))
        do
            slept = event_round(&wait, &waiter, clock_ns() + DRIVER_MINUTE);
        while (slept == SLICE_OVER || slept == INTERRUPTED);
    return unused;
}

static void sleeper_at_lock(void) { put_to_sleep(sleep_for_lock, &cells->lock.gate); }
static void sleeper_at_counted(void) { put_to_sleep(sleep_for_counted, &cells->counted.gate); }
static void sleeper_at_event(void) { put_to_sleep(sleep_for_event, &cells->event.gate); }

/* One by one, the others being the survivor's. */
static void sleeper_at_owned(void) { put_to_sleep(sleep_for_owned, &cells->owned.gate); }

static void check_lock_sleeper(void) {
    awake();
    EXPECT(slept == OK || (slept == INHERITED && told && !report->finished), "the sleeper: status %d", slept);
    EXPECT((slept == INHERITED) == ((cells->lock.word & LOCK_INCONSISTENT) != 0), "the heir is not told");
    EXPECT(slept == OK || lock_recover(&other.lock) == OK, "the heir cannot recover");
    EXPECT(lock_give(&other.lock) == OK, "the sleeper has the lock");
    have(&survivor.lock);
    lock_works(&survivor.lock);
}

static void check_counted_sleeper(void) {
    if (!report->finished)
        semaphore_give(&survivor.counted, 1); /* if the child's has not come, this one has */
    awake();
    const uint32_t value = cells->counted.value;
    EXPECT(slept == OK && value <= 1 && !(report->finished && value != 0), "status %d, %u permits", slept, value);
}

/* What the child has given is free, and what it has not comes back. */
static void check_owned_sleeper(void) {
    awake();
    EXPECT(slept == OK && semaphore_give(&other.owned, 1) == OK, "the sleeper: status %d", slept);
    check_owned();
}

static void check_event_sleeper(void) {
    if (!event_is_up(&cells->event))
        event_set(&cells->event);
    awake();
    EXPECT(slept == OK, "the sleeper: status %d", slept);
}

/* --- all of them ------------------------------------------------------------------------------------------------- */

static const operation_t operations[] = {
    {"member-join", as_made, join_only, check_joined, {as_made}, NULL, NULL},
    {"lock-take", be, lock_take_it, check_lock, {as_made, held_by_survivor, held_by_dead}, NULL, NULL},
    {"lock-try", be, lock_try_it, check_lock, {as_made, held_by_survivor, held_by_dead}, NULL, NULL},
    {"lock-wait", be, lock_wait_it, check_lock, {as_made, held_by_survivor, held_by_dead}, NULL, NULL},
    {"lock-give", hold, lock_give_it, check_given, {as_made, held_by_dead, awaited}, NULL, NULL},
    {"lock-give-asleep", hold, lock_give_it, check_lock_sleeper, {as_made}, sleeper_at_lock, NULL},
    {"lock-recover", hold, lock_recover_it, check_recovered, {as_made, held_by_dead}, NULL, NULL},
    {"rlock-enter", be, rlock_enter_it, check_rlock_entered, {as_made, held_by_survivor, held_by_dead}, NULL, NULL},
    {"rlock-give", hold_twice, rlock_give_it, check_rlock, {as_made, held_by_dead, awaited}, NULL, NULL},
    {"counted-take", be, counted_take_it, check_counted_taken, {as_made, one_counted, all_counted}, NULL, NULL},
    {"counted-wait", be, counted_wait_it, check_counted_taken, {as_made, one_counted}, NULL, NULL},
    {"counted-give", be, counted_give_it, check_counted_given, {as_made, one_counted, awaited}, NULL, NULL},
    {"counted-give-asleep", be, counted_give_it, check_counted_sleeper, {as_made}, sleeper_at_counted, NULL},
    {"owned-take", be, owned_take_it, check_owned_taken, {as_made, two_owned, dead_owned}, NULL, NULL},
    {"owned-wait", be, owned_wait_it, check_owned_taken, {two_owned, dead_owned}, NULL, NULL},
    {"owned-give", hold_permit, owned_give_it, check_owned_given, {as_made, dead_owned, awaited}, NULL, NULL},
    {"owned-give-asleep", hold_permit, owned_give_it, check_owned_sleeper, {two_owned}, sleeper_at_owned, NULL},
    {"event-set", be, event_set_it, check_set, {as_made, up, awaited}, NULL, NULL},
    {"event-set-asleep", be, event_set_it, check_event_sleeper, {as_made}, sleeper_at_event, NULL},
    {"event-clear", be, event_clear_it, check_cleared, {as_made, up}, NULL, NULL},
};

int main(int argc, char **argv) {
    return step_operations(operations, sizeof operations / sizeof *operations, 1, argc, argv);
}
