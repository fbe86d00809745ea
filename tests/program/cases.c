/* What shmkit.h promises within one program: each case is a function, which ends it with a message where it finds a fault.  */
#include "shmkit.h"

#include <stdio.h>
#include <sys/wait.h>

#define MUST(condition)                                                                                                \
    do                                                                                                                 \
        if (!(condition)) {                                                                                            \
            printf("line %d: %s (status: %s, errno: %s)\n", __LINE__, #condition, shmkit_status_text(status),          \
                   strerror(errno));                                                                                   \
            exit(1);                                                                                                   \
        }                                                                                                              \
    while (0)

static shmkit_producer_t out;
static shmkit_consumer_t in;
static shmkit_status_t status;
static char bytes[4096];
static uint64_t nbytes;

static void begin(const char *name) {
    status = shmkit_producer_create(&out, name, 1024);
    MUST(status == SHMKIT_OK);
    status = shmkit_consumer_attach(&in, name);
    MUST(status == SHMKIT_OK);
}

static void limits(const char *name) {
    begin(name);
    status = shmkit_consumer_recv(&in, bytes, sizeof bytes, &nbytes, 0.01);
    MUST(status == SHMKIT_TIMED_OUT);
    status = shmkit_consumer_try_recv(&in, bytes, sizeof bytes, &nbytes);
    MUST(status == SHMKIT_EMPTY);
    status = shmkit_producer_send(&out, bytes, 1017, 0);
    MUST(status == SHMKIT_TOO_LARGE);
    status = shmkit_producer_send(&out, "", 0, 0);
    MUST(status == SHMKIT_OK);
    status = shmkit_producer_send(&out, bytes, 100, 0);
    MUST(status == SHMKIT_OK);
    status = shmkit_consumer_recv(&in, NULL, 0, &nbytes, 1);
    MUST(status == SHMKIT_OK && nbytes == 0);
    status = shmkit_consumer_recv(&in, bytes, 99, &nbytes, 1);
    MUST(status == SHMKIT_TOO_SMALL && nbytes == 100);
    status = shmkit_consumer_recv(&in, bytes, 100, &nbytes, 1);
    MUST(status == SHMKIT_OK && nbytes == 100);
    while ((status = shmkit_producer_try_send(&out, bytes, 100)) == SHMKIT_OK)
        ;
    MUST(status == SHMKIT_FULL);
    status = shmkit_producer_send(&out, bytes, 100, 0.01);
    MUST(status == SHMKIT_TIMED_OUT);
    shmkit_consumer_close(&in);
    status = shmkit_producer_send(&out, bytes, 100, SHMKIT_WAIT_FOREVER);
    MUST(status == SHMKIT_CLOSED);
    shmkit_consumer_close(&in);
    shmkit_producer_close(&out);
}

