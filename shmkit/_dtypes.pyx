# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""What the elements of an array are, in the bytes of an item.

A plain dtype is one byte, NumPy's number of it.  Others are text (``_describe``), as long as the text says all there
is: metadata, aligned structs and dtypes that NumPy's text does not know are pickled.

Whoever has a structured dtype can rename its fields in place, so none that was handed out or came from the user is a
key, and each that is read is a new one.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.ref cimport Py_DECREF

cimport numpy as cnp

from shmkit._codes cimport DTYPE_PICKLE, DTYPE_TEXT
from shmkit._core_numpy cimport PyArray_DescrNew
from shmkit._pickling cimport pickle_item

import numpy as np

from shmkit._describe import describe, restore

cnp.import_array()

cdef enum:
    CACHE_LIMIT = 512

cdef dict _said = {}       # dtype without fields or metadata → the bytes that say it
cdef dict _said_flat = {}  # id of a structured dtype without such in it → itself, its names, the bytes that say it
cdef dict _heard = {}      # text → dtype that nobody else has, or that cannot be changed
cdef frozenset _scalars = frozenset(np.dtype(letter).type for letter in np.typecodes["All"] if letter != "O")


cdef bint is_scalar_kind(object kind) except -1:
    """Whether a type is one of NumPy's own scalars."""
    return kind in _scalars


cdef int plain_number(cnp.dtype kind) except -2:
    """NumPy's number of a plain dtype, in this machine's byte order; -1: it is none."""
    cdef int number = kind.type_num
    if number < cnp.NPY_OBJECT or number == cnp.NPY_FLOAT16:
        if kind is cnp.PyArray_DescrFromType(number):
            return number
        # Copies are rare.
        if cnp.PyDataType_ISNOTSWAPPED(kind) and (<object>kind).metadata is None:
            return number
    return -1


cdef bint text_says_all(kind) except -1:
    """Whether text keeps everything that a dtype has (provided that it describes it at all)."""
    if kind.metadata is not None or kind.isalignedstruct:
        return False
    if kind.subdtype is not None:
        return text_says_all(kind.subdtype[0])
    if kind.fields is None:
        return True
    for field in kind.fields.values():
        if not text_says_all(field[0]):
            return False
    return True


cdef bint is_flat(kind) except -1:
    """Whether no field of a structured dtype has fields of its own, which others could rename."""
    for field in kind.fields.values():
        if field[0].base.names is not None:
            return False
    return True


cdef bytes say_dtype(object kind):
    """DTYPE_TEXT and text, or DTYPE_PICKLE and a pickle; None: its elements are Python objects, or have no bytes."""
    cdef bytes said
    cdef tuple known
    cdef object names
    if cnp.PyDataType_ELSIZE(<cnp.dtype>kind) == 0 or kind.hasobject:
        return None
    names = kind.names
    if names is None:
        if kind.metadata is None:
            said = _said.get(kind)
            if said is not None:
                return said
    else:
        known = _said_flat.get(<size_t><void *>kind)
        if known is not None and known[0] is kind and known[1] is names:
            return <bytes>known[2]
    said = None
    if text_says_all(kind):
        try:
            said = bytes([DTYPE_TEXT]) + describe(kind)
        except TypeError:
            pass
    if said is None:
        said = bytes([DTYPE_PICKLE]) + pickle_item(kind, None)
    if names is None:
        if kind.metadata is None:
            if len(_said) >= CACHE_LIMIT:
                _said.clear()
            _said[kind] = said
    elif is_flat(kind):
        if len(_said_flat) >= CACHE_LIMIT:
            _said_flat.clear()
        _said_flat[<size_t><void *>kind] = (kind, names, said)
    return said


cdef cnp.dtype heard_dtype(const uint8_t *said, size_t size):
    """The dtype of a text; ValueError if it is that of none, or of one that no array in shared memory has."""
    cdef bytes text = PyBytes_FromStringAndSize(<const char *>said, size)
    cdef cnp.PyArray_Descr *made
    kind = _heard.get(text)
    if kind is None:
        kind = restore(text)
        if kind.names is None or is_flat(kind):
            if len(_heard) >= CACHE_LIMIT:
                _heard.clear()
            _heard[text] = kind
        else:
            return kind
    if kind.names is None:
        return kind
    made = PyArray_DescrNew(<cnp.PyArray_Descr *>kind)
    if made == NULL:
        raise MemoryError()
    mine = <object>made
    Py_DECREF(mine)
    return mine
