# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Heap: blocks of shared memory that processes take, hand on, and let go, and that come back from the dead.

The blocks and their words are in ``_heap_layout.h``; the protocol is in ``_heap.h`` and, for what the dead leave, in
``_sweep.h``.  All anonymous queues of a process, and of those it starts, lie in one heap, so that a block goes from
one queue to another without a copy; a queue with a name has a heap of its own.

A process holds blocks under a name of its own (a ``Hold``).  A forked child has the arrays of its parent, and so the
blocks: at a fork the name, if anything is held under it, becomes the family's, and parent and child take new ones for
what comes later. What is the family's is free when all of them have gone.

Any thread may call anything at any time.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EFBIG, ENOMEM, ENOSPC
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset, strerror
from posix.unistd cimport getpid

cimport cython

from shmkit._core cimport *
from shmkit._core_heap cimport *
from shmkit._deadline cimport deadline_of
from shmkit._map cimport Mapping, fork_generation
from shmkit._membership cimport Member, member_of, why_no_lease

import os
from weakref import ref

from shmkit import _heap_size, _heap_trouble, errors
from shmkit.segment import Segment
from shmkit.sizes import format_size, parse_size

cdef const uint64_t *generation = fork_generation()

cdef enum:
    SWEEP_EVERY_NS = 100_000_000   # at most, where memory is wanted

cdef uint64_t NEVER = <uint64_t>-1

cdef dict _heaps = {}      # (device, inode) of a segment's file → weak reference to this process's Heap
cdef object _own = None    # weak reference to that of this process's anonymous queues: it goes with the last of them


# ----------------------------------------------------------------------------------------------------------- holding


@cython.final
@cython.no_gc_clear
cdef class Hold:
    """The name under which a process holds blocks; see ``Heap.holding``."""

    def __dealloc__(self):
        # A family's lease is one page in each of its processes; each lets go of its own.  Any other is not in a child.
        if self.family or self.generation == generation[0]:
            lease_drop(&self.lease)
        else:
            lease_forget(&self.lease)


@cython.final
@cython.no_gc_clear
cdef class Block:
    """A block that this process holds: bytes that nobody else touches.  Let go when nothing refers to it."""

    def __init__(self):
        raise TypeError("a Block is made by Heap.take, or by a queue")

    def __dealloc__(self):
        if self.heap is not None and self.number != 0:
            self.heap.drop(self.number, self.hold)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.at, self.shape, 0, flags)

    def __len__(self) -> int:
        return self.shape

    def __repr__(self) -> str:
        return f"<shmkit block {self.number} of {self.size} bytes>"


# -------------------------------------------------------------------------------------------------------------- heap


