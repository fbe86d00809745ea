/* pair_threads SCENE ROUNDS SEED: a pipe's large messages, which lie in blocks of a heap, between threads on one mapping.
 *
 * Both ways at once: two send from one end and one from the other, two read at one end and one at the other; who reads has the end to
 * himself until he has taken the message.  The first sender often pauses until about as many messages of others have gone as there are
 * ids, which are few here, and looks when many are under way.  In scenes with deaths a thread dies where the core passes a failpoint: its leases end, and it comes back as
 * somebody else.  A message whose send returned comes once, whole and in its sender's order, but for those that a reader died with.
 *
 * Planted faults, which must be found: in the scene "unaged" senders go by ids however old they are, in "apart" each counts for itself.  */
#define SHMKIT_PASSING
#include "heap_driver.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>

#include "_wait.h"

/* Few ids, so that they come again at once; and fewer messages under way. */
static uint64_t remembered;
#undef PAIR_SPAN
#undef PAIR_REMEMBERED
#define PAIR_SPAN 128ll
#define PAIR_REMEMBERED remembered

#include "_pair.h"

#define WAYS 2u
#define SENDERS 3u
#define WORKERS 6u
#define UNDER_WAY_MOST 8u /* of one sender */
#define WIRE_ROOM 16u

typedef struct {
    pthread_t thread;
    user_t user;
    lease_t names;
    uint64_t first, named; /* the first of its names; how many were used */
    uint64_t number, dice, deaths;
    uint32_t side; /* the end that is sent from */
} worker_t;

typedef struct {
    pthread_mutex_t writing, reading; /* the kernel's lock of what is on the wire; the readers' own */
    pair_note_t notes[WIRE_ROOM];
    uint64_t head, tail;
    uint32_t writers;
} wire_t;

static worker_t workers[WORKERS];
static const uint32_t sides[WORKERS] = {0, 0, 1, 0, 0, 1};
static wire_t wires[WAYS];
static uint8_t *seen[SENDERS], *returned[SENDERS];
static uint64_t latest[SENDERS]; /* the number after the last one that came */
static pair_header_t *header;
static uint64_t pair_number, rounds, seed, passed_over;
static uint32_t pair_block;
static lease_t pair_share;
static int mortal, apart;

/* --- dying -------------------------------------------------------------------------------------------------------- */

static __thread sigjmp_buf *grave;
static __thread uint64_t fuse;

static void passing(const char *name) {
    if (grave != NULL && strncmp(name, "pair.", 5) == 0 && fuse-- == 0)
        siglongjmp(*grave, 1);
}

static uint64_t chance(worker_t *worker) { return mixed(mixed(seed * 31 + worker->number) + worker->dice++); }

static void take_names(worker_t *worker) {
    int error = EAGAIN;
    for (int tries = 0; error == EAGAIN && tries < 100; tries++) {
        worker->first = member_new_id((uint32_t)getpid()) & ~(uint64_t)(PAIR_SPAN - 1);
        error = lease_take_span(&worker->names, heap_fd, heap_file, LEASE_MEMBERS + (int64_t)worker->first, PAIR_SPAN,
                                F_WRLCK, 0);
    }
    EXPECT(error == 0, "no lease for names");
}

static void come(worker_t *worker) {
    arrive(&worker->user);
    worker->user.queue.held = block_held(worker->user.hold.id);
    take_names(worker);
}

static void bury(worker_t *worker) {
    grave = NULL;
    worker->deaths++;
    lease_drop(&worker->names);
    perish(&worker->user);
    come(worker);
}

static void pause_now_and_then(worker_t *worker) {
    const uint64_t dice = chance(worker);
    if (dice % 64 == 0)
        clean(&worker->user);
    else if (dice % 64 < 8)
        sched_yield();
    else if (dice % 64 < 16)
        for (uint64_t i = 0; i < dice / 64 % 1000; i++)
            cpu_relax();
}

/* --- the wire ------------------------------------------------------------------------------------------------------- */

static int wire_put(wire_t *wire, const pair_note_t *note) {
    pthread_mutex_lock(&wire->writing);
    const int room = wire->tail - wire->head < WIRE_ROOM;
    if (room)
        wire->notes[wire->tail++ % WIRE_ROOM] = *note;
    pthread_mutex_unlock(&wire->writing);
    return room;
}

/* Whether there was one; *over: nobody writes any more. */
static int wire_take(wire_t *wire, pair_note_t *note, int *over) {
    pthread_mutex_lock(&wire->writing);
    const int there = wire->tail != wire->head;
    *over = wire->writers == 0;
    if (there)
        *note = wire->notes[wire->head++ % WIRE_ROOM];
    pthread_mutex_unlock(&wire->writing);
    return there;
}

