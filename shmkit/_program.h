/* One end of a ring for a C or C++ program: see include/shmkit.h, which is made of this and of what it includes.
 *
 * Who may call what: any thread, for one handle one at a time.  Every wait has a deadline, parks on a futex, and asks the kernel
 * whether the other end lives after a whole slice without change, as the Python side does (_end.pyx).  */
#ifndef SHMKIT_PROGRAM_H
#define SHMKIT_PROGRAM_H

#include "_program_ring.h"

#define WAIT_FOREVER (-1.0)

#define ARRAY_DIMENSIONS_MOST 64u
#define ARRAY_TEXT_LIMIT 1024u

/* An array as a record describes it. */
typedef struct {
    char dtype[ARRAY_TEXT_LIMIT]; /* as in NumPy's dtype.str ("<f4"), or, with fields, the list of an .npy header */
    uint64_t itemsize;            /* bytes of an element.  0, when sending: what dtype says */
    int64_t shape[ARRAY_DIMENSIONS_MOST];
    uint32_t ndim;
    char order; /* 'C' or 'F' */
} array_t;

/* A record that was received and is read where it lies. */
typedef struct {
    void *data;
    uint64_t nbytes;
    uint32_t kind; /* RECORD_BYTES or RECORD_ARRAY; array means something for the latter only */
    int held;
    uint64_t ticket;
    array_t array;
} record_t;

typedef struct {
    handle_t handle;
    ring_producer_t ring;
    uint32_t reserved_kind;
    uint64_t reserved;
} producer_t;

typedef struct {
    handle_t handle;
    ring_consumer_t ring;
} consumer_t;

/* --- arrays -------------------------------------------------------------------------------------------------- */

/* Bytes of an element of that dtype; 0: this does not know. */
static inline uint64_t array_itemsize(const char *dtype) {
    uint64_t number = 0;
    const char *at = dtype;
    if (*at == '<' || *at == '|' || *at == '=' || *at == '>')
        at++;
    const char kind = *at;
    if (kind == 0 || strchr("?biufcSVUMm", kind) == NULL)
        return 0;
    if (kind == '?')
        return at[1] == 0 ? 1 : 0;
    for (at++; *at >= '0' && *at <= '9' && number < 1u << 30; at++)
        number = number * 10 + (uint64_t)(*at - '0');
    if (*at != 0 && !(*at == '[' && (kind == 'M' || kind == 'm')))
        return 0;
    return kind == 'U' ? number * 4 : number;
}

/* Describes an array of `ndim` dimensions in C order.  OK; MISUSED: there can be none such. */
static inline status_t array_describe(array_t *array, const char *dtype, uint32_t ndim, const int64_t *shape) {
    const size_t length = strlen(dtype);
    array->dtype[0] = 0;
    if (length == 0 || length >= ARRAY_TEXT_LIMIT || ndim > ARRAY_DIMENSIONS_MOST)
        return MISUSED;
    memcpy(array->dtype, dtype, length + 1);
    if (ndim != 0)
        memcpy(array->shape, shape, ndim * sizeof *shape);
    array->itemsize = array_itemsize(dtype);
    array->ndim = ndim;
    array->order = 'C';
    return OK;
}

/* How many elements, 0 if a dimension is 0.  UINT64_MAX: no array can have that shape. */
static inline uint64_t array_count(const array_t *array) {
    uint64_t count = 1;
    int none = 0;
    for (uint32_t axis = 0; axis < array->ndim; axis++) {
        const int64_t side = array->shape[axis];
        if (side < 0 || (side != 0 && (uint64_t)side > (1ull << 62) / count))
            return UINT64_MAX;
        none |= side == 0;
        count *= side == 0 ? 1u : (uint64_t)side;
    }
    return none ? 0 : count;
}

/* Bytes of the whole array; UINT64_MAX: there can be none such. */
static inline uint64_t array_nbytes(const array_t *array) {
    const uint64_t itemsize = array->itemsize != 0 ? array->itemsize : array_itemsize(array->dtype);
    const uint64_t count = array->ndim <= ARRAY_DIMENSIONS_MOST ? array_count(array) : UINT64_MAX;
    if (itemsize == 0 || count == UINT64_MAX || (count != 0 && itemsize > (1ull << 62) / count))
        return UINT64_MAX;
    return itemsize * count;
}

