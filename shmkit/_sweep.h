/* The sweep: what the dead left in a heap and its queues is undone.
 *
 * One process sweeps at a time, under a lock that passes from a dead sweeper to the next (_lock.h); nobody waits for it.  In
 * this order, so that a sweep that is killed can be done again from its beginning:
 *
 *   1  who holds       the holders of blocks that are gone by now: the kernel says so
 *   2  who is dead     of the members whose claims may stand in cells, likewise
 *   3  cells           CLAIMED by the dead → SKIP, its block freed if it was queued; TAKEN by the dead → ORPHAN, its block queued
 *                      again if it was held, or, if it was dropped, FREE, once it is counted; rings that the dead were making → RETIRED
 *   4  blocks          HELD by those of step 1 → free; QUEUED in a cell that does not say so, or of a queue that nobody has → free
 *   5  places          of the dead among the members → free: no cell names them any more
 *
 * The dead store no more, so what names them changes only by sweeps; everything else is compared and swapped.  A place
 * is given to another only after step 3 has passed through every queue.
 *
 * A process dies while others sweep, and its leases do not end in one instant.  So a block may be held by one who is gone, while the
 * cell that says where it belongs is of a member who is not known to be dead yet; it must not be freed before that is (the cell would be an
 * orphan whose block is somebody else's).  Whoever is gone in step 1 stores nothing later: step 3 finds all such cells, and spares
 * their blocks.  And who is found dead in step 4 alone is left for the next sweep, together with the places: those bring it about.  */
#ifndef SHMKIT_SWEEP_H
#define SHMKIT_SWEEP_H

#include "_queue_done.h"

#define SWEEP_KNOWN 256u
#define SWEEP_GONE 256u
#define SWEEP_SPARED 64u

#define SWEEP_LIVES 0
#define SWEEP_DEAD 1
#define SWEEP_IS_GONE 2

typedef struct {
    heap_t *heap;
    const member_t *asking;
    uint8_t dead[HEAP_MEMBERS];
    struct {
        uint64_t id;
        int died; /* SWEEP_… */
    } known[SWEEP_KNOWN];
    uint64_t gone[SWEEP_GONE]; /* holders that had gone before anything else was looked at */
    uint32_t gone_count;
    uint32_t spared
        [SWEEP_SPARED]; /* blocks of theirs that belong to a cell, or are a ring, of a member not known to be dead yet */
    uint32_t spared_count;
    int unsure; /* a queue that seemed to be nobody's was found to be somebody's, and its cells were not looked at; or there is
                 * too much for the lists above: leave blocks and places alone this time */
    int more;        /* who died during the sweep has blocks: leave the places, so that there will be another */
    uint64_t freed;  /* blocks */
    uint64_t mended; /* cells */
    uint64_t deaths;
} sweep_t;

/* Does nobody live who bears that id?  Asks the kernel once. */
static inline int sweep_died(sweep_t *sweep, uint64_t id) {
    const uint32_t at = (uint32_t)((id * 0x9e3779b97f4a7c15u) >> 56) % SWEEP_KNOWN;
    if (sweep->known[at].id != id || id == 0) {
        int died = id == 0 ? SWEEP_IS_GONE : SWEEP_LIVES;
        for (uint32_t i = 0; i < sweep->gone_count && died == SWEEP_LIVES; i++)
            died = sweep->gone[i] == id ? SWEEP_IS_GONE : SWEEP_LIVES;
        if (died == SWEEP_LIVES && member_died(sweep->asking, id))
            died = SWEEP_DEAD;
        sweep->known[at].id = id;
        sweep->known[at].died = died;
    }
    return sweep->known[at].died;
}

/* Notes who holds blocks and is gone. */
static inline void sweep_holders(sweep_t *sweep, uint32_t blocks) {
    uint64_t last = 0; /* neighbours are often of one holder */
    for (uint32_t block = 1; block < blocks; block++) {
        const uint64_t word = load_seq_u64(&sweep->heap->blocks[block].word); /* (SYNC block-word) */
        if ((word & BLOCK_TAG) != BLOCK_HELD || word == last)
            continue;
        last = word;
        if (sweep_died(sweep, word >> 2) != SWEEP_DEAD)
            continue;
        if (sweep->gone_count == SWEEP_GONE) {
            sweep->more = 1;
            return;
        }
        sweep->gone[sweep->gone_count++] = word >> 2;
        sweep->known[(uint32_t)(((word >> 2) * 0x9e3779b97f4a7c15u) >> 56) % SWEEP_KNOWN].died = SWEEP_IS_GONE;
    }
}

