/* A message of a pipe that lies in a block of a heap, on its way ("pair" in _heap_layout.h).
 *
 *   offer    HELD by its sender's process → HELD by an id that this message alone has, and whose lease the sender's process has
 *   write    the note, which names the block and both ids, to the descriptor
 *   commit   → HELD by the pair's id of this message, whose lease whoever has an end of the pair has
 *   take     either → HELD by the receiver's process
 *
 * Each is one compare-and-swap, and nobody waits for anybody's next one.  Killed before the write: a sweep frees the block, as its
 * sender's lease is gone.  Killed in the write, or after it and before the commit: the same, unless it was taken by then; if
 * it was not, whoever reads the note finds that the block is no longer the message's, and passes over it: the call had
 * not returned.  Killed after the commit: the message is as safe as the descriptor, and goes with the last who has an end.
 * A receiver that can hold no block, as it is no member, takes it as the pair's own id does, copies it, and lets it go; killed
 * before that it leaves one that goes with the pair.
 * A receiver that is killed after the take held the block; one that is killed between the read of the note and the take has left a
 * block that nobody else knows of: its sender sees that a message was taken that it began to write after this one, so that this one
 * must have been read before, and takes it back; with the pair it goes in any case.
 *
 * A sender must not take another's message for its own that was lost, if that lies in the same block now.  So all processes that send from
 * one end number their messages by one count of the pair's, which has half of its ids for each end; and who finds that half of these
 * have been given out since it sent one believes that it was taken, whatever its block says: if it was lost, its block stays until the pair
 * goes.  Many more than can be under way at one time were begun by then (PAIR_REMEMBERED), and read in the order in which they were written. */
#ifndef SHMKIT_PAIR_H
#define SHMKIT_PAIR_H

#include "_heap_take.h"

#define PAIR_PACE 4u /* pauses between two looks of a spinner */

/* One message under way, as its sender knows it. */
typedef struct {
    uint64_t word;   /* what the block says as long as nobody has taken it */
    uint64_t number; /* in the pair's count */
    uint64_t size;   /* bytes */
    uint64_t begun;  /* when writing began … */
    uint64_t ended;  /* … and ended, in beginnings and ends of this way */
    uint32_t block;
} pair_sent_t;

/* One way, as a process that sends knows it; private to it. */
typedef struct {
    pair_sent_t *sent; /* in the order in which they were written */
    uint32_t count, room;
    uint64_t bytes; /* of all of them */
    uint64_t clock; /* beginnings and ends */
    uint64_t taken; /* the latest beginning of one that was taken */
} pair_way_t;

/* The descriptor's number is known: somebody may write to it from that end who does not tell (_pair_meet.h). */
static inline void pair_is_known(pair_header_t *header, uint32_t side) { store_seq_u32(&header->known[side], 1); }

/* May there be such a one?  Or one who was given an end, and has not found this? */
static inline int pair_may_be_untold(const pair_header_t *header, uint32_t side) {
    /* acquire: whoever begins after such a one's write sees it.  `taken` is never more than `made`, so that they were the same at the first
     * look if they are now. */
    const uint64_t taken = load_acquire_u64(&header->taken);
    return load_acquire_u32(&header->known[side]) != 0 || load_acquire_u64(&header->made) != taken;
}

/* How many messages from that end were begun. */
static inline uint64_t *pair_count(pair_header_t *header, uint32_t side) {
    return side == 0 ? &header->sent0 : &header->sent1;
}

/* Begins the next one; returns its number. */
static inline uint64_t pair_next(pair_header_t *header, uint32_t side) {
    return add_relaxed_u64(pair_count(header, side), 1); /* relaxed: a count */
}

/* The id that it has once it is sent; `id`: the pair's own, which holds its header. */
static inline uint64_t pair_id(uint64_t id, uint32_t side, uint64_t number) {
    const uint64_t half = PAIR_SPAN / 2;
    return id + side * half + 1 + number % (half - 1);
}

/* HELD by `from` → HELD by `to`.  Returns whether it was. */
static inline int pair_pass(const heap_t *heap, uint32_t block, uint64_t from, uint64_t to) {
    /* (SYNC block-word): whoever held it is done with its bytes */
    return block < heap->blocks_most && cas_seq_u64(&heap->blocks[block].word, &from, to);
}

/* A block becomes what the two ends have in common: HELD by its maker → HELD by the pair's id. */
static inline void pair_tie(const heap_t *heap, uint32_t block, uint64_t held, uint64_t tied) {
    FAILPOINT("pair.tie");
    pair_pass(heap, block, held, tied);
    FAILPOINT("pair.tied");
}

