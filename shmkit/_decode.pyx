# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Bytes to objects: what ``_encode.pyx`` has written (``_codes.pxd`` says what the bytes mean).

Arrays of PART_LEAST bytes and more, and large buffers of pickles, are views of the body, which they keep; everything
else is copied out of it.  Nothing is believed: every length is checked against what is there before it is used, so
that bytes that were scribbled over are RecordCorrupt, and no crash.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.complex cimport PyComplex_FromDoubles
from cpython.float cimport PyFloat_FromDouble
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int8_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cimport cython
cimport numpy as cnp
from cpython.object cimport PyObject, PyTypeObject

from shmkit._codes cimport *
from shmkit._core_numpy cimport PyArray_NewFromDescr, PyArray_Scalar
from shmkit._core_types cimport (
    PyObject_GC_Track, PyObject_GC_UnTrack, PyObject_GenericGetDict, type_make, type_makes,
)
from shmkit._dtypes cimport heard_dtype
from shmkit._instances cimport Outline, find_type, heard_outline, new_as_pickle, new_instance
from shmkit._reading cimport (
    corrupt, new_bytearray, new_bytes, new_key, new_text, read_count, read_number, read_raw, read_run, reader_t,
)
from shmkit._record cimport copy
from shmkit._shared cimport SHARED_STRIDED, open_shared, shared_t

import pickle

import numpy as np

from shmkit.errors import PickleRefused, ShmkitError

cnp.import_array()

cdef object _loads = pickle.loads


@cython.final
cdef class Slice:
    """Some bytes of a body, for an object that is unpickled."""

    cdef object owner
    cdef uint8_t *at
    cdef Py_ssize_t size
    cdef bint readonly

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.at, self.size, self.readonly, flags)


# ----------------------------------------------------------------------------------------------------------- decoding


