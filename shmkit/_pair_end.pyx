# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""PairEnd: what a process has of a pipe whose large messages lie in blocks of a heap: who keeps them, and how they go.

The descriptors, who reads and who writes, and all small messages are the standard library's (``_wire.h``).  How a
block goes from one process to another, and what becomes of it where somebody is killed: ``_pair.h``.

Whoever has an end has a share in keeping what is on its way: a lease that all of them hold together.  Forked children
have it from their parents, others take it when they are given an end.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EBADF, EPIPE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset
from posix.unistd cimport close

cimport cython

from shmkit._core cimport *
from shmkit._core_heap cimport *
from shmkit._core_pair cimport *
from shmkit._heap cimport Block, Hold, count_blocks, hold_of
from shmkit._map cimport fork_generation, forks_so_far
from shmkit._pair_tie cimport Tie, is_parked, may_pass, names_in, new_tie, park
from shmkit._wire cimport get_size, put_all, put_frame, refused

import os
import sys

from shmkit import errors
from shmkit.errors import RecordCorrupt, ShmkitError

cdef const uint64_t *generation = fork_generation()
cdef const uint64_t *forks = forks_so_far()

cdef enum:
    UNDER_WAY_MOST = 1 << 20   # bytes of messages that nobody has taken yet, before one more is sent; two in any case
    AFTER_MOST = 16 << 20      # likewise, before a send returns: no pipe holds more
    LEAVE_MOST_NS = 20_000_000  # before a descriptor is closed that a thread may look at, which has been stopped
    TURN_LOOK_NS = 50_000_000
    AGAIN_NS = 10_000_000      # before what failed for want of something is tried again
    LOOK_MOST = 64             # messages, before their sender looks what became of them
    CATCH_UP = 4               # messages under way, of which a reader on another core is to take all

cdef uint64_t NEVER = <uint64_t>-1
cdef void *_untied = NULL  # borrowed: the first of those that have no tie yet
cdef bint _may_list = getattr(sys, "_is_gil_enabled", lambda: True)()  # or another thread could find one that is going


# -------------------------------------------------------------------------------------------------------------- pair


