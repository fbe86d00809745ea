"""What the extension modules take from the C of heaps and queues; see _core.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from shmkit._core cimport lease_t, member_t, status_t, waiter_t


cdef extern from "_lease.h" nogil:
    int lease_take_as(lease_t *lease, int fd, uint64_t key, int64_t byte, short type, int inherited)
    int lease_bequeath(const lease_t *lease)
    int lease_take_span(
        lease_t *lease, int fd, uint64_t key, int64_t byte, int64_t count, short type, int inherited
    )
    int lease_ask_span(int fd, uint64_t key, int64_t byte, int64_t count)
    const int LEASE_FREE
    const int LEASE_UNKNOWN


cdef extern from "_member.h" nogil:
    uint64_t member_new_id(uint32_t pid)


cdef extern from "_layout.h" nogil:
    const int64_t LEASE_MEMBERS


cdef extern from "_heap_layout.h" nogil:
    enum:
        HEAP_MEMBERS
        HEAP_CLASSES
        CELL_HEAD
        ITEM_REFERS
        CELL_QUEUE
        QUEUE_RINGS
        QUEUE_WATCHERS
        QUEUE_OPEN
        QUEUE_SHUT
        QUEUE_VOID
    const uint64_t QUEUE_UNBOUNDED

    const uint64_t BLOCK_HELD
    const uint64_t BLOCK_TAG
    const uint64_t USE_DATA
    const uint64_t USE_QUEUE
    const uint64_t HEAP_SLAB
    const uint64_t HEAP_ALONE
    const uint32_t HEAP_BLOCKS_MOST

    ctypedef struct heap_header_t:
        uint64_t span
        uint64_t limit
        uint64_t table_at
        uint64_t data_at
        uint32_t blocks_most
        uint64_t top
        uint64_t resident
        uint64_t used
        uint64_t deaths
        uint64_t queue
        uint32_t room_gate
        uint64_t members[4096]

    ctypedef struct heap_block_t:
        uint64_t word
        uint32_t first
        uint16_t class_
        uint16_t use
        uint32_t page
        uint32_t count
        uint32_t resident

    ctypedef struct queue_header_t:
        uint32_t kind
        uint32_t flags
        uint64_t id
        uint64_t most
        uint64_t first
        uint64_t tail
        uint64_t head
        uint32_t items_gate
        uint32_t state
        uint32_t watched
        uint32_t room_gate
        uint32_t room_watched
        uint64_t done
        uint64_t dropped
        uint64_t removed
        uint64_t made
        uint64_t taken
        uint64_t skipped
        uint32_t done_gate
        uint64_t *watchers


cdef extern from "_heap_take.h" nogil:
    ctypedef struct heap_t:
        char *base
        heap_header_t *header
        heap_block_t *blocks
        uint64_t span
        uint64_t limit
        uint32_t blocks_most
        int fd
        uint64_t key
        uint64_t idle_most
        void *touched

    uint64_t block_held(uint64_t id)
    uint64_t heap_overhead(uint32_t blocks_most)
    uint32_t heap_class_of(uint64_t size)
    uint64_t heap_class_size(uint32_t class_)
    void heap_attach(heap_t *heap, char *base, int fd, uint64_t file_at)
    int heap_format(heap_t *heap, uint64_t span, uint64_t limit, uint32_t blocks_most)
    status_t heap_open(heap_t *heap, uint64_t size)
    char *heap_block_at(const heap_t *heap, uint32_t block, uint64_t *size)
    uint64_t heap_word(const heap_t *heap, uint32_t block)
    status_t heap_take_warm(heap_t *heap, uint64_t size, uint64_t held, uint32_t *block)
    status_t heap_take(heap_t *heap, uint64_t size, uint64_t held, uint32_t *block, int *error)
    status_t heap_drop(heap_t *heap, uint32_t block, uint64_t held)
    uint64_t heap_trim(heap_t *heap, uint64_t keep, uint64_t held)
    uint64_t heap_idle(const heap_t *heap)
    bint heap_rests(heap_t *heap, uint64_t now)
    void heap_has_rested(heap_t *heap)


cdef extern from "_cells.h" nogil:
    ctypedef struct queue_t:
        queue_header_t *header
        heap_t *heap
        uint64_t held
        uint64_t queued_by
        uint64_t most
        uint64_t first_ticket
        uint64_t sender
        uint32_t member

    ctypedef struct item_t:
        uint32_t head_size
        uint32_t flags
        uint32_t block
        uint64_t body_size
        uint8_t head[104]

    status_t queue_format(queue_t *queue, uint32_t block, uint64_t id, uint64_t most, uint32_t flags, int *error)
    status_t queue_open(queue_t *queue, heap_t *heap, queue_header_t *header, uint64_t id)
    status_t queue_put(queue_t *queue, const item_t *item, int *error)
    ctypedef struct taken_t:
        pass

    status_t queue_take(queue_t *queue, taken_t *taken, bint orphans)
    status_t queue_look(const queue_t *queue, const taken_t *taken, item_t *item)
    status_t queue_get(queue_t *queue, item_t *item)
    uint64_t queue_true_head(queue_t *queue)
    int queue_has_item(const void *queue)
    int queue_has_room(const void *queue)
    int queue_is_coming(const void *queue)
    uint32_t queue_ring(const queue_t *queue, uint32_t ring)
    uint64_t queue_size(queue_t *queue)


cdef extern from "_queue_done.h" nogil:
    bint queue_is_done(const void *queue)
    status_t queue_task_done(queue_t *queue)
    void queue_drop_taken(queue_t *queue, const taken_t *taken)


cdef extern from "_heap_touch.h" nogil:
    enum:
        TOUCH_LEAST

    void heap_untouch(heap_t *heap)
    bint heap_was_touched(heap_t *heap, uint32_t block)
    void heap_touch(const heap_t *heap, uint32_t block, uint64_t size, bint fresh)


cdef extern from "_sweep.h" nogil:
    ctypedef struct sweep_t:
        uint64_t freed
        uint64_t mended
        uint64_t deaths

    uint64_t heap_member(const heap_t *heap, uint32_t place)
    bint heap_has_file(const heap_t *heap)
    uint32_t heap_enter(heap_t *heap, uint64_t id)
    void heap_leave(heap_t *heap, uint32_t place, uint64_t id)
    bint heap_bereaved(const heap_t *heap, const member_t *asking)
    status_t heap_sweep(sweep_t *sweep, heap_t *heap, const member_t *asking, uint64_t held)


cdef extern from "_queue_wait.h" nogil:
    ctypedef struct heap_wait_t:
        heap_t *heap
        uint64_t size
        uint64_t held
        uint32_t block
        int error
        status_t status

    ctypedef struct queue_habit_t:
        pass

    bint queue_spin_items(queue_t *queue, queue_habit_t *habit, uint64_t limit_ns)
    bint queue_spin_room(queue_t *queue, queue_habit_t *habit, uint64_t limit_ns)
    void queue_was_late(waiter_t *waiter)
    status_t queue_items_round(queue_t *queue, waiter_t *waiter, queue_habit_t *habit, uint64_t deadline_ns)
    void queue_pass_on(queue_t *queue)
    void queue_pass_room_on(queue_t *queue)
    status_t queue_room_round(queue_t *queue, waiter_t *waiter, queue_habit_t *habit, uint64_t deadline_ns)
    status_t queue_done_round(queue_t *queue, waiter_t *waiter, uint64_t deadline_ns)
    void queue_shut(queue_t *queue, uint32_t state)
    bint heap_try(const void *wait)
    status_t heap_round(heap_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns)
