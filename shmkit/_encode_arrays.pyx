# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""NumPy's arrays and scalars to bytes, and references to shared arrays (``_codes.pxd`` says what the bytes mean)."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t

cimport numpy as cnp

from shmkit._codes cimport *
from shmkit._dtypes cimport is_scalar_kind, plain_number, say_dtype
from shmkit._map cimport Mapping
from shmkit._shared cimport SHARED_STRIDED, can_refer, count_made, describe_place, mapping_of, shared_t
from shmkit._writing cimport NOT_HERE, Parts, write_byte, write_number, write_raw, write_run, writer_t

import numpy as np

cnp.import_array()

cdef type _flexible = np.flexible  # np.str_, np.bytes_, np.void
cdef type _void = np.void


cdef int write_dtype(writer_t *writer, cnp.dtype kind) except -1:
    """NOT_HERE for a dtype that has Python objects in it, or no bytes."""
    cdef int number = plain_number(kind)
    cdef bytes said
    if number >= 0:
        return write_byte(writer, <uint8_t>number)
    said = say_dtype(kind)
    if said is None or write_byte(writer, said[0]):
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
    return (<Parts>writer.parcel).add_part(array, NULL, size)


cdef int encode_shared(writer_t *writer, cnp.ndarray array) except -1:
    """A reference; what is no longer shared travels as the plain array that it is then."""
    cdef shared_t said
    cdef Mapping mapping = None if writer.by_value else mapping_of(array)
    cdef bint fortran = False
    cdef int axis
    if mapping is None:
        return encode_array(writer, array)
    # Without a Parcel nobody could count the reference, but for the item's own.
    if (writer.parcel == NULL and writer.depth) or not can_refer(mapping):
        return NOT_HERE
    describe_place(array, mapping, &said)
    if not cnp.PyArray_IS_C_CONTIGUOUS(array):
        fortran = cnp.PyArray_IS_F_CONTIGUOUS(array)
        if not fortran:
            said.flags |= SHARED_STRIDED
    if write_byte(writer, CODE_SHARED) or write_dtype(writer, <cnp.dtype>cnp.PyArray_DESCR(array)):
        return NOT_HERE
    if write_shape(writer, array, fortran) or write_raw(writer, &said, sizeof(said)):
        return NOT_HERE
    if said.flags & SHARED_STRIDED:
        for axis in range(cnp.PyArray_NDIM(array)):
            if write_raw(writer, &cnp.PyArray_STRIDES(array)[axis], 8):
                return NOT_HERE
    if writer.parcel == NULL:
        count_made(mapping)
    elif (<Parts>writer.parcel).referred is None:
        (<Parts>writer.parcel).referred = [mapping]
    else:
        (<Parts>writer.parcel).referred.append(mapping)
    return 0


cdef int encode_scalar(writer_t *writer, object item) except -1:
    cdef cnp.dtype kind
    cdef cnp.ndarray array
    cdef double data[4]
    cdef size_t size
    if not is_scalar_kind(type(item)):
        return NOT_HERE
    if write_byte(writer, CODE_SCALAR):
        return NOT_HERE
    if not isinstance(item, _flexible):
        kind = cnp.PyArray_DescrFromScalar(item)
        size = cnp.PyDataType_ELSIZE(kind)
        if size > sizeof(data) or write_dtype(writer, kind):
            return NOT_HERE
        cnp.PyArray_ScalarAsCtype(item, data)
        return NOT_HERE if write_number(writer, size) else write_raw(writer, data, size)
    array = np.asarray(item)
    size = cnp.PyArray_NBYTES(array)
    # NumPy takes zeros at the end of a text for padding.
    if not isinstance(item, _void) and item.endswith(b"\0" if isinstance(item, bytes) else "\0"):
        return NOT_HERE
    if write_dtype(writer, <cnp.dtype>cnp.PyArray_DESCR(array)):
        return NOT_HERE
    return write_run(writer, array, cnp.PyArray_DATA(array), size)
