/* ring.pml: the ring of shmkit/_ring.h, with its waiting, its roles and a SIGKILL between any two steps.
 *
 * Each statement that touches shared memory touches it once and is one step; between any two steps every other process
 * may run, and any process may be killed.  Steps run in program order here: memory orders are the sanitizers' part.
 * README.md says which step stands for which line of C, what each configuration explores and what each mutant breaks.
 *
 * Configuration (models/run sets it):
 *   CAPACITY         units of data; a record takes 1 … CAPACITY of them, and never wraps
 *   RECORDS          how many records are committed altogether
 *   PRODUCERS, CONSUMERS   processes that want the role at the same time
 *   BATCH            how many records may be written (or read) before tail (or head) is stored
 *   LIVES            how often each of them may start anew, after it closed or was killed
 *   KILLS            how many SIGKILLs may strike, before any step; VICTIMS: of whom
 *   SLICES           whose sleep may end by itself, at any instant; others are ended by a wake-up alone
 *   EVERYBODY_ENDS   also check that every fair run ends (nobody waits, or goes round in circles, for ever)
 *   MUTANT_…         plants one fault */
#ifndef CAPACITY
#define CAPACITY 2
#endif
#ifndef RECORDS
#define RECORDS 3
#endif
#ifndef PRODUCERS
#define PRODUCERS 1
#endif
#ifndef CONSUMERS
#define CONSUMERS 1
#endif
#ifndef LIVES
#define LIVES 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef BATCH
#define BATCH 1
#endif
#define NOBODY 0
#define PRODUCER 1
#define CONSUMER 2
#define BOTH 3
#ifndef VICTIMS
#define VICTIMS BOTH
#endif
#ifndef SLICES
#define SLICES BOTH
#endif

/* ---- shared memory (ring_header_t and its data) ---------------------------------------------------------------- */
#define NEVER 0
#define OPEN 1
#define CLOSED 2

#define EPOCHS (PRODUCERS * LIVES + CONSUMERS * LIVES)

typedef Role {
    byte state;
    byte epoch;
    byte pid_; /* of the holder; here that is its epoch */
    bool held; /* not memory: the kernel's lock on the role's lease byte */
    byte fate[EPOCHS] /* not memory: the truth about each epoch's holder */
}

byte tail;
byte head;
bool consumer_bell;
bool producer_bell;
Role producer_role;
Role consumer_role;
byte word[CAPACITY]; /* the record word, where a record or pad starts */
byte load[CAPACITY]; /* the payload */

/* A record's value says which record it is and who wrote it; its word says the span too. */
#define VALUE(sequence, epoch) ((sequence) + 8 * (epoch))
#define WORD(value, span) ((value) + 64 * (span))
#define SEQUENCE(word) ((word) % 8)
#define PAD 255

/* ---- the kernel ------------------------------------------------------------------------------------------------ */
bool consumer_asleep; /* on the bell's futex queue */
bool producer_asleep;
byte victim;          /* 1 + pid of the process that is being killed; 0: nobody */
byte kills = KILLS;

/* ---- the truth: what happened, for the assertions and the environment; no step of the protocol reads it -------- */
#define ALIVE 1 /* fates of an epoch's holder; CLOSED is one, too */
#define DIED 3

byte committed; /* records whose tail was stored */
byte received;  /* records whose head was stored */
byte producer_lives = PRODUCERS * LIVES; /* lives that are not over */
byte consumer_lives = CONSUMERS * LIVES;
byte over; /* processes that have ended for good */

#include "roles.pml"

/* ---- the producer ---------------------------------------------------------------------------------------------- */

#define INDEX (position % CAPACITY)
#define ROOM (position + need - other <= CAPACITY)
#define NO_ROOM (position + need - head > CAPACITY)

/* A record that does not fit before the lap's end starts the next lap, and a pad fills this one.  Where both are more
 * than the ring, what is waited for is room for the pad alone: head can never move so far that both fit. */
inline choose_span() {
    if
    :: span = 1
    :: span = 2
#if CAPACITY > 2
    :: span = 3
#endif
    fi;
    gap = (INDEX + span > CAPACITY -> CAPACITY - INDEX : 0);
#ifdef MUTANT_PAD_WAITS_FOR_RECORD
    need = gap + span
#else
    need = (gap + span > CAPACITY -> gap : gap + span)
#endif
}

/* ring_reserve; where it says FULL, ring_wait_room. */
inline find_room() {
    if
    :: atomic { ROOM -> answer = READY }
    :: atomic { !ROOM && !NO_ROOM -> other = head; answer = READY }
    :: atomic { !ROOM && NO_ROOM -> other = head }
#ifndef MUTANT_WAIT_UNPUBLISHED
       if
       :: pending > 0 -> publish()
       :: pending == 0
       fi;
#endif
       wait(PRODUCER, producer_bell, producer_asleep, head, ROOM, NO_ROOM, consumer_role, consumer_lives)
    fi
}

/* ring_publish: stores tail, which hands over all records written so far. */
inline publish() {
#ifdef MUTANT_BELL_BEFORE_TAIL
    if
    :: consumer_bell -> store_tail(); ring(consumer_bell, consumer_asleep)
    :: else -> store_tail()
    fi
#else
    store_tail();
    ring(consumer_bell, consumer_asleep)
#endif
}

