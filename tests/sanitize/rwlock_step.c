/* rwlock_step OPERATION: SIGKILL at every instant of one operation of readers and writers.
 *
 * A child is stepped through the operation (step_driver.h).  After each kill this process, the survivor, must get the lock
 * at the first question, for writing and for reading, and be told exactly if the dead one held it for writing; and who
 * stood in line must be granted it, or find it free.  Done from each state that the operation can begin in. */
#include "lock_step.h"

#include "rwlock_driver.h"

/* --- the operations (start_child): `result` is what the operation has come to ------------------------------------ */

static void read_try_it(void) {
    rwlock_wait_t wait;
    report->result = rwlock_begin(&wait, &child_party, RWLOCK_READ, 0);
}

static void write_try_it(void) {
    rwlock_wait_t wait;
    report->result = rwlock_begin(&wait, &child_party, RWLOCK_WRITE, 0);
}

static void read_wait_it(void) {
    rwlock_wait_t wait;
    report->result = rwlock_get(&wait, &child_party, RWLOCK_READ, soon());
}

static void write_wait_it(void) {
    rwlock_wait_t wait;
    report->result = rwlock_get(&wait, &child_party, RWLOCK_WRITE, soon());
}

static rwlock_wait_t begun; /* the child's */

static void abandon_it(void) { rwlock_abandon(&begun); }
static void read_give_it(void) { report->result = rwlock_read_give(&child_party.rwlock); }
static void write_give_it(void) { report->result = rwlock_write_give(&child_party.rwlock); }
static void write_recover_it(void) { report->result = rwlock_recover(&child_party.rwlock); }

static void be_reader(void) {
    rwlock_wait_t wait;
    be();
    EXPECT(rwlock_begin(&wait, &child_party, RWLOCK_READ, 0) == OK, "the child cannot read");
}

static void be_writer(void) {
    rwlock_wait_t wait;
    be();
    const status_t status = rwlock_get(&wait, &child_party, RWLOCK_WRITE, soon());
    EXPECT(status == OK || status == INHERITED, "the child cannot write: status %d", status);
}

static void begin_to_read(void) {
    be();
    EXPECT(rwlock_begin(&begun, &child_party, RWLOCK_READ, 1) == FULL, "nothing to wait for");
}

static void begin_to_write(void) {
    be();
    EXPECT(rwlock_begin(&begun, &child_party, RWLOCK_WRITE, 1) == FULL, "nothing to wait for");
}

/* … the survivor standing in line; the child does that on its behalf. */
static rwlock_wait_t in_line;

static void be_awaited(void) {
    be_writer();
    rwlock_wait_t wait = in_line;
    rwlock_want(&wait);
}

/* A planted fault, which must be found: for one instant who is granted the lock is nowhere. */
static void grant_badly(void) {
    store_seq_u64(in_line.counts, 0);
    store_seq_u64(in_line.counts, (1ull << 32) | READING_ONE);
}

/* --- states: how the cell is when the child starts --------------------------------------------------------------- */

static uint32_t held_side; /* what the survivor holds */

static void hold_side(party_t *party, uint32_t side) {
    rwlock_wait_t wait;
    EXPECT(rwlock_begin(&wait, party, side, 0) == OK, "not free");
}

static void nobody(void) { held_side = 0; }

static void read_by_survivor(void) {
    held_side = RWLOCK_READ;
    hold_side(&survivor, RWLOCK_READ);
}

static void written_by_survivor(void) {
    held_side = RWLOCK_WRITE;
    hold_side(&survivor, RWLOCK_WRITE);
}

static void held_by_late(uint32_t side) {
    nobody();
    join(&late);
    hold_side(&late, side);
    die(&late);
}

static void read_by_dead(void) { held_by_late(RWLOCK_READ); }
static void written_by_dead(void) { held_by_late(RWLOCK_WRITE); }