/* Copies what a record says of itself, and checks it: the other process may be anything. */
static inline status_t array_read(array_t *array, const uint8_t *record, uint64_t data_at, uint64_t nbytes) {
    record_array_t head;
    if (data_at < 8 + sizeof head)
        return CORRUPT;
    memcpy(&head, record + 8, sizeof head);
    if (head.ndim > ARRAY_DIMENSIONS_MOST || head.descr_size == 0 || head.descr_size >= ARRAY_TEXT_LIMIT ||
        16u + 8u * head.ndim + head.descr_size > data_at || (head.order != 'C' && head.order != 'F'))
        return CORRUPT;
    array->ndim = head.ndim;
    array->order = (char)head.order;
    memcpy(array->shape, record + 16, 8u * head.ndim);
    memcpy(array->dtype, record + 16 + 8u * head.ndim, head.descr_size);
    array->dtype[head.descr_size] = 0;
    array->itemsize = array_itemsize(array->dtype);
    const uint64_t count = array_count(array);
    if (count == UINT64_MAX || (count == 0 && nbytes != 0))
        return CORRUPT;
    if (array->itemsize == 0 && count != 0)
        array->itemsize = nbytes / count;
    if (count != 0 && (array->itemsize == 0 || nbytes % count != 0 || array->itemsize != nbytes / count))
        return CORRUPT;
    return OK;
}

/* --- producer ------------------------------------------------------------------------------------------------ */

static inline status_t producer_claim(producer_t *p) {
    handle_t *handle = &p->handle;
    ring_role_t *role = &((ring_header_t *)(void *)handle->payload)->producer_role;
    uint32_t tries = 0;
    status_t status;
    do
        status = ring_claim_producer(&p->ring, handle->payload, handle->capacity, handle->fd, handle->key,
                                     (uint32_t)getpid(), process_start_ticks(0));
    while (status == TAKEN && handle_role_leaves(role, &tries));
    if (status == OK)
        return OK;
    const int error = errno;
    /* relaxed: a hint for a message */
    handle->peer = load_relaxed_u32(&role->pid);
    handle_end(handle);
    errno = error;
    return status;
}

/* Becomes the producer of the ring `name`, which is there.  OK, TAKEN, FAILED (errno), FOREIGN, MISMATCH, CORRUPT. */
static inline status_t producer_attach(producer_t *p, const char *name) {
    memset(&p->ring, 0, sizeof p->ring);
    const status_t status = handle_attach(&p->handle, name);
    return status == OK ? producer_claim(p) : status;
}

/* Makes the ring `name` of `capacity` bytes, a power of two, and becomes its producer.  FAILED with EEXIST: it is there. */
static inline status_t producer_create(producer_t *p, const char *name, uint64_t capacity) {
    file_t file;
    memset(&p->ring, 0, sizeof p->ring);
    status_t status = handle_create(&p->handle, &file, name, capacity);
    if (status != OK)
        return status;
    status = producer_claim(p);
    if (status != OK)
        file_forget(&file);
    else if ((status = handle_link(&p->handle, &file)) != OK)
        lease_drop(&p->ring.lease);
    return status;
}

/* Finds room, waiting for it until `deadline_ns` (0: not at all).  OK, FULL, TIMED_OUT, INTERRUPTED, TOO_LARGE, CORRUPT; CLOSED or
 * DIED: it is full, and the consumer has gone. */
