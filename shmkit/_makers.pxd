"""What pickle makes by calling a class of the standard library: see _makers.pyx."""

from shmkit._instances cimport Outline


cdef Outline outline_of_made(object kind, bint hashed)
cdef Outline outline_of_class(object kind)
cdef object made_with(object item, Outline outline)
cdef tuple filled_with(object item)
cdef bint is_filled(object kind, int way) except -1