cdef object decode(reader_t *reader, object owner):
    cdef uint8_t code = read_raw(reader, 1)[0]
    cdef const uint8_t *at
    cdef size_t size
    cdef int64_t number
    cdef double parts[2]
    if code == CODE_BYTES:
        at = read_run(reader, &size)
        return new_bytes(at, size)
    if code == CODE_INT8:
        return <int8_t>read_raw(reader, 1)[0]
    if code == CODE_INT64:
        memcpy(&number, read_raw(reader, 8), 8)
        return number
    if code == CODE_ASCII:
        at = read_run(reader, &size)
        return new_text(at, size, 1, 127)
    if code == CODE_FLOAT:
        memcpy(parts, read_raw(reader, 8), 8)
        return PyFloat_FromDouble(parts[0])
    if code == CODE_NONE:
        return None
    if code == CODE_TRUE:
        return True
    if code == CODE_FALSE:
        return False
    if code == CODE_ARRAY:
        return decode_array(reader, owner, False)
    if code == CODE_ARRAY_AT:
        return decode_array(reader, owner, True)
    if CODE_TUPLE <= code <= CODE_FROZENSET:
        if reader.depth >= DEPTH_MOST:
            raise corrupt("containers are in each other too deep")
        reader.depth += 1
        found = decode_container(reader, code, owner)
        reader.depth -= 1
        return found
    if code == CODE_INSTANCE or code == CODE_NAMED:
        return decode_instance(reader, owner, code == CODE_NAMED)
    if code == CODE_PICKLE:
        return decode_pickle(reader, owner)
    if code == CODE_LATIN:
        at = read_run(reader, &size)
        return new_text(at, size, 1, 255)
    if code == CODE_UCS2:
        at = read_run(reader, &size, 2)
        return new_text(at, size // 2, 2, 0xffff)
    if code == CODE_UCS4:
        at = read_run(reader, &size, 4)
        return new_text(at, size // 4, 4, 0x10ffff)
    if code == CODE_SHARED:
        return decode_shared(reader)
    if code == CODE_SCALAR:
        return decode_scalar(reader)
    if code == CODE_INT:
        at = read_run(reader, &size)
        return int.from_bytes(at[:size], "little", signed=True)
    if code == CODE_BYTEARRAY:
        at = read_run(reader, &size)
        return new_bytearray(at, size)
    if code == CODE_COMPLEX:
        memcpy(parts, read_raw(reader, 16), 16)
        return PyComplex_FromDoubles(parts[0], parts[1])
    raise corrupt(f"there is no code {code}")


cdef tuple decode_members(reader_t *reader, object owner, uint64_t count):
    """A tuple of so many values.  A class's code, which may run for one of them, cannot come upon it half made."""
    cdef uint64_t index
    if count == 0:
        return ()
    found = PyTuple_New(count)
    PyObject_GC_UnTrack(<PyObject *>found)
    for index in range(count):
        value = decode(reader, owner)
        Py_INCREF(value)
        PyTuple_SET_ITEM(found, index, value)
    PyObject_GC_Track(<PyObject *>found)
    return found


cdef object decode_container(reader_t *reader, uint8_t code, object owner):
    cdef uint64_t count = read_count(reader), index, _index
    cdef const uint8_t *at
    cdef size_t size
    if code == CODE_TUPLE:
        return decode_members(reader, owner, count)
    if code == CODE_LIST:
        found = PyList_New(count)
        PyObject_GC_UnTrack(<PyObject *>found)  # as in decode_members
        for index in range(count):
            value = decode(reader, owner)
            Py_INCREF(value)
            PyList_SET_ITEM(found, index, value)
        PyObject_GC_Track(<PyObject *>found)
        return found
    try:
        if code == CODE_DICT:
            found = {}
            for _index in range(count):
                if reader.at != reader.end and reader.at[0] == CODE_ASCII:
                    reader.at += 1
                    at = read_run(reader, &size)
                    key = new_key(at, size)
                else:
                    key = decode(reader, owner)
                (<dict>found)[key] = decode(reader, owner)
            return found
        members = set()
        for _index in range(count):
            members.add(decode(reader, owner))
    except TypeError:
        raise corrupt("a value of a set, or a key, cannot be hashed") from None
    return members if code == CODE_SET else frozenset(members)


# ----------------------------------------------------------------------------------------------------------- instances


@cython.final
cdef class Values:
    """The values of an instance that pickle makes: decoded when it asks for them, which it does within one call."""

    cdef reader_t *reader    # NULL: they were asked for
    cdef object owner
    cdef Outline outline
    cdef bint named

    def __call__(self):
        cdef reader_t *reader = self.reader
        self.reader = NULL
        if reader == NULL:
            raise corrupt("the values of an instance were asked for twice")
        if self.named:
            return decode_members(reader, self.owner, read_count(reader))
        found = {}
        decode_attributes(reader, self.owner, self.outline, found)
        return found


cdef int decode_attributes(reader_t *reader, object owner, Outline outline, dict found) except -1:
    for name in outline.names:
        found[name] = decode(reader, owner)
    return 0


cdef object decode_instance(reader_t *reader, object owner, bint named):
    """An instance, or a named tuple: made as pickle makes it."""
    cdef size_t size
    cdef const uint8_t *at = read_run(reader, &size)
    cdef Outline outline
    cdef Values values
    if not reader.pickles:
        raise PickleRefused(
            "an item is an instance of a class, and others than the owner may write to this memory: whoever can, could "
            "have this process import and call anything"
        )
    if reader.depth >= DEPTH_MOST:
        raise corrupt("instances are in each other too deep")
    try:
        outline = heard_outline(at, size)
    except ValueError as error:
        raise corrupt(str(error)) from None
    reader.depth += 1
    if named:
        made = find_type(outline)
        if made is not None and type_makes(<PyTypeObject *>made):
            members = decode_members(reader, owner, read_count(reader))
            made = type_make(<PyTypeObject *>made, <PyObject *>members)
        else:
            made = None
    else:
        made = new_instance(outline)
        if made is not None and outline.names:
            decode_attributes(reader, owner, outline, PyObject_GenericGetDict(made, NULL))
    if made is None:
        values = Values.__new__(Values)
        values.reader = reader
        values.owner, values.outline, values.named = owner, outline, named
        try:
            made = new_as_pickle(outline, values, named)
        finally:
            values.reader = NULL
    reader.depth -= 1
    return made


# -------------------------------------------------------------------------------------------------------------- NumPy


cdef cnp.dtype read_dtype(reader_t *reader):
    cdef uint8_t number = read_raw(reader, 1)[0]
    cdef const uint8_t *at
    cdef size_t size
    if number < cnp.NPY_OBJECT or number == cnp.NPY_FLOAT16:
        return cnp.PyArray_DescrFromType(number)
    if number != DTYPE_TEXT and number != DTYPE_PICKLE:
        raise corrupt(f"there is no dtype {number}")
    at = read_run(reader, &size)
    if number == DTYPE_TEXT:
        try:
            return heard_dtype(at, size)
        except ValueError as error:
            raise corrupt(str(error)) from None
    kind = load(new_bytes(at, size), None, reader.pickles)
    if not isinstance(kind, np.dtype) or kind.hasobject or kind.itemsize == 0 or kind.subdtype is not None:
        raise corrupt("what is said to be a dtype is none, or has Python objects in it")
    return kind


cdef int read_shape(reader_t *reader, cnp.npy_intp *sides, bint *fortran, uint64_t *elements) except -1:
    cdef uint8_t said = read_raw(reader, 1)[0]
    cdef int axis, count = said & 127
    cdef uint64_t side
    fortran[0] = (said & ORDER_F) != 0
    elements[0] = 1
    if count > DIMENSIONS_MOST:
        raise corrupt(f"an array has {count} dimensions")
    for axis in range(count):
        side = read_number(reader)
        if side > <uint64_t>1 << 62 or (side and elements[0] > (<uint64_t>1 << 62) // side):
            raise corrupt("an array has more than 2**62 elements")
        elements[0] *= side
        sides[axis] = side
    return count


cdef cnp.ndarray new_array(cnp.dtype kind, int count, const cnp.npy_intp *sides, void *data, bint fortran):
    """An array over `data`, or (NULL) one with memory of its own."""
    Py_INCREF(kind)  # PyArray_NewFromDescr steals one
    cdef int flags = cnp.NPY_ARRAY_FARRAY if fortran else cnp.NPY_ARRAY_CARRAY
    if data == NULL:
        flags = 1 if fortran else 0
    return PyArray_NewFromDescr(
        <PyTypeObject *>cnp.ndarray, <cnp.PyArray_Descr *>kind, count, <cnp.npy_intp *>sides, NULL, data, flags, NULL
    )


cdef int copy_array(cnp.ndarray array, uint8_t *to, size_t size) except -1:
    """Copies an array that is not contiguous, into C order; it has `size` bytes, or had when it was encoded."""
    cdef cnp.dtype kind = <cnp.dtype>cnp.PyArray_DESCR(array)
    cdef cnp.ndarray copied
    if <size_t>cnp.PyArray_NBYTES(array) != size:
        raise ValueError(f"an array of {size} bytes was changed to {cnp.PyArray_NBYTES(array)} while it was sent")
    copied = new_array(kind, cnp.PyArray_NDIM(array), cnp.PyArray_DIMS(array), to, False)
    cnp.PyArray_CopyInto(copied, array)
    return 0


cdef object array_owner(object array):
    """What the memory of a received array belongs to; None: it is no such array."""
    if type(array) is not cnp.ndarray:
        return None
    base = <object>cnp.PyArray_BASE(array) if cnp.PyArray_BASE(array) != NULL else None
    while type(base) is cnp.ndarray:
        base = <object>cnp.PyArray_BASE(base) if cnp.PyArray_BASE(base) != NULL else None
    return base


cdef object array_in(
    cnp.dtype kind, int count, const cnp.npy_intp *sides, const uint8_t *at, bint fortran, object owner
):
    """An array that lies in a body, and keeps it."""
    cdef cnp.ndarray array = new_array(kind, count, sides, <void *>at, fortran)
    cnp.PyArray_UpdateFlags(array, cnp.NPY_ARRAY_ALIGNED)  # NumPy believes what it is told
    Py_INCREF(owner)  # PyArray_SetBaseObject steals one
    cnp.PyArray_SetBaseObject(array, owner)
    return array


cdef object array_from(cnp.dtype kind, int count, const cnp.npy_intp *sides, const uint8_t *at, bint fortran):
    """An array of its own."""
    cdef cnp.ndarray array = new_array(kind, count, sides, NULL, fortran)
    copy(cnp.PyArray_DATA(array), at, cnp.PyArray_NBYTES(array))
    return array


cdef object decode_array(reader_t *reader, object owner, bint placed):
    """An array whose bytes follow; or, if it is `placed`, are at the place in the body that follows."""
    cdef cnp.npy_intp sides[DIMENSIONS_MOST]
    cdef bint fortran
    cdef uint64_t elements, place, itemsize
    cdef size_t size
    cdef const uint8_t *at
    cdef cnp.dtype kind = read_dtype(reader)
    cdef int count = read_shape(reader, sides, &fortran, &elements)
    itemsize = cnp.PyDataType_ELSIZE(kind)
    if elements > (<uint64_t>1 << 62) // itemsize:
        raise corrupt(f"an array has {elements} elements of {itemsize} bytes")
    if placed:
        place = read_number(reader)
        size = elements * itemsize
        # Without elements it is nowhere, and there may be no body.
        if size and (reader.body == NULL or place > reader.body_size or size > reader.body_size - place):
            raise corrupt(f"an array of {size} bytes at {place} is not within {reader.body_size}")
        at = reader.body + place if size else NULL
    else:
        at = read_run(reader, &size)
        if size != elements * itemsize:
            raise corrupt(f"an array of {elements} elements of {itemsize} bytes has {size}")
    try:
        if owner is None or size == 0 or (size < PART_LEAST and not placed):
            return array_from(kind, count, sides, at, fortran)
        return array_in(kind, count, sides, at, fortran, owner)
    except ValueError as error:  # of dimensions that it cannot have
        raise corrupt(str(error)) from None


cdef object decode_shared(reader_t *reader):
    cdef cnp.npy_intp sides[DIMENSIONS_MOST]
    cdef cnp.npy_intp strides[DIMENSIONS_MOST]
    cdef bint fortran, strided
    cdef uint64_t elements, itemsize
    cdef shared_t said
    cdef cnp.dtype kind = read_dtype(reader)
    cdef int count = read_shape(reader, sides, &fortran, &elements)
    itemsize = cnp.PyDataType_ELSIZE(kind)
    memcpy(&said, read_raw(reader, sizeof(said)), sizeof(said))
    strided = (said.flags & SHARED_STRIDED) != 0
    if strided:
        memcpy(strides, read_raw(reader, 8 * count), 8 * count)
    if elements > (<uint64_t>1 << 62) // itemsize:
        raise corrupt(f"an array has {elements} elements of {itemsize} bytes")
    if not reader.pickles:
        raise PickleRefused(
            "an item is a reference to other memory, and others than the owner may write to this one: whoever can, "
            "could have this process open anything"
        )
    try:
        return open_shared(&said, kind, count, sides, strides if strided else NULL, fortran, elements * itemsize)
    except ValueError as error:  # of dimensions that it cannot have
        if isinstance(error, ShmkitError):
            raise
        raise corrupt(str(error)) from None


cdef object decode_scalar(reader_t *reader):
    cdef cnp.dtype kind = read_dtype(reader)
    cdef size_t size
    cdef double data[4]
    cdef const uint8_t *at = read_run(reader, &size)
    if size != <size_t>cnp.PyDataType_ELSIZE(kind):
        raise corrupt(f"a scalar of {cnp.PyDataType_ELSIZE(kind)} bytes has {size}")
    if cnp.PyTypeNum_ISFLEXIBLE(kind.type_num):
        try:
            return array_from(kind, 0, NULL, at, False)[()]
        except (SystemError, ValueError):
            raise corrupt("a text has characters that do not exist") from None
    if size > sizeof(data):
        raise corrupt(f"no scalar has {size} bytes")
    memcpy(data, at, size)  # where it is aligned
    return PyArray_Scalar(data, <cnp.PyArray_Descr *>kind, NULL)


# ------------------------------------------------------------------------------------------------------------ pickles


cdef object load(object data, list buffers, bint pickles):
    if not pickles:
        raise PickleRefused(
            "an item is a pickle, and others than the owner may write to this memory: whoever can, could have this "
            "process run any code"
        )
    return _loads(data) if buffers is None else _loads(data, buffers=buffers)


cdef object decode_pickle(reader_t *reader, object owner):
    cdef size_t size, part_size
    cdef const uint8_t *at = read_run(reader, &size)
    cdef uint64_t _index, count = read_number(reader)
    cdef list buffers = None
    cdef Slice part
    cdef uint8_t writable
    # A copy, since others could change what is checked while it is read.
    data = new_bytes(at, size)
    if count:
        if count > <uint64_t>(reader.end - reader.at):
            raise corrupt(f"a pickle has {count} buffers, and less than that follows")
        buffers = []
        for _index in range(count):
            writable = read_raw(reader, 1)[0]
            at = read_run(reader, &part_size)
            if part_size < PART_LEAST or owner is None:
                buffers.append(new_bytearray(at, part_size) if writable else new_bytes(at, part_size))
                continue
            part = Slice.__new__(Slice)
            part.owner = owner
            part.at = <uint8_t *>at
            part.size = part_size
            part.readonly = not writable
            buffers.append(part)
    return load(data, buffers, reader.pickles)


# ---------------------------------------------------------------------------------------------------------- the whole


cdef object unpack(const uint8_t *head, size_t head_size, uint8_t *body, size_t body_size, object owner, bint pickles):
    """The object that was packed; `owner` keeps the body (None: nothing of it may be kept).

    RecordCorrupt; PickleRefused if it is a pickle, and `pickles` is false; what unpickling raises.
    """
    cdef reader_t reader
    cdef uint64_t size
    reader.at = head
    reader.end = head + head_size
    reader.body = body
    reader.body_size = body_size
    reader.parts_at = 0
    reader.pickles = pickles
    reader.depth = 0
    if head_size and head[0] == CODE_SPILLED:
        reader.at += 1
        size = read_number(&reader)
        if body == NULL or size > body_size:
            raise corrupt(f"its {size} bytes are not within {body_size}")
        reader.at = body
        reader.end = body + size
        reader.parts_at = size
    return decode(&reader, owner)
