# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Queues: many producers, many consumers, any Python object, and nobody's death stops the others.

The cells and the protocol are in ``_cells.h`` ("queue" in ``_heap_layout.h``).  What an item becomes is said by
``_encode.pyx``: a head, which stands in a cell, and for what is larger a body, which is copied once, into a block of
the heap; whoever gets the item owns the block.  Nothing is pickled or copied while a cell is claimed, and no lock is
held while anybody waits.

Any thread may call anything at any time; a forked child goes on under its own name.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint64_t

cimport cython

from shmkit._core cimport *
from shmkit._core_heap cimport *
from shmkit._core_watch cimport WATCH_ITEMS, WATCH_ROOM
from shmkit._deadline cimport check_timeout, deadline_of
from shmkit._decode cimport unpack
from shmkit._heap cimport Block, Hold, count_blocks, hold_of
from shmkit._map cimport fork_generation
from shmkit._primitive cimport SPIN_WITH_GIL_NS
from shmkit._queue_end cimport LOOK_EVERY_NS, POLICY_BLOCK, Share
from shmkit._queue_put cimport QueuePut
from shmkit._tally cimport *
from shmkit._watch cimport Watch, coming_t, new_watch

from math import isinf
from operator import index

from shmkit import errors

cdef const uint64_t *generation = fork_generation()
cdef uint64_t **tally = tally_of_run()

cdef enum:
    LOOK_EVERY = 4096            # gets, between two looks for the dead
    COMING_NS = 20_000_000       # who was told of an item waits for it so long, even if it does not wait for any


