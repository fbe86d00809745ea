/* drop.pml: how what is dropped counts as done (shmkit/_queue_done.h), how a sweep goes on with what the dead were dropping, and how
 * it counts what it skips (_sweep.h), with a SIGKILL between any two steps.
 *
 * Each statement that touches shared memory touches one word of it and is one step.  What happens to the block of an item is
 * modelled in queue.pml: here the first item alone stands in one, and somebody takes it as soon as it is free.  A killed process's
 * leases end at once.  Rings are not linked: who finds the last free cell waits.
 *
 * Configuration (models/run sets it):
 *   PRODUCERS, ITEMS   how many put, so many items each, and drop the oldest for want of room
 *   SHUTTERS           how many shut the queue at once, and drop what is in it
 *   CONSUMERS          how many get items and declare them done, until all is over
 *   EARLY              how many tasks are declared done by somebody who got nothing
 *   JOINS, HOLDS       whether somebody joins; whether somebody takes the first item's block when it is free
 *   KILLS              how many SIGKILLs may strike, before any step
 *   VICTIMS_FROM, VICTIMS   of whom: from which one on, and how many, in the order above
 *   RESTARTS           how often a sweeper may be killed, at any step
 *   MOST               items that there is room for; so many are in it at the beginning
 *   MUTANT_…           plants one fault */
#ifndef PRODUCERS
#define PRODUCERS 1
#endif
#ifndef ITEMS
#define ITEMS 1
#endif
#ifndef SHUTTERS
#define SHUTTERS 0
#endif
#ifndef CONSUMERS
#define CONSUMERS 0
#endif
#ifndef EARLY
#define EARLY 0
#endif
#ifndef JOINS
#define JOINS 1
#endif
#ifndef HOLDS
#define HOLDS 0
#endif
#ifndef KILLS
#define KILLS 0
#endif
#ifndef RESTARTS
#define RESTARTS 0
#endif
#ifndef MOST
#define MOST 1
#endif
#define USERS (PRODUCERS + SHUTTERS + CONSUMERS)
#ifndef VICTIMS_FROM
#define VICTIMS_FROM 0
#endif
#ifndef VICTIMS
#define VICTIMS (USERS - VICTIMS_FROM)
#endif
#define CELLS 4
#define FIRST CELLS /* ticket */
#define TICKETS (MOST + PRODUCERS * ITEMS)
#define JOINER USERS
#define SWEEPER (USERS + 1) /* and those who come after it */
#define NONE 31

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

/* `dropping`: ticket and turn; `done`: count and turn. */
#define DROP(ticket, turn) (((ticket) << 3) + (turn))
#define NAMED(drop) ((drop) >> 3)
#define COUNT(done) ((done) >> 3)
#define TURN(word) ((word) & 7)

/* The block's word: 0, QUEUED in the cell of the first ticket, or HELD(user). */
#define QUEUED 1
#define HELD(user) (2 + (user))
#define HOLDER 29 /* who takes it when it is free */

short cell[CELLS];
byte tail = FIRST + MOST, head = FIRST, skipped, skipping, skipped_was;
bool orphans, shut;
short dropping, done;
byte block = QUEUED;

/* What is so, whatever is stored. */
byte open = MOST;      /* tasks that are not done: of tickets behind tail, neither skipped nor dropped nor declared done */
bool was_done;         /* there were none at one time since the join began */
bit counted[TICKETS];  /* as done */
bit gone[TICKETS];     /* skipped */
bit got[TICKETS];
byte owes[USERS];      /* the ticket of which item it has got, and not declared done; 0: none */

bool place[USERS], dead[USERS], over[USERS];
byte kills = KILLS;
chan die[USERS] = [0] of { bit };
chan stop = [0] of { bit }; /* the sweeper */
byte unswept; /* the dead who still have a place */
bool again;   /* a sweeper was killed */
bool joined, finished;

