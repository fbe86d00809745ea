"""Instances of classes that need no pickle: see _instances.pyx, and _codes.pxd for what the bytes mean."""

from libc.stdint cimport uint8_t


cdef class Outline:
    """Which class an instance is of, and which attributes it has, in their order."""

    cdef bytes said          # in an item
    cdef str module
    cdef str qualname
    cdef tuple path          # the same, name by name
    cdef bint plain_path     # it can be gone without running anybody's code
    cdef tuple names


cdef Outline outline_of(object item, dict attributes)
cdef Outline outline_of_named(object item)
cdef Outline heard_outline(const uint8_t *at, size_t size)
cdef object new_instance(Outline outline)
cdef object find_type(Outline outline)
cdef object new_as_pickle(Outline outline, object values, bint named)
