/* announce.pml: the other end's role is taken, and taken over from the dead, while the owner of a bell waits with a descriptor
 * (ring_claim_… and ring_announce in shmkit/_ring_roles.h and _ring_bell.h; RingWatch.follow in _ring_watch.pyx).
 *
 * A life takes the role, announces itself, stores records, and may be killed before any step; then perhaps comes the next.
 * Nobody who waits has a timer: one that is not told of a record, of an end, or of the death of one whose claim had
 * returned, waits for ever, and spin says so.
 *
 * Configuration (models/run sets it): LIVES, RECORDS (of all lives), KILLS, MUTANT_…. */
#ifndef LIVES
#define LIVES 2
#endif
#ifndef RECORDS
#define RECORDS 1
#endif
#ifndef KILLS
#define KILLS 1
#endif

#define AWAKE 0
#define WATCHED 2

#define NONE 0
#define OPEN 1
#define CLOSED 2

/* ---- shared memory ---------------------------------------------------------------------------------------------- */
byte tail;
byte bell;
byte epoch; /* of the role */
byte pid_;  /* the number of a life */
byte state = NONE;

/* ---- the kernel ------------------------------------------------------------------------------------------------- */
bool held;              /* the role's lease */
bool datagram;          /* in the owner's socket */
bool gone[LIVES + 1];   /* lives whose process has ended */
byte followed;          /* whose pidfd is in the owner's epoll set; 0: nobody's */
bool strike;            /* the life that there is is being killed */

/* ---- the truth -------------------------------------------------------------------------------------------------- */
bool over;     /* no more happens at the other end */
bool returned; /* some claim has returned */
bool lives_on; /* the last life goes on, and says nothing more */

#define READABLE (datagram || gone[followed])
/* Who waits now may wait for ever: it has had everything, and there is nobody of whose death it could know. */
#define QUIET (over && tail == head && (lives_on || !returned))

/* ---- the other end ---------------------------------------------------------------------------------------------- */

/* ring_call, ring_rouse */
inline call() {
    if
    :: atomic { bell == WATCHED -> bell = AWAKE } /* exchange */
       datagram = true                            /* watch_tell */
    :: bell == AWAKE
    fi
}

/* ring_announce */
inline announce() {
#ifdef MUTANT_ANNOUNCE_BY_CALL
    call()
#else
    if
#ifndef MUTANT_UNANNOUNCED
    :: bell == WATCHED -> datagram = true /* watch_tell: the bell stays */
    :: bell == AWAKE
#else
    :: true
#endif
    fi
#endif
}

active proctype Other() {
    byte life, count;
    do
    :: life < LIVES && state != CLOSED ->
       life++;
       {
           held = true; /* lease_take */
           epoch++;     /* ring_role_open */
           pid_ = life;
           state = OPEN;
           announce();
           returned = true;
           do
           :: count < RECORDS ->
              atomic { tail++; count++ }
              call()
           :: true -> break
           od;
           if
           :: state = CLOSED; /* ring_close_… */
              call();
              atomic { held = false; over = true }
              goto done
           :: atomic { lives_on = true; over = true }
              goto done
           fi
       } unless {
           /* Whoever dies before it has signed in has a pid that nobody knows. */
           atomic { strike && !over -> strike = false; held = false; gone[life] = true }
       }
    :: true -> break
    od;
    over = true;
done:
    skip
}

/* ---- the owner -------------------------------------------------------------------------------------------------- */

#define CHANGED (seen != known || was != known_state || who != known_pid)
#define READY (tail != head || state == CLOSED)

/* RingWatch.tell */
inline tell() {
    atomic { if :: bell == WATCHED -> bell = AWAKE :: else fi } /* ring_disarm */
    atomic { datagram = true; told = true }
}

/* ring_role_is_held: the epoch is loaded before and after */
inline ask() {
    do
    :: seen = epoch;
       was = state;
       who = pid_;
       alive = held; /* lease_ask */
       if
       :: epoch == seen -> break
       :: epoch != seen
       fi
    od
}

/* RingWatch.follow */
inline follow() {
    do
    :: ask();
       if
       :: !alive || (was == OPEN && (CHANGED || !dead)) -> break
       :: else /* it is being taken; or that takes too long */
          if
          :: true
          :: late = true; /* whoever waits goes on looking: it may be killed before it has said who it is */
             break
          fi
       fi
    od;
#ifdef MUTANT_LATE_TRUSTED
    late = false;
#endif
    dead = (was == OPEN && (!alive || late));
    late = false;
    if
#ifdef MUTANT_FIRST_FOLLOWED
    :: CHANGED && known_pid == 0 ->
#else
    :: CHANGED ->
#endif
       changed = true;
       known = seen;
       known_state = was;
       known_pid = who;
       followed = 0;
       if
       :: was == OPEN && alive -> /* look_out */
          opened = who;
          if
          :: gone[opened] -> /* pidfd_open: no such process; who takes the role has signed in, or died, before it is given up */
#ifdef MUTANT_GONE_ONCE
             ask();
             dead = !alive
#else
             do
             :: ask();
                if
                :: alive && !CHANGED
                :: else -> dead = !alive; break
                fi
             od
#endif
          :: !gone[opened] ->
             ask();
             if
             :: !alive -> dead = true
             :: alive -> followed = opened
             fi
          fi;
          opened = 0
       :: else
       fi
    :: else
    fi
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
       datagram = false; /* watch_drain */
       told = false;
       do
       :: bell = WATCHED; /* ring_arm */
          changed = false;
          follow();
#ifdef MUTANT_ARMED_ONCE
          changed = false;
#endif
          if
          :: changed /* who had the role may have cleared the bell, and died before its datagram */
          :: !changed -> break
          fi
       od;
       if
       :: READY || dead -> tell()
       :: !READY && !dead
       fi
    fi
}

active proctype Owner() {
    byte head, seen, was, who;            /* now */
    byte known, known_state, known_pid;   /* RingWatch.epoch, state, pid */
    byte opened;
    bool told, dead, alive, changed, late;

    do
    :: tail != head ->
       head++;
       settle()
    :: tail == head ->
       ask(); /* ring_ask */
       if
       :: tail != head
       :: tail == head && !alive && was != NONE -> break /* EndOfStream, PeerDied */
       :: tail == head && (alive || was == NONE) ->
          settle();
          if
          :: READABLE
          :: QUIET -> break
          fi
       fi
    od
}

#if KILLS
active proctype Killer() {
    byte kills;
    do
    :: atomic { kills < KILLS && !over && !strike -> strike = true; kills++ }
    :: true -> break
    od
}
#endif
