"""Watch: a descriptor that says when to look (see _watch.pyx)."""

from libc.stdint cimport uint32_t, uint64_t

ctypedef int (*coming_t)(const void *) noexcept nogil


cdef class Watch:
    cdef int fd
    cdef uint64_t inode
    cdef uint64_t id
    cdef uint64_t generation  # of the process whose descriptor it is
    cdef uint32_t *watched
    cdef uint64_t *word
    cdef coming_t coming
    cdef const void *of
    cdef object keeps         # the memory that the words are in

    cdef bint sound(self)
    cdef int settle(self) except -1
    cdef int empty(self) except -1


cdef Watch new_watch(
    uint32_t *watched, uint64_t *words, uint32_t count, uint64_t kind, coming_t coming, const void *of, object keeps,
    str label
)
