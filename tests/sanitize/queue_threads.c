/* queue_threads SCENE ROUNDS SEED [FUNCTION]: a heap and a queue between threads on one mapping, under a sanitizer.
 *
 * ThreadSanitizer sees a missing order only where both sides use the same addresses: so each thread is a user of its own.
 * In scenes with deaths a user dies where the core passes a failpoint: it leaves the operation there, drops its leases and
 * comes back as somebody else.  What it was putting is there once or not at all, what it was getting goes to another.
 *
 * FUNCTION: its accesses order nothing (mutants.h).  */
#define SHMKIT_PASSING
#define HEAP_LIMIT (128u << 20)
#define HEAP_ENTRIES (1u << 17)
#include "driver.h"

#include "mutants.h"

#include "heap_driver.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>

#define WORKERS 4u
#define NUMBERS_MOST 4000000u

typedef struct {
    pthread_t thread;
    user_t user;
    uint64_t number, dice;
    uint64_t putting; /* the number after the last one whose put was begun */
    uint64_t deaths;
} worker_t;

static uint64_t rounds, seed;
static worker_t workers[WORKERS];
static uint8_t *seen[WORKERS]; /* by producer and number: how often it was got */
static uint8_t *done[WORKERS]; /* whether its put returned */
static uint64_t still_putting;
static uint64_t kernel; /* the kernel's word that somebody is dead comes after all that the dead one did */

typedef struct {
    const char *name;
    void *(*work)(void *);
    void (*check)(void);
    uint64_t most;      /* items in the queue */
    uint64_t mortality; /* one of so many operations ends in the middle; 0: none */
    uint64_t burst;     /* items that a producer puts without a pause */
    int drops;          /* who finds no room drops what is oldest */
} scene_t;

static const scene_t *scene;

/* --- dying -------------------------------------------------------------------------------------------------------- */

static __thread sigjmp_buf *grave;
static __thread uint64_t fuse;    /* failpoints that are still passed */
static __thread const char *died; /* where */

static const char *event_at; /* where something happens once, and … */
static void (*event)(void);  /* … what */
static const char *dies_at;  /* where who is mortal dies, if not after so many */

static void passing(const char *name) {
    if (event_at != NULL && strcmp(name, event_at) == 0) {
        event_at = NULL;
        event();
    }
    if (grave != NULL && dies_at != NULL) {
        fuse = strcmp(name, dies_at) != 0;
    }
    if (grave == NULL || fuse-- != 0)
        return;
    died = name;
    siglongjmp(*grave, 1);
}

static uint64_t chance(worker_t *worker) { return mixed(mixed(seed * 31 + worker->number) + worker->dice++); }
static int one_in(worker_t *worker, uint64_t count) { return count != 0 && chance(worker) % count == 0; }

static void pause_now_and_then(worker_t *worker) {
    if (one_in(worker, 64))
        usleep((useconds_t)(chance(worker) % 200));
    else if (one_in(worker, 8))
        sched_yield();
}

static void bury(worker_t *worker) {
    grave = NULL;
    worker->deaths++;
    __atomic_fetch_add(&kernel, 1, __ATOMIC_ACQ_REL);
    if (one_in(worker, 2))
        perish(&worker->user);
    else { /* in the other order */
        lease_drop(&worker->user.member.lease);
        sched_yield();
        lease_drop(&worker->user.hold.lease);
    }
    arrive(&worker->user);
}

/* Runs `what`, and lives; or does not.  A macro: whoever has called sigsetjmp must not have returned. */
#define MORTALLY(worker, what)                                                                                         \
    do {                                                                                                               \
        sigjmp_buf here;                                                                                               \
        fuse = chance(worker) % 10;                                                                                    \
        if (one_in(worker, scene->mortality) && sigsetjmp(here, 0) == 0) {                                             \
            grave = &here;                                                                                             \
            what;                                                                                                      \
            grave = NULL;                                                                                              \
        } else if (grave != NULL)                                                                                      \
            bury(worker);                                                                                              \
        else                                                                                                           \
            what;                                                                                                      \
    } while (0)

