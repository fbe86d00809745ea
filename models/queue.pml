/* queue.pml: the cells of shmkit/_cells.h, the blocks that stand in them (_heap.h) and the sweep of _sweep.h, with a SIGKILL
 * between any two steps.
 *
 * Each statement that touches shared memory touches one word of it and is one step; between any two steps every other
 * process may run, and any process may be killed.  A dead process's two leases, as a member and as a holder of blocks, end
 * one after the other, at any time.  Rings are not linked here (link.pml): who finds the last free cell waits.
 *
 * Configuration (models/run sets it):
 *   PRODUCERS, CONSUMERS   how many processes put one item each, or get until all is over
 *   KILLS                  how many SIGKILLs may strike, before any step
 *   VICTIMS                of whom: of so many, producers first
 *   RESTARTS               how often a sweep may be broken off, at any step, and begun again by another
 *   CELLS, MOST            of the ring; items that may be in it
 *   BLOCKS                 of the heap: an item stands in one, which is taken before and let go after
 *   MUTANT_…               plants one fault */
#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef CONSUMERS
#define CONSUMERS 1
#endif
#ifndef KILLS
#define KILLS 0
#endif
#ifndef RESTARTS
#define RESTARTS 0
#endif
#ifndef CELLS
#define CELLS 2
#endif
#ifndef MOST
#define MOST 1
#endif
#ifndef BLOCKS
#define BLOCKS 1
#endif
#define USERS (PRODUCERS + CONSUMERS)
#ifndef VICTIMS
#define VICTIMS USERS
#endif
#define USERS_MOST 4
#define NONE 15

/* A cell's word: ticket, who and phase, in one number. */
#define FREE 0
#define CLAIMED 1
#define READY 2
#define TAKEN 3
#define SKIP 4
#define ORPHAN 5
#define WORD(ticket, who, phase) (((ticket) << 6) + ((who) << 3) + (phase))
#define TICKET(word) ((word) >> 6)
#define WHO(word) (((word) >> 3) & 7)
#define PHASE(word) ((word) & 7)

/* A block's word: 0, HELD(user) or QUEUED(ticket). */
#define HELD(user) (1 + (user))
#define QUEUED(ticket) (20 + (ticket))
#define IS_HELD(word) ((word) > 0 && (word) < 20)
#define HOLDER(word) ((word) - 1)

short cell[CELLS];      /* words */
byte item_block[CELLS]; /* the cell's item: which block … */
byte item_lap[CELLS];   /* … of which ticket */
byte item_number[CELLS];
byte tail, head, skipped, orphans;

byte block[BLOCKS];   /* words */
byte content[BLOCKS]; /* the number of the item that was written there */

bool place[USERS_MOST];                /* among the members: swept when its member is dead */
bool member[USERS_MOST], holder[USERS_MOST]; /* leases */
bool dead[USERS_MOST], over[USERS_MOST];
byte returned[PRODUCERS], came[PRODUCERS]; /* puts; gets, from the moment that the cell was free */
byte kills = KILLS;
chan die[USERS_MOST] = [0] of { bit };
byte put_over; /* producers that are over, or dead */
byte unswept;  /* the dead who still have a place */
bool done;     /* all is over */
chan stop = [0] of { bit }; /* the sweeper */

#define BUSY(at) (PHASE(cell[at]) != FREE)
#define LEFT(b) (IS_HELD(block[b]) && dead[HOLDER(block[b])])
#if CELLS == 2
#define ANY_BUSY (BUSY(0) || BUSY(1))
#else
#define ANY_BUSY (BUSY(0) || BUSY(1) || BUSY(2))
#endif
#if BLOCKS == 1
#define ANY_LEFT LEFT(0)
#define ALL_FREE (block[0] == 0)
#else
#define ANY_LEFT (LEFT(0) || LEFT(1))
#define ALL_FREE (block[0] == 0 && block[1] == 0)
#endif

#define SAME(at, word) (cell[at] == word)

inline cas_cell(at, was, next, ok) {
    atomic {
        ok = (cell[at] == was);
        if
        :: ok -> cell[at] = next
        :: else
        fi
    }
}

