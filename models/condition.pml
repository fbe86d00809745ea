/* condition.pml: the condition of shmkit/_condition.h with its lock, and a SIGKILL between any two steps.
 *
 * What only the holder of the lock stores and loads (finding a place, choosing the oldest) is one step each.  README.md
 * says which step stands for which line of C.
 *
 * Configuration (models/run sets it):
 *   WAITERS, NOTIFIERS   processes that wait, and that notify
 *   ROUNDS               how often each does; NOTIFIES: how many each notification is for
 *   PLACES               places in line
 *   KILLS                how many SIGKILLs may strike, before any step; VICTIMS_WAIT: only who sleeps in line while no
 *                        notifier has the lock
 *   SLICES               whether a sleep may end by itself
 *   TIMES_OUT            whether a wait may end so; RAISES: or by what a signal's handler raises
 *   MUTANT_…             plants one fault */
#ifndef WAITERS
#define WAITERS 2
#endif
#ifndef NOTIFIERS
#define NOTIFIERS 1
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef NOTIFIES
#define NOTIFIES 1
#endif
#ifndef PLACES
#define PLACES 2
#endif
#ifndef KILLS
#define KILLS 0
#endif
#ifndef SLICES
#define SLICES true
#endif
#ifndef TIMES_OUT
#define TIMES_OUT false
#endif
#ifndef RAISES
#define RAISES false
#endif
#define MEMBERS (WAITERS + NOTIFIERS)
#define LIVES 1
#define lives 1
#define TELL false
#define IMPATIENT false

/* A slice that would find nothing is no step: the sleeper might as well have slept on. */
#define SLICE (SLICES && (word == 0 || DIED(OF(word))))
#define PLACE_SLICE (SLICES && (!WAITING || TAKABLE))
#ifdef MUTANT_PLACELESS_TAKES_NOTHING
#define LINE_SLICE (SLICES && calls != before)
#else
#define LINE_SLICE (SLICES && (calls != before || TAKABLE))
#endif

byte victim; /* 1 + pid of the process that is being killed; 0: nobody */
byte kills = KILLS;
byte over_all;

#include "holding.pml"

/* ---- shared memory (condition_cell_t); `gate` is the lock's ------------------------------------------------------ */

#define WAITS 1
#define NOTIFIED 2
#define NOWHERE 9

byte place[PLACES]; /* 0, or whose it is and a flag */
byte ticket[PLACES];
byte tickets;
byte calls;
Gate line; /* the condition's own gate: for those who found no place */

/* ---- the kernel ------------------------------------------------------------------------------------------------- */

byte bed[PLACES]; /* who sleeps on the place's word */

/* ---- the truth -------------------------------------------------------------------------------------------------- */

byte notified; /* notifications that somebody in line was given */
byte returned; /* those whose receiver has left the line with it */
bool dismissed; /* nobody will notify any more, and all sleep who may */

#ifdef MUTANT_NO_TAKE_OVER
#define TO_TAKE(i) false
#else
#define TO_TAKE(i) (FLAGS(place[i]) == NOTIFIED && DIED(OF(place[i])))
#endif
#if PLACES == 1
#define OUTSTANDING (FLAGS(place[0]) == NOTIFIED)
#define TAKABLE TO_TAKE(0)
#define ABED ((bed[0] | gate.queue) & ME)
#else
#define OUTSTANDING ((FLAGS(place[0]) == NOTIFIED) + (FLAGS(place[1]) == NOTIFIED))
#define TAKABLE (TO_TAKE(0) || TO_TAKE(1))
#define ABED ((bed[0] | bed[1] | gate.queue) & ME)
#endif

inline out_of_bed() {
    unqueue(gate);
    bed[0] = bed[0] & ~ME
#if PLACES > 1
    ; bed[1] = bed[1] & ~ME
#endif
}

inline die() {
    victim = 0;
    out_of_bed();
    unqueue(line);
    forget(gate);
    forget(line);
    bears[_pid] = 0;
    if
    :: holder == ID -> holder = 0; damaged = true
    :: else
    fi;
    answer = WANTS; seen = 0; over = 0; woken = 0
}

inline end_process() {
    atomic {
        over_all++;
        if /* none lost, none twice */
        :: over_all == MEMBERS -> assert(notified == returned + OUTSTANDING)
        :: else
        fi
    }
}

/* ---- notify ----------------------------------------------------------------------------------------------------- */

