/* The structs of a heap and of the queues in it, which live in shared memory; the rules are those of _layout.h. */
#ifndef SHMKIT_HEAP_LAYOUT_H
#define SHMKIT_HEAP_LAYOUT_H

#include "_layout.h"

/* ---------------------------------------------------------------------------------------------------------------
 * heap: blocks of any size; the payload of a HEAP segment, which is sparse: far larger than it may ever become.
 *
 *    line 0         line 1  line 2          line 3          line 4      line 5 …
 *   +--------------+-------+---------------+---------------+-----------+----------------+----------------+
 *   | sizes, limit |  top  | resident,used | sweeper: lock | room gate | classes[272]   | members[4096]  |
 *   +--------------+-------+---------------+---------------+-----------+----------------+----------------+
 *     creator, once  all     all: hints      who sweeps      all         all: hints       all
 *
 *    table_at …                      data_at …
 *   +-------------------------------+--------------------------------------------------------------+
 *   | blocks[blocks_most]           | slabs: pages, reserved when a block of them is first taken     |
 *   +-------------------------------+--------------------------------------------------------------+
 *
 * top      blocks: 24 | pages: 40.  How much of the table and of the addresses was ever given out, advanced by one
 *          compare-and-swap.  Whoever is killed right after it has wasted addresses, not memory.
 * Sizes come in classes, eight to the octave: class c has (8 + c % 8) << (6 + c / 8) bytes, all multiples of 64.
 * A slab is a run of blocks of one class, with neighbouring table entries and neighbouring addresses; a class's slabs are
 * chained, newest first, and stay of that class for ever.  Only their pages come and go.
 *
 * block: one table entry.  Its word is the only fact about it:
 *
 *    63                                   2 1  0
 *   +--------------------------------------+----+
 *   | 0                                    | 0  |   free
 *   | holder: a member id                  | 1  |   HELD by a process (or by a queue, which has such an id too)
 *   | ring block: 24 | cell: 18 | lap: 20  | 2  |   QUEUED in that cell, which says so too
 *   +--------------------------------------+----+
 *
 * 0 → HELD by whoever takes it; HELD → QUEUED by a producer, before its cell is ready; QUEUED → HELD by the one consumer that
 * has taken the cell; HELD → 0 by its holder, or by a sweep once the holder is dead.  Every change is one compare-and-swap.
 * first, class, use and (in a slab's first entry) page, next, count are stored before the slab is chained, and never
 * change, save use, which is stored by the holder.
 * resident (in the first entry): RESIDENT_…; stored by holders of blocks of that slab.  */
#define HEAP_CLASSES 272u
#define HEAP_CLASS_SHIFT 6
#define HEAP_HINTS 15u
#define HEAP_MEMBERS 4096u
#define HEAP_BLOCKS_MOST (1u << 24)
#define HEAP_SLAB 65536u  /* bytes: of smaller blocks a slab holds as many as fit */
#define HEAP_ALONE 32768u /* blocks of that size and more are slabs of their own, and whole pages */

#define BLOCK_HELD 1u
#define BLOCK_QUEUED 2u
#define BLOCK_TAG 3u

#define USE_DATA 0u
#define USE_QUEUE 1u /* a queue's header */
#define USE_RING 2u  /* a ring of cells */

#define RESIDENT_NONE 0u    /* no page is reserved */
#define RESIDENT_ALL 1u     /* every page is reserved: stores cannot fail */
#define RESIDENT_LEAVING 2u /* its pages are being given back */

typedef struct {
    uint32_t chain;             /* the first entry of the newest slab; 0: none */
    uint32_t hints[HEAP_HINTS]; /* blocks that became free lately; 0: none */
} heap_class_t;

typedef struct {
    uint64_t span;        /* bytes of the payload, all of it */
    uint64_t limit;       /* bytes of slabs that may be resident at one time */
    uint64_t table_at;    /* from this struct */
    uint64_t data_at;     /* a multiple of a page */
    uint32_t blocks_most; /* entries of the table; the first is never used */
    uint8_t pad0[LINE - 36];
    uint64_t top;
    uint8_t pad1[LINE - 8];
    uint64_t resident; /* bytes of slabs whose pages are reserved: a hint, which every sweep counts anew */
    uint64_t used;     /* bytes of blocks of HEAP_ALONE and more that are not free: likewise */
    uint64_t deaths;   /* members that were found dead: a statistic */
    uint64_t queue;    /* the block of the queue that a named segment is for; 0: none */
    uint8_t pad2[LINE - 32];
    lock_cell_t sweeper;
    uint32_t room_gate; /* where those sleep who wait for memory */
    uint8_t pad4[LINE - 4];
    heap_class_t classes[HEAP_CLASSES];
    uint64_t
        members[HEAP_MEMBERS]; /* the ids of those whose claims stand in cells, which name them by their place here */
} heap_header_t;