inline cas_tail(was) { atomic { if :: tail == was -> tail++ :: else fi } }
inline cas_head(was) { atomic { if :: head == was -> head++ :: else fi } }

init {
    byte i;
    d_step {
        i = 0;
        do
        :: i < CELLS -> cell[i] = WORD(CELLS + i, 0, FREE); item_block[i] = NONE; i++
        :: else -> break
        od;
        tail = CELLS; head = CELLS;
        i = 0;
        do
        :: i < USERS -> place[i] = 1; member[i] = 1; holder[i] = 1; i++
        :: else -> break
        od
    }
    atomic {
        i = 0;
        do
        :: i < PRODUCERS -> run Producer(i); i++
        :: i >= PRODUCERS && i < USERS -> run Consumer(i); i++
        :: else -> break
        od;
        run Sweeper();
        i = 0;
#if RESTARTS
        run Stopper();
#endif
#if KILLS
        run Killer();
        run Kernel();
#endif
    }
}

inline take_block(me, b) {
    do
    :: atomic { block[b] == 0 -> block[b] = HELD(me) }; break
    :: BLOCKS > 1 && block[b] != 0 -> b = (b + 1) % BLOCKS
    od
}

proctype Producer(byte me) {
    byte t, b, h;
    short w, v;
    bool ok;
    {
        take_block(me, b);
        content[b] = me;
again:  t = tail;
        h = head;
        if
        :: t >= h + MOST -> /* queue_true_head: past what has been taken already */
           w = cell[h % CELLS];
           if
           :: TICKET(w) == h && PHASE(w) == SKIP ->
              cas_cell(h % CELLS, w, WORD(h + CELLS, 0, FREE), ok);
              if
              :: ok -> cas_head(h)
              :: else
              fi
           :: (TICKET(w) == h && PHASE(w) == TAKEN) || TICKET(w) == h + CELLS -> cas_head(h)
           :: else -> (head != h || tail != t || !SAME(h % CELLS, w)) /* full: waits */
           fi;
           goto again
        :: else
        fi;
        w = cell[t % CELLS];
        if
        :: w == WORD(t, 0, FREE) ->
           v = cell[(t + 1) % CELLS];
           if
           :: v != WORD(t + 1, 0, FREE) -> (tail != t || !SAME((t + 1) % CELLS, v)); goto again
           :: else
           fi;
#ifdef MUTANT_CLAIM_UNNAMED
           cas_cell(t % CELLS, w, WORD(t, 7, CLAIMED), ok);
#else
           cas_cell(t % CELLS, w, WORD(t, me, CLAIMED), ok);
#endif
           if
           :: !ok -> goto again
           :: else
           fi;
           cas_tail(t);
#ifdef MUTANT_READY_BEFORE_QUEUED
           d_step { item_number[t % CELLS] = me; item_block[t % CELLS] = b; item_lap[t % CELLS] = t }
           atomic { cell[t % CELLS] = WORD(t, 0, READY); returned[me] = 1 };
           atomic { if :: block[b] == HELD(me) -> block[b] = QUEUED(t) :: else fi }
#else
#ifdef MUTANT_QUEUED_BEFORE_ITEM
           atomic { if :: block[b] == HELD(me) -> block[b] = QUEUED(t) :: else fi };
           d_step { item_number[t % CELLS] = me; item_block[t % CELLS] = b; item_lap[t % CELLS] = t }
#else
           d_step { item_number[t % CELLS] = me; item_block[t % CELLS] = b; item_lap[t % CELLS] = t }
           atomic { if :: block[b] == HELD(me) -> block[b] = QUEUED(t) :: else fi };
#endif
           atomic { cell[t % CELLS] = WORD(t, 0, READY); returned[me] = 1 }
#endif
        :: w != WORD(t, 0, FREE) && TICKET(w) == t -> cas_tail(t); goto again
#ifdef MUTANT_TAIL_STAYS
        :: TICKET(w) > t && tail == t -> assert(false) /* it would spin for ever */
        :: TICKET(w) > t && tail != t -> goto again
#else
        :: TICKET(w) > t -> cas_tail(t); goto again
#endif
        :: TICKET(w) < t -> assert(tail != t || cell[t % CELLS] != w); goto again
        fi;
        atomic { over[me] = 1; put_over++; t = 0; w = 0; v = 0; b = 0; h = 0; ok = 0 }
    } unless {
        atomic { die[me]?0 -> dead[me] = 1; unswept++; put_over++; t = 0; w = 0; v = 0; b = 0; h = 0; ok = 0 }
    }
}

