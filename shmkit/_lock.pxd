"""Lock and RLock: what conditions use of them (see _lock.pyx)."""

from libc.stdint cimport uint32_t, uint64_t

from shmkit._core cimport lock_t, lock_wait_t, status_t
from shmkit._primitive cimport Primitive

cdef uint32_t policy_of(object on_owner_death) except? 0xffffffff


cdef class Lock(Primitive):
    cdef lock_t lock
    cdef uint32_t policy
    cdef uint32_t kind(self) noexcept
    cdef bint take(self, object block, object timeout) except -1
    cdef bint won(self, status_t status, lock_wait_t *wait) except -1
    cdef int retake(self, uint32_t depth) except -1
    cdef int give_all(self, uint32_t *depth) except -1
    cdef bint mine(self) except -1


cdef class RLock(Lock):
    pass
