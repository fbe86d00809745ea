"""Values as the payloads of frames, without Python: small plain ones, arrays, and bytes of any size.

The format is that of ``shmkit/channel/frame.py``.  What is not plain is left to that: the functions say so.
"""

from cpython.buffer cimport PyBUF_SIMPLE
from cpython.bytearray cimport (
    PyByteArray_AS_STRING,
    PyByteArray_CheckExact,
    PyByteArray_FromStringAndSize,
    PyByteArray_GET_SIZE,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact, PyLong_FromLongLong
from cpython.object cimport PyTypeObject
from cpython.ref cimport Py_INCREF
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_CheckExact, PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

cimport numpy as cnp

from shmkit._buffers cimport get_bytes
from shmkit._codes cimport DTYPE_TEXT
from shmkit._core_numpy cimport PyArray_NewFromDescr
from shmkit._dtypes cimport heard_dtype, plain_number, say_dtype

cnp.import_array()

cdef enum:
    ARRAY_HEAD = 4  # dimensions, whether in Fortran's order, size of the dtype's text
    ALIGN = 16  # of an array's elements in its frame
    PLAIN_KINDS = 32  # NumPy's numbers of those dtypes are smaller


cdef inline size_t meta_size(int ndim, uint16_t length) noexcept nogil:
    """Of an array of so many dimensions whose dtype's text has so many bytes."""
    return (ARRAY_HEAD + 8 * <size_t>ndim + length + ALIGN - 1) // ALIGN * ALIGN


cdef list _texts = [None] * PLAIN_KINDS  # of plain dtypes, by their numbers


cdef inline int integer_size(int64_t number) noexcept nogil:
    """As many bytes as it takes with its sign: what ``bit_length() // 8 + 1`` says."""
    cdef uint64_t rest = <uint64_t>number if number >= 0 else <uint64_t>0 - <uint64_t>number
    cdef int bits = 0
    while rest:
        bits += 1
        rest >>= 1
    return bits // 8 + 1


cdef int fill(object value, uint8_t *frame, uint32_t *nbytes) except -1:
    """Writes the payload of a small plain value, and returns its kind; 0: it is none."""
    cdef const char *text
    cdef Py_ssize_t size
    cdef int64_t number
    cdef double real
    cdef int overflow = 0
    if PyBytes_CheckExact(value):
        size = PyBytes_GET_SIZE(value)
        if size > PAYLOAD_MOST:
            return 0
        memcpy(frame, PyBytes_AS_STRING(value), size)
        nbytes[0] = <uint32_t>size
        return BYTES
    if PyByteArray_CheckExact(value):
        size = PyByteArray_GET_SIZE(value)
        if size > PAYLOAD_MOST:
            return 0
        memcpy(frame, PyByteArray_AS_STRING(value), size)
        nbytes[0] = <uint32_t>size
        return BYTEARRAY
    if PyUnicode_CheckExact(value):
        if len(value) > PAYLOAD_MOST:
            return 0
        try:
            text = PyUnicode_AsUTF8AndSize(value, &size)
        except UnicodeEncodeError:
            return 0  # lone surrogates
        if size > PAYLOAD_MOST:
            return 0
        memcpy(frame, text, size)
        nbytes[0] = <uint32_t>size
        return TEXT
    if value is None:
        nbytes[0] = 0
        return NOTHING
    if value is True or value is False:
        frame[0] = 1 if value is True else 0
        nbytes[0] = 1
        return TRUTH
    if PyFloat_CheckExact(value):
        real = PyFloat_AS_DOUBLE(value)
        memcpy(frame, &real, 8)
        nbytes[0] = 8
        return FLOAT
    if PyLong_CheckExact(value):
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow != 0 or number == (<int64_t>1 << 63):
            return 0
        size = integer_size(number)
        if size > 8:
            return 0
        memcpy(frame, &number, size)
        nbytes[0] = <uint32_t>size
        return INTEGER
    return 0


cdef object value_of(int kind, const uint8_t *payload, Py_ssize_t nbytes):
    """The value of a payload (of a pickle: its text); NotImplemented: it has not the size that it should have."""
    cdef double real
    cdef int64_t number
    if kind == BYTES:
        return PyBytes_FromStringAndSize(<const char *>payload, nbytes)
    if kind == BYTEARRAY:
        return PyByteArray_FromStringAndSize(<const char *>payload, nbytes)
    if kind == TEXT:
        try:
            return PyUnicode_DecodeUTF8(<const char *>payload, nbytes, NULL)
        except UnicodeDecodeError:
            return NotImplemented
    if kind == INTEGER:
        if nbytes < 1 or nbytes > 8:
            return NotImplemented
        number = -1 if payload[nbytes - 1] & 0x80 else 0
        memcpy(&number, payload, nbytes)
        return PyLong_FromLongLong(number)
    if kind == FLOAT and nbytes == 8:
        memcpy(&real, payload, 8)
        return real
    if kind == NOTHING and nbytes == 0:
        return None
    if kind == TRUTH and nbytes == 1:
        return payload[0] != 0
    if kind == PICKLE:
        return PyBytes_FromStringAndSize(<const char *>payload, nbytes)
    return NotImplemented


cdef void write_header(uint8_t *frame, int kind, uint32_t meta, uint64_t nbytes) noexcept:
    """The 16 bytes that come first."""
    memset(frame, 0, HEADER)
    frame[0] = MARK
    frame[1] = <uint8_t>kind
    memcpy(frame + 4, &meta, 4)
    memcpy(frame + 8, &nbytes, 8)


cdef object said_of(cnp.dtype kind):
    """The text of a dtype; None: it has none, or is not plain."""
    cdef bytes said
    cdef int number = plain_number(kind)
    if 0 <= number < PLAIN_KINDS and _texts[number] is not None:
        return _texts[number]
    said = say_dtype(<object>kind)
    if said is None or said[0] != DTYPE_TEXT:
        return None
    said = said[1:]
    if 0 <= number < PLAIN_KINDS:
        _texts[number] = said
    return said


cdef Py_ssize_t frame_of(
    object value, bint raw, uint8_t *frame, Py_ssize_t room, const uint8_t **data, uint64_t *nbytes, Py_buffer *view
) except -1:
    """Writes header and meta of an array, bytes or text, and returns their size; 0: it is neither, or not plain.

    `raw`: anything that has a buffer, as bytes.  ``data`` is where the payload lies; NULL: there was room for it in the
    frame, and it counts as well.  ``view`` keeps it where it is, and is released by the caller.
    """
    cdef Py_ssize_t size = HEADER
    cdef int kind = 0
    if PyBytes_CheckExact(value):
        kind = BYTES
        nbytes[0] = PyBytes_GET_SIZE(value)
        data[0] = <const uint8_t *>PyBytes_AS_STRING(value)
    elif raw or PyByteArray_CheckExact(value):
        kind = BYTES if raw else BYTEARRAY
        if not buffer_of(value, view, PyBUF_SIMPLE):
            return 0
        nbytes[0], data[0] = view.len, <const uint8_t *>view.buf
    elif PyUnicode_CheckExact(value) and (<str>value).isascii():
        # Its own bytes; others would have to be made.
        kind = TEXT
        data[0] = <const uint8_t *>PyUnicode_AsUTF8AndSize(value, &size)
        nbytes[0], size = size, HEADER
    elif cnp.PyArray_CheckExact(value):
        kind = ARRAY
        size = array_head(value, frame)
        if size == 0:
            return 0
        nbytes[0] = cnp.PyArray_NBYTES(<cnp.ndarray>value)
        data[0] = <const uint8_t *>cnp.PyArray_DATA(<cnp.ndarray>value)
    else:
        return 0
    write_header(frame, kind, <uint32_t>(size - HEADER), nbytes[0])
    if nbytes[0] < <uint64_t>(room - size):
        memcpy(frame + size, data[0], nbytes[0])
        data[0] = NULL
        size += nbytes[0]
    return size


cdef bint buffer_of(object value, Py_buffer *view, int flags) noexcept:
    """Whether it has a buffer in one piece, and lets it be looked at (or written to)."""
    try:
        get_bytes(value, view, flags)
    except Exception:
        view.itemsize = NO_VIEW
        return False  # the long way says what is wrong, or takes it as it is
    return True


cdef Py_ssize_t array_head(cnp.ndarray array, uint8_t *frame) except -1:
    """Writes an array's meta, and returns where it ends; 0: it is not plain."""
    cdef object said
    cdef Py_ssize_t size, at
    cdef uint16_t length
    cdef uint64_t extent
    cdef int axis, ndim = cnp.PyArray_NDIM(array)
    cdef bint rows = cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_C_CONTIGUOUS)
    if ndim > DIMENSIONS_MOST or not (rows or cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_F_CONTIGUOUS)):
        return 0
    said = said_of(<cnp.dtype>cnp.PyArray_DESCR(array))
    if said is None or PyBytes_GET_SIZE(said) > META_MOST:
        return 0
    length = <uint16_t>PyBytes_GET_SIZE(said)
    size = HEADER + meta_size(ndim, length)
    if size > HEADER + META_MOST:
        return 0
    frame[HEADER] = <uint8_t>ndim
    frame[HEADER + 1] = 0 if rows else 1
    memcpy(frame + HEADER + 2, &length, 2)
    at = HEADER + ARRAY_HEAD
    for axis in range(ndim):
        extent = cnp.PyArray_DIM(array, axis)
        memcpy(frame + at, &extent, 8)
        at += 8
    memcpy(frame + at, PyBytes_AS_STRING(said), length)
    memset(frame + at + length, 0, size - at - length)
    return size