static inline status_t producer_room(producer_t *p, uint64_t head, uint64_t nbytes, uint64_t align,
                                     uint64_t deadline_ns) {
    handle_t *handle = &p->handle;
    status_t fate = OK, waited = OK, status = ring_reserve(&p->ring, head, nbytes, align);
    p->ring.waiter.begun_ns = 0;
    while (status == FULL) {
        /* SYNC consumer-closed: pairs with store_seq(state) in ring_close_consumer */
        if (load_seq_u32(&p->ring.shared->consumer_role.state) == ROLE_CLOSED)
            fate = CLOSED;
        status = ring_reserve(&p->ring, head, nbytes, align);
        if (status != FULL || fate != OK)
            return status == FULL ? fate : status;
        if (waited == TIMED_OUT || handle_stopped(handle))
            return waited == TIMED_OUT ? TIMED_OUT : INTERRUPTED;
        if (deadline_ns == 0) {
            if (++handle->looks % LOOKS_PER_QUESTION != 0)
                return FULL;
            waited = SLICE_OVER;
        } else
            waited = ring_wait_room(&p->ring, deadline_ns);
        if (waited == SLICE_OVER || waited == TIMED_OUT)
            fate = ring_ask_consumer(&p->ring, handle->fd, handle->key, &handle->peer);
        if (deadline_ns == 0 && fate == OK)
            return FULL;
        status = ring_reserve(&p->ring, head, nbytes, align);
    }
    return status;
}

static inline status_t producer_open(producer_t *p, uint64_t nbytes, uint64_t deadline_ns, void **data) {
    if (!handle_usable(&p->handle) || p->ring.span != 0)
        return MISUSED;
    const status_t status = producer_room(p, 8, nbytes, RECORD_ARRAY_ALIGN, deadline_ns);
    if (status == OK) {
        p->reserved = nbytes;
        p->reserved_kind = RECORD_BYTES;
        *data = ring_reserved(&p->ring) + p->ring.data_at;
    }
    return status;
}

static inline status_t producer_open_array(producer_t *p, const array_t *array, uint64_t deadline_ns, void **data) {
    record_array_t head;
    const uint64_t nbytes = array_nbytes(array);
    const size_t text = strlen(array->dtype);
    if (!handle_usable(&p->handle) || p->ring.span != 0 || nbytes == UINT64_MAX ||
        (array->order != 'C' && array->order != 'F'))
        return MISUSED;
    const status_t status = producer_room(p, 16 + 8u * array->ndim + text, nbytes, RECORD_ARRAY_ALIGN, deadline_ns);
    if (status != OK)
        return status;
    uint8_t *record = ring_reserved(&p->ring);
    memset(&head, 0, sizeof head);
    head.ndim = (uint8_t)array->ndim;
    head.order = (uint8_t)array->order;
    head.descr_size = (uint16_t)text;
    memcpy(record + 8, &head, sizeof head);
    memcpy(record + 16, array->shape, 8u * array->ndim);
    memcpy(record + 16 + 8u * array->ndim, array->dtype, text);
    p->reserved = nbytes;
    p->reserved_kind = RECORD_ARRAY;
    *data = record + p->ring.data_at;
    return OK;
}

/* Reserves `nbytes` to be written at *data; then producer_commit or producer_abort.  `timeout` in seconds, negative: for ever. */
static inline status_t producer_reserve(producer_t *p, uint64_t nbytes, double timeout, void **data) {
    return producer_open(p, nbytes, handle_deadline(timeout), data);
}

/* Reserves room for an array: the receiver gets it with its dtype and shape. */
static inline status_t producer_reserve_array(producer_t *p, const array_t *array, double timeout, void **data) {
    return producer_open_array(p, array, handle_deadline(timeout), data);
}

/* Sends the first `nbytes` of what was reserved; an array is sent whole. */
static inline status_t producer_commit(producer_t *p, uint64_t nbytes) {
    if (!handle_usable(&p->handle) || p->ring.span == 0 || nbytes > p->reserved ||
        (p->reserved_kind == RECORD_ARRAY && nbytes != p->reserved))
        return MISUSED;
    ring_commit(&p->ring, p->reserved_kind, nbytes);
    return OK;
}

/* Gives the room back; nothing is sent. */
static inline void producer_abort(producer_t *p) { ring_abort(&p->ring); }

static inline status_t producer_put(producer_t *p, const void *data, uint64_t nbytes, uint64_t deadline_ns) {
    if (!handle_usable(&p->handle) || p->ring.span != 0)
        return MISUSED;
    const status_t status = producer_room(p, 8, nbytes, RECORD_ALIGN, deadline_ns);
    if (status != OK)
        return status;
    if (nbytes != 0)
        memcpy(ring_reserved(&p->ring) + p->ring.data_at, data, nbytes);
    ring_commit(&p->ring, RECORD_BYTES, nbytes);
    return OK;
}

