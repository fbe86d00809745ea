/* memcpy for what no cache can hold: the target's lines are neither read first nor kept.
 *
 * An ordinary store reads the line that it goes to, and throws another one out of the cache for it.  Where an array and the few blocks
 * that a stream of them cycles through are more than the cache holds, both are in vain: the line will have gone before anybody reads it.
 * A streaming store (movnt) gathers a line and writes it to memory; what is read ahead is marked as not to be kept (prefetchnta).
 * glibc's memcpy does so from three quarters of the cache on only, and several pages at a time (docs/why.md has figures).
 *
 * Order: streaming stores are not in order with any others, which x86's releases rely on.  sfence before the return makes them so: whoever
 * publishes afterwards, as after any memcpy, publishes them.
 *
 * Any thread may call these; they allocate nothing.  */
#ifndef SHMKIT_COPY_H
#define SHMKIT_COPY_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum {
    COPY_LINE = 64,
    COPY_AHEAD = 1024,        /* bytes; as fast from 512 to 2048 */
    COPY_CACHE = 32 << 20,    /* where the system does not say how large its is */
    COPY_STREAM_MIN = 1 << 20 /* below, nothing is to be gained with any cache */
};

/* As memcpy, and nothing that is copied is kept in a cache.  */
static inline void copy_streaming(void *target, const void *source, size_t size) {
#if defined(__SSE2__)
    char *to = (char *)target;
    const char *from = (const char *)source;
    size_t first = -(uintptr_t)to & (COPY_LINE - 1);

    if (first > size)
        first = size;
    memcpy(to, from, first);
    to += first;
    from += first;
    size -= first;
    for (; size >= COPY_LINE; size -= COPY_LINE, to += COPY_LINE, from += COPY_LINE) {
        const __m128i *line = (const __m128i *)(const void *)from;
        __m128i a, b, c, d;

        /* Beyond the end too: a prefetch of what is not there does nothing.  */
        _mm_prefetch((const char *)((uintptr_t)from + COPY_AHEAD), _MM_HINT_NTA);
        a = _mm_loadu_si128(line);
        b = _mm_loadu_si128(line + 1);
        c = _mm_loadu_si128(line + 2);
        d = _mm_loadu_si128(line + 3);
        _mm_stream_si128((__m128i *)(void *)to, a);
        _mm_stream_si128((__m128i *)(void *)to + 1, b);
        _mm_stream_si128((__m128i *)(void *)to + 2, c);
        _mm_stream_si128((__m128i *)(void *)to + 3, d);
    }
    memcpy(to, from, size);
    _mm_sfence();
#else
    memcpy(target, source, size);
#endif
}

/* The bytes of the last cache, as the kernel knows them; 0: it does not say.  (glibc's sysconf has ten times too many on some machines,
 * and its memcpy goes by that.)  */
static inline size_t copy_cache_size(void) {
    char text[32];
    char *end = text;
    ssize_t length = 0;
    size_t size;
    int fd = open("/sys/devices/system/cpu/cpu0/cache/index3/size", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0)
        return 0;
    text[length] = 0;
    size = strtoul(text, &end, 10);
    return *end == 'K' ? size << 10 : *end == 'M' ? size << 20 : size;
}

/* From how many bytes on that pays: where four times as much is more than the cache, as a source and three blocks are.  */
static inline size_t copy_streams_from(void) {
    size_t cache = copy_cache_size();

    if (cache == 0)
        cache = COPY_CACHE;
    return cache / 4 < COPY_STREAM_MIN ? (size_t)COPY_STREAM_MIN : cache / 4;
}

#endif