cdef class Like:
    """What the last array was: the next is most often like it, and then nothing has to be read of its meta."""

    cdef bint same(self, const uint8_t *meta, uint32_t size, uint64_t nbytes) noexcept:
        return size == self.size and nbytes == self.nbytes and memcmp(meta, self.meta, size) == 0

    cdef object fresh(self):
        """Another one, to be filled; None: as `empty_array` says."""
        if self.kind is None:
            return empty_array(self.meta, self.size, self.nbytes)
        Py_INCREF(self.kind)  # PyArray_NewFromDescr steals one
        return PyArray_NewFromDescr(
            <PyTypeObject *>cnp.ndarray, <cnp.PyArray_Descr *>self.kind, self.ndim, self.shape, NULL, NULL,
            self.fortran, NULL
        )

    cdef int learn(self, const uint8_t *meta, uint32_t size, uint64_t nbytes, cnp.ndarray array) except -1:
        """That was the last one's meta."""
        cdef int axis
        # Whoever was given a structured dtype may rename its fields, so that each array has one of its own.
        self.kind = <object>cnp.PyArray_DESCR(array)
        if self.kind.names is not None:
            self.kind = None
        self.ndim = cnp.PyArray_NDIM(array)
        self.fortran = meta[1] & 1
        for axis in range(self.ndim):
            self.shape[axis] = cnp.PyArray_DIM(array, axis)
        memcpy(self.meta, meta, size)
        self.size, self.nbytes = size, nbytes
        return 0

    cdef object made(self, const uint8_t *meta, uint32_t size, uint64_t nbytes):
        """The array of a meta, to be filled; None: as `empty_array` says."""
        if self.same(meta, size, nbytes):
            return self.fresh()
        value = empty_array(meta, size, nbytes)
        if value is not None:
            self.learn(meta, size, nbytes, value)
        return value


