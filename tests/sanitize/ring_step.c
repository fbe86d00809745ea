/* ring_step OPERATION [SIZE]: SIGKILL at every instant of one operation on a ring.
 *
 * A child plays one role and is stepped through the operation (step_driver.h).
 *
 * After each kill the other role's holder (this process) and a successor must find: what was committed, whole, once and
 * in order; the role free at once; the verdict right; the counters right; the whole capacity usable.  Done for rings
 * that are empty, partly filled, full and at the lap's end, and for payloads of SIZE, or of three sizes. */
#include "ring_driver.h"
#include "step_driver.h"

#define CAPACITY 4096u
#define ROWS 4u

static place_t place;
static uint64_t size;        /* of the payloads */
static uint64_t first, last; /* numbers of the records that are in the ring when the child starts: first … last - 1 */
static ring_producer_t producer;
static ring_consumer_t consumer;

static ring_header_t *header(void) { return (ring_header_t *)place.payload; }
static uint64_t span_of(uint64_t nbytes) { return round_up(8 + nbytes, RECORD_ALIGN); }

/* --- the operations (start_child) -------------------------------------------------------------------------------- */

static uint8_t rows[ROWS * CAPACITY]; /* payloads, before they are sent or after they came */

/* Sends a payload that lies in `rows`. */
static uint64_t try_put(uint64_t reserved, uint64_t nbytes) {
    if (ring_reserve(&producer, 8, reserved, RECORD_ALIGN) != OK)
        return 0;
    memcpy(ring_reserved(&producer) + producer.data_at, rows, nbytes);
    ring_commit(&producer, RECORD_BYTES, nbytes);
    return 1;
}

static uint64_t try_send(uint64_t number, uint64_t nbytes) {
    fill_payload(rows, number, nbytes);
    return try_put(nbytes, nbytes);
}

static void fill(uint64_t nbytes) { EXPECT(try_send(last++, nbytes), "no room for a record to start with"); }

static void be_producer(void) { EXPECT(claim_producer(&producer, &place) == OK, "the child cannot be the producer"); }
static void be_consumer(void) { EXPECT(claim_consumer(&consumer, &place) == OK, "the child cannot be the consumer"); }

static void prepare_put(void) {
    be_producer();
    for (uint64_t i = 0; i < ROWS; i++)
        fill_payload(rows + i * size, last + i, size);
}

static void put(void) { report->result = try_put(size, size); }
static void put_less(void) { report->result = try_put(size, size / 2); }

/* A planted fault, which must be found: the record is published before its bytes are there. */
static void put_early(void) {
    if (ring_reserve(&producer, 8, size, RECORD_ALIGN) != OK)
        return;
    uint8_t *payload = ring_reserved(&producer) + producer.data_at;
    ring_commit(&producer, RECORD_BYTES, size);
    memcpy(payload, rows, size);
    report->result = 1;
}

static void reserve_and_abort(void) {
    if (ring_reserve(&producer, 8, size, RECORD_ALIGN) == OK)
        memset(ring_reserved(&producer) + producer.data_at, 0xee, size);
    ring_abort(&producer);
}

static void put_rows(void) {
    status_t status;
    report->result = ring_send_rows(&producer, rows, size, ROWS, &status);
}

static void take(void) {
    uint64_t word;
    if (ring_next(&consumer, &word) != OK)
        return;
    memcpy(rows, ring_record(&consumer) + record_data_at(word), record_nbytes(word));
    ring_pass(&consumer, record_nbytes(word));
    report->result = 1;
}

static void take_rows(void) {
    status_t status;
    report->result = ring_recv_rows(&consumer, rows, size, ROWS, &status);
}

/* Two views, and the later one is released first: nothing is given back before the earlier one is. */
static void view_two(void) {
    uint64_t word, tickets[2];
    int held = 0;
    while (held < 2 && ring_next(&consumer, &word) == OK)
        ring_hold(&consumer, record_nbytes(word), &tickets[held++]);
    for (int i = held; i > 0; i--)
        ring_unhold(&consumer, tickets[i - 1]);
    report->result = (uint64_t)held;
}

static void close_producer(void) { ring_close_producer(&producer); }
static void close_consumer(void) { ring_close_consumer(&consumer); }
static void wait_records(void) { ring_wait_records(&consumer, FOREVER); }

static void prepare_wait_room(void) {
    be_producer();
    while (ring_reserve(&producer, 8, size, RECORD_ALIGN) == OK)
        fill(size);
}

static void wait_room(void) { ring_wait_room(&producer, FOREVER); }
static void nothing(void) {}

