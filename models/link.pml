/* link.pml: how the rings of a queue are made, linked, followed, left and made anew (shmkit/_queue_rings.h, _cells.h), and what
 * a sweep does of it (_sweep.h), with a SIGKILL of who makes rings between any two steps.
 *
 * A put is one step here, and a get two, as what happens within a cell is modelled in queue.pml: what counts is which cells are not
 * free.  Each ring has two cells, so that every second item needs another ring.
 *
 * Configuration (models/run sets it):
 *   PRODUCERS, ITEMS   how many put, and how many items each
 *   ITEMS_OF_OTHERS    of all producers but the first one
 *   CONSUMERS          how many get; a get may be stopped for long
 *   RINGS              that there are at most
 *   KILLS              how many producers may be killed, before any step
 *   MUTANT_…           plants one fault */
#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef ITEMS
#define ITEMS 2
#endif
#ifndef ITEMS_OF_OTHERS
#define ITEMS_OF_OTHERS ITEMS
#endif
#ifndef CONSUMERS
#define CONSUMERS 1
#endif
#ifndef RINGS
#define RINGS 3
#endif
#ifndef KILLS
#define KILLS 0
#endif
#define CELLS 2
#define NONE 15
#define ALL (PRODUCERS * ITEMS)

/* A cell: ticket, which ring or item, phase. */
#define FREE 0
#define READY 1
#define TAKEN 2
#define LINK 3
#define WORD(ticket, what, phase) (((ticket) << 6) + ((what) << 2) + (phase))
#define TICKET(word) ((word) >> 6)
#define WHAT(word) (((word) >> 2) & 15)
#define PHASE(word) ((word) & 3)
#define AT(ring, ticket) ((ring) * CELLS + (ticket) % CELLS)

/* A ring's word: base, maker, state; tail and head: ticket and ring. */
#define UNMADE 0
#define MAKING 1
#define CHAINED 2
#define RETIRED 3
#define RING(base, maker, state) (((base) << 4) + ((maker) << 2) + (state))
#define BASE(word) ((word) >> 4)
#define MAKER(word) (((word) >> 2) & 3)
#define STATE(word) ((word) & 3)
#define END(ticket, ring) (((ticket) << 2) + (ring))
#define POSITION(end) ((end) >> 2)
#define RING_OF(end) ((end) & 3)

short cell[RINGS * CELLS];
short rings[RINGS];
short tail, head;
byte came[ALL], got, put; /* items that were got; how many; how many were put */
byte victim = NONE, kills = KILLS;
bool dead[PRODUCERS], swept[PRODUCERS];
byte over; /* producers that are over, or dead */

inline cas(word, was, next, ok) {
    atomic { ok = (word == was); if :: ok -> word = next :: else fi }
}

init {
    atomic {
        cell[0] = WORD(2, 0, FREE); cell[1] = WORD(3, 0, FREE);
        rings[0] = RING(2, 0, CHAINED);
        tail = END(2, 0); head = END(2, 0);
        byte i = 0;
        do
        :: i < PRODUCERS -> run Producer(i); i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < CONSUMERS -> run Consumer(); i++
        :: else -> break
        od;
        i = 0;
#if KILLS
        run Killer();
        run Sweeper()
#endif
    }
}

inline chain(ring, ticket) {
    rw = rings[ring];
    if
    :: STATE(rw) == MAKING && BASE(rw) == ticket ->
       cas(rings[ring], rw, RING(BASE(rw), 0, CHAINED), ok)
    :: else
    fi
}

