"""SendingEnd: the half of a ring that sends, from the caller's object to the record.

Any thread may call; threads take turns.  What is sent is copied once, into the ring; what is written into a
reservation is not copied at all.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release
from cpython.exc cimport PyErr_CheckSignals
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.number cimport PyNumber_Index
from cpython.tuple cimport PyTuple_CheckExact
from libc.stdint cimport uint8_t, uint64_t

cimport cython
cimport numpy as cnp

from shmkit._buffers cimport get_bytes
from shmkit._core cimport (
    OK, RECORD_ALIGN, RECORD_ARRAY, RECORD_ARRAY_ALIGN, RECORD_BYTES, RING_ROWS_BATCH, ring_abort, ring_commit,
    ring_fill, ring_publish, ring_reserve, ring_reserved, ring_send_rows, status_t,
)
from shmkit._deadline cimport timeout_clock
from shmkit._describe cimport DIMENSIONS_MOST, Form, Memo, array_over
from shmkit._end cimport End, end_send
from shmkit._record cimport Reservation, copy, write_description

import numpy as np

from shmkit import errors
from shmkit.sizes import parse_size

cnp.import_array()

cdef enum:
    SIGNALS_AFTER_BYTES = 1048576


cdef uint64_t positive_size(object value) except? 0:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"a count must be an integer: got {value!r}")
    if value < 1 or value > (1 << 62):
        raise ValueError(f"a count must be positive: got {value}")
    return value


cdef inline bint is_side(object side, cnp.npy_intp expected) except -1:
    cdef int overflow
    return PyLong_CheckExact(side) and PyLong_AsLongLongAndOverflow(side, &overflow) == expected and not overflow


cdef bint is_form(Form form, object shape, object dtype, object order) except -1:
    """Whether that is what `form` was made for.  False where it is not evident."""
    cdef tuple sides
    cdef int axis
    if dtype is not form.asked_dtype or order is not form.asked_order:
        return False
    if not PyTuple_CheckExact(shape):
        return form.ndim == 1 and is_side(shape, form.sides[0])
    sides = <tuple>shape
    if len(sides) != form.ndim:
        return False
    for axis in range(form.ndim):
        if not is_side(sides[axis], form.sides[axis]):
            return False
    return True


@cython.no_gc_clear
cdef class SendingEnd(End):
    """The sending half of Ring; see there."""

    def __cinit__(self, segment):
        self.sent = Memo()

    cdef bint put_array(self, cnp.ndarray array, object timeout, bint wait) except -1:
        cdef bytes text = self.sent.of(array.descr)
        cdef int ndim = cnp.PyArray_NDIM(array)
        cdef uint64_t head = 16 + 8 * ndim + PyBytes_GET_SIZE(text), nbytes = cnp.PyArray_NBYTES(array)
        cdef bint contiguous = cnp.PyArray_IS_C_CONTIGUOUS(array)
        cdef bint fortran = not contiguous and cnp.PyArray_IS_F_CONTIGUOUS(array)
        if not self.room(head, nbytes, RECORD_ARRAY_ALIGN, timeout, wait):
            return False
        cdef uint8_t *record = ring_reserved(&self.p)
        write_description(record, ndim, cnp.PyArray_DIMS(array), fortran, text)
        if contiguous or fortran:
            copy(record + self.p.data_at, cnp.PyArray_DATA(array), nbytes)
        else:
            try:
                into = array_over(
                    array.descr, ndim, cnp.PyArray_DIMS(array), False, record + self.p.data_at, self
                )
                cnp.PyArray_CopyInto(into, array)
            except BaseException:
                ring_abort(&self.p)
                raise
        ring_commit(&self.p, RECORD_ARRAY, nbytes)
        return True

    cdef bint put_bytes(self, const uint8_t *source, uint64_t nbytes, object timeout, bint wait) except -1:
        if not self.room(8, nbytes, RECORD_ALIGN, timeout, wait):
            return False
        copy(ring_reserved(&self.p) + self.p.data_at, source, nbytes)
        ring_commit(&self.p, RECORD_BYTES, nbytes)
        return True

    cdef bint put(self, object data, object timeout, bint wait) except -1:
        """Send one record; the turn is ours."""
        cdef Py_buffer buffer
        if PyBytes_CheckExact(data):
            return self.put_bytes(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), timeout, wait)
        if cnp.PyArray_CheckExact(data):
            return self.put_array(data, timeout, wait)
        if cnp.PyArray_Check(data):
            if isinstance(data, np.ma.MaskedArray):
                raise TypeError("a masked array would lose its mask: send its data and its mask")
            return self.put_array(data, timeout, wait)
        if isinstance(data, np.generic):
            return self.put_array(np.asarray(data), timeout, wait)
        try:
            get_bytes(data, &buffer, PyBUF_SIMPLE)
        except (TypeError, BufferError) as error:
            raise TypeError(
                f"a ring carries bytes-like objects (contiguous) and NumPy arrays: got {type(data).__name__} ({error})"
            ) from None
        try:
            if not self.produces:
                self.usable()  # what exported the buffer has closed the ring
            return self.put_bytes(<const uint8_t *>buffer.buf, buffer.len, timeout, wait)
        finally:
            PyBuffer_Release(&buffer)

    def send(self, data, timeout=None) -> None:
        """Send a bytes-like object or an array as one record, waiting for room at most `timeout` seconds.

        TimeoutError; RecordTooLarge, at once, for what can never fit; Broken or PeerDied if the ring is full and nobody
        is left to empty it; TypeError for other objects (and arrays of them); RoleTaken; Closed.
        """
        self.begin_send(timeout, True)
        try:
            self.put(data, timeout, True)
        finally:
            end_send(self)

    def try_send(self, data) -> bool:
        """Send if there is room now, and say whether.  Raises as `send` does, but for TimeoutError.

        A record that is refused has left nothing behind; but where it and the rest of the lap are together more than
        the capacity (so it is more than half of that), the rest has been given up to make room: ``free`` is less until
        the consumer next looks.  No record, no count and no order changes.
        """
        if not self.begin_send(None, False):
            return False
        try:
            return self.put(data, None, False)
        finally:
            end_send(self)

    def send_many(self, items, timeout=None, *, itemsize=None) -> int:
        """Send each of `items` as a record of its own, in few publications; return how many that were.

        With `itemsize`, `items` is one contiguous buffer that is cut into records of so many bytes.  `timeout` is for
        all; when it is up, TimeoutError, whose attribute ``sent`` says how many got through.
        """
        cdef Py_ssize_t sent = 0
        self.begin_send(timeout, True)
        try:
            if itemsize is not None:
                return self.put_rows(items, itemsize, timeout, &sent)
            return self.put_items(items, timeout, &sent)
        except (TimeoutError, errors.ShmkitError) as error:
            error.sent = sent
            raise
        finally:
            end_send(self)

    cdef Py_ssize_t put_items(self, object items, object timeout, Py_ssize_t *sent) except -1:
        cdef uint64_t nbytes
        cdef Py_ssize_t unpublished = 0
        if timeout is not None:
            timeout = timeout_clock(timeout)
        try:
            for item in items:
                if not self.produces:
                    self.usable()  # what makes the items has closed the ring
                if PyBytes_CheckExact(item):
                    nbytes = PyBytes_GET_SIZE(item)
                    if ring_reserve(&self.p, 8, nbytes, RECORD_ALIGN) == OK:
                        copy(ring_reserved(&self.p) + self.p.data_at, PyBytes_AS_STRING(item), nbytes)
                        ring_fill(&self.p, RECORD_BYTES, nbytes)
                        sent[0] += 1
                        unpublished += 1
                        if unpublished == RING_ROWS_BATCH:
                            ring_publish(&self.p)
                            unpublished = 0
                            PyErr_CheckSignals()
                        continue
                if unpublished:
                    ring_publish(&self.p)
                    unpublished = 0
                self.put(item, timeout if timeout is None else timeout(), True)
                sent[0] += 1
        finally:
            if self.produces:
                if unpublished:
                    ring_publish(&self.p)
            else:
                sent[0] -= unpublished
        return sent[0]

    cdef Py_ssize_t put_rows(self, object items, object itemsize, object timeout, Py_ssize_t *sent) except -1:
        cdef Py_buffer buffer
        cdef uint64_t size = positive_size(itemsize)
        cdef Py_ssize_t count, stretch
        cdef status_t status
        cdef const uint8_t *rows
        if timeout is not None:
            timeout = timeout_clock(timeout)
        get_bytes(items, &buffer, PyBUF_SIMPLE)
        try:
            if buffer.len % size:
                raise ValueError(f"a buffer of {buffer.len} bytes cannot be cut into records of itemsize {itemsize}")
            if not self.produces:
                self.usable()
            count = buffer.len // size
            stretch = max(1, <Py_ssize_t>(SIGNALS_AFTER_BYTES // size))
            rows = <const uint8_t *>buffer.buf
            while True:
                with nogil:
                    sent[0] += ring_send_rows(
                        &self.p, rows + sent[0] * size, size, min(count - sent[0], stretch), &status
                    )
                PyErr_CheckSignals()
                if sent[0] == count:
                    return count
                if status == OK:
                    continue
                self.room(8, size, RECORD_ALIGN, timeout if timeout is None else timeout(), True)
                ring_abort(&self.p)
        finally:
            PyBuffer_Release(&buffer)

    def reserve(self, shape, dtype=None, timeout=None, *, order="C") -> Reservation:
        """Reserve room for an array of `shape` and `dtype`, or for so many bytes, to be written in the ring itself.

        Use it as a context manager (commit on a clean exit, abort on an exception), or call ``commit()``, ``abort()``.
        One reservation at a time; nothing else can be sent meanwhile.  Raises as `send` does.
        """
        cdef Reservation slot = Reservation.__new__(Reservation)
        cdef Form form = None
        cdef uint64_t head = 8, nbytes
        if dtype is None:
            nbytes = parse_size(shape)
        else:
            with cython.critical_section(self):
                form = self.reserved
                if form is None or not is_form(form, shape, dtype, order):
                    self.reserved = form = self.form_of(shape, dtype, order)
            nbytes = form.nbytes
            head = 16 + 8 * form.ndim + PyBytes_GET_SIZE(form.text)
        self.begin_send(timeout, True)
        try:
            self.room(head, nbytes, RECORD_ARRAY_ALIGN, timeout, True)
            slot.data = ring_reserved(&self.p) + self.p.data_at
            if form is not None:
                write_description(ring_reserved(&self.p), form.ndim, form.sides, form.fortran, form.text)
            slot.form, slot.nbytes = form, nbytes
            slot.ring, slot.mapping, slot.producer, slot.turn = self, self.mapping, &self.p, &self.send_turn
            slot.current, slot.session = &self.session, self.session
        finally:
            end_send(self)
        return slot

    cdef Form form_of(self, object shape, object dtype, object order):
        cdef Form form = Form.__new__(Form), last = self.reserved
        cdef uint64_t nbytes
        cdef int axis = 0
        if last is not None and dtype is last.asked_dtype:
            form.dtype = last.dtype
        else:
            form.dtype = np.dtype(dtype)
        form.text = self.sent.of(form.dtype)
        # Names of fields can be changed in place: the identity of such a dtype says nothing.
        form.asked_dtype = None if cnp.PyDataType_HASFIELDS(form.dtype) else dtype
        form.asked_order = order
        if order != "C" and order != "F":
            raise ValueError(f"order must be 'C' or 'F': got {order!r}")
        form.fortran = order == "F"
        if not isinstance(shape, tuple):
            shape = tuple(shape) if isinstance(shape, list) else (shape,)
        if len(shape) > DIMENSIONS_MOST:
            raise ValueError(f"an array has at most {DIMENSIONS_MOST} dimensions: got {len(shape)}")
        nbytes = cnp.PyDataType_ELSIZE(form.dtype)
        for axis in range(len(shape)):
            try:
                form.sides[axis] = PyNumber_Index(shape[axis])
            except OverflowError:
                raise errors.RecordTooLarge(
                    f"an array of shape {shape!r} can never fit ({self.label})"
                ) from None
            if form.sides[axis] < 0:
                raise ValueError(f"dimensions must not be negative: got {shape!r}")
            if nbytes != 0 and <uint64_t>form.sides[axis] > (<uint64_t>1 << 62) // nbytes:
                raise errors.RecordTooLarge(f"an array of shape {shape!r} can never fit ({self.label})")
            nbytes *= <uint64_t>form.sides[axis]
        form.ndim = len(shape)
        form.nbytes = nbytes
        return form
