# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Ties and names: who keeps what is on its way through a pipe, and under which ids it travels (``_pair.h``).

Any thread may call these; a pair has one tie, and all pairs of a heap have the same names in a process.
"""

from libc.errno cimport EAGAIN, EMFILE, ENFILE, ENOLCK, ENOMEM, ENOSPC
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset, strerror
from posix.fcntl cimport F_RDLCK, F_WRLCK

cimport cython

from shmkit._core cimport *
from shmkit._core_heap cimport *
from shmkit._core_pair cimport *
from shmkit._heap cimport Heap, Hold, count_blocks, heap_in, heap_of_process
from shmkit._map cimport fork_generation

import os
import weakref

from shmkit import errors
from shmkit._heap import adopt
from shmkit.errors import ShmkitError

cdef const uint64_t *generation = fork_generation()

cdef object _names = weakref.WeakKeyDictionary()  # heap → this process's Names
cdef list _parked = []  # ties whose references are still on their way to a receiver


@cython.final
@cython.no_gc_clear
cdef class Names:
    """Ids for messages while they are written."""

    def __dealloc__(self):
        if self.generation == generation[0]:
            lease_drop(&self.lease)
        else:
            lease_forget(&self.lease)


cdef uint64_t new_ids(Heap heap, lease_t *lease, short type, bint inherited) except 0:
    """Takes the lease of PAIR_SPAN ids that nobody has; returns the first."""
    cdef uint64_t first
    cdef int error = EAGAIN
    cdef int64_t byte
    for _tries in range(100):
        first = member_new_id(os.getpid()) & ~(PAIR_SPAN - 1)
        byte = LEASE_MEMBERS + <int64_t>first
        if lease_ask_span(heap.member.own.fd, heap.member.own.key, byte, PAIR_SPAN) == LEASE_FREE:
            error = lease_take_span(
                lease, heap.member.own.fd, heap.member.own.key, byte, PAIR_SPAN, type, inherited
            )
            if error != EAGAIN:
                break
    if error:
        raise OSError(error, f"no lease for a pipe: {strerror(error).decode()}")
    return first


cdef Names names_in(Heap heap):
    """This process's Names in a heap."""
    cdef Names names = _names.get(heap)
    if names is None or names.generation != generation[0]:
        names = Names.__new__(Names)
        names.first = new_ids(heap, &names.lease, F_WRLCK, False)
        names.generation = generation[0]
        names.pid = os.getpid()
        _names[heap] = names
    return names


@cython.final
@cython.no_gc_clear
cdef class Tie:
    """A part in keeping what is on its way between two ends."""

    def __dealloc__(self):
        lease_drop(&self.lease)


cdef int park(Tie tie) except -1:
    """Keeps a tie until the references that were pickled have been unpickled, or the process ends."""
    cdef Tie kept
    with cython.critical_section(_parked):
        if tie is not None and tie.made_in == generation[0] + 1 and tie.header.taken < tie.header.made:
            _parked.append(tie)
        for kept in list(_parked):
            if (kept.made_in != generation[0] + 1 or kept.header.taken >= kept.header.made) and kept in _parked:
                _parked.remove(kept)
    return 0


cdef bint is_parked() noexcept:
    """Whether any tie is."""
    return len(_parked) != 0


cdef Tie new_tie():
    """For a pipe that is being made."""
    cdef Heap heap = heap_of_process()
    cdef Hold hold
    cdef Tie tie = Tie.__new__(Tie)
    cdef uint64_t size
    park(None)
    hold = heap.holding()
    tie.heap = heap
    tie.id = new_ids(heap, &tie.lease, F_RDLCK, True)
    tie.block = heap.take(sizeof(pair_header_t), hold, clock_ns())
    tie.header = <pair_header_t *>heap_block_at(&heap.c, tie.block, &size)
    memset(tie.header, 0, sizeof(pair_header_t))
    tie.header.id = tie.id
    count_blocks(hold, -1)
    pair_tie(&heap.c, tie.block, hold.word, block_held(tie.id))
    return tie


cdef bint may_pass(object error) except -1:
    """Whether what failed may go well later, as something was wanting: descriptors, memory, locks.  What a process has
    no way to (a `chroot` without /proc), it has not later either."""
    if isinstance(error, (ShmkitError, OSError)):
        return getattr(error, "errno", None) in (EMFILE, ENFILE, ENOLCK, ENOMEM, ENOSPC)
    return True


cdef Tie find_tie(object segment, uint32_t block, uint64_t id):
    """A part in what somebody else has, who gave it away.  SegmentNotFound: nobody had it any more."""
    cdef Heap heap = heap_in(segment)
    cdef Tie tie = Tie.__new__(Tie)
    cdef uint64_t size
    cdef int error
    adopt(heap)
    tie.heap = heap
    tie.id = id
    tie.block = block
    error = lease_take_span(
        &tie.lease, heap.member.own.fd, heap.member.own.key, LEASE_MEMBERS + <int64_t>tie.id, PAIR_SPAN, F_RDLCK, True
    )
    if error:
        raise OSError(error, f"no lease for a pipe: {strerror(error).decode()}")
    tie.header = <pair_header_t *>heap_block_at(&heap.c, tie.block, &size)
    if tie.header == NULL or size < sizeof(pair_header_t) or heap_word(&heap.c, tie.block) != block_held(tie.id):
        raise errors.SegmentNotFound("what a pipe's ends have in common is gone: nobody had it any more")
    add_relaxed_u64(&tie.header.taken, 1)  # relaxed: a count
    return tie