/* Sends one record of bytes.  OK, TIMED_OUT, INTERRUPTED, TOO_LARGE; CLOSED or DIED: full, and nobody empties it. */
static inline status_t producer_send(producer_t *p, const void *data, uint64_t nbytes, double timeout) {
    const status_t status = producer_put(p, data, nbytes, 0); /* most often there is room, and no need for a clock */
    return status == FULL ? producer_put(p, data, nbytes, handle_deadline(timeout)) : status;
}

/* Sends if there is room now; FULL if not. */
static inline status_t producer_try_send(producer_t *p, const void *data, uint64_t nbytes) {
    return producer_put(p, data, nbytes, 0);
}

/* Sends an array, which `data` holds in its order. */
static inline status_t producer_send_array(producer_t *p, const array_t *array, const void *data, double timeout) {
    void *into;
    const status_t status = producer_reserve_array(p, array, timeout, &into);
    if (status != OK)
        return status;
    if (p->reserved != 0)
        memcpy(into, data, p->reserved);
    return producer_commit(p, p->reserved);
}

/* Leaves: the consumer gets all that was sent and then learns that there is no more.  In a forked child: lets go of its copy. */
static inline void producer_close(producer_t *p) {
    if (p->handle.addr == NULL)
        return;
    if (handle_usable(&p->handle))
        ring_close_producer(&p->ring);
    handle_end(&p->handle);
}

/* --- consumer ------------------------------------------------------------------------------------------------ */

static inline status_t consumer_claim(consumer_t *c) {
    handle_t *handle = &c->handle;
    ring_role_t *role = &((ring_header_t *)(void *)handle->payload)->consumer_role;
    uint32_t tries = 0;
    status_t status;
    do
        status = ring_claim_consumer(&c->ring, handle->payload, handle->capacity, handle->fd, handle->key,
                                     (uint32_t)getpid(), process_start_ticks(0));
    while (status == TAKEN && handle_role_leaves(role, &tries));
    if (status == OK)
        return OK;
    const int error = errno;
    /* relaxed: a hint for a message */
    handle->peer = load_relaxed_u32(&role->pid);
    handle_end(handle);
    errno = error;
    return status;
}

/* Becomes the consumer of the ring `name`, which is there.  As producer_attach. */
static inline status_t consumer_attach(consumer_t *c, const char *name) {
    memset(&c->ring, 0, sizeof c->ring);
    const status_t status = handle_attach(&c->handle, name);
    return status == OK ? consumer_claim(c) : status;
}

/* Makes the ring `name` of `capacity` bytes, a power of two, and becomes its consumer.  As producer_create. */
static inline status_t consumer_create(consumer_t *c, const char *name, uint64_t capacity) {
    file_t file;
    memset(&c->ring, 0, sizeof c->ring);
    status_t status = handle_create(&c->handle, &file, name, capacity);
    if (status != OK)
        return status;
    status = consumer_claim(c);
    if (status != OK)
        file_forget(&file);
    else if ((status = handle_link(&c->handle, &file)) != OK)
        lease_drop(&c->ring.lease);
    return status;
}

/* Finds the next record, waiting for it until `deadline_ns` (0: not at all).  OK, EMPTY, TIMED_OUT, INTERRUPTED, CORRUPT; CLOSED or
 * DIED: the producer has gone, and everything is received. */
static inline status_t consumer_next(consumer_t *c, uint64_t *word, uint64_t deadline_ns) {
    handle_t *handle = &c->handle;
    status_t fate = OK, waited = OK, status = ring_next(&c->ring, word);
    c->ring.waiter.begun_ns = 0;
    while (status == EMPTY) {
        /* SYNC producer-closed: pairs with store_seq(state) in ring_close_producer */
        const int closed = load_seq_u32(&c->ring.shared->producer_role.state) == ROLE_CLOSED;
        status = ring_next(&c->ring, word); /* what was sent before is visible now */
        if (status != EMPTY)
            return status;
        if (closed || fate == DIED)
            return closed ? CLOSED : DIED;
        if (waited == TIMED_OUT || handle_stopped(handle))
            return waited == TIMED_OUT ? TIMED_OUT : INTERRUPTED;
        if (deadline_ns == 0) {
            if (++handle->looks % LOOKS_PER_QUESTION != 0)
                return EMPTY;
            waited = SLICE_OVER;
        } else
            waited = ring_wait_records(&c->ring, deadline_ns);
        fate = OK;
        if (waited == SLICE_OVER || waited == TIMED_OUT)
            fate = ring_ask_producer(&c->ring, handle->fd, handle->key, &handle->peer);
        if (deadline_ns == 0 && fate == OK)
            return EMPTY;
        status = ring_next(&c->ring, word);
    }
    return status;
}