/* The kernel has been asked by now, if at all. */
static void look_for_dead(worker_t *worker) {
    __atomic_fetch_add(&kernel, 1, __ATOMIC_ACQ_REL);
    if (heap_bereaved(&worker->user.heap, &worker->user.member)) {
        __atomic_fetch_add(&kernel, 1, __ATOMIC_ACQ_REL);
        MORTALLY(worker, clean(&worker->user));
    }
}

/* --- queue: two put, two get --------------------------------------------------------------------------------------- */

static uint64_t number_of(const worker_t *worker, uint64_t count) { return worker->number << 32 | count; }

static void try_put(worker_t *worker, const item_t *item, volatile status_t *status) {
    int error;
    *status = queue_put(&worker->user.queue, item, &error);
}

static void try_get(worker_t *worker, item_t *item, volatile status_t *status) {
    *status = queue_get(&worker->user.queue, item);
}

static uint64_t dropped, perhaps; /* items that were dropped; whose droppers died, and may have dropped them */

static void try_drop(worker_t *worker, volatile status_t *status) { *status = queue_drop(&worker->user.queue, 0); }

/* Whether it lives. */
static int drop_one(worker_t *worker) {
    const uint64_t deaths = worker->deaths;
    volatile status_t status = TAKEN;
    MORTALLY(worker, try_drop(worker, &status));
    EXPECT(status == OK || status == EMPTY || status == TAKEN, "drop says %d", status);
    if (status == TAKEN && strncmp(died, "queue.", 6) != 0)
        __atomic_fetch_add(&perhaps, 1, __ATOMIC_RELAXED);
    if (status == OK)
        __atomic_fetch_add(&dropped, 1, __ATOMIC_RELAXED);
    return deaths == worker->deaths;
}

static void produce(worker_t *worker) {
    volatile uint64_t count;
    for (count = 0; count < rounds; count++) {
        item_t item;
        volatile status_t status = TAKEN, packed = TAKEN;
        worker->putting = count + 1;
        /* Nothing was put if somebody died at that: the next one. */
        MORTALLY(worker, packed = pack_item(&worker->user, number_of(worker, count), &item));
        if (packed == TAKEN)
            continue;
        EXPECT(packed == OK, "no memory");
        for (;;) {
            status = TAKEN;
            MORTALLY(worker, try_put(worker, &item, &status));
            if (status != FULL)
                break;
            /* Who dies at that, or at what follows, has no block any more. */
            if (scene->drops && !drop_one(worker)) {
                status = TAKEN;
                break;
            }
            pause_now_and_then(worker);
            sched_yield();
            if (one_in(worker, 4)) {
                const uint64_t deaths = worker->deaths;
                look_for_dead(worker);
                if (deaths != worker->deaths) {
                    status = TAKEN;
                    break;
                }
            }
        }
        EXPECT(status == OK || status == TAKEN, "put says %d", status);
        done[worker->number][count] = status == OK;
        if (count % scene->burst == 0)
            pause_now_and_then(worker);
    }
    __atomic_fetch_sub(&still_putting, 1, __ATOMIC_SEQ_CST);
}

static void note(uint64_t number) {
    const uint64_t producer = number >> 32, count = number & 0xffffffff;
    EXPECT(producer < WORKERS && count < rounds, "item %" PRIx64 " was never put", number);
    EXPECT(__atomic_fetch_add(&seen[producer][count], 1, __ATOMIC_RELAXED) == 0, "item %" PRIx64 " is got twice",
           number);
}

static uint64_t in_hand; /* items that their getters died with, after the cell was free */

static void consume(worker_t *worker) {
    for (;;) {
        item_t item;
        volatile status_t status = TAKEN;
        const int over = load_seq_u64(&still_putting) == 0;
        MORTALLY(worker, try_get(worker, &item, &status));
        EXPECT(status == OK || status == EMPTY || status == TAKEN, "get says %d", status);
        if (status == OK) {
            note(open_item(&worker->user, &item));
            EXPECT(queue_task_done(&worker->user.queue) == OK, "it was done already");
            continue;
        }
        if (status == TAKEN) {
            /* Only once the cell is free is the item its getter's. */
            if (strcmp(died, "queue.freed") == 0 || strncmp(died, "gate.", 5) == 0)
                __atomic_fetch_add(&in_hand, 1, __ATOMIC_RELAXED);
            continue;
        }
        if (over && !heap_bereaved(&worker->user.heap, &worker->user.member) && queue_size(&worker->user.queue) == 0)
            break;
        look_for_dead(worker);
        pause_now_and_then(worker);
    }
}

