"""Records as Python sees them: copied out, viewed in place, reserved in place.

A record is bytes, or an array with its dtype and shape.  Whatever a record says of itself is copied to private memory,
checked there, and not read again: the other process may be anything.  The layout is "record" in ``_layout.h``.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.number cimport PyNumber_Index
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

cimport cython
cimport numpy as cnp

from shmkit._core cimport (
    FREE_THREADED, RECORD_ARRAY, RECORD_BYTES, record_array_t, record_data_at, record_kind, record_nbytes, ring_abort,
    ring_commit, ring_unhold, ring_within, ring_without, turn_ask, turn_end, turn_mine, turn_t, turn_try, turn_wait,
)
from shmkit._core_copy cimport copy_streaming, copy_streams_from
from shmkit._describe cimport DIMENSIONS_MOST, Form, Memo, array_over
from shmkit._map cimport fork_generation

from shmkit.errors import RecordCorrupt

cnp.import_array()

cdef enum:
    ORDER_C = 67  # "C"
    ORDER_F = 70  # "F"

cdef const uint64_t *generation = fork_generation()
cdef size_t streams_from = copy_streams_from()


cdef void copy(void *target, const void *source, size_t nbytes) noexcept:
    """memcpy that lets other threads run while it copies much, and spares the caches what they cannot hold."""
    if nbytes < COPY_WITHOUT_GIL:
        memcpy(target, source, nbytes)
    else:
        with nogil:
            if nbytes < streams_from:
                memcpy(target, source, nbytes)
            else:
                copy_streaming(target, source, nbytes)


cdef Form read_form(const uint8_t *record, uint64_t word, Memo memo):
    """What the record at `record` says of itself (None: bytes); RecordCorrupt if that cannot be true."""
    cdef Form form = memo.form
    cdef uint64_t first
    if record_kind(word) == RECORD_BYTES:
        return None
    if form is not None and form.first != 0 and record_nbytes(word) == form.nbytes and (
        record_data_at(word) >= 16 + 8 * <uint64_t>form.ndim + PyBytes_GET_SIZE(form.text)
    ):
        # The same bytes as last time mean the same, whatever becomes of them meanwhile.
        memcpy(&first, record + 8, 8)
        if first == form.first and memcmp(record + 16, form.sides, 8 * form.ndim) == 0 and memcmp(
            record + 16 + 8 * form.ndim, PyBytes_AS_STRING(form.text), PyBytes_GET_SIZE(form.text)
        ) == 0:
            return form
    memo.form = form = parse_form(record, word, memo)
    return form


cdef Form parse_form(const uint8_t *record, uint64_t word, Memo memo):
    cdef Form form = Form.__new__(Form)
    cdef record_array_t head
    cdef uint64_t nbytes = record_nbytes(word), data_at = record_data_at(word), bytes_over
    cdef cnp.npy_intp side
    cdef bint empty = False
    cdef int axis, i
    if data_at < 8 + sizeof(head):
        raise RecordCorrupt(f"an array record needs 16 bytes before its payload: it says {data_at}")
    memcpy(&head, record + 8, sizeof(head))
    if head.ndim > DIMENSIONS_MOST or <uint64_t>16 + 8 * head.ndim + head.descr_size > data_at:
        raise RecordCorrupt(
            f"a description of {head.ndim} dimensions and {head.descr_size} bytes of dtype does not fit {data_at} bytes"
        )
    memcpy(form.sides, record + 16, 8 * head.ndim)
    try:
        form.dtype = memo.find(<const char *>record + 16 + 8 * head.ndim, head.descr_size)
    except ValueError as error:
        raise RecordCorrupt(str(error)) from None
    form.ndim = head.ndim
    form.nbytes = nbytes
    bytes_over = cnp.PyDataType_ELSIZE(form.dtype)
    form.fortran = head.order == ORDER_F
    if head.order != ORDER_F and head.order != ORDER_C:
        raise RecordCorrupt(f"the order of an array record is 'C' or 'F': it says {head.order}")
    # NumPy bounds the product of all dimensions but the zeros, and so does this.
    for axis in range(head.ndim):
        side = form.sides[axis]
        if side < 0 or (side != 0 and <uint64_t>side > (<uint64_t>1 << 62) // bytes_over):
            raise RecordCorrupt(f"dimension {axis} of an array record cannot be {side}")
        if side == 0:
            empty = True
        else:
            bytes_over *= <uint64_t>side
    if nbytes != (0 if empty else bytes_over):
        dimensions = tuple([form.sides[i] for i in range(head.ndim)])
        raise RecordCorrupt(f"an array of shape {dimensions} and dtype {form.dtype} cannot take {nbytes} bytes")
    if form.dtype is memo.dtype:  # else its fields have names, which whoever receives it can change in place
        memcpy(&form.first, &head, 8)
        form.text = memo.text
    return form


cdef void write_description(uint8_t *record, int ndim, const cnp.npy_intp *shape, bint fortran, bytes text) noexcept:
    cdef record_array_t head
    head.ndim = ndim
    head.order = ORDER_F if fortran else ORDER_C
    head.descr_size = PyBytes_GET_SIZE(text)
    head.pad = 0
    memcpy(record + 8, &head, sizeof(head))
    memcpy(record + 16, shape, 8 * ndim)
    memcpy(record + 16 + 8 * ndim, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef object copy_out(const uint8_t *record, uint64_t word, Memo memo):
    """The record as an object of the receiver's own: bytes, or an ndarray."""
    cdef uint64_t nbytes = record_nbytes(word)
    if record_kind(word) == RECORD_BYTES:
        if nbytes < COPY_WITHOUT_GIL:
            return PyBytes_FromStringAndSize(<const char *>record + record_data_at(word), nbytes)
        item = PyBytes_FromStringAndSize(NULL, nbytes)
        copy(PyBytes_AS_STRING(item), record + record_data_at(word), nbytes)
        return item
    item = read_form(record, word, memo).over(NULL, None)
    copy(cnp.PyArray_DATA(<cnp.ndarray>item), record + record_data_at(word), nbytes)
    return item