/* The place of the oldest who waits. */
inline choose_oldest() {
    oldest = NOWHERE;
#if PLACES > 1
    if
    :: FLAGS(place[1]) == WAITS -> oldest = 1
    :: else
    fi;
#endif
    if
    :: FLAGS(place[0]) == WAITS && (oldest == NOWHERE || ticket[0] < ticket[1 % PLACES]) -> oldest = 0
    :: else
    fi
}

/* condition_call */
inline call() {
    calls++;
    wake(line, ALL)
}

/* condition_oldest: passes over the dead. */
inline find_oldest() {
    do
    :: atomic { choose_oldest();
           if
           :: oldest == NOWHERE -> break
           :: else
           fi
       }
#ifdef MUTANT_NOTIFY_THE_DEAD
       break
#else
       if
       :: atomic { DIED(OF(place[oldest])) -> place[oldest] = 0; oldest = NOWHERE }
       :: !DIED(OF(place[oldest])) -> break
       fi
#endif
    od
}

/* condition_notify of one, and condition_mark */
inline notify() {
    find_oldest();
    if
    :: oldest == NOWHERE -> call()
    :: else ->
       atomic { place[oldest] = place[oldest] - WAITS + NOTIFIED; notified++ }
#ifdef MUTANT_ANNOUNCE_BEFORE_REQUEUE
       announce(gate); forget(gate);
#endif
#ifndef MUTANT_REQUEUE_NOT
       requeue();
#endif
#if !defined(MUTANT_ANNOUNCE_BEFORE_REQUEUE) && !defined(MUTANT_REQUEUE_UNANNOUNCED)
       announce(gate); forget(gate);
#endif
       oldest = NOWHERE
    fi
}

inline requeue() {
    atomic {
        if
        :: bed[oldest] != 0 -> gate.queue = gate.queue | bed[oldest]; bed[oldest] = 0 /* there is one at most */
        :: else
        fi
    }
}

/* ---- wait ------------------------------------------------------------------------------------------------------- */

/* condition_begin */
inline begin() {
    atomic {
        at = NOWHERE;
        if
        :: place[0] == 0 -> at = 0
        :: place[0] != 0 && PLACES > 1 && place[1 % PLACES] == 0 -> at = 1
        :: else ->
           if
           :: FLAGS(place[0]) == WAITS && DIED(OF(place[0])) -> at = 0
           :: else ->
#if PLACES > 1
              if
              :: FLAGS(place[1]) == WAITS && DIED(OF(place[1])) -> at = 1
              :: else
              fi
#endif
           fi
        fi;
        if
        :: at == NOWHERE -> before = calls
        :: else -> ticket[at] = tickets; tickets++; place[at] = MINE + WAITS
        fi;
        left = NOWHERE
    }
}

/* condition_inherit, one place */
inline inherit_place(i) {
    if
    :: at != NOWHERE && seen == 1 /* has one */
    :: atomic { seen == 0 && TO_TAKE(i) -> seen = place[i] }
#ifdef MUTANT_TAKE_OVER_BY_TWO_STEPS
       place[i] = 0;
       atomic { place[i] = MINE + NOTIFIED; left = at; at = i; seen = 1 }
#else
       if
       :: atomic { place[i] == seen -> place[i] = MINE + NOTIFIED; left = at; at = i; seen = 1 }
       :: atomic { place[i] != seen -> seen = 0 } /* somebody else was quicker */
       fi
#endif
    :: seen == 0 && !TO_TAKE(i)
    fi
}

inline inherit_notification() {
    inherit_place(0);
#if PLACES > 1
    inherit_place(1);
#endif
    atomic { seen = 0 }
}

#define WAITING (at != NOWHERE && place[at] == MINE + WAITS)

/* condition_round again and again, until it is notified, or its time is up */
inline sleep_in_line() {
    do
    :: atomic { at != NOWHERE && place[at] != MINE + WAITS -> over = 0; break }
    :: WAITING ->
       if /* futex_wait */
       :: atomic { WAITING -> bed[at] = bed[at] | ME }
          if
          :: !ABED
          :: atomic { ABED && (PLACE_SLICE) -> out_of_bed(); over = SLICE_OVER }
          :: atomic { ABED && (TIMES_OUT) -> out_of_bed(); over = GIVES_UP }
          :: atomic { dismissed && WAITING && notified == returned -> out_of_bed(); goto ended }
          fi
       :: !WAITING
       fi;
       if
       :: atomic { over != WOKEN && WAITING } inherit_notification()
       :: !(over != WOKEN && WAITING)
       fi;
       if
#ifdef MUTANT_TIME_OUT_IGNORES_MARK
       :: atomic { over == GIVES_UP -> over = 0; gave_up = true; break }
#else
       :: atomic { over == GIVES_UP -> over = 0; break }
#endif
       :: atomic { over != GIVES_UP -> over = 0 }
       fi
    :: at == NOWHERE ->
       rest(line, calls != before, LINE_SLICE, TIMES_OUT || (dismissed && notified == returned));
       if
       :: atomic { dismissed && notified == returned -> goto ended }
       :: atomic { !dismissed && calls != before -> over = 0; break }
       :: atomic { !dismissed && calls == before }
          if
          :: over != WOKEN -> inherit_notification()
          :: over == WOKEN
          fi;
          if
          :: atomic { over == GIVES_UP -> over = 0; break }
          :: atomic { over != GIVES_UP -> over = 0 }
          fi
       fi
    od
}

