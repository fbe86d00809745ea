"""Everything that the extension modules take from C: the only `cdef extern`.  One section per header."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "_layout.h" nogil:
    enum:
        SHMKIT_LAYOUT_VERSION
        LINE
        PAGE
        SEGMENT_KIND_BYTES
        SEGMENT_KIND_ARRAY
        SEGMENT_KIND_RING
        SEGMENT_KIND_SYNC
        SEGMENT_KIND_HEAP
        SEGMENT_LEASED
        SEGMENT_HUGE
        SEGMENT_META_LIMIT

    const uint64_t SHMKIT_MAGIC

    ctypedef struct segment_header_t:
        uint64_t magic
        uint32_t layout_version
        uint32_t header_size
        uint64_t payload_size
        uint32_t kind
        uint32_t flags
        uint64_t identity
        uint32_t creator_pid
        uint32_t creator_uid
        uint64_t creator_start
        uint64_t created_ns
        uint32_t meta_size
        uint64_t references_made
        uint64_t references_taken

cdef extern from "_atomics.h" nogil:
    uint64_t add_relaxed_u64(uint64_t *word, uint64_t value)
    int cas_seq_u64(uint64_t *word, uint64_t *expected, uint64_t value)
    uint64_t load_relaxed_u64(const uint64_t *word)
    uint64_t load_acquire_u64(const uint64_t *word)
    void store_relaxed_u32(uint32_t *word, uint32_t value)
    void store_release_u64(uint64_t *word, uint64_t value)

cdef extern from "_fork.h" nogil:
    uint64_t fork_generation_word
    uint64_t fork_count
    uint64_t process_start_ticks(uint32_t pid)


cdef extern from "_file.h" nogil:
    ctypedef struct file_t:
        int fd
        uint64_t inode
        uint64_t dev
        char path[4096]

    int file_make(file_t *file, const char *folder, uint32_t mode, uint64_t size, uint64_t token, int wanted)
    int file_make_raw(file_t *file, const char *path, uint32_t mode, uint64_t size)
    int file_memory(file_t *file, const char *label, uint64_t size, int huge)
    int file_seal(int fd)
    int file_reserve(int fd, uint64_t start, uint64_t length)
    int file_lease(file_t *file, int anew)
    void file_end_lease(file_t *file)
    int file_link(file_t *file, const char *path)
    int file_is_at(const char *path, uint64_t dev, uint64_t inode)
    int file_unlink(const char *path, uint64_t dev, uint64_t inode)
    int file_is_behind(int fd, uint64_t dev, uint64_t inode)
    void file_close(int fd, uint64_t dev, uint64_t inode)
    int file_reclaim(const char *path, int unfinished)
    void file_abandon(file_t *file)


cdef extern from "sys/shm.h" nogil:
    enum:
        SHM_RDONLY

    void *shmat(int shmid, const void *addr, int flags)


cdef extern from "_holding.h" nogil:
    enum:
        HOLDING_NOTHING
        HOLDING_MMAP
        HOLDING_SHMAT
        KEPT_MOST
        SEGMENT_KIND_IDLE

    ctypedef struct holding_t:
        char *addr
        uint64_t size
        uint32_t how
        int fd
        uint64_t inode
        uint64_t dev
        char *lease_path
        int shmid
        char *pin

    ctypedef struct kept_t:
        uint64_t bytes
        uint32_t count
        uint32_t count_limit
        uint64_t bytes_limit

    kept_t kept_warm
    kept_t kept_parked
    segment_header_t *holding_header(const holding_t *own)
    void holding_release(holding_t *own, int leave)
    void holding_leave_early(holding_t *own, int writable)
    void references_make(segment_header_t *head)
    void references_take(segment_header_t *head)
    int references_under_way(segment_header_t *head)
    void kept_add(kept_t *kept, const holding_t *own)
    int kept_warm_take(uint64_t size, holding_t *own)
    void kept_unpark(uint32_t most)
    uint64_t kept_clear(kept_t *kept)
    int kept_watch_forks()

cdef extern from "_wait.h" nogil:
    ctypedef enum status_t:
        OK
        FULL
        EMPTY
        TIMED_OUT
        INTERRUPTED
        SLICE_OVER
        CLOSED
        DIED
        CORRUPT
        TOO_LARGE
        TAKEN
        TOO_MANY
        FAILED
        INHERITED
        LOST
        NOT_HELD
        BROKEN
        COMPLETE
    const uint64_t FOREVER
    const uint32_t CPU_UNKNOWN
    const uint32_t CPU_HERE
    uint64_t clock_ns()
    ctypedef struct waiter_t:
        uint64_t spin_ns
        uint64_t begun_ns
    void waiter_init(waiter_t *waiter)

cdef extern from "_futex.h" nogil:
    int futex_wait(uint32_t *word, uint32_t expected, uint64_t limit_ns)

cdef extern from "_turn.h" nogil:
    const bint FREE_THREADED
    uint64_t threads_add(uint64_t *count, uint64_t by)
    ctypedef struct turn_t:
        uint64_t owner
    ctypedef struct session_t:
        uint64_t number
        uint64_t generation
    bint turn_try(turn_t *turn)
    bint turn_mine(const turn_t *turn)
    void turn_ask(turn_t *turn)
    void turn_wait(turn_t *turn, uint64_t limit_ns)
    void turn_end(turn_t *turn)
    void turn_reset(turn_t *turn)

cdef extern from "_layout.h" nogil:
    ctypedef struct ring_role_t:
        uint32_t state
        uint32_t pid
        uint64_t start
    ctypedef struct ring_count_t:
        uint64_t records
        uint64_t bytes
        uint64_t parks
        uint64_t wakes
    ctypedef struct ring_bell_t:
        uint32_t word
    ctypedef struct ring_header_t:
        uint64_t capacity
        uint64_t tail
        ring_count_t producer_count
        uint64_t head
        ring_count_t consumer_count
        ring_bell_t consumer_bell
        ring_bell_t producer_bell
        ring_role_t producer_role
        ring_role_t consumer_role
    ctypedef struct record_array_t:
        uint8_t ndim
        uint8_t order
        uint16_t descr_size
        uint32_t pad
    const uint32_t ROLE_OPEN
    const uint32_t ROLE_CLOSED
    const uint64_t RING_DATA_AT
    const uint64_t RING_MIN_CAPACITY
    const uint32_t RECORD_BYTES
    const uint32_t RECORD_ARRAY
    const uint64_t RECORD_ALIGN
    const uint64_t RECORD_ARRAY_ALIGN

cdef extern from "_atomics.h" nogil:
    uint32_t load_relaxed_u32(const uint32_t *word)
    uint32_t load_seq_u32(const uint32_t *word)

cdef extern from "_lease.h" nogil:
    ctypedef struct lease_t:
        void *page
    void lease_drop(lease_t *lease)
    void lease_forget(lease_t *lease)
    uint64_t lease_key(uint64_t dev, uint64_t inode)

cdef extern from "_ring.h" nogil:
    const uint32_t RING_VIEWS_MOST
    const uint64_t RECORD_DATA_AT_MOST
    ctypedef struct ring_producer_t:
        ring_header_t *shared
        uint64_t capacity
        uint64_t tail
        uint64_t span
        uint64_t data_at
        uint64_t *commits
        waiter_t waiter
        lease_t lease
    ctypedef struct ring_consumer_t:
        ring_header_t *shared
        uint64_t capacity
        uint64_t next
        uint64_t span
        const uint64_t *commits
        uint64_t commits_seen
        uint32_t views_count
        waiter_t waiter
        lease_t lease
    uint32_t record_kind(uint64_t word)
    uint64_t record_data_at(uint64_t word)
    uint64_t record_nbytes(uint64_t word)
    uint64_t ring_most(uint64_t capacity, uint64_t head_bytes, uint64_t align)
    status_t ring_reserve(ring_producer_t *p, uint64_t head_bytes, uint64_t nbytes, uint64_t align)
    uint8_t *ring_reserved(const ring_producer_t *p)
    void ring_abort(ring_producer_t *p)
    void ring_fill(ring_producer_t *p, uint32_t kind, uint64_t nbytes)
    void ring_publish(ring_producer_t *p)
    void ring_commit(ring_producer_t *p, uint32_t kind, uint64_t nbytes)
    bint ring_spin_room(ring_producer_t *p, uint64_t limit_ns)
    status_t ring_wait_room(ring_producer_t *p, uint64_t deadline_ns)
    status_t ring_next(ring_consumer_t *c, uint64_t *word)
    uint8_t *ring_record(const ring_consumer_t *c)
    void ring_pass(ring_consumer_t *c, uint64_t nbytes)
    status_t ring_hold(ring_consumer_t *c, uint64_t nbytes, uint64_t *ticket)
    void ring_unhold(ring_consumer_t *c, uint64_t ticket)
    void ring_within(ring_consumer_t *c)
    void ring_without(ring_consumer_t *c)
    void ring_step(ring_consumer_t *c, uint64_t nbytes)
    void ring_release_passed(ring_consumer_t *c)
    void ring_count_received(ring_consumer_t *c, uint64_t nbytes)
    bint ring_spin_records(ring_consumer_t *c, uint64_t limit_ns)
    status_t ring_wait_records(ring_consumer_t *c, uint64_t deadline_ns)
    const uint64_t RING_ROWS_BATCH
    uint64_t ring_send_rows(ring_producer_t *p, const uint8_t *rows, uint64_t row_size, uint64_t count,
                            status_t *status)
    uint64_t ring_recv_rows(ring_consumer_t *c, uint8_t *rows, uint64_t row_size, uint64_t count, status_t *status)

cdef extern from "_ring_roles.h" nogil:
    void ring_format(void *payload, uint64_t capacity)
    uint64_t ring_check(const void *payload, uint64_t size)
    status_t ring_claim_producer(ring_producer_t *p, void *payload, uint64_t capacity, int fd, uint64_t key,
                                 uint32_t pid, uint64_t start)
    status_t ring_claim_consumer(ring_consumer_t *c, void *payload, uint64_t capacity, int fd, uint64_t key,
                                 uint32_t pid, uint64_t start)
    void ring_close_producer(ring_producer_t *p)
    void ring_close_consumer(ring_consumer_t *c)
    status_t ring_ask_producer(const ring_consumer_t *c, int fd, uint64_t key, uint32_t *pid)
    status_t ring_ask_consumer(const ring_producer_t *p, int fd, uint64_t key, uint32_t *pid)

cdef extern from "_member.h" nogil:
    ctypedef struct member_t:
        uint64_t id
        lease_t lease
        int fd
        uint64_t key
    int member_join(member_t *member, int fd, uint64_t key, uint32_t pid)
    int member_died(const member_t *asking, uint64_t id)
    uint64_t member_word(uint64_t id)
    uint64_t member_of_word(uint64_t word)
    uint32_t member_pid(uint64_t id)

cdef extern from "_layout.h" nogil:
    const uint32_t CELL_LOCK
    const uint32_t CELL_RLOCK
    const uint32_t CELL_SEMAPHORE
    const uint32_t CELL_EVENT
    const uint32_t CELL_CONDITION
    const uint32_t CELL_RWLOCK
    const uint32_t CELL_BARRIER
    const uint32_t BARRIER_PARTIES_MOST
    const uint32_t BROKEN_ABORTED
    const uint32_t BROKEN_RESET
    const uint32_t BROKEN_TIMED_OUT
    const uint32_t BROKEN_DIED
    const uint32_t BROKEN_ACTION
    const uint64_t RWLOCK_CLAIMED
    const uint32_t POLICY_TELL
    const uint32_t POLICY_RECOVER
    const uint64_t LOCK_INCONSISTENT
    const uint64_t LOCK_LOST
    const uint32_t SEMAPHORE_BOUNDED
    const uint32_t SEMAPHORE_MOST
    const uint32_t SEMAPHORE_OWNERS_MOST
    ctypedef struct lock_cell_t:
        uint32_t kind
        uint32_t policy
        uint64_t word
        uint32_t gate
        uint32_t depth
        uint64_t thread
    ctypedef struct semaphore_cell_t:
        uint32_t kind
        uint32_t policy
        uint32_t maximum
        uint32_t value
        uint32_t gate
        uint32_t owners
    ctypedef struct event_cell_t:
        uint32_t kind
        uint32_t policy
        uint64_t word
        uint32_t gate
    ctypedef struct condition_cell_t:
        uint32_t kind
        uint32_t policy
        uint32_t gate
    ctypedef struct rwlock_cell_t:
        uint32_t kind
        uint32_t policy
        uint64_t word
        uint32_t reads
        uint32_t writes
    ctypedef struct barrier_place_t:
        uint64_t word
    ctypedef struct barrier_cell_t:
        uint32_t kind
        uint32_t policy
        uint32_t parties
        lock_cell_t lock

cdef extern from "_cell.h" nogil:
    void cell_clear(void *cell, uint64_t size, uint32_t policy)
    void cell_publish(void *cell, uint32_t kind)
    uint32_t cell_kind(const void *cell)

cdef extern from "_gate.h" nogil:
    const uint32_t GATE_ASLEEP

cdef extern from "_lock.h" nogil:
    ctypedef struct lock_t:
        lock_cell_t *cell
        uint64_t held
        const member_t *member
    ctypedef struct lock_wait_t:
        lock_t *lock
        uint64_t dead
    bint lock_take(lock_t *lock)
    status_t lock_try(lock_wait_t *wait)
    bint lock_spin(lock_t *lock, uint64_t limit_ns)
    status_t lock_round(lock_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns)
    status_t lock_give(lock_t *lock)
    status_t lock_recover(lock_t *lock)
    bint lock_mine(const lock_t *lock)
    bint lock_thread_mine(const lock_t *lock)
    void lock_enter(lock_t *lock)
    void rlock_enter(lock_t *lock, uint32_t depth)
    status_t rlock_again(lock_t *lock)
    status_t rlock_give(lock_t *lock)
    status_t rlock_give_all(lock_t *lock, uint32_t *depth)

cdef extern from "_semaphore.h" nogil:
    ctypedef struct semaphore_t:
        semaphore_cell_t *cell
        uint64_t held
        uint32_t owners
        uint32_t maximum
        uint32_t start
        const member_t *member
    bint counted_take(semaphore_t *semaphore)
    status_t semaphore_try(semaphore_t *semaphore)
    bint semaphore_spin(semaphore_t *semaphore, uint64_t limit_ns)
    status_t semaphore_round(semaphore_t *semaphore, waiter_t *waiter, uint64_t deadline_ns)
    status_t semaphore_give(semaphore_t *semaphore, uint32_t count)
    uint32_t semaphore_value(const semaphore_t *semaphore)

cdef extern from "_event.h" nogil:
    ctypedef struct event_wait_t:
        event_cell_t *cell
        uint64_t before
    bint event_is_up(const event_cell_t *cell)
    void event_set(event_cell_t *cell)
    void event_clear(event_cell_t *cell)
    bint event_begin(event_wait_t *wait, event_cell_t *cell)
    bint event_spin(event_wait_t *wait, uint64_t limit_ns)
    status_t event_round(event_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns)

cdef extern from "_condition.h" nogil:
    ctypedef struct condition_t:
        condition_cell_t *cell
        lock_t *lock
    ctypedef struct condition_wait_t:
        uint64_t waits
    uint64_t condition_waits(const condition_t *condition)
    void condition_begin(condition_t *condition, condition_wait_t *wait)
    status_t condition_round(condition_t *condition, condition_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns)
    bint condition_end(condition_t *condition, condition_wait_t *wait, bint returns)
    void condition_notify(condition_t *condition, uint64_t count)
    uint32_t condition_waiting(const condition_cell_t *cell)

cdef extern from "_word.h" nogil:
    const int WORD_ALL
    ctypedef enum order_t:
        RELAXED
        ACQUIRE
        RELEASE
        ACQ_REL
        SEQ_CST
    ctypedef struct word_wait_t:
        const void *word
        uint64_t value
        bint wide
    order_t order_of_failure(order_t order)
    uint64_t word_add(uint64_t *word, uint64_t value, order_t order)
    uint64_t word_sub(uint64_t *word, uint64_t value, order_t order)
    uint64_t word_and(uint64_t *word, uint64_t value, order_t order)
    uint64_t word_or(uint64_t *word, uint64_t value, order_t order)
    uint64_t word_xor(uint64_t *word, uint64_t value, order_t order)
    uint64_t word_exchange(uint64_t *word, uint64_t value, order_t order)
    uint64_t word_load_u64(const uint64_t *word, order_t order)
    uint32_t word_load_u32(const uint32_t *word, order_t order)
    void word_store_u64(uint64_t *word, uint64_t value, order_t order)
    void word_store_u32(uint32_t *word, uint32_t value, order_t order)
    bint word_set_flag(uint32_t *word, order_t order)
    bint word_cas(uint64_t *word, uint64_t *expected, uint64_t value, order_t order, order_t failure)
    bint word_spin(word_wait_t *wait, uint64_t limit_ns)
    status_t word_round(word_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns)
    int word_wake(void *word, int count)

cdef extern from "_rwlock.h" nogil:
    const uint32_t RWLOCK_NOWHERE
    const uint32_t RWLOCK_READ
    const uint32_t RWLOCK_WRITE
    const uint32_t RWLOCK_NOTHING
    ctypedef struct rwlock_t:
        rwlock_cell_t *cell
        uint64_t held
        const member_t *member
        uint32_t at
    ctypedef struct rwlock_wait_t:
        rwlock_t *lock
        uint64_t dead
        uint32_t side
        uint32_t state
    bint rwlock_read_take(rwlock_t *lock)
    status_t rwlock_read_give(rwlock_t *lock)
    status_t rwlock_write_give(rwlock_t *lock)
    bint rwlock_thread_mine(const rwlock_t *lock)

cdef extern from "_rwlock_wait.h" nogil:
    status_t rwlock_read_begin(rwlock_wait_t *wait, bint block)
    status_t rwlock_write_begin(rwlock_wait_t *wait, bint block)
    status_t rwlock_round(rwlock_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns)
    void rwlock_abandon(rwlock_wait_t *wait)
    status_t rwlock_recover(rwlock_t *lock)
    uint64_t rwlock_readers(const rwlock_t *lock)

cdef extern from "_barrier.h" nogil:
    ctypedef struct barrier_t:
        barrier_cell_t *cell
        lock_t lock
        uint64_t own
        uint32_t parties
        uint32_t at
        uint32_t where
    ctypedef struct barrier_wait_t:
        barrier_t *barrier
        uint32_t at
        uint32_t value
        uint32_t pid
    void barrier_break(barrier_t *barrier, uint32_t why, uint32_t pid)
    void barrier_pass(barrier_t *barrier, uint32_t last)
    status_t barrier_arrive(barrier_wait_t *wait, bint acts)
    bint barrier_acting(const barrier_t *barrier)
    void barrier_bury(barrier_t *barrier)
    bint barrier_ready(const void *of)
    status_t barrier_end(barrier_wait_t *wait)
    status_t barrier_round(barrier_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns)
    status_t barrier_room_round(barrier_wait_t *wait, waiter_t *waiter, uint64_t deadline_ns)
    void barrier_wake(barrier_t *barrier)
    void barrier_leave(barrier_t *barrier)
    uint32_t barrier_waiting(const barrier_t *barrier)
    bint barrier_broken(const barrier_t *barrier)
