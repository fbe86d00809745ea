# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Objects to bytes: what an item of a queue becomes (``_codes.pxd`` says what the bytes mean).

Values of the exact types None, bool, int, float, complex, str, bytes, bytearray, of NumPy's scalars and arrays (of
any dtype without objects), and tuples, lists, dicts, sets and frozensets of them are encoded here.  Whatever has
anything else in it is pickled as a whole, with protocol 5 and its buffers out of band: subclasses too, containers
that hold the same mutable object twice, as what arrives has to be one object then, and such as hold themselves.  A
memoryview arrives as the bytes that it shows.

Nothing here runs code of the user's except pickling.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_CheckExact, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.complex cimport PyComplex_CheckExact, PyComplex_ImagAsDouble, PyComplex_RealAsDouble
from cpython.dict cimport PyDict_CheckExact, PyDict_Size
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.list cimport PyList_CheckExact
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.ref cimport Py_REFCNT
from cpython.set cimport PyFrozenSet_CheckExact
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_DATA, PyUnicode_GET_LENGTH, PyUnicode_KIND
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

cimport numpy as cnp

from shmkit._codes cimport *
from shmkit._decode cimport copy_array
from shmkit._pickling cimport pickle_item

import sys

import numpy as np

cnp.import_array()

cdef enum:
    NOT_HERE = 1               # not to be encoded here, or there is no room
    WITHOUT_GIL = 1 << 16      # bytes that are copied without the GIL

# Whether an object that has one reference cannot come twice in what holds it.
cdef bint COUNTS_ALL = sys.version_info < (3, 14) and getattr(sys, "_is_gil_enabled", lambda: True)()

cdef dict _dtypes = {}         # dtype → the bytes that say it; of those that are no plain ones


# ------------------------------------------------------------------------------------------------------------ writing


cdef inline void begin(writer_t *writer, uint8_t *head, size_t room, void *parcel) noexcept:
    writer.at = head
    writer.used = 0
    writer.room = room
    writer.parcel = parcel
    writer.depth = 0


cdef inline int need(writer_t *writer, size_t size) except -1:
    """Makes sure of room for `size` bytes more; NOT_HERE if there is none."""
    if size <= writer.room - writer.used:
        return 0
    if writer.parcel == NULL:
        return NOT_HERE
    return (<Parcel>writer.parcel).grow(writer, size)


cdef inline int write_byte(writer_t *writer, uint8_t value) except -1:
    if need(writer, 1):
        return NOT_HERE
    writer.at[writer.used] = value
    writer.used += 1
    return 0


cdef inline int write_raw(writer_t *writer, const void *data, size_t size) except -1:
    if need(writer, size):
        return NOT_HERE
    memcpy(writer.at + writer.used, data, size)
    writer.used += size
    return 0


cdef inline int write_coded(writer_t *writer, uint8_t code, const void *data, size_t size) except -1:
    """A code, and a few bytes."""
    if need(writer, size + 1):
        return NOT_HERE
    writer.at[writer.used] = code
    memcpy(writer.at + writer.used + 1, data, size)
    writer.used += size + 1
    return 0


cdef inline int write_number(writer_t *writer, uint64_t value) except -1:
    if need(writer, 10):
        if value >= 128 or need(writer, 1):
            return NOT_HERE
    while value >= 128:
        writer.at[writer.used] = <uint8_t>(value | 128)
        writer.used += 1
        value >>= 7
    writer.at[writer.used] = <uint8_t>value
    writer.used += 1
    return 0


cdef int write_run(writer_t *writer, object keeper, const void *data, size_t size) except -1:
    """A run of bytes: in the stream, or a part."""
    if write_number(writer, size):
        return NOT_HERE
    if size < PART_LEAST:
        return write_raw(writer, data, size)
    if writer.parcel == NULL:
        return NOT_HERE
    return (<Parcel>writer.parcel).add_part(keeper, data, size)