typedef struct {
    const char *name;
    void (*prepare)(void);
    void (*operate)(void);
    int produces;
    uint64_t most;    /* how many records it may move */
    status_t verdict; /* on the dead, once the operation was over … */
    status_t before;  /* … or as long as it was not */
} operation_t;

static const operation_t operations[] = {
    {"put", prepare_put, put, 1, 1, DIED, DIED},
    {"put-less", prepare_put, put_less, 1, 1, DIED, DIED},
    {"put-early", prepare_put, put_early, 1, 1, DIED, DIED},
    {"abort", be_producer, reserve_and_abort, 1, 0, DIED, DIED},
    {"put-rows", prepare_put, put_rows, 1, ROWS, DIED, DIED},
    {"take", be_consumer, take, 0, 1, DIED, DIED},
    {"take-rows", be_consumer, take_rows, 0, ROWS, DIED, DIED},
    {"view", be_consumer, view_two, 0, 2, DIED, DIED},
    {"claim-producer", nothing, be_producer, 1, 0, DIED, CLOSED},
    {"claim-consumer", nothing, be_consumer, 0, 0, DIED, CLOSED},
    {"close-producer", be_producer, close_producer, 1, 0, CLOSED, DIED},
    {"close-consumer", be_consumer, close_consumer, 0, 0, CLOSED, DIED},
    {"wait-room", prepare_wait_room, wait_room, 1, 0, DIED, DIED},
    {"wait-records", be_consumer, wait_records, 0, 0, DIED, DIED},
};

/* --- how the ring looks when the child starts -------------------------------------------------------------------- */

static void fill_some(uint64_t count) {
    while (count-- != 0 && CAPACITY - (producer.tail - header()->head) >= span_of(size))
        fill(size);
}

/* Up to `tail` exactly, without a pad. */
static void fill_to(uint64_t tail) {
    while (producer.tail < tail) {
        const uint64_t here = least(tail - producer.tail, CAPACITY - (producer.tail & (CAPACITY - 1)));
        fill(here >= 2 * span_of(size) ? size : here - 8);
    }
}

enum { EMPTY_RING, SOME, FULL_RING, LAP_END, PAD_ALONE, PAD_INSIDE, STARTS };
static const char *const start_names[STARTS] = {"empty",       "some", "full", "lap's end", "room for a pad alone",
                                                "a pad inside"};

static uint64_t start_position(int start) {
    switch (start) {
    case SOME:
        return 64;
    case LAP_END:
        return CAPACITY - 8;
    case PAD_ALONE:
        return CAPACITY + 8;
    case PAD_INSIDE:
        return CAPACITY - 8 - span_of(size);
    default:
        return 0;
    }
}

/* Lays out the ring, and signs this process in for the role that the child does not play. */
static void lay_out(int start, int child_produces) {
    memset(place.payload, 0, RING_DATA_AT + CAPACITY);
    ring_format(place.payload, CAPACITY);
    header()->head = header()->tail = start_position(start);
    first = last = 1000;
    EXPECT(claim_producer(&producer, &place) == OK, "the producer's role is not free");
    EXPECT(claim_consumer(&consumer, &place) == OK, "the consumer's role is not free");
    if (start == SOME || start == PAD_INSIDE)
        fill_some(3);
    else if (start == FULL_RING)
        fill_to(CAPACITY);
    else if (start == PAD_ALONE)
        fill_to(2 * CAPACITY - 8);
    if (child_produces)
        ring_close_producer(&producer);
    else
        ring_close_consumer(&consumer);
}

/* --- what must hold afterwards ----------------------------------------------------------------------------------- */

static int taken(uint64_t *number) {
    uint64_t word;
    const status_t status = ring_next(&consumer, &word);
    EXPECT(status == OK || status == EMPTY, "the next record: status %d", status);
    if (status == EMPTY)
        return 0;
    const uint8_t *payload = ring_record(&consumer) + record_data_at(word);
    *number = first;
    if (record_nbytes(word) >= 8)
        memcpy(number, payload, 8);
    EXPECT(payload_is_whole(payload, *number, record_nbytes(word)), "record %" PRIu64 " is not whole", *number);
    ring_pass(&consumer, record_nbytes(word));
    return 1;
}

/* Empties the ring; returns how many records came, and the first one's number. */
static uint64_t drain(uint64_t *from) {
    uint64_t count = 0, number;
    for (; taken(&number); count++) {
        if (count == 0)
            *from = number;
        EXPECT(number == *from + count, "record %" PRIu64 " comes after %" PRIu64, number, *from + count - 1);
    }
    return count;
}

