"""AwaitedEnd: a ring that is waited for with a descriptor, or in an event loop (see _ring_awaited.pyx)."""

from shmkit._map cimport Mapping
from shmkit._ring_watch cimport RingWatch
from shmkit._send cimport SendingEnd


cdef class AwaitedEnd(SendingEnd):
    cdef tuple awaiting  # tasks by event loop; None: there never were any

    cdef RingWatch watch_records(self)
    cdef RingWatch watch_room(self)
    cdef Mapping mapped(self)
