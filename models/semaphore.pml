/* semaphore.pml: the semaphores of shmkit/_semaphore.h, counted and owned, with a SIGKILL between any two steps.
 *
 * Configuration (models/run sets it):
 *   TAKERS          processes that acquire a permit each; each releases it or, where there are gifts, may keep it
 *   PERMITS         permits at first
 *   GIFTS, AT_ONCE  one more process releases so many permits, so many at once (counted only)
 *   OWNED           each permit is a word that names its holder
 *   ROUNDS, LIVES, KILLS, SLICE, IMPATIENT, EVERYBODY_ENDS, MUTANT_…   as in lock.pml
 *   VICTIMS_WAIT    only who has no permit is killed */
#ifndef TAKERS
#define TAKERS 3
#endif
#ifndef PERMITS
#define PERMITS 1
#endif
#ifndef GIFTS
#define GIFTS 0
#endif
#ifndef AT_ONCE
#define AT_ONCE 1
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef LIVES
#define LIVES 1
#endif
#ifndef KILLS
#define KILLS 0
#endif
#ifndef SLICE
#define SLICE true
#endif
#ifndef IMPATIENT
#define IMPATIENT false
#endif

#include "gate.pml"

/* ---- shared memory ---------------------------------------------------------------------------------------------- */

Gate gate;
#ifdef OWNED
byte owner[PERMITS]; /* 0, or the id of the holder */
#else
byte value = PERMITS;
#endif

/* ---- the kernel ------------------------------------------------------------------------------------------------- */

byte bears[TAKERS];
byte victim;
byte kills = KILLS;

#define ID (1 + _pid + TAKERS * (LIVES - lives))
#define DIED(id) (bears[(id - 1) % TAKERS] != id)

/* ---- the truth -------------------------------------------------------------------------------------------------- */

byte all = PERMITS; /* permits that are free or held by the living */
byte held;          /* by the living */
byte over_all;

/* ---- acquire and release ---------------------------------------------------------------------------------------- */

#define WANTS 0
#define HELD 1
#define GAVE_UP 2

inline got() {
    held++;
    has = true;
    assert(held <= all); /* none lost to nobody, none held twice */
    answer = HELD
}

#ifdef OWNED

#if PERMITS == 1
#define READY (owner[0] == 0)
#else
#define READY (owner[0] == 0 || owner[1] == 0)
#endif
#ifdef MUTANT_PERMIT_BY_STORE
#define UNCHANGED(at) true
#else
#define UNCHANGED(at) (owner[at] == seen)
#endif

/* owned_take, one word; `too`: or that of a dead one */
inline take_one(at, too) {
    if
    :: answer != WANTS
    :: atomic { answer == WANTS && (owner[at] == 0 || (too && DIED(owner[at]))) -> seen = owner[at] }
       if
       :: atomic { UNCHANGED(at) -> owner[at] = ID; mine = at + 1; got(); seen = 0 }
       :: atomic { !UNCHANGED(at) -> seen = 0 }
       fi
    :: answer == WANTS && owner[at] != 0 && !(too && DIED(owner[at]))
    fi
}

inline take(too) {
    take_one(0, too)
#if PERMITS > 1
    ; take_one(1, too)
#endif
}

/* owned_give of one */
inline give() {
    atomic { owner[mine - 1] == ID -> owner[mine - 1] = 0; mine = 0; held--; has = false }
    wake(gate, 1)
}

#else

#define READY (value > 0)

/* counted_take */
inline take(too) {
    if
    :: atomic { value > 0 -> value--; got() }
    :: value == 0
    fi
}

/* counted_give */
inline give() {
    atomic { value++; held--; has = false }
    wake(gate, 1)
}

#endif

/* semaphore_try, and semaphore_round again and again. */
inline acquire() {
    take(false);
    do
    :: atomic { answer != WANTS -> break }
    :: atomic { answer == WANTS && IMPATIENT -> answer = GAVE_UP }
    :: answer == WANTS ->
       rest(gate, READY, SLICE, IMPATIENT);
       if
       :: atomic { READY -> over = 0 }
          take(false)
       :: atomic { !READY }
#ifdef OWNED
          if
          :: over != WOKEN -> take(true)
          :: over != SLICE_OVER
          fi;
#endif
          atomic {
              if
              :: answer == WANTS && over == GIVES_UP -> answer = GAVE_UP
              :: else
              fi;
              over = 0
          }
       fi
    od
}

/* What a killed holder had: comes back where it is named, and is gone where it is counted. */
inline die() {
    victim = 0;
    unqueue(gate);
    forget(gate);
    bears[_pid] = 0;
    if
    :: has ->
       held--
#ifndef OWNED
       ; all--
#endif
    :: else
    fi;
    answer = WANTS; seen = 0; over = 0; woken = 0; mine = 0; has = false
}

#ifdef VICTIMS_WAIT
#define DOOMED (victim == _pid + 1 && (gate.queue & ME))
#else
#define DOOMED (victim == _pid + 1)
#endif

active [TAKERS] proctype Taker() {
    byte lives = LIVES, rounds = ROUNDS;
    byte answer, seen, over, woken, mine;
    bool has;

    do
    :: lives > 0 ->
       {
           bears[_pid] = ID;
           do
           :: rounds > 0 ->
              acquire();
              if
              :: answer == HELD -> give()
              :: atomic { answer == HELD && GIFTS > 0 -> has = false; held--; all-- } /* keeps it for good */
              :: answer == GAVE_UP
              fi;
              atomic { answer = WANTS; rounds-- }
           :: rounds == 0 -> break
           od;
           atomic { bears[_pid] = 0; lives = 0 }
       } unless {
           atomic { DOOMED -> die(); lives-- }
       }
    :: atomic { lives > 0 && lives < LIVES -> lives = 0 } /* no successor */
    :: lives == 0 -> break
    od;
    atomic { over_all++; rounds = 0 }
}

#if GIFTS
/* Releases what it never acquired, as counted permits may be: one for each that may be kept. */
active proctype Giver() {
    byte left = GIFTS, woken;

    do
    :: left > 0 ->
       atomic { value = value + AT_ONCE; all = all + AT_ONCE; left = left - AT_ONCE }
#ifdef MUTANT_GIFTS_WAKE_ONE
       wake(gate, 1)
#else
       wake(gate, AT_ONCE)
#endif
    :: left == 0 -> break
    od
}
#endif

#if KILLS
active proctype Killer() {
    do
    :: atomic { kills > 0 && victim == 0 -> kills--; select(victim : 1 .. TAKERS) }
    :: break
    od
}
#endif

#ifdef EVERYBODY_ENDS
ltl everybody_ends { <> (over_all == TAKERS) }
#endif