# ----------------------------------------------------------------------------------------------------------- encoding


cdef int encode(writer_t *writer, object item) except -1:
    """Writes one value; NOT_HERE if it is to be pickled, or does not fit."""
    cdef int overflow = 0
    cdef int64_t number
    cdef double parts[2]
    cdef size_t size
    cdef uint8_t kind
    if PyBytes_CheckExact(item):
        if write_byte(writer, CODE_BYTES):
            return NOT_HERE
        return write_run(writer, item, PyBytes_AS_STRING(item), PyBytes_GET_SIZE(item))
    if PyLong_CheckExact(item):
        number = PyLong_AsLongLongAndOverflow(item, &overflow)
        if overflow:
            return encode_int(writer, item)
        if -128 <= number < 128:
            kind = <uint8_t>number
            return write_coded(writer, CODE_INT8, &kind, 1)
        return write_coded(writer, CODE_INT64, &number, 8)
    if isinstance(item, str):
        if type(item) is not str:
            return NOT_HERE
        size = PyUnicode_GET_LENGTH(item)
        kind = <uint8_t>PyUnicode_KIND(item)
        if kind == 1:
            if write_byte(writer, CODE_ASCII if is_ascii(<const uint8_t *>PyUnicode_DATA(item), size) else CODE_LATIN):
                return NOT_HERE
        elif write_byte(writer, CODE_UCS2 if kind == 2 else CODE_UCS4):
            return NOT_HERE
        return write_run(writer, item, PyUnicode_DATA(item), size * kind)
    if PyFloat_CheckExact(item):
        parts[0] = PyFloat_AS_DOUBLE(item)
        return write_coded(writer, CODE_FLOAT, parts, 8)
    if item is None:
        return write_byte(writer, CODE_NONE)
    if item is True:
        return write_byte(writer, CODE_TRUE)
    if item is False:
        return write_byte(writer, CODE_FALSE)
    if type(item) is cnp.ndarray:
        if mutable_again(writer, item):
            return NOT_HERE
        return encode_array(writer, item)
    if PyTuple_CheckExact(item) or PyList_CheckExact(item) or PyDict_CheckExact(item) or type(item) in (set, frozenset):
        if writer.depth >= DEPTH_MOST or mutable_again(writer, item):
            return NOT_HERE
        writer.depth += 1
        overflow = encode_container(writer, item)
        writer.depth -= 1
        return overflow
    if PyComplex_CheckExact(item):
        parts[0] = PyComplex_RealAsDouble(item)
        parts[1] = PyComplex_ImagAsDouble(item)
        return write_coded(writer, CODE_COMPLEX, parts, 16)
    if PyByteArray_CheckExact(item):
        return encode_bytearray(writer, item)
    if isinstance(item, np.generic):
        return encode_scalar(writer, item)
    if type(item) is memoryview:
        return encode_memoryview(writer, item)
    return NOT_HERE


cdef inline bint is_ascii(const uint8_t *at, size_t size) noexcept nogil:
    cdef uint64_t word, all = 0
    cdef size_t i = 0
    while i + 8 <= size:
        memcpy(&word, at + i, 8)
        all |= word
        i += 8
    while i < size:
        all |= <uint64_t>at[i]
        i += 1
    return all & <uint64_t>0x8080808080808080 == 0


cdef bint mutable_again(writer_t *writer, object item) except -1:
    """Whether a mutable object, which is in a container, was encoded already: it has to arrive as one object.

    One that nobody else refers to cannot come twice.
    """
    if writer.depth == 0 or PyTuple_CheckExact(item) or PyFrozenSet_CheckExact(item):
        return False
    # What holds it, and the variable that it was taken out into.
    if COUNTS_ALL and Py_REFCNT(item) <= 2:
        return False
    if writer.parcel == NULL:
        return True
    cdef Parcel parcel = <Parcel>writer.parcel
    if parcel.seen is None:
        parcel.seen = set()
    key = <uint64_t><void *>item
    if key in parcel.seen:
        return True
    parcel.seen.add(key)
    parcel.keepers.append(item)  # so that its address is not another's while this lasts
    return False


