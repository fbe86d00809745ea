"""Turns of threads, for extension modules: without a call of Python where nobody else has it."""

from shmkit._core cimport turn_t


cdef class Turn:
    cdef turn_t turn
    cdef bint try_it(self) noexcept
    cdef void leave(self) noexcept
