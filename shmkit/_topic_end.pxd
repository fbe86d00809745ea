"""TopicEnd: what publishers and subscribers have in common (see _topic_end.pyx)."""

from libc.stdint cimport uint64_t

from shmkit._core_topic cimport topic_t
from shmkit._map cimport Mapping


cdef class TopicEnd:
    cdef topic_t c
    cdef readonly object segment  # a Segment
    cdef Mapping mapping          # kept until this handle dies
    cdef uint64_t generation      # of the process that this handle knows itself in; NEVER once closed
    cdef bint shut
    cdef object __weakref__

    cdef int bind(self, object segment) except -1
    cdef int usable(self) except -1