#define TASKS (tail - FIRST - skipped)
#define UNFINISHED (TASKS - COUNT(done))
#define SAME(at, word) (cell[at] == word)
#define IS(phase) \
    ((PHASE(cell[0]) == phase) + (PHASE(cell[1]) == phase) + (PHASE(cell[2]) == phase) + (PHASE(cell[3]) == phase))

#if EARLY
#define SOUND assert(UNFINISHED >= 0)
#define COUNTS(ticket) skip
#define CLOSES skip
#else
#define SOUND assert(UNFINISHED >= open)
#define COUNTS(ticket) \
    assert(!counted[(ticket) - FIRST] && !gone[(ticket) - FIRST]); \
    counted[(ticket) - FIRST] = 1
#define CLOSES \
    assert(open > 0); \
    open--; \
    was_done = was_done || open == 0
#endif

inline cas_cell(at, was, next, ok) {
    atomic {
        ok = (cell[at] == was);
        if
        :: ok -> cell[at] = next
        :: else
        fi
    }
}

inline cas_tail(was) { atomic { if :: tail == was -> tail++; open++ :: else fi } }
inline cas_head(was) { atomic { if :: head == was -> head++ :: else fi } }

init {
    byte i;
    d_step {
        i = 0;
        do
        :: i < CELLS ->
           if
           :: i < MOST -> cell[i] = WORD(FIRST + i, 0, READY)
           :: else -> cell[i] = WORD(FIRST + i, 0, FREE)
           fi;
           i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < USERS -> place[i] = 1; i++
        :: else -> break
        od
    }
    atomic {
        i = 0;
        do
#if PRODUCERS
        :: i < PRODUCERS -> run Producer(i); i++
#endif
#if SHUTTERS
        :: i >= PRODUCERS && i < PRODUCERS + SHUTTERS -> run Shutter(i); i++
#endif
#if CONSUMERS
        :: i >= PRODUCERS + SHUTTERS && i < USERS -> run Consumer(i); i++
#endif
        :: else -> break
        od;
        run Sweeper();
        i = 0;
#if JOINS
        run Joiner();
#endif
#if HOLDS
        run Holder();
#endif
#if EARLY
        run Declarer();
#endif
#if RESTARTS
        run Stopper();
#endif
#if KILLS
        run Killer()
#endif
    }
}

/* --- dropping ---------------------------------------------------------------------------------------------------------- */

/* queue_take: `t` is the ticket; NONE: there is nothing, as `h` and `w` say. */
inline take(me, with_orphans) {
    t = NONE;
    do
    :: if
       :: with_orphans && orphans ->
          orphans = 0;
          i = 0;
          do
          :: i < CELLS && t == NONE ->
             w = cell[i];
             if
             :: PHASE(w) == ORPHAN ->
                orphans = 1;
                cas_cell(i, w, WORD(TICKET(w), me, TAKEN), ok);
                if
                :: ok -> t = TICKET(w)
                :: else
                fi
             :: else
             fi;
             i++
          :: else -> i = 0; break
          od
       :: else
       fi;
       if
       :: t != NONE -> break
       :: else
       fi;
       h = head;
       w = cell[h % CELLS];
       if
       :: TICKET(w) > h -> cas_head(h)
       :: TICKET(w) == h && (PHASE(w) == READY || PHASE(w) == ORPHAN) ->
          cas_cell(h % CELLS, w, WORD(h, me, TAKEN), ok);
          if
          :: ok -> d_step { t = h; w = 0 }; cas_head(h); h = 0; break
          :: else
          fi
       :: TICKET(w) == h && PHASE(w) == TAKEN -> cas_head(h)
       :: TICKET(w) == h && PHASE(w) == SKIP ->
          cas_cell(h % CELLS, w, WORD(h + CELLS, 0, FREE), ok);
          if
          :: ok -> cas_head(h)
          :: else
          fi
       :: TICKET(w) < h || (TICKET(w) == h && (PHASE(w) == FREE || PHASE(w) == CLAIMED)) -> break
       fi
    od
}