/* Notes that a block is not to be freed, if its holder is gone: it is named by somebody who is not known to be dead yet. */
static inline void sweep_spare(sweep_t *sweep, uint32_t block) {
    if (block == 0 || block >= sweep->heap->blocks_most || sweep->gone_count == 0)
        return;
    const uint64_t word = load_seq_u64(&sweep->heap->blocks[block].word); /* (SYNC block-word) */
    if ((word & BLOCK_TAG) != BLOCK_HELD || sweep_died(sweep, word >> 2) != SWEEP_IS_GONE)
        return;
    if (sweep->spared_count == SWEEP_SPARED)
        sweep->unsure = 1;
    else
        sweep->spared[sweep->spared_count++] = block;
}

static inline int sweep_spares(const sweep_t *sweep, uint32_t block) {
    for (uint32_t i = 0; i < sweep->spared_count; i++)
        if (sweep->spared[i] == block)
            return 1;
    return 0;
}

/* --- members ----------------------------------------------------------------------------------------------------- */

/* Finds a place for the member `id`; HEAP_MEMBERS: there is none. */
static inline uint32_t heap_enter(heap_t *heap, uint64_t id) {
    const uint32_t first = (uint32_t)(id % HEAP_MEMBERS);
    for (uint32_t i = 0; i < HEAP_MEMBERS; i++) {
        uint64_t *place = &heap->header->members[(first + i) % HEAP_MEMBERS], nobody = 0;
        /* relaxed or not, a place is read by who sweeps, and whoever claims a cell has one */
        if (load_relaxed_u64(place) == 0 && cas_seq_u64(place, &nobody, id))
            return (first + i) % HEAP_MEMBERS;
    }
    return HEAP_MEMBERS;
}

/* Gives a place back; no cell may name it. */
static inline void heap_leave(heap_t *heap, uint32_t place, uint64_t id) {
    cas_seq_u64(&heap->header->members[place], &id, 0);
}

static inline uint64_t heap_member(const heap_t *heap, uint32_t place) {
    return load_relaxed_u64(&heap->header->members[place]); /* relaxed: it is asked for */
}

/* Is any member dead? */
static inline int heap_bereaved(const heap_t *heap, const member_t *asking) {
    for (uint32_t i = 0; i < HEAP_MEMBERS; i++) {
        const uint64_t id =
            load_relaxed_u64(&heap->header->members[i]); /* relaxed: it is asked, and swept under the lock */
        if (id != 0 && member_died(asking, id))
            return 1;
    }
    return 0;
}

/* --- cells ------------------------------------------------------------------------------------------------------- */

static inline void sweep_claimed(sweep_t *sweep, queue_t *queue, cell_t *cell, uint32_t ring, uint64_t word) {
    queue_header_t *header = queue->header;
    const uint32_t log = queue->rings[ring].log;
    const uint64_t ticket = cell_ticket(word), lap = ticket >> log,
                   item =
                       load_acquire_u64(&cell->item); /* SYNC queue-item: pairs with store_release(item) in queue_put */
    /* Its claimant may have died before it advanced tail.  From tail and skipped together follows how many items were ever put, so tail is
     * past whatever is skipped. */
    uint64_t tail = load_seq_u64(&header->tail);
    if (tail == (ticket << 8 | ring))
        cas_seq_u64(&header->tail, &tail, tail + END_STEP);
    FAILPOINT("sweep.passed");
    /* relaxed, here and below: under the lock, which may be a dead one's, who has ordered nothing but by its end */
    if (load_relaxed_u64(&header->skipping) != ticket + 1) {
        store_relaxed_u64(&header->skipped_was, load_relaxed_u64(&header->skipped));
        store_relaxed_u64(&header->skipping, ticket + 1);
    }
    if (item_block(item) != 0 && item_lap(item) == (lap & ITEM_LAP_MASK) &&
        item_block(item) < sweep->heap->blocks_most) {
        uint64_t queued = block_queued(queue->rings[ring].block, (uint32_t)(ticket & ((1ull << log) - 1)), lap);
        /* (SYNC block-word) */
        if (cas_seq_u64(&sweep->heap->blocks[item_block(item)].word, &queued, 0))
            sweep->freed++;
        FAILPOINT("sweep.unqueued");
    }
    /* (SYNC queue-cell) */
    if (cas_seq_u64(&cell->word, &word, cell_word(ticket, 0, CELL_SKIP)))
        sweep->mended++;
    FAILPOINT("sweep.skipped");
    store_seq_u64(&header->skipped, load_relaxed_u64(&header->skipped_was) +
                                        1); /* relaxed would do, but who waits for tasks looks at it with seq */
    FAILPOINT("sweep.counted");
    store_relaxed_u64(&header->skipping, 0);
}

