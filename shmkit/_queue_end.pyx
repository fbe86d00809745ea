# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""QueueEnd: one process's handle on a queue: how it is made, found, passed on, looked at, and let go.

A queue is a few blocks of a heap ("queue" in ``_heap_layout.h``).  Whoever has a handle has a share in keeping it: a
lease that all of them hold together, under the queue's own id.  When the last one has gone, a sweep frees the queue
and what is in it.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.fcntl cimport F_RDLCK

cimport cython

from shmkit._core cimport *
from shmkit._core_heap cimport *
from shmkit._core_watch cimport sender_close
from shmkit._deadline cimport deadline_of
from shmkit._heap cimport Heap, Hold, count_blocks, heap_in, heap_of_process, hold_of
from shmkit._map cimport fork_generation
from shmkit._membership cimport why_no_lease
from shmkit._references cimport let_go, references_in
from shmkit._tally cimport tally_of_run, wait_begins, wait_ends
from shmkit._watch cimport Watch

import os
import time
from operator import index

from shmkit import errors
from shmkit._heap import adopt
from shmkit.segment.trust import is_trusted

cdef const uint64_t *generation = fork_generation()
cdef uint64_t **tally = tally_of_run()

cdef enum:
    POLICIES = 0xf

cdef int64_t ITEMS_MOST = 2**31 - 1  # what the standard library counts to
cdef uint64_t NEVER = <uint64_t>-1
cdef tuple POLICY_NAMES = ("block", "raise", "drop_oldest", "drop_newest")

cdef list _parked = []  # shares whose references are still on their way to a receiver


# ------------------------------------------------------------------------------------------------------------ sharing


@cython.final
@cython.no_gc_clear
cdef class Share:
    """One handle's part in keeping a queue.  Forked children have it too: its lease is one page in each of them."""

    def __dealloc__(self):
        lease_drop(&self.lease)

    @property
    def number(self) -> int:
        """What the same is asked for by, in another process."""
        return self.id

    def is_held(self) -> bool:
        """Whether a process has it, but for this one, once it has dropped it (`drop`)."""
        self.heap.enter()
        return not member_died(&self.heap.member.own, self.id)

    def drop(self) -> None:
        """This process has no part in it any more."""
        lease_drop(&self.lease)


def new_share(QueueEnd queue, uint64_t number=0) -> Share:
    """A part in something that is kept beside a queue, by a number; 0: something new.

    Forked children have it too, and each drops its own.
    """
    if queue.generation != generation[0]:
        queue.enter()
    return take_share(queue.heap, number)


cdef Share take_share(Heap heap, uint64_t id):
    """A part in keeping the queue of that id; 0: a new one."""
    cdef Share share = Share.__new__(Share)
    cdef int error, _tries
    share.heap = heap
    share.id = id
    for _tries in range(8 if id == 0 else 0):
        share.id = member_new_id(os.getpid())
        if member_died(&heap.member.own, share.id):
            break  # not one that somebody has: a chance of one in 10^12; or that the kernel cannot be asked about
    error = lease_take_as(
        &share.lease, heap.member.own.fd, heap.member.own.key, LEASE_MEMBERS + <int64_t>share.id, F_RDLCK, True
    )
    if error:
        why = why_no_lease(error, heap.member.own.fd, heap.member.own.key)
        raise OSError(error, f"no lease for a queue: {why}")
    return share


cdef int park(Share share) except -1:
    """Keeps a share until the references to its queue that were pickled have been taken, or the process ends."""
    cdef Share kept
    with cython.critical_section(_parked):
        if share is not None and share.made and share.header.taken < share.header.made:
            _parked.append(share)
        for kept in list(_parked):
            if kept.header.taken >= kept.header.made and kept in _parked:
                _parked.remove(kept)
    return 0


# ---------------------------------------------------------------------------------------------------------------- end