/* A record as large as can be, then small ones, go through. */
static void check_capacity(void) {
    uint64_t number, largest = ring_most(CAPACITY, 8, RECORD_ALIGN);
    for (int i = 0; i < 4; i++) {
        const uint64_t nbytes = i == 0 ? largest : 16;
        uint64_t sent = try_send(7000 + (uint64_t)i, nbytes);
        if (!sent) {
            EXPECT(!taken(&number), "a record that nobody sent"); /* passes a pad */
            sent = try_send(7000 + (uint64_t)i, nbytes);
        }
        EXPECT(sent, "%" PRIu64 " bytes do not fit an empty ring", nbytes);
        EXPECT(taken(&number) && number == 7000 + (uint64_t)i, "what was sent does not come");
    }
    EXPECT(!taken(&number), "a record that nobody sent");
}

static void check_verdict(const operation_t *operation, int finished) {
    uint32_t pid = 0;
    const status_t verdict = operation->produces ? ring_ask_producer(&consumer, place.fd, place.inode, &pid)
                                                 : ring_ask_consumer(&producer, place.fd, place.inode, &pid);
    EXPECT(verdict == operation->verdict || (!finished && verdict == operation->before), "the verdict is %d", verdict);
}

static void check(const operation_t *operation) {
    uint64_t from = first, count;
    const int finished = (int)report->finished;
    check_verdict(operation, finished);
    if (operation->produces) {
        const uint64_t before = last - first, lowest = before + (finished ? report->result : 0);
        count = drain(&from);
        EXPECT(count == 0 || from == first, "the first record is %" PRIu64 ", not %" PRIu64, from, first);
        EXPECT(count >= lowest && count <= (finished ? lowest : before + operation->most),
               "%" PRIu64 " records of %" PRIu64 " before the operation", count, before);
        EXPECT(claim_producer(&producer, &place) == OK, "the role of the dead producer is not free");
    } else {
        EXPECT(claim_consumer(&consumer, &place) == OK, "the role of the dead consumer is not free");
        from = last;
        count = drain(&from);
        EXPECT(from + count == last, "the last record is %" PRIu64 ", not %" PRIu64, from + count - 1, last - 1);
        EXPECT(finished ? from == first + report->result : from >= first && from <= first + operation->most,
               "the successor's first record is %" PRIu64 ", of %" PRIu64 " …", from, first);
    }
    EXPECT(header()->producer_count.records == header()->consumer_count.records,
           "%" PRIu64 " counted as sent, %" PRIu64 " as received", header()->producer_count.records,
           header()->consumer_count.records);
    check_capacity();
    if (operation->produces)
        ring_close_producer(&producer);
    else
        ring_close_consumer(&consumer);
}

static uint64_t step_through(const operation_t *operation, int start) {
    static uint8_t memory[RING_DATA_AT + CAPACITY];
    static ring_producer_t saved_producer;
    static ring_consumer_t saved_consumer;
    uint64_t point = 0;
    lay_out(start, operation->produces);
    const uint64_t saved_last = last;
    memcpy(memory, place.payload, sizeof memory);
    saved_producer = producer;
    saved_consumer = consumer;
    for (int alive = 1; alive; point++) {
        snprintf(driver_context, sizeof driver_context, "%s, %" PRIu64 " bytes, %s, point %" PRIu64 ": ",
                 operation->name, size, start_names[start], point);
        alive = run_and_kill(operation->prepare, operation->operate, point);
        if (operation->prepare == prepare_wait_room)
            last += header()->producer_count.records - (saved_last - first);
        check(operation);
        memcpy(place.payload, memory, sizeof memory);
        producer = saved_producer;
        consumer = saved_consumer;
        last = saved_last;
    }
    if (operation->produces)
        ring_close_consumer(&consumer);
    else
        ring_close_producer(&producer);
    return point;
}

int main(int argc, char **argv) {
    static const uint64_t sizes[] = {16, 100, 1500};
    const operation_t *operation = NULL;
    for (uint64_t i = 0; argc >= 2 && i < sizeof operations / sizeof *operations; i++)
        if (strcmp(argv[1], operations[i].name) == 0)
            operation = &operations[i];
    EXPECT(operation != NULL, "usage: ring_step OPERATION [SIZE]");
    place_leases(&place);
    place.capacity = CAPACITY;
    place.payload = step_driver(RING_DATA_AT + CAPACITY);

    uint64_t kills = 0;
    for (int start = 0; start < STARTS; start++)
        for (uint64_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            size = sizes[i];
            if (argc > 2 && strtoull(argv[2], NULL, 10) != size)
                continue;
            const uint64_t points = step_through(operation, start);
            printf("%s, %" PRIu64 " bytes, %s: %" PRIu64 " kills\n", operation->name, size, start_names[start], points);
            kills += points;
        }
    printf("%s: %" PRIu64 " kills, %" PRIu64 " steps\n", operation->name, kills, steps);
    return 0;
}
