# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Where the fields of rings and cells stand, for tools that read them without being one of their users.

Each table is field → (offset, bytes) from the start of the struct in ``_layout.h`` that it is called after.
"""

from libc.stdint cimport uint64_t

from shmkit._core_fields cimport *
from shmkit._core_heap cimport (
    BLOCK_HELD, BLOCK_TAG, CELL_QUEUE, HEAP_ALONE, HEAP_BLOCKS_MOST, HEAP_CLASSES, HEAP_SLAB, QUEUE_OPEN, QUEUE_SHUT,
    QUEUE_UNBOUNDED, QUEUE_VOID, USE_DATA, USE_QUEUE, heap_block_t, heap_class_size, heap_header_t, queue_header_t,
)
from shmkit._core_topic cimport TOPIC_CLOSED, TOPIC_OPEN, TOPIC_SLOTS_MOST, topic_header_t

ROLE_STATES = {0: "never", ROLE_OPEN: "open", ROLE_CLOSED: "closed"}
RING_MIN = RING_MIN_CAPACITY
RING_DATA = RING_DATA_AT

PRODUCER_BYTE = LEASE_PRODUCER
CONSUMER_BYTE = LEASE_CONSUMER
MEMBER_BYTES = LEASE_MEMBERS

CELLS = {
    CELL_LOCK: "Lock",
    CELL_RLOCK: "RLock",
    CELL_SEMAPHORE: "Semaphore",
    CELL_EVENT: "Event",
    CELL_CONDITION: "Condition",
    CELL_RWLOCK: "RWLock",
    CELL_BARRIER: "Barrier",
}
WORD_LOST = LOCK_LOST
WORD_INCONSISTENT = LOCK_INCONSISTENT
WORD_CLAIMED = RWLOCK_CLAIMED
GATE_SLEEPER = GATE_ASLEEP
SEMAPHORE_IS_BOUNDED = SEMAPHORE_BOUNDED
OWNERS_LIMIT = SEMAPHORE_OWNERS_MOST
PARTIES_LIMIT = BARRIER_PARTIES_MOST
POLICY_SILENT = POLICY_RECOVER
WHY_BROKEN = {
    BROKEN_ABORTED: "aborted",
    BROKEN_RESET: "reset",
    BROKEN_TIMED_OUT: "timed out",
    BROKEN_DIED: "a process died",
    BROKEN_ACTION: "its action failed",
}


def member_of(uint64_t word):
    """The member id that a word names, whatever its two low bits say of it."""
    return member_of_word(word)


def pid_of(uint64_t member):
    """The pid within a member id: that of its own pid namespace."""
    return member_pid(member)


cdef ring_header_t _ring
cdef lock_cell_t _lock
cdef semaphore_cell_t _semaphore
cdef event_cell_t _event
cdef condition_cell_t _condition
cdef rwlock_cell_t _rwlock
cdef barrier_cell_t _barrier


cdef tuple place(void *start, void *field, size_t size):
    return <size_t>field - <size_t>start, size


cdef dict count_places(str end, ring_count_t *count):
    return {
        f"{end}.records": place(&_ring, &count.records, sizeof(count.records)),
        f"{end}.bytes": place(&_ring, &count.bytes, sizeof(count.bytes)),
        f"{end}.parks": place(&_ring, &count.parks, sizeof(count.parks)),
        f"{end}.wakes": place(&_ring, &count.wakes, sizeof(count.wakes)),
    }


cdef dict role_places(str end, ring_role_t *role):
    return {
        f"{end}.state": place(&_ring, &role.state, sizeof(role.state)),
        f"{end}.epoch": place(&_ring, &role.epoch, sizeof(role.epoch)),
        f"{end}.pid": place(&_ring, &role.pid, sizeof(role.pid)),
        f"{end}.start": place(&_ring, &role.start, sizeof(role.start)),
    }


RING_SIZE = sizeof(ring_header_t)
RING = {
    "capacity": place(&_ring, &_ring.capacity, sizeof(_ring.capacity)),
    "data_at": place(&_ring, &_ring.data_at, sizeof(_ring.data_at)),
    "tail": place(&_ring, &_ring.tail, sizeof(_ring.tail)),
    "head": place(&_ring, &_ring.head, sizeof(_ring.head)),
    "consumer.bell": place(&_ring, &_ring.consumer_bell.word, sizeof(_ring.consumer_bell.word)),
    "producer.bell": place(&_ring, &_ring.producer_bell.word, sizeof(_ring.producer_bell.word)),
    "consumer.watch": place(&_ring, &_ring.consumer_bell.watch, sizeof(_ring.consumer_bell.watch)),
    "producer.watch": place(&_ring, &_ring.producer_bell.watch, sizeof(_ring.producer_bell.watch)),
    **count_places("producer", &_ring.producer_count),
    **count_places("consumer", &_ring.consumer_count),
    **role_places("producer", &_ring.producer_role),
    **role_places("consumer", &_ring.consumer_role),
}

LOCK_SIZE = sizeof(lock_cell_t)
LOCK = {
    "kind": place(&_lock, &_lock.kind, sizeof(_lock.kind)),
    "policy": place(&_lock, &_lock.policy, sizeof(_lock.policy)),
    "word": place(&_lock, &_lock.word, sizeof(_lock.word)),
    "gate": place(&_lock, &_lock.gate, sizeof(_lock.gate)),
    "depth": place(&_lock, &_lock.depth, sizeof(_lock.depth)),
}

SEMAPHORE_SIZE = sizeof(semaphore_cell_t)
SEMAPHORE = {
    "policy": place(&_semaphore, &_semaphore.policy, sizeof(_semaphore.policy)),
    "maximum": place(&_semaphore, &_semaphore.maximum, sizeof(_semaphore.maximum)),
    "value": place(&_semaphore, &_semaphore.value, sizeof(_semaphore.value)),
    "gate": place(&_semaphore, &_semaphore.gate, sizeof(_semaphore.gate)),
    "owners": place(&_semaphore, &_semaphore.owners, sizeof(_semaphore.owners)),
}

EVENT_SIZE = sizeof(event_cell_t)
EVENT = {
    "word": place(&_event, &_event.word, sizeof(_event.word)),
    "gate": place(&_event, &_event.gate, sizeof(_event.gate)),
}

CONDITION_SIZE = sizeof(condition_cell_t)
CONDITION = {
    "gate": place(&_condition, &_condition.gate, sizeof(_condition.gate)),
    "tickets": place(&_condition, &_condition.tickets, sizeof(_condition.tickets)),
    "waiter": place(&_condition, &_condition.waiter, sizeof(_condition.waiter)),
}
WAITER_SIZE = sizeof(_condition.waiter[0])

RWLOCK_SIZE = sizeof(rwlock_cell_t)
RWLOCK = {
    "policy": place(&_rwlock, &_rwlock.policy, sizeof(_rwlock.policy)),
    "word": place(&_rwlock, &_rwlock.word, sizeof(_rwlock.word)),
    "reads": place(&_rwlock, &_rwlock.reads, sizeof(_rwlock.reads)),
    "writes": place(&_rwlock, &_rwlock.writes, sizeof(_rwlock.writes)),
    "reader": place(&_rwlock, &_rwlock.reader, sizeof(_rwlock.reader)),
}
READER_SIZE = sizeof(_rwlock.reader[0])

BARRIER_SIZE = sizeof(barrier_cell_t)
BARRIER = {
    "parties": place(&_barrier, &_barrier.parties, sizeof(_barrier.parties)),
    "state": place(&_barrier, &_barrier.state, sizeof(_barrier.state)),
    "gate": place(&_barrier, &_barrier.gate, sizeof(_barrier.gate)),
    "why": place(&_barrier, &_barrier.why, sizeof(_barrier.why)),
    "pid": place(&_barrier, &_barrier.pid, sizeof(_barrier.pid)),
    "acting": place(&_barrier, &_barrier.acting, sizeof(_barrier.acting)),
}
PLACE_SIZE = sizeof(barrier_place_t)

cdef topic_header_t _topic
cdef heap_header_t _heap
cdef heap_block_t _block
cdef queue_header_t _queue

TOPIC_SIZE = sizeof(topic_header_t)
TOPIC_SLOTS_LIMIT = TOPIC_SLOTS_MOST
TOPIC_STATES = {TOPIC_OPEN: "open", TOPIC_CLOSED: "closed"}
TOPIC = {
    "slots": place(&_topic, &_topic.slots, sizeof(_topic.slots)),
    "slot_size": place(&_topic, &_topic.slot_size, sizeof(_topic.slot_size)),
    "slot_bytes": place(&_topic, &_topic.slot_bytes, sizeof(_topic.slot_bytes)),
    "data_at": place(&_topic, &_topic.data_at, sizeof(_topic.data_at)),
    "publisher": place(&_topic, &_topic.publisher, sizeof(_topic.publisher)),
    "published": place(&_topic, &_topic.published, sizeof(_topic.published)),
    "state": place(&_topic, &_topic.state, sizeof(_topic.state)),
    "gate": place(&_topic, &_topic.gate, sizeof(_topic.gate)),
}

HEAP_SIZE = sizeof(heap_header_t)
HEAP_BLOCKS_LIMIT = HEAP_BLOCKS_MOST
HEAP = {
    "span": place(&_heap, &_heap.span, sizeof(_heap.span)),
    "limit": place(&_heap, &_heap.limit, sizeof(_heap.limit)),
    "table_at": place(&_heap, &_heap.table_at, sizeof(_heap.table_at)),
    "data_at": place(&_heap, &_heap.data_at, sizeof(_heap.data_at)),
    "blocks_most": place(&_heap, &_heap.blocks_most, sizeof(_heap.blocks_most)),
    "top": place(&_heap, &_heap.top, sizeof(_heap.top)),
    "resident": place(&_heap, &_heap.resident, sizeof(_heap.resident)),
    "deaths": place(&_heap, &_heap.deaths, sizeof(_heap.deaths)),
    "queue": place(&_heap, &_heap.queue, sizeof(_heap.queue)),
    "room_gate": place(&_heap, &_heap.room_gate, sizeof(_heap.room_gate)),
    "members": place(&_heap, &_heap.members, sizeof(_heap.members)),
}

BLOCK_SIZE = sizeof(heap_block_t)
BLOCK_IS_HELD, BLOCK_TAGS = BLOCK_HELD, BLOCK_TAG
BLOCK_OF_DATA, BLOCK_OF_QUEUE = USE_DATA, USE_QUEUE
BLOCK = {
    "word": place(&_block, &_block.word, sizeof(_block.word)),
    "first": place(&_block, &_block.first, sizeof(_block.first)),
    "class": place(&_block, &_block.class_, sizeof(_block.class_)),
    "use": place(&_block, &_block.use, sizeof(_block.use)),
    "page": place(&_block, &_block.page, sizeof(_block.page)),
}
# Class → (bytes of a block, blocks of a slab).
BLOCK_CLASSES = [
    (heap_class_size(number), 1 if heap_class_size(number) >= HEAP_ALONE else HEAP_SLAB // heap_class_size(number))
    for number in range(HEAP_CLASSES)
]

QUEUE_SIZE = sizeof(queue_header_t)
QUEUE_KIND = CELL_QUEUE
QUEUE_MOST = QUEUE_UNBOUNDED
QUEUE_STATES = {QUEUE_OPEN: "open", QUEUE_SHUT: "shut down", QUEUE_VOID: "shut down at once"}
QUEUE = {
    "kind": place(&_queue, &_queue.kind, sizeof(_queue.kind)),
    "id": place(&_queue, &_queue.id, sizeof(_queue.id)),
    "most": place(&_queue, &_queue.most, sizeof(_queue.most)),
    "first": place(&_queue, &_queue.first, sizeof(_queue.first)),
    "tail": place(&_queue, &_queue.tail, sizeof(_queue.tail)),
    "head": place(&_queue, &_queue.head, sizeof(_queue.head)),
    "items_gate": place(&_queue, &_queue.items_gate, sizeof(_queue.items_gate)),
    "state": place(&_queue, &_queue.state, sizeof(_queue.state)),
    "room_gate": place(&_queue, &_queue.room_gate, sizeof(_queue.room_gate)),
    "done": place(&_queue, &_queue.done, sizeof(_queue.done)),
    "dropped": place(&_queue, &_queue.dropped, sizeof(_queue.dropped)),
    "skipped": place(&_queue, &_queue.skipped, sizeof(_queue.skipped)),
    "done_gate": place(&_queue, &_queue.done_gate, sizeof(_queue.done_gate)),
}
