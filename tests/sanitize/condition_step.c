/* condition_step OPERATION: SIGKILL at every instant of one operation of a condition.
 *
 * A child is stepped through the operation (step_driver.h).  After each kill the survivor must find each notification
 * once: with the child, if that has returned, or with one that waits. */
#include "lock_step.h"

static condition_wait_t before_it, after_it, own; /* in line before and after the child, and the child itself */
static uint32_t left_by_dead;                     /* notifications, when the child started */

/* --- the operations (start_child): `result` is what the operation has come to ------------------------------------ */

static status_t condition_wait(party_t *party, condition_wait_t *wait, uint64_t deadline_ns) {
    waiter_t waiter;
    status_t status;
    waiter_init(&waiter);
    do
        status = condition_round(&party->condition, wait, &waiter, deadline_ns);
    while (status == SLICE_OVER || status == INTERRUPTED);
    return status;
}

static void begin_it(void) { condition_begin(&child_party.condition, &own); }

/* The child stands in line, between two others, and has the lock. */
static void stand_in_line(void) {
    hold();
    begin_it();
    condition_begin(&survivor.condition, &after_it); /* on the survivor's behalf, which cannot yet: see `adopt` */
}

/* … without the lock. */
static void wait_in_line(void) {
    stand_in_line();
    lock_give(&child_party.lock);
}

/* … and is the one that was notified. */
static void be_notified(void) {
    stand_in_line();
    condition_mark(&child_party.condition, own.at);
    lock_give(&child_party.lock);
}

/* … and has taken over a dead one's notification, and was notified itself. */
static void be_notified_twice(void) {
    stand_in_line();
    const uint32_t mine = own.at;
    EXPECT(condition_inherit(&child_party.condition, &own), "nothing to inherit");
    condition_mark(&child_party.condition, mine);
}

static void condition_wait_it(void) { report->result = condition_wait(&child_party, &own, soon()); }
static void condition_inherit_it(void) { report->result = condition_wait(&child_party, &own, now_or_never()); }
static void condition_end_it(void) { report->result = (uint64_t)condition_end(&child_party.condition, &own, 1); }

/* All of a wait that comes to an end. */
static void condition_return_it(void) {
    EXPECT(condition_wait(&child_party, &own, soon()) == OK, "the child was notified");
    EXPECT(lock_take(&child_party.lock), "the lock is free");
    condition_end_it();
    lock_give(&child_party.lock);
}

static void notify_it(void) { condition_notify(&child_party.condition, 1); }
static void notify_all_it(void) { condition_notify(&child_party.condition, UINT64_MAX); }

/* A planted fault, which must be found: for one instant who is notified is nowhere. */
static void notify_badly(void) {
    uint64_t *word = &cells->condition.waiter[before_it.at].word, there = *word;
    store_seq_u64(word, 0);
    store_seq_u64(word, (there & ~3ull) | WAITER_NOTIFIED);
}

/* --- states: how the line is when the child starts --------------------------------------------------------------- */

static void alone(void) {
    left_by_dead = 0;
    before_it = after_it = (condition_wait_t){.at = CONDITION_NOWHERE};
}

static void line_up(condition_wait_t *wait) {
    EXPECT(lock_take(&survivor.lock), "the lock is not free");
    condition_begin(&survivor.condition, wait);
    lock_give(&survivor.lock);
}

static void in_line(void) {
    alone();
    line_up(&before_it);
}

/* One that was notified has died before it left. */
static void dead_notified(void) {
    condition_wait_t wait;
    alone();
    join(&late);
    lock_take(&late.lock);
    condition_begin(&late.condition, &wait);
    condition_mark(&late.condition, wait.at);
    lock_give(&late.lock);
    die(&late);
    left_by_dead = 1;
}

static void dead_waits(void) {
    condition_wait_t wait;
    join(&late);
    lock_take(&late.lock);
    condition_begin(&late.condition, &wait);
    lock_give(&late.lock);
    die(&late);
    in_line();
}

static void two_in_line(void) {
    in_line();
    line_up(&after_it);
}

/* All places are taken, most by some that were notified and have not left yet; one more has none. */
static void line_is_full(void) {
    condition_wait_t wait;
    in_line();
    do
        line_up(&wait);
    while (wait.at != CONDITION_WAITERS - 1);
    line_up(&after_it);
    EXPECT(after_it.at == CONDITION_NOWHERE, "there is a place left");
    for (uint32_t at = 2; at < CONDITION_WAITERS; at++)
        cells->condition.waiter[at].word = survivor.lock.held | WAITER_NOTIFIED;
}

