/* bell.pml: a ring's bell (shmkit/_ring_bell.h), whose owner waits with a descriptor (_ring_watch.pyx) or sleeps (_wait.h).
 *
 * The other end stores a record or closes, then looks at the bell; it may be killed before any step.  No sleep and no
 * timer of an event loop saves anybody here: who waits beside a record, an end or a death waits for ever, and spin says so.
 * The tasks of an event loop take turns and are served while the descriptor is readable: to the ring they are one owner.
 *
 * Configuration (models/run sets it): RECORDS, KILLS (0 or 1), FAILURES (datagrams that cannot be sent, for want of a
 * descriptor; not the last one), SLEEPS (the owner may sleep now and then, too), MUTANT_…. */
#ifndef RECORDS
#define RECORDS 3
#endif
#ifndef KILLS
#define KILLS 0
#endif
#ifndef FAILURES
#define FAILURES 0
#endif

#define AWAKE 0
#define ASLEEP 1
#define WATCHED 2

/* ---- shared memory ---------------------------------------------------------------------------------------------- */
byte tail;
bool closed;
byte bell;

/* ---- the kernel ------------------------------------------------------------------------------------------------- */
bool sleeping; /* on the bell's futex queue */
bool datagram; /* in the owner's socket */
bool killed;   /* the other end: its lease is free */
bool pidfd;    /* of the other end's process, in the owner's epoll set */
bool strike;   /* it is being killed */
byte failures = FAILURES;

bool quiet; /* the truth: no more comes, and nobody says so; who has had everything may wait for ever */

#define READABLE (datagram || (pidfd && killed))

/* ---- the other end ---------------------------------------------------------------------------------------------- */

/* ring_rouse */
inline rouse() {
    if
#ifdef MUTANT_TELL_BEFORE_CLEAR
    :: bell == WATCHED ->
       datagram = true;
       bell = AWAKE
    :: atomic { bell == ASLEEP -> bell = AWAKE }
       sleeping = false
#else
    :: atomic { bell == ASLEEP -> bell = AWAKE } /* exchange */
       sleeping = false                          /* futex_wake */
    :: atomic { bell == WATCHED -> bell = AWAKE }
       if /* watch_tell */
       :: datagram = true
       :: atomic { failures > 0 && count < RECORDS -> failures-- }
#ifndef MUTANT_FAILURE_FORGOTTEN
          atomic { if :: bell == AWAKE -> bell = WATCHED :: else fi } /* compare-and-swap */
#endif
       fi
#endif
    :: bell == AWAKE
    fi
}

/* ring_call */
inline call() {
    if
    :: bell != AWAKE -> rouse()
    :: bell == AWAKE
    fi
}

active proctype Sender() {
    byte count;
    {
        do
        :: count < RECORDS ->
#ifdef MUTANT_CALL_BEFORE_STORE
           call();
           atomic { tail++; count++ }
#else
           atomic { tail++; count++ }
           call()
#endif
        :: count == RECORDS -> break
        od;
        if
        :: closed = true;
           call()
        :: quiet = true
        fi
    } unless {
        atomic { strike -> killed = true; strike = false }
    }
}

/* ---- the owner -------------------------------------------------------------------------------------------------- */

#define READY (tail != head || closed) /* RingWatch.ready */

/* RingWatch.tell */
inline tell() {
    atomic { if :: bell == WATCHED -> bell = AWAKE :: else fi } /* ring_disarm */
    atomic { datagram = true; told = true }
}

/* RingWatch.settle */
inline settle() {
    if
    :: READY ->
       if
       :: !told -> tell()
       :: told
       fi
    :: !READY ->
#ifndef MUTANT_DRAIN_LAST
       datagram = false; /* watch_drain */
#endif
#ifndef MUTANT_TOLD_KEPT
       told = false;
#endif
#ifdef MUTANT_LOOK_BEFORE_ARM
       if
       :: READY -> bell = WATCHED; tell()
       :: !READY -> bell = WATCHED
       fi
#else
       bell = WATCHED; /* ring_arm */
#ifndef MUTANT_DEATH_UNSEEN
       if /* RingWatch.follow: its lease is asked about, its process looked out for */
       :: killed -> dead = true
       :: !killed -> pidfd = true
       fi;
#endif
       if
       :: READY || dead -> tell()
       :: !READY && !dead
       fi
#ifdef MUTANT_DRAIN_LAST
       ; datagram = false
#endif
#endif
    fi
}

active proctype Owner() {
    byte head;
    bool told, dead;

    do
    :: tail != head -> /* an operation that finds a record */
       head++;
       settle()
    :: tail == head && (closed || killed) ->
       if
       :: tail == head -> break /* EndOfStream, PeerDied: after another look */
       :: tail != head
       fi
    :: tail == head && !closed && !killed -> /* one that finds none */
       settle();
#ifdef SLEEPS
       if
       :: /* wait_round */
          bell = ASLEEP;
          if
          :: tail != head || closed
          :: tail == head && !closed ->
             if
             :: atomic { bell == ASLEEP -> sleeping = true }
                if
                :: !sleeping
                :: killed || (quiet && tail == head) -> sleeping = false /* a slice, after which the kernel is asked */
                fi
             :: bell != ASLEEP
             fi
          fi;
          bell = AWAKE;
#ifndef MUTANT_UNSETTLED
          settle()
#endif
       :: skip
       fi;
#endif
       if
       :: skip /* looks again unasked */
       :: skip ->
          if
          :: READABLE /* select, epoll_wait, an event loop */
          :: quiet && tail == head -> break
          fi
       fi
    od
}

#if KILLS
active proctype Killer() {
    if
    :: atomic { strike = true }
    :: skip
    fi
}
#endif
