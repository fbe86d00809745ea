# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Queues: many producers, many consumers, any Python object, and nobody's death stops the others.

The cells and the protocol are in ``_cells.h`` ("queue" in ``_heap_layout.h``).  What an item becomes is said by ``_codec.pyx``: a
head, which stands in a cell, and for what is larger a body, which is copied once, into a block of the heap; whoever gets the item
owns the block.  Nothing is pickled or copied while a cell is claimed, and no lock is held while anybody waits.

Any thread may call anything at any time; a forked child goes on under its own name.
"""

from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_REFCNT
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset, strerror
from posix.fcntl cimport F_RDLCK

cimport cython
cimport numpy as cnp

from shmkit._decode cimport unpack
from shmkit._encode cimport Parcel, array_owner, pack_lent, pack_small
from shmkit._core cimport *
from shmkit._core_heap cimport *
from shmkit._heap cimport Block, Heap, Hold, heap_in, heap_of_process, make_heap
from shmkit._map cimport fork_generation
from shmkit._primitive cimport SPIN_WITH_GIL_NS, deadline_of

import os
import sys
import time
import weakref

from shmkit import errors
from shmkit._heap import adopt
from shmkit.segment import Segment

cdef const uint64_t *generation = fork_generation()

cdef enum:
    LOOK_EVERY = 4096            # gets, between two looks for the dead
    LOOK_EVERY_NS = 100_000_000
    IDLE_NS = 2_000_000_000      # a wait of that length gives idle memory back
    BATCH = 64
    POLICIES = 0xf

cdef uint64_t NEVER = <uint64_t>-1
cdef uint32_t JOINABLE = 16
cdef tuple POLICY_NAMES = ("block", "raise", "drop_oldest", "drop_newest")
cdef enum:
    POLICY_BLOCK = 0
    POLICY_RAISE = 1
    POLICY_DROP_OLDEST = 2
    POLICY_DROP_NEWEST = 3

cnp.import_array()

# Whether the count of references says who can see an object: not without a GIL, nor where the interpreter borrows references.
cdef bint COUNTS_ALL = sys.version_info < (3, 14) and getattr(sys, "_is_gil_enabled", lambda: True)()

cdef list _parked = []  # shares whose references are still on their way to a receiver


# ------------------------------------------------------------------------------------------------------------ sharing


@cython.final
@cython.no_gc_clear
cdef class Share:
    """One handle's part in keeping a queue.  Forked children have it too: its lease is one page in each of them."""

    def __dealloc__(self):
        lease_drop(&self.lease)


cdef Share take_share(Heap heap, uint64_t id):
    """A part in keeping the queue of that id; 0: a new one."""
    cdef Share share = Share.__new__(Share)
    cdef int error
    share.heap = heap
    share.id = id
    while share.id == 0 or (id == 0 and not member_died(&heap.member.own, share.id)):
        share.id = member_new_id(os.getpid())  # not one that somebody has: a chance of one in 10^12
    error = lease_take_as(
        &share.lease, heap.member.own.fd, heap.member.own.key, LEASE_MEMBERS + <int64_t>share.id, F_RDLCK, True
    )
    if error:
        raise OSError(error, f"no lease for a queue: {strerror(error).decode()}")
    return share


cdef int park(Share share) except -1:
    """Keeps a share until the references to its queue that were pickled have been taken, or the process ends."""
    cdef Share kept
    if share is not None and share.made and share.header.taken < share.header.made:
        _parked.append(share)
    for kept in list(_parked):
        if kept.header.taken >= kept.header.made:
            _parked.remove(kept)
    return 0


# --------------------------------------------------------------------------------------------------------------- base


