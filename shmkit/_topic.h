/* Topics: one publisher that never waits, and subscribers that come, go, lag and crash as they like ("topic" in
 * _topic_layout.h).
 *
 *   publish   word = being written; the value; word = whole; tell those who watch; published + 1; wake
 *   read      word; copy; word again: the same, or the copy is thrown away
 *
 * Subscribers store nothing, so nobody cares what becomes of them.  The publisher's role is a lock (_lock.h) that passes from a
 * dead publisher to the next one who asks.  Killed at any point: before the word says "whole" there is no value, and the successor
 * writes the same position; between the word and `published`, likewise: a value that nobody could see yet is written anew.
 * Who watches is told before `published` moves, so that no value is there of which it was not told; what was told of is there, or
 * will be at once (topic_is_coming).
 *
 * A sequence lock per slot, after H. Boehm, "Can seqlocks get along with programming language memory models?" (2012).  What a
 * reader copies may be torn, and is then thrown away; all that has to be ordered is that the copy is made before the second look
 * at the word (topic_copy), and that the word says "being written" before anything else of the slot is stored (topic_loan).  */
#ifndef SHMKIT_TOPIC_H
#define SHMKIT_TOPIC_H

#include <string.h>

#include "_cell.h"
#include "_gate.h"
#include "_lock.h"
#include "_topic_layout.h"
#include "_watch.h"

#define TOPIC_PACE 2u

/* How one process uses one topic; private to it.  Sizes are copied when it is opened and never read again. */
typedef struct {
    topic_header_t *header;
    char *slots_at;
    uint64_t slot_size, slot_bytes;
    uint64_t sender; /* what a publisher tells those with who watch (_watch.h) */
    uint32_t slots;
} topic_t;

static inline topic_slot_t *topic_slot(const topic_t *topic, uint64_t position) {
    return (topic_slot_t *)(topic->slots_at + position % topic->slots * topic->slot_bytes);
}

static inline uint64_t topic_slot_bytes(uint64_t slot_size) {
    return sizeof(topic_slot_t) + (slot_size + LINE - 1) / LINE * LINE;
}

static inline void topic_format(void *at, uint32_t slots, uint64_t slot_size) {
    topic_header_t *header = (topic_header_t *)at;
    header->slots = slots;
    header->slot_size = slot_size;
    header->slot_bytes = topic_slot_bytes(slot_size);
    header->data_at = PAGE;
    cell_clear(&header->publisher, sizeof header->publisher, POLICY_RECOVER);
    cell_publish(&header->publisher, CELL_LOCK);
}

/* Opens the topic that lies in `size` bytes.  OK or CORRUPT. */
static inline status_t topic_open(topic_t *topic, void *at, uint64_t size) {
    if (size < PAGE)
        return CORRUPT;
    topic->header = (topic_header_t *)at;
    topic->slots = topic->header->slots;
    topic->slot_size = topic->header->slot_size;
    topic->slot_bytes = topic->header->slot_bytes;
    topic->slots_at = (char *)at + PAGE;
    if (topic->slots < 2 || topic->slots > TOPIC_SLOTS_MOST || topic->header->data_at != PAGE ||
        topic->slot_size > size || topic->slot_bytes != topic_slot_bytes(topic->slot_size) ||
        topic->slot_bytes > (size - PAGE) / topic->slots || cell_kind(&topic->header->publisher) != CELL_LOCK)
        return CORRUPT;
    return OK;
}

/* --- publishing -------------------------------------------------------------------------------------------------- */

/* The slot of the next value, which from now on is being written. */
static inline topic_slot_t *topic_loan(topic_t *topic) {
    const uint64_t position = load_relaxed_u64(&topic->header->published); /* relaxed: only the publisher stores it */
    topic_slot_t *slot = topic_slot(topic, position);
    /* SYNC topic-slot: pairs with load_acquire(word) in topic_read; a read-modify-write, so that what is stored into the slot
     * afterwards is not seen before it */
    exchange_seq_u64(&slot->word, 2 * position + 1);
    FAILPOINT("topic.loaned");
    return slot;
}

/* Gives the slot up: it has no value. */
static inline void topic_return(topic_t *topic, topic_slot_t *slot) {
    (void)topic;
    store_release_u64(&slot->word, 0); /* as if it had never been written; nobody waits for it */
}

