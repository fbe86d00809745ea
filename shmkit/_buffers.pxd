"""The bytes of what has a buffer: see _buffers.pyx."""

cdef int get_bytes(object data, Py_buffer *view, int flags) except -1
