/* Every struct that lives in shared memory.  Nobody else types an offset.
 *
 * Per struct: one sentence, a diagram, who stores and who loads each field, the invariants, the struct, the asserts.
 * Only fixed-width integers; no pointer, size_t, long, bool or enum; padding is explicit.  Little-endian.
 * A change to any byte raises SHMKIT_LAYOUT_VERSION.  */
#ifndef SHMKIT_LAYOUT_H
#define SHMKIT_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#define SHMKIT_LAYOUT_VERSION 1u
#define SHMKIT_MAGIC 0x31304d4853544b31ull /* "1KTSHM01" as it stands in memory */

/* Two cache lines: neighbouring lines are fetched in pairs, so fields of different owners stand 128 bytes apart. */
#define LINE 128
#define PAGE 4096

#ifdef __cplusplus
#define SHMKIT_ASSERT(condition, why) static_assert(condition, why)
#else
#define SHMKIT_ASSERT(condition, why) _Static_assert(condition, why)
#endif

/* ---------------------------------------------------------------------------------------------------------------
 * segment header: tells any process what a segment is; stands at byte 0 of every segment that is not raw.
 *
 *   0        8         12            16             24     28      32         40 .. 63    64          68
 *   +--------+---------+-------------+--------------+------+-------+----------+-----------+-----------+-----+
 *   | magic  | layout  | header_size | payload_size | kind | flags | identity | creator   | meta_size | pad |  line 0
 *   |        | version |             |              |      |       |          | pid … time|           |     |
 *   +--------+---------+-------------+--------------+------+-------+----------+-----------+-----------+-----+
 *   | references_made | references_taken | pad                                                               |  line 1
 *   +-----------------+------------------+-------------------------------------------------------------------+
 *   | meta text (meta_size bytes, UTF-8) … zeros up to header_size                                           |  256 …
 *   +--------------------------------------------------------------------------------------------------------+
 *   | payload (payload_size bytes), from header_size on, which is a multiple of a page                       |
 *   +--------------------------------------------------------------------------------------------------------+
 *
 * line 0   stored by the creator, once, before the segment has a name (or, where the kernel gives it a name at birth,
 *          before magic); magic is stored last, with release.  Loaded by attach, once, magic first, with acquire, into
 *          private memory: the shared copy is never read again.
 * line 1   counters, relaxed, of pickled references made and taken: hints for how long a sender keeps its mapping.
 * Invariant: 256 + meta_size <= header_size; header_size % PAGE == 0; header_size + payload_size <= the segment's size. */
typedef struct {
    uint64_t magic;
    uint32_t layout_version;
    uint32_t header_size;  /* bytes from the segment's start to its payload */
    uint64_t payload_size; /* logical size, as asked for */
    uint32_t kind;         /* SEGMENT_KIND_… */
    uint32_t flags;        /* SEGMENT_… bits */
    uint64_t identity;     /* random: tells two segments of one name apart */
    uint32_t creator_pid;
    uint32_t creator_uid;
    uint64_t creator_start; /* clock ticks from boot to the creator's start: with the pid, no reuse can fool */
    uint64_t created_ns;    /* CLOCK_REALTIME */
    uint32_t meta_size;     /* bytes of text after this struct */
    uint8_t pad0[LINE - 68];
    uint64_t references_made;
    uint64_t references_taken;
    uint8_t pad1[LINE - 16];
} segment_header_t;

#define SEGMENT_KIND_BYTES 1u /* the payload is the user's */
#define SEGMENT_KIND_ARRAY 2u /* one array; meta is the text of an .npy header */
#define SEGMENT_KIND_RING 3u  /* ring_header_t and records */
#define SEGMENT_KIND_SYNC 4u  /* cells of primitives: locks, semaphores, … */
#define SEGMENT_KIND_HEAP 5u  /* a heap, and queues in it */
#define SEGMENT_KIND_TOPIC 6u /* a topic */

#define SEGMENT_LEASED 1u /* the name goes with the last process that has the segment mapped */
#define SEGMENT_HUGE 2u   /* backed by huge pages */

#define SEGMENT_META_LIMIT 65536u

