/* meet.pml: the hand-over of shmkit/_pair_meet.h beside a descriptor, with a SIGKILL or a SIGSTOP between any two steps.
 *
 * That a process stands still for a while is in the interleavings.  STOPS are those that never end: as KILLS, but the leases and
 * the descriptors stay.
 *
 * Every message knows which had been sent when it was begun: all of those are to be received before it.
 *
 * Configuration (models/run sets it):
 *   SENDERS, READERS, MESSAGES  processes, and what each sender sends
 *   LOCKED                      0: readers do not take turns
 *   RAW                         one more who writes, and knows the descriptor only: so the kernel is asked
 *   KILLS, STOPS                so many die, or stop for good
 *   VICTIMS_FROM, VICTIMS_TO    which processes, plus one; writers come first
 *   EVERYBODY_ENDS              checks that all who live come to their end
 *   MUTANT_…                    a planted fault */
#ifndef SENDERS
#define SENDERS 2
#endif
#ifndef READERS
#define READERS 1
#endif
#ifndef MESSAGES
#define MESSAGES 1
#endif
#ifndef LOCKED
#define LOCKED 1
#endif
#ifndef RAW
#define RAW 0
#endif
#ifndef KILLS
#define KILLS 0
#endif
#ifndef STOPS
#define STOPS 0
#endif

#define WRITERS (SENDERS + RAW)
#define ALL (WRITERS * MESSAGES)
#define PROCESSES (WRITERS + READERS)

/* ---- shared memory ---------------------------------------------------------------------------------------------- */

#define NOBODY 0
#define WAITING 1
#define READY 2
#define COMING 3

/* One word in C: whatever looks at it, or changes it, is atomic. */
byte ticket, state;
byte owner;          /* 0, or the process's number plus one */
byte front, back;    /* the two halves of the bytes: a message's number plus one */

/* ---- the kernel ------------------------------------------------------------------------------------------------- */

chan wire = [ALL] of { byte };
byte open_ends = WRITERS; /* of writers that live, stopped ones among them */
byte stopped_ends;
bool dead[PROCESSES];
byte victim;              /* who is to die, plus one */
bool for_good;            /* and its leases end */
byte kills = KILLS, stops = STOPS;

#define HALTED (victim == _pid + 1)

/* ---- the truth -------------------------------------------------------------------------------------------------- */

#define BIT(message) (1 << (message))

byte sent;      /* whose call returned */
byte got;       /* received, once and for all */
byte before[ALL];
byte over_all;

/* A message is received: once, whole, and after all that had been sent when it was begun. */
inline receive(one, other) {
    assert(one == other && one > 0);
    assert(!(got & BIT(one - 1)));
    assert((before[one - 1] & ~got) == 0);
    got = got | BIT(one - 1)
}

/* ---- sending ---------------------------------------------------------------------------------------------------- */

#define NOW (state == seen_state && ticket == seen)
#if RAW && !defined MUTANT_KERNEL_NOT_ASKED
#define KERNEL_ASKED
#endif
#ifdef MUTANT_TAKE_ANY_TICKET
#define MINE (state == READY)
#else
#define MINE (state == READY && ticket == posted)
#endif

inline own() {
    if
    :: atomic { owner == 0 -> owner = _pid + 1; owns = true }
#ifdef MUTANT_OWNER_NOT_ASKED
    :: atomic { owner != 0 -> owner = _pid + 1; owns = true }
#else
    :: atomic { owner != 0 && dead[owner - 1] -> owner = _pid + 1; owns = true }
    :: atomic { owner != 0 && !dead[owner - 1] -> owns = false }
#endif
    fi
}

inline disown() {
    atomic { owner = 0; owns = false }
}

/* meet_hand: `handed` says what came of it. */
inline hand(message) {
    handed = false;
    atomic { seen = ticket; seen_state = state };
    if
    :: seen_state == NOBODY || seen_state == COMING
    :: seen_state == READY ->
       /* meet_unstick, which in C takes two messages */
#ifdef MUTANT_UNSTICK_UNOWNED
       if
       :: atomic { NOW -> state = NOBODY }
       :: atomic { !NOW }
       fi;
#endif
       own();
       if
       :: owns ->
          atomic {
              if
              :: NOW -> state = NOBODY
              :: else
              fi
          };
          disown()
       :: !owns
       fi
    :: seen_state == WAITING ->
       if
#ifdef KERNEL_ASKED
       :: atomic { empty(wire) } ->
#else
       :: true ->
#endif
          own();
          if
          :: owns ->
             if
#ifdef MUTANT_NO_LOOK_AFTER_OWNING
             :: true ->
#else
             :: atomic { NOW } ->
#endif
                front = message + 1;
                back = message + 1;
                if
#ifdef MUTANT_READY_WITHOUT_TICKET
                :: atomic { state == WAITING -> state = READY; seen = ticket };
#else
                :: atomic { NOW -> state = READY };
#endif
                   if
#ifdef MUTANT_NO_ANSWER
                   :: true -> handed = true
#else
                   :: atomic { !(state == READY && ticket == seen) -> handed = true }
#endif
#ifdef MUTANT_WITHDRAW_BY_STORE
                   :: atomic { state == READY && ticket == seen } -> state = NOBODY
#else
                   :: atomic { state == READY && ticket == seen -> state = NOBODY }
#endif
                   fi
                :: atomic { !NOW }
                fi
#ifndef MUTANT_NO_LOOK_AFTER_OWNING
             :: atomic { !NOW }
#endif
             fi;
             disown()
          :: !owns
          fi
#ifdef KERNEL_ASKED
       :: atomic { nempty(wire) }
#endif
       fi
    fi
}

