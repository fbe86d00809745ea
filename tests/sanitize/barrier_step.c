/* barrier_step OPERATION: SIGKILL at every instant of one operation of a barrier.
 *
 * A child is stepped through the operation (step_driver.h), at a barrier of two parties, or three.  After each kill who waits must
 * pass, if all have come, or be told at the first question that the barrier is broken, and by whose death; whoever
 * comes next must be told, too, if the dead one ought to come; and after a reset the barrier is as good as new. */
#include "lock_step.h"

#include "rwlock_driver.h"

static barrier_wait_t mine; /* the survivor's */
static int waits;           /* the survivor does */
static uint32_t parties;    /* how many have to come */

/* --- the operations (start_child): `result` is what the operation has come to ------------------------------------ */

static barrier_wait_t its;

static void nothing(void) {}
static void wait_it(void) { report->result = barrier_meet(&its, &child_party.barrier, NULL, soon()); }
static void act_it(void) { report->result = barrier_meet(&its, &child_party.barrier, nothing, soon()); }
static void abort_it(void) { barrier_break_now(&child_party.barrier, BROKEN_ABORTED); }
static void reset_it(void) { barrier_break_now(&child_party.barrier, BROKEN_RESET); }
static void leave_it(void) { barrier_leave(&child_party.barrier); }

/* A planted fault, which must be found: it lets the survivor pass, and comes afterwards. */
static void pass_early(void) {
    barrier_mark(&child_party.barrier, mine.at, PLACE_PASSED, 0, 0);
    wait_it();
}

static void pass_once(void) {
    be();
    EXPECT(barrier_meet(&its, &child_party.barrier, NULL, soon()) == OK, "the child cannot pass");
}

static void be_acting(void) {
    be();
    EXPECT(barrier_come(&its, &child_party.barrier, 1) == COMPLETE, "the child is not the last one to come");
}

static void end_act_it(void) {
    barrier_acted(&its);
    report->result = barrier_end(&its);
}

/* --- states: how the barrier is when the child starts ------------------------------------------------------------ */

static void barrier_of(uint32_t count) {
    format_barrier(parties = count);
    bind_party(&survivor);
    bind_party(&other);
    waits = 0;
}

static void alone(void) { barrier_of(2); }

static void survivor_waits(void) {
    alone();
    EXPECT(barrier_come(&mine, &survivor.barrier, 0) == OK, "the survivor comes first");
    waits = 1;
}

/* The survivor and that one have passed. */
static void pass_with(party_t *party) {
    barrier_wait_t first[PARTIES_MOST], last;
    for (uint32_t i = 0; i < parties - 1; i++)
        EXPECT(barrier_come(&first[i], &survivor.barrier, 0) == OK, "the survivor comes first");
    EXPECT(barrier_meet(&last, &party->barrier, NULL, soon()) == OK && last.value == parties - 1, "they cannot pass");
    uint32_t numbers = 0;
    for (uint32_t i = 0; i < parties - 1; i++) {
        EXPECT(barrier_end(&first[i]) == OK, "they cannot pass");
        numbers |= 1u << first[i].value;
    }
    EXPECT(numbers == (1u << (parties - 1)) - 1, "numbers %#x", numbers);
}

static void passed(void) {
    alone();
    pass_with(&other);
}

static void dead_passed(void) {
    alone();
    join(&late);
    pass_with(&late);
    die(&late);
}

static void dead_waits(void) {
    barrier_wait_t wait;
    alone();
    join(&late);
    EXPECT(barrier_come(&wait, &late.barrier, 0) == OK, "it comes first");
    die(&late);
}

static void dead_acts(void) {
    barrier_wait_t wait;
    survivor_waits();
    join(&late);
    EXPECT(barrier_come(&wait, &late.barrier, 1) == COMPLETE, "it comes last");
    die(&late);
}

static void dead_locks(void) {
    survivor_waits();
    join(&late);
    barrier_lock(&late.barrier);
    die(&late);
}

/* All places are those of a dead one, which had passed. */
static void crowded_by_dead(void) {
    alone();
    join(&late);
    die(&late);
    for (uint32_t at = 0; at < barrier_places(&survivor.barrier); at++)
        barrier_place(&survivor.barrier, at)->word = late.barrier.own | PLACE_PASSED;
}

/* There is no room among those who ought to come: the child's death is to be seen while it waits, by who waits, too. */
static void crowded_crew(void) {
    barrier_of(3);
    EXPECT(barrier_come(&mine, &survivor.barrier, 0) == OK, "the survivor comes first");
    waits = 1;
    for (uint32_t at = 0; at < barrier_places(&survivor.barrier); at++)
        *barrier_crew(&survivor.barrier, at) = other.barrier.own;
}

/* --- what must hold afterwards; each leaves the barrier as good as new, and proves it ---------------------------- */

static int is_dead(uint64_t word) { return word != 0 && member_died(&survivor.member, member_of_word(word)); }

/* Has anybody died whom the others have to hear of? */
static int death_is_known(void) {
    int known = is_dead(cells->barrier.lock.word) || is_dead(cells->barrier.acting);
    for (uint32_t at = 0; at < barrier_places(&survivor.barrier); at++)
        known |= is_dead(*barrier_crew(&survivor.barrier, at)) ||
                 (barrier_waits(&survivor.barrier, at) && is_dead(barrier_word(&survivor.barrier, at)));
    return known;
}

static int child_came(void) {
    for (uint32_t at = 0; at < barrier_places(&survivor.barrier); at++)
        if (names_child(barrier_word(&survivor.barrier, at)) || names_child(*barrier_crew(&survivor.barrier, at)))
            return 1;
    return report->finished;
}