/* `made`: a ring that this producer makes; RINGS: there is none. */
inline make(me, ticket) {
    made = 0;
    do
    :: made < RINGS ->
       rw = rings[made];
       if
#ifdef MUTANT_REMAKES_WHERE_TAIL_IS
       :: STATE(rw) == RETIRED ->
#else
       :: STATE(rw) == RETIRED && made != r ->
#endif
          cas(rings[made], rw, RING(ticket, me, MAKING), ok);
          if
          :: ok ->
             /* (each cell is a step of its own; what is free stays so, as nobody comes here) */
             if
             :: PHASE(cell[made * CELLS]) == TAKEN || PHASE(cell[made * CELLS]) == READY ||
                PHASE(cell[made * CELLS + 1]) == TAKEN || PHASE(cell[made * CELLS + 1]) == READY ->
                cas(rings[made], RING(ticket, me, MAKING), RING(ticket, 0, RETIRED), ok)
             :: else -> break
             fi
          :: else
          fi
       :: else
       fi;
       made++
    :: else -> break
    od;
    if
    :: made == RINGS ->
       made = 0;
       do
       :: made < RINGS ->
          cas(rings[made], 0, RING(ticket, me, MAKING), ok);
          if
          :: ok -> break
          :: else
          fi;
          made++
       :: else -> break
       od
    :: else
    fi
}

#define MINE (me == 0 -> ITEMS : ITEMS_OF_OTHERS)

proctype Producer(byte me) {
    short e, w, v, rw;
    byte t, r, made, count;
    bool ok;
    {
        skip;
again:  do
        :: count == MINE -> break
        :: count < MINE ->
           d_step { e = tail; t = POSITION(e); r = RING_OF(e) };
           w = cell[AT(r, t)];
           if
           :: w == WORD(t, 0, FREE) ->
              v = cell[AT(r, t + 1)];
              if
              :: v == WORD(t + 1, 0, FREE) ->
                 atomic {
                     ok = (cell[AT(r, t)] == w);
                     if
                     :: ok -> cell[AT(r, t)] = WORD(t, me * ITEMS + count, READY); count++; put++
                     :: else
                     fi
                 };
                 if
                 :: ok -> cas(tail, e, END(t + 1, r), ok)
                 :: else
                 fi
              :: else ->
                 make(me, t);
                 if
                 :: made == RINGS -> /* too many: as in a put that raises, and is tried again when something has changed */
                    (tail != e || cell[AT(r, t + 1)] != v || cell[AT(r, t)] != w || got == put)
                 :: else ->
#ifndef MUTANT_LINK_BEFORE_FORMAT
                    cell[AT(made, t)] = WORD(t, 0, FREE);
                    cell[AT(made, t + 1)] = WORD(t + 1, 0, FREE);
#endif
#ifdef MUTANT_LINK_BY_STORE
                    cell[AT(r, t)] = WORD(t, made, LINK); ok = 1;
#else
                    cas(cell[AT(r, t)], w, WORD(t, made, LINK), ok);
#endif
#ifdef MUTANT_LINK_BEFORE_FORMAT
                    cell[AT(made, t)] = WORD(t, 0, FREE);
                    cell[AT(made, t + 1)] = WORD(t + 1, 0, FREE);
#endif
                    if
                    :: ok -> chain(made, t)
                    :: else -> rw = rings[made]; cas(rings[made], rw, RING(BASE(rw), 0, RETIRED), ok)
                    fi
                 fi
              fi
           :: w != WORD(t, 0, FREE) && TICKET(w) == t && PHASE(w) == LINK ->
              chain(WHAT(w), t);
              cas(tail, e, END(t, WHAT(w)), ok)
           :: w != WORD(t, 0, FREE) && TICKET(w) == t && PHASE(w) != LINK -> cas(tail, e, END(t + 1, r), ok)
           :: TICKET(w) > t -> cas(tail, e, END(t + 1, r), ok)
           :: TICKET(w) < t -> assert(tail != e || cell[AT(r, t)] != w)
           fi
        od;
        atomic { over++; e = 0; w = 0; v = 0; rw = 0; t = 0; r = 0; made = 0; ok = 0 }
    } unless {
        atomic { victim == me -> victim = NONE; dead[me] = 1; over++; e = 0; w = 0; v = 0; rw = 0; t = 0; r = 0; made = 0; ok = 0 }
    }
}

#define NOTHING_LEFT (over == PRODUCERS && got == put)

