# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""The bytes of what has a buffer, unless they are references to objects.

Those mean nothing anywhere else; and other bytes in their place end the interpreter, as soon as it looks at one.
"""

from cpython.buffer cimport PyBUF_FULL_RO, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_CheckExact
from cpython.bytes cimport PyBytes_CheckExact
from cpython.memoryview cimport PyMemoryView_Check, PyMemoryView_GET_BUFFER

cimport numpy as cnp

from shmkit._core_numpy cimport PyDataType_REFCHK

from shmkit._plain_view import of_objects

cnp.import_array()


cdef bint names_objects(const char *format) noexcept:
    """Whether a buffer's format has an object in it, names of fields aside."""
    cdef bint named = False
    if format == NULL:
        return False
    while format[0] != 0:
        if format[0] == b":":
            named = not named
        elif format[0] == b"O" and not named:
            return True
        format += 1
    return False


cdef bint has_objects(object data) except -1:
    cdef Py_buffer whole
    cdef bint found
    if cnp.PyArray_Check(data):
        # Of dates NumPy gives no format.
        return PyDataType_REFCHK(<cnp.PyArray_Descr *>cnp.PyArray_DESCR(<cnp.ndarray>data))
    if PyMemoryView_Check(data):
        return names_objects(PyMemoryView_GET_BUFFER(data).format)
    try:
        # Some give their format only with their shape.
        PyObject_GetBuffer(data, &whole, PyBUF_FULL_RO)
    except BufferError:
        return False
    found = names_objects(whole.format)
    PyBuffer_Release(&whole)
    return found


cdef int get_bytes(object data, Py_buffer *view, int flags) except -1:
    """PyObject_GetBuffer; TypeError: they are objects."""
    if not (PyBytes_CheckExact(data) or PyByteArray_CheckExact(data)) and has_objects(data):
        raise of_objects(data)
    PyObject_GetBuffer(data, view, flags)
    return 0