@cython.no_gc_clear
cdef class QueueBase(QueuePut):
    """The base of Queue, SimpleQueue and JoinableQueue; see there."""

    # --- being told ------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """A descriptor that is readable while there is something to get, for select, epoll or an event loop.

        It is this process's own, made at the first call, and says nothing of what another consumer gets first: so what
        is readable is got without waiting (``get(False)``), which may raise Empty, and waits for an item that is being
        put at that moment, 20 ms at most.  The descriptor cannot be read from.
        Those who put are reached within one network namespace.  ChannelError if 64 descriptors watch the queue already.
        """
        return self.watch_items().fd

    def _watched(self, int which):
        """What keeps a descriptor open, even if this handle is closed.

        0: that of `fileno`; 1: one that becomes readable when there is room, once a put that does not wait has found
        none.
        """
        return self.watch_room() if which else self.watch_items()

    cdef Watch watch_items(self):
        cdef Share share = self.kept()
        cdef Watch watch, made
        with cython.critical_section(self):
            if self.items_watch is not None and not self.items_watch.sound():
                self.items_watch = None
            watch = self.items_watch
        if watch is None:
            made = new_watch(
                &self.c.header.watched, self.c.header.watchers, QUEUE_WATCHERS, WATCH_ITEMS,
                <coming_t>queue_is_coming, &self.c, share, self._label(),
            )
            with cython.critical_section(self):
                self.usable()
                if self.items_watch is None:  # else another thread was quicker
                    self.items_watch = made
                watch = self.items_watch
        return watch

    cdef Watch watch_room(self):
        cdef Share share = self.kept()
        cdef Watch watch, made
        with cython.critical_section(self):
            if self.room_watch is not None and not self.room_watch.sound():
                self.room_watch = None
            watch = self.room_watch
        if watch is None:
            made = new_watch(
                &self.c.header.room_watched, self.c.header.watchers, QUEUE_WATCHERS, WATCH_ROOM,
                <coming_t>queue_has_room, &self.c, share, self._label(),
            )
            with cython.critical_section(self):
                self.usable()
                if self.room_watch is None:
                    self.room_watch = made
                watch = self.room_watch
        return watch

    def _look(self) -> bool:
        """Looks for the dead; whether there is something to get."""
        cdef Share _kept = self.kept()
        self.heap.look_for_dead(LOOK_EVERY_NS)
        return queue_has_item(&self.c)

    def _poll(self, timeout=0.0) -> bool:
        """Waits until there is something to get, which stays there, at most `timeout` seconds; whether there is."""
        cdef waiter_t waiter
        cdef queue_habit_t habit = self.items_habit
        cdef status_t status = SLICE_OVER
        cdef uint64_t deadline = deadline_of(timeout), began
        cdef Share _kept = self.kept()
        waiter_init(&waiter)
        while True:
            if self.shut or self.generation != generation[0]:
                self.enter()
            queue_true_head(&self.c)  # past what others have got
            if queue_has_item(&self.c):
                queue_pass_on(&self.c)  # it is not taken here: perhaps another one sleeps who would
                return True
            if status == TIMED_OUT or clock_ns() >= deadline:
                return False
            began = wait_begins(tally)
            with nogil:
                status = queue_items_round(&self.c, &waiter, &habit, deadline)
            wait_ends(tally, began)
            PyErr_CheckSignals()
            if status == SLICE_OVER:
                self.heap.look_for_dead(LOOK_EVERY_NS)

    def _look_for_room(self) -> bool:
        """Likewise; whether there is room."""
        cdef Share _kept = self.kept()
        self._look()
        return queue_has_room(&self.c)

    def _room(self) -> int:
        """How many more items there is room for."""
        cdef Share _kept = self.kept()
        return max(0, <object>self.c.most - queue_size(&self.c))

    @property
    def _waits(self) -> bool:
        """Whether a put waits for room."""
        return self.policy == POLICY_BLOCK

    # --- getting ---------------------------------------------------------------------------------------------------

    def get(self, block=True, timeout=None):
        """Remove an item and return it; wait for one, unless `block` is false, at most `timeout` seconds.

        Empty; ValueError (Closed) if this handle was closed; ShutDown if the queue was, and nothing is left in it; what
        unpickling raises.
        """
        return self.get_one(block, timeout)

    @cython.binding(False)
    @cython.embedsignature(False)
    def _get_direct(self, block=True, timeout=None):
        """_get_direct($self, block=True, timeout=None)\n--\n\n`get`, of a face (see `_put_simple`)."""
        if self._face_closed:
            raise self.face_is_closed()
        return self.get_one(block, timeout)

    @cython.binding(False)
    @cython.embedsignature(False)
    def _get_simple(self):
        """_get_simple($self, /)\n--\n\nRemove an item and return it; wait for one."""
        return self.get_one(True, None)

    cdef object get_one(self, object block, object timeout):
        """What `get` does."""
        cdef item_t item
        cdef Hold hold
        cdef status_t status
        if self.generation != generation[0]:
            self.enter()
        if timeout is not None and block:
            check_timeout(timeout)
        hold = hold_of(self.heap) if FREE_THREADED else self.heap.hold
        if hold is None:
            hold = self.heap.holding()
        with cython.critical_section(self):
            if FREE_THREADED:
                self.usable()
            self.c.held = hold.word
            status = queue_get(&self.c, &item)
        if status != OK:
            if status == CORRUPT:
                raise self.corrupt()
            hold = self.fetch(&item, deadline_of(timeout), block)
            if hold is None:
                self.found_empty()
        return self.open_item(&item, hold)

    def get_nowait(self):
        """`get(False)`."""
        return self.get(False)

    cdef object open_item(self, item_t *item, Hold hold):
        """The object that an item is; its block, if it has one, is this process's."""
        cdef Block owner
        self.operations += 1
        if tally[0] != NULL:
            self.count_item(item)
        if self.items_watch is not None:
            self.settle_items()
        if self.operations % LOOK_EVERY == 0:
            # Who never waits never asks: but what a dead one had taken is to go to somebody.
            self.heap.look_for_dead(LOOK_EVERY_NS)
        if item.block == 0:
            return unpack(item.head, item.head_size, NULL, 0, None, self.pickles)
        count_blocks(hold, 1)
        owner = self.heap.block(item.block, hold)
        if item.body_size > owner.size:
            raise errors.RecordCorrupt(
                f"an item of {self._label()} says that it has {item.body_size} bytes in a block of {owner.size}; "
                "it is lost"
            )
        owner.used = item.body_size
        owner.shape = item.body_size
        return unpack(item.head, item.head_size, <unsigned char *>owner.at, item.body_size, owner, self.pickles)

    cdef void count_item(self, item_t *item) noexcept:
        cdef uint64_t in_block = item.body_size if item.block != 0 else 0
        if self._role == ROLE_TASKS:
            self.got_size, self.got_in_block = item.head_size + item.body_size, in_block
        else:
            tally_message(tally, item.head_size + item.body_size, in_block)

    def _count_got(self) -> None:
        """Counts what this worker got last: it is a task, and this worker's."""
        tally_message(tally, self.got_size, self.got_in_block)

    cdef int found_empty(self) except -1:
        """Raises Empty; whoever watches the descriptor is told when that changes."""
        if self.items_watch is not None:
            self.heap.look_for_dead(LOOK_EVERY_NS)
            self.empty_watch(False)
        raise errors.Empty(f"{self._label()} is empty")

    cdef Hold fetch(self, item_t *item, uint64_t deadline, bint block):
        """Gets an item after waiting for one; the hold that its block is under, or None if none came in time."""
        cdef Share _kept = self.kept()  # while this waits, what it waits at is the queue's, whoever closes the handle
        cdef Hold hold
        cdef waiter_t waiter
        cdef status_t status
        cdef bint waited = False, came = False
        cdef uint64_t begun = 0, began
        cdef queue_habit_t habit = self.items_habit
        waiter_init(&waiter)
        if self._sleeps:
            waiter.begun_ns = clock_ns()  # not a first round, which yields and spins
        elif block:
            queue_spin_items(&self.c, &habit, SPIN_WITH_GIL_NS)
        while True:
            hold = self.hold()
            with cython.critical_section(self):
                self.bear(hold)
                status = queue_get(&self.c, item)
            if waited and (status == OK or status == CORRUPT):
                queue_pass_on(&self.c)
            if status == OK:
                self.items_habit = habit
                return hold
            if status == CORRUPT:
                raise self.corrupt()
            if load_relaxed_u32(&self.c.header.state) != QUEUE_OPEN:  # relaxed: it never opens again
                raise errors.ShutDown(f"{self._label()} was shut down")
            if not block and self.items_watch is not None and begun == 0 and queue_is_coming(&self.c):
                # The descriptor said so: an item is being put at this very moment.
                begun = clock_ns()
                deadline = begun + COMING_NS
            elif not block and (begun == 0 or clock_ns() >= deadline):
                # Perhaps what is there is in the hands of somebody who died.
                self.heap.look_for_dead(LOOK_EVERY_NS)
                return None
            waited = True
            if status == EMPTY and came:
                # Somebody was quicker: there are more who look than items come, and one looks in vain who spins.
                queue_was_late(&waiter)
            came = False
            while True:
                began = 0 if self._role == ROLE_ANSWERS else wait_begins(tally)
                with nogil:
                    status = queue_items_round(&self.c, &waiter, &habit, deadline)
                wait_ends(tally, began, TALLY_IDLE_NS if self._role == ROLE_TASKS else TALLY_WAITED_NS)
                if status == OK:
                    came = True
                    break
                if status == TIMED_OUT:
                    self.heap.look_for_dead(LOOK_EVERY_NS)
                    return None
                PyErr_CheckSignals()
                if self.shut or self.generation != generation[0]:
                    self.enter()
                if status == SLICE_OVER:
                    self.heap.look_for_dead(LOOK_EVERY_NS)
                    break

    def get_many(self, max_messages_to_get=1000, block=True, timeout=None) -> list:
        """Remove up to so many items and return them as a list: what is there, and at least one.

        Waits for the first one as `get` does.  Empty, ShutDown.  If one of them cannot be unpickled, those before it
        are returned, and the next call of this method raises why; if this is interrupted (KeyboardInterrupt), they are
        returned by the next call.  ValueError for less than one.
        """
        cdef item_t item
        cdef Hold hold
        cdef status_t status
        cdef int64_t left = count_of(max_messages_to_get)
        cdef list found = []
        hold = self.hold()
        if timeout is not None and block:
            check_timeout(timeout)
        with cython.critical_section(self):
            trouble, self.trouble = self.trouble, None
        if type(trouble) is list:
            found = (<list>trouble)[:left]
            left -= len(found)
            if len(found) < len(<list>trouble):
                with cython.critical_section(self):
                    self.trouble = (<list>trouble)[len(found):]
        elif trouble is not None:
            raise trouble
        while left:
            with cython.critical_section(self):
                if FREE_THREADED:
                    self.usable()
                self.c.held = hold.word
                status = queue_get(&self.c, &item)
            if status == EMPTY:
                if found:
                    break
                hold = self.fetch(&item, deadline_of(timeout), block)
                if hold is None:
                    self.found_empty()
            elif status == CORRUPT:
                if found:
                    with cython.critical_section(self):
                        self.trouble = self.corrupt()
                    break
                raise self.corrupt()
            try:
                found.append(self.open_item(&item, hold))
            except BaseException as error:
                if not found:
                    raise
                with cython.critical_section(self):
                    self.trouble = error if isinstance(error, Exception) else found
                if not isinstance(error, Exception):
                    raise
                break
            hold = self.hold()
            left -= 1
        return found

    def get_many_nowait(self, max_messages_to_get=1000) -> list:
        """`get_many(…, block=False)`."""
        return self.get_many(max_messages_to_get, False)


cdef int64_t count_of(object most) except -1:
    """How many items somebody wants at most: a whole number, which may be a float (1e9)."""
    if isinstance(most, bool):
        raise TypeError(f"max_messages_to_get must be a number: got {most} (say block=… by name)")
    if isinstance(most, float) and (most.is_integer() or isinf(most)):
        most = min(max(most, -1.0), 2.0 ** 40)
    number = int(most) if isinstance(most, float) and most.is_integer() else index(most)
    if number < 1:
        raise ValueError(f"max_messages_to_get must be at least 1: got {most!r}")
    return min(number, 1 << 40)
