/* Cells: how they are made, and told apart ("cells" in _layout.h). */
#ifndef SHMKIT_CELL_H
#define SHMKIT_CELL_H

#include <string.h>

#include "_atomics.h"
#include "_layout.h"

/* Every cell begins with these. */
typedef struct {
    uint32_t kind;
    uint32_t policy;
} cell_head_t;

/* Makes all of it zeros, whatever stood there; until cell_publish it is of no kind. */
static inline void cell_clear(void *cell, uint64_t size, uint32_t policy) {
    cell_head_t *head = (cell_head_t *)cell;
    store_relaxed_u32(&head->kind, 0); /* relaxed: a kind that was there goes first, in this thread's order */
    memset((uint8_t *)cell + sizeof head->kind, 0, size - sizeof head->kind);
    head->policy = policy;
}

static inline void cell_publish(void *cell, uint32_t kind) {
    /* SYNC cell-kind: pairs with load_acquire(kind) in cell_kind; the cell is whole */
    store_release_u32(&((cell_head_t *)cell)->kind, kind);
}

static inline uint32_t cell_kind(const void *cell) {
    /* SYNC cell-kind: pairs with store_release(kind) in cell_publish */
    return load_acquire_u32(&((const cell_head_t *)cell)->kind);
}

#endif