static void *put_and_get(void *of) {
    worker_t *worker = (worker_t *)of;
    if (worker->number % 2 == 0)
        produce(worker);
    else
        consume(worker);
    return NULL;
}

static void check_all_came(void) {
    uint64_t missing = 0, unreturned = 0, deaths = 0, number;
    user_t *user = &workers[0].user;
    for (int i = 0; i < 3; i++) {
        __atomic_fetch_add(&kernel, 1, __ATOMIC_ACQ_REL);
        EXPECT(clean(user) == OK, "nobody else sweeps");
        while (get_number(user, &number) == OK) {
            note(number);
            EXPECT(queue_task_done(&user->queue) == OK, "it was done already");
        }
    }
    for (uint64_t i = 0; i < WORKERS; i += 2)
        for (uint64_t count = 0; count < rounds; count++) {
            missing += done[i][count] && !seen[i][count];
            unreturned += !done[i][count] && seen[i][count];
        }
    for (uint64_t i = 0; i < WORKERS; i++)
        deaths += workers[i].deaths;
    EXPECT(missing <= in_hand + dropped + perhaps,
           "%" PRIu64 " items are missing, %" PRIu64 " died with one in hand, and %" PRIu64 " were dropped", missing,
           in_hand, dropped + perhaps);
    EXPECT(queue_size(&user->queue) == 0, "%" PRIu64 " items are left", queue_size(&user->queue));
    EXPECT(blocks_in_use(user) == 0, "%u blocks are left", blocks_in_use(user));
    check_own_blocks(user);
    /* What was put, less what was skipped, is what was got, or died in hand. */
    const uint64_t put = (user->queue.header->tail >> 8) - user->queue.first_ticket - user->queue.header->skipped;
    uint64_t got = 0;
    for (uint64_t i = 0; i < WORKERS; i += 2)
        for (uint64_t count = 0; count < rounds; count++)
            got += seen[i][count];
    EXPECT(put >= got + in_hand + dropped && put <= got + in_hand + dropped + perhaps,
           "%" PRIu64 " were put, %" PRIu64 " were got, %" PRIu64 " died with one in hand, and %" PRIu64
           " were dropped",
           put, got, in_hand, dropped);
    /* A task is not done only if its getter died. */
    const uint64_t unfinished = queue_tasks(&user->queue) - (user->queue.header->done >> DONE_SHIFT);
    EXPECT(unfinished == in_hand, "%" PRIu64 " tasks are not done, and %" PRIu64 " died with one in hand", unfinished,
           in_hand);
    printf("%" PRIu64 " deaths, %" PRIu64 " missing, %" PRIu64 " came of puts that did not return\n", deaths, missing,
           unreturned);
}

/* --- a queue that nobody has any more, and that somebody comes to have while it is swept --------------------------- */

