/* Message queues of the kernel in C, without any safety: POSIX (by its descriptor), or System V (by its identifier). */
#ifndef LIMITS_QUEUES_H
#define LIMITS_QUEUES_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bare.h"

/* Frames into a queue, each stamped with its number.  Returns 0, or what went wrong. */
static inline int queue_send(int queue, int sysv, double *source, uint64_t items, uint64_t count, double first) {
    const size_t size = items * sizeof *source;
    struct {
        long mtype;
        unsigned char text[];
    } *message = sysv ? malloc(sizeof *message + size) : NULL;
    int error = sysv && message == NULL ? ENOMEM : 0;
    for (uint64_t at = 0; at < count && error == 0; at++) {
        long done;
        stamp_ends(source, items, first + (double)at);
        if (sysv) {
            message->mtype = 1;
            memcpy(message->text, source, size);
        }
        do
            done = sysv ? msgsnd(queue, message, size, 0) : syscall(SYS_mq_timedsend, queue, source, size, 0, NULL);
        while (done < 0 && errno == EINTR);
        error = done < 0 ? errno : 0;
    }
    free(message);
    return error;
}

/* Returns how many frames were not what was sent; -1: the queue has failed. */
static inline int64_t queue_receive(int queue, int sysv, uint64_t items, uint64_t count, double first) {
    const size_t size = items * sizeof(double);
    struct {
        long mtype;
        double text[];
    } *message = malloc(sizeof *message + size);
    int64_t wrong = message == NULL ? -1 : 0;
    for (uint64_t at = 0; at < count && wrong >= 0; at++) {
        long done;
        do
            done = sysv ? msgrcv(queue, message, size, 0, 0)
                        : syscall(SYS_mq_timedreceive, queue, message->text, size, NULL, NULL);
        while (done < 0 && errno == EINTR);
        if (done < 0)
            wrong = -1;
        else
            wrong += (size_t)done != size || !ends_are(message->text, items, first + (double)at);
    }
    free(message);
    return wrong;
}

#endif
