/* lock.pml: the lock of shmkit/_lock.h, with a SIGKILL between any two steps.
 *
 * Each statement that touches shared memory touches it once and is one step; between any two steps every other process
 * may run, and any process may be killed.  README.md says which step stands for which line of C.
 *
 * Configuration (models/run sets it):
 *   MEMBERS          processes that acquire the lock
 *   ROUNDS           how often each of them does
 *   LIVES            how often each may be killed and come back, under another id
 *   KILLS            how many SIGKILLs may strike, before any step; VICTIMS_HOLD: only of who holds the lock
 *   SLICE            when a sleep may end by itself (false: wake-ups alone; true: at any instant; DEAD_HOLDER)
 *   IMPATIENT        whether a wait may be given up, at any point
 *   TELL             whether an heir is told
 *   EVERYBODY_ENDS   also check that every fair run ends
 *   MUTANT_…         plants one fault */
#ifndef MEMBERS
#define MEMBERS 2
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
#ifndef TELL
#define TELL true
#endif
#define DEAD_HOLDER (word > 3 && DIED(OF(word)))

byte victim; /* 1 + pid of the process that is being killed; 0: nobody */
byte kills = KILLS;
byte over_all; /* processes that have ended for good */

#include "holding.pml"

#ifdef VICTIMS_HOLD
#define DOOMED (victim == _pid + 1 && holder == ID)
#else
#define DOOMED (victim == _pid + 1)
#endif

/* SIGKILL: the kernel frees the lease and its queue; nothing else changes. */
inline die() {
    victim = 0;
    unqueue(gate);
    forget(gate);
    bears[_pid] = 0;
    if
    :: holder == ID -> holder = 0; damaged = true
    :: else
    fi;
    answer = WANTS; seen = 0; over = 0; woken = 0
}

active [MEMBERS] proctype Member() {
    byte lives = LIVES, rounds = ROUNDS;
    byte answer, seen, over, woken;

    do
    :: lives > 0 ->
       {
           bears[_pid] = ID;
           do
           :: rounds > 0 ->
              acquire();
              if
              :: answer == HELD -> give()
              :: atomic { answer == INHERITED -> answer = HELD }
                 if
                 :: recover()
                 :: true
                 fi;
                 give()
              :: atomic { answer == LOST -> assert(lost); rounds = 1 }
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

#if KILLS
active proctype Killer() {
    do
    :: atomic { kills > 0 && victim == 0 -> kills--; select(victim : 1 .. MEMBERS) }
    :: break
    od
}
#endif

#ifdef EVERYBODY_ENDS
ltl everybody_ends { <> (over_all == MEMBERS) }
#endif