/* condition_pass: a notification that its receiver does not use. */
inline pass(i) {
#ifdef MUTANT_PASS_BY_TWO_STEPS
    place[i] = 0;
    notify();
    notified--
#else
    find_oldest();
    if
    :: oldest == NOWHERE -> call(); atomic { place[i] = 0; notified-- }
    :: oldest != NOWHERE -> atomic { place[i] = NOTIFIED; oldest = NOWHERE } /* nobody's: whoever waits takes it */
    fi
#endif
}

/* condition_end */
inline end() {
    if
    :: at == NOWHERE
    :: at != NOWHERE && left != NOWHERE ->
       if
       :: atomic { place[left] == MINE + WAITS -> place[left] = 0 }
       :: place[left] != MINE + WAITS -> /* notified, and heir to a notification: one is somebody else's */
          pass(left)
       fi
    :: at != NOWHERE && left == NOWHERE
    fi;
    if
    :: at == NOWHERE
#ifdef MUTANT_TIME_OUT_IGNORES_MARK
    :: atomic { at != NOWHERE && gave_up -> place[at] = 0 }
#endif
    :: atomic { at != NOWHERE && place[at] == MINE + WAITS -> place[at] = 0 }
    :: atomic { at != NOWHERE && place[at] != MINE + WAITS -> place[at] = 0; returned++ }
    :: at != NOWHERE && place[at] != MINE + WAITS && RAISES -> pass(at)
    fi;
    atomic { at = 0; left = 0; before = 0 }
}

#ifdef VICTIMS_WAIT
#define DOOMED (victim == _pid + 1 && WAITING && ABED && holder <= WAITERS)
#else
#define DOOMED (victim == _pid + 1)
#endif

active [WAITERS] proctype Waiter() {
    byte rounds = ROUNDS;
    byte answer, seen, over, woken, at, left, before, oldest = NOWHERE;
#ifdef MUTANT_TIME_OUT_IGNORES_MARK
    bool gave_up;
#endif

    {
        bears[_pid] = ID;
        do
        :: rounds > 0 ->
           acquire(); answer = WANTS;
           begin();
           give();
           sleep_in_line();
#ifdef MUTANT_LEAVE_UNLOCKED
           end();
           acquire(); answer = WANTS;
#else
           acquire(); answer = WANTS;
           end();
#endif
           give();
           rounds--
        :: rounds == 0 -> break
        od;
        bears[_pid] = 0
    } unless {
        atomic { DOOMED -> die() }
    }
ended:
    end_process()
}

active [NOTIFIERS] proctype Notifier() {
    byte rounds = ROUNDS;
    byte answer, seen, over, woken, count, oldest = NOWHERE;

    {
        bears[_pid] = ID;
        do
        :: rounds > 0 ->
           acquire();
           answer = WANTS;
           count = NOTIFIES;
           do
           :: count > 0 -> notify(); count--
           :: count == 0 -> break
           od;
           give();
           rounds--
        :: rounds == 0 -> break
        od;
        bears[_pid] = 0
    } unless {
        atomic { victim == _pid + 1 -> die() }
    }
    end_process()
}

/* Who waits and was not notified may sleep when nobody can do anything any more; whoever else sleeps then was forgotten. */
active proctype Dismissal() {
end_dismissal:
    timeout -> dismissed = true
}

#ifdef VICTIMS_WAIT
#define VICTIMS WAITERS
#else
#define VICTIMS MEMBERS
#endif

#if KILLS
active proctype Killer() {
    do
    :: atomic { kills > 0 && victim == 0 -> kills--; select(victim : 1 .. VICTIMS) }
    :: break
    od
}
#endif