inline store_tail() {
    atomic { assert(mine); tail = position; committed = committed + pending; pending = 0 }
}

inline write_payload() {
    do
    :: atomic {
           load[INDEX + unit] = value;
           unit++;
           if
           :: unit == span -> unit = 0; position = position + span; span = 0; value = 0; pending++; break
           :: else
           fi
       }
    od
}

active [PRODUCERS] proctype Producer() {
    byte lives = LIVES;
    byte position, other, need, gap, span, unit, value, pending, answer, epoch, who;
    bool mine;

    do
    :: lives > 0 ->
       {
           claim(producer_role, tail, producer_bell, head);
           do
           :: atomic { committed + pending < RECORDS -> choose_span() }
              find_room();
              if
              :: atomic { answer == READY && gap > 0 && position + gap + span - other > CAPACITY ->
                     word[INDEX] = PAD;
                     position = position + gap;
                     gap = 0; need = 0; span = 0; answer = 0
                 }
#ifdef MUTANT_PAD_SILENT
                 store_tail()
#else
                 publish() /* the pad alone; the record has its turn when there is room */
#endif
              :: atomic { answer == READY && (gap == 0 || position + gap + span - other <= CAPACITY) ->
                     if
                     :: gap > 0 -> word[INDEX] = PAD
                     :: else
                     fi;
                     position = position + gap;
                     value = VALUE(committed + pending + 1, producer_role.epoch);
                     word[INDEX] = WORD(value, span);
                     gap = 0; need = 0; answer = 0
                 }
#ifdef MUTANT_PUBLISH_EARLY
                 tail = position + span;
#endif
                 write_payload();
                 if
                 :: publish()
                 :: pending < BATCH -> skip
                 fi
              :: d_step { STAY(consumer_lives) -> answer = 0; gap = 0; need = 0; span = 0 }
              :: answer > READY -> break
              fi
           :: pending == 0 -> break /* closes when it likes, and always after the last record */
           :: pending > 0 -> publish()
           od;
           close(producer_role, consumer_bell, consumer_asleep)
       } unless {
           atomic { victim == _pid + 1 -> die(producer_role, producer_asleep) }
       }
       end_life(producer_lives)
    :: no_successor(producer_lives)
    :: lives == 0 -> break
    od;
    over++
}

/* ---- the consumer ---------------------------------------------------------------------------------------------- */

/* ring_release_passed: stores head, which gives back all that was read so far. */
inline release() {
    atomic { assert(mine); head = position; received = received + pending; pending = 0 }
    ring(producer_bell, producer_asleep)
}

inline read_payload() {
    do
    :: atomic {
           assert(load[INDEX + unit] == value); /* whole */
           unit++;
           if
           :: unit == span -> unit = 0; position = position + span; span = 0; value = 0; pending++; break
           :: else
           fi
       }
    od
}

active [CONSUMERS] proctype Consumer() {
    byte lives = LIVES;
    byte position, other, need, gap, span, unit, value, pending, answer, epoch, who;
    bool mine;

    do
    :: lives > 0 ->
       {
           claim(consumer_role, head, consumer_bell, tail);
           do
           :: atomic { other != position && word[INDEX] == PAD -> position = position + CAPACITY - INDEX }
#ifndef MUTANT_PAD_KEPT
              release()
#endif
           :: atomic { other != position && word[INDEX] != PAD -> /* ring_next */
                  value = word[INDEX] % 64;
                  span = word[INDEX] / 64;
                  assert(SEQUENCE(value) == received + pending + 1) /* in order, none lost, none twice */
              }
#ifdef MUTANT_RELEASE_EARLY
              head = position + span;
#endif
              read_payload();
              if
              :: release()
              :: pending < BATCH -> skip
              fi
           :: pending > 0 -> release()
           :: atomic { other == position && tail != position -> other = tail }
           :: other == position && pending == 0 && tail == position ->
              wait(CONSUMER, consumer_bell, consumer_asleep, tail, other != position, received == committed,
                   producer_role, producer_lives);
              if
              :: d_step { answer == READY || STAY(producer_lives) -> answer = 0 }
              :: answer > READY -> break
              fi
           :: lives > 1 && pending == 0 -> break /* leaves when it likes */
           od;
           close(consumer_role, producer_bell, producer_asleep)
       } unless {
           atomic { victim == _pid + 1 -> die(consumer_role, consumer_asleep) }
       }
       end_life(consumer_lives)
    :: no_successor(consumer_lives)
    :: lives == 0 -> break
    od;
    over++
}

/* ---- the killer ------------------------------------------------------------------------------------------------ */

#define FIRST_VICTIM ((VICTIMS & PRODUCER) -> 1 : PRODUCERS + 1)
#define LAST_VICTIM ((VICTIMS & CONSUMER) -> PRODUCERS + CONSUMERS : PRODUCERS)

#if KILLS
active proctype Killer() {
    do
    :: atomic { kills > 0 && victim == 0 -> kills--; select(victim : FIRST_VICTIM .. LAST_VICTIM) }
    :: break
    od
}
#endif

#ifdef EVERYBODY_ENDS
ltl everybody_ends { <> (over == PRODUCERS + CONSUMERS) }
#endif
