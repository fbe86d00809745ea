/* The structs of a topic, which live in shared memory; the rules are those of _layout.h. */
#ifndef SHMKIT_TOPIC_LAYOUT_H
#define SHMKIT_TOPIC_LAYOUT_H

#include "_layout.h"

/* ---------------------------------------------------------------------------------------------------------------
 * topic: one publisher, any number of subscribers, who write nothing; the payload of a TOPIC segment.
 *
 *    line 0           line 1           line 2             line 3          line 4 …        data_at …
 *   +----------------+----------------+------------------+---------------+---------------+----------------------------------+
 *   | sizes          | publisher:lock | published, state | gate, watched | watchers[64]  | slots[slots], slot_bytes each    |
 *   +----------------+----------------+------------------+---------------+---------------+----------------------------------+
 *     creator, once    the publisher    the publisher      both            both            the publisher
 *
 * published   how many values there ever were: the next one has that position, and goes into slot position % slots.
 * watchers    who waits with a descriptor ("watching" in _watch.h).
 * state       TOPIC_OPEN, or TOPIC_CLOSED by a publisher that left in order; the next one opens it again.
 *
 * slot: one line, then the value's body.
 *
 *   0      8                    16          24      128 …
 *   +------+--------------------+-----------+------+-------------------------+
 *   | word | head_size          | body_size | head | body (slot_size bytes)  |
 *   +------+--------------------+-----------+------+-------------------------+
 *
 * word   0             no value, or one that was given up
 *        2 * p + 1     the value of position p is being written
 *        2 * p + 2     it is whole
 * Whoever reads copies all of it and then looks at the word again: a copy counts only if the word is still the same. */
#define TOPIC_OPEN 0u
#define TOPIC_CLOSED 1u

#define TOPIC_HEAD 104u
#define TOPIC_WATCHERS 64u
#define TOPIC_SLOTS_MOST (1u << 20)

typedef struct {
    uint64_t word;
    uint32_t head_size;
    uint32_t pad;
    uint64_t body_size;
    uint8_t head[TOPIC_HEAD];
} topic_slot_t;

typedef struct {
    uint32_t slots;
    uint32_t pad;
    uint64_t slot_size;  /* bytes of the largest body */
    uint64_t slot_bytes; /* from one slot to the next */
    uint64_t data_at;    /* from this struct */
    uint8_t pad0[LINE - 32];
    lock_cell_t publisher;
    uint64_t published;
    uint32_t state;
    uint8_t pad2[LINE - 12];
    uint32_t gate;
    uint32_t watched; /* somebody may watch */
    uint8_t pad3[LINE - 8];
    uint64_t watchers[TOPIC_WATCHERS];
} topic_header_t;

SHMKIT_ASSERT(sizeof(topic_slot_t) == LINE, "a slot begins with one line");
SHMKIT_ASSERT(offsetof(topic_slot_t, head) == 24, "the slot as drawn");
SHMKIT_ASSERT(offsetof(topic_header_t, publisher) == 1 * LINE, "the publisher's lock owns line 1");
SHMKIT_ASSERT(offsetof(topic_header_t, published) == 2 * LINE, "published owns line 2");
SHMKIT_ASSERT(offsetof(topic_header_t, gate) == 3 * LINE, "the gate owns line 3");
SHMKIT_ASSERT(sizeof(topic_header_t) <= PAGE, "slots follow the header's page");

#endif
