/* What the machine can do: the same hand-overs as the library's, in plain C.
 *
 * A ring of fixed slots for one producer and one consumer, each side caching the other's index; a futex ping-pong; a
 * cache line that goes to and fro; create, map and unlink.  Nothing here is safe: no header is checked, nobody notices
 * a death, a waiter spins for ever, and a wake-up is a system call whether or not somebody sleeps.  That is the point:
 * what a safe library costs is its distance from these.
 *
 *   ring in shared memory:  | tail | pad … 128 | head | pad … 256 | slot 0 | slot 1 | …
 *                             producer stores     consumer stores    stride bytes each  */
#ifndef BENCH_BARE_H
#define BENCH_BARE_H

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define DATA_AT 256

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("isb" ::: "memory");
#endif
}

static inline uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* -- pipes and sockets: nothing but the system calls ---------------------------------------------------------- */

static inline int write_whole(int fd, const unsigned char *data, uint64_t size) {
    while (size != 0) {
        const ssize_t done = write(fd, data, size);
        if (done < 0 && errno != EINTR)
            return errno;
        if (done > 0) {
            data += done;
            size -= (uint64_t)done;
        }
    }
    return 0;
}

static inline int read_whole(int fd, unsigned char *data, uint64_t size) {
    while (size != 0) {
        const ssize_t done = read(fd, data, size);
        if (done == 0 || (done < 0 && errno != EINTR))
            return done == 0 ? EPIPE : errno;
        if (done > 0) {
            data += done;
            size -= (uint64_t)done;
        }
    }
    return 0;
}

/* -- the ring ------------------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t *tail;
    uint64_t *head;
    unsigned char *data;
    uint64_t slots;
    uint64_t stride;
    uint64_t position; /* of this end, private: nobody else stores it */
    uint64_t index;    /* position modulo slots */
    uint64_t seen;     /* the other end's position, as last read */
    uint64_t pauses;   /* how long to wait before an empty ring is looked at again */
} end_t;

static inline void end_open(end_t *end, void *memory, uint64_t slots, uint64_t stride, uint64_t pauses) {
    memset(end, 0, sizeof *end);
    end->tail = (uint64_t *)memory;
    end->head = (uint64_t *)((unsigned char *)memory + DATA_AT / 2);
    end->data = (unsigned char *)memory + DATA_AT;
    end->slots = slots;
    end->stride = stride;
    end->pauses = pauses ? pauses : 1;
}

static inline int end_has_room(end_t *end) {
    if (end->position - end->seen < end->slots)
        return 1;
    /* acquire: the consumer has finished with the slot (pairs with end_release) */
    end->seen = __atomic_load_n(end->head, __ATOMIC_ACQUIRE);
    return end->position - end->seen < end->slots;
}

static inline int end_has_item(end_t *end) {
    if (end->position != end->seen)
        return 1;
    /* acquire: the slot's bytes are there (pairs with end_commit) */
    end->seen = __atomic_load_n(end->tail, __ATOMIC_ACQUIRE);
    return end->position != end->seen;
}

static inline unsigned char *end_slot(const end_t *end) { return end->data + end->index * end->stride; }

static inline void end_step(end_t *end) {
    end->position++;
    if (++end->index == end->slots)
        end->index = 0;
}

static inline unsigned char *end_reserve(end_t *end) {
    while (!end_has_room(end))
        relax();
    return end_slot(end);
}

static inline void end_commit(end_t *end) {
    end_step(end);
    /* release: publishes the slot's bytes */
    __atomic_store_n(end->tail, end->position, __ATOMIC_RELEASE);
}

static inline unsigned char *end_view(end_t *end) {
    while (!end_has_item(end))
        for (uint64_t i = 0; i < end->pauses; i++)
            relax();
    return end_slot(end);
}

static inline void end_release(end_t *end) {
    end_step(end);
    /* release: all reads of the slot are over */
    __atomic_store_n(end->head, end->position, __ATOMIC_RELEASE);
}

/* -- what a receiver checks ------------------------------------------------------------------------------------- */