static void awaited_in_line(void) {
    awaited();
    in_line();
}

/* --- what must hold afterwards ----------------------------------------------------------------------------------- */

/* The survivor stands in line behind the child: where the child's process put it. */
static void adopt(void) {
    after_it = (condition_wait_t){.cell = &cells->condition, .at = CONDITION_NOWHERE, .left = CONDITION_NOWHERE};
    after_it.waits = member_word(survivor.member.id) | WAITER_WAITS;
    for (uint32_t at = CONDITION_WAITERS; at-- > 0;)
        if ((cells->condition.waiter[at].word & ~3ull) == survivor.lock.held && after_it.at == CONDITION_NOWHERE)
            after_it.at = at;
    EXPECT(after_it.at != CONDITION_NOWHERE, "who waits behind the child has lost its place");
}

static uint32_t notified_ones(void) {
    uint32_t count = 0;
    for (uint32_t at = 0; at < CONDITION_WAITERS; at++)
        count += (cells->condition.waiter[at].word & 3) == WAITER_NOTIFIED;
    return count;
}

/* Who waits, alive, gets `count` notifications, and no more: leaves, and lines up again for each of them. */
static void takes_over(uint32_t count) {
    for (uint32_t i = 0; i <= count; i++) {
        const status_t status = condition_wait(&survivor, &after_it, now_or_never());
        EXPECT(status == (i < count ? OK : TIMED_OUT), "notification %u of %u: status %d", i + 1, count, status);
        have(&survivor.lock);
        EXPECT(condition_end(&survivor.condition, &after_it, 1) == (i < count), "whether it was notified");
        if (i < count)
            condition_begin(&survivor.condition, &after_it);
        lock_give(&survivor.lock);
    }
}

/* A notification goes past the dead, to one who lives. */
static void condition_works(void) {
    condition_wait_t wait;
    have(&survivor.lock);
    for (uint32_t at = 0; at < CONDITION_WAITERS; at++)
        if ((cells->condition.waiter[at].word & ~3ull) == survivor.lock.held)
            place_free(&cells->condition, at);
    condition_begin(&survivor.condition, &wait);
    condition_notify(&survivor.condition, 1);
    EXPECT(condition_wait(&survivor, &wait, now_or_never()) == OK, "one who lives is passed over");
    EXPECT(condition_end(&survivor.condition, &wait, 1) == 1, "it was notified");
    condition_notify(&survivor.condition, UINT64_MAX);
    EXPECT(condition_waiting(&cells->condition) == 0, "somebody dead still waits");
    lock_works(&survivor.lock);
}

/* Who stands in line behind the child gets what has not been used up, and then what is sent. */
static void goes_to_the_next(uint32_t count) {
    takes_over(count);
    have(&survivor.lock);
    condition_notify(&survivor.condition, 1);
    lock_give(&survivor.lock);
    takes_over(1);
    condition_works();
}

static void check_begun(void) {
    have(&survivor.lock);
    condition_begin(&survivor.condition, &after_it);
    lock_give(&survivor.lock);
    takes_over(left_by_dead);
    condition_works();
}

static void check_waited(void) {
    adopt();
    EXPECT(!report->finished || report->result == (left_by_dead ? OK : TIMED_OUT), "status %d", (int)report->result);
    goes_to_the_next(left_by_dead);
}

static void check_notified(void) {
    adopt();
    goes_to_the_next(1);
}

/* One notification: the child's that has returned, or somebody else's. */
static void check_returned(void) {
    adopt();
    const uint32_t left = notified_ones();
    EXPECT(left <= 1 && (!report->finished || (left == 0 && report->result == 1)), "%u notifications", left);
    goes_to_the_next(left);
}

static void check_ended(void) {
    adopt();
    EXPECT(!report->finished || report->result == 0, "nobody has notified it");
    goes_to_the_next(0);
}

/* Two, of which the child has used up one at most. */
static void check_ended_twice(void) {
    adopt();
    const uint32_t left = notified_ones();
    EXPECT(left >= 1 && left <= 2 && (!report->finished || (left == 1 && report->result == 1)), "%u notifications",
           left);
    goes_to_the_next(left);
}

/* Was who stands there notified?  Nobody loses its place. */
static int was_notified(const condition_wait_t *wait) {
    if (wait->at == CONDITION_NOWHERE)
        return condition_ready(wait);
    const uint64_t word = cells->condition.waiter[wait->at].word;
    EXPECT(word == wait->waits || word == (survivor.lock.held | WAITER_NOTIFIED), "a waiter has lost its place");
    return word != wait->waits;
}

