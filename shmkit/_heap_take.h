/* Taking blocks of a heap: one that is there, or a new slab; and giving idle memory back ("heap" in _heap_layout.h, _heap.h).
 *
 *   take      looks at the hints of its class, then at some blocks from where it last was, then adds a slab
 *   trim      takes all blocks of a slab, gives its pages back, and lets go
 *
 * Hints and chains are not believed: a block is whose its word says.  */
#ifndef SHMKIT_HEAP_TAKE_H
#define SHMKIT_HEAP_TAKE_H

#include "_heap.h"

/* --- looking for a free one -------------------------------------------------------------------------------------- */

/* A free block of the class among the hints, taken; 0: none. */
static inline uint32_t heap_take_hint(heap_t *heap, uint32_t class_, uint64_t held) {
    heap_class_t *hints = &heap->header->classes[class_];
    for (uint32_t i = 0; i < HEAP_HINTS; i++) {
        const uint32_t block = load_relaxed_u32(&hints->hints[i]); /* relaxed: a hint */
        if (block == 0)
            continue;
        const int sound =
            block < heap->blocks_most && block_class(heap, block_first(heap, block) % heap->blocks_most) == class_;
        store_relaxed_u32(&hints->hints[i], 0);
        if (sound && heap_take_word(heap, block, held))
            return block;
    }
    return 0;
}

/* A free block of the class among the next few, taken; 0: none. */
static inline uint32_t heap_take_near(heap_t *heap, uint32_t class_, uint64_t held, uint32_t looks) {
    uint32_t slab = heap->cursors[class_].slab, at = heap->cursors[class_].at;
    const uint32_t count = heap_slab_count(class_);
    const uint32_t begun = slab;
    int round = 0;
    uint32_t found = 0;
    while (looks-- != 0) {
        if (slab == 0 || slab >= heap->blocks_most) {
            if (round++ != 0 && begun == 0)
                break; /* all of them were looked at */
            if (round > 2)
                break;
            /* SYNC slab-chain: pairs with cas_seq(chain) in heap_add_slab; its entries are whole */
            slab = load_acquire_u32(&heap->header->classes[class_].chain);
            at = 0;
            if (slab == 0 || slab >= heap->blocks_most)
                break;
        }
        if (at < count && slab + at < heap->blocks_most && heap_take_word(heap, slab + at, held)) {
            found = slab + at++;
            break;
        }
        if (++at >= count) {
            slab = heap->blocks[slab].next;
            at = 0;
        }
    }
    heap->cursors[class_].slab = slab;
    heap->cursors[class_].at = at;
    return found;
}

/* Adds a slab; its first block is the caller's.  0: there is no room for it in the table, or among the addresses. */
static inline uint32_t heap_add_slab(heap_t *heap, uint32_t class_, uint64_t held, int *error) {
    const uint32_t count = heap_slab_count(class_);
    const uint64_t pages = heap_slab_pages(class_);
    uint64_t top = load_relaxed_u64(&heap->header->top); /* relaxed: a guess for the compare-and-swap */
    heap_block_t *slab;
    do {
        *error = ENOMEM;
        if ((top >> 40) + count > heap->blocks_most || (top & ((1ull << 40) - 1)) + pages > heap->span / PAGE)
            return 0;
        /* Before they are given out: whoever sweeps reads all entries below top, and must find them in memory. */
        slab = &heap->blocks[top >> 40];
        *error = heap_reserve(heap, (uint64_t)((char *)slab - heap->base), count * sizeof *slab);
        if (*error != 0)
            return 0;
    } while (!cas_seq_u64(&heap->header->top, &top, top + ((uint64_t)count << 40 | pages)));
    FAILPOINT("heap.top");
    const uint32_t first = (uint32_t)(top >> 40);
    for (uint32_t i = 0; i < count; i++) { /* relaxed: published by the chain */
        store_relaxed_u32(&slab[i].first, first);
        store_relaxed_u16(&slab[i].class_, (uint16_t)class_);
        block_set_use(heap, first + i, USE_DATA);
    }
    store_relaxed_u32(&slab->page, (uint32_t)(top & ((1ull << 40) - 1)));
    store_relaxed_u32(&slab->count, count);
    store_relaxed_u64(&slab->word, held); /* relaxed: nobody else knows of it until it is chained */
    uint32_t *chain = &heap->header->classes[class_].chain;
    uint32_t next = load_relaxed_u32(chain); /* relaxed: a guess for the compare-and-swap */
    FAILPOINT("heap.slab");
    /* SYNC slab-chain: pairs with load_acquire(chain) in heap_take_near; the slab's entries are whole */
    do
        slab->next = next;
    while (!cas_seq_u32(chain, &next, first));
    FAILPOINT("heap.chained");
    return first;
}

/* --- trimming ---------------------------------------------------------------------------------------------------- */

/* Gives back the pages of free slabs until no more than `keep` bytes are idle.  `held` is who holds them meanwhile.
 * Returns the bytes that were given back. */
