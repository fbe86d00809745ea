# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Pair: the two ends of a pipe, whose large messages lie in blocks of a heap while a note of each is on the wire.

The descriptors, who reads and who writes, and all small messages are the standard library's (``_wire.h``).  How a
block goes from one process to another, and what becomes of it where somebody is killed: ``_pair.h``.

Whoever has an end has a share in keeping what is on its way: a lease that all of them hold together.  Forked children
have it from their parents, others take it when they are given an end.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset, strerror
from posix.fcntl cimport F_RDLCK, F_WRLCK

cimport cython
cimport numpy as cnp

from shmkit._core cimport *
from shmkit._core_heap cimport *
from shmkit._core_pair cimport *
from shmkit._decode cimport unpack
from shmkit._encode cimport pack_lent
from shmkit._heap cimport Block, Heap, Hold, heap_in, heap_of_process
from shmkit._map cimport fork_generation
from shmkit._pickling cimport pickle_item
from shmkit._record cimport copy
from shmkit._wire cimport get_all, get_body, get_size, put_all, put_frame

import copyreg
import os
import pickle
import weakref
from functools import partial
from multiprocessing.reduction import ForkingPickler

import numpy as np

from shmkit import errors
from shmkit._heap import adopt, heap_by_key

cnp.import_array()

cdef const uint64_t *generation = fork_generation()

cdef enum:
    LARGE_LEAST = 16385        # bytes of a message that is worth a block: the standard library writes it in two calls
    HEAD_ROOM = 104
    UNDER_WAY_MOST = 1 << 20   # bytes of messages that nobody has taken yet, before a sender waits; two in any case
    LOOK_MOST = 64             # messages, before their sender looks what became of them

LARGE = LARGE_LEAST

cdef uint64_t NEVER = <uint64_t>-1
cdef object _loads = pickle.loads
cdef dict _reducers = ForkingPickler._extra_reducers
cdef dict _common_reducers = copyreg.dispatch_table
cdef object _names = weakref.WeakKeyDictionary()  # heap → this process's Names
cdef list _parked = []  # ties whose references are still on their way to a receiver


# --------------------------------------------------------------------------------------------------------------- ids


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
    if tie is not None and tie.made_in == generation[0] + 1 and tie.header.taken < tie.header.made:
        _parked.append(tie)
    for kept in list(_parked):
        if kept.made_in != generation[0] + 1 or kept.header.taken >= kept.header.made:
            _parked.remove(kept)
    return 0


# -------------------------------------------------------------------------------------------------------------- pair