/* The rest of drop_count: no more are done than were put. */
inline count_one(drop) {
#if EARLY
    atomic { ok = TASKS > COUNT(x) };
#ifdef MUTANT_COUNT_MORE_THAN_PUT
    ok = 1;
#endif
    atomic { if :: done == x -> done = DROP(COUNT(x) + ok, TURN(drop)); ok = 1; SOUND :: else -> ok = 0 fi }
#else
    atomic {
        ok = (done == x);
        if
        :: ok -> done = DROP(COUNT(x) + 1, TURN(drop)); COUNTS(NAMED(drop)); SOUND
        :: else
        fi
    }
#endif
}

inline drop_count(drop) {
    do
    ::
#ifdef MUTANT_NAME_BEFORE_DONE
       if
       :: dropping != drop -> ok = 0; break
       :: else
       fi;
#endif
       x = done;
       if
#ifdef MUTANT_TURN_IGNORED
       :: drop == 0 -> ok = 1; break /* nothing was ever dropped */
#else
       :: TURN(x) == TURN(drop) -> ok = 1; break
#endif
       :: else ->
#if !defined(MUTANT_NAME_BEFORE_DONE) && !defined(MUTANT_NAME_UNSEEN)
          if
          :: dropping != drop -> ok = 0; break
          :: else
          fi;
#endif
          count_one(drop);
          if
          :: ok -> break
          :: else
          fi
       fi
    od
}

inline drop_free(me, drop) {
    w = cell[NAMED(drop) % CELLS];
    if
#ifdef MUTANT_FREE_WHATEVER_IS_THERE
    :: PHASE(w) == TAKEN ->
#else
    :: PHASE(w) == TAKEN && TICKET(w) == NAMED(drop) ->
#endif
       if
       :: TICKET(w) == FIRST && block == QUEUED -> cas_block(QUEUED, HELD(me), held)
       :: else
       fi;
       cas_cell(NAMED(drop) % CELLS, w, WORD(TICKET(w) + CELLS, 0, FREE), ok);
       if
       :: held -> let_go(me); held = 0
       :: else
       fi
    :: else
    fi
}

inline cas_block(was, next, ok) {
    atomic {
        ok = (block == was);
        if
        :: ok -> block = next
        :: else
        fi
    }
}
inline let_go(me) { atomic { assert(block == HELD(me)); block = 0 } }

inline drop_finish(me, drop) {
#ifdef MUTANT_FREE_BEFORE_COUNT
    drop_free(me, drop);
    drop_count(drop)
#else
    drop_count(drop);
    if
    :: ok -> drop_free(me, drop)
    :: else
    fi
#endif
}

/* queue_drop; `t` as in take. */
inline let_drop(me, with_orphans) {
    take(me, with_orphans);
    if
    :: t != NONE ->
#ifdef MUTANT_COUNT_BEFORE_NAME
       do
       :: x = done;
          atomic { ok = (done == x); if :: ok -> done = DROP(COUNT(x) + 1, TURN(x)); COUNTS(t); CLOSES; SOUND :: else fi };
          if
          :: ok -> break
          :: else
          fi
       od;
       drop_free(me, DROP(t, 0))
#else
#ifdef MUTANT_UNNAMED
       drop_free(me, DROP(t, 0));
       do
       :: x = done;
          atomic { ok = (done == x); if :: ok -> done = DROP(COUNT(x) + 1, TURN(x)); COUNTS(t); CLOSES; SOUND :: else fi };
          if
          :: ok -> break
          :: else
          fi
       od
#else
       d = dropping;
       do
       ::
#ifdef MUTANT_LATEST_LEFT
          if
          :: NAMED(d) == t -> drop_finish(me, d)
          :: else
          fi;
#else
          drop_finish(me, d);
#endif
          atomic {
              h = 0; w = 0; x = 0; ok = 0;
              if
              :: NAMED(d) == t -> d = 0; break
              :: NAMED(d) != t && dropping == d -> d = DROP(t, (TURN(d) + 1) & 7); dropping = d; CLOSES
              :: NAMED(d) != t && dropping != d -> d = dropping
              fi
          }
       od
#endif
#endif
    :: else
    fi
}

