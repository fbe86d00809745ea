"""References to shared arrays, in items: see _shared.pyx."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cimport numpy as cnp

from shmkit._map cimport Mapping

cdef enum:
    SHARED_WRITEABLE = 1
    SHARED_STRIDED = 2


cdef struct shared_t:
    uint64_t identity  # of the segment
    uint64_t inode
    uint64_t dev
    uint64_t start     # when the process that has it began
    int64_t offset     # of the first element, in the payload
    uint32_t user
    uint32_t pid
    int32_t fd
    uint32_t flags


cdef Mapping mapping_of(object array)
cdef bint can_refer(Mapping mapping) except -1
cdef void describe_place(cnp.ndarray array, Mapping mapping, shared_t *said) noexcept
cdef void count_made(Mapping mapping) noexcept
cdef void count_taken(Mapping mapping) noexcept
cdef Mapping opened(const shared_t *said)
cdef object open_shared(
    const shared_t *said, cnp.dtype kind, int count, cnp.npy_intp *sides, cnp.npy_intp *strides, bint fortran,
    uint64_t nbytes
)