/* --- sending, receiving --------------------------------------------------------------------------------------------- */

static uint64_t size_of(uint64_t sender, uint64_t number) { return 24 + mixed(sender << 40 | number) % 400; }

static void send_one(worker_t *worker, pair_way_t *way, uint64_t number) {
    heap_t *heap = &worker->user.heap;
    const uint64_t held = worker->user.queue.held, size = size_of(worker->number, number);
    const uint64_t label[2] = {worker->number, number};
    uint64_t room;
    uint32_t block;
    int error;
    EXPECT(heap_take(heap, size, held, &block, &error) == OK, "no memory");
    uint8_t *bytes = (uint8_t *)heap_block_at(heap, block, &room);
    memcpy(bytes, label, sizeof label);
    pair_filling();
    fill_bytes(bytes + sizeof label, number, size - sizeof label);
    const uint64_t place = apart ? number : pair_next(header, worker->side);
    pair_note_t note = {.side = (uint8_t)worker->side,
                        .offered = block_held(worker->first + ++worker->named % PAIR_SPAN),
                        .sent = block_held(pair_id(pair_number, worker->side, place)),
                        .size = size,
                        .block = block,
                        .pair = pair_block};
    EXPECT(pair_offer(heap, block, held, note.offered), "the block is not the sender's");
    const uint64_t begun = ++way->clock;
    while (!wire_put(&wires[worker->side], &note))
        sched_yield();
    pair_commit(heap, block, note.offered, note.sent);
    pair_remember(way, &note, place, begun);
    returned[worker->number][number] = 1;
}

/* What it remembers was taken long ago, when it looks again; and while nobody reads there are more under way. */
static void look_much_later(worker_t *worker, pair_way_t *way, uint64_t dice) {
    wire_t *wire = &wires[worker->side];
    uint64_t *count = pair_count(header, worker->side);
    const uint64_t until = load_relaxed_u64(count) + PAIR_SPAN / 2 - 16 + dice % 16;
    for (int i = 0; i < 10000 && load_relaxed_u64(count) < until; i++)
        sched_yield();
    pthread_mutex_lock(&wire->reading);
    for (int i = 0; i < 100; i++)
        sched_yield();
    pair_settle(way, &worker->user.heap, header, worker->side, worker->user.queue.held);
    pthread_mutex_unlock(&wire->reading);
}

static void *work_sender(void *of) {
    worker_t *worker = of;
    wire_t *wire = &wires[worker->side];
    pair_sent_t sent[UNDER_WAY_MOST];
    pair_way_t way;
    sigjmp_buf here;
    volatile uint64_t number = 0;
    come(worker);
    if (sigsetjmp(here, 0) != 0) {
        bury(worker);
        number++;
    }
    memset(&way, 0, sizeof way);
    way.sent = sent;
    way.room = UNDER_WAY_MOST;
    for (; number < rounds; number++) {
        const uint64_t dice = chance(worker);
        if (mortal && dice % 20 == 0) {
            fuse = dice / 20 % 6;
            grave = &here;
        }
        send_one(worker, &way, number);
        grave = NULL;
        if (worker->number == 0 && dice % 8 == 0)
            look_much_later(worker, &way, dice / 8);
        for (;;) {
            pair_settle(&way, &worker->user.heap, header, worker->side, worker->user.queue.held);
            if (way.count < UNDER_WAY_MOST)
                break;
            sched_yield();
        }
        pause_now_and_then(worker);
    }
    pthread_mutex_lock(&wire->writing);
    wire->writers--;
    pthread_mutex_unlock(&wire->writing);
    return NULL;
}

static void receive(worker_t *worker, const pair_note_t *note) {
    heap_t *heap = &worker->user.heap;
    uint64_t label[2], room;
    const uint8_t *bytes = (const uint8_t *)heap_block_at(heap, note->block, &room);
    EXPECT(bytes != NULL && note->size >= sizeof label && note->size <= room, "block %u is not a message's",
           note->block);
    memcpy(label, bytes, sizeof label);
    EXPECT(label[0] < SENDERS && sides[label[0]] == worker->side && label[1] < rounds, "torn: who sent it");
    EXPECT(note->size == size_of(label[0], label[1]) &&
               bytes_are_whole(bytes + sizeof label, label[1], note->size - sizeof label),
           "torn: message %" PRIu64 " of %" PRIu64, label[1], label[0]);
    EXPECT(label[1] >= latest[label[0]], "out of order: message %" PRIu64 " of %" PRIu64, label[1], label[0]);
    latest[label[0]] = label[1] + 1;
    seen[label[0]][label[1]] = 1;
    EXPECT(heap_drop(heap, note->block, worker->user.queue.held) == OK, "the block is not the reader's");
}

