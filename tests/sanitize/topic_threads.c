/* topic_threads SCENE ROUNDS SEED: a topic between threads on one mapping, under AddressSanitizer and UBSan.
 *
 * Two publishers, of whom one at a time has the role, and two subscribers that copy and look again.  Publishers die where the
 * core passes a failpoint, and between.  A value's bytes follow from its number, and the values of one topic are numbered by
 * position, so that whoever has a copy knows whether it is whole and the right one.  In the scene "badly" a subscriber does
 * not look again: a planted fault, which must be found.
 *
 * ThreadSanitizer cannot be asked: that a copy may be torn, and is then thrown away, is a race to it.  */
#define _GNU_SOURCE
#include "driver.h"

#include "_failpoint.h"
#undef FAILPOINT
#define FAILPOINT(name) passing()
static void passing(void);

#include "_topic.h"

#include <pthread.h>
#include <setjmp.h>

#define WORKERS 4u
#define SLOTS 4u
#define SIZE 3000u

static struct {
    pthread_t thread;
    uint64_t number, dice, came, lost, torn;
    member_t member;
} workers[WORKERS];

typedef __typeof__(workers[0]) worker_t;

static char *memory;
static int fd, badly;
static uint64_t key, rounds, seed, deaths;
static __thread sigjmp_buf *grave;
static __thread uint64_t fuse;

static void passing(void) {
    if (grave != NULL && fuse-- == 0)
        siglongjmp(*grave, 1);
}

static uint64_t chance(worker_t *worker) { return mixed(mixed(seed * 31 + worker->number) + worker->dice++); }
static uint64_t size_of(uint64_t position) { return 8 + mixed(position) % (SIZE - 8); }

static void write_value(topic_slot_t *slot, uint64_t position) {
    uint8_t *body = (uint8_t *)(slot + 1);
    slot->head_size = (uint32_t)(position % TOPIC_HEAD);
    slot->body_size = size_of(position);
    memset(slot->head, (int)(position & 0xff), slot->head_size);
    FAILPOINT("half");
    memcpy(body, &position, 8);
    memset(body + 8, (int)(position * 7 & 0xff), slot->body_size - 8);
}

static int is_whole(const topic_slot_t *found, const uint8_t *body, uint64_t position) {
    uint64_t said;
    memcpy(&said, body, 8);
    int whole = said == position && found->body_size == size_of(position) && found->head_size == position % TOPIC_HEAD;
    for (uint64_t i = 0; whole && i < found->head_size; i++)
        whole = found->head[i] == (position & 0xff);
    for (uint64_t i = 8; whole && i < found->body_size; i++)
        whole = body[i] == (position * 7 & 0xff);
    return whole;
}

static void be_member(worker_t *worker) {
    EXPECT(member_join(&worker->member, fd, key, (uint32_t)getpid()) == 0, "no lease");
}

/* As long as it has the role: some values, then it leaves, or dies. */
static void reign(worker_t *worker, topic_t *topic, lock_t *lock) {
    for (uint64_t i = chance(worker) % 50; i != 0 && topic_published(topic) < rounds; i--) {
        topic_slot_t *slot = topic_loan(topic);
        if (chance(worker) % 16 == 0)
            topic_return(topic, slot);
        else {
            write_value(slot, topic_published(topic));
            topic_publish(topic, slot);
        }
    }
    EXPECT(lock_give(lock) == OK, "the role cannot be given");
}

