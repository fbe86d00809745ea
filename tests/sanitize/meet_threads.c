/* meet_threads SCENE ROUNDS SEED: messages from hand to hand beside a pipe or a socket, between threads on one mapping.
 *
 * Three senders, one of which uses the descriptor only; two readers, who take turns and do not always wait where they could be
 * handed anything.  That sender knows of nothing else, so that the others ask the kernel; or, in the scenes "…-told", it tells as they do.
 * Each message says how many of each sender's had been sent when it was begun: all of those must have been received before it.  Its bytes follow from its number.  In scenes with deaths a thread dies where the core passes a failpoint: it
 * drops its lease and comes back as somebody else.  What it was sending is there once or not at all.
 *
 * In the scene "unasked" nobody asks the kernel, in "untold" nobody does, nor tells; "untaken" takes what it has not got: planted faults,
 * which must be found.  */
#define _GNU_SOURCE
#include "driver.h"

#include "_failpoint.h"
#undef FAILPOINT
#define FAILPOINT(name) passing(name)
static void passing(const char *name);
static int asked, told, untold, untaken;

#include "_wait.h"
/* There are more threads than cores, and a sanitizer is slow: nobody is to give up so soon. */
#define MEET_ANSWER_NS 100000u
static __thread uint32_t cpu;
#define this_cpu() cpu

#include "_pair_meet.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/socket.h>

#define SENDERS 3u
#define READERS 2u
#define NEVER_HANDS 2u /* that sender */

typedef struct {
    uint64_t sender, number, before[SENDERS];
} head_t;

typedef struct {
    pthread_t thread;
    uint64_t number, dice, deaths, handed;
    member_t member;
} worker_t;

static worker_t senders[SENDERS], readers[READERS];
static meet_t *meet;
static meet_reader_t reading;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static int lease_fd, from, to, mortal;
static uint64_t key, rounds, seed;
static uint64_t sent[SENDERS];     /* whose send returned */
static uint64_t received[SENDERS]; /* the number after the last one; under `turn` */
static uint64_t taken_by_hand;
static __thread sigjmp_buf *grave;
static __thread uint64_t fuse;
static __thread const char *died;

static void passing(const char *name) {
    if (grave != NULL && strncmp(name, "meet", 4) == 0 && fuse-- == 0) {
        died = name;
        siglongjmp(*grave, 1);
    }
}

static uint64_t chance(worker_t *worker) { return mixed(mixed(seed * 31 + worker->number) + worker->dice++); }

static void join(worker_t *worker) {
    memset(&worker->member, 0, sizeof worker->member);
    EXPECT(member_join(&worker->member, lease_fd, key, (uint32_t)getpid()) == 0, "no lease");
}

static uint32_t size_of(uint64_t sender, uint64_t number) {
    const uint64_t dice = mixed(sender << 40 | number);
    return (uint32_t)(sizeof(head_t) + (dice % 4 != 0 ? dice / 4 % 64 : dice / 4 % (MEET_MOST - sizeof(head_t))));
}

static void fill(uint8_t *bytes, uint64_t sender, uint64_t number, uint32_t size) {
    for (uint32_t i = sizeof(head_t); i < size; i++)
        bytes[i] = (uint8_t)(sender * 85 + number * 7 + i);
}

static void write_frame(const void *bytes, uint32_t size) {
    uint8_t frame[4 + MEET_MOST];
    size_t done = 0;
    memcpy(frame, &size, 4);
    memcpy(frame + 4, bytes, size);
    EXPECT(wire_write(to, frame, size + 4, &done) == 0, "it cannot be written: %m");
}

static void send_one(worker_t *worker, uint64_t number, meet_sender_t *knows) {
    uint64_t words[MEET_ROOM];
    const uint64_t me = worker->number;
    const uint32_t size = size_of(me, number);
    head_t head = {.sender = me, .number = number};
    for (uint32_t i = 0; i < SENDERS; i++)
        head.before[i] = load_seq_u64(&sent[i]);
    memcpy(words, &head, sizeof head);
    fill((uint8_t *)words, me, number, size);
    if (me == NEVER_HANDS || !meet_hand(meet, knows, &worker->member, to, words, size, 0, asked)) {
        sigjmp_buf *was = grave;
        grave = NULL; /* half a frame would be what no pipe survives */
        write_frame(words, size);
        grave = was;
        if (told || (me != NEVER_HANDS && !untold))
            meet_tell(meet);
    } else
        worker->handed++;
}

static void *work_sender(void *of) {
    worker_t *worker = of;
    meet_sender_t knows;
    sigjmp_buf here;
    volatile uint64_t number = 0;
    memset(&knows, 0, sizeof knows);
    cpu = (uint32_t)worker->number;
    join(worker);
    if (sigsetjmp(here, 0) != 0) {
        /* As after a kill: the next one does not know whether it was sent, and goes on with another number. */
        grave = NULL;
        lease_drop(&worker->member.lease);
        worker->deaths++;
        join(worker);
        memset(&knows, 0, sizeof knows);
        number++;
    }
    for (; number < rounds; number++) {
        const uint64_t dice = chance(worker);
        if (mortal && dice % 50 == 0) {
            fuse = dice / 50 % 6;
            grave = &here;
        }
        /* A reader that waits is what all this is about: in a stream there is often none. */
        if (dice % 3 != 0)
            for (int i = 0; i < 100 && (load_relaxed_u64(&meet->word) & MEET_STATE) != MEET_WAITING; i++)
                sched_yield();
        send_one(worker, number, &knows);
        grave = NULL;
        store_seq_u64(&sent[worker->number], number + 1);
        if (dice % 7 < 3)
            for (uint64_t i = 0; i < dice / 7 % 2000; i++)
                cpu_relax();
        else if (dice % 7 == 3)
            sched_yield();
    }
    return NULL;
}

