"""What NumPy's own .pxd has not.  Apart from `_core`, as whoever cimports this imports NumPy, which takes 100 ms."""

from cpython.object cimport PyTypeObject
from numpy cimport PyArray_Descr, npy_intp


cdef extern from "numpy/arrayobject.h" nogil:
    object PyArray_NewFromDescr(PyTypeObject *subtype, PyArray_Descr *descr, int nd, npy_intp *dims, npy_intp *strides,
                                void *data, int flags, void *obj)
    PyArray_Descr *PyArray_DescrNew(PyArray_Descr *descr)
    object PyArray_Scalar(void *data, PyArray_Descr *descr, void *base)
    bint PyDataType_REFCHK(PyArray_Descr *descr)
