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
 * Bells.  0: awake, 1: its owner sleeps (or is about to) on this word.  The owner stores 1 and, when it gives up, 0; the
 * other end exchanges 1 for 0 and wakes.  A sleeper that dies leaves at most one needless wake-up.
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
    uint32_t cpu; /* where the holder was when it last had to wait */
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
    uint64_t capacity; /* bytes, a power of two */
    uint64_t data_at;  /* from the start of this struct to data */
    uint8_t pad0[LINE - 16];
    uint64_t tail;
    uint8_t pad1[LINE - 8];
    ring_count_t producer_count;
    uint64_t head;
    uint8_t pad3[LINE - 8];
    ring_count_t consumer_count;
    uint32_t consumer_bell;
    uint8_t pad5[LINE - 4];
    uint32_t producer_bell;
    uint8_t pad6[LINE - 4];
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
 * lease bytes: byte offsets in a segment's file, far beyond its end, that processes lock for as long as they play a
 * part (_lease.h).  No bytes are stored there. */
#define LEASE_BASE (1ll << 61)
#define LEASE_PRODUCER (LEASE_BASE + 0)
#define LEASE_CONSUMER (LEASE_BASE + 1)

#endif