SHMKIT_ASSERT(sizeof(segment_header_t) == 2 * LINE, "the segment header is two lines");
SHMKIT_ASSERT(offsetof(segment_header_t, meta_size) == 64, "line 0 as drawn");
SHMKIT_ASSERT(offsetof(segment_header_t, references_made) == LINE, "counters own line 1");

/* ---------------------------------------------------------------------------------------------------------------
 * ring: one producer, one consumer, records of any size; stands at the start of the payload of a RING segment.
 *
 *    line 0              line 1   line 2           line 3   line 4           line 5          line 6
 *   +-------------------+--------+----------------+--------+----------------+---------------+---------------+
 *   | capacity, data_at |  tail  | producer_count |  head  | consumer_count | consumer_bell | producer_bell |
 *   +-------------------+--------+----------------+--------+----------------+---------------+---------------+
 *     creator, once      producer  producer         consumer  consumer        both             both
 *
 *    line 7           line 8            data_at …
 *   +----------------+----------------+-------------------------------------------------------------+
 *   | producer_role  | consumer_role  |  data[capacity]: records and pads, each a multiple of 8      |
 *   +----------------+----------------+-------------------------------------------------------------+
 *     the producer     the consumer      producer → consumer
 *
 * tail and head are positions: 64-bit counts of bytes that never wrap; index = position & (capacity - 1).
 * Invariant: head <= tail <= head + capacity; the bytes [head, tail) belong to the consumer, all others to the producer.
 *
 * Bells.  0: awake, 1: its owner sleeps (or is about to) on this word, 2: its owner waits with a descriptor, which the
 * number beside the bell names (_watch.h).  The owner stores 1 or 2 and, when it gives up, 0; the other end exchanges it for 0
 * and wakes, or tells.  An owner that dies leaves at most one needless wake-up.
 *
 * Roles.  Who may store tail (or head) is decided by the kernel: the process that holds the write lock on the role's
 * byte of the segment's file (_lease.h).  The role struct says what became of the latest holder:
 *   NEVER   nobody yet          OPEN    taken; with the lock free: its holder died
 *   CLOSED  its holder left in order
 * It is stored only by the process that holds the lock; epoch goes up by one with each holder.  */
typedef struct {
    uint32_t state; /* ROLE_… */
    uint32_t epoch;
    uint32_t pid;
    uint32_t cpu; /* where the holder was when it last had to wait; before that, where it took the role, and bit 31 */
    uint64_t start;
    uint8_t pad[LINE - 24];
} ring_role_t;

#define ROLE_NEVER 0u
#define ROLE_OPEN 1u
#define ROLE_CLOSED 2u

typedef struct {
    uint64_t records; /* sent (or received), pads not counted */
    uint64_t bytes;   /* payload bytes of those */
    uint64_t parks;   /* waits that slept */
    uint64_t wakes;   /* wake-ups given to the other end */
    uint64_t below;   /* the consumer's: records below head; fewer than received while views hold some */
    uint8_t pad[LINE - 40];
} ring_count_t;

typedef struct {
    uint32_t word; /* BELL_… */
    uint32_t pad0;
    uint64_t watch; /* whom to tell; stored by the owner, before BELL_WATCHED is */
    uint8_t pad[LINE - 16];
} ring_bell_t;

#define BELL_AWAKE 0u
#define BELL_ASLEEP 1u
#define BELL_WATCHED 2u

typedef struct {
    uint64_t capacity; /* bytes, a power of two */
    uint64_t data_at;  /* from the start of this struct to data */
    uint8_t pad0[LINE - 16];
    uint64_t tail;
    uint8_t pad1[LINE - 8];
    ring_count_t producer_count;
    uint64_t head;
    uint8_t pad3[LINE - 8];
    ring_count_t consumer_count;
    ring_bell_t consumer_bell;
    ring_bell_t producer_bell;
    ring_role_t producer_role;
    ring_role_t consumer_role;
} ring_header_t;

#define RING_DATA_AT PAGE
#define RING_MIN_CAPACITY 1024u