typedef struct {
    uint64_t word;
    uint32_t first;
    uint16_t class_;
    uint16_t use;
    uint32_t page; /* from the start of the payload */
    uint32_t next; /* the first entry of the class's next slab */
    uint32_t count;
    uint32_t resident;
} heap_block_t;

SHMKIT_ASSERT(sizeof(heap_class_t) == 64, "a class is half a line");
SHMKIT_ASSERT(offsetof(heap_header_t, top) == 1 * LINE, "top owns line 1");
SHMKIT_ASSERT(offsetof(heap_header_t, resident) == 2 * LINE, "the hints own line 2");
SHMKIT_ASSERT(offsetof(heap_header_t, sweeper) == 3 * LINE, "the sweeper's lock owns line 3");
SHMKIT_ASSERT(offsetof(heap_header_t, room_gate) == 4 * LINE, "the gate owns line 4");
SHMKIT_ASSERT(offsetof(heap_header_t, classes) == 5 * LINE, "classes follow");
SHMKIT_ASSERT(sizeof(heap_block_t) == 32, "an entry as drawn");

static inline uint64_t heap_class_size(uint32_t class_) {
    return (uint64_t)(8 + (class_ & 7)) << (HEAP_CLASS_SHIFT + (class_ >> 3));
}

/* The smallest class whose blocks hold `size` bytes; HEAP_CLASSES: there is none. */
static inline uint32_t heap_class_of(uint64_t size) {
    const uint64_t least = 8ull << HEAP_CLASS_SHIFT;
    if (size <= least)
        return 0;
    if (size > heap_class_size(HEAP_CLASSES - 1))
        return HEAP_CLASSES;
    const uint32_t octave = 63u - (uint32_t)__builtin_clzll(size - 1); /* 2^octave < size <= 2^(octave + 1) */
    const uint32_t shift = octave - 3;
    return (shift - HEAP_CLASS_SHIFT) * 8 + (uint32_t)((size - 1 - (1ull << octave)) >> shift) + 1;
}

static inline uint32_t heap_slab_count(uint32_t class_) {
    const uint64_t size = heap_class_size(class_);
    return size >= HEAP_ALONE ? 1 : (uint32_t)(HEAP_SLAB / size);
}

static inline uint64_t heap_slab_pages(uint32_t class_) {
    return (heap_slab_count(class_) * heap_class_size(class_) + PAGE - 1) / PAGE;
}

static inline uint64_t block_held(uint64_t id) { return id << 2 | BLOCK_HELD; }

/* ---------------------------------------------------------------------------------------------------------------
 * queue: many producers, many consumers; a block of a heap, of use QUEUE, held by an id of its own for which every process
 * that has the queue shares a lease.  Its cells are in rings, blocks of use RING, which it keeps as long as it lives.
 *
 *    line 0             line 1  line 2          line 3              line 4        line 5      line 6 …
 *   +------------------+-------+---------------+-------------------+-------------+-----------+------------+
 *   | kind, id, most   | tail  | head, orphans | items gate, state | room gate   | counters  | rings[64]  | … watchers[64]
 *   +------------------+-------+---------------+-------------------+-------------+-----------+------------+
 *     creator, once      all     all             all                 all           all         all
 *
 * tail, head   ticket: 48 | ring: 8.  The next ticket to be claimed (taken), and the ring that its cell is in.  Advanced, by
 *              compare-and-swap, by whoever sees that they lag behind the cells.
 * rings        block: 24 | base: 24 | member: 13 | state: 3.  A ring serves this queue only, so that whoever still looks at an old one
 *              looks at a ring; its tickets never come again.  base: the low bits of its first ticket, so that whoever still sees an
 *              old link does not take the ring for linked that is being made anew.
 *                NONE → MAKING(member) → CHAINED → RETIRED → MAKING(member) → …
 *              CHAINED before tail goes there; RETIRED when head has left it.
 *
 * cell: one item.  ticket: 48 | member: 13 | phase: 3
 *
 *   FREE(t) → CLAIMED(t, member) → READY(t) → TAKEN(t, member) → FREE(t + cells)
 *   FREE(t) → LINK(t, ring): the ticket t and all later ones are in that ring; nothing is ever claimed here again
 *   of the dead: CLAIMED → SKIP(t) → FREE(t + cells);  TAKEN → ORPHAN(t) → TAKEN(t, member) → FREE(t + cells)
 *
 * watchers     who waits with a descriptor ("watching" in _watch.h).
 * dropping     ticket: 42 | ring: 6 | turn: 16.  The latest item that was dropped.  It counts as done from here on, whoever stores that:
 *              `done` has the same turn once it has been counted, and only then is its cell freed, and only then another named
 *              (_queue_done.h).
 *
 * item         block: 24 | lap: 20 | head: 8 | flags: 12 (ITEM_…).  Stored by the claimant before the block is QUEUED; of this ticket only
 *              if the lap is the ticket's.
 * Invariant: the cell of tail is FREE(tail), or somebody's of that very ticket: the last free cell of a ring is used for the link.  */
