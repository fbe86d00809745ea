"""What the extension modules take from the C of pipes; see _core.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from shmkit._core cimport member_t, status_t, turn_t, waiter_t
from shmkit._core_heap cimport heap_t


cdef extern from "_heap_layout.h" nogil:
    enum:
        PAIR_BYTES
        PAIR_PICKLE
        PAIR_ARRAY
        MEET_ROOM

    const uint32_t MEET_MOST
    const uint32_t MEET_NOTE

    ctypedef struct meet_t:
        pass

    const uint64_t PAIR_SPAN

    ctypedef struct pair_header_t:
        uint64_t id
        uint64_t made
        uint64_t taken
        uint32_t gate0
        uint32_t gate1
        meet_t meets[2]

    ctypedef struct pair_note_t:
        uint32_t frame
        uint8_t kind
        uint8_t side
        uint64_t heap
        uint64_t offered
        uint64_t sent
        uint64_t size
        uint32_t block
        uint32_t pair
        uint32_t pid
        uint32_t fd


cdef extern from "_turn.h" nogil:
    bint turn_is_taken(const turn_t *turn)


cdef extern from "_wire.h" nogil:
    const int WIRE_ENDED
    const int WIRE_LONG
    const int WIRE_NOTE

    int wire_write(int fd, const void *data, size_t size, size_t *done)
    int wire_read(int fd, void *data, size_t size, size_t *done)
    int wire_glance(int fd, void *data, size_t size, size_t *done)
    uint64_t wire_identity(int fd)
    bint wire_retire(int fd)
    bint wire_is_open(int fd)
    int wire_poll(int fd, int timeout_ms)
    const int WIRE_BUSY
    const int WIRE_GONE
    int wire_state(int fd)


cdef extern from "_pair.h" nogil:
    ctypedef struct pair_sent_t:
        uint64_t word
        uint32_t block

    ctypedef struct pair_way_t:
        pair_sent_t *sent
        uint32_t count
        uint32_t room
        uint64_t bytes
        uint64_t clock

    ctypedef struct pair_wait_t:
        const heap_t *heap
        uint32_t *gate
        uint64_t word
        uint32_t block

    void pair_is_known(pair_header_t *header, uint32_t side)
    bint pair_may_be_untold(const pair_header_t *header, uint32_t side)
    uint64_t pair_next(pair_header_t *header, uint32_t side)
    uint64_t pair_id(uint64_t id, uint32_t side, uint64_t number)
    void pair_tie(const heap_t *heap, uint32_t block, uint64_t held, uint64_t tied)
    void pair_filling()
    void pair_copied()
    void pair_withdraw(heap_t *heap, uint32_t block, uint64_t message, uint64_t held)
    bint pair_offer(const heap_t *heap, uint32_t block, uint64_t held, uint64_t offered)
    void pair_commit(const heap_t *heap, uint32_t block, uint64_t offered, uint64_t sent)
    bint pair_take(const heap_t *heap, uint32_t block, uint64_t offered, uint64_t sent, uint64_t held)
    void pair_remember(pair_way_t *way, const pair_note_t *note, uint64_t number, uint64_t begun)
    void pair_settle(pair_way_t *way, heap_t *heap, pair_header_t *header, uint32_t side, uint64_t held)
    void pair_give_up(pair_way_t *way, heap_t *heap, uint64_t held)
    status_t pair_round(pair_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns)
    void pair_tell(uint32_t *gate)


cdef extern from "_pair_meet.h" nogil:
    const int MEET_TAKEN
    const int MEET_LOOK
    const int MEET_LEFT

    ctypedef struct meet_sender_t:
        uint64_t handed

    ctypedef struct meet_reader_t:
        uint64_t spin_ns
        uint32_t inside
        uint32_t leave
        uint32_t handed

    bint meet_hand(
        meet_t *meet, meet_sender_t *sender, const member_t *me, int fd, const void *data, uint32_t size, uint32_t note,
        bint ask,
    )
    void meet_tell(meet_t *meet)
    bint meet_is_apart(const meet_t *meet)
    uint32_t meet_enter(meet_reader_t *reader)
    int meet_wait(
        meet_t *meet, waiter_t *waiter, meet_reader_t *reader, int fd, uint32_t stays, uint64_t *into, uint32_t *size,
        uint32_t *note, uint32_t *head, size_t *done,
    )
    void meet_learn(meet_reader_t *reader, waiter_t *waiter, int found)
    void meet_leave(meet_reader_t *reader, uint64_t most_ns)
