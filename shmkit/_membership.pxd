"""Member: this process, as the words of a segment know it (``_member.h``).

    from shmkit._membership cimport Member, member_of

    member = member_of(mapping)      a process has one for each segment; a forked child gets one of its own
    member.own.id                    the number that words name it by
    &member.own                      what the C functions ask through; good while `member` is referred to
    member.generation                fork_generation()[0] when it joined; differs in a child that inherited the object
"""

from libc.stdint cimport uint64_t

from shmkit._core cimport member_t
from shmkit._map cimport Mapping


cdef class Member:
    cdef member_t own
    # Its descriptor is the one that the kernel is asked through, unless an own one was opened.
    cdef Mapping mapping
    cdef int own_fd
    cdef Member heir                 # in a forked child: this process, until nothing asks through the parent's any more
    cdef readonly uint64_t generation
    cdef object __weakref__


cdef Member member_of(Mapping mapping)
cdef str why_no_lease(int error, int fd, uint64_t key)