cdef inline bint live(Payload payload) noexcept:
    """Whether it still means something: not done, the ring not closed, this process not a forked child."""
    return not payload.done and payload.current.number == payload.session.number and (
        payload.session.generation == generation[0]
    )


cdef bint begin(turn_t *turn) noexcept:
    """Without a GIL, what a reservation does is an operation at its end, as a send is; True: `finish` it.

    Who has the turn meanwhile finds the reservation open and leaves, or closes the ring; or it is this very thread,
    which a signal's handler interrupts.
    """
    if not FREE_THREADED or turn_mine(turn):
        return False
    while not turn_try(turn):
        turn_ask(turn)
        with nogil:
            turn_wait(turn, 1000000)
    return True


cdef inline void finish(turn_t *turn, bint begun) noexcept:
    if begun:
        turn_end(turn)


@cython.freelist(32)
@cython.no_gc  # it holds a ring, which holds no views: no cycle
cdef class Payload:
    """Memory inside a ring: exports its bytes, and makes an array of itself where it is one."""

    def __init__(self):
        raise TypeError(f"a {type(self).__name__} is made by a Ring")

    cdef object over(self):
        if self.form is None:
            return memoryview(self)
        return self.form.over(self.data, self)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.nbytes, False, flags)

    def __len__(self):
        return self.nbytes

    @property
    def nbytes(self) -> int:
        """Bytes of the payload."""
        return self.nbytes

    @property
    def buf(self) -> memoryview:
        """The payload as a memoryview of bytes."""
        return memoryview(self)

    @property
    def array(self):
        """The payload as an ndarray in the ring itself: the array that it is, or the bytes as uint8."""
        cdef cnp.npy_intp side = self.nbytes
        if self.form is not None:
            return self.over()
        return array_over(cnp.PyArray_DescrFromType(cnp.NPY_UINT8), 1, &side, False, self.data, self)