cdef object empty_array(const uint8_t *meta, size_t size, uint64_t nbytes):
    """The array that a meta describes, to be filled; None: it is not plain, or contradicts itself."""
    cdef cnp.npy_intp shape[DIMENSIONS_MOST]
    cdef uint16_t length
    cdef uint64_t extent, total
    cdef int axis, ndim
    if size < ARRAY_HEAD or nbytes == 0:
        return None
    ndim = meta[0]
    memcpy(&length, meta + 2, 2)
    if ndim > DIMENSIONS_MOST or size != meta_size(ndim, length):
        return None
    try:
        kind = heard_dtype(meta + ARRAY_HEAD + 8 * ndim, length)
    except Exception:
        return None  # the long way says what is wrong
    total = cnp.PyDataType_ELSIZE(<cnp.dtype>kind)
    if total == 0 or kind.hasobject or kind.subdtype is not None:
        return None
    for axis in range(ndim):
        memcpy(&extent, meta + ARRAY_HEAD + 8 * axis, 8)
        if extent == 0 or total > nbytes // extent:
            return None
        total *= extent
        shape[axis] = <cnp.npy_intp>extent
    if total != nbytes:
        return None
    Py_INCREF(kind)  # PyArray_NewFromDescr steals one
    return PyArray_NewFromDescr(
        <PyTypeObject *>cnp.ndarray, <cnp.PyArray_Descr *>kind, ndim, shape, NULL, NULL,
        1 if meta[1] & 1 else 0, NULL
    )