SHMKIT_ASSERT(offsetof(ring_header_t, tail) == 1 * LINE, "tail owns line 1");
SHMKIT_ASSERT(offsetof(ring_header_t, producer_count) == 2 * LINE, "the producer's counters own line 2");
SHMKIT_ASSERT(offsetof(ring_header_t, head) == 3 * LINE, "head owns line 3");
SHMKIT_ASSERT(offsetof(ring_header_t, consumer_count) == 4 * LINE, "the consumer's counters own line 4");
SHMKIT_ASSERT(offsetof(ring_header_t, consumer_bell) == 5 * LINE, "the consumer's bell owns line 5");
SHMKIT_ASSERT(offsetof(ring_header_t, producer_bell) == 6 * LINE, "the producer's bell owns line 6");
SHMKIT_ASSERT(offsetof(ring_header_t, producer_role) == 7 * LINE, "roles own lines 7 and 8");
SHMKIT_ASSERT(sizeof(ring_header_t) == 9 * LINE, "the ring header is nine lines");
SHMKIT_ASSERT(sizeof(ring_header_t) <= RING_DATA_AT, "data follows the header");

/* ---------------------------------------------------------------------------------------------------------------
 * record: one word, then (for arrays) a description, then the payload; each record starts at a multiple of 8.
 *
 *      63        52 51   48 47  45 44                    0
 *     +------------+-------+------+-----------------------+
 *     | data_at8   | kind  | tail | span8                 |   the record word, stored by the producer before tail
 *     +------------+-------+------+-----------------------+
 *
 *   span8     the record's whole length in units of 8 bytes: the next record starts there
 *   tailpad   unused bytes at its end, 0 to 7
 *   kind      RECORD_BYTES, RECORD_ARRAY or RECORD_PAD (skip to the lap's end; only span8 counts)
 *   data_at8  from the record's start to its payload, in units of 8 bytes
 *   payload bytes = 8 * (span8 - data_at8) - tailpad
 *
 * A record never wraps: where the lap's end is too near, a PAD fills the lap.  The payload of an array stands on a
 * multiple of 64.  Its description, between the word and the payload:
 *
 *   byte 8       9      10           12        16            16 + 8 * ndim
 *   +------+-------+------------+---------+-------------+------------------------------+
 *   | ndim | order | descr_size | pad     | shape[ndim] | descr: dtype as in .npy text |
 *   +------+-------+------------+---------+-------------+------------------------------+   order: 'C' or 'F' */
#define RECORD_BYTES 1u
#define RECORD_ARRAY 2u
#define RECORD_PAD 3u

#define RECORD_SPAN_BITS 45
#define RECORD_ALIGN 8u
#define RECORD_ARRAY_ALIGN 64u

typedef struct {
    uint8_t ndim;
    uint8_t order;
    uint16_t descr_size;
    uint32_t pad;
    /* int64_t shape[ndim]; then descr_size bytes */
} record_array_t;

SHMKIT_ASSERT(sizeof(record_array_t) == 8, "shape stands on a multiple of 8");

/* ---------------------------------------------------------------------------------------------------------------
 * cells: what primitives (locks, semaphores, …) consist of; each stands on a multiple of 8, and best of 128, in any segment.
 *
 * Every cell begins alike:
 *
 *   0      4        8                                   kind is stored last, with release, by whoever formats the cell, and
 *   +------+--------+----------------------- … -+       checked by whoever attaches; size and policy never change after that
 *   | kind | policy | the primitive's own words |
 *   +------+--------+----------------------- … -+
 *
 * Members.  A process that uses a segment's cells has a number there, its member id, that no other process ever has:
 *
 *    61        40 39                       0
 *   +------------+--------------------------+     While it can touch the memory it holds the lease on the byte
 *   | pid        | random                   |     LEASE_MEMBERS + id of the segment's file (_member.h).  A word that
 *   +------------+--------------------------+     reserves something holds the id of who reserved it, times four.
 *
 * Gates.  Where those sleep who wait for a change, any number of them, and who changes something wakes (_gate.h):
 *
 *    31                       1   0
 *   +--------------------------+---+               moved on by every announcement and every wake-up, so that a sleep never
 *   | sequence                 | S |               begins on an outdated look.  S: somebody may be asleep.  A bit, not a count:
 *   +--------------------------+---+               a dead sleeper leaves one needless wake-up behind, not a debt.  */
