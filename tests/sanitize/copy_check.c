/* copy_streaming beside memcpy: every size and place that matters, and whether what was copied is there when it is published.
 *
 *   copy_check places          each size up to some lines, at each place in a line, and nothing beside it
 *   copy_check order ROUNDS    one thread copies and releases a number, the other acquires it and looks at the bytes
 *   copy_check unfenced ROUNDS the same without the fence (planted)  */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "_copy.h"

enum { SIZES = 400, BLOCK = 1 << 14 };

static unsigned char source[BLOCK] __attribute__((aligned(64)));
static unsigned char target[BLOCK] __attribute__((aligned(64)));
static _Atomic unsigned published, seen;
static unsigned rounds;
static int unfenced;

static void fail(const char *what, unsigned long a, unsigned long b, unsigned long c) {
    fprintf(stderr, "%s: %lu %lu %lu\n", what, a, b, c);
    exit(1);
}

static void places(void) {
    for (size_t i = 0; i < BLOCK; i++)
        source[i] = (unsigned char)(i * 7 + i / 251);
    for (size_t size = 0; size < SIZES; size++)
        for (size_t to = 0; to < COPY_LINE; to++)
            for (size_t from = 0; from < COPY_LINE; from += 5) {
                /* Of the very size, so that a sanitizer sees a byte too many.  */
                unsigned char *exact = malloc(size + 1), *into = malloc(to + size + 1);

                memcpy(exact, source + from, size);
                memset(into, 0xee, to + size + 1);
                copy_streaming(into + to, exact, size);
                if (memcmp(into + to, source + from, size) != 0)
                    fail("other bytes", size, to, from);
                for (size_t i = 0; i < to; i++)
                    if (into[i] != 0xee)
                        fail("a byte before", size, to, from);
                if (into[to + size] != 0xee)
                    fail("a byte after", size, to, from);
                free(exact);
                free(into);
            }
}

/* As copy_streaming does it, but for the fence.  */
static void copy_unfenced(void *to, const void *from, size_t size) {
#if defined(__SSE2__)
    for (size_t i = 0; i < size; i += 16)
        _mm_stream_si128((__m128i *)(void *)((char *)to + i),
                         _mm_loadu_si128((const __m128i *)(const void *)((const char *)from + i)));
#else
    (void)to, (void)from, (void)size;
#endif
}

static void *writer(void *unused) {
    (void)unused;
    for (unsigned round = 1; round <= rounds; round++) {
        memset(source, (int)(round & 0xff), BLOCK);
        (unfenced ? copy_unfenced : copy_streaming)(target, source, BLOCK);
        atomic_store_explicit(&published, round, memory_order_release);
        while (atomic_load_explicit(&seen, memory_order_acquire) != round)
            ;
    }
    return NULL;
}

static void order(void) {
    pthread_t thread;

    pthread_create(&thread, NULL, writer, NULL);
    for (unsigned round = 1; round <= rounds; round++) {
        while (atomic_load_explicit(&published, memory_order_acquire) != round)
            ;
        /* What was copied last is what is latest to arrive.  */
        for (size_t i = BLOCK; i-- > 0;)
            if (((volatile unsigned char *)target)[i] != (round & 0xff))
                fail("published before it was there", round, i, target[i]);
        atomic_store_explicit(&seen, round, memory_order_release);
    }
    pthread_join(thread, NULL);
}

int main(int count, char **words) {
    if (count == 2 && strcmp(words[1], "places") == 0)
        places();
    else if (count == 3) {
        rounds = (unsigned)atoi(words[2]);
        unfenced = strcmp(words[1], "unfenced") == 0;
        order();
    } else
        return 2;
    if (copy_streams_from() < COPY_STREAM_MIN)
        fail("streams from", copy_streams_from(), 0, 0);
    return 0;
}
