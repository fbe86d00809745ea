/* The heap: blocks of shared memory that any process takes, hands on and lets go ("heap" in _heap_layout.h).
 *
 *   take      a block's word by compare-and-swap, 0 → HELD(me); its pages are reserved if they are not there yet.  How one
 *             is found, and how idle memory is given back: _heap_take.h
 *   let go    HELD(me) → 0, and a hint
 *
 * Killed at any point: a block that was taken names the dead, and a sweep (_sweep.h) frees it; pages that were reserved
 * and not noted, or noted and not given back, are found by the next trim; a slab that was begun and not chained has used up
 * addresses, of which there are many times more than memory.  Hints, chains and sums are never believed: a block is free if
 * its word is 0.
 *
 * Blocks are recycled while they are warm: a page that is new costs some 30 times a copy into one that is there.  How a process
 * comes to have them in its page table: _heap_touch.h.  */
#ifndef SHMKIT_HEAP_H
#define SHMKIT_HEAP_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "_cell.h"
#include "_heap_layout.h"
#include "_lock.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define HEAP_SCAN 64u               /* blocks that are looked at before a slab is added */
#define HEAP_IDLE_LEAST (64u << 20) /* bytes of free blocks that are kept warm in any case */
#define HEAP_REST_NS 2000000000u    /* after which an idle heap gives its memory back */

/* How one process uses one heap; private to it.  Sizes are copied when it is opened and never read again. */
typedef struct {
    char *base; /* the heap's first byte */
    heap_header_t *header;
    heap_block_t *blocks;
    uint64_t span, limit, data_at;
    uint32_t blocks_most;
    int fd;           /* of the segment's file */
    uint64_t key;     /* of that file (lease_key) */
    uint64_t file_at; /* where the heap begins in it */
    uint64_t idle_most;
    uint16_t *touched; /* whether this process has mapped a block (_heap_touch.h); NULL: it is not noted */
    struct {
        uint32_t slab, at; /* where the next look begins; 0: at the newest slab */
        uint32_t hint;     /* where the next hint goes */
    } cursors[HEAP_CLASSES];
    uint64_t seen_state, seen_ns; /* what it looked like, and since when it looks like that (heap_rests) */
    uint32_t rested;              /* and whether its idle memory was given back since */
} heap_t;

/* --- making and opening ------------------------------------------------------------------------------------------ */

/* Bytes of a heap's header and table, up to where its blocks begin. */
static inline uint64_t heap_overhead(uint32_t blocks_most) {
    const uint64_t table_at = (sizeof(heap_header_t) + PAGE - 1) / PAGE * PAGE;
    return table_at + ((uint64_t)blocks_most * sizeof(heap_block_t) + PAGE - 1) / PAGE * PAGE;
}

/* Does the descriptor still name the segment's file?  It may have been closed behind our back, and name another one. */
static inline int heap_has_file(const heap_t *heap) {
    struct stat file;
    return fstat(heap->fd, &file) == 0 && lease_key_of(&file) == heap->key;
}

/* Reserves the room of `size` bytes of the heap from `at` on.  Returns 0 or an errno. */
static inline int heap_reserve(const heap_t *heap, uint64_t at, uint64_t size) {
    const uint64_t begin = at / PAGE * PAGE;
    int error;
    do {
        if (heap_has_file(heap))
            error = fallocate(heap->fd, 0, (off_t)(heap->file_at + at), (off_t)size) == 0 ? 0 : errno;
        else /* through the mapping, where the kernel can (5.14) */
            error = madvise(heap->base + begin, at + size - begin, MADV_POPULATE_WRITE) == 0 ? 0 : errno;
    } while (error == EINTR || error == EAGAIN);
    return error == EFAULT ? ENOSPC : error;
}

/* Gives the pages of `size` bytes from `at` on back.  Returns 0 or an errno. */
static inline int heap_unreserve(const heap_t *heap, uint64_t at, uint64_t size) {
    int error;
    do {
        if (heap_has_file(heap))
            error = fallocate(heap->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(heap->file_at + at),
                              (off_t)size) == 0
                        ? 0
                        : errno;
        else
            error = madvise(heap->base + at, size, MADV_REMOVE) == 0 ? 0 : errno;
    } while (error == EINTR);
    return error;
}

static inline void heap_attach(heap_t *heap, char *base, int fd, uint64_t file_at) {
    memset(heap, 0, sizeof *heap);
    heap->base = base;
    heap->header = (heap_header_t *)base;
    heap->fd = fd;
    heap->file_at = file_at;
}

static inline void heap_learn(heap_t *heap) {
    const heap_header_t *header = heap->header;
    heap->span = header->span;
    heap->limit = header->limit;
    heap->blocks_most = header->blocks_most;
    heap->data_at = header->data_at;
    heap->blocks = (heap_block_t *)(heap->base + header->table_at);
    heap->idle_most = heap->limit / 8 > HEAP_IDLE_LEAST ? heap->limit / 8 : HEAP_IDLE_LEAST;
}