#define CELL_LOCK 0x6b636f6cu      /* "lock" as it stands in memory */
#define CELL_RLOCK 0x6b636c72u     /* "rlck" */
#define CELL_SEMAPHORE 0x616d6573u /* "sema" */
#define CELL_EVENT 0x746e7665u     /* "evnt" */
#define CELL_CONDITION 0x646e6f63u /* "cond" */
#define CELL_RWLOCK 0x6b6c7772u    /* "rwlk" */
#define CELL_BARRIER 0x72726162u   /* "barr" */

/* What becomes of a lock whose holder died: the next one is told, or takes it as if it had been released. */
#define POLICY_TELL 0u
#define POLICY_RECOVER 1u

/* lock: one holder, which is named by the word.
 *
 *   0      4        8      16     20      24       32
 *   +------+--------+------+------+-------+--------+-----+
 *   | kind | policy | word | gate | depth | thread | pad |
 *   +------+--------+------+------+-------+--------+-----+
 *
 * word     0                 free
 *          id * 4            held
 *          id * 4 + 1        held by the heir of a dead holder, which has not yet said that the state is consistent
 *          LOCK_LOST         an heir released it without saying so: never to be had again
 *          Changed by compare-and-swap only: 0 → held by whoever acquires, held → 0 by whoever releases, held by a dead one →
 *          held by its one heir.
 * depth    of a recursive lock: how often it is held; stored by the holder only
 * thread   which thread of the holder acquired it (0: none); stored by the holder only.  A recursive lock is cleared of it
 *          before it is released; any other keeps that of its last holder, which is no more than a remark. */
#define LOCK_INCONSISTENT 1u
#define LOCK_LOST 2u

typedef struct {
    uint32_t kind; /* CELL_LOCK or CELL_RLOCK */
    uint32_t policy;
    uint64_t word;
    uint32_t gate;
    uint32_t depth;
    uint64_t thread;
    uint8_t pad[LINE - 32];
} lock_cell_t;

SHMKIT_ASSERT(sizeof(lock_cell_t) == LINE, "a lock owns a line");
SHMKIT_ASSERT(offsetof(lock_cell_t, word) == 8 && offsetof(lock_cell_t, thread) == 24, "the lock as drawn");

/* semaphore: a number of permits, counted; or, with undo, named: then each permit is the word of who holds it.
 *
 *   0      4        8         12      16     20       24         128 …
 *   +------+--------+---------+-------+------+--------+-----+   +---------------------+
 *   | kind | policy | maximum | value | gate | owners | pad |   | owner[owners], u64  |
 *   +------+--------+---------+-------+------+--------+-----+   +---------------------+
 *
 * value   permits that are free; 0 <= value <= maximum.  Not used where there are owners.
 * owner   0: this permit is free; id * 4: held.  Changed by compare-and-swap only. */
#define SEMAPHORE_MOST 0x7fffffffu /* SEM_VALUE_MAX */
#define SEMAPHORE_BOUNDED 1u       /* policy: it has no more permits than at first, be that as many as there can be */
#define SEMAPHORE_OWNERS_MOST 4096u

typedef struct {
    uint32_t kind;
    uint32_t policy;
    uint32_t maximum;
    uint32_t value;
    uint32_t gate;
    uint32_t owners; /* 0: counted */
    uint8_t pad[LINE - 24];
    /* uint64_t owner[owners]; */
} semaphore_cell_t;

SHMKIT_ASSERT(sizeof(semaphore_cell_t) == LINE, "a semaphore owns a line, before its owners");

/* event: a flag that wakes all who wait for it.
 *
 *   0      4        8      16     20
 *   +------+--------+------+------+-----+     word   63       1   0
 *   | kind | policy | word | gate | pad |           +----------+---+    times: how often the flag went up, so that who waited
 *   +------+--------+------+------+-----+           | times    | F |    knows of it though it is down again.  F: it is up.
 *                                                   +----------+---+  */
