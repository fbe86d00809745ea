# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""QueuePut: putting into a queue.

An item is packed first, in private memory; what is too large for a cell is copied into a block of the heap; only then
is a cell claimed, for as long as it takes to copy a hundred bytes.
"""

from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_REFCNT
from libc.stdint cimport int64_t, uint32_t, uint64_t

cimport cython
cimport numpy as cnp

from shmkit._core cimport *
from shmkit._core_heap cimport *
from shmkit._codes cimport CODE_SHARED
from shmkit._deadline cimport check_timeout, deadline_of
from shmkit._decode_arrays cimport array_owner
from shmkit._encode cimport Parcel, pack_lent, pack_small, take_back
from shmkit._heap cimport Block, Hold, count_blocks, word_of
from shmkit._map cimport fork_generation
from shmkit._primitive cimport SPIN_WITH_GIL_NS
from shmkit._queue_end cimport *
from shmkit._queue_end cimport QueueEnd, Share
from shmkit._references cimport let_go, references_in
from shmkit._tally cimport tally_of_run, untally_message, wait_begins, wait_ends

import sys
from weakref import getweakrefcount, ref

from shmkit import errors

cnp.import_array()

cdef const uint64_t *generation = fork_generation()
cdef uint64_t **tally = tally_of_run()

# Whether the count of references says who can see an object: not without a GIL, nor where the interpreter borrows
# references.
cdef bint COUNTS_ALL = sys.version_info < (3, 14) and getattr(sys, "_is_gil_enabled", lambda: True)()


@cython.no_gc_clear
cdef class QueuePut(QueueEnd):
    """The base of QueueBase."""

    # --- putting ---------------------------------------------------------------------------------------------------

    def put(self, obj, block=True, timeout=None, *, bint move=False) -> None:
        """Put `obj`; wait for room in a queue that has a maxsize, unless `block` is false, at most `timeout` seconds.

        What is received is a copy, except of a SharedArray.  With `move` an array that was itself received from a
        queue is handed on without a copy, and is empty afterwards; one that has views, or other names, is copied all
        the same.

        Full; HeapFull (a Full) where there is no memory for it; ValueError (Closed) if this handle was closed;
        ShutDown; what pickling raises, if it cannot be pickled.
        """
        self.put_one(obj, block, timeout, move)

    # What a face calls in place of its own method, without a step in between: plain C methods, which an interpreter
    # calls faster than what binding makes of them, with their signature where `inspect` looks for one.

    @cython.binding(False)
    @cython.embedsignature(False)
    def _put_simple(self, obj):
        """_put_simple($self, obj)\n--\n\nPut `obj`.  What pickling raises, if it cannot be pickled; HeapFull."""
        self.put_one(obj, True, None, False)

    @cython.binding(False)
    @cython.embedsignature(False)
    def _put_reporting(self, obj, block=True, timeout=None):
        """_put_reporting($self, obj, block=True, timeout=None)\n--\n
        `put`, of a face in which what pickling raises is not raised: it goes to that face (see `_report_to`)."""
        if self._face_closed:
            raise self.face_is_closed()
        self._was_put = True
        try:
            self.put_one(obj, block, timeout, False)
        except errors.ShmkitError:
            raise
        except Exception as error:
            if timeout is not None:
                timeout + 0.0  # it was that
            face = None if self.face is None else self.face()
            if face is None:
                raise
            face._on_queue_feeder_error(error, obj)

    def _report_to(self, face) -> None:
        """Says who is told of what pickling raises: `face`, to which this is no reason to live."""
        with cython.critical_section(self):
            self.face = ref(face)

    cdef object face_is_closed(self):
        """What whoever kept a face's method is told once that face was closed."""
        face = None if self.face is None else self.face()
        return ValueError(f"Queue {self if face is None else face!r} is closed")

    cdef int put_one(self, object obj, object block, object timeout, bint move) except -1:
        """What `put` does."""
        cdef item_t item
        cdef int size, error = 0
        cdef uint64_t held
        cdef status_t status
        if self.generation != generation[0]:
            self.enter()
        size = pack_small(obj, item.head, CELL_HEAD)
        if size <= 0:
            return self.put_large(obj, block, timeout, move)
        item.head_size = size
        item.flags = ITEM_REFERS if item.head[0] == CODE_SHARED else 0
        item.block = 0
        item.body_size = 0
        if timeout is not None and block:
            check_timeout(timeout)
        if FREE_THREADED:
            held = word_of(self.heap)
        else:
            if self.heap.hold is None:
                self.heap.holding()
            held = self.heap.hold.word
        with cython.critical_section(self):
            if FREE_THREADED:
                self.usable()
            self.c.held = held
            status = queue_put(&self.c, &item, &error)
        if status != OK:
            try:
                if status != FULL or error:
                    self.refused(status, error)
                self.send(&item, None, deadline_of(timeout), block)
            except BaseException:
                take_back(obj)
                raise
        return 0

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
        raise self.heap.full("more cells", error)

    cdef int send(self, item_t *item, Hold hold, uint64_t deadline, bint block) except -1:
        """Puts an item that is packed, after waiting for room.  Full."""
        cdef waiter_t waiter
        cdef status_t status
        cdef int error = 0
        cdef bint waited = False
        cdef uint64_t since
        cdef queue_habit_t habit = self.room_habit
        cdef Share _kept = self.kept()  # while this waits, what it waits at is the queue's, whoever closes the handle
        cdef Hold now
        waiter_init(&waiter)
        while True:
            now = self.hold() if hold is None else hold
            with cython.critical_section(self):
                self.bear(now)
                status = queue_put(&self.c, item, &error)
            if status == OK:
                if waited:
                    queue_pass_room_on(&self.c)
                self.room_habit = habit
                return 0
            self.refused(status, error)
            if self.policy == POLICY_DROP_NEWEST:
                add_relaxed_u64(&self.c.header.dropped, 1)  # relaxed: a count
                if item.block != 0:
                    self.discard(item.block, hold)
                    item.block = 0  # the caller has it no more
                elif item.flags & ITEM_REFERS:
                    let_go(references_in(item.head, item.head_size, NULL, 0))
                return 0
            if self.policy == POLICY_DROP_OLDEST:
                if not self.drop_oldest(now):  # others have it in their hands, and may have died
                    PyErr_CheckSignals()
                    self.heap.look_for_dead(LOOK_EVERY_NS)
                continue
            if not block or self.policy == POLICY_RAISE:
                if self.room_watch is not None:
                    self.empty_watch(True)
                raise errors.Full(f"{self._label()} is full: it has {self.c.most} items")
            if waiter.begun_ns == 0 and queue_spin_room(&self.c, &habit, SPIN_WITH_GIL_NS):
                continue
            waited = True
            while True:
                since = wait_begins(tally)
                with nogil:
                    status = queue_room_round(&self.c, &waiter, &habit, deadline)
                wait_ends(tally, since)
                if status == OK:
                    break
                if status == TIMED_OUT:
                    raise errors.Full(f"{self._label()} is full: no room came in time")
                PyErr_CheckSignals()
                if self.shut or self.generation != generation[0]:
                    self.enter()
                if status == SLICE_OVER:
                    self.heap.look_for_dead(LOOK_EVERY_NS)

    cdef bint drop_oldest(self, Hold hold) except -1:
        """Drops an item, to make room; whether there was one."""
        cdef status_t status = self.drop_one(hold, False)
        if status == OK:
            add_relaxed_u64(&self.c.header.dropped, 1)  # relaxed: a count
        elif status != EMPTY:
            self.refused(status, 0)
        return status == OK

    cdef int put_large(self, object obj, object block, object timeout, bint move) except -1:
        """Puts what does not fit into a cell, or is not encoded natively."""
        cdef item_t item
        cdef Parcel parcel
        cdef Hold hold
        cdef uint64_t deadline
        cdef uint64_t size
        cdef bint waited = False
        cdef Share _kept = self.kept()
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
            if parcel.referred is not None:
                item.flags = ITEM_REFERS
            if item.body_size:
                if self.c.most != QUEUE_UNBOUNDED and self.policy < POLICY_DROP_OLDEST and not queue_has_room(&self.c):
                    self.wait_room(deadline, block)
                    waited = True
                    hold = self.hold()
                item.block = self.take(item.body_size, hold, deadline, waited)
                if item.block == 0:
                    parcel.take_back()
                    return 0
                try:
                    parcel.write(<unsigned char *>heap_block_at(&self.heap.c, item.block, &size))
                    self.send(&item, hold, deadline, block)
                except BaseException:
                    self.heap.drop(item.block, hold)
                    raise
                if item.block != 0:
                    count_blocks(hold, -1)
                else:
                    parcel.take_back()
            else:
                self.send(&item, hold, deadline, block)
        except BaseException:
            parcel.take_back()
            raise
        finally:
            if waited and not self.shut:
                queue_pass_room_on(&self.c)
            parcel.clear()
        return 0

    cdef uint32_t take(self, uint64_t size, Hold hold, uint64_t deadline, bint waited) except? 0:
        """A block, as Heap.take has it; but whoever was woken for room does not wait for memory beside it.

        Nor does a queue that never waits: 0 is of an item that is dropped, as there is no memory for it.
        """
        while self.policy != POLICY_BLOCK:
            try:
                return self.heap.take(size, hold, clock_ns())
            except errors.HeapFull:
                if self.policy == POLICY_DROP_NEWEST:
                    add_relaxed_u64(&self.c.header.dropped, 1)  # relaxed: a count
                    return 0
                if self.policy == POLICY_RAISE or not self.drop_oldest(hold):
                    raise
        if waited:
            try:
                return self.heap.take(size, hold, clock_ns())
            except errors.HeapFull:
                queue_pass_room_on(&self.c)
        return self.heap.take(size, hold, deadline)

    cdef bint put_again(self, object obj, object owner, object block, object timeout, bint move) except -1:
        """Hands on the block of an array that was received, without a copy, if nobody can see it any more."""
        cdef item_t item
        cdef Block given
        cdef int head_size
        if type(owner) is not Block or (<Block>owner).heap is not self.heap or (<Block>owner).hold.family:
            return False
        if not is_unseen(obj, owner, move):
            return False
        given = owner
        head_size = pack_lent(obj, <char *>cnp.PyArray_DATA(obj) - given.at, item.head, CELL_HEAD)
        if head_size <= 0:
            return False
        item.flags = 0
        item.head_size = head_size
        item.body_size = given.used
        # It is the receiver's from here on (or let go, by a queue that drops what is new): another thread that would
        # hand it on, too, while this one waits for room, finds that it has gone.
        with cython.critical_section(given):
            item.block, given.number = given.number, 0
        if item.block == 0:
            return False
        number = item.block
        try:
            self.send(&item, given.hold, deadline_of(timeout) if block else clock_ns(), block)
        except BaseException:
            given.number = number
            raise
        if item.block != 0:
            count_blocks(given.hold, -1)
        if move:
            make_empty(obj)
        return True

    cdef int wait_room(self, uint64_t deadline, bint block) except -1:
        """Waits until there is room, perhaps: before memory is taken for what has to wait.  Full."""
        cdef waiter_t waiter
        cdef status_t status = TIMED_OUT
        cdef uint64_t since
        cdef queue_habit_t habit = self.room_habit
        cdef Share _kept = self.kept()
        waiter_init(&waiter)
        if queue_spin_room(&self.c, &habit, SPIN_WITH_GIL_NS):
            return 0
        while block and self.policy == POLICY_BLOCK:
            since = wait_begins(tally)
            with nogil:
                status = queue_room_round(&self.c, &waiter, &habit, deadline)
            wait_ends(tally, since)
            if status == OK:
                self.room_habit = habit
                return 0
            if status == TIMED_OUT:
                break
            PyErr_CheckSignals()
            if self.shut or self.generation != generation[0]:
                self.enter()
            if status == SLICE_OVER:
                self.heap.look_for_dead(LOOK_EVERY_NS)
        if self.room_watch is not None:
            self.empty_watch(True)
        raise errors.Full(f"{self._label()} is full: it has {self.c.most} items")

    def put_many(self, items, block=True, timeout=None) -> None:
        """Put all of `items`, in their order, each as `put` does; other producers' items may come between.

        Full says in ``sent`` how many were put before there was no room in time.
        """
        cdef item_t item
        cdef int size, error = 0
        cdef uint64_t held
        cdef status_t status
        cdef int64_t sent = 0
        cdef uint64_t deadline = deadline_of(timeout)
        if self.generation != generation[0]:
            self.enter()
        item.flags = 0
        item.block = 0
        item.body_size = 0
        try:
            for obj in items:
                size = pack_small(obj, item.head, CELL_HEAD)
                if size > 0:
                    item.head_size = size
                    item.flags = ITEM_REFERS if item.head[0] == CODE_SHARED else 0
                    held = word_of(self.heap)
                    with cython.critical_section(self):
                        if FREE_THREADED:
                            self.usable()
                        self.c.held = held
                        status = queue_put(&self.c, &item, &error)
                    if status != OK:
                        try:
                            if status != FULL or error:
                                self.refused(status, error)
                            self.send(&item, None, deadline, block)
                        except BaseException:
                            take_back(obj)
                            raise
                else:
                    self.put_large(obj, block, None if timeout is None else _left(deadline), False)
                sent += 1
        except errors.Full as trouble:
            trouble.sent = sent
            raise

    def put_many_nowait(self, items) -> None:
        """`put_many(items, False)`."""
        self.put_many(items, False)