static void misuse(const char *name) {
    void *room;
    shmkit_producer_t second;
    shmkit_array_t array;
    const int64_t shape[2] = {-1, 2};
    status = shmkit_producer_attach(&second, "");
    MUST(status == SHMKIT_FAILED && errno == EINVAL);
    status = shmkit_producer_attach(&second, "a/b");
    MUST(status == SHMKIT_FAILED && errno == EINVAL);
    status = shmkit_producer_create(&second, name, 1000);
    MUST(status == SHMKIT_FAILED && errno == EINVAL);
    begin(name);
    status = shmkit_producer_create(&second, name, 1024);
    MUST(status == SHMKIT_FAILED && errno == EEXIST);
    status = shmkit_producer_attach(&second, name);
    MUST(status == SHMKIT_TAKEN && second.handle.peer == (uint32_t)getpid());
    status = shmkit_producer_commit(&out, 0);
    MUST(status == SHMKIT_MISUSED);
    status = shmkit_producer_reserve(&out, 10, 0, &room);
    MUST(status == SHMKIT_OK && (uintptr_t)room % 64 == 0);
    status = shmkit_producer_send(&out, bytes, 1, 0);
    MUST(status == SHMKIT_MISUSED);
    status = shmkit_producer_commit(&out, 11);
    MUST(status == SHMKIT_MISUSED);
    shmkit_producer_abort(&out);
    status = shmkit_consumer_try_recv(&in, bytes, sizeof bytes, &nbytes);
    MUST(status == SHMKIT_EMPTY);
    status = shmkit_array_describe(&array, "", 0, NULL);
    MUST(status == SHMKIT_MISUSED);
    status = shmkit_array_describe(&array, "<f4", 2, shape);
    MUST(status == SHMKIT_OK);
    status = shmkit_producer_reserve_array(&out, &array, 0, &room);
    MUST(status == SHMKIT_MISUSED);
    status = shmkit_array_describe(&array, "[('a', '<f4')]", 0, NULL);
    MUST(status == SHMKIT_OK);
    status = shmkit_producer_send_array(&out, &array, bytes, 0); /* how large an element is has to be said */
    MUST(status == SHMKIT_MISUSED);
    array.itemsize = 4;
    status = shmkit_producer_send_array(&out, &array, bytes, 0);
    MUST(status == SHMKIT_OK);
    shmkit_producer_close(&out);
    status = shmkit_producer_send(&out, bytes, 1, 0);
    MUST(status == SHMKIT_MISUSED);
    shmkit_consumer_close(&in);
}

static void views(const char *name) {
    static shmkit_record_t record[3];
    begin(name);
    for (int i = 0; i < 3; i++) {
        bytes[0] = (char)i;
        status = shmkit_producer_send(&out, bytes, 200, 0);
        MUST(status == SHMKIT_OK);
        status = shmkit_consumer_recv_view(&in, &record[i], 0);
        MUST(status == SHMKIT_OK && record[i].nbytes == 200 && *(char *)record[i].data == i);
    }
    shmkit_consumer_release(&in, &record[1]);
    shmkit_consumer_release(&in, &record[1]);
    status = shmkit_producer_try_send(&out, bytes, 500); /* the oldest is still held */
    MUST(status == SHMKIT_FULL);
    shmkit_consumer_release(&in, &record[0]);
    status = shmkit_producer_try_send(&out, bytes, 300);
    MUST(status == SHMKIT_OK);
    shmkit_consumer_release(&in, &record[2]);
    status = shmkit_consumer_try_recv_view(&in, &record[0]);
    MUST(status == SHMKIT_OK && record[0].nbytes == 300);
    shmkit_consumer_close(&in);
    shmkit_producer_close(&out);
}

static void forked(const char *name) {
    int result;
    begin(name);
    const pid_t child = fork();
    if (child == 0) {
        status = shmkit_producer_send(&out, bytes, 1, 0);
        MUST(status == SHMKIT_MISUSED);
        status = shmkit_consumer_recv(&in, bytes, 1, &nbytes, 0);
        MUST(status == SHMKIT_MISUSED);
        shmkit_producer_close(&out);
        shmkit_consumer_close(&in);
        exit(0);
    }
    waitpid(child, &result, 0);
    MUST(result == 0);
    status = shmkit_producer_send(&out, bytes, 1, 0);
    MUST(status == SHMKIT_OK);
    status = shmkit_consumer_recv(&in, bytes, 1, &nbytes, 0);
    MUST(status == SHMKIT_OK);
    shmkit_producer_close(&out);
    status = shmkit_consumer_recv(&in, bytes, 1, &nbytes, SHMKIT_WAIT_FOREVER);
    MUST(status == SHMKIT_CLOSED);
    shmkit_consumer_close(&in);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(const char *);
    } cases[] = {{"limits", limits}, {"misuse", misuse}, {"views", views}, {"forked", forked}};
    for (size_t i = 0; argc == 3 && i < sizeof cases / sizeof *cases; i++)
        if (strcmp(argv[1], cases[i].name) == 0) {
            cases[i].run(argv[2]);
            return shmkit_ring_unlink(argv[2]) == 0 ? 0 : 4;
        }
    return 2;
}