/* Formats a new heap of `span` bytes, all zeros.  Returns 0 or an errno. */
static inline int heap_format(heap_t *heap, uint64_t span, uint64_t limit, uint32_t blocks_most) {
    heap_header_t *header = heap->header;
    const int error = heap_reserve(heap, 0, sizeof *header);
    if (error != 0)
        return error;
    header->span = span;
    header->limit = limit;
    header->blocks_most = blocks_most;
    header->table_at = (sizeof *header + PAGE - 1) / PAGE * PAGE;
    header->data_at = heap_overhead(blocks_most);
    header->top = 1ull << 40 | header->data_at / PAGE;
    cell_clear(&header->sweeper, sizeof header->sweeper, POLICY_RECOVER);
    cell_publish(&header->sweeper, CELL_LOCK);
    heap_learn(heap);
    return 0;
}

/* Opens a heap that lies in `size` bytes.  OK or CORRUPT. */
static inline status_t heap_open(heap_t *heap, uint64_t size) {
    if (size < sizeof(heap_header_t))
        return CORRUPT;
    heap_learn(heap);
    if (heap->span > size || heap->blocks_most < 2 || heap->blocks_most > HEAP_BLOCKS_MOST ||
        heap->header->table_at != (sizeof(heap_header_t) + PAGE - 1) / PAGE * PAGE ||
        heap->data_at != heap_overhead(heap->blocks_most) || heap->data_at >= heap->span)
        return CORRUPT;
    heap->blocks = (heap_block_t *)(heap->base + (sizeof(heap_header_t) + PAGE - 1) / PAGE * PAGE);
    return cell_kind(&heap->header->sweeper) == CELL_LOCK ? OK : CORRUPT;
}

/* --- blocks ------------------------------------------------------------------------------------------------------ */

/* What an entry says of its block, none of which ever changes, but for its use.  relaxed: whoever took the block sees it by the
 * block's word or the chain; a sweep, or who follows a hint, may come to an entry that is still being made, which says nothing yet. */
static inline uint32_t block_first(const heap_t *heap, uint32_t block) {
    return load_relaxed_u32(&heap->blocks[block].first);
}
static inline uint32_t block_class(const heap_t *heap, uint32_t block) {
    return load_relaxed_u16(&heap->blocks[block].class_);
}
static inline uint32_t block_use(const heap_t *heap, uint32_t block) {
    return load_relaxed_u16(&heap->blocks[block].use);
}
static inline void block_set_use(const heap_t *heap, uint32_t block, uint16_t use) {
    store_relaxed_u16(&heap->blocks[block].use, use); /* relaxed: by its holder; published by its word */
}

/* Where a slab stands, and how large it is; NULL: the table contradicts itself. */
static inline char *heap_slab_at(const heap_t *heap, uint32_t first, uint64_t *size) {
    const uint32_t class_ = block_class(heap, first);
    if (class_ >= HEAP_CLASSES)
        return NULL;
    const uint64_t at = (uint64_t)load_relaxed_u32(&heap->blocks[first].page) * PAGE; /* relaxed: as above */
    *size = heap_slab_pages(class_) * PAGE;
    return at < heap->data_at || at > heap->span || *size > heap->span - at ? NULL : heap->base + at;
}

/* Where a block stands, and how many bytes it has; NULL: there is no such block, or the table contradicts itself. */
static inline char *heap_block_at(const heap_t *heap, uint32_t block, uint64_t *size) {
    uint64_t slab_size;
    if (block == 0 || block >= heap->blocks_most)
        return NULL;
    const uint32_t first = block_first(heap, block);
    if (first == 0 || first > block)
        return NULL;
    char *slab = heap_slab_at(heap, first, &slab_size);
    if (slab == NULL || block - first >= heap_slab_count(block_class(heap, first)))
        return NULL;
    *size = heap_class_size(block_class(heap, first));
    return slab + (block - first) * *size;
}

static inline uint64_t heap_word(const heap_t *heap, uint32_t block) {
    /* (SYNC block-word) */
    return block < heap->blocks_most ? load_seq_u64(&heap->blocks[block].word) : 0;
}

/* A sum that is a hint. */
static inline void heap_count(uint64_t *sum, uint64_t bytes, int more) {
    add_relaxed_u64(sum, more ? bytes : (uint64_t)0 - bytes); /* relaxed: nothing hangs on it but when to trim */
}

/* A slab's pages have come or gone.  Those of small blocks count as used as long as they are there. */
static inline void heap_resident(const heap_t *heap, const heap_block_t *slab, uint64_t size, int more) {
    heap_count(&heap->header->resident, size, more);
    if (slab->count > 1)
        heap_count(&heap->header->used, size, more);
}

