/* protocol ROUNDS: what a put and a get cost, in nanoseconds, through the queue's own cells and through a bare ring.
 *
 * The bare ring is D. Vyukov's bounded queue of cells with sequence numbers, for many producers and consumers: no names in
 * its claims, no places of the dead, no wake-ups, no way to grow.  Both copy the same item in and out.  One process puts
 * and gets in turn; rounds of the two alternate, and the medians of the rounds are printed.  */
#include "heap_driver.h"

#include <time.h>

#define CELLS 256u
#define PAIRS 20000u
#define MOST 101u

typedef struct {
    uint64_t sequence;
    item_t item;
} __attribute__((aligned(64))) bare_cell_t;

static struct {
    uint64_t tail __attribute__((aligned(128)));
    uint64_t head __attribute__((aligned(128)));
    bare_cell_t cells[CELLS] __attribute__((aligned(128)));
} *bare;

static inline void copy_item(item_t *to, const item_t *from) {
    to->head_size = from->head_size;
    to->flags = from->flags;
    to->block = from->block;
    to->body_size = from->body_size;
    memcpy(to->head, from->head, from->head_size);
}

static __attribute__((noinline)) int bare_put(const item_t *item) {
    uint64_t position = __atomic_load_n(&bare->tail, __ATOMIC_RELAXED);
    for (;;) {
        bare_cell_t *cell = &bare->cells[position % CELLS];
        const int64_t ahead = (int64_t)(__atomic_load_n(&cell->sequence, __ATOMIC_ACQUIRE) - position);
        if (ahead < 0)
            return 0;
        if (ahead == 0 &&
            __atomic_compare_exchange_n(&bare->tail, &position, position + 1, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            copy_item(&cell->item, item);
            __atomic_store_n(&cell->sequence, position + 1, __ATOMIC_RELEASE);
            return 1;
        }
        if (ahead > 0)
            position = __atomic_load_n(&bare->tail, __ATOMIC_RELAXED);
    }
}

static __attribute__((noinline)) int bare_get(item_t *item) {
    uint64_t position = __atomic_load_n(&bare->head, __ATOMIC_RELAXED);
    for (;;) {
        bare_cell_t *cell = &bare->cells[position % CELLS];
        const int64_t ahead = (int64_t)(__atomic_load_n(&cell->sequence, __ATOMIC_ACQUIRE) - (position + 1));
        if (ahead < 0)
            return 0;
        if (ahead == 0 &&
            __atomic_compare_exchange_n(&bare->head, &position, position + 1, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            copy_item(item, &cell->item);
            __atomic_store_n(&cell->sequence, position + CELLS, __ATOMIC_RELEASE);
            return 1;
        }
        if (ahead > 0)
            position = __atomic_load_n(&bare->head, __ATOMIC_RELAXED);
    }
}

static user_t user;

static __attribute__((noinline)) int real_put(const item_t *item) {
    int error;
    return queue_put(&user.queue, item, &error) == OK;
}

static __attribute__((noinline)) int real_get(item_t *item) { return queue_get(&user.queue, item) == OK; }

static double round_of(int (*put)(const item_t *), int (*get)(item_t *)) {
    struct timespec start, stop;
    item_t in = {.head_size = 32}, out = {0};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
    for (uint64_t number = 1; number <= PAIRS; number++) {
        memcpy(in.head, &number, 8);
        EXPECT(put(&in) && get(&out) && memcmp(in.head, out.head, 8) == 0, "item %" PRIu64 " went wrong", number);
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &stop);
    return ((double)(stop.tv_sec - start.tv_sec) * 1e9 + (double)(stop.tv_nsec - start.tv_nsec)) / PAIRS;
}

static int by_size(const void *one, const void *other) {
    const double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

int main(int argc, char **argv) {
    double real[MOST], plain[MOST], price[MOST];
    const long rounds = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
    EXPECT(rounds > 0 && rounds <= (long)MOST, "usage: protocol ROUNDS (at most %u)", MOST);
    make_heap();
    arrive(&user);
    make_queue(&user, QUEUE_UNBOUNDED);
    bare = mmap(NULL, sizeof *bare, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT(bare != MAP_FAILED, "no memory: %m");
    for (uint64_t at = 0; at < CELLS; at++)
        bare->cells[at].sequence = at;
    round_of(real_put, real_get);
    round_of(bare_put, bare_get);
    for (long at = 0; at < rounds; at++) {
        real[at] = round_of(real_put, real_get);
        plain[at] = round_of(bare_put, bare_get);
        price[at] = real[at] - plain[at];
    }
    qsort(real, (size_t)rounds, sizeof *real, by_size);
    qsort(plain, (size_t)rounds, sizeof *plain, by_size);
    qsort(price, (size_t)rounds, sizeof *price, by_size);
    printf("%.2f %.2f %.2f\n", real[rounds / 2], plain[rounds / 2], price[rounds / 2]);
    depart(&user);
    return 0;
}
