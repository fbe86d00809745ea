"""NumPy's arrays and scalars from bytes: see _decode_arrays.pyx."""

from libc.stdint cimport uint8_t

cimport numpy as cnp

from shmkit._reading cimport reader_t


cdef object load(object data, list buffers, bint pickles)
cdef object array_owner(object array)
cdef cnp.ndarray new_array(cnp.dtype kind, int count, const cnp.npy_intp *sides, void *data, bint fortran)
cdef int copy_array(cnp.ndarray array, uint8_t *to, size_t size) except -1
cdef object decode_array(reader_t *reader, object owner, bint placed)
cdef object decode_shared(reader_t *reader)
cdef object decode_scalar(reader_t *reader)