static void *revive(void *of) {
    worker_t *worker = (worker_t *)of;
    user_t *user = &worker->user, *victim = &workers[1].user;
    uint64_t number;
    item_t item;
    sigjmp_buf here;
    int error;
    if (worker->number != 0)
        return NULL;
    EXPECT(put_number(user, 1) == OK && body_size_of(1) != 0, "an item with a body cannot be put");
    EXPECT(pack_item(victim, 4, &item) == OK, "no memory");
    fuse = 0;
    grave = &here;
    if (sigsetjmp(here, 0) == 0)
        queue_put(&victim->queue, &item, &error);
    grave = NULL;
    EXPECT(strcmp(died, "queue.claimed") == 0, "it died at %s", died);
    perish(victim);
    lease_drop(&queue_share);
    event = keep_queue;
    event_at = "sweep.cells"; /* they were not looked at: the queue was nobody's */
    EXPECT(clean(user) == OK && event_at == NULL && user->sweep.mended == 0, "it was swept");
    EXPECT(heap_word(&user->heap, queue_block) == block_held(queue_id), "the queue is gone");
    EXPECT(heap_bereaved(&user->heap, &user->member), "the dead one's place was given away, and names its claim");
    EXPECT(clean(user) == OK && user->sweep.mended == 1, "%" PRIu64 " cells were mended", user->sweep.mended);
    EXPECT(get_number(user, &number) == OK && number == 1, "the item is lost");
    EXPECT(get_number(user, &number) == EMPTY, "an item that was never put");
    EXPECT(put_number(user, 7) == OK && get_number(user, &number) == OK && number == 7, "it does not work");
    EXPECT(blocks_in_use(user) == 0, "%u blocks are left", blocks_in_use(user));
    check_own_blocks(user);
    arrive(victim);
    return NULL;
}

/* --- a producer that is about to link a ring, and is overtaken ------------------------------------------------------ */

static uint64_t expected; /* the next item */

static void get_expected(user_t *user) {
    uint64_t number;
    while (get_number(user, &number) == OK)
        EXPECT(number == 3 * expected++, "item %" PRIu64 " comes at the place of item %" PRIu64, number, expected - 1);
}

/* Another one links a ring, and dies before tail has followed; a consumer follows, and leaves the ring where tail still is. */
static void overtake(void) {
    user_t *other = &workers[1].user;
    sigjmp_buf here;
    dies_at = "queue.linked";
    grave = &here;
    if (sigsetjmp(here, 0) == 0)
        put_number(other, 999);
    EXPECT(grave != NULL && strcmp(died, "queue.linked") == 0, "no ring was linked");
    grave = NULL;
    dies_at = NULL;
    get_expected(&workers[2].user);
}

static void *be_overtaken(void *of) {
    worker_t *worker = (worker_t *)of;
    user_t *user = &worker->user;
    if (worker->number != 0)
        return NULL;
    event = overtake;
    event_at = "queue.growing";
    for (uint64_t count = 0; count < 200; count++)
        EXPECT(put_number(user, 3 * count) == OK, "item %" PRIu64 " cannot be put", count);
    EXPECT(event_at == NULL, "no ring was full");
    get_expected(&workers[2].user);
    EXPECT(expected == 200, "item %" PRIu64 " does not come", expected);
    perish(&workers[1].user);
    EXPECT(clean(user) == OK && blocks_in_use(user) == 0, "%u blocks are left", blocks_in_use(user));
    check_own_blocks(user);
    arrive(&workers[1].user);
    return NULL;
}

/* --- two items, one wake-up ---------------------------------------------------------------------------------------- */

static void get_one(user_t *user, uint64_t expected_number) {
    uint64_t number = 0;
    EXPECT(get_number(user, &number) == OK && number == expected_number, "item %" PRIu64 " does not come",
           expected_number);
}

/* While the first item is being put, two consumers sleep; the second is put, and whoever it wakes finds nothing and sleeps
 * again.  Both are played by what a sleeper leaves at the gate. */
static void put_behind(void) {
    user_t *other = &workers[1].user;
    uint32_t *gate = &other->queue.header->items_gate;
    const uint32_t asleep = gate_announce(gate);
    EXPECT(!queue_has_item(&workers[2].user.queue), "an item is there before it was put");
    EXPECT(put_number(other, 3) == OK, "the second cannot be put");
    EXPECT(load_seq_u32(gate) != asleep, "nobody was woken for the second");
    EXPECT(!queue_has_item(&workers[2].user.queue), "the second is to be had before the first");
}