@cython.final
@cython.no_gc_clear
cdef class Heap:
    """One process's use of a heap."""

    def __init__(self):
        raise TypeError("a Heap is made by whatever needs one")

    def __cinit__(self):
        self.generation = NEVER

    def __dealloc__(self):
        if self.generation == generation[0]:
            heap_leave(&self.c, self.place, self.member.own.id)
        free(self.c.touched)

    cdef int enter(self) except -1:
        """Makes this process a member, anew in a forked child."""
        return 0 if self.generation == generation[0] else self.join()

    @cython.critical_section
    cdef int join(self) except -1:
        cdef Member member = member_of(self.mapping)
        cdef sweep_t *sweep
        if self.generation == generation[0]:
            return 0  # another thread was quicker; from here on none is, as no Python runs
        cdef uint32_t place = heap_enter(&self.c, member.own.id)
        if place == HEAP_MEMBERS:
            sweep = <sweep_t *>malloc(sizeof(sweep_t))
            if sweep == NULL:
                raise MemoryError()
            heap_sweep(sweep, &self.c, &member.own, block_held(member.own.id))
            free(sweep)
            place = heap_enter(&self.c, member.own.id)
        if place == HEAP_MEMBERS:
            raise errors.SegmentError(f"a heap has at most {HEAP_MEMBERS} processes at one time")
        self.member = member
        self.place = place
        self.hold = None
        heap_untouch(&self.c)
        self.generation = generation[0]
        return 0

    cdef Hold holding(self):
        """The name under which this process holds blocks from now on."""
        self.enter()
        return self.new_hold()

    @cython.critical_section
    cdef Hold new_hold(self):
        cdef Hold hold
        cdef member_t named
        cdef int error
        if self.hold is not None:
            return self.hold
        hold = Hold.__new__(Hold)
        memset(&named, 0, sizeof(named))
        error = member_join(&named, self.member.own.fd, self.member.own.key, getpid())
        hold.lease = named.lease
        if error:
            raise OSError(error, f"no lease for the blocks of a heap: {why_no_lease(error, named.fd, named.key)}")
        hold.id = named.id
        hold.word = block_held(hold.id)
        hold.generation = generation[0]
        self.hold = hold
        return hold

    cdef Block block(self, uint32_t number, Hold hold):
        """The Block that this process holds under `hold`, which has counted it."""
        cdef Block made = Block.__new__(Block)
        made.at = heap_block_at(&self.c, number, &made.size)
        if made.at == NULL:
            count_blocks(hold, -1)
            raise _heap_trouble.contradicts(self.name(), f"block {number}")
        made.heap = self
        made.hold = hold
        made.number = number
        made.used = made.size
        made.shape = made.size
        return made

    cdef int drop(self, uint32_t number, Hold hold) noexcept:
        """Lets a block go.  What is the family's stays until it has gone."""
        if not hold.family:
            heap_drop(&self.c, number, hold.word)
        count_blocks(hold, -1)
        return 0

    cdef uint32_t take(self, uint64_t size, Hold hold, uint64_t deadline) except 0:
        """A block of at least `size` bytes, counted in `hold`; waits until `deadline` for memory that others have.

        RecordTooLarge; HeapFull.
        """
        cdef uint32_t number = 0
        cdef int error = 0
        cdef status_t status
        if heap_take_warm(&self.c, size, hold.word, &number) == OK:
            count_blocks(hold, 1)
            touch(self, number, size, False)
            return number
        if heap_class_size(heap_class_of(size)) > self.c.limit:
            raise self.too_large(size)
        count_blocks(hold, 1)
        try:
            if clock_ns() - self.looked_ns > SWEEP_EVERY_NS:  # perhaps somebody died who had some
                self.sweep()
            with nogil:
                status = heap_take(&self.c, size, hold.word, &number, &error)
            if status == FULL:
                self.sweep()
                number = self.take_later(size, hold, deadline)
            elif status == TOO_LARGE:
                raise self.too_large(size)
            elif status != OK:
                raise _heap_trouble.contradicts(self.name(), "the table")
        except BaseException:
            count_blocks(hold, -1)
            raise
        touch(self, number, size, True)
        return number

    cdef uint32_t take_later(self, uint64_t size, Hold hold, uint64_t deadline) except 0:
        cdef heap_wait_t wait
        cdef waiter_t waiter
        cdef status_t status
        waiter_init(&waiter)
        wait.heap = &self.c
        wait.size = size
        wait.held = hold.word
        wait.status = FULL
        while True:
            with nogil:
                heap_try(&wait)
                status = OK
                if wait.status == FULL:
                    status = heap_round(&wait, &waiter, deadline)
            if wait.status == OK:
                return wait.block
            if wait.status == TOO_LARGE:
                raise self.too_large(size)
            if wait.status != FULL:
                raise _heap_trouble.contradicts(self.name(), "the table")
            # Without others there is nobody to wait for.
            if status == TIMED_OUT or not self.others():
                raise self.full(format_size(size), wait.error)
            PyErr_CheckSignals()
            self.sweep()

    cdef bint others(self) except -1:
        """Whether any other process has this heap: it may let something go."""
        cdef uint32_t place
        for place in range(<uint32_t>HEAP_MEMBERS):
            if place != self.place and heap_member(&self.c, place) != 0:
                if not member_died(&self.member.own, heap_member(&self.c, place)):
                    return True
        return False

    cdef object too_large(self, uint64_t size):
        return _heap_trouble.too_large(self.name(), size, self.c.limit)

    cdef object full(self, str what, int error):
        return _heap_trouble.full(self.name(), what, self.c.header.used, self.c.limit, error)

    cdef object name(self):
        """That of its queue; None: it has none."""
        return None if self.segment is None else self.segment.name

    cdef int look_for_dead(self, uint64_t every_ns) except -1:
        """Sweeps if somebody died, and gives memory back that has lain idle, if nobody has looked for `every_ns`."""
        cdef uint64_t now = clock_ns()
        cdef bint bereaved, rests
        if now - self.looked_ns < every_ns:
            return 0
        self.looked_ns = now
        with nogil:
            bereaved = heap_bereaved(&self.c, &self.member.own)
            rests = heap_rests(&self.c, now)
        if bereaved:
            self.sweep()
        if rests:
            self.trim()
            heap_has_rested(&self.c)
        return 0

    cdef int sweep(self) except -1:
        """Undoes what the dead left, unless somebody else is at it."""
        cdef Hold hold = self.holding()
        cdef sweep_t *sweep = <sweep_t *>malloc(sizeof(sweep_t))
        if sweep == NULL:
            raise MemoryError()
        with nogil:
            heap_sweep(sweep, &self.c, &self.member.own, hold.word)
        free(sweep)
        self.looked_ns = self.swept_ns = clock_ns()
        return 0

    # --- what Python sees ----------------------------------------------------------------------------------------

    def trim(self, keep=0) -> int:
        """Gives pages of free blocks back to the system until no more than `keep` bytes are idle; how many it gave."""
        cdef Hold hold = self.holding()
        cdef uint64_t most = parse_size(keep), given
        self.sweep()
        with nogil:
            given = heap_trim(&self.c, most, hold.word)
        return given

    def allocate(self, size, timeout=0):
        """A Block of `size` bytes; for tests, and for who lays out memory of his own."""
        cdef Hold hold = self.holding()
        cdef uint64_t nbytes = parse_size(size)
        cdef Block made = self.block(self.take(nbytes, hold, deadline_of(timeout)), hold)
        made.used = made.shape = nbytes
        return made

    def collect(self) -> None:
        """Takes back what the dead have left."""
        self.sweep()

    def statistics(self) -> dict:
        """What it holds, in bytes and numbers of blocks; counted at once, and outdated at once."""
        self.enter()
        cdef uint32_t block, blocks, place
        cdef uint64_t held = 0, queued = 0, unused = 0, members = 0, bytes_held = 0, size, word
        blocks = min(<uint32_t>(load_relaxed_u64(&self.c.header.top) >> 40), self.c.blocks_most)
        for block in range(1, blocks):
            if heap_block_at(&self.c, block, &size) == NULL:
                continue
            word = load_relaxed_u64(&self.c.blocks[block].word)
            if word == 0:
                unused += 1
            else:
                bytes_held += size
                if word & 3 == 1:
                    held += 1
                else:
                    queued += 1
        for place in range(<uint32_t>HEAP_MEMBERS):
            members += heap_member(&self.c, place) != 0
        return {
            "limit": self.c.limit,
            "resident": self.c.header.resident,
            "in_use": bytes_held,
            "blocks_held": held,
            "blocks_queued": queued,
            "blocks_free": unused,
            "members": members,
            "deaths": self.c.header.deaths,
        }

    def __repr__(self) -> str:
        return f"<shmkit heap of at most {format_size(self.c.limit)}>"