static inline void sweep_taken(sweep_t *sweep, queue_t *queue, cell_t *cell, uint32_t ring, uint64_t word) {
    const uint32_t log = queue->rings[ring].log;
    const uint64_t ticket = cell_ticket(word), lap = ticket >> log,
                   item = load_acquire_u64(&cell->item); /* (SYNC queue-item) */
    const uint32_t block = item_block(item);
    if (block != 0 && item_lap(item) == (lap & ITEM_LAP_MASK) && block < sweep->heap->blocks_most) {
        const uint64_t queued = block_queued(queue->rings[ring].block, (uint32_t)(ticket & ((1ull << log) - 1)), lap);
        uint64_t now = load_seq_u64(&sweep->heap->blocks[block].word); /* (SYNC block-word) */
        if ((now & BLOCK_TAG) == BLOCK_HELD) /* by the dead: it held nothing that its cell did not name */
            cas_seq_u64(&sweep->heap->blocks[block].word, &now, queued);
        FAILPOINT("sweep.requeued");
    }
    /* (SYNC queue-cell) */
    if (cas_seq_u64(&cell->word, &word, cell_word(ticket, 0, CELL_ORPHAN)))
        sweep->mended++;
    FAILPOINT("sweep.orphaned");
}

/* A dead one has dropped what is in a cell, and perhaps not counted it. */
static inline void sweep_dropped(sweep_t *sweep, queue_t *queue) {
    drop_finish(queue, load_seq_u64(&queue->header->dropping));
    sweep->mended++;
    FAILPOINT("sweep.dropped");
}

/* Rings that are chained, but neither head nor tail nor any link leads there: their user was killed right before or after it
 * would have said so. */
static inline void sweep_chain(queue_t *queue) {
    queue_header_t *header = queue->header;
    uint8_t seen[QUEUE_RINGS] = {0};
    const uint64_t head = load_seq_u64(&header->head);
    uint64_t words[QUEUE_RINGS];
    uint32_t ring = head & 255;
    for (uint32_t i = 0; i < QUEUE_RINGS; i++)
        words[i] = load_acquire_u64(&header->rings[i]); /* (SYNC ring-made) */
    while (ring < QUEUE_RINGS && !seen[ring] && queue_cell(queue, ring, 0) != NULL) {
        uint32_t next = QUEUE_RINGS;
        seen[ring] = 1;
        for (uint64_t i = 0; i < 1ull << queue->rings[ring].log; i++) {
            const uint64_t word = load_acquire_u64(&queue->rings[ring].cells[i].word); /* (SYNC queue-cell) */
            if (cell_phase(word) == CELL_LINK)
                next = cell_who(word);
        }
        ring = next;
    }
    const uint32_t last = load_seq_u64(&header->tail) & 255;
    if (load_seq_u64(&header->head) != head || last >= QUEUE_RINGS || !seen[last])
        return; /* it moved meanwhile: next time */
    for (uint32_t i = 0; i < QUEUE_RINGS; i++)
        if (!seen[i] && ring_word_state(words[i]) == RING_CHAINED)
            cas_seq_u64(&header->rings[i], &words[i], ring_word_as(words[i], 0, RING_RETIRED));
}

/* A ring whose dead maker has named its block, and perhaps not given it to the queue yet: it is the queue's, for others may know it
 * by now.  Returns whether it has a block. */
static inline int sweep_give_ring(sweep_t *sweep, uint32_t block, uint64_t id) {
    if (block == 0 || block >= sweep->heap->blocks_most)
        return 0;
    uint64_t now = load_seq_u64(&sweep->heap->blocks[block].word); /* (SYNC block-word) */
    if ((now & BLOCK_TAG) == BLOCK_HELD && now != block_held(id))
        cas_seq_u64(&sweep->heap->blocks[block].word, &now, block_held(id));
    FAILPOINT("sweep.given");
    return 1;
}