cdef int encode_container(writer_t *writer, object item) except -1:
    cdef Py_ssize_t index, count
    cdef list members
    if PyTuple_CheckExact(item):
        count = PyTuple_GET_SIZE(item)
        if write_byte(writer, CODE_TUPLE) or write_number(writer, count):
            return NOT_HERE
        for index in range(count):
            if encode(writer, <object>PyTuple_GET_ITEM(item, index)):
                return NOT_HERE
        return 0
    if PyDict_CheckExact(item):
        count = PyDict_Size(item)
        if write_byte(writer, CODE_DICT) or write_number(writer, count):
            return NOT_HERE
        # Nothing below runs code of the user's, but without a GIL another thread may change it: then this raises.
        for key, value in (<dict>item).items():
            if encode(writer, key) or encode(writer, value):
                return NOT_HERE
            count -= 1
        return 0 if count == 0 else NOT_HERE
    if PyList_CheckExact(item):
        members = <list>item
        count = len(members)
        if write_byte(writer, CODE_LIST) or write_number(writer, count):
            return NOT_HERE
    else:
        members = None
        count = len(item)
        if write_byte(writer, CODE_SET if type(item) is set else CODE_FROZENSET) or write_number(writer, count):
            return NOT_HERE
    for value in members if members is not None else item:
        if encode(writer, value):
            return NOT_HERE
        count -= 1
    return 0 if count == 0 else NOT_HERE