@cython.no_gc_clear
cdef class PairEnd:
    """The base of Pair."""

    def __init__(self):
        raise TypeError("a Pair is made by new_pair, or found by find_pair")

    def __cinit__(self):
        self.generation = self.turns_of = self.again_ns = NEVER
        self.forks = forks[0]

    def __dealloc__(self):
        self.unlist()
        free(self.ways[0].sent)
        free(self.ways[1].sent)
        if self.tie is not None and (self.tie.made_in or is_parked()):
            park(self.tie)

    cdef int enter(self) except -1:
        """Takes note of who this process is, anew in a forked child: what its parent sent is its parent's."""
        return 0 if self.generation == generation[0] else self.begin_anew()

    @cython.critical_section
    cdef int begin_anew(self) except -1:
        if self.generation == generation[0]:
            return 0
        # Before a fork there should have been one, so that both have the same.
        self.plain = self.tie is None and self.generation != NEVER
        self.again_ns = NEVER
        if self.tie is not None:
            try:
                self.heap.enter()
            except (ShmkitError, OSError, MemoryError) as error:
                self.do_without(error)  # no /proc is there (chroot), or the descriptor was closed, or none is left
        self.names = None
        for side in range(2):
            self.ways[side].count = 0
            self.ways[side].bytes = 0
            self.readers[side].inside = 0  # threads of the parent
        self.generation = generation[0]
        return 0

    @cython.critical_section
    cdef int reset_turns(self) except -1:
        """Those of a parent's threads are nobody's here."""
        if self.turns_of != generation[0]:
            for side in range(2):
                turn_reset(&self.send_turns[side])
                turn_reset(&self.recv_turns[side])
            self.turns_of = generation[0]
        return 0

    cdef bint begin(self, turn_t *turn, int side) except -1:
        """Waits for this thread's turn at an end; False: it has it already (in a signal's handler)."""
        while self.turns_of != generation[0] or not turn_try(turn):
            if self.turns_of != generation[0]:
                self.reset_turns()
            elif turn_mine(turn):
                return False
            else:
                turn_ask(turn)
                with nogil:
                    turn_wait(turn, TURN_LOOK_NS)
                PyErr_CheckSignals()
        if self.left[side]:  # meanwhile: its number may be another file's by now
            turn_end(turn)
            raise refused(EBADF)
        return True

    cdef int end(self, turn_t *turn, int fd, int side) noexcept:
        """This thread's turn is over; the last one of a descriptor that was closed meanwhile gives its number back."""
        turn_end(turn)
        if self.left[side]:
            with cython.critical_section(self):
                if self.retired[side] and not self.in_turn(side):
                    self.retired[side] = False
                    close(fd)
        return 0

    cdef bint in_turn(self, int side) noexcept:
        return turn_is_taken(&self.send_turns[side]) or turn_is_taken(&self.recv_turns[side])

    cdef int tied(self) except -1:
        """Sees to it that there is something to hold messages by; SegmentError, OSError, HeapFull."""
        cdef Tie made
        if self.generation != generation[0]:
            self.enter()
        if self.tie is not None:
            return 0
        if self.plain:
            raise errors.SegmentError("a pipe's messages go through its descriptor")
        try:
            made = new_tie()
            self.settle(made)
        except BaseException as error:
            self.do_without(error)
            raise
        return 0

    cdef int tied_or_never(self) except -1:
        """As `tied`, before another process gets an end: what comes later that one would not know of."""
        try:
            if self.tie is None:
                self.plain = self.plain and self.again_ns == NEVER
            self.tied()
        except BaseException:
            self.again_ns = NEVER
            raise
        return 0

    cdef int do_without(self, object error) except -1:
        """From now on all messages go through the descriptor: for good, if this error will not pass."""
        self.again_ns = clock_ns() + AGAIN_NS if may_pass(error) else NEVER
        self.plain = True
        return 0

    @cython.critical_section
    cdef bint try_again(self) except -1:
        """Where this process is `plain`: tries what failed, if that is due; whether it went well."""
        if not self.plain:
            return True  # another thread was quicker
        if self.again_ns == NEVER or clock_ns() < self.again_ns:
            return False
        try:
            if self.tie is not None:
                self.heap.enter()
            self.plain = False
            self.tied()
        except (ShmkitError, OSError, MemoryError) as error:
            self.do_without(error)
            return False
        return True

    @cython.critical_section
    cdef int settle(self, Tie tie) except -1:
        if self.tie is None:  # else another thread was quicker
            for side in range(2):
                # Or a child was forked behind Python's back (_before_fork), and has no tie.
                if self.known_as[side] != 0 or self.forks != forks[0]:
                    pair_is_known(tie.header, side)
            self.heap = tie.heap
            self.tie = tie
        self.unlist()
        return self.enter()

    cdef int unlist(self) noexcept:
        global _untied
        if not self.listed:
            return 0
        self.listed = False
        if self.before != NULL:
            (<PairEnd>self.before).after = self.after
        else:
            _untied = self.after
        if self.after != NULL:
            (<PairEnd>self.after).before = self.before
        return 0

    cdef Hold holding(self):
        if self.generation != generation[0]:
            self.enter()
        return hold_of(self.heap)

    cdef Hold may_hold(self):
        """As `holding`; None: this process can hold no block."""
        if copies(self):
            return None
        try:
            return hold_of(self.heap)
        except (ShmkitError, OSError):
            return None

    def give(self):
        """What `find_pair` takes in another process: it goes into a pickle, once."""
        self.tied_or_never()
        if self.tie.made_in != generation[0] + 1:
            self.tie.made_in = generation[0] + 1
        add_relaxed_u64(&self.tie.header.made, 1)  # relaxed: a count
        return self.heap.segment, self.tie.block, self.tie.id

    @cython.critical_section
    def waiting(self, side):
        """How many messages that were sent from one end, by this process, are in memory and not taken, and their
        bytes: as of now."""
        cdef Hold hold = None if self.tie is None else self.may_hold()
        if hold is None:
            return 0, 0
        pair_settle(&self.ways[side], &self.heap.c, self.tie.header, side, hold.word)
        return self.ways[side].count, self.ways[side].bytes

    cdef Block room(self, int fd, int side, uint64_t size):
        """A block for a message, once there is not too much under way; None: there is no memory for it."""
        cdef Hold hold
        if copies(self):
            return None
        try:
            self.tied()
            hold = self.may_hold()
            if hold is None:
                return None
            if self.names is None:
                self.names = names_in(self.heap)
        except (ShmkitError, OSError):
            return None
        if self.ways[side].bytes + size > UNDER_WAY_MOST:
            self.wait_taken(fd, side, UNDER_WAY_MOST, 2)
        try:
            hold = self.holding()
            return self.heap.block(self.heap.take(size, hold, 0), hold)  # or there is none at once
        except (ShmkitError, OSError):
            return None

    @cython.critical_section
    cdef int wait_taken(self, int fd, int side, uint64_t most, uint32_t count) except -1:
        """Waits while more than `most` bytes are under way, in `count` messages or more: as a full pipe would have its
        writer wait.  Returns what became of the wire."""
        cdef pair_way_t *way = &self.ways[side]
        cdef pair_wait_t wait
        cdef waiter_t waiter
        cdef pair_sent_t *latest
        cdef int state, behind
        waiter_init(&waiter)
        while True:
            pair_settle(way, &self.heap.c, self.tie.header, side, self.holding().word)
            if way.count < count or way.bytes <= most:
                return WIRE_BUSY
            # What was read and is not taken yet will be at once, or is lost: then nothing is to be waited for.
            state = wire_state(fd)
            if state != WIRE_BUSY:
                return state
            # Who is behind finds all messages in the descriptor, and is never there to be handed one.
            behind = way.count >= CATCH_UP and meet_is_apart(&self.tie.header.meets[side])
            latest = &way.sent[way.count - 1 if behind else (way.count - 1) // 2]
            wait.heap = &self.heap.c
            wait.gate = &self.tie.header.gate0 if side == 0 else &self.tie.header.gate1
            wait.word = latest.word
            wait.block = latest.block
            if self.left[side]:
                return WIRE_BUSY
            with nogil:
                pair_round(&wait, &waiter, FOREVER)
            PyErr_CheckSignals()

    # ------------------------------------------------------------------------------------------ from hand to hand

    @cython.critical_section
    def expose(self, int fd, int side):
        """The number of this end's descriptor becomes known: others may write to it, or put something in its place."""
        if self.known_as[side] == 0:
            self.known_as[side] = wire_identity(fd)
        if self.tie is not None:
            pair_is_known(self.tie.header, side)

    @cython.critical_section
    def leave_end(self, int fd, int side) -> bool:
        """This end's descriptor is about to be closed: whoever looks for a message there is to stop before.

        True: it was closed here, as a thread is in the midst of a call, which finds nothing behind the number from now
        on, until it returns: nor does it find another file.
        """
        self.left[side] = True
        if self.generation == generation[0] and load_seq_u32(&self.readers[side].inside) != 0:
            with nogil:
                meet_leave(&self.readers[side], LEAVE_MOST_NS)
        if self.turns_of == generation[0] and self.in_turn(side):
            self.retired[side] = wire_retire(fd)
        return self.retired[side]

    def handed(self, int side):
        """How many messages this process has given to readers from one end without the descriptor."""
        return self.senders[side].handed

    cdef bint is_itself(self, int fd, int side) noexcept:
        return self.known_as[side] == 0 or wire_identity(fd) == self.known_as[side]

    @cython.critical_section
    cdef bint hand(self, int fd, int side, const void *data, size_t size, uint32_t note) except -1:
        """Gives a message to a reader that waits for it; False: it goes through the descriptor, then `meet_tell`."""
        if self.tie is None or size > MEET_MOST:
            return False
        if copies(self):
            return False
        if self.known_as[side] != 0 and not (self.is_itself(fd, side) and wire_is_open(fd)):
            return False
        return meet_hand(
            &self.tie.header.meets[side], &self.senders[side], &self.heap.member.own, fd, data, <uint32_t>size, note,
            pair_may_be_untold(self.tie.header, side),
        )

    cdef int put(self, int fd, int side, const uint8_t *data, size_t size) except -1:
        """Sends a message's bytes."""
        cdef bint mine = self.begin(&self.send_turns[side], side)
        try:
            if size > MEET_MOST or not self.hand(fd, side, data, size, 0):
                put_frame(fd, data, size)
                if self.tie is not None:
                    meet_tell(&self.tie.header.meets[side])
        finally:
            if mine:
                self.end(&self.send_turns[side], fd, side)
        return 0

    cdef int64_t get(self, int fd, int side, uint64_t *into, bint *handed) except? -1:
        """Waits for a message; returns its size, or WIRE_NOTE.  Where it was handed over its bytes, or the note, are in
        `into`, which has room for MEET_MOST; otherwise they follow in the descriptor."""
        cdef uint32_t head = 0, size = 0, note = 0, stays
        cdef size_t done = 0
        cdef int64_t said
        cdef int found
        cdef waiter_t waiter
        cdef meet_t *meet
        handed[0] = False
        if self.tie is None:
            return get_size(fd, 0, 0)
        if copies(self) or not self.is_itself(fd, side):
            return get_size(fd, 0, 0)
        # What comes after one that was in the descriptor is there too, often enough.
        if not self.readers[side].handed and wire_glance(fd, &head, 4, &done) != EAGAIN:
            # An error, or the end, is found again there.
            return get_size(fd, head, done)
        meet = &self.tie.header.meets[1 - side]
        stays = meet_enter(&self.readers[side])
        with nogil:
            found = meet_wait(meet, &waiter, &self.readers[side], fd, stays, into, &size, &note, &head, &done)
        if found == MEET_LEFT:
            raise refused(EBADF)
        handed[0] = found == MEET_TAKEN
        if handed[0]:
            said = WIRE_NOTE if note else <int64_t>size
            if note and size != sizeof(pair_note_t):
                raise RecordCorrupt(f"a note of a pipe has {size} bytes; it is lost")
        else:
            if done == 0:
                PyErr_CheckSignals()
                if self.left[side]:
                    raise refused(EBADF)
            said = get_size(fd, head, done)
        meet_learn(&self.readers[side], &waiter, found)
        return said

    # What several threads do at one end they do one after the other, but while one waits: as under a GIL.

    @cython.critical_section
    cdef int post(self, int fd, int side, Block block, int kind, uint64_t size) except -1:
        """Sends a block, which is filled, and this process's no more."""
        cdef Hold hold = block.hold
        cdef pair_note_t note
        cdef pair_way_t *way = &self.ways[side]
        cdef pair_sent_t *sent
        cdef uint64_t begun, place, message
        cdef uint32_t number = block.number
        cdef bint mine
        if self.names is None:
            self.names = names_in(self.heap)
        if way.count == way.room:
            sent = <pair_sent_t *>realloc(way.sent, (2 * way.room + 16) * sizeof(pair_sent_t))
            if sent == NULL:
                raise MemoryError()
            way.sent = sent
            way.room = 2 * way.room + 16
        message = threads_add(&self.names.next, 1) + 1  # all pairs of the heap have the same names
        memset(&note, 0, sizeof(note))
        note.frame = 0xfeffffff  # -2, in network order
        note.kind = kind
        note.side = side
        note.heap = self.heap.c.key
        note.offered = block_held(self.names.first + message % PAIR_SPAN)
        place = pair_next(self.tie.header, side)
        note.sent = block_held(pair_id(self.tie.id, side, place))
        note.size = size
        note.block = number
        note.pair = self.tie.block
        note.pid = self.names.pid
        note.fd = self.heap.c.fd
        if not pair_offer(&self.heap.c, number, hold.word, note.offered):
            raise RecordCorrupt(f"block {number} of a heap was not this process's")
        block.number = 0
        count_blocks(hold, -1)
        way.clock += 1
        begun = way.clock
        try:
            mine = self.begin(&self.send_turns[side], side)
            try:
                if not self.hand(fd, side, &note, sizeof(note), MEET_NOTE):
                    put_all(fd, &note, sizeof(note))
                    meet_tell(&self.tie.header.meets[side])
            finally:
                if mine:
                    self.end(&self.send_turns[side], fd, side)
        except BaseException as error:
            hold = self.holding()
            pair_withdraw(&self.heap.c, number, note.offered, hold.word)
            if isinstance(error, BrokenPipeError):
                pair_give_up(way, &self.heap.c, hold.word)
            raise
        pair_commit(&self.heap.c, number, note.offered, note.sent)
        pair_remember(way, &note, place, begun)
        if way.bytes > AFTER_MOST:
            if self.wait_taken(fd, side, AFTER_MOST, 1) == WIRE_GONE and heap_word(&self.heap.c, number) == note.sent:
                pair_give_up(way, &self.heap.c, self.holding().word)
                raise refused(EPIPE)
        elif way.count >= LOOK_MOST:
            pair_settle(way, &self.heap.c, self.tie.header, side, self.holding().word)
        return 0


cdef inline bint copies(PairEnd pair) except -1:
    """Whether all messages of this process go through the descriptor, as of now."""
    if pair.generation != generation[0]:
        pair.enter()
    return pair.plain and not pair.try_again()


cdef PairEnd untied(PairEnd pair):
    """A pair that gets its tie when it needs one: before a fork, a pickle, or a large message."""
    global _untied
    pair.enter()
    if not _may_list:
        try:
            pair.tied_or_never()
        except (ShmkitError, OSError):
            pass
        return pair
    pair.after = _untied
    if _untied != NULL:
        (<PairEnd>_untied).before = <void *>pair
    _untied = <void *>pair
    pair.listed = True
    return pair


def _before_fork():
    """The child is to have the same tie."""
    cdef PairEnd pair
    cdef list all = []
    cdef void *at = _untied
    while at != NULL:
        all.append(<PairEnd>at)
        at = (<PairEnd>at).after
    for pair in all:
        try:
            pair.tied_or_never()
        except (ShmkitError, OSError, MemoryError):
            pair.unlist()  # its messages go through its descriptor, from now on


os.register_at_fork(before=_before_fork)
