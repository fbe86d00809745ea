/* gate.pml: a gate of shmkit/_gate.h, where any number of processes sleep; for lock.pml, semaphore.pml, event.pml and
 * condition.pml, which include it.
 *
 * The sequence is there without its numbers: all that anybody does with a number that it has read is to compare it with
 * the gate as it is then, so each gate knows whose number still is the right one (`fresh`).  Whoever changes the gate
 * makes all others' outdated.  Numbers therefore never come round; in C there are 2^31 of them.
 *
 * In the kernel's queue there is no order: a wake-up may hit any of those who sleep. */

#define ME (1 << _pid)
#define ALL 255

typedef Gate {
    bool asleep; /* somebody may be asleep */
    byte fresh;  /* who has read the gate as it is now, and will compare; one bit each */
    byte queue;  /* the kernel's: who sleeps there */
    bool owed    /* the truth: somebody announced, and no wake-up since has found the queue empty */
}

#ifdef MUTANT_GATE_COUNT
byte counted; /* a count of those who wait in the place of the bit */
#define SOMEBODY(gate) (counted > 0)
#else
#define SOMEBODY(gate) gate.asleep
#endif

/* gate_announce */
inline announce(gate) {
    atomic {
#ifdef MUTANT_GATE_ANNOUNCE_KEPT
        if
        :: gate.asleep -> gate.fresh = gate.fresh | ME
        :: else -> gate.fresh = ME
        fi;
#else
        gate.fresh = ME;
#endif
#ifdef MUTANT_GATE_COUNT
        counted++;
#endif
        gate.asleep = true;
        gate.owed = true
    }
}

/* What a process no longer compares, and a dead one. */
inline forget(gate) {
    gate.fresh = gate.fresh & ~ME
}

inline unqueue(gate) {
    gate.queue = gate.queue & ~ME
}

inline one_wakes(gate, who) {
    gate.queue = gate.queue & ~who;
    woken++
}

/* FUTEX_WAKE: any `count` of them. */
inline futex_wake(gate, count) {
    atomic {
        if
        :: count == ALL -> gate.queue = 0
        :: else ->
           do
           :: woken < count && (gate.queue & 1) -> one_wakes(gate, 1)
           :: woken < count && (gate.queue & 2) -> one_wakes(gate, 2)
           :: woken < count && (gate.queue & 4) -> one_wakes(gate, 4)
           :: woken < count && (gate.queue & 8) -> one_wakes(gate, 8)
           :: woken == count || gate.queue == 0 -> break
           od
        fi
    }
}

#define NOBODY_THERE 200 /* `woken`, of a waker that was told so by another */

/* gate_wake: after a store of what those who sleep wait for. */
inline wake(gate, count) {
    if
    :: SOMEBODY(gate) ->
#ifdef MUTANT_GATE_WAKE_BEFORE_MOVE
       futex_wake(gate, count);
#endif
       if /* the compare-and-swap that succeeds at last; one that fails leaves nothing behind */
#ifdef MUTANT_GATE_UNMOVED
       :: atomic { SOMEBODY(gate) -> gate.fresh = gate.fresh | ME }
#else
       :: atomic { SOMEBODY(gate) -> assert(gate.owed); gate.fresh = ME }
#endif
       :: atomic { !SOMEBODY(gate) -> woken = NOBODY_THERE }
       fi;
       if
       :: woken == NOBODY_THERE -> woken = 0
       :: else ->
#ifndef MUTANT_GATE_WAKE_BEFORE_MOVE
          futex_wake(gate, count);
#endif
#ifndef MUTANT_GATE_CLEAR_ALWAYS
          if
          :: atomic { woken >= count -> forget(gate); woken = 0 }
          :: woken < count ->
#endif
             atomic {
#ifndef MUTANT_GATE_CLEAR_BY_STORE
                 if
                 :: gate.fresh & ME ->
#endif
                    gate.asleep = false; gate.owed = false; gate.fresh = 0
#ifndef MUTANT_GATE_CLEAR_BY_STORE
                 :: else
                 fi
#endif
                 ; woken = 0
             }
#ifndef MUTANT_GATE_CLEAR_ALWAYS
          fi
#endif
       fi
    :: !SOMEBODY(gate)
    fi
}

/* How a sleep ended. */
#define WOKEN 0
#define SLICE_OVER 1
#define GIVES_UP 2 /* its time is up, or a signal's handler raises */

/* gate_round without the spinning, which is a look like any other: announce, look, sleep.  The caller looks again. */
inline rest(gate, is_ready, slice, impatient) {
#ifndef MUTANT_GATE_ANNOUNCE_LATE
    announce(gate);
#endif
    if
    :: atomic { is_ready -> forget(gate) }
    ::
#ifndef MUTANT_GATE_NO_RECHECK
       atomic { !(is_ready) };
#else
       true;
#endif
#ifdef MUTANT_GATE_ANNOUNCE_LATE
       announce(gate);
#endif
       if /* futex_wait: the kernel compares and sleeps in one step */
       :: atomic { gate.fresh & ME -> gate.queue = gate.queue | ME; forget(gate) }
          if
          :: !(gate.queue & ME)
          :: atomic { (gate.queue & ME) && (slice) -> unqueue(gate); over = SLICE_OVER }
          :: atomic { (gate.queue & ME) && (impatient) -> unqueue(gate); over = GIVES_UP }
          fi
#ifdef EVERYBODY_ENDS
       :: !(gate.fresh & ME) && !(slice) /* two that announce in turn never sleep, but their slices end by the clock */
#else
       :: !(gate.fresh & ME)
#endif
       :: atomic { !(gate.fresh & ME) && (slice) -> over = SLICE_OVER }
       fi
    fi
#ifdef MUTANT_GATE_COUNT
    ; counted--
#endif
}
