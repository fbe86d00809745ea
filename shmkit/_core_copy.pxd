"""What large arrays are copied with.  Apart from `_core`, which is long enough."""


cdef extern from "_copy.h" nogil:
    void copy_streaming(void *target, const void *source, size_t size)
    size_t copy_streams_from()