#define QUEUE_RINGS 64u
#define QUEUE_WATCHERS 64u
#define QUEUE_CELLS_LEAST 64u
#define QUEUE_LOG_MOST 18u
#define QUEUE_CELLS_MOST (1u << QUEUE_LOG_MOST)
#define QUEUE_OPEN 0u
#define QUEUE_SHUT 1u /* nothing is put any more; what is there can be got */
#define QUEUE_VOID 2u /* nor can that */
#define QUEUE_UNBOUNDED (1ull << 62)

#define CELL_QUEUE 0x75657571u /* "queu" as it stands in memory */

#define CELL_FREE 0u
#define CELL_CLAIMED 1u
#define CELL_READY 2u
#define CELL_TAKEN 3u
#define CELL_SKIP 4u
#define CELL_ORPHAN 5u
#define CELL_LINK 6u

#define RING_NONE 0u
#define RING_MAKING 1u
#define RING_CHAINED 2u
#define RING_RETIRED 3u

#define CELL_HEAD 104u /* bytes of an item that stand in its cell */
#define ITEM_REFERS 1u /* there are references in it, to be counted off if it is dropped */

typedef struct {
    uint64_t word;
    uint64_t item;
    uint64_t body_size;
    uint8_t head[CELL_HEAD];
} cell_t;

typedef struct {
    uint32_t cells_log; /* how many cells, as a power of two */
    uint8_t pad[LINE - 4];
    /* cell_t cells[1 << cells_log] */
} cell_ring_t;

typedef struct {
    uint32_t kind;  /* CELL_QUEUE */
    uint32_t flags; /* what the faces know it by */
    uint64_t id;    /* its holder's */
    uint64_t most;  /* items that are in it at one time */
    uint64_t first; /* its first ticket */
    uint8_t pad0[LINE - 32];
    uint64_t tail;
    uint8_t pad1[LINE - 8];
    uint64_t head;
    uint32_t orphans; /* there may be cells of phase ORPHAN: look for them */
    uint8_t pad2[LINE - 12];
    uint32_t items_gate;
    uint32_t state;   /* QUEUE_… */
    uint32_t watched; /* somebody may watch for items */
    uint8_t pad3[LINE - 12];
    uint32_t room_gate;
    uint32_t room_watched; /* somebody may watch for room */
    uint8_t pad4[LINE - 8];
    uint64_t done;        /* count: 48 | turn: 16.  Tasks that were declared done, or dropped */
    uint64_t dropped;     /* items that the policy let go */
    uint64_t made, taken; /* references to it that were pickled, and unpickled */
    uint64_t skipped;     /* tickets that never became an item; stored by who sweeps */
    uint64_t skipping;    /* the ticket, plus one, that is being skipped, and … */
    uint64_t skipped_was; /* … how many it were before */
    uint32_t done_gate;
    uint32_t pad5;
    uint64_t dropping; /* the latest item that was dropped, see above */
    uint64_t removed;  /* items that were in it, and were dropped */
    uint8_t pad6[LINE - 80];
    uint64_t rings[QUEUE_RINGS];
    uint64_t watchers[QUEUE_WATCHERS];
} queue_header_t;

/* ---------------------------------------------------------------------------------------------------------------
 * pair: what the two ends of a pipe have in common, in all processes: a block of use DATA, held by the pair's id.
 *
 *    line 0                  line 1    line 2    line 3    line 4
 *   +-----------------------+---------+---------+---------+---------+
 *   | id | made | taken     | gate 0  | gate 1  | sent 0  | sent 1  |
 *   | known0 | known1       |         |         |         |         |
 *   +-----------------------+---------+---------+---------+---------+
 *     once, and all           who sends from    all who send from
 *                             that end sleeps   that end: how many
 *                             there until       messages were begun
 *                             one was taken     that lie in blocks
 *
 * A process that has an end holds, with all others that have one, the leases of the ids id … id + PAIR_SPAN - 1: `id` is the pair's, the
 * others are those of messages under way, each half of them those of one end (_pair.h).  A message's is used again when as many others
 * from its end have been begun; nobody goes by one of which he knows for half as long.
 *
 * note: what stands on the wire for a message that lies in a block.  Private bytes, but both ends have to understand them.
 *
 *   frame | kind: 8, side: 8, 0 | heap | offered | sent | size | block, pair | pid, fd     */
#define PAIR_SPAN (1ll << 20)
#define PAIR_REMEMBERED (PAIR_SPAN / 4) /* messages from one end, after which one has been read, whatever came of it */

