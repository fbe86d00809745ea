"""What one word of a user's is asked and told (see _atomic.pyx); `signed`: it is an int64, not a uint64."""

from libc.stdint cimport uint64_t

from shmkit._core cimport order_t

ctypedef uint64_t (*change_t)(uint64_t *word, uint64_t value, order_t order) noexcept nogil

cdef uint64_t bits_of(object value, bint signed) except? 0x5a5a5a5a5a5a5a5a
cdef object load(uint64_t *word, bint signed, object order)
cdef int store(uint64_t *word, bint signed, object value, object order) except -1
cdef object change(change_t how, uint64_t *word, bint signed, object value, object order)
cdef object compare_exchange(uint64_t *word, bint signed, object expected, object desired, object order, object failure)
cdef int wake(void *word, object n) except -1