/* It had claimed the word, and waited for another one that is dead. */
static void claimed_by_dead(void) {
    rwlock_wait_t wait;
    party_t writer;
    read_by_dead();
    join(&writer);
    EXPECT(rwlock_begin(&wait, &writer, RWLOCK_WRITE, 1) == FULL, "there is a reader");
    die(&writer);
}

/* A dead one stands in line behind the survivor, which writes. */
static void wanted_by_dead(void) {
    rwlock_wait_t wait;
    written_by_survivor();
    join(&late);
    EXPECT(rwlock_begin(&wait, &late, RWLOCK_READ, 1) == FULL, "there is a writer");
    die(&late);
}

/* The survivor has an entry, by which it will stand in line. */
static void to_be_awaited(void) {
    read_by_survivor();
    EXPECT(rwlock_read_give(&survivor.rwlock) == OK, "it reads");
    nobody();
    uint64_t *counts = &rwlock_reader(&survivor.rwlock, survivor.rwlock.at)->counts;
    in_line = (rwlock_wait_t){.lock = &survivor.rwlock,
                              .side = RWLOCK_READ,
                              .state = RWLOCK_WANTS,
                              .grants = counts_grants(*counts),
                              .counts = counts};
}

/* --- what must hold afterwards; each leaves the cell as good as new, and proves it ------------------------------- */

static uint64_t reading_of_child(void) {
    for (uint32_t at = 0; at < RWLOCK_READERS; at++)
        if (report->id != 0 && cells->rwlock.reader[at].owner == member_word(report->id))
            return counts_reading(cells->rwlock.reader[at].counts);
    return 0;
}

static int holds(uint64_t word) { return word != 0 && word != LOCK_LOST && !(word & RWLOCK_CLAIMED); }

/* What the child says that it has is what the words say. */
static void check_report(void) {
    const uint64_t word = cells->rwlock.word;
    if (!report->finished)
        return;
    const int writes = names_child(word), reads = reading_of_child() == 1;
    EXPECT(report->result == OK          ? writes != reads && !(word & RWLOCK_FLAGS)
           : report->result == INHERITED ? writes && (word & RWLOCK_FLAGS) == LOCK_INCONSISTENT
                                         : !writes && reading_of_child() == 0,
           "status %d, reading %" PRIu64 ", and the word is %#" PRIx64, (int)report->result, reading_of_child(), word);
}

static int rwlock_is_lost(void) {
    rwlock_wait_t wait;
    if (cells->rwlock.word != LOCK_LOST)
        return 0;
    EXPECT(told, "who is not told cannot lose the lock");
    for (uint32_t side = RWLOCK_READ; side <= RWLOCK_WRITE; side++) {
        survivor.rwlock.tries = 0;
        EXPECT(rwlock_begin(&wait, &survivor, side, 0) == LOST, "a lock that is lost can be had");
        EXPECT(rwlock_get(&wait, &survivor, side, FOREVER) == LOST, "a lock that is lost can be had");
    }
    EXPECT(rwlock_readers(&survivor.rwlock) == 0 && in_line.state != RWLOCK_WANTS, "somebody is in a lost lock");
    return 1;
}

/* Both sides, at once where that can be, and not where it cannot. */
static void rwlock_works(void) {
    rwlock_wait_t wait;
    for (uint32_t side = RWLOCK_WRITE; side >= RWLOCK_READ; side--) {
        EXPECT(rwlock_get(&wait, &survivor, side, now_or_never()) == OK, "side %u of a free lock", side);
        EXPECT(rwlock_begin(&wait, &other, RWLOCK_WRITE, 0) == FULL, "a writer beside another one");
        const status_t reads = rwlock_begin(&wait, &other, RWLOCK_READ, 0);
        EXPECT(reads == (side == RWLOCK_READ ? OK : FULL), "a reader beside side %u: status %d", side, reads);
        EXPECT(reads != OK || rwlock_readers(&survivor.rwlock) == 2, "not two readers");
        EXPECT(reads != OK || rwlock_give(&other, RWLOCK_READ) == OK, "the reader");
        EXPECT(rwlock_give(&survivor, side) == OK && rwlock_give(&survivor, side) == NOT_HELD, "giving it twice");
    }
    EXPECT(cells->rwlock.word == 0 && rwlock_readers(&survivor.rwlock) == 0, "somebody is left");
}

