# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Queues with names, each in a heap of its own: how they are made, and found."""

from libc.stdint cimport uint32_t, uint64_t

from shmkit._core cimport SEGMENT_KIND_HEAP
from shmkit._core_heap cimport heap_block_at, queue_header_t
from shmkit._heap cimport Heap, heap_in, make_heap
from shmkit._queue_end cimport JOINABLE, QueueEnd, believed, counts_tasks

from shmkit import errors
from shmkit.segment import Segment


def create_named(QueueEnd made, name, maxsize, capacity, backpressure, backing, mode, lifetime):
    """Makes a queue in a heap of its own."""
    if name is None:
        raise TypeError(f"{type(made).__name__}.create needs a name; {type(made).__name__}() makes an anonymous one")

    def init(Heap heap):
        heap.enter()
        heap.c.header.queue = made._make(maxsize, backpressure, heap)

    made.pickles = believed(make_heap(capacity, name, mode, lifetime, backing, {"queue": type(made).__name__}, init))


def find_named(QueueEnd found, name, backing, owner):
    """Comes to have the queue of that name."""
    segment = Segment._attach(name, backing=backing, owner=owner, kind=SEGMENT_KIND_HEAP)
    cdef Heap heap = heap_in(segment)
    cdef uint64_t size
    cdef uint32_t block = <uint32_t>heap.c.header.queue
    cdef queue_header_t *header = <queue_header_t *>heap_block_at(&heap.c, block, &size)
    if header == NULL or size < sizeof(queue_header_t):
        raise errors.LayoutMismatch(f"segment {name!r} has no queue in it")
    if counts_tasks(found) and not header.flags & JOINABLE:
        raise errors.LayoutMismatch(
            f"queue {name!r} was not created as a JoinableQueue: nobody says what is done; attach it as a Queue"
        )
    found._find(heap, block, header.id)