static void expect_death(const barrier_wait_t *wait, int known) {
    EXPECT(wait->value == (known ? BROKEN_DIED : BROKEN_TIMED_OUT), "a death is known: %d, and told: %u", known,
           wait->value);
    EXPECT(!known || wait->pid == (uint32_t)getpid() || wait->pid == member_pid(report->id), "of %u", wait->pid);
}

/* The survivor's wait ends, at the first question.  Returns what it has come to. */
static status_t end_wait(void) {
    barrier_wait_t wait = mine;
    const int known = death_is_known(), ready = barrier_ready(&wait), came = child_came();
    barrier_await(&wait, now_or_never());
    const status_t status = barrier_end(&wait);
    EXPECT(status == OK || status == BROKEN, "it still waits");
    EXPECT(status == BROKEN || came, "the survivor has passed alone");
    if (status == BROKEN && !ready)
        expect_death(&wait, known);
    return status;
}

/* Who comes next is told, if it was not before: it cannot wait for the dead. */
static void come_again(void) {
    const int known = death_is_known(), locked = is_dead(cells->barrier.lock.word), broken = cells->barrier.state;
    const int complete = barrier_waiting(&survivor.barrier) == parties - 1 && !is_dead(cells->barrier.acting);
    barrier_wait_t wait;
    const status_t status = barrier_meet(&wait, &survivor.barrier, NULL, now_or_never());
    EXPECT(status == (complete && !locked && !broken ? OK : BROKEN), "who comes next: status %d", status);
    if (status == BROKEN && !broken)
        expect_death(&wait, known);
}

static void barrier_works(void) {
    barrier_wait_t wait;
    barrier_break_now(&survivor.barrier, BROKEN_RESET);
    EXPECT(!barrier_broken(&survivor.barrier) && barrier_waiting(&survivor.barrier) == 0, "it was reset");
    for (int round = 0; round < 3; round++)
        pass_with(&other);
    EXPECT(!death_is_known(), "somebody dead is still of the crew");
    EXPECT(barrier_meet(&wait, &survivor.barrier, NULL, now_or_never()) == BROKEN, "the survivor has passed alone");
    expect_death(&wait, 0);
}

static void check_barrier(void) {
    come_again();
    barrier_works();
}

/* If the child has passed, so has the survivor. */
static void check_waited(void) {
    const int passes = report->finished && report->result == OK;
    EXPECT(!waits || end_wait() == OK || !passes, "the child has passed, and the survivor has not");
    check_barrier();
}

static void check_broken(void) {
    EXPECT(!report->finished || !waits || barrier_ready(&mine), "who waits has not heard of it");
    if (waits)
        end_wait();
    check_barrier();
}

/* Who has left in order is not missed. */
static void check_left(void) {
    barrier_wait_t wait = mine;
    EXPECT(barrier_end(&wait) == OK, "it had passed before");
    EXPECT(!report->finished || !death_is_known(), "who has left is missed");
    check_barrier();
}

/* --- somebody is asleep while the child operates ----------------------------------------------------------------- */

static void *sleep_for_others(void *unused) {
    barrier_wait_t wait;
    slept = barrier_meet(&wait, &other.barrier, NULL, clock_ns() + DRIVER_MINUTE);
    return unused;
}

static void sleeper_waits(void) { put_to_sleep(sleep_for_others, &cells->barrier.gate); }
static void sleeper_wants_room(void) { put_to_sleep(sleep_for_others, &cells->barrier.room); }

/* If the child has not come, the survivor does. */
static void check_awake(void) {
    barrier_wait_t wait;
    const int passes = report->finished && report->result == OK && !waits;
    if (waits)
        end_wait();
    const status_t status = barrier_meet(&wait, &survivor.barrier, NULL, clock_ns() + DRIVER_MINUTE);
    awake();
    EXPECT(slept == OK || slept == BROKEN, "the sleeper: status %d", slept);
    EXPECT(slept == OK || !passes, "the child has passed, and the sleeper has not");
    EXPECT(status != OK || slept == OK, "the survivor has passed alone");
    barrier_works();
}

/* --- all of them ------------------------------------------------------------------------------------------------- */

#define ANY_STATE                                                                                                      \
    {alone, survivor_waits, passed, dead_passed, dead_waits, dead_acts, dead_locks, crowded_by_dead, crowded_crew}

static const operation_t operations[] = {
    {"barrier-wait", be, wait_it, check_waited, ANY_STATE, NULL, NULL},
    {"barrier-wait-asleep", be, wait_it, check_awake, {alone}, sleeper_waits, NULL},
    {"barrier-act", be, act_it, check_waited, {survivor_waits, dead_waits}, NULL, NULL},
    {"barrier-act-asleep", be_acting, end_act_it, check_awake, {survivor_waits}, sleeper_wants_room, NULL},
    {"barrier-abort",
     be,
     abort_it,
     check_broken,
     {alone, survivor_waits, dead_passed, dead_waits, dead_acts},
     NULL,
     NULL},
    {"barrier-reset",
     be,
     reset_it,
     check_broken,
     {alone, survivor_waits, dead_passed, dead_waits, dead_acts},
     NULL,
     NULL},
    {"barrier-leave", pass_once, leave_it, check_left, {survivor_waits}, NULL, NULL},
    {"barrier-early", be, pass_early, check_waited, {survivor_waits}, NULL, NULL},
};

int main(int argc, char **argv) {
    return step_operations(operations, sizeof operations / sizeof *operations, 0, argc, argv);
}