proctype Consumer() {
    short e, w, rw, here;
    byte t, r;
    bool ok;
again:
    do
    :: NOTHING_LEFT -> break
    :: !NOTHING_LEFT ->
       d_step { e = head; t = POSITION(e); r = RING_OF(e) };
       w = cell[AT(r, t)];
       if
       :: TICKET(w) > t ->
          assert(TICKET(w) == t + CELLS || head != e);
          cas(head, e, END(t + 1, r), ok)
       :: TICKET(w) < t || (TICKET(w) == t && PHASE(w) == FREE) ->
          (head != e || cell[AT(r, t)] != w || NOTHING_LEFT)
       :: TICKET(w) == t && PHASE(w) == READY ->
          cas(cell[AT(r, t)], w, WORD(t, WHAT(w), TAKEN), ok);
          if
          :: ok ->
             cas(head, e, END(t + 1, r), ok);
             atomic { /* it is still this one's */
                 assert(cell[AT(r, t)] == WORD(t, WHAT(w), TAKEN));
                 cell[AT(r, t)] = WORD(t + CELLS, 0, FREE);
                 came[WHAT(w)]++; got++;
                 assert(came[WHAT(w)] == 1)
             }
          :: else
          fi
       :: TICKET(w) == t && PHASE(w) == TAKEN -> cas(head, e, END(t + 1, r), ok)
       :: TICKET(w) == t && PHASE(w) == LINK ->
          here = rings[r];
          chain(WHAT(w), t);
          cas(head, e, END(t, WHAT(w)), ok);
          if
          :: ok ->
             if
             :: STATE(here) == CHAINED -> cas(rings[r], here, RING(BASE(here), 0, RETIRED), ok)
             :: else
             fi
          :: else
          fi
       fi
    od
}

#if KILLS
proctype Killer() {
    byte i;
    do
    :: atomic { kills > 0 && victim == NONE -> select(i : 0 .. PRODUCERS - 1); if :: !dead[i] -> victim = i :: else fi; kills--; i = 0 }
    :: atomic { kills > 0 -> kills = 0 }
    :: kills == 0 -> break
    od
}

/* Of each dead producer once; then of rings that nobody will come to. */
proctype Sweeper() {
    short rw, e, w, before;
    short words[RINGS];
    byte i, j, who;
    bool seen[RINGS], ok;
    do
    :: atomic { NOTHING_LEFT && kills == 0 } -> break
    :: atomic { dead[0] && !swept[0] -> who = 0 }; goto sweep
    :: atomic { PRODUCERS > 1 && dead[PRODUCERS - 1] && !swept[PRODUCERS - 1] -> who = PRODUCERS - 1 };
sweep: i = 0;
       do
       :: i < RINGS ->
          rw = rings[i];
          if
          :: STATE(rw) == MAKING && MAKER(rw) == who ->
             e = tail;
             w = cell[AT(RING_OF(e), POSITION(e))];
             if
             :: PHASE(w) == LINK && WHAT(w) == i && TICKET(w) == POSITION(e) && BASE(rw) == POSITION(e) ->
                cas(rings[i], rw, RING(BASE(rw), 0, CHAINED), ok)
             :: else -> cas(rings[i], rw, RING(BASE(rw), 0, RETIRED), ok)
             fi
          :: else
          fi;
          i++
       :: else -> break
       od;
       before = head; /* sweep_chain */
       i = 0;
       do
       :: i < RINGS -> atomic { words[i] = rings[i]; seen[i] = 0; i++ }
       :: else -> break
       od;
       j = RING_OF(before);
       do
       :: seen[j] -> break
       :: else ->
          atomic {
              seen[j] = 1;
              if
              :: PHASE(cell[j * CELLS]) == LINK -> i = WHAT(cell[j * CELLS])
              :: PHASE(cell[j * CELLS]) != LINK && PHASE(cell[j * CELLS + 1]) == LINK -> i = WHAT(cell[j * CELLS + 1])
              :: else -> i = j
              fi;
              j = i
          }
       od;
       i = 0;
       if
       :: head == before && seen[RING_OF(tail)] ->
          do
          :: i < RINGS ->
             if
             :: !seen[i] && STATE(words[i]) == CHAINED -> cas(rings[i], words[i], RING(BASE(words[i]), 0, RETIRED), ok)
             :: else
             fi;
             i++
          :: else -> break
          od
       :: else
       fi;
       atomic { swept[who] = 1; i = 0; j = 0; who = 0; rw = 0; e = 0; w = 0; before = 0 }
    od
}
#endif
