/* What the drivers of the heap's core and of the queues' share: a heap with one queue in it, those who use it, and items
 * whose bytes can be checked.
 *
 * A user is what a process is in shmkit: a member of the heap, who holds blocks under a name of its own.  A thread can be
 * one, too.  It dies when it drops its leases and never touches the memory again.  */
#ifndef HEAP_DRIVER_H
#define HEAP_DRIVER_H

#include "driver.h"

#ifdef SHMKIT_PASSING /* a driver that has something happen where the core passes a failpoint */
static void passing(const char *name);
#include "_failpoint.h"
#undef FAILPOINT
#define FAILPOINT(name) passing(name)
#endif

#include "_heap_layout.h"

/* A sweep asks about each member that there can be: a stepper would be at it for hours.  Nobody needs 4,096 places here. */
#undef HEAP_MEMBERS
#define HEAP_MEMBERS 16u

#include "_queue_wait.h"

#ifndef HEAP_LIMIT
#define HEAP_LIMIT (4u << 20)
#define HEAP_ENTRIES 1024u
#endif
#define HEAP_BYTES (16ull * HEAP_LIMIT)

typedef struct {
    member_t member, hold;
    uint32_t place;
    heap_t heap;
    queue_t queue;
    sweep_t sweep;
} user_t;

static char *heap_memory;
static int heap_fd;
static uint64_t heap_file;
static uint32_t queue_block;
static uint64_t queue_id;
static lease_t queue_share; /* keeps the queue */

/* As the kernel does it: both leases end, one after the other. */
static inline void perish(user_t *user) {
    lease_drop(&user->hold.lease);
    lease_drop(&user->member.lease);
}

static inline void depart(user_t *user) {
    heap_leave(&user->heap, user->place, user->member.id);
    perish(user);
}

static inline status_t clean(user_t *user) {
    return heap_sweep(&user->sweep, &user->heap, &user->member, block_held(user->hold.id));
}

/* A member, who knows of the heap; of the queue, too, if there is one. */
static inline void arrive(user_t *user) {
    EXPECT(member_join(&user->member, heap_fd, heap_file, (uint32_t)getpid()) == 0, "no member's lease");
    EXPECT(member_join(&user->hold, heap_fd, heap_file, (uint32_t)getpid()) == 0, "no holder's lease");
    heap_attach(&user->heap, heap_memory, heap_fd, 0);
    user->heap.key = heap_file;
    EXPECT(heap_open(&user->heap, HEAP_BYTES) == OK, "the heap cannot be opened");
    for (int tries = 0; (user->place = heap_enter(&user->heap, user->member.id)) == HEAP_MEMBERS && tries < 1000;
         tries++) {
        clean(user);
        usleep(100);
    }
    EXPECT(user->place < HEAP_MEMBERS, "no place for a member");
    if (queue_block != 0) {
        uint64_t size;
        void *header = heap_block_at(&user->heap, queue_block, &size);
        EXPECT(queue_open(&user->queue, &user->heap, (queue_header_t *)header, queue_id) == OK,
               "the queue is not there");
        user->queue.member = user->place;
        user->queue.held = block_held(user->hold.id);
    }
}

/* A heap in a file without a name. */
static inline void make_heap(void) {
    struct stat file;
    heap_t heap;
    heap_fd = memfd_create("shmkit-heap-driver", MFD_CLOEXEC);
    EXPECT(heap_fd >= 0 && ftruncate(heap_fd, HEAP_BYTES) == 0 && fstat(heap_fd, &file) == 0, "no memfd: %m");
    heap_file = lease_key_of(&file);
    heap_memory = mmap(NULL, HEAP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, heap_fd, 0);
    EXPECT(heap_memory != MAP_FAILED, "no memory: %m");
    heap_attach(&heap, heap_memory, heap_fd, 0);
    heap.key = heap_file;
    EXPECT(heap_format(&heap, HEAP_BYTES, HEAP_LIMIT, HEAP_ENTRIES) == 0, "the heap cannot be laid out");
}

static inline void keep_queue(void) {
    EXPECT(lease_take_as(&queue_share, heap_fd, heap_file, LEASE_MEMBERS + (int64_t)queue_id, F_RDLCK, 1) == 0,
           "no share");
}

/* A queue, by `user`; whoever is in this process, or is forked from it, keeps it. */
static inline void make_queue(user_t *user, uint64_t most) {
    int error;
    uint64_t size;
    queue_id = member_new_id((uint32_t)getpid());
    keep_queue();
    memset(&user->queue, 0, sizeof user->queue);
    user->queue.heap = &user->heap;
    user->queue.member = user->place;
    user->queue.held = block_held(user->hold.id);
    EXPECT(heap_take(&user->heap, sizeof(queue_header_t), user->queue.held, &queue_block, &error) == OK, "no block");
    memset(heap_block_at(&user->heap, queue_block, &size), 0, sizeof(queue_header_t));
    EXPECT(queue_format(&user->queue, queue_block, queue_id, most, 0, &error) == OK, "no queue");
}