static inline void stamp_ends(double *data, uint64_t items, double value) {
    data[0] = value;
    data[items - 1] = value;
}

static inline int ends_are(const double *data, uint64_t items, double value) {
    return data[0] == value && data[items - 1] == value;
}

/* Eight sums side by side, as the compiler may not reorder additions of doubles; the values are small integers, so
 * that every order gives the same sum. */
/* Returns 0, or what went wrong. */
static inline int stream_send(int fd, double *source, uint64_t items, uint64_t count, double first) {
    int error = 0;
    for (uint64_t at = 0; at < count && error == 0; at++) {
        stamp_ends(source, items, first + (double)at);
        error = write_whole(fd, (const unsigned char *)source, items * sizeof *source);
    }
    return error;
}

/* Returns how many frames were not what was sent; -1: the stream has failed. */
static inline int64_t stream_receive(int fd, double *into, uint64_t items, uint64_t count, double first) {
    int64_t wrong = 0;
    for (uint64_t at = 0; at < count; at++) {
        if (read_whole(fd, (unsigned char *)into, items * sizeof *into) != 0)
            return -1;
        wrong += !ends_are(into, items, first + (double)at);
    }
    return wrong;
}

static inline double sum_doubles(const double *data, uint64_t items) {
    double part[8] = {0};
    uint64_t i = 0;
    for (; i + 8 <= items; i += 8)
        for (int lane = 0; lane < 8; lane++)
            part[lane] += data[i + lane];
    for (; i < items; i++)
        part[0] += data[i];
    return ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
}

/* -- loops over the ring: each returns how many messages were wrong ----------------------------------------------- */

static inline void produce_small(end_t *end, uint64_t count, uint64_t size, uint64_t first) {
    unsigned char message[4096];
    memset(message, 0x5a, sizeof message);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t number = first + i;
        memcpy(message, &number, 8);
        memcpy(message + size - 8, &number, 8);
        unsigned char *slot = end_reserve(end);
        memcpy(slot, message, size);
        end_commit(end);
    }
}

static inline uint64_t consume_small(end_t *end, uint64_t count, uint64_t size, uint64_t first) {
    unsigned char message[4096];
    uint64_t wrong = 0, start, stop;
    for (uint64_t i = 0; i < count; i++) {
        memcpy(message, end_view(end), size);
        end_release(end);
        memcpy(&start, message, 8);
        memcpy(&stop, message + size - 8, 8);
        wrong += start != first + i || stop != first + i;
    }
    return wrong;
}

/* `batch` messages become visible at once, and are given back at once. */
static inline void produce_batches(end_t *end, uint64_t count, uint64_t size, uint64_t batch, const void *block) {
    for (uint64_t done = 0; done < count; done += batch) {
        for (uint64_t i = 0; i < batch; i++) {
            unsigned char *slot = end_reserve(end);
            memcpy(slot, (const unsigned char *)block + i * size, size);
            end_step(end);
            if (i + 1 == batch || end->position - end->seen == end->slots)
                __atomic_store_n(end->tail, end->position, __ATOMIC_RELEASE);
        }
    }
}

static inline uint64_t consume_batches(end_t *end, uint64_t count, uint64_t size, uint64_t batch, const void *block,
                                       void *into) {
    uint64_t wrong = 0, done = 0, at = 0;
    while (done < count) {
        end_view(end);
        uint64_t here = end->seen - end->position;
        if (here > batch - at)
            here = batch - at;
        for (uint64_t i = 0; i < here; i++) {
            memcpy((unsigned char *)into + (at + i) * size, end_slot(end), size);
            end_step(end);
        }
        __atomic_store_n(end->head, end->position, __ATOMIC_RELEASE);
        done += here;
        at += here;
        if (at == batch) {
            wrong += memcmp(into, block, batch * size) != 0;
            at = 0;
        }
    }
    return wrong;
}