@cython.final
@cython.no_gc
cdef class RecordView(Payload):
    """A received record, read where it lies in the ring.

    As a context manager it gives the ndarray (or the memoryview, for bytes) and releases the record on exit; otherwise
    the record is released by ``release()``, or when the view and every array made from it are gone.  The memory is the
    receiver's to read and to write until then.  What is kept beyond an explicit release shows what the producer writes
    there next; it cannot crash, since the mapping lives as long as anything that points into it.
    """

    cdef void let_go(self) noexcept:
        # Within: whoever closes the ring meanwhile has ended the session before, or gives the end up only afterwards.
        ring_within(self.consumer)
        if live(self):
            ring_unhold(self.consumer, self.ticket)
        ring_without(self.consumer)
        self.done = True

    def release(self) -> None:
        """Give the record back to the producer.  Idempotent."""
        self.let_go()

    @property
    def valid(self) -> bool:
        """Whether the record is still held: False after release(), after the ring's close(), and in a forked child."""
        return live(self)

    @cython.binding(False)
    def __enter__(self):
        return self.over()

    @cython.binding(False)
    def __exit__(self, exc_type, exc_value, traceback) -> None:
        self.let_go()

    def __dealloc__(self):
        if self.ring is not None:
            self.let_go()

    def __repr__(self) -> str:
        kind = "bytes" if self.form is None else str(self.form.dtype)
        return f"<RecordView of {self.nbytes} bytes ({kind}), {'held' if live(self) else 'released'}>"


@cython.final
@cython.no_gc
cdef class Reservation(Payload):
    """Room in a ring, written in place and then sent.

    As a context manager it gives the ndarray (or the memoryview), commits on a clean exit and aborts on an exception;
    otherwise ``commit()`` or ``abort()``.  A reservation that is dropped uncommitted has not happened.
    """

    cdef void send(self, uint64_t nbytes) noexcept:
        self.done = True
        ring_commit(self.producer, RECORD_BYTES if self.form is None else RECORD_ARRAY, nbytes)

    cdef bint send_once(self, uint64_t nbytes) noexcept:
        """Whether it was still to be sent: then it is."""
        cdef bint begun = begin(self.turn), was = live(self)
        if was:
            self.send(nbytes)
        finish(self.turn, begun)
        return was

    cdef int refuse(self) except -1:
        raise ValueError("this reservation has been committed or aborted, or its ring was closed")

    def commit(self, nbytes=None) -> None:
        """Send the record; `nbytes` (bytes reservations only) sends the first so many bytes of it.

        ValueError when it was committed or aborted before, or more bytes are asked for than were reserved.
        """
        cdef uint64_t size = self.nbytes
        if not live(self):
            self.refuse()
        if nbytes is not None:
            nbytes = PyNumber_Index(nbytes)
            if self.form is not None:
                raise ValueError("an array reservation is committed whole: reserve bytes to send fewer than reserved")
            if not 0 <= nbytes <= self.nbytes:
                raise ValueError(f"nbytes must be from 0 to the {self.nbytes} reserved: got {nbytes}")
            size = nbytes
        if not self.send_once(size):
            self.refuse()

    cdef void give_up(self) noexcept:
        cdef bint begun = begin(self.turn)
        if live(self):
            ring_abort(self.producer)
        self.done = True
        finish(self.turn, begun)

    def abort(self) -> None:
        """Give the room back; nothing is sent.  Idempotent."""
        self.give_up()

    @property
    def valid(self) -> bool:
        """Whether the reservation is still to be committed or aborted."""
        return live(self)

    @cython.binding(False)
    def __enter__(self):
        return self.over()

    @cython.binding(False)
    def __exit__(self, exc_type, exc_value, traceback) -> None:
        if exc_type is not None:
            self.give_up()
        elif not self.send_once(self.nbytes) and not self.done:
            self.refuse()

    def __dealloc__(self):
        if self.ring is not None and live(self):
            self.give_up()

    def __repr__(self) -> str:
        kind = "bytes" if self.form is None else str(self.form.dtype)
        return f"<Reservation of {self.nbytes} bytes ({kind}), {'open' if live(self) else 'done'}>"