static void *publish(void *of) {
    worker_t *worker = (worker_t *)of;
    topic_t topic;
    EXPECT(topic_open(&topic, memory, 1 << 20) == OK, "no topic");
    be_member(worker);
    while (topic_published(&topic) < rounds) {
        lock_t lock = {
            .cell = &topic.header->publisher, .held = member_word(worker->member.id), .member = &worker->member};
        lock_wait_t wait = {.lock = &lock};
        if (lock_try(&wait) != OK) {
            sched_yield();
            continue;
        }
        sigjmp_buf here;
        if (sigsetjmp(here, 0) == 0) {
            fuse = chance(worker) % 200;
            grave = &here;
            reign(worker, &topic, &lock);
            grave = NULL;
        } else {
            grave = NULL;
            __atomic_fetch_add(&deaths, 1, __ATOMIC_RELAXED);
            lease_drop(&worker->member.lease);
            be_member(worker);
        }
    }
    lease_drop(&worker->member.lease);
    return NULL;
}

static status_t copy_value(const topic_t *topic, uint64_t position, topic_slot_t *found, uint8_t *body) {
    if (!badly) {
        const status_t status = topic_peek(topic, position, found);
        EXPECT(status == OK || status == EMPTY, "a value contradicts itself");
        return status == OK ? topic_read(topic, position, found, body) : EMPTY;
    }
    topic_copy(found, topic_slot(topic, position), sizeof *found);
    if (found->word != 2 * position + 2 || found->body_size > SIZE || found->head_size > TOPIC_HEAD)
        return EMPTY;
    topic_copy(body, topic_slot(topic, position) + 1, found->body_size / 2);
    while (topic_published(topic) <= position + SLOTS && topic_published(topic) < rounds)
        sched_yield(); /* until the slot is another value's */
    topic_copy(body + found->body_size / 2, (const char *)(topic_slot(topic, position) + 1) + found->body_size / 2,
               found->body_size - found->body_size / 2);
    return OK;
}

static void *subscribe(void *of) {
    worker_t *worker = (worker_t *)of;
    uint8_t body[SIZE];
    topic_slot_t found;
    topic_t topic;
    EXPECT(topic_open(&topic, memory, 1 << 20) == OK, "no topic");
    for (uint64_t next = 0; next < rounds;) {
        const uint64_t published = topic_published(&topic);
        if (published == next) {
            sched_yield();
            continue;
        }
        if (published - next > topic.slots) {
            worker->lost += published - topic.slots - next;
            next = published - topic.slots;
        }
        if (copy_value(&topic, next, &found, body) == OK) {
            EXPECT(is_whole(&found, body, next), "value %" PRIu64 " is torn", next);
            worker->came++;
        } else {
            EXPECT(topic_published(&topic) + 1 > next + topic.slots, "value %" PRIu64 " is not there", next);
            worker->lost++;
        }
        next++;
    }
    return NULL;
}

int main(int argc, char **argv) {
    EXPECT(argc == 4, "usage: topic_threads SCENE ROUNDS SEED");
    badly = strcmp(argv[1], "badly") == 0;
    rounds = strtoull(argv[2], NULL, 10);
    seed = strtoull(argv[3], NULL, 10);
    fd = lease_file(&key);
    memory = aligned_alloc(4096, 1 << 20);
    EXPECT(memory != NULL, "no memory");
    memset(memory, 0, 1 << 20);
    topic_format(memory, SLOTS, SIZE);
    for (uint64_t i = 0; i < WORKERS; i++) {
        workers[i].number = i;
        EXPECT(pthread_create(&workers[i].thread, NULL, i < 2 ? publish : subscribe, &workers[i]) == 0, "no thread");
    }
    for (uint64_t i = 0; i < WORKERS; i++)
        EXPECT(pthread_join(workers[i].thread, NULL) == 0, "no thread");
    for (uint64_t i = 2; i < WORKERS; i++)
        EXPECT(workers[i].came + workers[i].lost == rounds && workers[i].came > 0,
               "%" PRIu64 " came and %" PRIu64 " were lost of %" PRIu64, workers[i].came, workers[i].lost, rounds);
    printf("%s: %" PRIu64 " values, %" PRIu64 " deaths; %" PRIu64 " and %" PRIu64 " came\n", argv[1], rounds, deaths,
           workers[2].came, workers[3].came);
    free(memory);
    return 0;
}