static void *work_reader(void *of) {
    worker_t *worker = of;
    wire_t *wire = &wires[worker->side];
    sigjmp_buf here;
    come(worker);
    if (sigsetjmp(here, 0) != 0) {
        bury(worker);
        pthread_mutex_unlock(&wire->reading);
    }
    for (;;) {
        pair_note_t note;
        int over;
        const uint64_t dice = chance(worker);
        pthread_mutex_lock(&wire->reading);
        if (!wire_take(wire, &note, &over)) {
            pthread_mutex_unlock(&wire->reading);
            if (over)
                return NULL;
            sched_yield();
            continue;
        }
        if (mortal && dice % 20 == 0) {
            fuse = dice / 20 % 2;
            grave = &here;
        }
        const int taken = pair_take(&worker->user.heap, note.block, note.offered, note.sent, worker->user.queue.held);
        grave = NULL;
        if (taken)
            receive(worker, &note);
        else
            __atomic_fetch_add(&passed_over, 1, __ATOMIC_RELAXED);
        pthread_mutex_unlock(&wire->reading);
        pause_now_and_then(worker);
    }
}

/* --- ---------------------------------------------------------------------------------------------------------------- */

static void make_pair(user_t *user) {
    int error;
    uint64_t size;
    const uint64_t held = block_held(user->hold.id);
    pair_number = member_new_id((uint32_t)getpid()) & ~(uint64_t)(PAIR_SPAN - 1);
    EXPECT(lease_take_span(&pair_share, heap_fd, heap_file, LEASE_MEMBERS + (int64_t)pair_number, PAIR_SPAN, F_RDLCK,
                           1) == 0,
           "no lease for a pair");
    EXPECT(heap_take(&user->heap, sizeof(pair_header_t), held, &pair_block, &error) == OK, "no block");
    header = (pair_header_t *)heap_block_at(&user->heap, pair_block, &size);
    memset(header, 0, sizeof *header);
    header->id = pair_number;
    pair_tie(&user->heap, pair_block, held, block_held(pair_number));
}

int main(int argc, char **argv) {
    static user_t maker;
    uint64_t deaths = 0, lost = 0;
    EXPECT(argc >= 4, "pair_threads SCENE ROUNDS SEED");
    rounds = strtoull(argv[2], NULL, 10);
    seed = strtoull(argv[3], NULL, 10);
    apart = strcmp(argv[1], "apart") == 0;
    mortal = strcmp(argv[1], "deaths") == 0;
    remembered = strcmp(argv[1], "unaged") == 0 ? UINT64_MAX : PAIR_SPAN / 4;
    make_heap();
    arrive(&maker);
    make_pair(&maker);
    for (uint32_t i = 0; i < WAYS; i++) {
        pthread_mutex_init(&wires[i].writing, NULL);
        pthread_mutex_init(&wires[i].reading, NULL);
    }
    for (uint32_t i = 0; i < SENDERS; i++) {
        seen[i] = calloc(rounds, 1);
        returned[i] = calloc(rounds, 1);
        wires[sides[i]].writers++;
    }
    for (uint32_t i = 0; i < WORKERS; i++) {
        workers[i].number = i;
        workers[i].side = sides[i];
        EXPECT(pthread_create(&workers[i].thread, NULL, i < SENDERS ? work_sender : work_reader, &workers[i]) == 0,
               "no thread");
    }
    for (uint32_t i = 0; i < WORKERS; i++)
        pthread_join(workers[i].thread, NULL);
    for (uint32_t i = 0; i < WORKERS; i++)
        deaths += i < SENDERS ? 0 : workers[i].deaths;
    for (uint32_t i = 0; i < SENDERS; i++)
        for (uint64_t number = 0; number < rounds; number++)
            lost += returned[i][number] && !seen[i][number];
    EXPECT(lost <= deaths, "lost: %" PRIu64 ", and %" PRIu64 " readers died", lost, deaths);
    EXPECT(mortal || passed_over == 0, "lost: %" PRIu64 " were not there", passed_over);
    for (uint32_t i = 0; i < WORKERS; i++) {
        deaths += i < SENDERS ? workers[i].deaths : 0;
        lease_drop(&workers[i].names);
        depart(&workers[i].user);
    }
    EXPECT(!mortal || deaths > 0, "nobody died");
    /* The pair goes, and all that was on its way or lost. */
    lease_drop(&pair_share);
    clean(&maker);
    EXPECT(blocks_in_use(&maker) == 0, "%u blocks are left", blocks_in_use(&maker));
    printf("%" PRIu64 " deaths, %" PRIu64 " lost with their readers, %" PRIu64 " passed over\n", deaths, lost,
           passed_over);
    return 0;
}