static inline void produce_frames(end_t *end, uint64_t count, double *source, uint64_t items, double first) {
    for (uint64_t i = 0; i < count; i++) {
        stamp_ends(source, items, first + (double)i);
        unsigned char *slot = end_reserve(end);
        memcpy(slot, source, items * sizeof *source);
        end_commit(end);
    }
}

static inline void produce_in_place(end_t *end, uint64_t count, uint64_t items, double first) {
    for (uint64_t i = 0; i < count; i++) {
        stamp_ends((double *)end_reserve(end), items, first + (double)i);
        end_commit(end);
    }
}

/* `inner` is the sum of all items but the first and the last; negative: do not sum. */
static inline uint64_t consume_frames(end_t *end, uint64_t count, uint64_t items, double first, double inner) {
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < count; i++) {
        const double *frame = (const double *)end_view(end);
        wrong += !ends_are(frame, items, first + (double)i);
        if (inner >= 0)
            wrong += sum_doubles(frame, items) != inner + 2 * (first + (double)i);
        end_release(end);
    }
    return wrong;
}

/* Round trips over two rings, 8 bytes each way; samples[i] is the time of `block` trips divided by block. */
static inline uint64_t ring_client(end_t *forth, end_t *back, uint64_t count, uint64_t block, double *samples) {
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t start = now_ns();
        for (uint64_t j = 0; j < block; j++) {
            uint64_t sent = i * block + j, received;
            memcpy(end_reserve(forth), &sent, 8);
            end_commit(forth);
            memcpy(&received, end_view(back), 8);
            end_release(back);
            wrong += received != sent;
        }
        samples[i] = (double)(now_ns() - start) / (double)block;
    }
    return wrong;
}

static inline void ring_server(end_t *forth, end_t *back, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        uint64_t number;
        memcpy(&number, end_view(forth), 8);
        end_release(forth);
        memcpy(end_reserve(back), &number, 8);
        end_commit(back);
    }
}

/* -- one word to and fro ---------------------------------------------------------------------------------------- */

static inline uint64_t word_client(uint64_t *forth, uint64_t *back, uint64_t count, uint64_t block, uint64_t first,
                                   double *samples) {
    for (uint64_t i = 0; i < count; i++) {
        uint64_t start = now_ns();
        for (uint64_t j = 0; j < block; j++) {
            uint64_t number = first + i * block + j;
            __atomic_store_n(forth, number, __ATOMIC_RELEASE);
            while (__atomic_load_n(back, __ATOMIC_ACQUIRE) != number)
                relax();
        }
        samples[i] = (double)(now_ns() - start) / (double)block;
    }
    return 0;
}

static inline void word_server(uint64_t *forth, uint64_t *back, uint64_t count, uint64_t first) {
    for (uint64_t i = 0; i < count; i++) {
        while (__atomic_load_n(forth, __ATOMIC_ACQUIRE) != first + i)
            relax();
        __atomic_store_n(back, first + i, __ATOMIC_RELEASE);
    }
}

/* -- a lock: compare and swap, and spin ---------------------------------------------------------------------------- */

static inline void bare_acquire(uint64_t *word) {
    uint64_t expected = 0;
    while (!__atomic_compare_exchange_n(word, &expected, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        expected = 0;
        relax();
    }
}

static inline void bare_release(uint64_t *word) { __atomic_store_n(word, 0, __ATOMIC_RELEASE); }

/* -- futex: both sides sleep ------------------------------------------------------------------------------------- */

static inline void futex_post(uint32_t *word, uint32_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, (void *)0, (void *)0, 0);
}

/* "At least": a sleeper that was kept off its CPU may find the next call already made. */
static inline void futex_sleep_until(uint32_t *word, uint32_t value) {
    uint32_t found;
    while ((int32_t)((found = __atomic_load_n(word, __ATOMIC_ACQUIRE)) - value) < 0)
        syscall(SYS_futex, word, FUTEX_WAIT, found, (void *)0, (void *)0, 0);
}

static inline void busy_ns(uint64_t gap) {
    uint64_t start = now_ns();
    while (now_ns() - start < gap)
        ;
}