cdef int encode_int(writer_t *writer, object item) except -1:
    cdef bytes data = item.to_bytes(item.bit_length() // 8 + 1, "little", signed=True)
    return write_byte(writer, CODE_INT) or write_run(writer, data, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef int encode_bytearray(writer_t *writer, bytearray item) except -1:
    if mutable_again(writer, item) or write_byte(writer, CODE_BYTEARRAY):
        return NOT_HERE
    if PyByteArray_GET_SIZE(item) < PART_LEAST:
        return write_run(writer, item, PyByteArray_AS_STRING(item), PyByteArray_GET_SIZE(item))
    if writer.parcel == NULL:
        return NOT_HERE
    return write_view(writer, memoryview(item))  # which keeps it from being resized


cdef int encode_memoryview(writer_t *writer, object item) except -1:
    if write_byte(writer, CODE_BYTES):
        return NOT_HERE
    if not item.c_contiguous:
        data = item.tobytes()
        return write_run(writer, data, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return write_view(writer, item)


cdef int write_view(writer_t *writer, object view) except -1:
    """A run of the bytes of a contiguous memoryview."""
    cdef const uint8_t[::1] data
    if view.nbytes == 0:
        return write_number(writer, 0)
    flat = view.cast("B")
    data = flat
    return write_run(writer, flat, &data[0], data.shape[0])


# -------------------------------------------------------------------------------------------------------------- NumPy


cdef int write_dtype(writer_t *writer, object kind) except -1:
    """NOT_HERE for a dtype that has Python objects in it."""
    cdef int number = (<cnp.dtype>kind).type_num
    cdef bytes said
    if number < cnp.NPY_OBJECT or number == cnp.NPY_FLOAT16:
        if cnp.PyDataType_ISNOTSWAPPED(<cnp.dtype>kind) and kind.metadata is None:
            return write_byte(writer, <uint8_t>number)
    said = _dtypes.get(kind)
    if said is None:
        if kind.hasobject:
            return NOT_HERE
        if kind.metadata is None and kind.fields is None and kind.subdtype is None and np.dtype(kind.str) == kind:
            said = bytes([DTYPE_TEXT]) + kind.str.encode()
        else:
            said = bytes([DTYPE_PICKLE]) + pickle_item(kind, None)
        # Equal dtypes may differ in their metadata.
        if kind.metadata is None and len(_dtypes) < 1000:
            _dtypes[kind] = said
    if write_byte(writer, said[0]):
        return NOT_HERE
    return write_run(writer, said, PyBytes_AS_STRING(said) + 1, PyBytes_GET_SIZE(said) - 1)


cdef int write_shape(writer_t *writer, cnp.ndarray array, bint fortran) except -1:
    cdef int axis, count = cnp.PyArray_NDIM(array)
    if write_byte(writer, <uint8_t>(count | (ORDER_F if fortran else 0))):
        return NOT_HERE
    for axis in range(count):
        if write_number(writer, cnp.PyArray_DIMS(array)[axis]):
            return NOT_HERE
    return 0


cdef int encode_array(writer_t *writer, cnp.ndarray array) except -1:
    cdef cnp.dtype kind = <cnp.dtype>cnp.PyArray_DESCR(array)
    cdef size_t size = cnp.PyArray_NBYTES(array)
    cdef bint straight = cnp.PyArray_IS_C_CONTIGUOUS(array), fortran = False
    if kind.hasobject:
        return NOT_HERE
    if writer.parcel == NULL and size >= writer.room:
        return NOT_HERE
    if not straight:
        straight = fortran = cnp.PyArray_IS_F_CONTIGUOUS(array)
    if write_byte(writer, CODE_ARRAY) or write_dtype(writer, kind) or write_shape(writer, array, fortran):
        return NOT_HERE
    if straight:
        return write_run(writer, array, cnp.PyArray_DATA(array), size)
    if size < PART_LEAST:
        array = cnp.PyArray_GETCONTIGUOUS(array)
        return write_run(writer, array, cnp.PyArray_DATA(array), size)
    if writer.parcel == NULL or write_number(writer, size):
        return NOT_HERE
    return (<Parcel>writer.parcel).add_part(array, NULL, size)


cdef int encode_scalar(writer_t *writer, object item) except -1:
    cdef cnp.dtype kind = cnp.PyArray_DescrFromScalar(item)
    cdef uint8_t data[32]
    if type(item) is not kind.type or kind.itemsize > 32 or kind.type_num in (
        cnp.NPY_OBJECT, cnp.NPY_STRING, cnp.NPY_UNICODE, cnp.NPY_VOID
    ) or kind.type_num > cnp.NPY_FLOAT16:
        return NOT_HERE
    memset(data, 0, sizeof(data))
    cnp.PyArray_ScalarAsCtype(item, data)
    if write_byte(writer, CODE_SCALAR) or write_dtype(writer, kind):
        return NOT_HERE
    return NOT_HERE if write_number(writer, kind.itemsize) else write_raw(writer, data, kind.itemsize)


# ------------------------------------------------------------------------------------------------------------- parcel


cdef inline size_t aligned(size_t at) noexcept nogil:
    return (at + PART_ALIGN - 1) // PART_ALIGN * PART_ALIGN


cdef class Parcel:
    """One item, on its way to bytes: ``pack``, then, if it has a body, ``write``."""

    def __cinit__(self):
        self.keepers = []

    def __dealloc__(self):
        PyMem_Free(self.stream)
        PyMem_Free(self.parts)

    cdef int grow(self, writer_t *writer, size_t size) except -1:
        cdef size_t room = max(writer.used + size, 2 * writer.room, <size_t>256)
        cdef uint8_t *stream = <uint8_t *>PyMem_Realloc(self.stream, room)
        if stream == NULL:
            raise MemoryError()
        if writer.at != self.stream:  # it began in the head
            memcpy(stream, writer.at, writer.used)
        self.stream = stream
        self.stream_room = room
        writer.at = stream
        writer.room = room
        return 0

    cdef int add_part(self, object keeper, const void *at, size_t size) except -1:
        cdef part_t *parts
        cdef size_t room
        if self.parts_count == self.parts_room:
            room = 2 * self.parts_room + 4
            parts = <part_t *>PyMem_Realloc(self.parts, room * sizeof(part_t))
            if parts == NULL:
                raise MemoryError()
            self.parts = parts
            self.parts_room = room
        self.keepers.append(keeper)
        self.parts[self.parts_count].at = <const uint8_t *>at
        self.parts[self.parts_count].size = size
        self.parts[self.parts_count].keeper = <void *>keeper
        self.parts_count += 1
        return 0

    cdef int pack(self, object item, uint8_t *head, size_t room) except -1:
        """Encodes or pickles `item`; its head is written to `head`, and `body_size` says how large its body is."""
        cdef writer_t writer
        cdef int status
        begin(&writer, head, room, <void *>self)
        self.clear()
        status = encode(&writer, item)
        if status:
            self.clear()
            begin(&writer, head, room, <void *>self)
            self.write_pickle(&writer, item)
        self.head = head
        self.body_size = 0
        if writer.at == head:
            self.stream_size = 0
            self.head_size = writer.used
        else:
            self.stream_size = self.body_size = writer.used
            begin(&writer, head, room, NULL)
            if write_byte(&writer, CODE_SPILLED) or write_number(&writer, self.stream_size):
                raise ValueError(f"a head has at least 11 bytes: got {room}")
            self.head_size = writer.used
        for index in range(self.parts_count):
            self.body_size = aligned(self.body_size) + self.parts[index].size
        return 0

    cdef int write_pickle(self, writer_t *writer, object item) except -1:
        cdef list buffers = []
        cdef bytes data = pickle_item(item, buffers)
        write_byte(writer, CODE_PICKLE)
        write_run(writer, data, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        write_number(writer, len(buffers))
        for view in buffers:
            write_byte(writer, 0 if view.readonly else 1)
            write_view(writer, view)
        return 0

    cdef int write(self, uint8_t *body) except -1:
        """Copies the body, of `body_size` bytes, to where it is to be."""
        cdef size_t at = 0, index
        cdef part_t *part
        if self.stream_size:
            memcpy(body, self.stream, self.stream_size)
            at = self.stream_size
        for index in range(self.parts_count):
            part = &self.parts[index]
            at = aligned(at)
            if part.at == NULL:
                copy_array(<cnp.ndarray><object>part.keeper, body + at)
            elif part.size >= WITHOUT_GIL:
                with nogil:
                    memcpy(body + at, part.at, part.size)
            else:
                memcpy(body + at, part.at, part.size)
            at += part.size
        return 0

    cdef void clear(self) noexcept:
        """Lets go of what it was to copy."""
        self.parts_count = 0
        self.stream_size = 0
        self.seen = None
        if self.keepers:
            self.keepers = []


cdef int pack_small(object item, uint8_t *head, size_t room) except -2:
    """Encodes what fits into a head; returns its size, or -1 if `item` does not, or is to be pickled."""
    cdef writer_t writer
    begin(&writer, head, room, NULL)
    return -1 if encode(&writer, item) else <int>writer.used


cdef int pack_lent(object array, size_t offset_in_body, uint8_t *head, size_t room) except -2:
    """The head of an array whose bytes already lie in a body; -1 if they are not contiguous, or there is no room."""
    cdef writer_t writer
    cdef bint fortran
    if type(array) is not cnp.ndarray:
        return -1
    fortran = not cnp.PyArray_IS_C_CONTIGUOUS(array)
    if fortran and not cnp.PyArray_IS_F_CONTIGUOUS(array):
        return -1
    begin(&writer, head, room, NULL)
    if write_byte(&writer, CODE_ARRAY_AT) or write_dtype(&writer, <cnp.dtype>cnp.PyArray_DESCR(array)):
        return -1
    if write_shape(&writer, array, fortran) or write_number(&writer, offset_in_body):
        return -1
    return <int>writer.used