@cython.final
@cython.no_gc_clear
cdef class Pair:
    """What this process knows of the two ends of a pipe, of which it has one or both."""

    def __init__(self):
        raise TypeError("a Pair is made by new_pair, or found by find_pair")

    def __cinit__(self):
        self.generation = NEVER

    def __dealloc__(self):
        free(self.ways[0].sent)
        free(self.ways[1].sent)
        if self.tie is not None and (self.tie.made_in or _parked):
            park(self.tie)

    cdef int enter(self) except -1:
        """Takes note of who this process is, anew in a forked child: what its parent sent is its parent's."""
        if self.generation == generation[0]:
            return 0
        self.heap.enter()
        self.names = None
        for side in range(2):
            self.ways[side].count = 0
            self.ways[side].bytes = 0
        self.generation = generation[0]
        return 0

    cdef Hold holding(self):
        if self.generation != generation[0]:
            self.enter()
        return self.heap.hold if self.heap.hold is not None else self.heap.holding()

    def give(self):
        """What `find_pair` takes in another process: it goes into a pickle, once."""
        if self.generation != generation[0]:
            self.enter()
        if self.tie.made_in != generation[0] + 1:
            self.tie.made_in = generation[0] + 1
        add_relaxed_u64(&self.tie.header.made, 1)  # relaxed: a count
        return self.heap.segment, self.tie.block, self.tie.id

    def send(self, int fd, int side, obj) -> None:
        """Sends an object from the end that has this descriptor."""
        send(self, fd, side, obj)

    def send_bytes(self, int fd, int side, data) -> None:
        """Sends bytes."""
        send_bytes(self, fd, side, data)

    def recv(self, int fd):
        """Receives an object."""
        return recv(fd, self)

    def recv_bytes(self, int fd, most=None):
        """Receives bytes, or the pickle of an object; None: there are more than `most`."""
        return recv_bytes(fd, self, most)

    def waiting(self, side):
        """How many messages that were sent from one end, by this process, are in memory and not taken, and their
        bytes: as of now."""
        cdef Hold hold = self.holding()
        pair_settle(&self.ways[side], &self.heap.c, hold.word)
        return self.ways[side].count, self.ways[side].bytes

    cdef int wait_room(self, int fd, int side) except -1:
        """Waits while much is under way that nobody has taken, as a full pipe would have its writer wait."""
        cdef pair_way_t *way = &self.ways[side]
        cdef pair_wait_t wait
        cdef waiter_t waiter
        cdef pair_sent_t *halfway
        waiter_init(&waiter)
        while way.count >= 2:
            pair_settle(way, &self.heap.c, self.holding().word)
            # What was read and is not taken yet will be at once, or is lost: then nothing is to be waited for.
            if way.count < 2 or way.bytes <= UNDER_WAY_MOST or wire_is_idle(fd):
                break
            halfway = &way.sent[(way.count - 1) // 2]
            wait.heap = &self.heap.c
            wait.gate = &self.tie.header.gate0 if side == 0 else &self.tie.header.gate1
            wait.word = halfway.word
            wait.block = halfway.block
            with nogil:
                pair_round(&wait, &waiter, FOREVER)
            PyErr_CheckSignals()
        return 0

    cdef int post(self, int fd, int side, Block block, int kind, uint64_t size) except -1:
        """Sends a block, which is filled, and this process's no more."""
        cdef Hold hold = block.hold
        cdef pair_note_t note
        cdef pair_way_t *way = &self.ways[side]
        cdef pair_sent_t *sent
        cdef uint64_t begun
        cdef uint32_t number = block.number
        if self.names is None:
            self.names = names_in(self.heap)
        if way.count == way.room:
            sent = <pair_sent_t *>realloc(way.sent, (2 * way.room + 16) * sizeof(pair_sent_t))
            if sent == NULL:
                raise MemoryError()
            way.sent = sent
            way.room = 2 * way.room + 16
        self.names.next += 1
        memset(&note, 0, sizeof(note))
        note.frame = 0xfeffffff  # -2, in network order
        note.kind = kind
        note.side = side
        note.heap = self.heap.c.key
        note.offered = block_held(self.names.first + self.names.next % PAIR_SPAN)
        # The pair's own id holds its header.
        note.sent = block_held(self.tie.id + 1 + self.names.next % (PAIR_SPAN - 1))
        note.size = size
        note.block = number
        note.pair = self.tie.block
        note.pid = os.getpid()
        note.fd = self.heap.c.fd
        if not pair_offer(&self.heap.c, number, hold.word, note.offered):
            raise errors.RecordCorrupt(f"block {number} of a heap was not this process's")
        block.number = 0
        hold.blocks -= 1
        way.clock += 1
        begun = way.clock
        try:
            put_all(fd, &note, sizeof(note))
        except BaseException as error:
            hold = self.holding()
            if pair_pass(&self.heap.c, number, note.offered, hold.word):
                heap_drop(&self.heap.c, number, hold.word)
            if isinstance(error, BrokenPipeError):
                pair_give_up(way, &self.heap.c, hold.word)
            raise
        pair_commit(&self.heap.c, number, note.offered, note.sent)
        way.clock += 1
        if way.count == way.room:  # another thread sent meanwhile
            return 0
        sent = &way.sent[way.count]
        sent.word = note.sent
        sent.size = size
        sent.begun = begun
        sent.ended = way.clock
        sent.block = number
        way.count += 1
        way.bytes += size
        if way.count >= LOOK_MOST or way.bytes > UNDER_WAY_MOST:
            pair_settle(way, &self.heap.c, self.holding().word)
        return 0


def new_pair() -> Pair:
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
    hold.blocks -= 1
    pair_pass(&heap.c, tie.block, hold.word, block_held(tie.id))
    return pair_of(tie)


def find_pair(segment, block, id) -> Pair:
    """The pair that `Pair.give` gave away.  SegmentNotFound: nobody had it any more."""
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
    return pair_of(tie)


cdef Pair pair_of(Tie tie):
    cdef Pair pair = Pair.__new__(Pair)
    pair.heap = tie.heap
    pair.tie = tie
    pair.enter()
    return pair


# ----------------------------------------------------------------------------------------------------------- sending


cdef int send(Pair pair, int fd, int side, object obj) except -1:
    cdef list buffers
    cdef bytes data
    if type(obj) is cnp.ndarray and cnp.PyArray_NBYTES(obj) >= LARGE_LEAST:
        if np.ndarray not in _reducers and np.ndarray not in _common_reducers and send_array(pair, fd, side, obj):
            return 0
    buffers = []
    data = pickle_item(obj, buffers, LARGE_LEAST)
    if PyBytes_GET_SIZE(data) < LARGE_LEAST and not buffers:
        return put_frame(fd, <const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    if send_pickle(pair, fd, side, data, buffers):
        return 0
    if buffers:
        data = whole(data, [bytes(view) if view.readonly else bytearray(view) for view in buffers])
    return put_frame(fd, <const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef int send_bytes(Pair pair, int fd, int side, object data) except -1:
    cdef const uint8_t[::1] view = data
    cdef size_t size = view.shape[0]
    cdef const uint8_t *at = &view[0] if size else <const uint8_t *>""
    cdef Block block
    if size >= LARGE_LEAST:
        block = room_for(pair, fd, side, size)
        if block is not None:
            copy(block.at, at, size)
            return pair.post(fd, side, block, PAIR_BYTES, size)
    return put_frame(fd, at, size)


cdef Block room_for(Pair pair, int fd, int side, uint64_t size):
    """A block; None: there is no memory, so that the message is to go through the pipe."""
    cdef Hold hold
    if pair.ways[side].bytes + size > UNDER_WAY_MOST:
        pair.wait_room(fd, side)
    try:
        hold = pair.holding()
        return pair.heap.block(pair.heap.take(size, hold, clock_ns()), hold)
    except (errors.ShmkitError, OSError):
        return None


cdef bint send_array(Pair pair, int fd, int side, cnp.ndarray array) except -1:
    """Sends a large array; False: it is to be pickled."""
    cdef uint8_t head[HEAD_ROOM]
    cdef Block block
    cdef uint64_t size = cnp.PyArray_NBYTES(array), at = (size + 63) & ~<uint64_t>63, head_size
    cdef int packed
    if not cnp.PyArray_IS_C_CONTIGUOUS(array) and not cnp.PyArray_IS_F_CONTIGUOUS(array):
        if array.dtype.hasobject:
            return False
        array = cnp.PyArray_GETCONTIGUOUS(array)
    packed = pack_lent(array, 0, head, HEAD_ROOM)
    if packed < 0:
        return False
    head_size = packed
    block = room_for(pair, fd, side, at + head_size + 8)
    if block is None:
        return False
    copy(block.at, cnp.PyArray_DATA(array), size)
    memcpy(block.at + at, head, head_size)
    memcpy(block.at + at + head_size, &head_size, 8)
    pair.post(fd, side, block, PAIR_ARRAY, at + head_size + 8)
    return True


cdef bint send_pickle(Pair pair, int fd, int side, bytes data, list buffers) except -1:
    """Sends a large pickle and its buffers; False: there is no memory for it."""
    cdef uint64_t places[3]
    cdef uint64_t count = len(buffers) + 1, at = 8 + 24 * count, size
    cdef uint64_t end = ((at + 63) & ~<uint64_t>63) + PyBytes_GET_SIZE(data)
    cdef const uint8_t[::1] bytes_of
    cdef Block block
    cdef int index
    for view in buffers:
        end = ((end + 63) & ~<uint64_t>63) + <uint64_t>view.nbytes
    block = room_for(pair, fd, side, end)
    if block is None:
        return False
    memcpy(block.at, &count, 8)
    for index in range(<int>count):
        at = (at + 63) & ~<uint64_t>63
        if index == 0:
            size = PyBytes_GET_SIZE(data)
            copy(block.at + at, PyBytes_AS_STRING(data), size)
            places[2] = 0
        else:
            bytes_of = buffers[index - 1]
            size = bytes_of.shape[0]
            copy(block.at + at, &bytes_of[0], size)
            places[2] = not buffers[index - 1].readonly
        places[0] = at
        places[1] = size
        memcpy(block.at + 8 + 24 * index, places, 24)
        at += size
    pair.post(fd, side, block, PAIR_PICKLE, end)
    return True


class _Whole:
    """A pickle together with its buffers, as something that is pickled."""

    def __init__(self, data, buffers):
        self.data = data
        self.buffers = buffers

    def __reduce__(self):
        return partial(pickle.loads, buffers=self.buffers), (self.data,)


cdef bytes whole(object data, list buffers):
    """One pickle of a pickle and its buffers, which the standard library alone can load."""
    return pickle.dumps(_Whole(data, buffers), 5)


# --------------------------------------------------------------------------------------------------------- receiving


def recv_noted(int fd):
    """Receives an object, where it was read that a note follows, and nothing is known of the other end."""
    cdef pair_note_t note
    cdef Block block = take_note(fd, None, &note)
    return recv(fd, None) if block is None else opened(block, &note)


def recv_noted_bytes(int fd, most=None):
    """Likewise bytes, or the pickle of an object; None: there are more than `most`."""
    cdef pair_note_t note
    cdef Block block = take_note(fd, None, &note)
    return recv_bytes(fd, None, most) if block is None else at_most(read_out(block, &note), most)


cdef object at_most(bytes data, object most):
    return None if most is not None and len(data) > most else data


cdef object recv(int fd, Pair pair):
    cdef pair_note_t note
    cdef Block block
    cdef int64_t size
    while True:
        size = get_size(fd)
        if size != WIRE_NOTE:
            return _loads(get_body(fd, size))
        block = take_note(fd, pair, &note)
        if block is not None:
            return opened(block, &note)


cdef object recv_bytes(int fd, Pair pair, object most):
    cdef pair_note_t note
    cdef Block block
    cdef int64_t size
    while True:
        size = get_size(fd)
        if size != WIRE_NOTE:
            return None if most is not None and size > most else get_body(fd, size)
        block = take_note(fd, pair, &note)
        if block is not None:
            return at_most(read_out(block, &note), most)


cdef Block take_note(int fd, Pair pair, pair_note_t *note):
    """Reads a note, and takes the block that it is about; None: its sender was killed before that was its receiver's."""
    cdef Heap heap
    cdef Hold hold
    cdef Block block
    cdef pair_header_t *header
    cdef uint64_t size
    note.frame = 0
    get_all(fd, <char *>note + 4, sizeof(pair_note_t) - 4)
    if pair is not None and pair.heap.c.key == note.heap:
        heap = pair.heap
        hold = pair.holding()
    else:
        heap = heap_by_key(note.heap, note.pid, note.fd)
        hold = heap.holding()
    if note.offered & 3 != BLOCK_HELD or note.sent & 3 != BLOCK_HELD:
        raise errors.RecordCorrupt("a message of a pipe contradicts itself; it is lost")
    if not pair_take(&heap.c, note.block, note.offered, note.sent, hold.word):
        if member_died(&heap.member.own, note.offered >> 2):
            return None
        raise OSError("a message was taken by another reader, or given up: those who share an end need a lock")
    hold.blocks += 1
    block = heap.block(note.block, hold)
    if note.size > block.size:
        raise errors.RecordCorrupt(f"a message of {note.size} bytes lies in a block of {block.size}; it is lost")
    block.used = block.shape = note.size
    header = <pair_header_t *>heap_block_at(&heap.c, note.pair, &size)
    if header != NULL and heap_word(&heap.c, note.pair) == block_held(header.id):
        pair_tell(&header.gate0 if note.side == 0 else &header.gate1)
    return block


cdef object opened(Block block, pair_note_t *note):
    """The object that was sent in a block."""
    cdef list parts
    if note.kind == PAIR_ARRAY:
        return array_in_block(block)
    if note.kind == PAIR_PICKLE:
        parts = parts_of(block)
        return _loads(parts[0], buffers=parts[1:]) if len(parts) > 1 else _loads(parts[0])
    if note.kind == PAIR_BYTES:
        return _loads(block)
    raise errors.RecordCorrupt(f"a message of a pipe says that it is of kind {note.kind}; it is lost")


cdef bytes read_out(Block block, pair_note_t *note):
    """The bytes that were sent in a block, or the pickle of what was."""
    cdef list parts
    if note.kind == PAIR_BYTES:
        data = PyBytes_FromStringAndSize(NULL, note.size)
        copy(PyBytes_AS_STRING(data), block.at, note.size)
        return data
    if note.kind == PAIR_PICKLE:
        parts = parts_of(block)
        if len(parts) == 1:
            return bytes(parts[0])
        return whole(bytes(parts[0]), [bytes(part) if part.readonly else bytearray(part) for part in parts[1:]])
    return bytes(ForkingPickler.dumps(opened(block, note)))


cdef object array_in_block(Block block):
    cdef uint64_t head_size = 0, size = block.used
    if size >= 8:
        memcpy(&head_size, block.at + size - 8, 8)
    if size < 8 or head_size > size - 8 or head_size > HEAD_ROOM:
        raise errors.RecordCorrupt("an array of a pipe contradicts itself; it is lost")
    size -= 8 + head_size
    return unpack(<const uint8_t *>block.at + size, head_size, <uint8_t *>block.at, size, block, True)


cdef list parts_of(Block block):
    """The pickle in a block, and its buffers, as views of it."""
    cdef uint64_t count = 0, index
    cdef uint64_t places[3]
    cdef list parts = []
    view = memoryview(block)
    if block.used >= 8:
        memcpy(&count, block.at, 8)
    if count == 0 or count > block.used // 24:
        raise errors.RecordCorrupt("a pickle of a pipe contradicts itself; it is lost")
    for index in range(count):
        memcpy(places, block.at + 8 + 24 * index, 24)
        if places[0] > block.used or places[1] > block.used - places[0]:
            raise errors.RecordCorrupt("a pickle of a pipe contradicts itself; it is lost")
        part = view[places[0]:places[0] + places[1]]
        parts.append(part if places[2] else part.toreadonly())
    return parts