def uncount(obj) -> None:
    """Takes back that this message was counted (_tally.pyx): it is not the program's, but its pool's own."""
    cdef item_t item
    cdef Parcel parcel
    cdef int64_t size
    cdef uint64_t in_block = 0
    if tally[0] == NULL:
        return
    size = pack_small(obj, item.head, CELL_HEAD)
    if size <= 0:
        parcel = Parcel.__new__(Parcel)
        parcel.pack(obj, item.head, CELL_HEAD)
        size, in_block = parcel.head_size + <int64_t>parcel.body_size, parcel.body_size
        parcel.clear()
    untally_message(tally, size, in_block)


cdef object _left(uint64_t deadline):
    cdef uint64_t now = clock_ns()
    return (deadline - now) / 1e9 if deadline > now else 0.0


cdef bint is_unseen(cnp.ndarray array, Block owner, bint move) except -1:
    """Whether nobody can see the array, or its memory, once the call that it was passed to is over.

    The caller's stack refers to what it passes, `put` may too, and where it is a variable's value so does the
    variable, which one who says `move` gives up.
    """
    if not COUNTS_ALL:
        return move
    if cnp.get_array_base(array) is not owner or getweakrefcount(array):
        return False
    # The owner's: the array's, and that of put_large.
    return Py_REFCNT(array) <= _unseen + move and Py_REFCNT(owner) <= 2


def _references(self, obj, block=True, timeout=None, *, bint move=False):
    """How many references a function like `put` sees to what nobody else refers to."""
    return Py_REFCNT(obj)


cdef Py_ssize_t _unseen = _references(None, object())


cdef int make_empty(cnp.ndarray array) except -1:
    """Takes the elements from an array whose memory has gone to somebody else."""
    cdef int axis
    for axis in range(cnp.PyArray_NDIM(array)):
        cnp.PyArray_DIMS(array)[axis] = 0
    return 0
