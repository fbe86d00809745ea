"""NumPy's arrays and scalars to bytes: see _encode_arrays.pyx."""

cimport numpy as cnp

from shmkit._writing cimport writer_t


cdef int write_dtype(writer_t *writer, cnp.dtype kind) except -1
cdef int write_shape(writer_t *writer, cnp.ndarray array, bint fortran) except -1
cdef int encode_array(writer_t *writer, cnp.ndarray array) except -1
cdef int encode_shared(writer_t *writer, cnp.ndarray array) except -1
cdef int encode_scalar(writer_t *writer, object item) except -1