/* --- users ------------------------------------------------------------------------------------------------------------- */

#define CLEAR t = 0; h = 0; i = 0; w = 0; d = 0; x = 0; ok = 0; held = 0
#define DIES(me) atomic { die[me]?0 -> dead[me] = 1; unswept++; CLEAR }

#if PRODUCERS
proctype Producer(byte me) {
    byte t, h, i, items = ITEMS;
    short w, d, x;
    bool ok, held;
    {
        skip;
        do
        :: shut || items == 0 -> break
        :: else ->
           t = tail;
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
              :: else ->
                 let_drop(me, 0);
                 if
                 :: t == NONE -> (head != h || !SAME(h % CELLS, w) || tail < head + MOST || shut) /* others have it */
                 :: else
                 fi;
                 d_step { CLEAR }
              fi
           :: else ->
              w = cell[t % CELLS];
              if
              :: w == WORD(t, 0, FREE) ->
                 x = cell[(t + 1) % CELLS];
                 if
                 :: x != WORD(t + 1, 0, FREE) -> (tail != t || !SAME((t + 1) % CELLS, x) || shut)
                 :: else ->
                    cas_cell(t % CELLS, w, WORD(t, me, CLAIMED), ok);
                    if
                    :: ok -> cas_tail(t); atomic { cell[t % CELLS] = WORD(t, 0, READY); items-- }
                    :: else
                    fi
                 fi
              :: w != WORD(t, 0, FREE) && TICKET(w) >= t -> cas_tail(t)
              :: TICKET(w) < t -> assert(tail != t || !SAME(t % CELLS, w))
              fi;
              d_step { CLEAR }
           fi
        od;
        atomic { over[me] = 1; items = 0; CLEAR }
    } unless {
        DIES(me)
    }
}
#endif

#if SHUTTERS
proctype Shutter(byte me) {
    byte t, h, i;
    short w, d, x;
    bool ok, held;
    {
        shut = 1;
        do
        :: let_drop(me, 1);
           if
           :: t == NONE -> break
           :: else
           fi
        od;
        atomic { over[me] = 1; CLEAR }
    } unless {
        DIES(me)
    }
}
#endif

/* queue_task_done, of the item that `who` has got. */
inline task_done(who) {
    do
    :: x = done;
       atomic { /* queue_tasks: its steps are in the join */
#if !EARLY
           assert(TASKS > COUNT(x));
#endif
           if
           :: TASKS <= COUNT(x) -> owes[who] = 0; break /* it was declared by somebody else */
           :: else
           fi
       };
       atomic {
           ok = (done == x);
           if
           :: ok -> done = x + DROP(1, 0); COUNTS(owes[who]); CLOSES; SOUND; owes[who] = 0
           :: else
           fi
       };
       if
       :: ok -> break
       :: else
       fi
    od
}

#if CONSUMERS
proctype Consumer(byte me) {
    byte t, h, i;
    short w, d, x;
    bool ok, held;
    {
        skip;
        do
        :: shut || finished -> break
        :: else ->
           take(me, 1);
           if
           :: t != NONE ->
              if
              :: t == FIRST -> cas_block(QUEUED, HELD(me), held); assert(held)
              :: else
              fi;
              atomic {
                  assert(cell[t % CELLS] == WORD(t, me, TAKEN) && !got[t - FIRST] && !counted[t - FIRST] && NAMED(dropping) != t);
                  cell[t % CELLS] = WORD(t + CELLS, 0, FREE);
                  got[t - FIRST] = 1;
                  owes[me] = t
              };
              if
              :: held -> let_go(me); held = 0
              :: else
              fi;
              task_done(me)
           :: else -> (head != h || !SAME(h % CELLS, w) || orphans || shut || finished)
           fi
        od;
        atomic { over[me] = 1; CLEAR }
    } unless {
        DIES(me)
    }
}
#endif