/* --- items ------------------------------------------------------------------------------------------------------- */

/* The size of the body of item number n: every third one has one. */
static inline uint64_t body_size_of(uint64_t number) { return number % 3 == 1 ? 200 + mixed(number) % 400 : 0; }

static inline void fill_bytes(uint8_t *bytes, uint64_t number, uint64_t nbytes) {
    for (uint64_t at = 0; at < nbytes; at += 8) {
        const uint64_t word = mixed(number + at);
        memcpy(bytes + at, &word, nbytes - at < 8 ? nbytes - at : 8);
    }
}

static inline int bytes_are_whole(const uint8_t *bytes, uint64_t number, uint64_t nbytes) {
    for (uint64_t at = 0; at < nbytes; at += 8) {
        const uint64_t word = mixed(number + at);
        if (memcmp(bytes + at, &word, nbytes - at < 8 ? nbytes - at : 8) != 0)
            return 0;
    }
    return 1;
}

/* Its block, if it has one, is this user's. */
static inline status_t pack_item(user_t *user, uint64_t number, item_t *item) {
    int error;
    uint64_t size;
    item->flags = number & 0xfff;
    item->block = 0;
    item->body_size = body_size_of(number);
    item->head_size = 16 + mixed(number) % (CELL_HEAD - 16);
    memcpy(item->head, &number, 8);
    fill_bytes(item->head + 8, number, item->head_size - 8);
    if (item->body_size == 0)
        return OK;
    const status_t status = heap_take(&user->heap, item->body_size, user->queue.held, &item->block, &error);
    if (status == OK)
        fill_bytes((uint8_t *)heap_block_at(&user->heap, item->block, &size), number, item->body_size);
    return status;
}

/* Puts a packed item; where it does not go in, its block is let go. */
static inline status_t put_item(user_t *user, const item_t *item) {
    int error;
    const status_t status = queue_put(&user->queue, item, &error);
    if (status != OK && item->block != 0)
        EXPECT(heap_drop(&user->heap, item->block, user->queue.held) == OK, "the block is not the putter's");
    return status;
}

static inline status_t put_number(user_t *user, uint64_t number) {
    item_t item;
    const status_t status = pack_item(user, number, &item);
    return status == OK ? put_item(user, &item) : status;
}

/* Which item it is; its bytes are looked at, and its block is let go. */
static inline uint64_t open_item(user_t *user, const item_t *item) {
    uint64_t number, size;
    memcpy(&number, item->head, 8);
    EXPECT(item->head_size == 16 + mixed(number) % (CELL_HEAD - 16) && item->flags == (number & 0xfff) &&
               item->body_size == body_size_of(number) && (item->block != 0) == (item->body_size != 0),
           "item %" PRIu64 " is not what was put", number);
    EXPECT(bytes_are_whole(item->head + 8, number, item->head_size - 8), "the head of item %" PRIu64 " is torn",
           number);
    if (item->block != 0) {
        const uint8_t *body = (const uint8_t *)heap_block_at(&user->heap, item->block, &size);
        EXPECT(body != NULL && size >= item->body_size && bytes_are_whole(body, number, item->body_size),
               "the body of item %" PRIu64 " is torn", number);
        EXPECT(heap_drop(&user->heap, item->block, user->queue.held) == OK, "the block of item %" PRIu64 " is not ours",
               number);
    }
    return number;
}

static inline status_t get_number(user_t *user, uint64_t *number) {
    item_t item;
    const status_t status = queue_get(&user->queue, &item);
    EXPECT(status == OK || status == EMPTY, "get says %d", status);
    if (status == OK)
        *number = open_item(user, &item);
    return status;
}

/* --- what is left ------------------------------------------------------------------------------------------------ */

/* Blocks that are not free, the queue's own apart. */
static inline uint32_t blocks_in_use(const user_t *user) {
    const heap_t *heap = &user->heap;
    const uint32_t blocks = (uint32_t)(load_seq_u64(&heap->header->top) >> 40);
    uint32_t used = 0;
    for (uint32_t block = 1; block < blocks; block++)
        used += heap_word(heap, block) != 0 && heap_word(heap, block) != block_held(queue_id);
    return used;
}

/* Blocks of the queue's own: its header, and one for each ring that has a name. */
static inline void check_own_blocks(const user_t *user) {
    const heap_t *heap = &user->heap;
    const uint32_t blocks = (uint32_t)(load_seq_u64(&heap->header->top) >> 40);
    uint32_t own = 0, rings = 0;
    for (uint32_t block = 1; block < blocks; block++)
        own += heap_word(heap, block) == block_held(queue_id);
    for (uint32_t ring = 0; ring < QUEUE_RINGS; ring++) {
        const uint32_t block = queue_ring(&user->queue, ring);
        EXPECT(block == 0 || heap_word(heap, block) == block_held(queue_id), "ring %u's block is not the queue's",
               ring);
        rings += block != 0;
    }
    EXPECT(own == 1 + rings, "the queue has %u blocks and %u rings", own, rings);
}

#endif