inline finish(me, t) {
    b = item_block[t % CELLS];
    n = item_number[t % CELLS];
#ifdef MUTANT_FREE_BEFORE_HELD
    atomic { cell[t % CELLS] = WORD(t + CELLS, 0, FREE); came[n]++; assert(came[n] == 1) };
#endif
    atomic { assert(block[b] == QUEUED(t)); block[b] = HELD(me) };
#ifndef MUTANT_FREE_BEFORE_HELD
    atomic { cell[t % CELLS] = WORD(t + CELLS, 0, FREE); came[n]++; assert(came[n] == 1) };
#endif
    atomic { assert(block[b] == HELD(me) && content[b] == n); block[b] = 0; n = 0; b = 0 }
}

proctype Consumer(byte me) {
    byte h, b, n, i;
    short w;
    bool ok;
    {
        skip;
again:  if
        :: orphans ->
           orphans = 0;
           i = 0;
           do
           :: i < CELLS ->
              w = cell[i];
              if
              :: PHASE(w) == ORPHAN ->
                 orphans = 1;
                 cas_cell(i, w, WORD(TICKET(w), me, TAKEN), ok);
                 if
                 :: ok -> finish(me, TICKET(w)); goto again
                 :: else
                 fi
              :: else
              fi;
              i++
           :: else -> break
           od
        :: else
        fi;
        h = head;
        w = cell[h % CELLS];
        if
        :: TICKET(w) > h -> cas_head(h); goto again
        :: TICKET(w) < h -> goto wait
        :: TICKET(w) == h && (PHASE(w) == READY || PHASE(w) == ORPHAN) ->
           cas_cell(h % CELLS, w, WORD(h, me, TAKEN), ok);
           if
           :: ok -> cas_head(h); finish(me, h)
           :: else
           fi;
           goto again
        :: TICKET(w) == h && PHASE(w) == TAKEN -> cas_head(h); goto again
        :: TICKET(w) == h && PHASE(w) == SKIP ->
           cas_cell(h % CELLS, w, WORD(h + CELLS, 0, FREE), ok);
           if
           :: ok -> cas_head(h)
           :: else
           fi;
           goto again
        :: TICKET(w) == h && (PHASE(w) == FREE || PHASE(w) == CLAIMED) -> goto wait
        fi;
wait:   if
        :: head != h || !SAME(h % CELLS, w) || orphans -> goto again
        :: done
        fi;
        atomic { over[me] = 1; h = 0; b = 0; n = 0; i = 0; w = 0; ok = 0 }
    } unless {
        atomic { die[me]?0 -> dead[me] = 1; unswept++; h = 0; b = 0; n = 0; i = 0; w = 0; ok = 0 }
    }
}

/* --- the sweep --------------------------------------------------------------------------------------------------------- */