#define PAIR_BYTES 1u /* the block has the message's bytes */
#define PAIR_PICKLE                                                                                                    \
    2u /* a count, so many places (offset, size, writable?); the bytes of a pickle and of its buffers are there */
#define PAIR_ARRAY 3u /* an array's bytes; the head of an item (_codes.pxd); how many bytes that has: 8 */

/* meet: where a small message passes from a sender to a reader that is in recv, without the descriptor (_pair_meet.h); one for each way.
 *
 *    63                     16   15    14       2 1  0
 *   +-------------------------+------+-----------+----+
 *   | ticket: 48, of the post | note | size: 13  |  0 |   NOBODY
 *   |                         |      |           |  1 |   WAITING: a reader is here, and had found the descriptor empty
 *   |                         |      |           |  2 |   READY: so many bytes are for it
 *   |                         |      |           |  3 |   COMING: a reader is about to look at the descriptor
 *   +-------------------------+------+-----------+----+
 *
 * NOBODY → COMING by a reader, with the next ticket; COMING → WAITING by the same one; either → NOBODY by the same one, or by whoever has
 * written to the descriptor; WAITING → READY by the owner; READY → NOBODY by the reader that has posted, or by the owner.  Every change is
 * one compare-and-swap.
 * owner: the member that may make it READY and store the bytes; 0: none.  The CPUs are hints. */
#define MEET_STATE 3u
#define MEET_NOBODY 0u
#define MEET_WAITING 1u
#define MEET_READY 2u
#define MEET_COMING 3u
#define MEET_SIZE_SHIFT 2
#define MEET_SIZE 0x1fffu
#define MEET_NOTE (1u << 15) /* the bytes are a note */
#define MEET_TICKET (1u << 16)
#define MEET_ROOM (17u * LINE / 8 - 3) /* words */
#define MEET_MOST (8u * MEET_ROOM)     /* bytes; the first of them lie in the line that both sides look at anyway */

typedef struct {
    uint64_t word;
    uint64_t owner;
    uint32_t reader_cpu, sender_cpu; /* plus one; 0: not known yet */
    uint64_t bytes[MEET_ROOM];
} meet_t;

typedef struct {
    uint64_t id;
    uint64_t made, taken; /* references to it that were pickled, and unpickled */
    uint32_t known[2];    /* somebody may write to the descriptor from that end, and not know of this */
    uint8_t pad0[LINE - 32];
    uint32_t gate0;
    uint8_t pad1[LINE - 4];
    uint32_t gate1;
    uint8_t pad2[LINE - 4];
    uint64_t sent0;
    uint8_t pad3[LINE - 8];
    uint64_t sent1;
    uint8_t pad4[LINE - 8];
    meet_t meets[2]; /* by the end that is sent from */
} pair_header_t;

typedef struct {
    uint32_t frame; /* WIRE_NOTE, in network order */
    uint8_t kind;   /* PAIR_… */
    uint8_t side;   /* which end it was sent from */
    uint16_t none;
    uint64_t heap;    /* the key of its file (lease_key) */
    uint64_t offered; /* what the block's word says until the note is written … */
    uint64_t sent;    /* … and from then on */
    uint64_t size;    /* bytes of the block that mean something */
    uint32_t block;
    uint32_t pair;    /* the pair's block */
    uint32_t pid, fd; /* whose descriptor the heap's file is */
} pair_note_t;

SHMKIT_ASSERT(sizeof(meet_t) == 17 * LINE, "nobody else has a line of it");
SHMKIT_ASSERT(MEET_MOST <= MEET_SIZE, "a word says how many bytes there are");
SHMKIT_ASSERT(offsetof(pair_header_t, meets) == 5 * LINE, "a line for each end");
SHMKIT_ASSERT(sizeof(pair_note_t) == 56, "a note has no holes");
SHMKIT_ASSERT(sizeof(cell_t) == LINE, "a cell owns a line");
SHMKIT_ASSERT(sizeof(cell_ring_t) == LINE, "cells follow the ring's line");
SHMKIT_ASSERT(offsetof(queue_header_t, tail) == 1 * LINE, "tail owns line 1");
SHMKIT_ASSERT(offsetof(queue_header_t, head) == 2 * LINE, "head owns line 2");
SHMKIT_ASSERT(offsetof(queue_header_t, items_gate) == 3 * LINE, "the consumers' gate owns line 3");
SHMKIT_ASSERT(offsetof(queue_header_t, room_gate) == 4 * LINE, "the producers' gate owns line 4");
SHMKIT_ASSERT(offsetof(queue_header_t, done) == 5 * LINE, "counters own line 5");
SHMKIT_ASSERT(offsetof(queue_header_t, rings) == 6 * LINE, "rings follow");

#endif
