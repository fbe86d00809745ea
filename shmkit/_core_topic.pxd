"""What the extension modules take from the C of topics; see _core.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from shmkit._core cimport lock_cell_t, status_t, waiter_t


cdef extern from "_topic_layout.h" nogil:
    enum:
        SEGMENT_KIND_TOPIC
        TOPIC_OPEN
        TOPIC_CLOSED
        TOPIC_HEAD
        TOPIC_SLOTS_MOST
        TOPIC_WATCHERS

    ctypedef struct topic_slot_t:
        uint64_t word
        uint32_t head_size
        uint64_t body_size
        uint8_t head[104]

    ctypedef struct topic_header_t:
        uint32_t slots
        uint64_t slot_size
        uint64_t slot_bytes
        uint64_t data_at
        lock_cell_t publisher
        uint64_t published
        uint32_t state
        uint32_t gate
        uint32_t watched
        uint64_t *watchers


cdef extern from "_topic.h" nogil:
    ctypedef struct topic_t:
        topic_header_t *header
        uint32_t slots
        uint64_t slot_size
        uint64_t slot_bytes
        uint64_t sender

    ctypedef struct topic_wait_t:
        const topic_t *topic
        uint64_t next
        uint64_t dead

    uint64_t topic_slot_bytes(uint64_t slot_size)
    void topic_format(void *at, uint32_t slots, uint64_t slot_size)
    status_t topic_open(topic_t *topic, void *at, uint64_t size)
    topic_slot_t *topic_loan(topic_t *topic)
    void topic_return(topic_t *topic, topic_slot_t *slot)
    void topic_publish(topic_t *topic, topic_slot_t *slot)
    void topic_close(topic_t *topic)
    void topic_reopen(topic_t *topic)
    uint64_t topic_published(const topic_t *topic)
    status_t topic_peek(const topic_t *topic, uint64_t position, topic_slot_t *found)
    status_t topic_read(const topic_t *topic, uint64_t position, const topic_slot_t *found, void *to)
    uint64_t topic_publisher(const topic_t *topic)
    bint topic_has(const void *wait)
    int topic_is_coming(const void *wait)
    bint topic_spin(topic_wait_t *wait, uint64_t limit_ns)
    status_t topic_round(topic_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns)