/* samples[i] is a trip; the server's own delay is in held[i] (server), to be subtracted by whoever has both. */
static inline void futex_client(uint32_t *forth, uint32_t *back, uint64_t count, uint32_t first, uint64_t gap,
                                double *samples) {
    for (uint64_t i = 0; i < count; i++) {
        busy_ns(gap);
        uint64_t start = now_ns();
        futex_post(forth, first + (uint32_t)i);
        futex_sleep_until(back, first + (uint32_t)i);
        samples[i] = (double)(now_ns() - start);
    }
}

static inline void futex_server(uint32_t *forth, uint32_t *back, uint64_t count, uint32_t first, uint64_t gap,
                                double *held) {
    for (uint64_t i = 0; i < count; i++) {
        futex_sleep_until(forth, first + (uint32_t)i);
        uint64_t start = now_ns();
        if (gap)
            busy_ns(gap);
        held[i] = (double)(now_ns() - start);
        futex_post(back, first + (uint32_t)i);
    }
}

/* One way: when a sleeper was called, and when it was awake. */
static inline void futex_caller(uint32_t *word, uint64_t count, uint32_t first, uint64_t gap, double *called) {
    for (uint64_t i = 0; i < count; i++) {
        busy_ns(gap);
        called[i] = (double)now_ns();
        futex_post(word, first + (uint32_t)i);
    }
}

static inline void futex_sleeper(uint32_t *word, uint64_t count, uint32_t first, double *awake) {
    for (uint64_t i = 0; i < count; i++) {
        futex_sleep_until(word, first + (uint32_t)i);
        awake[i] = (double)now_ns();
    }
}

/* -- how far apart two cores are ---------------------------------------------------------------------------------- */

typedef struct {
    uint64_t forth __attribute__((aligned(128)));
    uint64_t back __attribute__((aligned(128)));
    uint64_t trips;
    int cpu;
} line_t;

static inline void stay_on(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

static inline void *line_echo(void *argument) {
    line_t *line = (line_t *)argument;
    stay_on(line->cpu);
    word_server(&line->forth, &line->back, line->trips + 1, 1);
    return NULL;
}

/* Median nanoseconds of a cache line's way from core to core and back, or a negative number: no second thread. */
static inline double line_round_trip(int cpu_a, int cpu_b, uint64_t blocks, uint64_t block, double *samples) {
    static line_t line;
    cpu_set_t before;
    pthread_t echo;

    line = (line_t){.trips = blocks * block, .cpu = cpu_b};
    pthread_getaffinity_np(pthread_self(), sizeof before, &before);
    stay_on(cpu_a);
    if (pthread_create(&echo, NULL, line_echo, &line) != 0) {
        pthread_setaffinity_np(pthread_self(), sizeof before, &before);
        return -1;
    }
    word_client(&line.forth, &line.back, 1, 1, 1, samples); /* both are up */
    word_client(&line.forth, &line.back, blocks, block, 2, samples);
    pthread_join(echo, NULL);
    pthread_setaffinity_np(pthread_self(), sizeof before, &before);
    return 0;
}

/* -- create, map, close, unlink ------------------------------------------------------------------------------------ */

/* Nanoseconds per cycle, or a negative errno.  name == NULL: memfd.  reserved: with room for every byte, so that a full
 * file system is noticed here and not by SIGBUS; that is what costs, as each page is cleared. */
static inline double segment_cycles(const char *name, uint64_t size, uint64_t count, int reserved) {
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < count; i++) {
        int fd = name ? shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600) : memfd_create("bench", MFD_CLOEXEC);
        if (fd < 0)
            return -errno;
        int error = reserved ? posix_fallocate(fd, 0, (off_t)size) : ftruncate(fd, (off_t)size) ? errno : 0;
        void *at = error ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (!error && at == MAP_FAILED)
            error = errno;
        close(fd);
        if (name)
            shm_unlink(name);
        if (error)
            return -error;
        munmap(at, size);
    }
    return (double)(now_ns() - start) / (double)count;
}

#endif