static void *be_passed_on(void *of) {
    worker_t *worker = (worker_t *)of;
    user_t *user = &worker->user, *consumer = &workers[2].user;
    uint32_t *gate = &user->queue.header->items_gate, asleep;
    if (worker->number != 0)
        return NULL;
    event = put_behind;
    event_at = "queue.claimed";
    EXPECT(put_number(user, 0) == OK && event_at == NULL, "the first cannot be put");
    asleep = gate_announce(gate); /* one was woken for the first; the other sleeps on */
    get_one(consumer, 0);
    queue_pass_on(&consumer->queue);
    EXPECT(load_seq_u32(gate) != asleep, "one sleeps on beside an item");
    asleep = gate_announce(gate);
    get_one(consumer, 3);
    queue_pass_on(&consumer->queue);
    EXPECT(load_seq_u32(gate) == asleep, "one is woken for nothing");
    return NULL;
}

/* --- heap: blocks are taken, handed on and let go ------------------------------------------------------------------ */

#define TABLE 32u

static uint64_t table[TABLE]; /* blocks on their way: block << 32 | number */

static uint64_t sizes(uint64_t number) {
    const uint64_t dice = mixed(number);
    return dice % 8 == 0 ? 100000 + dice % 200000 : dice % 4 == 0 ? 5000 + dice % 30000 : 1 + dice % 3000;
}

/* What is in a block's first and last bytes. */
static void sign(worker_t *worker, uint32_t block, uint64_t number) {
    uint64_t size;
    uint8_t *at = (uint8_t *)heap_block_at(&worker->user.heap, block, &size);
    EXPECT(at != NULL && size >= sizes(number), "block %u is too small", block);
    memset(at, (int)(number & 0xff), sizes(number));
    memcpy(at, &number, sizeof number < sizes(number) ? sizeof number : sizes(number));
}

static void verify(worker_t *worker, uint32_t block, uint64_t number) {
    uint64_t size, found = number;
    const uint8_t *at = (const uint8_t *)heap_block_at(&worker->user.heap, block, &size);
    memcpy(&found, at, sizeof number < sizes(number) ? sizeof number : sizes(number));
    EXPECT(found == number, "block %u has %" PRIx64 " in it, not %" PRIx64, block, found, number);
    for (uint64_t i = 8; i < sizes(number); i++)
        EXPECT(at[i] == (number & 0xff), "block %u is torn", block);
}

static void take_block(worker_t *worker, uint64_t size, uint32_t *block, volatile status_t *status) {
    int error;
    const uint64_t held = block_held(worker->user.hold.id);
    *status = heap_take_warm(&worker->user.heap, size, held, block) == OK
                  ? OK
                  : heap_take(&worker->user.heap, size, held, block, &error);
}

/* Blocks go from hand to hand: who takes one out of the table makes its word his own. */
static void *trade(void *of) {
    worker_t *worker = (worker_t *)of;
    volatile uint64_t count;
    for (count = 1; count <= rounds; count++) {
        const uint64_t number = worker->number << 24 | count;
        uint64_t *slot = &table[chance(worker) % TABLE];
        uint32_t block = 0;
        volatile status_t status = TAKEN;
        if (one_in(worker, 3)) { /* some else's */
            const uint64_t there = exchange_seq_u64(slot, 0);
            if (there != 0) {
                verify(worker, (uint32_t)(there >> 32), there & 0xffffffff);
                const uint64_t held = heap_word(&worker->user.heap, (uint32_t)(there >> 32));
                EXPECT(heap_drop(&worker->user.heap, (uint32_t)(there >> 32), held) == OK, "it is not held");
            }
            continue;
        }
        MORTALLY(worker, take_block(worker, sizes(number), &block, &status));
        if (status == OK) {
            sign(worker, block, number);
            if (scene->mortality == 0) {
                const uint64_t was = exchange_seq_u64(slot, (uint64_t)block << 32 | number);
                if (was == 0)
                    continue;
                block = (uint32_t)(was >> 32);
                verify(worker, block, was & 0xffffffff);
                EXPECT(heap_drop(&worker->user.heap, block, heap_word(&worker->user.heap, block)) == OK, "not held");
            } else { /* who dies takes nobody else's along */
                pause_now_and_then(worker);
                verify(worker, block, number);
                MORTALLY(worker, heap_drop(&worker->user.heap, block, block_held(worker->user.hold.id)));
            }
        } else
            EXPECT(status == TAKEN || status == FULL, "take says %d", status);
        if (one_in(worker, 64))
            MORTALLY(worker,
                     heap_trim(&worker->user.heap, one_in(worker, 2) ? 0 : 1 << 20, block_held(worker->user.hold.id)));
        if (one_in(worker, 32))
            look_for_dead(worker);
    }
    return NULL;
}

