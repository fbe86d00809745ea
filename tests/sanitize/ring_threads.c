/* ring_threads CAPACITY RECORDS SEED [FUNCTION]: both ends of a ring as threads on one mapping, for the sanitizers.
 *
 * ThreadSanitizer sees a missing order only where both sides use the same addresses: two processes, or two mappings of
 * one file, hide it.  AddressSanitizer sees a step beyond the ring, because the memory comes from the heap.
 *
 * The FUNCTION is one with a planted fault (mutants.h), which has to be found.
 *
 * Sizes, batches, views, pauses and changes of the holder follow from SEED.  Ends with 0 if every record came once, in
 * order and whole; a sanitizer that finds something ends it with another status. */
#include "driver.h"

#include "mutants.h"

#include "ring_driver.h"

#include <pthread.h>

static place_t place;
static uint64_t records, seed;

/* Every few records something else than one plain record happens. */
enum { PLAIN, PAUSE, MANY, ABORT, HAND_OVER, KINDS };

#define ROWS 48u
#define ROW_SIZE 20u

static uint64_t chance(uint64_t number, uint64_t salt) { return mixed(mixed(seed * 31 + salt) + number); }

/* Some stretches of records are rows: equal sizes, sent and received many at a time. */
static int in_rows(uint64_t number) { return chance(number / ROWS, 6) % 4 == 0; }

static uint64_t rows_left(uint64_t number) { return least(ROWS - number % ROWS, records - number); }

static uint64_t size_of(uint64_t number) {
    if (in_rows(number))
        return ROW_SIZE;
    const uint64_t dice = chance(number, 1);
    switch (dice % 16) {
    case 0:
        return chance(number, 2) % (ring_most(place.capacity, 8, RECORD_ALIGN) + 1); /* as large as can be */
    case 1:
    case 2:
    case 3:
        return chance(number, 2) % (place.capacity / 4);
    default:
        return chance(number, 2) % 100;
    }
}

static int kind_of(uint64_t number, uint64_t salt) {
    const uint64_t dice = chance(number, salt);
    return dice % 8 != 0 ? PLAIN : (int)(dice / 8 % KINDS);
}

static void pause_for(uint64_t number) { usleep((useconds_t)(chance(number, 9) % 3000)); }

/* The other thread hands its role over now and then, but never dies, and the ring is neither closed for good. */
static void wait_for_room(ring_producer_t *p) {
    const uint64_t deadline = clock_ns() + DRIVER_MINUTE;
    for (;;) {
        const status_t status = ring_wait_room(p, deadline);
        if (status == OK)
            return;
        EXPECT(status == SLICE_OVER || status == INTERRUPTED, "waiting for room: status %d", status);
        uint32_t pid;
        EXPECT(ring_ask_consumer(p, place.fd, place.inode, &pid) != DIED, "the living consumer was called dead");
    }
}

static void wait_for_records(ring_consumer_t *c) {
    const uint64_t deadline = clock_ns() + DRIVER_MINUTE;
    for (;;) {
        const status_t status = ring_wait_records(c, deadline);
        if (status == OK)
            return;
        EXPECT(status == SLICE_OVER || status == INTERRUPTED, "waiting for records: status %d", status);
        uint32_t pid;
        EXPECT(ring_ask_producer(c, place.fd, place.inode, &pid) != DIED, "the living producer was called dead");
    }
}

static void reserve(ring_producer_t *p, uint64_t nbytes) {
    status_t status;
    while ((status = ring_reserve(p, 8, nbytes, RECORD_ALIGN)) == FULL)
        wait_for_room(p);
    EXPECT(status == OK, "reserving %" PRIu64 " bytes: status %d", nbytes, status);
}

static uint64_t send_rows(ring_producer_t *p, uint64_t number) {
    uint8_t rows[ROWS * ROW_SIZE];
    const uint64_t count = rows_left(number);
    uint64_t sent = 0;
    status_t status;
    for (uint64_t i = 0; i < count; i++)
        fill_payload(rows + i * ROW_SIZE, number + i, ROW_SIZE);
    for (;;) {
        sent += ring_send_rows(p, rows + sent * ROW_SIZE, ROW_SIZE, count - sent, &status);
        if (sent == count)
            return count;
        EXPECT(status == FULL, "sending rows: status %d", status);
        wait_for_room(p);
    }
}

static uint64_t recv_rows(ring_consumer_t *c, uint64_t number) {
    uint8_t rows[ROWS * ROW_SIZE];
    status_t status;
    const uint64_t count = ring_recv_rows(c, rows, ROW_SIZE, rows_left(number), &status);
    EXPECT(count != 0, "no row at record %" PRIu64 ": status %d", number, status);
    for (uint64_t i = 0; i < count; i++)
        EXPECT(payload_is_whole(rows + i * ROW_SIZE, number + i, ROW_SIZE), "row %" PRIu64 " is not whole", number + i);
    return count;
}

