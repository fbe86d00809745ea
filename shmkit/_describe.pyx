"""What an array is, as bytes: dtypes to and from the text of an ``.npy`` header, and arrays over foreign memory.

The text is ``dtype.str`` for plain dtypes (``<f8``, ``<M8[ns]``) and the literal list of fields for structured ones.
It is parsed with ``ast.literal_eval`` at most, never unpickled: a text from shared memory can do nothing but fail.

Any thread may call these; they keep small caches under the GIL (or the object's own lock without one).
"""

import ast
import warnings

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyTypeObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint32_t
from libc.string cimport memcmp

from shmkit._core_numpy cimport PyArray_NewFromDescr

cnp.import_array()

DESCRIPTION_LIMIT = 16384
_CACHE_LIMIT = 512

cdef dict _texts = {}
cdef dict _dtypes = {}


cpdef bytes describe(object dtype):
    """Return the text that describes `dtype`.

    TypeError where no text can: object dtypes, and dtypes that NumPy could not restore from it.
    """
    text = _texts.get(dtype)
    if text is not None:
        return text
    if dtype.itemsize == 0:
        raise TypeError(f"an array whose elements have no bytes cannot be shared: dtype {dtype!r}")
    if dtype.hasobject:
        raise TypeError(f"an array of Python objects has no bytes to share: dtype {dtype!r}")
    if dtype.names is None:
        text, restored = dtype.str, None
        try:
            restored = np.dtype(text)
        except (TypeError, ValueError):
            pass
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # metadata is dropped: it is no part of the bytes
                descr = np.lib.format.dtype_to_descr(dtype)
            text, restored = repr(descr), np.lib.format.descr_to_dtype(descr)
        except (TypeError, ValueError) as error:
            raise TypeError(f"dtype {dtype!r} cannot be described in shared memory: {error}") from None
    if restored != dtype or restored.itemsize != dtype.itemsize:
        raise TypeError(f"dtype {dtype!r} cannot be described in shared memory: NumPy would restore it as {restored!r}")
    encoded = text.encode()
    if len(encoded) > DESCRIPTION_LIMIT:
        raise TypeError(f"the description of the dtype takes {len(encoded)} bytes, more than {DESCRIPTION_LIMIT}")
    if len(_texts) >= _CACHE_LIMIT:
        _texts.clear()
    # A dtype can be renamed in place by whoever has it, so the key is one that nobody else has.
    _texts[restored] = encoded
    return encoded


cpdef object restore(bytes text):
    """Return the dtype that `text` describes; ValueError, naming the text, if it describes none."""
    dtype = _dtypes.get(text)
    if dtype is not None:
        return dtype
    try:
        if len(text) > DESCRIPTION_LIMIT:
            raise ValueError("too long")
        decoded = text.decode()
        if decoded.startswith("["):
            dtype = np.lib.format.descr_to_dtype(ast.literal_eval(decoded))
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # old spellings, which describe never writes
                dtype = np.dtype(decoded)
    except (
        ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError,
        Warning,
    ) as error:
        # Whatever a hostile text provokes in the parser or in NumPy is one and the same thing to the caller.
        raise ValueError(f"no dtype is described by {text[:80]!r}: {error}") from None
    if dtype.itemsize == 0:
        raise ValueError(f"a dtype without bytes cannot come out of shared memory: {text[:80]!r}")
    if dtype.subdtype is not None:
        raise ValueError(f"an array's own dtype cannot be one of arrays: {text[:80]!r}")
    if dtype.hasobject:
        raise ValueError(f"a dtype of Python objects cannot come out of shared memory: {text[:80]!r}")
    if dtype.names is None:  # others can be renamed in place by whoever receives them
        if len(_dtypes) >= _CACHE_LIMIT:
            _dtypes.clear()
        _dtypes[text] = dtype
    return dtype


@cython.freelist(8)
cdef class Form:
    cdef object over(self, void *data, object base):
        return array_over(self.dtype, self.ndim, self.sides, self.fortran, data, base)


cdef class Memo:
    @cython.critical_section
    cdef bytes of(self, cnp.dtype dtype):
        """The text of `dtype`."""
        if self.text is not None and self.dtype is dtype:
            return self.text
        text = describe(dtype)
        if not cnp.PyDataType_HASFIELDS(dtype):
            self.dtype, self.text = dtype, text
        return text

    @cython.critical_section
    cdef cnp.dtype find(self, const char *text, uint32_t size):
        """The dtype of a text; ValueError as `restore`."""
        if self.text is None or PyBytes_GET_SIZE(self.text) != size or memcmp(
            PyBytes_AS_STRING(self.text), text, size
        ) != 0:
            own = PyBytes_FromStringAndSize(text, size)
            dtype = restore(own)
            if cnp.PyDataType_HASFIELDS(<cnp.dtype>dtype):
                return dtype
            self.dtype, self.text = dtype, own
        return self.dtype


cdef object array_over(cnp.dtype dtype, int ndim, cnp.npy_intp *shape, bint fortran, void *data, object base):
    """An ndarray over `data`, kept alive by `base`; with data NULL, a new uninitialised one that owns its memory."""
    cdef int flags = cnp.NPY_ARRAY_F_CONTIGUOUS if fortran else 0
    if data != NULL:
        flags = cnp.NPY_ARRAY_FARRAY if fortran else cnp.NPY_ARRAY_CARRAY
    Py_INCREF(dtype)  # PyArray_NewFromDescr steals one
    array = PyArray_NewFromDescr(
        <PyTypeObject *>cnp.ndarray, <cnp.PyArray_Descr *>dtype, ndim, shape, NULL, data, flags, NULL
    )
    if data != NULL:
        Py_INCREF(base)  # PyArray_SetBaseObject steals one
        cnp.PyArray_SetBaseObject(array, base)
    return array
