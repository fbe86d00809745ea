"""The structs of ``_layout.h`` with every field that a tool may want to know the place of; see _core.pxd."""

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "_layout.h" nogil:
    const int64_t LEASE_PRODUCER
    const int64_t LEASE_CONSUMER
    const int64_t LEASE_MEMBERS

    const uint32_t ROLE_OPEN
    const uint32_t ROLE_CLOSED
    const uint64_t RING_DATA_AT
    const uint64_t RING_MIN_CAPACITY

    ctypedef struct ring_role_t:
        uint32_t state
        uint32_t epoch
        uint32_t pid
        uint64_t start
    ctypedef struct ring_count_t:
        uint64_t records
        uint64_t bytes
        uint64_t parks
        uint64_t wakes
    ctypedef struct ring_bell_t:
        uint32_t word
        uint64_t watch
    ctypedef struct ring_header_t:
        uint64_t capacity
        uint64_t data_at
        uint64_t tail
        ring_count_t producer_count
        uint64_t head
        ring_count_t consumer_count
        ring_bell_t consumer_bell
        ring_bell_t producer_bell
        ring_role_t producer_role
        ring_role_t consumer_role

    const uint32_t CELL_LOCK
    const uint32_t CELL_RLOCK
    const uint32_t CELL_SEMAPHORE
    const uint32_t CELL_EVENT
    const uint32_t CELL_CONDITION
    const uint32_t CELL_RWLOCK
    const uint32_t CELL_BARRIER

    const uint32_t POLICY_RECOVER
    const uint64_t LOCK_INCONSISTENT
    const uint64_t LOCK_LOST
    const uint64_t RWLOCK_CLAIMED
    const uint32_t SEMAPHORE_BOUNDED
    const uint32_t SEMAPHORE_OWNERS_MOST
    const uint32_t BARRIER_PARTIES_MOST
    const uint32_t BROKEN_ABORTED
    const uint32_t BROKEN_RESET
    const uint32_t BROKEN_TIMED_OUT
    const uint32_t BROKEN_DIED
    const uint32_t BROKEN_ACTION

    ctypedef struct lock_cell_t:
        uint32_t kind
        uint32_t policy
        uint64_t word
        uint32_t gate
        uint32_t depth
    ctypedef struct semaphore_cell_t:
        uint32_t policy
        uint32_t maximum
        uint32_t value
        uint32_t gate
        uint32_t owners
    ctypedef struct event_cell_t:
        uint64_t word
        uint32_t gate
    ctypedef struct condition_waiter_t:
        uint64_t word
    ctypedef struct condition_cell_t:
        uint32_t gate
        uint64_t tickets
        condition_waiter_t waiter[64]
    ctypedef struct rwlock_reader_t:
        uint64_t owner
        uint64_t counts
    ctypedef struct rwlock_cell_t:
        uint32_t policy
        uint64_t word
        uint32_t reads
        uint32_t writes
        rwlock_reader_t reader[64]
    ctypedef struct barrier_place_t:
        uint64_t word
    ctypedef struct barrier_cell_t:
        uint32_t parties
        uint32_t state
        uint32_t gate
        uint32_t why
        uint32_t pid
        uint64_t acting


cdef extern from "_gate.h" nogil:
    const uint32_t GATE_ASLEEP


cdef extern from "_member.h" nogil:
    uint64_t member_of_word(uint64_t word)
    uint32_t member_pid(uint64_t id)