static inline status_t consumer_take(consumer_t *c, void *buffer, uint64_t size, uint64_t *nbytes,
                                     uint64_t deadline_ns) {
    uint64_t word;
    if (!handle_usable(&c->handle))
        return MISUSED;
    const status_t status = consumer_next(c, &word, deadline_ns);
    if (status != OK)
        return status;
    *nbytes = record_nbytes(word);
    if (*nbytes > size)
        return TOO_SMALL;
    if (*nbytes != 0)
        memcpy(buffer, ring_record(&c->ring) + record_data_at(word), *nbytes);
    ring_pass(&c->ring, *nbytes);
    return OK;
}

static inline status_t consumer_hold(consumer_t *c, record_t *record, uint64_t deadline_ns) {
    uint64_t word;
    if (!handle_usable(&c->handle))
        return MISUSED;
    status_t status = consumer_next(c, &word, deadline_ns);
    if (status != OK)
        return status;
    uint8_t *at = ring_record(&c->ring);
    record->data = at + record_data_at(word);
    record->nbytes = record_nbytes(word);
    record->kind = record_kind(word);
    record->held = 0;
    if (record->kind == RECORD_ARRAY)
        status = array_read(&record->array, at, record_data_at(word), record->nbytes);
    if (status == OK)
        status = ring_hold(&c->ring, record->nbytes, &record->ticket);
    record->held = status == OK;
    return status;
}

/* Receives the next record's bytes, be it an array or not, and how many.  TOO_SMALL: it has *nbytes, and stays.
 * OK, TIMED_OUT, INTERRUPTED, CORRUPT; CLOSED, DIED: after the last record. */
static inline status_t consumer_recv(consumer_t *c, void *buffer, uint64_t size, uint64_t *nbytes, double timeout) {
    const status_t status = consumer_take(c, buffer, size, nbytes, 0);
    return status == EMPTY ? consumer_take(c, buffer, size, nbytes, handle_deadline(timeout)) : status;
}

/* Receives if there is a record now; EMPTY if not. */
static inline status_t consumer_try_recv(consumer_t *c, void *buffer, uint64_t size, uint64_t *nbytes) {
    return consumer_take(c, buffer, size, nbytes, 0);
}

/* Receives the next record in place, without a copy; it stays in the ring until consumer_release.  Several may be held. */
static inline status_t consumer_recv_view(consumer_t *c, record_t *record, double timeout) {
    const status_t status = consumer_hold(c, record, 0);
    return status == EMPTY ? consumer_hold(c, record, handle_deadline(timeout)) : status;
}

static inline status_t consumer_try_recv_view(consumer_t *c, record_t *record) { return consumer_hold(c, record, 0); }

/* Gives a record's room back to the producer; its data may be overwritten from now on. */
static inline void consumer_release(consumer_t *c, record_t *record) {
    if (record->held && handle_usable(&c->handle))
        ring_unhold(&c->ring, record->ticket);
    record->held = 0;
}

/* Leaves: the producer learns it, and the records that were not received stay for a successor. */
static inline void consumer_close(consumer_t *c) {
    if (c->handle.addr == NULL)
        return;
    if (handle_usable(&c->handle))
        ring_close_consumer(&c->ring);
    handle_end(&c->handle);
}

/* Removes the name of a ring; who is attached goes on.  0, or -1 with errno. */
static inline int ring_unlink(const char *name) {
    handle_t handle;
    char path[sizeof RING_FOLDER + RING_NAME_LIMIT];
    if (handle_begin(&handle, name) != OK)
        return -1;
    handle_path(&handle, path);
    return unlink(path);
}

#endif
