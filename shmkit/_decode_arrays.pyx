# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""NumPy's arrays and scalars from what ``_encode_arrays.pyx`` has written, and shared arrays that are referred to.

Arrays of PART_LEAST bytes and more are views of the body, which they keep; smaller ones are copied out of it.
"""

from cpython.object cimport PyTypeObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

cimport numpy as cnp

from shmkit._codes cimport *
from shmkit._core_numpy cimport PyArray_NewFromDescr, PyArray_Scalar
from shmkit._dtypes cimport heard_dtype
from shmkit._reading cimport corrupt, new_bytes, read_number, read_raw, read_run, reader_t
from shmkit._record cimport copy
from shmkit._shared cimport SHARED_STRIDED, open_shared, shared_t

import pickle

import numpy as np

from shmkit.errors import PickleRefused, ShmkitError

cnp.import_array()

cdef object _loads = pickle.loads


cdef object load(object data, list buffers, bint pickles):
    if not pickles:
        raise PickleRefused(
            "an item is a pickle, and others than the owner may write to this memory: whoever can, could have this "
            "process run any code"
        )
    return _loads(data) if buffers is None else _loads(data, buffers=buffers)


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