static inline uint64_t heap_trim(heap_t *heap, uint64_t keep, uint64_t held) {
    uint64_t given = 0, size;
    for (uint32_t class_ = HEAP_CLASSES; class_-- != 0;) {
        /* (SYNC slab-chain) */
        uint32_t first = load_acquire_u32(&heap->header->classes[class_].chain);
        const uint32_t count = heap_slab_count(class_);
        uint32_t looks = heap->blocks_most / count; /* a chain that bites its tail has an end, too */
        for (; first != 0 && first + count <= heap->blocks_most && looks-- != 0; first = heap->blocks[first].next) {
            heap_block_t *slab = &heap->blocks[first];
            uint32_t taken = 0;
            if (load_relaxed_u32(&slab->resident) == RESIDENT_NONE) /* relaxed: whether to look closer */
                continue;
            if (keep != 0 && heap_idle(heap) <= keep)
                return given;
            while (taken < count && heap_take_word(heap, first + taken, held))
                taken++;
            FAILPOINT("heap.trim.taken");
            if (taken == count && heap_slab_at(heap, first, &size) != NULL && slab->resident != RESIDENT_NONE) {
                heap_punch(heap, first);
                given += size;
            }
            while (taken-- != 0)
                heap_free_word(heap, first + taken, held);
        }
    }
    if (given != 0)
        heap_tell(heap);
    return given;
}

/* What changes with nearly every block that is taken or let go. */
static inline uint64_t heap_state(const heap_t *heap) {
    /* relaxed: each is a hint */
    uint64_t state = load_relaxed_u64(&heap->header->used) * 31 + load_relaxed_u64(&heap->header->resident);
    for (uint32_t class_ = 0; class_ < HEAP_CLASSES; class_++)
        for (uint32_t i = 0; i < HEAP_HINTS; i++)
            state = state * 31 + load_relaxed_u32(&heap->header->classes[class_].hints[i]);
    return state;
}

/* Has the heap been idle for HEAP_REST_NS, as far as this process has looked, and not been trimmed since?  Two threads that find
 * so both trim it: no harm. */
static inline int heap_rests(heap_t *heap, uint64_t now) {
    const uint64_t state = heap_state(heap);
    /* relaxed, all: hints, of this process alone */
    if (state != load_relaxed_u64(&heap->seen_state) || load_relaxed_u64(&heap->seen_ns) == 0) {
        store_relaxed_u64(&heap->seen_state, state);
        store_relaxed_u64(&heap->seen_ns, now);
        store_relaxed_u32(&heap->rested, 0);
        return 0;
    }
    return !load_relaxed_u32(&heap->rested) && now - load_relaxed_u64(&heap->seen_ns) > HEAP_REST_NS;
}

/* It was trimmed, which may have changed what it looks like. */
static inline void heap_has_rested(heap_t *heap) {
    store_relaxed_u64(&heap->seen_state, heap_state(heap)); /* relaxed, both: as above */
    store_relaxed_u32(&heap->rested, 1);
}

/* --- taking ------------------------------------------------------------------------------------------------------ */

/* A block of at least `size` bytes that is there already, held as `held` says: no system call.  OK, or EMPTY: none was found. */
static inline status_t heap_take_warm(heap_t *heap, uint64_t size, uint64_t held, uint32_t *block) {
    const uint32_t class_ = heap_class_of(size);
    if (class_ >= HEAP_CLASSES)
        return EMPTY;
    uint32_t found = heap_take_hint(heap, class_, held);
    if (found == 0)
        found = heap_take_near(heap, class_, held, HEAP_SCAN);
    if (found == 0 && class_ + 1 < HEAP_CLASSES)
        found = heap_take_hint(heap, class_ + 1, held);
    if (found == 0)
        return EMPTY;
    FAILPOINT("heap.taken.warm");
    const heap_block_t *slab = &heap->blocks[block_first(heap, found)];
    if (load_relaxed_u32(&slab->resident) != RESIDENT_ALL) { /* relaxed: as in heap_warm */
        heap_free_word(heap, found, held);
        return EMPTY;
    }
    const uint64_t bytes = heap_class_size(block_class(heap, found) % HEAP_CLASSES);
    if (bytes >= HEAP_ALONE)
        heap_count(&heap->header->used, bytes, 1);
    *block = found;
    return OK;
}

/* A block of at least `size` bytes, held as `held` says.  OK; TOO_LARGE: no block can be that large; FULL: *error says why
 * there is no memory (ENOMEM: the heap's limit is reached). */
static inline status_t heap_take(heap_t *heap, uint64_t size, uint64_t held, uint32_t *block, int *error) {
    const uint32_t class_ = heap_class_of(size);
    *error = 0;
    if (class_ >= HEAP_CLASSES || heap_slab_pages(class_) * PAGE > heap->limit)
        return TOO_LARGE;
    uint32_t found = heap_take_hint(heap, class_, held);
    if (found == 0)
        found = heap_take_near(heap, class_, held, HEAP_SCAN);
    /* A block of the next class is a better one than fresh memory. */
    if (found == 0 && class_ + 1 < HEAP_CLASSES)
        found = heap_take_hint(heap, class_ + 1, held);
    if (found == 0) {
        FAILPOINT("heap.grow");
        found = heap_add_slab(heap, class_, held, error);
    }
    if (found == 0) /* No addresses or entries are left: whatever is free, however long that takes. */
        found = heap_take_near(heap, class_, held, heap->blocks_most);
    if (found == 0)
        return FULL;
    FAILPOINT("heap.taken");
    *error = heap_warm(heap, found);
    if (*error == ENOMEM || *error == ENOSPC) {
        /* Pages that others have left lie idle. */
        if (heap_trim(heap, 0, held) != 0)
            *error = heap_warm(heap, found);
    }
    if (*error != 0) {
        heap_free_word(heap, found, held);
        return *error == EUCLEAN ? CORRUPT : FULL;
    }
    const uint64_t bytes = heap_class_size(block_class(heap, found) % HEAP_CLASSES);
    if (bytes >= HEAP_ALONE)
        heap_count(&heap->header->used, bytes, 1);
    *block = found;
    return OK;
}

#endif
