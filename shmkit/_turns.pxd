"""Turns of threads, for extension modules: without a call of Python where nobody else has it."""

from cpython.pythread cimport PyThread_type_lock


cdef class Turn:
    cdef PyThread_type_lock lock
    # The thread that has it; 0: none.  Stored by who holds the lock.
    cdef unsigned long owner
    cdef bint try_it(self) noexcept
    cdef void leave(self) noexcept
