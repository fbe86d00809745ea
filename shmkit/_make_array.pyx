# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Makes arrays in anonymous memory, and says what would be an array's bytes, and whether they lie within a segment.

Beside ``_make.pyx``, as that one does without NumPy: locks lie in segments too.
"""

from cpython.object cimport PyTypeObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint64_t

cimport numpy as cnp

from shmkit._core cimport PAGE
from shmkit._core_numpy cimport PyArray_NewFromDescr
from shmkit._map cimport Mapping

from operator import index

import numpy as np

from shmkit._make import take_memory

cnp.import_array()

cdef enum:
    DIMENSIONS_MOST = 64

cdef int64_t LONGEST = 1 << 62


cdef int read_shape(object shape, cnp.npy_intp *sides) except -1:
    """Copies a shape, and returns how many dimensions that are."""
    cdef int count = 0
    if not isinstance(shape, (tuple, list)):
        shape = (shape,)
    if len(shape) > DIMENSIONS_MOST:
        raise ValueError(f"an array has at most {DIMENSIONS_MOST} dimensions: got {len(shape)}")
    for item in shape:
        try:
            sides[count] = index(item)
        except OverflowError:
            sides[count] = LONGEST + 1
        except TypeError:
            raise TypeError(f"a shape is a whole number or a tuple of them: got {shape!r}") from None
        if sides[count] < 0:
            raise ValueError(f"no dimension of an array can be negative: got shape {shape!r}")
        count += 1
    return count


cdef int64_t bytes_of(const cnp.npy_intp *sides, int count, uint64_t itemsize) except -1:
    """The bytes of an array of that shape."""
    cdef uint64_t nbytes = itemsize
    cdef bint empty = itemsize == 0
    cdef int axis
    for axis in range(count):
        if sides[axis] == 0:
            empty = True
        elif sides[axis] > LONGEST or nbytes > <uint64_t>LONGEST // <uint64_t>sides[axis]:
            nbytes = <uint64_t>LONGEST + 1
        else:
            nbytes *= <uint64_t>sides[axis]
    if empty:
        return 0
    if nbytes > <uint64_t>LONGEST:
        shape = tuple([sides[axis] for axis in range(count)])
        raise ValueError(f"an array has at most 2**62 bytes: got shape {shape} of {itemsize} bytes each")
    return <int64_t>nbytes


def array_bytes(object shape, uint64_t itemsize):
    """The bytes of an array of that shape; TypeError where it is no shape, ValueError where there can be none."""
    cdef cnp.npy_intp sides[DIMENSIONS_MOST]
    return bytes_of(sides, read_shape(shape, sides), itemsize)


def offset_in(Mapping mapping, cnp.ndarray array):
    """Where an array's first element stands in a mapping's payload."""
    return <int64_t>(<char *>cnp.PyArray_DATA(array) - (mapping.own.addr + mapping.payload_at))


def check_dtype(object dtype):
    """The dtype that is meant, if its values can live in shared memory."""
    cdef cnp.dtype kind = dtype if isinstance(dtype, cnp.dtype) else np.dtype(dtype)
    if kind.hasobject:
        raise TypeError(f"an array of Python objects cannot live in shared memory: got dtype {kind!r}")
    return kind


def take_array(type kind, object shape, object dtype, object order, bint zero, uint64_t recyclable_most):
    """A new array of type `kind` in anonymous memory that is recycled when it dies; None: it is too large for that."""
    cdef cnp.npy_intp sides[DIMENSIONS_MOST]
    cdef cnp.dtype element = check_dtype(dtype)
    cdef int count = read_shape(shape, sides)
    cdef uint64_t nbytes = bytes_of(sides, count, element.itemsize)
    cdef bint fortran = order == "F"
    cdef Mapping mapping
    if not fortran and order != "C":
        raise ValueError(f"order must be 'C' or 'F': got {order!r}")
    if PAGE + nbytes > recyclable_most:
        return None
    mapping = take_memory(nbytes, recyclable_most)
    if zero:
        mapping.zero()
    Py_INCREF(element)  # PyArray_NewFromDescr steals one
    array = PyArray_NewFromDescr(
        <PyTypeObject *>kind, <cnp.PyArray_Descr *>element, count, sides, NULL, mapping.own.addr + mapping.payload_at,
        cnp.NPY_ARRAY_FARRAY if fortran else cnp.NPY_ARRAY_CARRAY, NULL,
    )
    Py_INCREF(mapping)  # PyArray_SetBaseObject steals one
    cnp.PyArray_SetBaseObject(array, mapping)
    return array


def fits(object shape, int64_t itemsize, object offset, object strides, int64_t size):
    """Whether an array of that shape lies within `size` bytes.  NumPy lets some negative and huge offsets pass."""
    low = high = offset
    sides = shape if isinstance(shape, (tuple, list)) else (shape,)
    if strides is None:
        high = offset + array_bytes(sides, itemsize)
    elif 0 not in sides:
        # A length that differs is for NumPy to complain of.
        for side, stride in zip(sides, strides):
            if stride < 0:
                low += (side - 1) * stride
            else:
                high += (side - 1) * stride
        high += itemsize
    return 0 <= low and high <= size
