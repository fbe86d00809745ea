"""Pickles of items: see _pickling.pyx."""

cdef bytes pickle_item(object item, list buffers, Py_ssize_t least=*, bint by_value=*)
cdef bint is_registered(object kind) except -1