/* A sweeper may have died after it had skipped a cell, and perhaps before that was counted: it is counted before anything else is
 * skipped.  If the cell is still claimed, it will be skipped and counted as any other. */
static inline void sweep_finish_skipping(sweep_t *sweep, queue_t *queue) {
    queue_header_t *header = queue->header;
    const uint64_t skipping = load_relaxed_u64(&header->skipping); /* relaxed: as in sweep_claimed */
    if (skipping == 0)
        return;
    for (uint32_t ring = 0; ring < QUEUE_RINGS; ring++) {
        if (queue_ring(queue, ring) == 0 || queue_cell(queue, ring, 0) == NULL)
            continue;
        const uint64_t word = load_acquire_u64(&queue_cell(queue, ring, skipping - 1)->word); /* (SYNC queue-cell) */
        if (cell_phase(word) == CELL_CLAIMED && cell_ticket(word) == skipping - 1 &&
            sweep->dead[cell_who(word) % HEAP_MEMBERS])
            return;
    }
    store_seq_u64(&header->skipped, load_relaxed_u64(&header->skipped_was) +
                                        1); /* relaxed would do, but who waits for tasks looks at it with seq */
    FAILPOINT("sweep.counted.late");
    store_relaxed_u64(&header->skipping, 0);
}

static inline void sweep_queue(sweep_t *sweep, queue_header_t *header, uint64_t id, uint64_t held) {
    queue_t queue;
    const uint64_t before = sweep->mended;
    memset(&queue, 0, sizeof queue);
    queue.header = header;
    queue.heap = sweep->heap;
    queue.held = held;
    queue.most = header->most;
    queue.first_ticket = header->first;
    int orphans = 0;
    sweep_finish_skipping(sweep, &queue);
    for (uint32_t ring = 0; ring < QUEUE_RINGS; ring++) {
        uint64_t word = load_acquire_u64(&header->rings[ring]); /* (SYNC ring-made) */
        if (ring_word_state(word) == RING_MAKING && sweep->dead[ring_word_member(word) % HEAP_MEMBERS]) {
            const uint64_t tail = load_seq_u64(&header->tail);
            const cell_t *last = queue_cell(&queue, tail & 255, tail >> 8);
            const uint64_t link = last == NULL ? 0 : load_acquire_u64(&last->word); /* (SYNC queue-cell) */
            const int named = sweep_give_ring(sweep, ring_word_block(word), id);
            if (cell_phase(link) == CELL_LINK && cell_who(link) == ring && cell_ticket(link) == tail >> 8 &&
                ring_word_base(word) == ((tail >> 8) & 0xffffff))
                queue_chain(&queue, ring, tail >> 8);
            else
                cas_seq_u64(&header->rings[ring], &word, named ? ring_word_as(word, 0, RING_RETIRED) : 0);
            FAILPOINT("sweep.ring");
            word = load_acquire_u64(&header->rings[ring]); /* (SYNC ring-made) */
        }
        if (ring_word_state(word) == RING_MAKING)
            sweep_spare(sweep, ring_word_block(word));
        /* Of whatever state: a ring that somebody is about to make anew may have a cell in it that the dead had taken. */
        if (ring_word_block(word) == 0 || queue_cell(&queue, ring, 0) == NULL)
            continue;
        for (uint64_t i = 0; i < 1ull << queue.rings[ring].log; i++) {
            cell_t *cell = &queue.rings[ring].cells[i];
            const uint64_t now = load_acquire_u64(&cell->word); /* (SYNC queue-cell) */
            const uint32_t phase = cell_phase(now);
            if (phase == CELL_ORPHAN)
                orphans = 1;
            else if (phase == CELL_CLAIMED && sweep->dead[cell_who(now) % HEAP_MEMBERS])
                sweep_claimed(sweep, &queue, cell, ring, now);
            else if (phase == CELL_TAKEN && queue_is_dropped(&queue, ring, cell_ticket(now))) {
                /* Its block is nobody's any more, whoever holds it. */
                if (sweep->dead[cell_who(now) % HEAP_MEMBERS])
                    sweep_dropped(sweep, &queue);
            } else if (phase == CELL_TAKEN && sweep->dead[cell_who(now) % HEAP_MEMBERS]) {
                /* Who named another one since `now` was loaded has freed this cell, and its block may be somebody's. */
                if (load_acquire_u64(&cell->word) != now) /* (SYNC queue-cell) */
                    continue;
                sweep_taken(sweep, &queue, cell, ring, now);
                orphans = 1;
            } else if (phase == CELL_TAKEN)
                sweep_spare(sweep, item_block(load_acquire_u64(&cell->item))); /* (SYNC queue-item) */
        }
    }
    sweep_chain(&queue);
    if (orphans)
        store_seq_u32(&header->orphans, 1);
    if (orphans || sweep->mended != before) {
        FAILPOINT("sweep.tell");
        queue_tell_all(header);
    }
}