@cython.no_gc_clear
cdef class QueueEnd:
    """The base of QueuePut, which is that of QueueBase."""

    def __cinit__(self, *args, **kwargs):
        self.generation = NEVER

    def __dealloc__(self):
        sender_close(&self.c.sender)
        if self.share is not None and not self.shut:
            park(self.share)

    # --- making and finding ----------------------------------------------------------------------------------------

    cdef int bind(self, Share share) except -1:
        cdef uint64_t size
        cdef queue_header_t *header = <queue_header_t *>heap_block_at(&share.heap.c, share.block, &size)
        cdef bint sound = header != NULL and size >= sizeof(queue_header_t)
        if not sound or queue_open(&self.c, &share.heap.c, header, share.id) != OK:
            raise errors.LayoutMismatch(f"{self._label()} contradicts itself, or is gone")
        share.header = header
        self.heap = share.heap
        self.share = share
        self.policy = header.flags & POLICIES
        self.pickles = believed(share.heap)
        self.shut = False
        self.generation = NEVER
        return self.enter()

    cdef int enter(self) except -1:
        """Raises Closed; takes note of who this process is, anew in a forked child."""
        if self.shut:
            raise errors.Closed(f"{self._label()} is closed")
        if self.share is None:
            raise TypeError(f"{type(self).__name__}.__init__ was not called")
        self.heap.enter()
        with cython.critical_section(self):
            if self.generation != generation[0] and not self.shut:
                self.c.member = self.heap.place
                self.items_watch = self.room_watch = None  # they are of the process that forked
                self.generation = generation[0]
        return 0

    cdef Hold hold(self):
        if self.generation != generation[0]:
            self.enter()
        return hold_of(self.heap)

    @cython.critical_section
    cdef Share kept(self):
        """The share, for a wait: the queue's memory stays the queue's as long as the caller has it.  Closed."""
        if self.shut or self.generation != generation[0]:
            self.enter()
        return self.share

    # Whoever is in the handle's critical section with one of these finds that it is not closed, and that its words are
    # this process's: so the queue's memory is the queue's until the section is left.

    cdef inline int usable(self) except -1:
        if self.generation != generation[0]:
            self.enter()
        return 0

    cdef inline int bear(self, Hold hold) except -1:
        """What is got or put next is held under that."""
        self.usable()
        self.c.held = hold.word
        return 0

    cdef int settle_items(self) except -1:
        """What the descriptor says, once something was got."""
        with cython.critical_section(self):
            if self.items_watch is not None:
                self.items_watch.settle()
        return 0

    cdef int empty_watch(self, bint room) except -1:
        """Nothing was there to be got (`room`: no room): the descriptor says so."""
        cdef Watch watch
        with cython.critical_section(self):
            watch = self.room_watch if room else self.items_watch
            if watch is not None:
                watch.empty()
        return 0

    def _make(self, maxsize, backpressure, heap):
        """Makes a queue in `heap` (None: in that of this process)."""
        cdef uint64_t most = QUEUE_UNBOUNDED
        cdef uint32_t flags, block
        cdef int error = 0
        cdef Heap home
        cdef Hold hold
        cdef Share share
        cdef status_t status
        if self.share is not None:
            raise TypeError(f"{type(self).__name__}.__init__ called again")
        if backpressure not in POLICY_NAMES:
            raise ValueError(f"backpressure must be one of {', '.join(POLICY_NAMES)}: got {backpressure!r}")
        maxsize = index(maxsize)
        if maxsize > ITEMS_MOST:
            raise OverflowError(f"a queue's maxsize is at most {ITEMS_MOST}: got {maxsize}")
        if maxsize > 0:
            most = maxsize
        elif backpressure != "block":
            raise ValueError(f"a queue without a maxsize is never full: got backpressure {backpressure!r}")
        flags = POLICY_NAMES.index(backpressure) | (JOINABLE if counts_tasks(self) else 0)
        park(None)
        home = heap_of_process() if heap is None else heap
        hold = home.holding()
        share = take_share(home, 0)
        block = home.take(sizeof(queue_header_t), hold, clock_ns())
        memset(&self.c, 0, sizeof(queue_t))
        self.c.heap = &home.c
        self.c.held = hold.word
        self.c.member = home.place
        status = queue_format(&self.c, block, share.id, most, flags, &error)
        if status != OK:
            home.drop(block, hold)
            raise home.full("a queue", error)
        count_blocks(hold, -1)
        share.block = block
        self.bind(share)
        return block

    def _find(self, heap, block, number):
        """Comes to have the queue that is in that block."""
        cdef Heap home = heap
        cdef Share share
        cdef int _tries
        home.enter()
        share = take_share(home, number)
        share.block = block
        for _tries in range(100):
            # One who sweeps may look, this very moment, whether anybody has the queue: it finds this share, then.
            if heap_word(&home.c, block) == block_held(number):
                break
            # If that one was killed right there, this sweep gives the queue back, and the next look finds it.  If it
            # lives, or another is at such a sweep, this one does nothing, and the other needs the core: nobody is told
            # when the word changes, as it is looked at for microseconds.  One who is stopped there must not hold this
            # process up for ever.
            home.sweep()
            time.sleep(0.001)
        else:
            raise errors.SegmentNotFound(f"{self._label()} is gone: nobody had it any more")
        self.bind(share)

    def __reduce__(self):
        cdef Share share = self.kept()
        if self._name() is None:
            _assert_spawning(self)
            share.made = True
            add_relaxed_u64(&share.header.made, 1)  # relaxed: a count
        return _restore, (type(self), self._name(), self.heap.segment, share.block, share.id)

    def _name(self):
        return self.heap.segment.name if self.heap is not None and self.heap.segment is not None else None

    def _label(self):
        name = None if self.heap is None else self._name()
        return f"the anonymous {type(self).__name__}" if name is None else f"{type(self).__name__} {name!r}"

    # --- what it is --------------------------------------------------------------------------------------------------

    @cython.critical_section
    def qsize(self) -> int:
        """How many items are in it; others may change that at once."""
        if self.generation != generation[0]:
            self.enter()
        return queue_size(&self.c)

    @cython.critical_section
    def empty(self) -> bool:
        """Whether nothing is in it; others may change that at once."""
        if self.generation != generation[0]:
            self.enter()
        return queue_size(&self.c) == 0

    @cython.critical_section
    def full(self) -> bool:
        """Whether a put would have to wait; others may change that at once."""
        if self.generation != generation[0]:
            self.enter()
        return self.c.most != QUEUE_UNBOUNDED and queue_size(&self.c) >= self.c.most

    def shutdown(self, immediate=False) -> None:
        """Have all further `put` raise ShutDown, here and elsewhere, and `get` too once nothing is left.

        With `immediate` what is in it is removed, and tasks that were not declared done count as done.
        """
        cdef Hold hold = self.hold()
        with cython.critical_section(self):
            self.bear(hold)
            queue_shut(&self.c, QUEUE_VOID if immediate else QUEUE_SHUT)
        if immediate:
            self.drain()

    cdef int drain(self) except -1:
        """Removes all that is in it, as what is done."""
        cdef Hold hold
        cdef status_t status = OK
        while status == OK:
            hold = self.hold()
            status = self.drop_one(hold, True)
        if status != EMPTY:
            raise self.corrupt()
        return 0

    cdef status_t drop_one(self, Hold hold, bint orphans) except *:
        """Drops what is oldest; what it refers to is not under way any more.  OK; EMPTY; CORRUPT."""
        cdef taken_t taken
        cdef item_t item
        cdef uint64_t size = 0
        cdef uint8_t *body
        cdef list references = None
        cdef status_t status
        with cython.critical_section(self):
            self.bear(hold)
            status = queue_take(&self.c, &taken, orphans)
            if status != OK:
                return status
            try:
                if queue_look(&self.c, &taken, &item) == OK and item.flags & ITEM_REFERS:
                    body = <uint8_t *>heap_block_at(&self.heap.c, item.block, &size) if item.block else NULL
                    references = references_in(item.head, item.head_size, body, min(size, item.body_size))
            finally:
                queue_drop_taken(&self.c, &taken)
        if references is not None:
            let_go(references)
        return OK

    cdef object corrupt(self):
        return errors.RecordCorrupt(f"an item of {self._label()} contradicts itself; it is lost")

    cdef int discard(self, uint32_t block, Hold hold) except -1:
        """Lets the block of an item go that this process did not put; 0: it has none."""
        if block != 0:
            self.heap.drop(block, hold)
        return 0

    @cython.critical_section
    def _task_done(self):
        if self.generation != generation[0]:
            self.enter()
        if queue_task_done(&self.c) == NOT_HELD:
            raise ValueError("task_done() called too many times")

    def _join(self, timeout=None):
        cdef waiter_t waiter
        cdef status_t status
        cdef uint64_t deadline = deadline_of(timeout), since
        cdef Share _kept = self.kept()
        waiter_init(&waiter)
        while not queue_is_done(&self.c):
            if load_relaxed_u32(&self.c.header.state) == QUEUE_VOID:  # relaxed: it never opens again
                # Whoever shut it may have been killed, and somebody else have been putting an item.
                self.drain()
                if queue_is_done(&self.c):
                    break
            since = wait_begins(tally)
            with nogil:
                status = queue_done_round(&self.c, &waiter, deadline)
            wait_ends(tally, since)
            if status == OK or status == TIMED_OUT:
                return status == OK
            PyErr_CheckSignals()
            if self.shut or self.generation != generation[0]:
                self.enter()
            if status == SLICE_OVER:
                self.heap.look_for_dead(LOOK_EVERY_NS)
        return True

    def _unlink(self):
        self.heap.segment.unlink()

    def close(self) -> None:
        """End the use of this handle; what is in the queue stays, for others.  Idempotent.

        Arrays that were received stay valid.  An anonymous queue goes with its last handle, and with it what is in it.
        """
        cdef Share share
        with cython.critical_section(self):
            if self.shut or self.share is None:
                return
            self.shut = True
            self.generation = NEVER
            self.items_watch = self.room_watch = None
            share = self.share
            self.share = None
        park(share)

    def _forget_references(self) -> None:
        """What was pickled of it will not arrive any more: whoever was sent it has ended."""
        with cython.critical_section(self):
            if self.share is not None:
                self.share.made = False

    @property
    def closed(self) -> bool:
        """Whether this handle was closed."""
        return self.shut

    @property
    @cython.critical_section
    def rings(self) -> int:
        """How many rings of cells it has made: it keeps them, for the next time that it is as long."""
        cdef int ring
        if self.generation != generation[0]:
            self.enter()
        return sum([queue_ring(&self.c, ring) != 0 for ring in range(QUEUE_RINGS)])

    def statistics(self) -> dict:
        """Counts since it was made, and what its heap holds (see `Heap.statistics`)."""
        cdef dict counts = self.counts()
        counts["heap"] = self.heap.statistics()
        return counts

    @cython.critical_section
    cdef dict counts(self):
        if self.generation != generation[0]:
            self.enter()
        cdef uint64_t put = (load_relaxed_u64(&self.c.header.tail) >> 8) - self.c.first_ticket
        cdef uint64_t skipped = load_relaxed_u64(&self.c.header.skipped)
        cdef uint64_t size = queue_size(&self.c)
        put -= min(put, skipped)
        return {
            "items": size,
            "put": put,
            "got": put - min(put, size + load_relaxed_u64(&self.c.header.removed)),
            "dropped": load_relaxed_u64(&self.c.header.dropped),
            "lost_to_deaths": skipped,
            "maxsize": 0 if self.c.most == QUEUE_UNBOUNDED else self.c.most,
        }

    def __repr__(self) -> str:
        what = "closed " if self.shut else ""
        name = None if self.heap is None else self._name()
        return f"<{what}shmkit.{type(self).__name__} object{'' if name is None else f' {name!r}'} at {id(self):#x}>"


def _assert_spawning(queue):
    from multiprocessing.context import assert_spawning
    assert_spawning(queue)


def _restore(kind, name, segment, block, id):
    """What a pickle calls."""
    cdef QueueEnd made = kind.__new__(kind)
    cdef Heap heap = heap_in(segment)
    if name is None:
        adopt(heap)
    made._find(heap, block, id)
    if name is None:
        add_relaxed_u64(&made.share.header.taken, 1)  # relaxed: a count
    return made


cdef bint believed(Heap heap) except -1:
    """Whether pickles are, that lie in it: nobody else may have written them."""
    if heap.trust == 0 and heap.segment is not None:  # None: it is just being made
        heap.trust = 1 if is_trusted(heap.segment) else -1
    return heap.trust > 0


cdef bint counts_tasks(QueueEnd queue) except -1:
    """Whether what is got from it is to be declared done."""
    return getattr(queue, "_counts_tasks", False)