/* Whoever needs memory. */
#if HOLDS
proctype Holder() {
    if
    :: atomic { block == 0 -> block = HELD(HOLDER) };
       let_go(HOLDER)
    :: finished
    fi
}
#endif

#if EARLY
proctype Declarer() {
    byte n = EARLY;
    short x;
    do
    :: n > 0 ->
       atomic { x = done; if :: TASKS > COUNT(x) -> done = x + DROP(1, 0); SOUND :: else fi; n--; x = 0 }
    :: else -> break
    od
}
#endif

/* queue_is_done, step by step. */
inline look() {
#ifndef MUTANT_DONE_LOOKED_AT_LAST
    x = COUNT(done);
#endif
    h = skipped;
    do
    :: i = h;
       t = tail;
       h = skipped;
#ifdef MUTANT_SKIPPED_LOOKED_AT_ONCE
       break
#else
       if
       :: h == i -> break
       :: else
       fi
#endif
    od;
#ifdef MUTANT_DONE_LOOKED_AT_LAST
    x = COUNT(done);
#endif
    atomic { ok = (t - FIRST - h <= x); t = 0; h = 0; i = 0; x = 0 }
}

#if JOINS
proctype Joiner() {
    byte t, h, i;
    short w, d, x;
    bool ok, held, drained;
    atomic { was_done = (open == 0) };
    do
    :: look();
       if
       :: ok -> break
       :: else
       fi;
#ifndef MUTANT_JOIN_ONLY_WAITS
       if
       :: shut ->
          drained = 1;
          do
          :: let_drop(JOINER, 1);
             if
             :: t == NONE -> break
             :: else
             fi
          od
       :: else
       fi;
#endif
       if
#ifdef MUTANT_JOIN_ONLY_WAITS
       :: UNFINISHED <= 0
#else
       :: atomic {
              UNFINISHED <= 0 || (shut && !drained) || (drained && (head != h || !SAME(h % CELLS, w) || orphans)) ->
              t = 0; h = 0; w = 0; d = 0; x = 0
          }
#endif
       :: finished && UNFINISHED > 0 -> break /* of what nobody got or dropped */
       fi
    od;
    atomic {
#if !EARLY
        assert(!ok || was_done);
#endif
        joined = 1; CLEAR; drained = 0
    }
}
#endif

/* --- the sweep --------------------------------------------------------------------------------------------------------- */

/* Held by one of the dead. */
#define IS_LEFT(word, me) \
    (word > QUEUED && word != HELD(HOLDER) && word != HELD(JOINER) && word != HELD(me) && \
     (word >= HELD(SWEEPER) || is_dead[word - HELD(0)]))