static void rwlock_have(uint32_t side) {
    const uint64_t word = cells->rwlock.word;
    const status_t expected = told && holds(word) ? INHERITED : OK;
    rwlock_wait_t wait;
    const status_t status = rwlock_get(&wait, &survivor, side, now_or_never());
    EXPECT(status == expected, "side %u: the word was %#" PRIx64 ", and is had with status %d", side, word, status);
    if (status == INHERITED) {
        uint64_t *counts = side == RWLOCK_READ ? &rwlock_reader(&survivor.rwlock, survivor.rwlock.at)->counts : NULL;
        EXPECT(wait.dead == member_of_word(word), "the wrong one is called dead");
        EXPECT(rwlock_recover(&survivor.rwlock) == OK, "the heir cannot recover");
        if (counts != NULL)
            *counts += READING_ONE; /* another thread of the heir tries meanwhile … */
        EXPECT(rwlock_give(&survivor, side) == OK && cells->rwlock.word == 0, "what was inherited cannot be given");
        if (counts != NULL)
            rwlock_withdraw(&survivor.rwlock, counts); /* … and takes that back */
    } else {
        EXPECT(rwlock_give(&survivor, side) == OK, "the survivor cannot give side %u", side);
    }
    EXPECT(cells->rwlock.word == 0, "nobody is there, and the word is %#" PRIx64, cells->rwlock.word);
}

/* For writing first, and then the same for reading first. */
static void rwlock_can_be_had(void) {
    if (held_side != 0)
        EXPECT(rwlock_give(&survivor, held_side) == OK, "what the survivor held");
    if (rwlock_is_lost())
        return;
    const cells_t found = *cells;
    const party_t as_it_was = survivor;
    for (uint32_t side = RWLOCK_WRITE; side >= RWLOCK_READ; side--) {
        *cells = found;
        survivor = as_it_was;
        other.rwlock.at = RWLOCK_NOWHERE;
        rwlock_have(side);
        rwlock_works();
    }
}

static void check_acquired(void) {
    check_report();
    rwlock_can_be_had();
}

static void check_left(void) {
    const uint64_t word = cells->rwlock.word;
    EXPECT(!report->finished || (!names_child(word) && reading_of_child() == 0), "it was given, or given up");
    rwlock_can_be_had();
}

static void check_recovery(void) {
    EXPECT(names_child(cells->rwlock.word) && holds(cells->rwlock.word), "the heir holds the lock");
    EXPECT(!report->finished || report->result != OK || !(cells->rwlock.word & RWLOCK_FLAGS), "it was recovered");
    rwlock_can_be_had();
}

/* Who stands in line was granted the lock, or gets it, at the first question; told if the dead one held it. */
static void check_in_line(void) {
    const uint64_t word = cells->rwlock.word, counts = *in_line.counts;
    const int granted = counts_grants(counts) != in_line.grants;
    rwlock_wait_t wait = in_line;
    EXPECT(granted ? counts_reading(counts) == 1 : counts_wanting(counts) == 1, "a reader has lost its place in line");
    EXPECT(!granted || word == 0 || (word & RWLOCK_CLAIMED), "a reader beside a writer");
    const status_t status = rwlock_await(&wait, now_or_never());
    EXPECT(status == (told && holds(word) ? INHERITED : OK), "status %d, and the word was %#" PRIx64, status, word);
    EXPECT(wait.state == RWLOCK_NOTHING && counts_wanting(*in_line.counts) == 0, "it still stands in line");
    EXPECT(status == OK || rwlock_recover(&survivor.rwlock) == OK, "the heir cannot recover");
    EXPECT(rwlock_read_give(&survivor.rwlock) == OK, "the reader in line");
    rwlock_can_be_had();
}