static inline void topic_publish(topic_t *topic, topic_slot_t *slot) {
    const uint64_t position = load_relaxed_u64(&topic->header->published); /* relaxed: as above */
    FAILPOINT("topic.written");
    /* SYNC topic-slot: pairs with load_acquire(word) in topic_read; the value is whole.  seq, for the look at who watches */
    store_seq_u64(&slot->word, 2 * position + 2);
    FAILPOINT("topic.whole");
    watch_ring(&topic->header->watched, topic->header->watchers, TOPIC_WATCHERS, WATCH_ITEMS, &topic->sender);
    /* SYNC topic-published: pairs with load_seq(published) in topic_has; its slot is whole.  seq for the look at the gate */
    store_seq_u64(&topic->header->published, position + 1);
    FAILPOINT("topic.published");
    gate_wake(&topic->header->gate, GATE_ALL);
}

static inline void topic_close(topic_t *topic) {
    store_seq_u32(&topic->header->state, TOPIC_CLOSED);
    gate_wake(&topic->header->gate, GATE_ALL);
    watch_ring(&topic->header->watched, topic->header->watchers, TOPIC_WATCHERS, WATCH_ITEMS, &topic->sender);
}

static inline void topic_reopen(topic_t *topic) { store_seq_u32(&topic->header->state, TOPIC_OPEN); }

/* --- reading ----------------------------------------------------------------------------------------------------- */

static inline uint64_t topic_published(const topic_t *topic) {
    /* SYNC topic-published: pairs with store_seq(published) in topic_publish */
    return load_seq_u64(&topic->header->published);
}

/* Copies bytes that somebody may be storing into at the same time, so that no load of them is made later than what follows: the
 * compiler is told that memory is used, and the processor not to let later loads go first. */
static inline void topic_copy(void *to, const void *from, uint64_t size) {
    memcpy(to, from, size);
#if defined(__aarch64__)
    __asm__ volatile("dmb ishld" ::: "memory");
#else
    __asm__ volatile("" ::: "memory"); /* loads are made in order */
#endif
}

/* The word and sizes of a value: OK, and *body_size bytes are to be copied; EMPTY: it is not there any more, or not yet. */
static inline status_t topic_peek(const topic_t *topic, uint64_t position, topic_slot_t *found) {
    const topic_slot_t *slot = topic_slot(topic, position);
    /* SYNC topic-slot: pairs with store_release(word) in topic_publish */
    const uint64_t word = load_acquire_u64(&slot->word);
    if (word != 2 * position + 2)
        return EMPTY;
    topic_copy(found, slot, sizeof *slot);
    /* SYNC topic-slot: pairs with exchange_seq(word) in topic_loan: if it is the same, nothing was stored before the copy was made */
    if (load_acquire_u64(&slot->word) != word)
        return EMPTY;
    return found->head_size > TOPIC_HEAD || found->body_size > topic->slot_size ? CORRUPT : OK;
}

/* Copies the body that `found` speaks of.  OK, or EMPTY: it was overwritten meanwhile. */
static inline status_t topic_read(const topic_t *topic, uint64_t position, const topic_slot_t *found, void *to) {
    const topic_slot_t *slot = topic_slot(topic, position);
    topic_copy(to, (const char *)slot + sizeof *slot, found->body_size);
    /* SYNC topic-slot: pairs with exchange_seq(word) in topic_loan: as above */
    return load_acquire_u64(&slot->word) == 2 * position + 2 ? OK : EMPTY;
}

/* Who publishes: a lock's word. */
static inline uint64_t topic_publisher(const topic_t *topic) { return load_seq_u64(&topic->header->publisher.word); }

/* Waiting for a value of position `next` or later, or for the end. */
typedef struct {
    const topic_t *topic;
    uint64_t next;
    uint64_t dead; /* the publisher's word if it names one who died in the middle of publishing; 0: it does not */
} topic_wait_t;

static inline int topic_has(const void *of) {
    const topic_wait_t *wait = (const topic_wait_t *)of;
    /* SYNC topic-published: pairs with store_seq(published) in topic_publish; seq for the look after the announcement */
    return load_seq_u64(&wait->topic->header->published) > wait->next ||
           load_seq_u32(&wait->topic->header->state) != TOPIC_OPEN;
}

/* Is such a value there, or about to be?  What one who watches looks at, once it has armed. */
static inline int topic_is_coming(const void *of) {
    const topic_wait_t *wait = (const topic_wait_t *)of;
    const uint64_t published = load_seq_u64(&wait->topic->header->published);
    /* (SYNC topic-slot); seq for the look after arming */
    return topic_has(of) || (load_seq_u64(&topic_slot(wait->topic, published)->word) == 2 * published + 2 &&
                             topic_publisher(wait->topic) != wait->dead);
}

static inline int topic_spin(topic_wait_t *wait, uint64_t limit_ns) {
    return wait_spin(topic_has, wait, limit_ns, TOPIC_PACE);
}

static inline status_t topic_round(topic_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns) {
    return gate_round(waiter, &wait->topic->header->gate, topic_has, wait, deadline_ns, CPU_UNKNOWN, TOPIC_PACE);
}

#endif