typedef struct {
    uint32_t kind;
    uint32_t policy;
    uint64_t word;
    uint32_t gate;
    uint8_t pad[LINE - 20];
} event_cell_t;

SHMKIT_ASSERT(sizeof(event_cell_t) == LINE, "an event owns a line");

/* condition: who waits, by name, in the order of coming; goes with a lock, which guards all of it.
 *
 *   0      4        8      12      16        24       128 …
 *   +------+--------+------+-------+---------+-----+  +------------------------------------+
 *   | kind | policy | gate | calls | tickets | pad |  | waiter[64]: word, u64; ticket, u64 |
 *   +------+--------+------+-------+---------+-----+  +------------------------------------+
 *
 * tickets  how many ever came to stand in line
 * word     0: nobody; id * 4 + 1: waits, asleep on the word's lower half; id * 4 + 2: was notified, and has not left yet;
 *          2: notified, nobody's: a notification for whoever takes it.
 *          Stored by who holds the lock, but for one case: whoever waits, or begins to, and finds somebody dead (or
 *          nobody) who was notified takes that notification over by compare-and-swap.
 * gate     where those sleep who found no free place; calls: how often all of them were woken */
#define CONDITION_WAITERS 64u
#define WAITER_WAITS 1u
#define WAITER_NOTIFIED 2u

typedef struct {
    uint64_t word;
    uint64_t ticket;
} condition_waiter_t;

typedef struct {
    uint32_t kind;
    uint32_t policy;
    uint32_t gate;
    uint32_t calls;
    uint64_t tickets;
    uint8_t pad1[LINE - 24];
    condition_waiter_t waiter[CONDITION_WAITERS];
} condition_cell_t;

SHMKIT_ASSERT(sizeof(condition_cell_t) == 9 * LINE, "a condition is nine lines");

/* rwlock: many readers, or one writer; each process that reads has an entry of its own.
 *
 *   0      4        8      16      20       24     28     32       40
 *   +------+--------+------+-------+--------+------+------+--------+------+-----+
 *   | kind | policy | word | reads | writes | bell | used | thread | side | pad |                                  line 0
 *   +------+--------+------+-------+--------+------+------+--------+------+-----+
 *   | reader[64]: owner, u64; counts, u64                                       |                              lines 1 … 8
 *   +---------------------------------------------------------------------------+
 *
 * word     0                 no writer: readers may come
 *          id * 4            held for writing
 *          id * 4 + 1        held for writing by the heir of a dead writer, which has not yet said that the state is consistent
 *          id * 4 + 2        claimed, but not held: by a writer that waits for the readers to leave, or that is about to leave
 *                            and lets the readers in that wait.  Who dies like that has left nothing half done
 *          LOCK_LOST         an heir released it without saying so: never to be had again
 *          Changed by compare-and-swap, but for id * 4 + 2 → id * 4 or 0, which is its owner's affair.
 * reads, writes   the gates of those who wait to read, and to write;  bell: of the one that waits for the readers to leave
 * used     how many entries were ever taken; goes up only, before the entry is.  Entry number n is reader[n % 8 * 8 + n / 8]: the
 *          first eight processes have a line each
 * thread, side    which thread of the writer it is, and which side it asked for; stored by who owns the word only
 * owner    0: nobody's; id * 4: that process's, all its threads'; id * 4 + 1: nobody's, being cleaned by id after its owner died
 *
 *      63      32 31     16 15      0
 *     +----------+---------+---------+    reading   how many hold it for reading, or look whether they may
 *     | grants   | wanting | reading |    wanting   how many wait for that
 *     +----------+---------+---------+    grants    how often the wanting were all made reading, by a writer that left
 *          counts
 *
 * Changed by compare-and-swap, by the threads of its owner and, for a grant, by the owner of the word. */
#define RWLOCK_READERS 64u
#define RWLOCK_CLAIMED 2u
#define RWLOCK_CLEANED 1u

typedef struct {
    uint64_t owner;
    uint64_t counts;
} rwlock_reader_t;

