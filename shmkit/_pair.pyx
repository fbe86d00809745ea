# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Pair: what goes through a pipe, as messages of the standard library's and as blocks that only a note speaks of.

Small messages are on the wire as they are there.  A large array is copied into a block, with a few bytes that say what
it is; of whatever else the pickle is, with its large buffers beside it.  What is received in a block is that block's
for as long as it is kept.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EBADF
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cimport cython
cimport numpy as cnp

from shmkit._core cimport *
from shmkit._core_heap cimport *
from shmkit._core_pair cimport *
from shmkit._decode cimport unpack
from shmkit._encode cimport pack_lent
from shmkit._heap cimport Block, Heap, Hold, count_blocks
from shmkit._pair_end cimport PairEnd, untied
from shmkit._pair_tie cimport find_tie
from shmkit._pickling cimport pickle_item
from shmkit._record cimport copy
from shmkit._tally cimport tally_message, tally_of_run, wait_begins, wait_ends
from shmkit._wire cimport get_all, get_body, get_size, refused

import copyreg
import pickle
from functools import partial
from multiprocessing.reduction import ForkingPickler

import numpy as np

from shmkit import errors
from shmkit._heap import heap_by_key

cnp.import_array()

cdef uint64_t **tally = tally_of_run()

cdef enum:
    LARGE_LEAST = 16385        # bytes of a message that is worth a block: the standard library writes it in two calls
    HEAD_ROOM = 104

LARGE = LARGE_LEAST

cdef object _loads = pickle.loads, _ndarray = np.ndarray
cdef dict _reducers = ForkingPickler._extra_reducers
cdef dict _common_reducers = copyreg.dispatch_table


@cython.final
@cython.no_gc_clear
cdef class Pair(PairEnd):
    """What this process knows of the two ends of a pipe, of which it has one or both."""

    def send(self, int fd, int side, obj) -> None:
        """Sends an object from the end that has this descriptor."""
        send(self, fd, side, obj)

    def send_bytes(self, int fd, int side, data) -> None:
        """Sends bytes."""
        send_bytes(self, fd, side, data)

    def recv(self, int fd, int side):
        """Receives an object at the end that has this descriptor."""
        return recv(fd, side, self)

    def recv_bytes(self, int fd, int side, most=None):
        """Receives bytes, or the pickle of an object; None: there are more than `most`."""
        return recv_bytes(fd, side, self, most)


def new_pair() -> Pair:
    """For a pipe that is being made."""
    return untied(Pair.__new__(Pair))


def find_pair(segment, block, number) -> Pair:
    """The pair that `Pair.give` gave away.  SegmentNotFound: nobody had it any more."""
    cdef Pair pair = Pair.__new__(Pair)
    pair.settle(find_tie(segment, block, number))
    return pair


# ----------------------------------------------------------------------------------------------------------- sending


