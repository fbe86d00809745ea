from libc.stdint cimport uint32_t, uint64_t

cimport cython
cimport numpy as cnp

cdef enum:
    DIMENSIONS_MOST = 64


cpdef bytes describe(object dtype)
cpdef object restore(bytes text)
cdef object array_over(cnp.dtype dtype, int ndim, cnp.npy_intp *shape, bint fortran, void *data, object base)


# What an array is, all but its memory.  It does not change once it is made, so any number of arrays share one.
@cython.final
cdef class Form:
    cdef cnp.dtype dtype
    cdef int ndim
    cdef bint fortran
    cdef uint64_t nbytes
    cdef uint64_t first                  # of a record's description, the first word; 0: not to be used again
    cdef bytes text                      # the dtype's
    cdef object asked_dtype              # what reserve() was asked for; None: not to be used again
    cdef object asked_order
    cdef cnp.npy_intp sides[DIMENSIONS_MOST]
    cdef object over(self, void *data, object base)


cdef class Memo:
    # The last dtype that went by, its text, and the last form: a stream of like arrays looks nothing up.
    cdef cnp.dtype dtype
    cdef bytes text
    cdef Form form
    cdef bytes of(self, cnp.dtype dtype)
    cdef cnp.dtype find(self, const char *text, uint32_t size)