typedef struct {
    uint32_t kind;
    uint32_t policy;
    uint64_t word;
    uint32_t reads;
    uint32_t writes;
    uint32_t bell;
    uint32_t used;
    uint64_t thread;
    uint32_t side; /* RWLOCK_READ or RWLOCK_WRITE */
    uint8_t pad[LINE - 44];
    rwlock_reader_t reader[RWLOCK_READERS];
} rwlock_cell_t;

SHMKIT_ASSERT(sizeof(rwlock_cell_t) == 9 * LINE, "a rwlock is nine lines");
SHMKIT_ASSERT(offsetof(rwlock_cell_t, word) == 8 && offsetof(rwlock_cell_t, thread) == 32, "line 0 as drawn");
SHMKIT_ASSERT(offsetof(rwlock_cell_t, reader) == LINE, "readers own lines 1 to 8");

/* barrier: who waits, by name, and who ought to; the lock that stands in it guards all of it, but for the ways out.
 *
 *   0      4        8         12      16     20     24    28    32       40        128       256                  256 + 32 * parties
 *   +------+--------+---------+-------+------+------+-----+-----+--------+-----+  +------+  +--------------------+-------------------+
 *   | kind | policy | parties | state | gate | room | why | pid | acting | pad |  | lock |  | place[2 * parties] | crew[2 * parties] |
 *   +------+--------+---------+-------+------+------+-----+-----+--------+-----+  +------+  +--------------------+-------------------+
 *
 * state    BARRIER_WHOLE, or BARRIER_BROKEN; why it broke: BROKEN_…, and the pid of whoever died
 * gate     of those who wait for the others;  room: of those who found no place, or a round that is being completed
 * acting   0, or id * 4: that process runs the action, all others have come and wait
 * place    word, u64; value, u32; pid, u32.  word: 0: free; id * 4 + 1: waits; id * 4 + 2: has passed, value is what wait returns;
 *          id * 4 + 3: broken, value is why.  Marked by who holds the lock, freed by its owner
 * crew     u64: 0; id * 4: took part in the last round that passed; id * 4 + 1: has come since.  Taken away by its owner, when it
 *          leaves in order; else changed by who holds the lock */
#define BARRIER_PARTIES_MOST 4096u

#define BARRIER_WHOLE 0u
#define BARRIER_BROKEN 1u

#define BROKEN_ABORTED 1u
#define BROKEN_RESET 2u
#define BROKEN_TIMED_OUT 3u
#define BROKEN_DIED 4u
#define BROKEN_ACTION 5u

#define PLACE_WAITS 1u
#define PLACE_PASSED 2u
#define PLACE_BROKEN 3u
#define CREW_CAME 1u

typedef struct {
    uint64_t word;
    uint32_t value;
    uint32_t pid;
} barrier_place_t;

typedef struct {
    uint32_t kind;
    uint32_t policy;
    uint32_t parties;
    uint32_t state;
    uint32_t gate;
    uint32_t room;
    uint32_t why;
    uint32_t pid;
    uint64_t acting;
    uint8_t pad[LINE - 40];
    lock_cell_t lock;
    /* barrier_place_t place[2 * parties]; uint64_t crew[2 * parties]; */
} barrier_cell_t;

SHMKIT_ASSERT(sizeof(barrier_cell_t) == 2 * LINE, "a barrier has two lines before its places");
SHMKIT_ASSERT(offsetof(barrier_cell_t, acting) == 32 && offsetof(barrier_cell_t, lock) == LINE, "the barrier as drawn");
SHMKIT_ASSERT(sizeof(barrier_place_t) == 16, "places stand in 16 bytes each");

/* ---------------------------------------------------------------------------------------------------------------
 * lease bytes: byte offsets in a segment's file, far beyond its end, that processes lock for as long as they play a
 * part (_lease.h).  No bytes are stored there. */
#define LEASE_BASE (1ll << 61)
#define LEASE_PRODUCER (LEASE_BASE + 0)
#define LEASE_CONSUMER (LEASE_BASE + 1)
#define LEASE_MEMBERS (1ll << 62) /* + id: of a member; ids have 62 bits, and file offsets 63 */

#endif