static inline int heap_take_word(const heap_t *heap, uint32_t block, uint64_t held) {
    uint64_t *word = &heap->blocks[block].word, nobody = 0;
    if (load_relaxed_u64(word) != 0) /* relaxed: whether to try */
        return 0;
    /* SYNC block-word: pairs with cas_seq(word) in heap_free_word; its last holder is done with its bytes */
    return cas_seq_u64(word, &nobody, held);
}

/* HELD → 0.  Returns whether it was held like that. */
static inline int heap_free_word(const heap_t *heap, uint32_t block, uint64_t held) {
    /* SYNC block-word: pairs with cas_seq(word) in heap_take_word; seq, so that the look at the gate comes after it */
    return cas_seq_u64(&heap->blocks[block].word, &held, 0);
}

/* Tells whoever waits for memory that there is some. */
static inline void heap_tell(const heap_t *heap) { gate_wake(&heap->header->room_gate, GATE_ALL); }

/* Gives back the pages of a slab; the caller holds all of its blocks. */
static inline void heap_punch(const heap_t *heap, uint32_t first) {
    heap_block_t *slab = &heap->blocks[first];
    uint64_t size;
    const char *at = heap_slab_at(heap, first, &size);
    if (at == NULL)
        return;
    const uint32_t was = load_relaxed_u32(&slab->resident); /* relaxed: only holders store it, and we hold all */
    if (was == RESIDENT_NONE)
        return;
    store_relaxed_u32(&slab->resident, RESIDENT_LEAVING); /* relaxed: as above; published by the blocks' words */
    FAILPOINT("heap.leaving");
    if (was == RESIDENT_ALL)
        heap_resident(heap, slab, size, 0);
    const int error = heap_unreserve(heap, (uint64_t)(at - heap->base), size);
    FAILPOINT("heap.punched");
    if (error == 0)
        store_relaxed_u32(&slab->resident, RESIDENT_NONE); /* relaxed: as above */
}

/* Bytes of blocks that are free and whose pages are there: roughly. */
static inline uint64_t heap_idle(const heap_t *heap) {
    /* relaxed: hints */
    const uint64_t resident = load_relaxed_u64(&heap->header->resident), used = load_relaxed_u64(&heap->header->used);
    return (int64_t)(resident - used) > 0 ? resident - used : 0;
}

/* Lets a block go that `held` holds.  OK, or NOT_HELD: it was not its own. */
static inline status_t heap_drop(heap_t *heap, uint32_t block, uint64_t held) {
    heap_block_t *entry = &heap->blocks[block];
    const uint32_t class_ = block_class(heap, block_first(heap, block)) % HEAP_CLASSES;
    const uint64_t size = heap_class_size(class_);
    if (load_relaxed_u64(&entry->word) != held) /* relaxed: what is ours nobody else changes */
        return NOT_HELD;
    const int alone = size >= HEAP_ALONE;
    if (alone && heap_idle(heap) > heap->idle_most) {
        FAILPOINT("heap.drop.cold");
        heap_punch(heap, block);
    }
    if (alone)
        heap_count(&heap->header->used, size, 0);
    FAILPOINT("heap.drop");
    if (!heap_free_word(heap, block, held))
        return NOT_HELD;
    FAILPOINT("heap.dropped");
    heap_class_t *hints = &heap->header->classes[class_];
    /* relaxed: a hint; who takes the block looks at its word */
    store_relaxed_u32(&hints->hints[heap->cursors[class_].hint++ % HEAP_HINTS], block);
    heap_tell(heap);
    return OK;
}

/* Reserves the pages of a block's slab, if they are not there.  0 or an errno (ENOMEM: the heap's limit). */
static inline int heap_warm(heap_t *heap, uint32_t block) {
    const uint32_t first = block_first(heap, block);
    heap_block_t *slab = &heap->blocks[first];
    uint64_t size;
    /* relaxed: it was stored by one who held a block of this slab; if what we see is outdated, the slab was given back
     * or came meanwhile: reserving pages that are there changes nothing, and pages that go while we hold a block do not exist */
    if (load_relaxed_u32(&slab->resident) == RESIDENT_ALL)
        return 0;
    const char *at = heap_slab_at(heap, first, &size);
    if (at == NULL)
        return EUCLEAN;
    if (load_relaxed_u64(&heap->header->resident) + size > heap->limit) /* relaxed: a hint */
        return ENOMEM;
    const int error = heap_reserve(heap, (uint64_t)(at - heap->base), size);
    FAILPOINT("heap.reserved");
    if (error == 0) {
        uint32_t was = load_relaxed_u32(&slab->resident); /* relaxed: as above; one of several who hold blocks counts */
        while (was != RESIDENT_ALL && !cas_seq_u32(&slab->resident, &was, RESIDENT_ALL))
            ;
        if (was != RESIDENT_ALL)
            heap_resident(heap, slab, size, 1);
    }
    return error;
}

#endif