static void *produce(void *unused) {
    ring_producer_t p;
    EXPECT(claim_producer(&p, &place) == OK, "the producer's role is not free");
    for (uint64_t number = 0; number < records;) {
        const uint64_t nbytes = size_of(number);
        if (in_rows(number)) {
            number += send_rows(&p, number);
            continue;
        }
        switch (kind_of(number, 3)) {
        case PAUSE:
            pause_for(number);
            break;
        case ABORT:
            reserve(&p, chance(number, 4) % (place.capacity / 2));
            memset(ring_reserved(&p) + p.data_at, 0xee, 8);
            ring_abort(&p);
            break;
        case HAND_OVER:
            ring_close_producer(&p);
            EXPECT(claim_producer(&p, &place) == OK, "the role that was closed is not free");
            break;
        case MANY:
            /* Several records, published together; room is looked for before each, and never waited for meanwhile. */
            for (int i = 0; i < 16 && number < records; i++, number++) {
                if (ring_reserve(&p, 8, size_of(number), RECORD_ALIGN) != OK)
                    break;
                fill_payload(ring_reserved(&p) + p.data_at, number, size_of(number));
                ring_fill(&p, RECORD_BYTES, size_of(number));
            }
            ring_publish(&p);
            continue;
        default:
            break;
        }
        reserve(&p, nbytes);
        fill_payload(ring_reserved(&p) + p.data_at, number, nbytes);
        ring_commit(&p, RECORD_BYTES, nbytes);
        number++;
    }
    ring_close_producer(&p);
    return unused;
}

/* Checks the record that ring_next has found. */
static void check(const ring_consumer_t *c, uint64_t word, uint64_t number) {
    EXPECT(record_nbytes(word) == size_of(number), "record %" PRIu64 " has %" PRIu64 " bytes, not %" PRIu64, number,
           record_nbytes(word), size_of(number));
    EXPECT(payload_is_whole(ring_record(c) + record_data_at(word), number, size_of(number)),
           "record %" PRIu64 " is not whole", number);
}

static void *consume(void *unused) {
    static ring_consumer_t c; /* too large for a stack */
    uint64_t word, tickets[16];
    EXPECT(claim_consumer(&c, &place) == OK, "the consumer's role is not free");
    for (uint64_t number = 0; number < records;) {
        const status_t status = ring_next(&c, &word);
        if (status == EMPTY) {
            wait_for_records(&c);
            continue;
        }
        EXPECT(status == OK, "receiving record %" PRIu64 ": status %d", number, status);
        if (in_rows(number)) {
            number += recv_rows(&c, number);
            continue;
        }
        int held = 0;
        switch (kind_of(number, 5)) {
        case PAUSE:
            pause_for(number);
            break;
        case MANY:
            /* Views, released in the opposite order. */
            do {
                check(&c, word, number++);
                EXPECT(ring_hold(&c, record_nbytes(word), &tickets[held++]) == OK, "no view");
            } while (held < 16 && number < records && ring_next(&c, &word) == OK);
            while (held > 0)
                ring_unhold(&c, tickets[--held]);
            continue;
        case HAND_OVER:
            ring_close_consumer(&c);
            EXPECT(claim_consumer(&c, &place) == OK, "the role that was closed is not free");
            EXPECT(ring_next(&c, &word) == OK, "record %" PRIu64 " has gone with its consumer", number);
            break;
        default:
            break;
        }
        check(&c, word, number++);
        ring_pass(&c, record_nbytes(word));
    }
    while (load_seq_u32(&c.shared->producer_role.state) != ROLE_CLOSED)
        wait_for_records(&c);
    EXPECT(ring_next(&c, &word) == EMPTY, "a record beyond the last");
    ring_close_consumer(&c);
    return unused;
}

int main(int argc, char **argv) {
    pthread_t producer, consumer;
    EXPECT(argc == 4 || argc == 5, "usage: ring_threads CAPACITY RECORDS SEED [FUNCTION]");
    mutant = argc == 5 ? argv[4] : "";
    place.capacity = strtoull(argv[1], NULL, 10);
    records = strtoull(argv[2], NULL, 10);
    seed = strtoull(argv[3], NULL, 10);
    place_leases(&place);
    EXPECT(posix_memalign(&place.payload, PAGE, RING_DATA_AT + place.capacity) == 0, "no memory");
    memset(place.payload, 0, RING_DATA_AT + place.capacity);
    ring_format(place.payload, place.capacity);
    EXPECT(ring_check(place.payload, RING_DATA_AT + place.capacity) == place.capacity, "the ring just made is none");

    FAILPOINT("ring_threads"); /* a debug build reads its environment at the first one: before there are threads */
    EXPECT(pthread_create(&consumer, NULL, consume, NULL) == 0, "no thread");
    EXPECT(pthread_create(&producer, NULL, produce, NULL) == 0, "no thread");
    pthread_join(producer, NULL);
    pthread_join(consumer, NULL);

    const ring_header_t *shared = (const ring_header_t *)place.payload;
    printf("%" PRIu64 " records, producer slept %" PRIu64 " times, consumer slept %" PRIu64 " times\n", records,
           shared->producer_count.parks, shared->consumer_count.parks);
    free(place.payload);
    return 0;
}
