"""Heap: blocks of shared memory that processes take, hand on and let go (see _heap.pyx)."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cimport cython

from shmkit._core cimport lease_t, threads_add
from shmkit._core_heap cimport TOUCH_LEAST, heap_t, heap_touch, heap_was_touched
from shmkit._map cimport Mapping
from shmkit._membership cimport Member


cdef class Hold:
    # The name under which this process holds blocks: its lease ends with the process.
    cdef lease_t lease
    cdef uint64_t id
    cdef uint64_t word        # what the words of its blocks say
    cdef uint64_t blocks      # how many there are, those under way included
    # A fork saw it: the children hold the same blocks, so that none is free before they all have gone.
    cdef bint family
    cdef uint64_t generation  # of the process that took it


cdef class Heap:
    cdef heap_t c
    cdef readonly object segment
    cdef Mapping mapping
    cdef Member member        # who asks the kernel, and whose claims stand in cells
    cdef uint32_t place       # where this process stands among the members
    cdef Hold hold            # for blocks from now on; None: not needed yet
    cdef uint64_t generation  # of the process that all this is of
    cdef uint64_t looked_ns   # when the dead were last looked for
    cdef uint64_t swept_ns    # and when there was last a sweep
    cdef int trust            # 1: nobody but this user may have written to it; -1; 0: not looked at yet
    cdef object __weakref__

    cdef int enter(self) except -1
    cdef int join(self) except -1
    cdef Hold holding(self)
    cdef Hold new_hold(self)
    cdef uint32_t take(self, uint64_t size, Hold hold, uint64_t deadline) except 0
    cdef uint32_t take_later(self, uint64_t size, Hold hold, uint64_t deadline) except 0
    cdef bint others(self) except -1
    cdef object too_large(self, uint64_t size)
    cdef object full(self, str what, int error)
    cdef object name(self)
    cdef int drop(self, uint32_t block, Hold hold) noexcept
    cdef Block block(self, uint32_t block, Hold hold)
    cdef int look_for_dead(self, uint64_t every_ns) except -1
    cdef int sweep(self) except -1


cdef class Block:
    cdef readonly Heap heap
    cdef Hold hold
    cdef readonly uint32_t number  # 0: it was handed on
    cdef char *at
    cdef readonly uint64_t size
    cdef uint64_t used             # bytes of it that mean something
    cdef object memory             # what its bytes are, where they are in no heap
    cdef Py_ssize_t shape


# What another thread may be replacing, as it forks, is looked at in the heap's critical section.

cdef inline Hold hold_of(Heap heap):
    """The name under which this process holds blocks from now on."""
    with cython.critical_section(heap):
        if heap.hold is not None:
            return heap.hold
    return heap.holding()


cdef inline uint64_t word_of(Heap heap) except 0:
    """What the words of its blocks say."""
    with cython.critical_section(heap):
        if heap.hold is not None:
            return heap.hold.word
    return heap.holding().word


cdef inline void count_blocks(Hold hold, int64_t blocks) noexcept:
    """So many blocks more are held."""
    threads_add(&hold.blocks, <uint64_t>blocks)


cdef inline void touch(Heap heap, uint32_t block, uint64_t size, bint fresh) noexcept:
    """A block is about to be written to, by this process for the first time perhaps."""
    if size >= TOUCH_LEAST and not heap_was_touched(&heap.c, block):
        with nogil:
            heap_touch(&heap.c, block, size, fresh)


cdef Heap heap_of_process()
cdef Heap heap_in(object segment)
cdef object make_heap(object limit, object name, object mode, object lifetime, object backing, object meta, object init)