inline sweep(me) {
    d_step {
        i = 0;
        do
        :: i < USERS -> is_dead[i] = place[i] && dead[i]; i++
        :: else -> break
        od;
        i = 0; t = 0; h = 0; w = 0; d = 0; x = 0; ok = 0; held = 0; found = 0
    };
#ifndef MUTANT_SKIPPING_FORGOTTEN
    if
    :: skipping != 0 -> /* sweep_finish_skipping */
       w = cell[(skipping - 1) % CELLS];
       if
       :: PHASE(w) == CLAIMED && TICKET(w) == skipping - 1 && is_dead[WHO(w)]
#ifdef MUTANT_SKIPPED_BY_ADDING
       :: else -> atomic { skipped++; SOUND }; skipping = 0
#else
       :: else -> atomic { skipped = skipped_was + 1; SOUND }; skipping = 0
#endif
       fi
    :: else
    fi;
#endif
    do
    :: i < CELLS ->
       w = cell[i];
       t = TICKET(w);
       if
       :: PHASE(w) == CLAIMED && is_dead[WHO(w)] ->
          cas_tail(t);
          if
          :: skipping != t + 1 -> skipped_was = skipped; skipping = t + 1
          :: else
          fi;
          atomic {
              ok = SAME(i, w);
              if
              :: ok -> cell[i] = WORD(t, 0, SKIP); gone[t - FIRST] = 1; CLOSES
              :: else
              fi
          };
          atomic { skipped = skipped_was + 1; SOUND };
          skipping = 0
#ifndef MUTANT_ORPHAN_THOUGH_DROPPED
       :: PHASE(w) == TAKEN && NAMED(dropping) == t ->
          if
          :: is_dead[WHO(w)] -> d = dropping; drop_finish(me, d)
          :: else
          fi
       :: PHASE(w) == TAKEN && NAMED(dropping) != t ->
#else
       :: PHASE(w) == TAKEN ->
#endif
          if
          :: is_dead[WHO(w)] ->
             if
#ifndef MUTANT_NO_SECOND_LOOK
             :: !SAME(i, w) /* who named another one has freed it */
#endif
             :: else ->
                if
                :: t == FIRST -> x = block; if :: x > QUEUED -> cas_block(x, QUEUED, ok) :: else fi
                :: else
                fi;
                cas_cell(i, w, WORD(t, 0, ORPHAN), ok);
                found = 1
             fi
          :: else
          fi
       :: PHASE(w) == ORPHAN -> found = 1
       :: else
       fi;
       atomic { i++; t = 0; w = 0; d = 0; x = 0; ok = 0 }
    :: else -> break
    od;
    if
    :: found -> orphans = 1
    :: else
    fi;
    atomic { if :: IS_LEFT(block, me) -> block = 0 :: else fi; i = 0 };
    do
    :: i < USERS -> atomic { if :: is_dead[i] -> place[i] = 0; is_dead[i] = 0; unswept-- :: else fi; i++ }
    :: else -> break
    od;
    again = 0
}
#define BLOCK_IS_WELL \
    (block == 0 || \
     (block == QUEUED && (cell[0] == WORD(FIRST, 0, READY) || cell[0] == WORD(FIRST, 0, ORPHAN))))
#define OWES(user) (dead[user] && owes[user] != 0)
#if CONSUMERS
#define ALL_OWE_NOTHING (owes[USERS - 1] == 0 && owes[PRODUCERS + SHUTTERS] == 0)
#define GOT_ALL (shut || dead[USERS - 1] || IS(READY) + IS(ORPHAN) == 0)
#else
#define ALL_OWE_NOTHING true
#define GOT_ALL true
#endif
#define ENDED(user) (dead[user] || over[user] || user >= PRODUCERS + SHUTTERS)

proctype Sweeper() {
    byte i, t, h, restarts = RESTARTS;
    short w, d, x;
    bool ok, held, found, is_dead[USERS + 1]; /* and of who joins */
    do
    :: unswept > 0 || again ->
       { sweep(SWEEPER + RESTARTS - restarts) } unless { atomic { stop?0 -> restarts--; again = 1 } }
#if CONSUMERS
    :: OWES(USERS - 1) -> task_done(USERS - 1) /* somebody declares it for the dead one */
#endif
    :: atomic {
           unswept == 0 && !again && BLOCK_IS_WELL && ENDED(0) && ENDED(USERS - 1) && ENDED((USERS - 1) / 2) && ALL_OWE_NOTHING && GOT_ALL && IS(CLAIMED) + IS(TAKEN) == 0 &&
               (!shut || !JOINS || joined || IS(READY) + IS(ORPHAN) == 0) ->
           finished = 1;
           t = IS(READY) + IS(ORPHAN);
#if EARLY
           assert(UNFINISHED >= 0 && UNFINISHED <= t);
#else
           assert(UNFINISHED == t && open == t);
           i = 0;
           do
           :: i < tail - FIRST -> h = h + counted[i] + gone[i]; i++
           :: else -> break
           od;
           assert(h + t == tail - FIRST);
#endif
           i = 0; t = 0; h = 0
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
       :: finished -> break
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
           kills > 0 && !finished ->
           select(i : VICTIMS_FROM .. VICTIMS_FROM + VICTIMS - 1);
           if
           :: !over[i] && !dead[i] -> kills--; die[i]!0
           :: else
           fi;
           i = 0
       }
    :: finished -> break
    od
}
#endif