/* Some of a message's bytes are in its block, and some are not. */
static inline void pair_filling(void) { FAILPOINT("pair.filling"); }

static inline int pair_offer(const heap_t *heap, uint32_t block, uint64_t held, uint64_t offered) {
    FAILPOINT("pair.offer");
    const int passed = pair_pass(heap, block, held, offered);
    FAILPOINT("pair.offered");
    return passed;
}

static inline void pair_commit(const heap_t *heap, uint32_t block, uint64_t offered, uint64_t sent) {
    FAILPOINT("pair.written");
    pair_pass(heap, block, offered, sent); /* if not, it was taken */
    FAILPOINT("pair.committed");
}

/* Takes a message's block, as its note says; 0: it is no longer there. */
static inline int pair_take(const heap_t *heap, uint32_t block, uint64_t offered, uint64_t sent, uint64_t held) {
    FAILPOINT("pair.noted");
    /* It may be committed between the first two looks; never the other way round. */
    const int taken = pair_pass(heap, block, sent, held) || pair_pass(heap, block, offered, held) ||
                      pair_pass(heap, block, sent, held);
    FAILPOINT("pair.taken");
    return taken;
}

/* A receiver that can hold no block has copied its bytes, and is to let it go. */
static inline void pair_copied(void) { FAILPOINT("pair.copied"); }

/* Takes back a block that is still the message's, and frees it.  `held`: as which. */
static inline void pair_withdraw(heap_t *heap, uint32_t block, uint64_t message, uint64_t held) {
    if (!pair_pass(heap, block, message, held))
        return;
    FAILPOINT("pair.withdrawn");
    heap_drop(heap, block, held);
}

/* Takes note of one that was written. */
static inline void pair_remember(pair_way_t *way, const pair_note_t *note, uint64_t number, uint64_t begun) {
    way->clock++;
    if (way->count == way->room) /* another thread sent meanwhile */
        return;
    way->sent[way->count++] = (pair_sent_t){.word = note->sent,
                                            .number = number,
                                            .size = note->size,
                                            .begun = begun,
                                            .ended = way->clock,
                                            .block = note->block};
    way->bytes += note->size;
}

/* Strikes out what was taken, and what must have been lost: that is freed.  `held`: as which. */
static inline void pair_settle(pair_way_t *way, heap_t *heap, pair_header_t *header, uint32_t side, uint64_t held) {
    const uint64_t now = load_relaxed_u64(pair_count(header, side)); /* relaxed: a count, which only grows */
    uint32_t left = 0;
    for (uint32_t i = 0; i < way->count; i++) {
        pair_sent_t *sent = &way->sent[i];
        if (heap_word(heap, sent->block) != sent->word || now - sent->number > PAIR_REMEMBERED) {
            if (sent->begun > way->taken)
                way->taken = sent->begun;
            way->bytes -= sent->size;
        } else
            way->sent[left++] = *sent;
    }
    way->count = left;
    left = 0;
    for (uint32_t i = 0; i < way->count; i++) {
        pair_sent_t *sent = &way->sent[i];
        if (sent->ended < way->taken) {
            pair_withdraw(heap, sent->block, sent->word, held);
            way->bytes -= sent->size;
        } else
            way->sent[left++] = *sent;
    }
    way->count = left;
}

/* Nobody will read any more: all that was not taken is freed. */
static inline void pair_give_up(pair_way_t *way, heap_t *heap, uint64_t held) {
    for (uint32_t i = 0; i < way->count; i++)
        pair_withdraw(heap, way->sent[i].block, way->sent[i].word, held);
    way->count = 0;
    way->bytes = 0;
}

/* Waiting until one of those under way was taken. */
typedef struct {
    const heap_t *heap;
    uint32_t *gate;
    uint64_t word;
    uint32_t block;
} pair_wait_t;

static inline int pair_is_taken(const void *of) {
    const pair_wait_t *wait = (const pair_wait_t *)of;
    return heap_word(wait->heap, wait->block) != wait->word;
}

static inline status_t pair_round(pair_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns) {
    return gate_round(waiter, wait->gate, pair_is_taken, wait, deadline_ns, CPU_UNKNOWN, PAIR_PACE);
}

/* After a take: wakes senders that wait for it. */
static inline void pair_tell(uint32_t *gate) { gate_wake(gate, GATE_ALL); }

#endif