/* --- somebody is asleep while the child operates ----------------------------------------------------------------- */

static void *sleep_to_read(void *unused) {
    rwlock_wait_t wait;
    slept = rwlock_get(&wait, &other, RWLOCK_READ, clock_ns() + DRIVER_MINUTE);
    return unused;
}

static void *sleep_to_write(void *unused) {
    rwlock_wait_t wait;
    slept = rwlock_get(&wait, &other, RWLOCK_WRITE, clock_ns() + DRIVER_MINUTE);
    return unused;
}

static void send_to_sleep(void *(*sleep)(void *), const uint32_t *at) {
    other.rwlock.at = RWLOCK_NOWHERE; /* it had an entry in a cell that is no more */
    put_to_sleep(sleep, at);
}

static void sleeping_reader(void) { send_to_sleep(sleep_to_read, &cells->rwlock.reads); }
static void sleeping_writer(void) { send_to_sleep(sleep_to_write, &cells->rwlock.writes); }
static void draining_writer(void) { send_to_sleep(sleep_to_write, &cells->rwlock.bell); }

static void check_awake(uint32_t side) {
    awake();
    EXPECT(slept == OK || (slept == INHERITED && told && !report->finished), "the sleeper: status %d", slept);
    EXPECT(slept == OK || rwlock_recover(&other.rwlock) == OK, "the heir cannot recover");
    EXPECT(rwlock_give(&other, side) == OK, "the sleeper has the lock");
    rwlock_can_be_had();
}

static void check_awake_reader(void) { check_awake(RWLOCK_READ); }
static void check_awake_writer(void) { check_awake(RWLOCK_WRITE); }

/* --- all of them ------------------------------------------------------------------------------------------------- */

#define ANY_STATE                                                                                                      \
    {nobody, read_by_survivor, written_by_survivor, read_by_dead, written_by_dead, claimed_by_dead, wanted_by_dead}

static const operation_t operations[] = {
    {"read-try", be, read_try_it, check_acquired, ANY_STATE, NULL, NULL},
    {"read-wait",
     be,
     read_wait_it,
     check_acquired,
     {written_by_survivor, written_by_dead, claimed_by_dead},
     NULL,
     NULL},
    {"read-abandon", begin_to_read, abandon_it, check_left, {written_by_survivor, written_by_dead}, NULL, NULL},
    {"read-give", be_reader, read_give_it, check_left, {nobody, read_by_survivor, read_by_dead}, NULL, NULL},
    {"read-give-asleep", be_reader, read_give_it, check_awake_writer, {nobody}, draining_writer, NULL},
    {"write-try", be, write_try_it, check_acquired, ANY_STATE, NULL, NULL},
    {"write-wait",
     be,
     write_wait_it,
     check_acquired,
     {read_by_survivor, read_by_dead, written_by_dead, wanted_by_dead},
     NULL,
     NULL},
    {"write-abandon", begin_to_write, abandon_it, check_left, {read_by_survivor, read_by_dead}, NULL, NULL},
    {"write-give", be_writer, write_give_it, check_left, {nobody, read_by_dead, written_by_dead}, NULL, NULL},
    {"write-give-awaited", be_awaited, write_give_it, check_in_line, {to_be_awaited}, NULL, NULL},
    {"write-give-reader-asleep", be_writer, write_give_it, check_awake_reader, {nobody}, sleeping_reader, NULL},
    {"write-give-writer-asleep", be_writer, write_give_it, check_awake_writer, {nobody}, sleeping_writer, NULL},
    {"write-recover", be_writer, write_recover_it, check_recovery, {nobody, written_by_dead}, NULL, NULL},
    {"grant-badly", be_awaited, grant_badly, check_in_line, {to_be_awaited}, NULL, NULL},
};

int main(int argc, char **argv) {
    return step_operations(operations, sizeof operations / sizeof *operations, 1, argc, argv);
}