inline sweep() {
        d_step {
            more = 0;
            i = 0;
            do
            :: i < USERS -> is_dead[i] = 0; gone[i] = 0; i++
            :: else -> break
            od;
            i = 0;
            do
            :: i < BLOCKS -> spared[i] = 0; i++
            :: else -> break
            od;
            i = 0; t = 0; b = 0; w = 0; ok = 0
        };
        /* 1: holders */
#ifndef MUTANT_BLOCKS_BY_A_LATER_VERDICT
        do
        :: i < BLOCKS ->
           atomic { if :: IS_HELD(block[i]) && !holder[HOLDER(block[i])] -> gone[HOLDER(block[i])] = 1 :: else fi; i++ }
        :: else -> break
        od;
#endif
        atomic { /* 2: members; asking each is a step, but what is found later is found by the next sweep as well */
            i = 0;
            do
            :: i < USERS -> is_dead[i] = place[i] && !member[i]; i++
            :: else -> break
            od;
            i = 0
        }
        do /* 3: cells */
        :: i < CELLS ->
           w = cell[i];
           t = TICKET(w);
           if
           :: PHASE(w) == CLAIMED && WHO(w) < USERS && is_dead[WHO(w)] ->
#ifndef MUTANT_TAIL_STAYS
              cas_tail(t);
#endif
              atomic {
                  b = item_block[i];
                  if
                  :: b != NONE && item_lap[i] == t && block[b] == QUEUED(t) -> block[b] = 0
                  :: else
                  fi;
                  b = 0
              };
              atomic { cas_cell(i, w, WORD(t, 0, SKIP), ok); if :: ok -> skipped++ :: else fi }
           :: PHASE(w) == TAKEN && is_dead[WHO(w)] ->
              b = item_block[i];
#ifndef MUTANT_ORPHAN_WITHOUT_ITS_BLOCK
              atomic { if :: IS_HELD(block[b]) -> block[b] = QUEUED(t) :: else fi };
#endif
              cas_cell(i, w, WORD(t, 0, ORPHAN), ok);
              orphans = 1;
              b = 0
           :: PHASE(w) == TAKEN && !is_dead[WHO(w)] ->
#ifndef MUTANT_NOBODY_SPARED
              atomic { b = item_block[i]; if :: IS_HELD(block[b]) && gone[HOLDER(block[b])] -> spared[b] = 1 :: else fi; b = 0 }
#else
              skip
#endif
           :: PHASE(w) == ORPHAN -> orphans = 1
           :: else
           fi;
           i++
        :: else -> break
        od;
        i = 0;
        do /* 4: blocks */
        :: i < BLOCKS ->
#ifdef MUTANT_BLOCKS_BY_A_LATER_VERDICT
           atomic { if :: IS_HELD(block[i]) && !holder[HOLDER(block[i])] -> block[i] = 0 :: else fi; i++ }
#else
           atomic {
               if
               :: IS_HELD(block[i]) && gone[HOLDER(block[i])] && !spared[i] -> block[i] = 0
               :: IS_HELD(block[i]) && !gone[HOLDER(block[i])] && !holder[HOLDER(block[i])] -> more = 1
               :: else
               fi;
               i++
           }
#endif
        :: else -> break
        od;
        i = 0;
        do /* 5: places */
        :: i < USERS -> atomic { if :: is_dead[i] && !more -> place[i] = 0; unswept-- :: else fi; i++ }
        :: else -> break
        od
}

proctype Sweeper() {
    byte i, t, b;
    short w;
    bool ok, more, spared[BLOCKS], gone[USERS], is_dead[USERS];

    do
    :: unswept > 0 || ANY_LEFT ->
       { sweep() } unless { stop?0 }
    :: atomic { put_over == PRODUCERS && unswept == 0 && !ANY_BUSY && ALL_FREE ->
           done = 1;
           i = 0; t = 0;
           do
           :: i < PRODUCERS -> assert(!returned[i] || came[i] == 1); t = t + returned[i]; i++
           :: else -> break
           od;
           assert(tail - CELLS - skipped == t)
       };
       break
    od
}

#if RESTARTS
proctype Stopper() {
    byte n = RESTARTS;
    do
    :: n > 0 ->
       if
       :: stop!0 -> n--
       :: done -> break
       fi
    :: else -> break
    od
}
#endif

#if KILLS
proctype Killer() {
    byte i;
    do
    :: atomic {
           kills > 0 && !done ->
           select(i : 0 .. VICTIMS - 1);
           if
           :: !over[i] && !dead[i] -> kills--; die[i]!0
           :: else
           fi;
           i = 0
       }
    :: done -> break
    od
}

/* The kernel: leases of the dead end, in any order, at any time. */
proctype Kernel() {
#define ENDS(user) \
    :: atomic { dead[user] && member[user] -> member[user] = 0 } \
    :: atomic { dead[user] && holder[user] -> holder[user] = 0 }
    do
    ENDS(0)
    ENDS(1)
    ENDS(2)
    ENDS(3)
    :: done -> break
    od
}
#endif
