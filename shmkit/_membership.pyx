# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Membership: under which name the words of a segment know this process, and whether those that they name still live.

One ``Member`` per process and segment, however many handles there are: two handles on one recursive lock are the same
holder.  It lives as long as any of them does; then its lease ends, and whatever still names it is a dead one's.  In a
forked child the object is an heirloom without a lease: the child joins anew.
"""

from libc.errno cimport EBADF
from libc.stdint cimport uint64_t
from libc.string cimport strerror
from posix.unistd cimport close

cimport cython

from shmkit._core cimport *
from shmkit._core_heap cimport LEASE_MEMBERS, LEASE_UNKNOWN, lease_ask_span
from shmkit._map cimport Facts, Mapping, fork_generation

import os
import weakref

from shmkit.errors import SegmentError

cdef const uint64_t *generation = fork_generation()

cdef dict _members = {}  # (device, inode) of a segment's file → weak reference to this process's Member


@cython.final
@cython.no_gc_clear
cdef class Member:
    """This process as a member of one segment."""

    def __cinit__(self):
        self.own_fd = -1

    def __init__(self):
        raise TypeError("a Member is made by whatever needs one")

    def __dealloc__(self):
        if self.generation == generation[0]:
            lease_drop(&self.own.lease)
        else:
            lease_forget(&self.own.lease)
        if self.own_fd >= 0:
            # Not another file that has its number by now.
            file_close(self.own_fd, self.mapping.own.dev, self.mapping.own.inode)

    @property
    def id(self):
        """The number that no other process ever bears in this segment."""
        return self.own.id

    @property
    def pid(self):
        """The pid within that number."""
        return member_pid(self.own.id)

    def died(self, uint64_t number):
        """Whether the member of that number has died."""
        return member_died(&self.own, number) != 0


def member(Mapping mapping):
    """This process's Member in the segment that is mapped; SegmentError where the kernel cannot be asked."""
    return member_of(mapping)


cdef Member member_of(Mapping mapping):
    """This process's Member in the segment that is mapped."""
    key = (mapping.own.dev, mapping.own.inode)
    cdef Member known = known_as(key)
    if known is not None:
        return known
    cdef Member made = join(mapping)

    def forget(reference):
        with cython.critical_section(_members):
            if _members.get(key) is reference:
                del _members[key]

    # Of two threads that come here together, or a thread and its signal handler, one takes the other's: from here on no
    # Python code runs, so nobody comes between the look and the store.  A process with two names would lose a lock that
    # it holds under the one as soon as its handle is bound to the other.
    reference = weakref.ref(made, forget)
    with cython.critical_section(_members):
        known = known_as(key)
        if known is None:
            known = made
            _members[key] = reference
    return known


def _join_in_child():
    """In a forked child, which may close all descriptors before it uses a lock (a daemon does): without that of the
    anonymous segment that its locks stand in it could not join later.  Heaps it joins when it uses them."""
    cdef Member known
    cdef Facts facts
    for reference in list(_members.values()):
        known = reference()
        if known is None or known.generation == generation[0]:
            continue
        facts = known.mapping.facts
        if facts.path is None and facts.head.kind == SEGMENT_KIND_SYNC:
            try:
                known.heir = member_of(known.mapping)
            except (SegmentError, OSError):
                pass  # as at its first use, which says so


os.register_at_fork(after_in_child=_join_in_child)


cdef Member known_as(tuple key):
    reference = _members.get(key)
    cdef Member known = None if reference is None else reference()
    return known if known is not None and known.generation == generation[0] else None


cdef Member join(Mapping mapping):
    cdef Member made = Member.__new__(Member)
    cdef int fd = mapping.own.fd
    cdef int error
    made.mapping = mapping
    made.generation = generation[0]
    label = "an anonymous segment" if mapping.facts.name is None else f"segment {mapping.facts.name!r}"
    if mapping.readonly:
        raise SegmentError(f"{label} was attached for reading only: a primitive's words must be written")
    if fd < 0 or not file_is_behind(fd, mapping.own.dev, mapping.own.inode):
        fd = made.own_fd = reopen(mapping)
    if fd < 0:
        raise SegmentError(
            f"{label} has no file that the kernel could be asked through who lives: {why_no_file(mapping)}"
        )
    error = member_join(&made.own, fd, lease_key(mapping.own.dev, mapping.own.inode), os.getpid())
    if error:
        why = f"{label}: no lease for this process: {why_no_lease(error, fd, made.own.key)}"
        raise SegmentError(why) if error == EBADF else OSError(error, why)
    return made


cdef str why_no_file(Mapping mapping):
    """Why there is no descriptor of the segment's file, and what to do."""
    if mapping.facts.backing == "sysv":
        return "it is a SysV segment; place primitives in one of another backing"
    if mapping.facts.path is not None:
        return "it was unlinked; use what stands in it once in this process before that"
    return (
        "its descriptor was closed (os.closerange?) before this process had a part in it; use what stands in it once "
        "before that, or close descriptors of your own only"
    )


cdef str why_no_lease(int error, int fd, uint64_t key):
    """Why a lease could not be taken through a descriptor of the file of that key, and what to do."""
    if error != EBADF:
        return strerror(error).decode()
    if lease_ask_span(fd, key, LEASE_MEMBERS, 1) == LEASE_UNKNOWN:
        return f"somebody else closed the descriptor {fd} that it is taken through (os.closerange?); it can be before"
    return (
        "it is taken through /proc/self/fd, and no /proc is there (chroot?): mount one there, or make it, and use it "
        "in this process, before that"
    )


cdef int reopen(Mapping mapping) except -2:
    """A descriptor of the segment's file, found by its path; -1: there is none any more."""
    cdef int fd
    if mapping.facts.path is None:
        return -1
    try:
        fd = os.open(mapping.facts.path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        return -1
    if not file_is_behind(fd, mapping.own.dev, mapping.own.inode):
        close(fd)
        return -1
    return fd