@cython.no_gc_clear
cdef class QueueBase:
    """The base of Queue, SimpleQueue and JoinableQueue; see there."""

    def __cinit__(self, *args, **kwargs):
        self.generation = NEVER

    def __dealloc__(self):
        if self.share is not None and not self.shut:
            park(self.share)

    # --- making and finding ----------------------------------------------------------------------------------------

    cdef int bind(self, Share share) except -1:
        cdef uint64_t size
        cdef queue_header_t *header = <queue_header_t *>heap_block_at(&share.heap.c, share.block, &size)
        if header == NULL or size < sizeof(queue_header_t) or queue_open(&self.c, &share.heap.c, header, share.id) != OK:
            raise errors.LayoutMismatch(f"{self._label()} contradicts itself, or is gone")
        share.header = header
        self.heap = share.heap
        self.share = share
        self.policy = header.flags & POLICIES
        self.pickles = True
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
        self.c.member = self.heap.place
        self.generation = generation[0]
        return 0

    cdef Hold hold(self):
        cdef Hold hold
        if self.generation != generation[0]:
            self.enter()
        hold = self.heap.hold
        if hold is None:
            hold = self.heap.holding()
        self.c.held = hold.word
        return hold

    def _make(self, maxsize, backpressure, heap, joinable=False):
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
        if maxsize > 0:
            most = min(maxsize, <object>QUEUE_UNBOUNDED - 1)
        elif backpressure != "block":
            raise ValueError(f"a queue without a maxsize is never full: got backpressure {backpressure!r}")
        flags = POLICY_NAMES.index(backpressure) | (JOINABLE if joinable else 0)
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
            raise home.full(1 << 13, error)
        hold.blocks -= 1
        share.block = block
        self.bind(share)
        return block

    def _find(self, heap, block, id):
        """Comes to have the queue that is in that block."""
        cdef Heap home = heap
        cdef Share share
        cdef int tries
        home.enter()
        share = take_share(home, id)
        share.block = block
        for tries in range(100):
            # One who sweeps may look, this very moment, whether anybody has the queue: it finds this share, then.
            if heap_word(&home.c, block) == block_held(id):
                break
            time.sleep(0.001)
        else:
            raise errors.SegmentNotFound(f"{self._label()} is gone: nobody had it any more")
        self.bind(share)

    def __reduce__(self):
        if self.generation != generation[0]:
            self.enter()
        if self._name() is None:
            _assert_spawning(self)
            self.share.made = True
            add_relaxed_u64(&self.share.header.made, 1)  # relaxed: a count
        return _restore, (type(self), self._name(), self.heap.segment, self.share.block, self.share.id)

    def _name(self):
        return self.heap.segment.name if self.heap is not None and self.heap.segment is not None else None

    def _label(self):
        name = None if self.heap is None else self._name()
        return f"the anonymous {type(self).__name__}" if name is None else f"{type(self).__name__} {name!r}"

    # --- putting ---------------------------------------------------------------------------------------------------

    def put(self, obj, block=True, timeout=None, *, bint move=False) -> None:
        """Put `obj`; wait for room in a queue that has a maxsize, unless `block` is false, at most `timeout` seconds.

        What is received is a copy, except of a SharedArray.  With `move` an array that was itself received from a queue is handed on
        without a copy, and is empty afterwards; one that has views, or other names, is copied all the same.

        Full; HeapFull (a Full) where there is no memory for it; ValueError (Closed) if this handle was closed; ShutDown;
        what pickling raises, if it cannot be pickled.
        """
        cdef item_t item
        cdef int size, error = 0
        cdef status_t status
        if self.generation != generation[0]:
            self.enter()
        size = pack_small(obj, item.head, CELL_HEAD)
        if size <= 0:
            self.put_large(obj, block, timeout, move)
            return
        item.head_size = size
        item.flags = 0
        item.block = 0
        item.body_size = 0
        if self.heap.hold is None:
            self.heap.holding()
        self.c.held = self.heap.hold.word
        status = queue_put(&self.c, &item, &error)
        if status != OK:
            if status != FULL or error:
                self.refused(status, error)
            self.send(&item, None, deadline_of(timeout), block)

    def put_nowait(self, obj) -> None:
        """`put(obj, False)`."""
        self.put(obj, False)

    cdef status_t refused(self, status_t status, int error) except *:
        """Raises what a put that cannot be done means; FULL is returned."""
        if status == FULL and error == 0:
            return status
        if status == CLOSED:
            raise errors.ShutDown(f"{self._label()} was shut down")
        if status == CORRUPT:
            raise errors.RecordCorrupt(f"{self._label()} contradicts itself")
        if status == TOO_MANY:
            raise errors.HeapFull(f"{self._label()} has as many items as a queue can have: {queue_size(&self.c)}")
        raise self.heap.full(1 << 16, error)

    cdef int send(self, item_t *item, Hold hold, uint64_t deadline, bint block) except -1:
        """Puts an item that is packed, after waiting for room.  Full."""
        cdef waiter_t waiter
        cdef status_t status
        cdef int error = 0
        cdef item_t old
        waiter_init(&waiter)
        if self.spin_room_ns:
            waiter.spin_ns = self.spin_room_ns
        while True:
            self.hold()
            if hold is not None:
                self.c.held = hold.word
            status = queue_put(&self.c, item, &error)
            if status == OK:
                self.spin_room_ns = waiter.spin_ns
                return 0
            self.refused(status, error)
            if self.policy == POLICY_DROP_NEWEST:
                add_relaxed_u64(&self.c.header.dropped, 1)  # relaxed: a count
                self.discard(item, hold)
                return 0
            if self.policy == POLICY_DROP_OLDEST:
                if queue_get(&self.c, &old) == OK:
                    add_relaxed_u64(&self.c.header.dropped, 1)  # relaxed: a count
                    self.discard(&old, None)
                continue
            if not block or self.policy == POLICY_RAISE:
                raise errors.Full(f"{self._label()} is full: it has {self.c.most} items")
            if waiter.begun_ns == 0 and queue_spin_room(&self.c, SPIN_WITH_GIL_NS):
                continue
            while True:
                with nogil:
                    status = queue_room_round(&self.c, &waiter, deadline)
                if status == OK:
                    break
                if status == TIMED_OUT:
                    raise errors.Full(f"{self._label()} is full: no room came in time")
                PyErr_CheckSignals()
                if self.shut or self.generation != generation[0]:
                    self.enter()
                if status == SLICE_OVER:
                    self.heap.look_for_dead(LOOK_EVERY_NS)

    cdef int discard(self, item_t *item, Hold hold) except -1:
        """Lets an item go that this process has got (`hold` None), or did not put."""
        if item.block != 0:
            if hold is None:
                heap_drop(&self.heap.c, item.block, self.c.held)
            else:
                self.heap.drop(item.block, hold)
        return 0

    cdef int put_large(self, object obj, object block, object timeout, bint move) except -1:
        """Puts what does not fit into a cell, or is not encoded natively."""
        cdef item_t item
        cdef Parcel parcel
        cdef Hold hold
        cdef uint64_t deadline
        cdef uint64_t size
        cdef int error = 0
        cdef status_t status
        item.flags = 0
        item.block = 0
        owner = array_owner(obj)
        if owner is not None and self.put_again(obj, owner, block, timeout, move):
            return 0
        parcel = Parcel.__new__(Parcel)
        try:
            parcel.pack(obj, item.head, CELL_HEAD)
            deadline = deadline_of(timeout) if block else clock_ns()
            hold = self.hold()
            item.head_size = <uint32_t>parcel.head_size
            item.body_size = parcel.body_size
            if item.body_size:
                if self.c.most != QUEUE_UNBOUNDED and self.policy < POLICY_DROP_OLDEST and not queue_has_room(&self.c):
                    self.wait_room(deadline, block)
                    hold = self.hold()
                item.block = self.heap.take(item.body_size, hold, deadline)
                try:
                    parcel.write(<unsigned char *>heap_block_at(&self.heap.c, item.block, &size))
                    self.send(&item, hold, deadline, block)
                except BaseException:
                    self.heap.drop(item.block, hold)
                    raise
                if item.block != 0:
                    hold.blocks -= 1
            else:
                self.send(&item, hold, deadline, block)
        finally:
            parcel.clear()
        return 0

    cdef bint put_again(self, object obj, object owner, object block, object timeout, bint move) except -1:
        """Hands on the block of an array that was received, without a copy, if nobody can see it any more."""
        cdef item_t item
        cdef Block given
        cdef int head_size
        if type(owner) is not Block or (<Block>owner).heap is not self.heap or (<Block>owner).hold.family:
            return False
        given = owner
        # One reference less than is_unseen is told of: this function's own.
        if not is_unseen(obj, owner, move):
            return False
        head_size = pack_lent(obj, <char *>cnp.PyArray_DATA(obj) - given.at, item.head, CELL_HEAD)
        if head_size <= 0:
            return False
        item.flags = 0
        item.head_size = head_size
        item.body_size = given.used
        item.block = given.number
        self.send(&item, given.hold, deadline_of(timeout) if block else clock_ns(), block)
        # From here on it is the receiver's.
        given.number = 0
        given.hold.blocks -= 1
        if move:
            make_empty(obj)
        return True

    cdef int wait_room(self, uint64_t deadline, bint block) except -1:
        """Waits until there is room, perhaps: before memory is taken for what has to wait.  Full."""
        cdef waiter_t waiter
        cdef status_t status = TIMED_OUT
        waiter_init(&waiter)
        if self.spin_room_ns:
            waiter.spin_ns = self.spin_room_ns
        if queue_spin_room(&self.c, SPIN_WITH_GIL_NS):
            return 0
        while block and self.policy == POLICY_BLOCK:
            with nogil:
                status = queue_room_round(&self.c, &waiter, deadline)
            if status == OK:
                self.spin_room_ns = waiter.spin_ns
                return 0
            if status == TIMED_OUT:
                break
            PyErr_CheckSignals()
            if self.shut or self.generation != generation[0]:
                self.enter()
            if status == SLICE_OVER:
                self.heap.look_for_dead(LOOK_EVERY_NS)
        raise errors.Full(f"{self._label()} is full: it has {self.c.most} items")

    def put_many(self, items, block=True, timeout=None) -> None:
        """Put all of `items`, in their order, each as `put` does; other producers' items may come between.

        Full says in ``sent`` how many were put before there was no room in time.
        """
        cdef item_t item
        cdef int size, error = 0
        cdef status_t status
        cdef int64_t sent = 0
        cdef uint64_t deadline = deadline_of(timeout)
        if self.generation != generation[0]:
            self.enter()
        item.flags = 0
        item.block = 0
        item.body_size = 0
        self.hold()
        try:
            for obj in items:
                size = pack_small(obj, item.head, CELL_HEAD)
                if size > 0:
                    item.head_size = size
                    status = queue_put(&self.c, &item, &error)
                    if status != OK:
                        if status != FULL or error:
                            self.refused(status, error)
                        self.send(&item, None, deadline, block)
                else:
                    self.put_large(obj, block, None if timeout is None else _left(deadline), False)
                sent += 1
        except errors.Full as trouble:
            trouble.sent = sent
            raise

    # --- getting ---------------------------------------------------------------------------------------------------

    def get(self, block=True, timeout=None):
        """Remove an item and return it; wait for one, unless `block` is false, at most `timeout` seconds.

        Empty; ValueError (Closed) if this handle was closed; ShutDown if the queue was, and nothing is left in it; what
        unpickling raises.
        """
        cdef item_t item
        cdef Hold hold
        if self.generation != generation[0]:
            self.enter()
        hold = self.heap.hold
        if hold is None:
            hold = self.heap.holding()
        self.c.held = hold.word
        cdef status_t status = queue_get(&self.c, &item)
        if status != OK:
            if status == CORRUPT:
                raise errors.RecordCorrupt(f"an item of {self._label()} contradicts itself; it is lost")
            if not self.fetch(&item, deadline_of(timeout), block):
                raise errors.Empty(f"{self._label()} is empty")
            hold = self.heap.hold
        if item.block == 0:
            return unpack(item.head, item.head_size, NULL, 0, None, self.pickles)
        return self.open_item(&item, hold)

    def get_nowait(self):
        """`get(False)`."""
        return self.get(False)

    cdef object open_item(self, item_t *item, Hold hold):
        """The object that an item is; its block, if it has one, is this process's."""
        cdef Block owner
        self.operations += 1
        if self.operations % LOOK_EVERY == 0:
            self.heap.look_for_dead(LOOK_EVERY_NS)
        if item.block == 0:
            return unpack(item.head, item.head_size, NULL, 0, None, self.pickles)
        hold.blocks += 1
        owner = self.heap.block(item.block, hold)
        if item.body_size > owner.size:
            raise errors.RecordCorrupt(
                f"an item of {self._label()} says that it has {item.body_size} bytes in a block of {owner.size}; it is lost"
            )
        owner.used = item.body_size
        owner.shape = item.body_size
        return unpack(item.head, item.head_size, <unsigned char *>owner.at, item.body_size, owner, self.pickles)

    cdef bint fetch(self, item_t *item, uint64_t deadline, bint block) except -1:
        """Gets an item after waiting for one; False if none came in time.  The queue's hold is that of the heap then."""
        cdef waiter_t waiter
        cdef status_t status
        cdef bint trimmed = False
        waiter_init(&waiter)
        if self.spin_items_ns:
            waiter.spin_ns = self.spin_items_ns
        if block:
            queue_spin_items(&self.c, SPIN_WITH_GIL_NS)
        cdef uint64_t since = clock_ns()
        while True:
            self.hold()
            status = queue_get(&self.c, item)
            if status == OK:
                self.spin_items_ns = waiter.spin_ns
                return True
            if status == CORRUPT:
                raise errors.RecordCorrupt(f"an item of {self._label()} contradicts itself; it is lost")
            if load_relaxed_u32(&self.c.header.state) != QUEUE_OPEN:  # relaxed: it never opens again
                raise errors.ShutDown(f"{self._label()} was shut down")
            if not block:
                # Perhaps what is there is in the hands of somebody who died.
                self.operations += 1
                if self.operations % LOOK_EVERY == 0:
                    self.heap.look_for_dead(LOOK_EVERY_NS)
                return False
            while True:
                with nogil:
                    status = queue_items_round(&self.c, &waiter, deadline)
                if status == OK:
                    break
                if status == TIMED_OUT:
                    return False
                PyErr_CheckSignals()
                if self.shut or self.generation != generation[0]:
                    self.enter()
                if status == SLICE_OVER:
                    self.heap.look_for_dead(LOOK_EVERY_NS)
                    if not trimmed and clock_ns() - since > IDLE_NS:
                        trimmed = True
                        self.heap.trim()
                    break

    def get_many(self, max_messages_to_get=1000, block=True, timeout=None) -> list:
        """Remove up to so many items and return them as a list: what is there, and at least one.

        Waits for the first one as `get` does.  Empty, ShutDown.
        """
        cdef item_t item
        cdef Hold hold
        cdef status_t status
        cdef int64_t left = min(max(max_messages_to_get, 1), 1 << 40)
        cdef list found = []
        if self.generation != generation[0]:
            self.enter()
        hold = self.hold()
        while left:
            status = queue_get(&self.c, &item)
            if status == EMPTY:
                if found:
                    break
                if not self.fetch(&item, deadline_of(timeout), block):
                    raise errors.Empty(f"{self._label()} is empty")
                hold = self.heap.hold
            elif status == CORRUPT:
                if found:
                    break  # the next call says so
                raise errors.RecordCorrupt(f"an item of {self._label()} contradicts itself; it is lost")
            if item.block == 0:
                found.append(unpack(item.head, item.head_size, NULL, 0, None, self.pickles))
            else:
                found.append(self.open_item(&item, hold))
                hold = self.hold()
            left -= 1
        return found

    # --- what it is --------------------------------------------------------------------------------------------------

    def qsize(self) -> int:
        """How many items are in it; others may change that at once."""
        if self.generation != generation[0]:
            self.enter()
        return queue_size(&self.c)

    def empty(self) -> bool:
        """Whether nothing is in it; others may change that at once."""
        if self.generation != generation[0]:
            self.enter()
        return queue_size(&self.c) == 0

    def full(self) -> bool:
        """Whether a put would have to wait; others may change that at once."""
        if self.generation != generation[0]:
            self.enter()
        return self.c.most != QUEUE_UNBOUNDED and queue_size(&self.c) >= self.c.most

    def shutdown(self, immediate=False) -> None:
        """Have all further `put` raise ShutDown, here and elsewhere, and `get` too once nothing is left.

        With `immediate` what is in it is removed, and tasks that were not declared done count as done.
        """
        cdef item_t item
        self.hold()
        queue_shut(&self.c, QUEUE_VOID if immediate else QUEUE_SHUT)
        while immediate and queue_get(&self.c, &item) != EMPTY:
            self.discard(&item, None)
            queue_task_done(&self.c)

    def _task_done(self):
        if self.generation != generation[0]:
            self.enter()
        if queue_task_done(&self.c) == NOT_HELD:
            raise ValueError("task_done() called too many times")

    def _join(self, timeout=None):
        cdef waiter_t waiter
        cdef status_t status
        cdef uint64_t deadline = deadline_of(timeout)
        waiter_init(&waiter)
        if self.generation != generation[0]:
            self.enter()
        while not queue_is_done(&self.c):
            with nogil:
                status = queue_done_round(&self.c, &waiter, deadline)
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
        if self.shut or self.share is None:
            return
        self.shut = True
        self.generation = NEVER
        cdef Share share = self.share
        self.share = None
        park(share)

    @property
    def closed(self) -> bool:
        """Whether this handle was closed."""
        return self.shut

    @property
    def rings(self) -> int:
        """How many rings of cells it has made: it keeps them, for the next time that it is as long."""
        cdef int ring
        if self.generation != generation[0]:
            self.enter()
        return sum([queue_ring(&self.c, ring) != 0 for ring in range(QUEUE_RINGS)])

    def statistics(self) -> dict:
        """Counts since it was made, and what its heap holds (see `Heap.statistics`)."""
        if self.generation != generation[0]:
            self.enter()
        cdef uint64_t put = (load_relaxed_u64(&self.c.header.tail) >> 8) - self.c.first_ticket
        cdef uint64_t skipped = load_relaxed_u64(&self.c.header.skipped)
        cdef uint64_t size = queue_size(&self.c)
        put -= min(put, skipped)
        return {
            "items": size,
            "put": put,
            "got": put - min(put, size),
            "dropped": load_relaxed_u64(&self.c.header.dropped),
            "lost_to_deaths": skipped,
            "maxsize": 0 if self.c.most == QUEUE_UNBOUNDED else self.c.most,
            "heap": self.heap.statistics(),
        }

    def __repr__(self) -> str:
        what = "closed " if self.shut else ""
        name = None if self.heap is None else self._name()
        return f"<{what}shmkit.{type(self).__name__} object{'' if name is None else f' {name!r}'} at {id(self):#x}>"


