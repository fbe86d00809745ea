/* Messages through a byte stream in C, as whoever keeps them apart has to write it: a length, then the payload.
 *
 * Two system calls to receive one, as nothing may be read that belongs to the next; its payload goes into memory of its
 * own, which whoever received it gives back.
 */
#ifndef LIMITS_FRAMED_H
#define LIMITS_FRAMED_H

#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "bare.h"

/* More than any message of the benchmark has: a length is checked before memory is taken. */
#define FRAMED_MOST ((uint64_t)1 << 30)

/* Frames into a descriptor, each stamped with its number.  Returns 0, or what went wrong. */
static inline int framed_send(int fd, double *source, uint64_t items, uint64_t count, double first) {
    uint64_t size = items * sizeof *source;
    int error = 0;
    for (uint64_t at = 0; at < count && error == 0; at++) {
        stamp_ends(source, items, first + (double)at);
        struct iovec parts[2] = {{&size, sizeof size}, {source, size}};
        const ssize_t done = writev(fd, parts, 2);
        if (done < 0 && errno != EINTR)
            error = errno;
        else {
            const uint64_t gone = done < 0 ? 0 : (uint64_t)done;
            const uint64_t head = gone < sizeof size ? gone : sizeof size;
            error = write_whole(fd, (const unsigned char *)&size + head, sizeof size - head);
            if (error == 0)
                error = write_whole(fd, (const unsigned char *)source + (gone - head), size - (gone - head));
        }
    }
    return error;
}

/* Returns how many frames were not what was sent; -1: the stream has failed.  As in a loop over what is received, each
 * is kept until the next one is there. */
static inline int64_t framed_receive(int fd, uint64_t items, uint64_t count, double first) {
    int64_t wrong = 0;
    double *kept = NULL;
    for (uint64_t at = 0; at < count && wrong >= 0; at++) {
        uint64_t size;
        double *into = NULL;
        if (read_whole(fd, (unsigned char *)&size, sizeof size) == 0 && size <= FRAMED_MOST)
            into = malloc(size);
        if (into == NULL || read_whole(fd, (unsigned char *)into, size) != 0)
            wrong = -1;
        else
            wrong += size != items * sizeof *into || !ends_are(into, items, first + (double)at);
        free(kept);
        kept = into;
    }
    free(kept);
    return wrong;
}

#endif