cdef int send(Pair pair, int fd, int side, object obj) except -1:
    cdef list buffers
    cdef bytes data
    if type(obj) is cnp.ndarray and cnp.PyArray_NBYTES(obj) >= LARGE_LEAST:
        if _ndarray not in _reducers and _ndarray not in _common_reducers and send_array(pair, fd, side, obj):
            return 0
    buffers = []
    data = pickle_item(obj, buffers, LARGE_LEAST)
    if PyBytes_GET_SIZE(data) < LARGE_LEAST and not buffers:
        return pair.put(fd, side, <const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    if send_pickle(pair, fd, side, data, buffers):
        return 0
    if buffers:
        data = whole(data, [bytes(view) if view.readonly else bytearray(view) for view in buffers])
    return pair.put(fd, side, <const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef int send_bytes(Pair pair, int fd, int side, object data) except -1:
    cdef const uint8_t[::1] view = data
    cdef size_t size = view.shape[0]
    cdef const uint8_t *at = &view[0] if size else <const uint8_t *>""
    cdef Block block
    if size >= LARGE_LEAST:
        block = pair.room(fd, side, size)
        if block is not None:
            copy(block.at, at, size)
            return pair.post(fd, side, block, PAIR_BYTES, size)
    return pair.put(fd, side, at, size)


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
    block = pair.room(fd, side, at + head_size + 8)
    if block is None:
        return False
    copy(block.at, cnp.PyArray_DATA(array), size)
    pair_filling()
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
    block = pair.room(fd, side, end)
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
        pair_filling()
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
    cdef Block block
    read_note(fd, &note)
    block = take_note(None, &note)
    if block is None:
        return recv(fd, 0, None)
    tally_message(tally, note.size, note.size)
    return opened(block, &note)


def recv_noted_bytes(int fd, most=None):
    """Likewise bytes, or the pickle of an object; None: there are more than `most`."""
    cdef pair_note_t note
    cdef Block block
    read_note(fd, &note)
    block = take_note(None, &note)
    if block is None:
        return recv_bytes(fd, 0, None, most)
    tally_message(tally, note.size, note.size)
    return at_most(read_out(block, &note), most)


cdef object at_most(bytes data, object most):
    return None if most is not None and len(data) > most else data


cdef struct Letter:
    # A message as it came: of a large one, the note.
    int64_t size
    bint handed
    uint64_t bytes[MEET_ROOM]
    pair_note_t note


cdef int await_letter(int fd, int side, Pair pair, Letter *letter) except -1:
    """Waits for a message."""
    cdef uint64_t since = 0
    letter.handed = False
    if pair is None:
        letter.size = get_size(fd, 0, 0)
    elif tally[0] == NULL:
        letter.size = pair.get(fd, side, letter.bytes, &letter.handed)
    else:
        since = 0 if wire_poll(fd, 0) > 0 else wait_begins(tally)
        try:
            letter.size = pair.get(fd, side, letter.bytes, &letter.handed)
        finally:
            wait_ends(tally, since)
    if letter.size == WIRE_NOTE:
        if letter.handed:
            memcpy(&letter.note, letter.bytes, sizeof(pair_note_t))
        else:
            read_note(fd, &letter.note)
    return 0


cdef bytes body_of(int fd, Letter *letter):
    """The bytes of a small message."""
    if letter.handed:
        return PyBytes_FromStringAndSize(<const char *>letter.bytes, letter.size)
    return get_body(fd, letter.size)


cdef object next_letter(int fd, int side, Pair pair, Letter *letter, object most):
    """Waits for a message, and reads it: its bytes (None: more than `most`); or its block (None: it is not there).

    That is one turn: a sender who sees that a later message was taken takes this one for lost.
    """
    cdef bint mine = False
    if pair is not None:
        mine = pair.begin(&pair.recv_turns[side], side)
    try:
        await_letter(fd, side, pair, letter)
        if letter.size == WIRE_NOTE:
            return take_note(pair, &letter.note)
        return None if most is not None and letter.size > most else body_of(fd, letter)
    except EOFError:
        if pair is not None and pair.left[side]:
            raise refused(EBADF) from None
        raise
    finally:
        if mine:
            pair.end(&pair.recv_turns[side], fd, side)


cdef object recv(int fd, int side, Pair pair):
    cdef Letter letter
    while True:
        found = next_letter(fd, side, pair, &letter, None)
        if letter.size != WIRE_NOTE:
            if pair is not None:
                tally_message(tally, letter.size, 0)
            return _loads(found)
        if found is not None:
            tally_message(tally, letter.note.size, letter.note.size)
            return opened(found, &letter.note)


cdef object recv_bytes(int fd, int side, Pair pair, object most):
    cdef Letter letter
    while True:
        found = next_letter(fd, side, pair, &letter, most)
        if letter.size != WIRE_NOTE:
            if pair is not None and found is not None:
                tally_message(tally, letter.size, 0)
            return found
        if found is not None:
            tally_message(tally, letter.note.size, letter.note.size)
            return at_most(read_out(found, &letter.note), most)


cdef int read_note(int fd, pair_note_t *note) except -1:
    """Reads the rest of a note."""
    note.frame = 0
    return get_all(fd, <char *>note + 4, sizeof(pair_note_t) - 4, 0)


cdef Block take_note(Pair pair, pair_note_t *note):
    """Takes the block that a note is about; None: its sender was killed before it was sent."""
    cdef Heap heap
    cdef Hold hold
    cdef Block block
    cdef pair_header_t *header
    cdef uint64_t size, held
    if pair is not None and pair.tie is not None and pair.heap.c.key == note.heap:
        heap = pair.heap
        hold = pair.may_hold()
    else:
        heap = heap_by_key(note.heap, note.pid, note.fd)
        hold = heap.holding()
    if note.offered & 3 != BLOCK_HELD or note.sent & 3 != BLOCK_HELD:
        raise errors.RecordCorrupt("a message of a pipe contradicts itself; it is lost")
    # A process that can hold no block takes it as the pair's, in whose lease it has a part, for as long as it copies.
    held = block_held(pair.tie.id) if hold is None else hold.word
    if not pair_take(&heap.c, note.block, note.offered, note.sent, held):
        if member_died(&heap.member.own, note.offered >> 2):
            return None
        raise OSError("a message was taken by another reader, or given up: those who share an end need a lock")
    if hold is None:
        block = copied(heap, note, held)
    else:
        count_blocks(hold, 1)
        block = heap.block(note.block, hold)
    if note.size > block.size:
        raise errors.RecordCorrupt(f"a message of {note.size} bytes lies in a block of {block.size}; it is lost")
    block.used = block.shape = note.size
    header = <pair_header_t *>heap_block_at(&heap.c, note.pair, &size)
    if header != NULL and heap_word(&heap.c, note.pair) == block_held(header.id):
        pair_tell(&header.gate0 if note.side == 0 else &header.gate1)
    return block


cdef Block copied(Heap heap, pair_note_t *note, uint64_t held):
    """A block that was taken, as memory of this process alone; and lets it go."""
    cdef Block made = Block.__new__(Block)
    cdef const char *at = heap_block_at(&heap.c, note.block, &made.size)
    try:
        if at == NULL:
            raise errors.RecordCorrupt(f"block {note.block} of a heap contradicts itself")
        if note.size <= made.size:
            made.memory = PyByteArray_FromStringAndSize(NULL, note.size)
            made.at = PyByteArray_AS_STRING(made.memory)
            copy(made.at, at, note.size)
        pair_copied()
    finally:
        heap_drop(&heap.c, note.block, held)
    return made


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
    return pickle_item(opened(block, note), None)


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
