/* event.pml: the event of shmkit/_event.h: one sets it, and clears it at once; each who waited then is woken.
 *
 * Configuration (models/run sets it): WAITERS, SETTERS, MUTANT_….  Nobody is killed, and no sleep ends by itself: an
 * event names nobody, so a death can only cost a wake-up, which the slices make good as at any gate (lock.pml). */
#ifndef WAITERS
#define WAITERS 2
#endif
#ifndef SETTERS
#define SETTERS 1
#endif

#include "gate.pml"

Gate gate;
bool up;
byte times; /* how often it went up */

#ifdef MUTANT_TIMES_UNSEEN
#define READY up
#else
#define READY (up || times != before) /* event_ready */
#endif

byte waiting; /* the truth: who has begun to wait; a set that nobody waits for wakes nobody */

active [WAITERS] proctype Waiter() {
    byte before, over, woken;

    atomic { before = times; waiting++ } /* event_begin */
    do
    :: READY -> break
    :: !READY -> rest(gate, READY, false, false)
    od
}

active [SETTERS] proctype Setter() {
    byte woken;

    atomic { waiting == WAITERS }
    if /* event_set */
    :: atomic { !up -> up = true; times++ }
       wake(gate, ALL)
    :: up /* whoever put it up wakes */
    fi;
    up = false /* event_clear */
}
