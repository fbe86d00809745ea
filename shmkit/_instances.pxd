"""Instances of classes that need no pickle: see _instances.pyx, and _codes.pxd for what the bytes mean."""

from cpython.object cimport PyTypeObject
from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    # What pickle takes of an instance, and gives back.
    BY_DICT = 0              # its __dict__
    BY_MEMBERS = 1           # those of a named tuple
    BY_SLOTS = 2             # a dict of its slots
    BY_LIST = 3              # a list of its slots, as a frozen dataclass has it
    BY_CALL = 4              # what its class is called with
    BY_SETSTATE = 5          # what its __setstate__ is called with
    BY_EXTEND = 6            # what its class is called with, and what it is extended by
    BY_ITEMS = 7             # what its class is called with, and its keys and values
    BY_NAME = 8              # of a class: nothing but its name


cdef class Outline:
    """Which class an instance is of, and which attributes it has, in their order."""

    cdef bytes said          # in an item
    cdef str module
    cdef str qualname
    cdef tuple path          # the same, name by name
    cdef bint plain_path     # it can be gone without running anybody's code
    cdef tuple names
    cdef int way             # BY_…
    cdef PyTypeObject *kind  # the class that the places are of, which had this version; NULL: they are not known
    cdef unsigned int version
    cdef bytes places        # of the slots in an instance, each a Py_ssize_t


cdef Outline outline_of(object item, dict attributes)
cdef Outline outline_of_named(object item)
cdef Outline outline_of_slotted(object item)
cdef Outline heard_outline(const uint8_t *at, size_t size)
cdef object new_instance(Outline outline)
cdef object new_slotted(Outline outline, int way)
cdef object find_type(Outline outline)
cdef object new_as_pickle(Outline outline, object values, int way, uint64_t count)
cdef Outline say(object kind, tuple names)
cdef Outline found_again(Outline outline, object kind)
