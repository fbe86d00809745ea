"""What the extension modules take from _watch.h; see _core.pxd."""

from libc.stdint cimport uint32_t, uint64_t


cdef extern from "_watch.h" nogil:
    const uint64_t WATCH_ITEMS
    const uint64_t WATCH_ROOM

    int watch_socket(uint64_t id, bint binding)
    int watch_tell_itself(uint64_t *at, uint64_t id)
    int watch_join(uint64_t *words, uint32_t count, uint64_t id, uint64_t kind)
    bint watch_arm(uint32_t *watched, uint64_t *at, uint64_t id)
    bint watch_is_armed(const uint64_t *at)
    void watch_leave(uint64_t *at, uint64_t id)
    bint watch_is_own(int fd, uint64_t inode)
    void watch_drain(int fd, uint64_t inode)