# --------------------------------------------------------------------------------------------------- making and finding


cdef object make_heap(limit, name, mode, lifetime, backing, meta, init):
    """Makes a segment with a heap in it, and this process's Heap; `init(heap)` lays out what it has from the start."""
    cdef list made = []

    def format(mapping, offset):
        cdef Heap heap = new_heap(mapping)
        # While it is made, the descriptor is the maker's own.
        cdef int error = heap_format(&heap.c, heap.mapping.payload_size, most, blocks_most)
        if error == ENOSPC or error == ENOMEM:
            raise errors.NoSpace("no memory for the header of a heap")
        if error:
            raise OSError(error, f"a heap could not be laid out: {strerror(error).decode()}")
        made.append(heap)
        if init is not None:
            init(heap)

    refused = None
    for size in _heap_size.sizes(limit):
        most, span, blocks_most = size
        try:
            segment = Segment._create(
                name, span + heap_overhead(blocks_most), backing=backing, mode=mode, lifetime=lifetime,
                reserve=False, kind=SEGMENT_KIND_HEAP, meta=meta, init=format,
            )
            break
        except OSError as error:
            if error.errno not in (ENOMEM, EFBIG):
                raise
            refused = error
            made.clear()
    else:
        raise refused
    cdef Heap heap = made[0]
    return settle(heap, segment)