cdef uint8_t *data_of(object array) noexcept:
    """Where an array's bytes lie."""
    return <uint8_t *>cnp.PyArray_DATA(<cnp.ndarray>array)


cdef object flat_of(object owner, const uint8_t *data, uint64_t nbytes):
    """A view of memory that keeps its owner."""
    cdef cnp.npy_intp size = <cnp.npy_intp>nbytes
    view = cnp.PyArray_SimpleNewFromData(1, &size, cnp.NPY_UINT8, <void *>data)
    cnp.set_array_base(view, owner)
    return memoryview(view)


cdef object whole_of(const uint8_t *frame, Py_ssize_t got, uint64_t most, bint raw, Like like):
    """The value of a frame that is all here (of a pickle: its text); NotImplemented: the long way has to look at it.

    `raw`: bytes only, or what can be taken as such.
    """
    cdef uint32_t size
    cdef uint64_t nbytes
    memcpy(&size, frame + 4, 4)
    memcpy(&nbytes, frame + 8, 8)
    if got < HEADER or frame[0] != MARK or frame[2] or frame[3] or nbytes > most or size > META_MOST:
        return NotImplemented
    if <uint64_t>got != HEADER + size + nbytes:
        return NotImplemented
    if frame[1] == ARRAY:
        value = like.made(frame + HEADER, size, nbytes)
        if value is None:
            return NotImplemented
        if raw:
            return PyBytes_FromStringAndSize(<const char *>frame + HEADER + size, <Py_ssize_t>nbytes)
        memcpy(cnp.PyArray_DATA(<cnp.ndarray>value), frame + HEADER + size, nbytes)
        return value
    if size or (raw and frame[1] > BYTEARRAY):
        return NotImplemented
    return value_of(BYTES if raw and frame[1] == BYTEARRAY else frame[1], frame + HEADER, nbytes)


cdef Py_ssize_t rest_of_small(const uint8_t *header, uint64_t most, Py_ssize_t room) noexcept nogil:
    """The bytes of a stream's message after its header, the last one included; -1: it is not small and plain."""
    cdef uint32_t size
    cdef uint64_t nbytes
    memcpy(&size, header + 4, 4)
    memcpy(&nbytes, header + 8, 8)
    if header[0] != MARK or header[2] or header[3] or not BYTES <= header[1] <= PICKLE:
        return -1
    if nbytes > most or nbytes >= <uint64_t>room or (size and (header[1] != ARRAY or size > META_MOST)):
        return -1
    if <Py_ssize_t>(size + nbytes) >= room:
        return -1
    return <Py_ssize_t>(size + nbytes + 1)
