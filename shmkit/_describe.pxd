from libc.stdint cimport uint32_t

cimport numpy as cnp

cpdef bytes describe(object dtype)
cpdef object restore(bytes text)
cdef object array_over(cnp.dtype dtype, int ndim, cnp.npy_intp *shape, bint fortran, void *data, object base)


cdef class Memo:
    # The last dtype that went by, and its text: a stream of like arrays looks nothing up.
    cdef cnp.dtype dtype
    cdef bytes text
    cdef bytes of(self, cnp.dtype dtype)
    cdef cnp.dtype find(self, const char *text, uint32_t size)
