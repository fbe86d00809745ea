/* holding.pml: the word of a lock of shmkit/_lock.h, how it is acquired, inherited and released; for lock.pml and
 * condition.pml, which include it after they have defined
 *
 *   MEMBERS     processes that may hold it, pids 0 … MEMBERS - 1
 *   LIVES       how many processes each of those is, one after the other, under another id each
 *   SLICE       whether a sleep for the lock may end by itself now
 *   IMPATIENT   whether a wait may be given up
 *   TELL        whether an heir is told */

#include "gate.pml"

/* ---- members ---------------------------------------------------------------------------------------------------- */

#ifdef MUTANT_ID_REUSED
#define ID (1 + _pid)
#else
#define ID (1 + _pid + MEMBERS * (LIVES - lives))
#endif
#define MINE (ID * 4)
#define OF(word) ((word) / 4)
#define FLAGS(word) ((word) % 4)

byte bears[MEMBERS]; /* the kernel's leases: the id of the process that is alive there */
#define DIED(id) (id == 0 || bears[(id - 1) % MEMBERS] != id) /* nobody ever bears 0 */

/* ---- the lock's word -------------------------------------------------------------------------------------------- */

#define INCONSISTENT 1
#define LOST_WORD 2

byte word;
Gate gate;

/* ---- the truth ---- */
byte holder;  /* who has the lock, alive */
bool damaged; /* somebody died with it, and nobody has it since */
bool lost;    /* it was released unrepaired */

inline acquired(told) {
    assert(holder == 0 && !lost);
    assert(told == (damaged && TELL));
    holder = ID;
    damaged = false
}

/* ---- acquire ---------------------------------------------------------------------------------------------------- */

#define WANTS 0
#define HELD 1
#define INHERITED 2
#define LOST 3
#define GAVE_UP 4

/* lock_take */
inline take() {
    if
    :: atomic { word == 0 -> word = MINE; acquired(false); answer = HELD }
    :: word != 0
    fi
}

/* lock_inherit: the word that the kernel was asked about is compared and replaced in one step. */
#if defined(MUTANT_INHERIT_BY_STORE)
#define UNCHANGED true
#elif defined(MUTANT_INHERIT_WHAT_IS_THERE)
#define UNCHANGED (word != 0)
#else
#define UNCHANGED (word == seen)
#endif

inline inherit() {
    if
    :: atomic { word == LOST_WORD -> answer = LOST }
    :: word == 0
    :: atomic { word != 0 && word != LOST_WORD -> seen = word }
       if /* member_died */
#ifndef MUTANT_INHERIT_UNASKED
       :: atomic { !DIED(OF(seen)) -> seen = 0 }
       :: DIED(OF(seen)) ->
#else
       :: true ->
#endif
          if
          :: atomic { UNCHANGED ->
                 word = MINE + (TELL -> INCONSISTENT : 0);
                 acquired(TELL);
                 answer = (TELL -> INHERITED : HELD);
                 seen = 0
             }
          :: atomic { !(UNCHANGED) -> seen = 0 } /* somebody else was quicker */
          fi
       fi
    fi
}

#define READY (word == 0 || word == LOST_WORD) /* lock_ready */

/* lock_try, and lock_round again and again. */
inline acquire() {
    take();
    do
    :: answer != WANTS -> break
    :: atomic { answer == WANTS && IMPATIENT -> answer = GAVE_UP } /* a try; a signal; time that is up before a look */
    :: answer == WANTS ->
       rest(gate, READY, SLICE, IMPATIENT);
       if
       :: atomic { word == 0 -> over = 0 }
          take()
       :: atomic { word == LOST_WORD -> over = 0; answer = LOST }
       :: word != 0 && word != LOST_WORD ->
          if
#ifndef MUTANT_NO_INHERIT
          :: over != WOKEN -> inherit()
#endif
          :: over == WOKEN
#ifdef MUTANT_NO_INHERIT
          :: over == SLICE_OVER
#endif
          :: over == GIVES_UP /* a signal: asks nobody */
          fi;
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

/* ---- release ---------------------------------------------------------------------------------------------------- */

/* lock_recover */
inline recover() {
    atomic { assert(word == MINE + INCONSISTENT); word = MINE }
}

/* lock_give; the holder is the caller. */
inline give() {
#ifdef MUTANT_GATE_LOOK_BEFORE_STORE
    if
    :: gate.asleep -> store_free(); wake(gate, 1)
    :: !gate.asleep -> store_free()
    fi
#else
    if
    :: store_free(); wake(gate, 1)
    :: atomic { word == MINE + INCONSISTENT ->
           holder = 0;
           lost = true;
#ifdef MUTANT_LOST_RELEASED
           word = 0
#else
           word = LOST_WORD
#endif
       }
#ifdef MUTANT_LOST_WAKES_ONE
       wake(gate, 1)
#else
       wake(gate, ALL)
#endif
    fi
#endif
}

inline store_free() {
    atomic { word == MINE -> word = 0; holder = 0 }
}