/* After a write.  In C a look, and a compare-and-swap that is tried again. */
inline tell() {
    atomic {
        if
#ifdef MUTANT_TELL_WHAT_WAS_SEEN
        :: (seen_state == WAITING || seen_state == COMING) && NOW -> state = NOBODY
#else
#ifndef MUTANT_TELL_NOBODY_COMING
        :: state == COMING -> state = NOBODY
#endif
        :: state == WAITING -> state = NOBODY
#endif
        :: else
        fi
    }
}

/* Its end is closed by the kernel when it is dead; one that is stopped has it still. */
inline halt(ends) {
    if
    :: for_good ->
       dead[_pid] = true;
       open_ends = open_ends - ends
    :: else ->
       stopped_ends = stopped_ends + ends
    fi;
    victim = 0;
    over_all++
}

active [WRITERS] proctype Writer() {
    byte number, seen, seen_state;
    bool owns, handed;

    {
        do
        :: number < MESSAGES ->
           before[_pid * MESSAGES + number] = sent;
           if
           :: _pid < SENDERS -> hand(_pid * MESSAGES + number)
           :: _pid >= SENDERS
           fi;
           if
           :: handed -> atomic { sent = sent | BIT(_pid * MESSAGES + number); handed = false; number++; seen = 0; seen_state = 0 }
           :: !handed ->
#ifdef MUTANT_TELL_FIRST
              if
              :: _pid < SENDERS -> tell()
              :: _pid >= SENDERS
              fi;
#endif
              wire ! (_pid * MESSAGES + number + 1);
#if !defined MUTANT_UNTOLD && !defined MUTANT_TELL_FIRST
              if
              :: _pid < SENDERS -> tell()
              :: _pid >= SENDERS
              fi;
#endif
              atomic { sent = sent | BIT(_pid * MESSAGES + number); number++; seen = 0; seen_state = 0 }
           fi
        :: number == MESSAGES -> break
        od;
        atomic { open_ends--; number = MESSAGES + 1; over_all++ }
    } unless {
        atomic { HALTED && number <= MESSAGES -> halt(1); seen = 0; seen_state = 0; owns = false; handed = false }
    }
}

/* ---- receiving -------------------------------------------------------------------------------------------------- */

/* Those who share an end need a lock, and take turns.  That of one that has died or was stopped is given back here: what is asked is
 * that the next one finds all that is its.  Not LOCKED: they do without, which is well where a message is read in one step. */
byte turn;

active [READERS] proctype Reader() {
    byte posted, first, second;
    bool done, mine;

    {
        do
        :: atomic { !LOCKED || turn == 0 -> turn = _pid + 1 };
           if
#ifdef MUTANT_LOOK_BEFORE_COMING
           :: atomic { empty(wire) && state == NOBODY && open_ends > 0 };
              atomic { state == NOBODY -> ticket++; state = WAITING; posted = ticket };
#else
           :: atomic { state == NOBODY && open_ends > 0 -> ticket++; state = COMING; posted = ticket };
              /* the look at the descriptor */
              if
              :: atomic { empty(wire) } ->
                 atomic {
                     if
                     :: state == COMING && ticket == posted -> state = WAITING
                     :: else
                     fi
                 }
              :: atomic { nempty(wire) } ->
                 atomic {
                     if
                     :: state == COMING && ticket == posted -> state = NOBODY
                     :: else
                     fi
                 }
              fi;
#endif
              do
              :: atomic { state == READY && ticket == posted } ->
                 first = front;
                 second = back;
                 if
#ifdef MUTANT_TAKE_BY_STORE
                 :: true -> atomic { receive(first, second); state = NOBODY; mine = true }
#else
                 :: atomic { MINE -> receive(first, second); state = NOBODY; mine = true }
                 :: atomic { !MINE }
#endif
                 fi;
                 break
              :: atomic { state != READY || ticket != posted } ->
                 /* it is impatient, or the descriptor tells, or the post was taken back */
                 if
                 :: atomic { state == WAITING && ticket == posted -> state = NOBODY } -> break
                 :: atomic { !(state == READY && ticket == posted) && !(state == WAITING && ticket == posted) } -> break
                 :: atomic { state == READY && ticket == posted }
                 fi
              od
           :: true /* where it would not have had to wait, or somebody else has posted */
           fi;
           atomic { first = 0; second = 0; posted = 0 };
           if
           :: mine -> mine = false
           :: !mine ->
              if
              :: atomic { wire ? first -> receive(first, first); first = 0 }
              :: atomic { empty(wire) && open_ends == stopped_ends } -> done = true /* or waits for ever for those who are stopped */
              fi
           fi;
           atomic {
               if
               :: turn == _pid + 1 -> turn = 0
               :: else
               fi
           };
           if
           :: done -> break
           :: !done
           fi
        od;
        atomic { over_all++; posted = 255; assert((sent & ~got) == 0) }
    } unless {
        atomic {
            HALTED && posted != 255 ->
            if
            :: turn == _pid + 1 -> turn = 0
            :: else
            fi;
            halt(0);
            posted = 255; first = 0; second = 0; mine = false
        }
    }
}

#if KILLS + STOPS
#ifndef VICTIMS_FROM
#define VICTIMS_FROM 1
#endif
#ifndef VICTIMS_TO
#define VICTIMS_TO PROCESSES
#endif
active proctype Killer() {
    do
    :: atomic { kills > 0 && victim == 0 -> kills--; for_good = true; select(victim : VICTIMS_FROM .. VICTIMS_TO) }
    :: atomic { stops > 0 && victim == 0 -> stops--; for_good = false; select(victim : VICTIMS_FROM .. VICTIMS_TO) }
    :: break
    od
}
#endif

#ifdef EVERYBODY_ENDS
ltl everybody_ends { <> (over_all == PROCESSES) }
#endif