/* --- blocks ------------------------------------------------------------------------------------------------------ */

/* Does the cell that a block is said to be queued in say so too? */
static inline int sweep_is_queued(sweep_t *sweep, uint64_t word, uint32_t block) {
    const heap_t *heap = sweep->heap;
    const uint32_t ring = (uint32_t)(word >> 40), at = (word >> 22) & 0x3ffff;
    uint64_t size;
    const char *where = heap_block_at(heap, ring, &size);
    if (where == NULL || block_use(heap, ring) != USE_RING)
        return 0;
    const uint64_t holder = load_seq_u64(&heap->blocks[ring].word); /* (SYNC block-word) */
    if ((holder & BLOCK_TAG) != BLOCK_HELD || sweep_died(sweep, holder >> 2))
        return 0;
    const uint32_t log = ((const cell_ring_t *)where)->cells_log;
    if (log > QUEUE_LOG_MOST || ring_bytes(log) > size || at >> log != 0)
        return 0;
    const cell_t *cell = (const cell_t *)(where + sizeof(cell_ring_t)) + at;
    const uint64_t now = load_acquire_u64(&cell->word),
                   item = load_acquire_u64(&cell->item); /* (SYNC queue-cell, SYNC queue-item) */
    const uint32_t phase = cell_phase(now);
    return ((cell_ticket(now) >> log) & ITEM_LAP_MASK) == ((word >> 2) & ITEM_LAP_MASK) && item_block(item) == block &&
           (phase == CELL_CLAIMED || phase == CELL_READY || phase == CELL_TAKEN || phase == CELL_ORPHAN);
}

/* A queue that nobody has any more: first it is ours, then the kernel is asked once more, as somebody who was told of it may
 * have come (who attaches looks at the word after it has taken its lease).  Returns whether it is free. */
static inline int sweep_condemn(sweep_t *sweep, uint32_t block, uint64_t word, uint64_t held) {
    heap_block_t *entry = &sweep->heap->blocks[block];
    uint64_t size, now = word;
    const queue_header_t *header = (const queue_header_t *)heap_block_at(sweep->heap, block, &size);
    if (header == NULL || !cas_seq_u64(&entry->word, &now, held))
        return 0;
    FAILPOINT("sweep.condemned");
    if (!member_died(sweep->asking, header->id)) {
        now = held;
        cas_seq_u64(&entry->word, &now,
                    block_held(header->id)); /* a sweeper that was killed here, too, may have come between */
        return 0;
    }
    block_set_use(sweep->heap, block, USE_DATA);
    return heap_free_word(sweep->heap, block, held);
}

static inline void sweep_queue_block(sweep_t *sweep, uint32_t block, uint64_t held) {
    const uint64_t word = load_seq_u64(&sweep->heap->blocks[block].word); /* (SYNC block-word) */
    if ((word & BLOCK_TAG) != BLOCK_HELD || !sweep_died(sweep, word >> 2))
        return;
    if (sweep_condemn(sweep, block, word, held))
        sweep->freed++;
    else
        sweep->unsure = 1;
    FAILPOINT("sweep.queue");
}

static inline void sweep_block(sweep_t *sweep, uint32_t block) {
    heap_block_t *entry = &sweep->heap->blocks[block];
    uint64_t word = load_seq_u64(&entry->word); /* (SYNC block-word) */
    int freed = 0, died;
    if (word == 0 || block_use(sweep->heap, block) == USE_QUEUE)
        return;
    if ((word & BLOCK_TAG) == BLOCK_QUEUED) {
        if (!sweep_is_queued(sweep, word, block))
            freed = cas_seq_u64(&entry->word, &word, 0);
    } else if ((word & BLOCK_TAG) == BLOCK_HELD && (died = sweep_died(sweep, word >> 2)) != SWEEP_LIVES) {
        if (died != SWEEP_IS_GONE)
            sweep->more = 1;
        if (died != SWEEP_IS_GONE || sweep_spares(sweep, block))
            return;
        block_set_use(sweep->heap, block, USE_DATA);
        freed = cas_seq_u64(&entry->word, &word, 0);
    }
    if (freed)
        sweep->freed++;
    FAILPOINT("sweep.block");
}

