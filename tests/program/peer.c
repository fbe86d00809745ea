/* One end of a ring, played by a C program (or C++: the same text), as the tests of shmkit.h tell it.
 *
 *   peer send|recv NAME attach|create WHAT COUNT THEN
 *   WHAT  bytes, small (64 bytes each), array, echo-array (recv: prints what came);   THEN  close, vanish (no close), stay
 *
 * Each record of bytes is a number, a checksum, and a body that is made of the number.  */
#include "shmkit.h"

#include <stdio.h>

static shmkit_producer_t out;
static shmkit_consumer_t in;
static uint8_t buffer[1 << 20];
static volatile sig_atomic_t stopping;

static void stop(int number) { stopping = number; }

static uint64_t checksum(const uint8_t *bytes, uint64_t count) {
    uint64_t sum = 14695981039346656037ull;
    for (uint64_t i = 0; i < count; i++)
        sum = (sum ^ bytes[i]) * 1099511628211ull;
    return sum;
}

static uint64_t body_size(const char *what, uint64_t number) {
    return strcmp(what, "small") == 0 ? 48 : number * 7919 % 3000;
}

static void body_fill(uint8_t *body, uint64_t size, uint64_t number) {
    for (uint64_t i = 0; i < size; i++)
        body[i] = (uint8_t)(number * 31 + i * 7);
}

static int say(const char *where, shmkit_status_t status) {
    printf("%s: %s%s%s\n", where, shmkit_status_text(status), status == SHMKIT_FAILED ? ": " : "",
           status == SHMKIT_FAILED ? strerror(errno) : "");
    fflush(stdout);
    return 1;
}

static shmkit_status_t send_one(const char *what, uint64_t number) {
    if (strcmp(what, "array") == 0) {
        const int64_t shape[2] = {(int64_t)(number % 4), 3};
        shmkit_array_t array;
        void *room;
        shmkit_status_t status = shmkit_array_describe(&array, "<f8", 2, shape);
        if (status == SHMKIT_OK)
            status = shmkit_producer_reserve_array(&out, &array, SHMKIT_WAIT_FOREVER, &room);
        if (status != SHMKIT_OK)
            return status;
        for (int64_t i = 0; i < shape[0] * 3; i++)
            ((double *)room)[i] = (double)number + (double)i / 8;
        return shmkit_producer_commit(&out, shmkit_array_nbytes(&array));
    }
    const uint64_t size = body_size(what, number);
    memcpy(buffer, &number, 8);
    body_fill(buffer + 16, size, number);
    const uint64_t sum = checksum(buffer + 16, size);
    memcpy(buffer + 8, &sum, 8);
    if (number % 3 == 1) { /* in place, more reserved than sent */
        void *room;
        const shmkit_status_t status = shmkit_producer_reserve(&out, 16 + size + 5, SHMKIT_WAIT_FOREVER, &room);
        if (status != SHMKIT_OK)
            return status;
        memcpy(room, buffer, 16 + size);
        return shmkit_producer_commit(&out, 16 + size);
    }
    if (number % 3 == 2) {
        shmkit_status_t status;
        while ((status = shmkit_producer_try_send(&out, buffer, 16 + size)) == SHMKIT_FULL)
            sched_yield();
        return status;
    }
    return shmkit_producer_send(&out, buffer, 16 + size, SHMKIT_WAIT_FOREVER);
}

static int checked(const char *what, const uint8_t *bytes, uint64_t nbytes, uint64_t number) {
    uint64_t found, sum;
    if (nbytes != 16 + body_size(what, number))
        return 0;
    memcpy(&found, bytes, 8);
    memcpy(&sum, bytes + 8, 8);
    return found == number && sum == checksum(bytes + 16, nbytes - 16);
}

static shmkit_status_t recv_one(const char *what, uint64_t number, int *good) {
    static shmkit_record_t record;
    uint64_t nbytes = 0;
    shmkit_status_t status;
    if (strcmp(what, "echo-array") == 0) {
        status = shmkit_consumer_recv_view(&in, &record, SHMKIT_WAIT_FOREVER);
        if (status != SHMKIT_OK)
            return status;
        double sum = 0;
        for (uint64_t i = 0; strcmp(record.array.dtype, "<f8") == 0 && i < record.nbytes / 8; i++)
            sum += ((double *)record.data)[i];
        printf("%s %llu %c (", record.kind == SHMKIT_RECORD_ARRAY ? record.array.dtype : "bytes",
               (unsigned long long)record.array.itemsize, record.array.order);
        for (uint32_t axis = 0; axis < record.array.ndim; axis++)
            printf("%lld,", (long long)record.array.shape[axis]);
        printf(") %g\n", sum);
        fflush(stdout);
        shmkit_consumer_release(&in, &record);
        return status;
    }
    if (number % 2 == 1) {
        status = shmkit_consumer_recv_view(&in, &record, SHMKIT_WAIT_FOREVER);
        if (status == SHMKIT_OK) {
            *good = checked(what, (const uint8_t *)record.data, record.nbytes, number);
            shmkit_consumer_release(&in, &record);
        }
        return status;
    }
    status = shmkit_consumer_recv(&in, buffer, sizeof buffer, &nbytes, SHMKIT_WAIT_FOREVER);
    if (status == SHMKIT_OK)
        *good = checked(what, buffer, nbytes, number);
    return status;
}

int main(int argc, char **argv) {
    if (argc != 7)
        return 2;
    const int sends = strcmp(argv[1], "send") == 0, creates = strcmp(argv[3], "create") == 0;
    const uint64_t count = strtoull(argv[5], NULL, 10);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = stop;
    sigaction(SIGTERM, &action, NULL);
    shmkit_status_t status;
    if (sends)
        status = creates ? shmkit_producer_create(&out, argv[2], 1 << 16) : shmkit_producer_attach(&out, argv[2]);
    else
        status = creates ? shmkit_consumer_create(&in, argv[2], 1 << 16) : shmkit_consumer_attach(&in, argv[2]);
    if (status != SHMKIT_OK)
        return say("begin", status);
    out.handle.stop = in.handle.stop = &stopping;
    printf("ready\n");
    fflush(stdout);
    for (uint64_t number = 0; number < count; number++) {
        int good = 1;
        status = sends ? send_one(argv[4], number) : recv_one(argv[4], number, &good);
        if (status != SHMKIT_OK)
            return say("end", status);
        if (!good) {
            printf("record %llu is wrong\n", (unsigned long long)number);
            return 3;
        }
    }
    say("all", status);
    if (strcmp(argv[6], "vanish") == 0)
        _exit(0);
    while (strcmp(argv[6], "stay") == 0 && !stopping)
        pause();
    if (sends)
        shmkit_producer_close(&out);
    else
        shmkit_consumer_close(&in);
    return 0;
}