cdef Heap new_heap(Mapping mapping):
    cdef Heap heap = Heap.__new__(Heap)
    heap.mapping = mapping
    heap_attach(&heap.c, mapping.own.addr + mapping.payload_at, mapping.own.fd, mapping.payload_at)
    heap.c.key = lease_key(mapping.own.dev, mapping.own.inode)
    return heap


cdef Heap settle(Heap heap, object segment):
    """Takes note of a heap: a process has one for each segment."""
    cdef Mapping mapping = heap.mapping
    key = (mapping.own.dev, mapping.own.inode)
    heap.segment = segment
    heap.c.fd = mapping.own.fd
    heap.enter()

    def forget(reference):
        with cython.critical_section(_heaps):
            if _heaps.get(key) is reference:
                del _heaps[key]

    reference = ref(heap, forget)
    with cython.critical_section(_heaps):
        known = _heaps.get(key)
        found = None if known is None else known()
        if found is None:
            _heaps[key] = reference
    return heap if found is None else found


cdef list all_heaps():
    return [heap for heap in [reference() for reference in list(_heaps.values())] if heap is not None]


cdef Heap heap_in(object segment):
    """This process's Heap in a segment of that kind."""
    cdef Mapping mapping = segment.mapping
    known = _heaps.get((mapping.own.dev, mapping.own.inode))
    cdef Heap heap = None if known is None else known()
    if heap is not None:
        heap.enter()
        return heap
    heap = new_heap(mapping)
    if heap_open(&heap.c, mapping.payload_size) != OK:
        raise errors.LayoutMismatch(f"the heap of segment {segment.name!r} contradicts itself")
    return settle(heap, segment)


cdef Heap heap_of_process():
    """The heap of this process's anonymous queues: its parent's, if that had one already."""
    cdef Heap heap = become_own(None) or become_own(make_heap(None, None, 0o600, None, None, None, None))
    heap.enter()
    return heap


cdef Heap become_own(Heap heap):
    """The one that this process has, or from now on `heap` (None: there is none); not one whose file was closed."""
    global _own
    cdef Heap known
    with cython.critical_section(_heaps):
        known = None if _own is None else _own()
        if known is None or not heap_has_file(&known.c):
            known = heap
            _own = None if heap is None else ref(heap)
        return known


def process_heap() -> Heap:
    """The heap that this process's anonymous queues lie in; it goes with them, and with what came by them."""
    return heap_of_process()


def adopt(Heap heap) -> None:
    """Has this process's anonymous queues lie in `heap` from now on, unless it has one already."""
    become_own(heap)


def heap_by_key(uint64_t key, pid, fd) -> Heap:
    """This process's Heap in the file of that key (``lease_key``), which is descriptor `fd` of process `pid`.

    SegmentNotFound: this process has none there, and cannot get at it.
    """
    cdef Heap heap
    for heap in all_heaps():
        if heap.c.key == key:
            heap.enter()
            return heap
    raise errors.SegmentNotFound(
        f"a message lies in memory that this process has never been given (descriptor {fd} of process {pid}): give "
        "it the connection, pickled, and not its descriptor alone"
    )


# -------------------------------------------------------------------------------------------------------------- forks


def _before_fork():
    cdef Heap heap
    for heap in all_heaps():
        with cython.critical_section(heap):
            if heap.generation == generation[0] and heap.hold is not None and heap.hold.blocks != 0:
                if lease_bequeath(&heap.hold.lease) == 0:
                    heap.hold.family = True
                    heap.hold = None


os.register_at_fork(before=_before_fork)