static void check_notify(int all) {
    const int first = was_notified(&before_it), second = after_it.cell != NULL && was_notified(&after_it);
    EXPECT(!report->finished || first, "the first in line was not notified");
    EXPECT(all ? first || !second : !second, "one notification too many");
    EXPECT(!all || !report->finished || !after_it.cell || second, "the last in line was not notified");
    condition_wait_t wait = before_it;
    EXPECT(condition_wait(&survivor, &wait, now_or_never()) == (first ? OK : TIMED_OUT), "who was notified");
    condition_works();
}

static void check_notify_one(void) { check_notify(0); }
static void check_notify_all(void) { check_notify(1); }

/* --- somebody is asleep in line while the child notifies --------------------------------------------------------- */

static condition_wait_t in_line_asleep;
static int patient; /* it sleeps until it is woken */

static void other_in_line(void) {
    EXPECT(lock_take(&other.lock), "the lock is not free");
    condition_begin(&other.condition, &in_line_asleep);
    lock_give(&other.lock);
}

static void *sleep_in_line(void *unused) {
    condition_wait_t wait = in_line_asleep;
    waiter_t waiter;
    waiter_init(&waiter);
    if (patient)
        waiter.slice_ns = 2 * DRIVER_MINUTE;
    do
        slept = condition_round(&other.condition, &wait, &waiter, clock_ns() + 2 * DRIVER_MINUTE);
    while (slept == SLICE_OVER || slept == INTERRUPTED);
    return unused;
}

/* The kernel moves who sleeps on a word to that same word, and says how many those are. */
static void sleeper_in_line(void) {
    uint64_t *word = &cells->condition.waiter[in_line_asleep.at].word;
    put_to_sleep(sleep_in_line, NULL);
    while (patient && syscall(SYS_futex, word, FUTEX_REQUEUE, 0, (void *)1, word, 0) != 1)
        sched_yield();
}

static void patient_in_line(void) {
    patient = 1;
    sleeper_in_line();
}

/* It returns once it was notified, by the child or by the survivor. */
static void check_sleeper_in_line(void) {
    const int marked = (cells->condition.waiter[in_line_asleep.at].word & 3) == WAITER_NOTIFIED;
    EXPECT(marked || !report->finished, "who sleeps in line was not notified");
    EXPECT(!(patient && report->finished) || (cells->lock.gate & GATE_ASLEEP), "nobody will wake who sleeps there");
    have(&survivor.lock);
    if (!marked)
        condition_notify(&survivor.condition, 1);
    lock_give(&survivor.lock); /* wakes it */
    awake();
    EXPECT(slept == OK, "the sleeper: status %d", slept);
}

/* --- all of them ------------------------------------------------------------------------------------------------- */

/* The lock's last holder has released it long ago, and comes to the gate only now. */
static void late_wake(void) { gate_wake(&cells->lock.gate, 1); }

static const operation_t operations[] = {
    {"condition-begin", hold, begin_it, check_begun, {alone, in_line, dead_notified, dead_waits}, NULL, NULL},
    {"condition-wait", wait_in_line, condition_wait_it, check_waited, {alone, dead_notified}, NULL, NULL},
    {"condition-inherit", wait_in_line, condition_inherit_it, check_waited, {dead_notified}, NULL, NULL},
    {"condition-wake", be_notified, condition_wait_it, check_notified, {alone}, NULL, NULL},
    {"condition-return", be_notified, condition_return_it, check_returned, {alone}, NULL, NULL},
    {"condition-end", stand_in_line, condition_end_it, check_ended, {alone}, NULL, NULL},
    {"condition-end-twice", be_notified_twice, condition_end_it, check_ended_twice, {dead_notified}, NULL, NULL},
    {"notify", hold, notify_it, check_notify_one, {in_line, two_in_line, dead_waits, awaited_in_line}, NULL, NULL},
    {"notify-all", hold, notify_all_it, check_notify_all, {in_line, two_in_line, dead_waits, line_is_full}, NULL, NULL},
    {"notify-asleep", hold, notify_it, check_sleeper_in_line, {other_in_line}, sleeper_in_line, NULL},
    {"notify-late-wake", hold, notify_it, check_sleeper_in_line, {other_in_line}, patient_in_line, late_wake},
    {"notify-badly", hold, notify_badly, check_notify_one, {in_line}, NULL, NULL},
};

int main(int argc, char **argv) {
    return step_operations(operations, sizeof operations / sizeof *operations, 0, argc, argv);
}