/* Sums, counted anew. */
static inline void sweep_count(const heap_t *heap, uint32_t blocks) {
    uint64_t resident = 0, used = 0, size;
    for (uint32_t block = 1; block < blocks; block++) {
        const heap_block_t *entry = &heap->blocks[block];
        if (block_first(heap, block) != block || heap_slab_at(heap, block, &size) == NULL)
            continue;
        const int there = load_relaxed_u32(&entry->resident) == RESIDENT_ALL; /* relaxed: a hint */
        resident += there ? size : 0;
        used += there && (heap_slab_count(block_class(heap, block)) > 1 || load_relaxed_u64(&entry->word) != 0)
                    ? size
                    : 0; /* relaxed: a hint */
    }
    store_relaxed_u64(&heap->header->resident, resident); /* relaxed: hints */
    store_relaxed_u64(&heap->header->used, used);
}

/* --- the whole --------------------------------------------------------------------------------------------------- */

/* How many entries of the table were ever given out. */
static inline uint32_t sweep_blocks(const heap_t *heap) {
    const uint32_t blocks = (uint32_t)(load_seq_u64(&heap->header->top) >> 40);
    return blocks < heap->blocks_most ? blocks : heap->blocks_most;
}

/* Undoes what the dead left.  `held`: what the blocks say that this process holds.  OK; FULL: somebody else is sweeping. */
static inline status_t heap_sweep(sweep_t *sweep, heap_t *heap, const member_t *asking, uint64_t held) {
    lock_t lock = {.cell = &heap->header->sweeper, .held = member_word(asking->id), .member = asking};
    lock_wait_t wait = {.lock = &lock};
    memset(sweep, 0, sizeof *sweep);
    sweep->heap = heap;
    sweep->asking = asking;
    const status_t status = lock_try(&wait);
    if (status != OK)
        return FULL;
    FAILPOINT("sweep.begun");
    uint32_t blocks = sweep_blocks(heap);
    sweep_holders(sweep, blocks);
    FAILPOINT("sweep.holders");
    uint64_t ids[HEAP_MEMBERS];
    for (uint32_t i = 0; i < HEAP_MEMBERS; i++) {
        ids[i] = load_seq_u64(&heap->header->members[i]);
        sweep->dead[i] = ids[i] != 0 && sweep_died(sweep, ids[i]);
        sweep->deaths += sweep->dead[i];
    }
    for (uint32_t block = 1; block < blocks; block++) {
        uint64_t size;
        const uint64_t word = load_seq_u64(&heap->blocks[block].word); /* (SYNC block-word) */
        char *at;
        if (block_use(heap, block) != USE_QUEUE || (word & BLOCK_TAG) != BLOCK_HELD || sweep_died(sweep, word >> 2) ||
            (at = heap_block_at(heap, block, &size)) == NULL || size < sizeof(queue_header_t) ||
            cell_kind(at) != CELL_QUEUE || ((queue_header_t *)at)->id != word >> 2)
            continue;
        sweep_queue(sweep, (queue_header_t *)at, word >> 2, held);
    }
    FAILPOINT("sweep.cells");
    for (uint32_t block = 1; block < blocks; block++)
        if (block_use(heap, block) == USE_QUEUE)
            sweep_queue_block(sweep, block, held);
    memset(sweep->known, 0, sizeof sweep->known); /* who is asked about from now on may have died since */
    blocks = sweep_blocks(heap);                  /* of the dead of step 2 all are below it */
    for (uint32_t block = 1; block < blocks && !sweep->unsure; block++)
        sweep_block(sweep, block);
    FAILPOINT("sweep.blocks");
    sweep_count(heap, blocks);
    for (uint32_t i = 0; i < HEAP_MEMBERS; i++)
        if (sweep->dead[i] && !sweep->unsure && !sweep->more)
            cas_seq_u64(&heap->header->members[i], &ids[i], 0);
    store_relaxed_u64(&heap->header->deaths,
                      load_relaxed_u64(&heap->header->deaths) + sweep->deaths); /* relaxed: a statistic */
    FAILPOINT("sweep.done");
    if (sweep->freed != 0)
        heap_tell(heap);
    lock_give(&lock);
    return OK;
}

#endif