static void receive(const uint64_t *words, uint32_t size, int by_hand) {
    head_t head;
    memcpy(&head, words, sizeof head);
    EXPECT(size >= sizeof head && head.sender < SENDERS && size == size_of(head.sender, head.number), "torn: its size");
    for (uint32_t i = sizeof head; i < size; i++)
        EXPECT(((const uint8_t *)words)[i] == (uint8_t)(head.sender * 85 + head.number * 7 + i),
               "torn: byte %u of %u, message %" PRIu64 " of %" PRIu64 ", by hand %d", i, size, head.number, head.sender,
               by_hand);
    EXPECT(head.number >= received[head.sender], "out of order: %" PRIu64 " of %" PRIu64, head.number, head.sender);
    EXPECT(mortal || head.number == received[head.sender], "lost: before %" PRIu64, head.number);
    received[head.sender] = head.number + 1;
    for (uint32_t i = 0; i < SENDERS; i++)
        EXPECT(mortal || received[i] >= head.before[i], "out of order: one of %u, sent before it", i);
}

static void *work_reader(void *of) {
    worker_t *worker = of;
    cpu = (uint32_t)worker->number;
    sigjmp_buf here;
    volatile int inside = 0;
    join(worker);
    if (sigsetjmp(here, 0) != 0) {
        grave = NULL;
        if (inside) {
            meet_count(&reading.inside, UINT32_MAX);
            inside = 0;
        }
        lease_drop(&worker->member.lease);
        worker->deaths++;
        join(worker);
        pthread_mutex_unlock(&turn);
    }
    for (;;) {
        uint64_t words[MEET_ROOM];
        uint32_t size = 0, note = 0;
        size_t done = 0;
        const uint64_t dice = chance(worker);
        uint32_t head = 0;
        pthread_mutex_lock(&turn);
        int error = dice % 3 == 0 ? wire_glance(from, &head, 4, &done) : EAGAIN;
        if (error == EAGAIN && dice % 5 != 0) {
            waiter_t waiter;
            if (mortal && dice % 40 == 1) {
                fuse = dice / 40 % 5;
                grave = &here;
            }
            reading.spin_ns = 10 * SPIN_MOST_NS;
            const uint32_t stays = meet_enter(&reading);
            inside = 1;
            const int found = meet_wait(meet, &waiter, &reading, from, stays, words, &size, &note, &head, &done);
            inside = 0;
            grave = NULL;
            meet_learn(&reading, &waiter, found);
            if (found == MEET_TAKEN) {
                EXPECT(note == 0, "no note was sent");
                taken_by_hand++;
                receive(words, size, 1);
                pthread_mutex_unlock(&turn);
                continue;
            }
            if (untaken && meet->word != 0)
                receive(meet->bytes, (uint32_t)(meet->word >> MEET_SIZE_SHIFT) & MEET_SIZE, 1);
        }
        error = wire_read(from, &head, 4, &done);
        size = head;
        if (error == WIRE_ENDED) {
            pthread_mutex_unlock(&turn);
            return NULL;
        }
        EXPECT(error == 0 && size <= MEET_MOST, "no frame");
        done = 0;
        EXPECT(wire_read(from, words, size, &done) == 0, "half a frame");
        receive(words, size, 0);
        pthread_mutex_unlock(&turn);
    }
}

int main(int argc, char **argv) {
    int fds[2];
    EXPECT(argc >= 4, "meet_threads SCENE ROUNDS SEED");
    rounds = strtoull(argv[2], NULL, 10);
    seed = strtoull(argv[3], NULL, 10);
    mortal = strstr(argv[1], "deaths") != NULL;
    told = strstr(argv[1], "-told") != NULL;
    untold = strcmp(argv[1], "untold") == 0;
    asked = !told && !untold && strcmp(argv[1], "unasked") != 0;
    untaken = strcmp(argv[1], "untaken") == 0;
    if (strncmp(argv[1], "socket", 6) == 0)
        EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0, "no sockets: %m");
    else
        EXPECT(pipe(fds) == 0, "no pipe: %m");
    from = fds[0];
    to = fds[1];
    lease_fd = lease_file(&key);
    meet = aligned_alloc(64, sizeof(meet_t));
    memset(meet, 0, sizeof(meet_t));
    for (uint32_t i = 0; i < READERS; i++) {
        readers[i].number = SENDERS + i;
        EXPECT(pthread_create(&readers[i].thread, NULL, work_reader, &readers[i]) == 0, "no thread");
    }
    for (uint32_t i = 0; i < SENDERS; i++) {
        senders[i].number = i;
        EXPECT(pthread_create(&senders[i].thread, NULL, work_sender, &senders[i]) == 0, "no thread");
    }
    uint64_t handed = 0, deaths = 0;
    for (uint32_t i = 0; i < SENDERS; i++) {
        pthread_join(senders[i].thread, NULL);
        handed += senders[i].handed;
        deaths += senders[i].deaths;
    }
    close(to);
    for (uint32_t i = 0; i < READERS; i++) {
        pthread_join(readers[i].thread, NULL);
        deaths += readers[i].deaths;
    }
    for (uint32_t i = 0; i < SENDERS; i++)
        EXPECT(mortal || received[i] == rounds, "lost: %" PRIu64 " of %u", rounds - received[i], i);
    EXPECT(mortal || taken_by_hand == handed, "taken %" PRIu64 ", handed %" PRIu64, taken_by_hand, handed);
    printf("%" PRIu64 " handed over, %" PRIu64 " deaths\n", handed, deaths);
    EXPECT(handed > 0, "nothing was handed over");
    EXPECT(!mortal || deaths > 0, "nobody died");
    return 0;
}
