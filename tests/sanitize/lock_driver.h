/* What both drivers of the primitives' core share: one cell of each kind, and parties that use them.
 *
 * A party is what a process is in shmkit: a member of the segment, with a handle on each cell.  A thread can be one,
 * too: it has an id and a lease of its own.  It dies when it drops its lease and never touches the cells again. */
#ifndef LOCK_DRIVER_H
#define LOCK_DRIVER_H

#include "driver.h"

#include "_barrier.h"
#include "_cell.h"
#include "_condition.h"
#include "_event.h"
#include "_rwlock_wait.h"
#include "_semaphore.h"

#define PERMITS 3u
#define PARTIES_MOST 4u
#define BARRIER_PARTY_SIZE (2 * (sizeof(barrier_place_t) + sizeof(uint64_t)))

typedef struct {
    lock_cell_t lock, rlock;
    semaphore_cell_t counted;
    semaphore_cell_t owned;
    uint64_t owners[LINE / sizeof(uint64_t)]; /* right after the semaphore that they belong to */
    event_cell_t event, answer;
    condition_cell_t condition; /* goes with `lock` */
    rwlock_cell_t rwlock;
    barrier_cell_t barrier;
    uint8_t places[PARTIES_MOST * BARRIER_PARTY_SIZE]; /* right after the barrier that they belong to */
} cells_t;

SHMKIT_ASSERT(offsetof(cells_t, places) == offsetof(cells_t, barrier) + sizeof(barrier_cell_t), "places follow");
SHMKIT_ASSERT(offsetof(cells_t, owners) == offsetof(cells_t, owned) + sizeof(semaphore_cell_t), "owners follow");

typedef struct {
    member_t member;
    lock_t lock, rlock;
    semaphore_t counted, owned;
    condition_t condition;
    rwlock_t rwlock;
    barrier_t barrier;
} party_t;

static cells_t *cells;
static int lease_fd;
static uint64_t lease_inode;

static inline void format_semaphore(semaphore_cell_t *cell, uint32_t value, uint32_t maximum, uint32_t owners) {
    cell_clear(cell, sizeof *cell + owners * sizeof(uint64_t), 0);
    cell->value = value;
    cell->maximum = maximum;
    cell->owners = owners;
    cell_publish(cell, CELL_SEMAPHORE);
}

static inline void format_lock(lock_cell_t *cell, uint32_t kind, uint32_t policy) {
    cell_clear(cell, sizeof *cell, policy);
    cell_publish(cell, kind);
}

static inline void format_barrier(uint32_t parties) {
    cell_clear(&cells->barrier, sizeof cells->barrier + parties * BARRIER_PARTY_SIZE, POLICY_TELL);
    cells->barrier.parties = parties;
    cell_publish(&cells->barrier.lock, CELL_LOCK);
    cell_publish(&cells->barrier, CELL_BARRIER);
}

static inline void format_cells(uint32_t policy, uint32_t value, uint32_t owners) {
    format_lock(&cells->lock, CELL_LOCK, policy);
    format_lock(&cells->rlock, CELL_RLOCK, policy);
    format_semaphore(&cells->counted, value, PERMITS, 0);
    format_semaphore(&cells->owned, 0, owners, owners);
    cell_clear(&cells->event, sizeof cells->event, 0);
    cell_publish(&cells->event, CELL_EVENT);
    cell_clear(&cells->answer, sizeof cells->answer, 0);
    cell_publish(&cells->answer, CELL_EVENT);
    cell_clear(&cells->condition, sizeof cells->condition, 0);
    cell_publish(&cells->condition, CELL_CONDITION);
    cell_clear(&cells->rwlock, sizeof cells->rwlock, policy);
    cell_publish(&cells->rwlock, CELL_RWLOCK);
    format_barrier(PARTIES_MOST);
}

/* The handles of who has joined. */
static inline void bind_party(party_t *party) {
    const uint64_t held = member_word(party->member.id);
    const uint32_t owners = cells->owned.owners;
    party->lock = (lock_t){.cell = &cells->lock, .held = held, .member = &party->member};
    party->rlock = (lock_t){.cell = &cells->rlock, .held = held, .member = &party->member};
    party->counted = (semaphore_t){.cell = &cells->counted, .held = held, .maximum = PERMITS, .member = &party->member};
    party->owned = (semaphore_t){.cell = &cells->owned,
                                 .held = held,
                                 .owners = owners,
                                 .maximum = owners,
                                 .start = (uint32_t)(party->member.id % owners),
                                 .member = &party->member};
    party->condition = (condition_t){.cell = &cells->condition, .lock = &party->lock};
    party->rwlock = (rwlock_t){.cell = &cells->rwlock, .held = held, .member = &party->member, .at = RWLOCK_NOWHERE};
    party->barrier = (barrier_t){.cell = &cells->barrier,
                                 .lock = {.cell = &cells->barrier.lock, .held = held, .member = &party->member},
                                 .own = held,
                                 .parties = cells->barrier.parties,
                                 .where = CPU_HERE};
}

static inline void join(party_t *party) {
    const int error = member_join(&party->member, lease_fd, lease_inode, (uint32_t)getpid());
    EXPECT(error == 0, "cannot join: %s", strerror(error));
    bind_party(party);
}

static inline void die(party_t *party) { lease_drop(&party->member.lease); }

#endif
