"""What the extension modules take from _watch.h; see _core.pxd."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmkit._core cimport ring_bell_t, ring_role_t


cdef extern from "_watch.h" nogil:
    const uint64_t WATCH_ITEMS
    const uint64_t WATCH_ROOM

    const uint64_t WATCH_ID_MASK

    int watch_socket(uint64_t id)
    int watch_tell_own(int fd, uint64_t id)
    int watch_tell_itself(uint64_t *at, int fd, uint64_t id)
    void sender_close(uint64_t *sender)
    int watch_join(uint64_t *words, uint32_t count, uint64_t id, uint64_t kind)
    bint watch_arm(uint32_t *watched, uint64_t *at, uint64_t id)
    bint watch_is_armed(const uint64_t *at)
    void watch_leave(uint64_t *at, uint64_t id)
    bint watch_is_own(int fd, uint64_t inode)
    void watch_drain(int fd, uint64_t inode)


cdef extern from "_poll.h" nogil:
    int poll_new()
    int poll_add(int set, int fd)
    int poll_drop(int set, int fd)
    bint poll_has(int set, int fd)


cdef extern from "_wait.h" nogil:
    void ring_bell(uint32_t *bell, uint64_t *wakes)
    int sched_yield()


cdef extern from "_ring_bell.h" nogil:
    void ring_arm(ring_bell_t *bell, uint64_t id)
    void ring_disarm(ring_bell_t *bell)


cdef extern from "_layout.h" nogil:
    const int64_t LEASE_PRODUCER
    const int64_t LEASE_CONSUMER


cdef extern from "_ring.h" nogil:
    bint ring_records_ready(const void *consumer)
    bint ring_room_ready(const void *producer)


cdef extern from "_ring_roles.h" nogil:
    bint ring_role_is_held(
        const ring_role_t *role, int fd, uint64_t key, int64_t byte, uint32_t *epoch, uint32_t *state, uint32_t *pid
    )