cdef bint is_unseen(cnp.ndarray array, Block owner, bint move) except -1:
    """Whether nobody can see the array, or its memory, once the call that it was passed to is over.

    The caller's stack has one reference to what it passes, and where that is a variable's value the variable another;
    who says `move` gives the variable up.
    """
    if not COUNTS_ALL:
        return move
    if cnp.get_array_base(array) is not owner or weakref.getweakrefcount(array):
        return False
    # Of the owner: the array's, and this call's; two, as `owner` is passed on.
    return Py_REFCNT(array) <= 1 + move and Py_REFCNT(owner) <= 2


cdef int make_empty(cnp.ndarray array) except -1:
    """Takes the elements from an array whose memory has gone to somebody else."""
    cdef int axis
    for axis in range(cnp.PyArray_NDIM(array)):
        cnp.PyArray_DIMS(array)[axis] = 0
    return 0


cdef object _left(uint64_t deadline):
    cdef uint64_t now = clock_ns()
    return (deadline - now) / 1e9 if deadline > now else 0.0


def _assert_spawning(queue):
    from multiprocessing.context import assert_spawning
    assert_spawning(queue)


def _restore(kind, name, segment, block, id):
    """What a pickle calls."""
    cdef QueueBase made = kind.__new__(kind)
    cdef Heap heap = heap_in(segment)
    if name is None:
        adopt(heap)
    made._find(heap, block, id)
    if name is None:
        add_relaxed_u64(&made.share.header.taken, 1)  # relaxed: a count
    return made


def create_named(QueueBase made, name, maxsize, capacity, backpressure, backing, mode, lifetime):
    """Makes a queue in a heap of its own."""
    if name is None:
        raise TypeError(f"{type(made).__name__}.create needs a name; {type(made).__name__}() makes an anonymous one")

    def init(Heap heap):
        heap.enter()
        heap.c.header.queue = made._make(maxsize, backpressure, heap)

    made.pickles = True
    make_heap(capacity, name, mode, lifetime, backing, {"queue": type(made).__name__}, init)


def find_named(QueueBase found, name, backing, owner):
    """Comes to have the queue of that name."""
    segment = Segment._attach(name, backing=backing, owner=owner, kind=SEGMENT_KIND_HEAP)
    cdef Heap heap = heap_in(segment)
    cdef uint64_t size
    cdef uint32_t block = <uint32_t>heap.c.header.queue
    cdef queue_header_t *header = <queue_header_t *>heap_block_at(&heap.c, block, &size)
    if header == NULL or size < sizeof(queue_header_t):
        raise errors.LayoutMismatch(f"segment {name!r} has no queue in it")
    found._find(heap, block, header.id)