static void check_heap(void) {
    user_t *user = &workers[0].user;
    for (uint32_t i = 0; i < TABLE; i++)
        if (table[i] != 0)
            heap_drop(&user->heap, (uint32_t)(table[i] >> 32), heap_word(&user->heap, (uint32_t)(table[i] >> 32)));
    __atomic_fetch_add(&kernel, 1, __ATOMIC_ACQ_REL);
    EXPECT(clean(user) == OK, "nobody else sweeps");
    EXPECT(blocks_in_use(user) == 0, "%u blocks are left", blocks_in_use(user));
    heap_trim(&user->heap, 0, block_held(user->hold.id));
    EXPECT(clean(user) == OK && user->heap.header->resident <= 3 * HEAP_SLAB, "%" PRIu64 " bytes are still there",
           user->heap.header->resident);
    check_own_blocks(user);
}

/* --- all of them ---------------------------------------------------------------------------------------------------- */

static const scene_t scenes[] = {
    {"bounded", put_and_get, check_all_came, 5, 0, 8, 0},
    {"unbounded", put_and_get, check_all_came, QUEUE_UNBOUNDED, 0, 200, 0},
    {"dropping", put_and_get, check_all_came, 5, 0, 8, 1},
    {"bounded-deaths", put_and_get, check_all_came, 5, 12, 8, 0},
    {"unbounded-deaths", put_and_get, check_all_came, QUEUE_UNBOUNDED, 12, 200, 0},
    {"dropping-deaths", put_and_get, check_all_came, 5, 12, 8, 1},
    {"heap", trade, check_heap, 5, 0, 1, 0},
    {"overtaken", be_overtaken, NULL, QUEUE_UNBOUNDED, 0, 1, 0},
    {"passed-on", be_passed_on, NULL, QUEUE_UNBOUNDED, 0, 1, 0},
    {"revival", revive, NULL, 5, 0, 1, 0},
    {"heap-deaths", trade, check_heap, 5, 12, 1, 0},
};

static void stuck(int signal) {
    (void)signal;
    static const char says[] = "it does not end\n";
    if (write(2, says, sizeof says - 1) < 0)
        _exit(2);
    abort();
}

int main(int argc, char **argv) {
    for (uint64_t i = 0; argc >= 4 && i < sizeof scenes / sizeof *scenes; i++)
        if (strcmp(argv[1], scenes[i].name) == 0)
            scene = &scenes[i];
    EXPECT(scene != NULL, "usage: queue_threads SCENE ROUNDS SEED [FUNCTION]");
    rounds = strtoull(argv[2], NULL, 10);
    seed = strtoull(argv[3], NULL, 10);
    mutant = argc == 5 ? argv[4] : "";
    EXPECT(rounds < NUMBERS_MOST, "too many");
    signal(SIGALRM, stuck);
    alarm(90);
    make_heap();
    for (uint64_t i = 0; i < WORKERS; i++) {
        workers[i].number = i;
        arrive(&workers[i].user);
        if (i == 0)
            make_queue(&workers[0].user, scene->most);
        seen[i] = calloc(rounds, 1);
        done[i] = calloc(rounds, 1);
    }
    still_putting = WORKERS / 2;
    for (uint64_t i = 0; i < WORKERS; i++)
        EXPECT(pthread_create(&workers[i].thread, NULL, scene->work, &workers[i]) == 0, "no thread");
    for (uint64_t i = 0; i < WORKERS; i++)
        EXPECT(pthread_join(workers[i].thread, NULL) == 0, "no thread");
    if (scene->check != NULL)
        scene->check();
    for (uint64_t i = 0; i < WORKERS; i++) {
        depart(&workers[i].user);
        free(seen[i]);
        free(done[i]);
    }
    printf("%s: %" PRIu64 " rounds %s\n", scene->name, rounds, mutant);
    return 0;
}
