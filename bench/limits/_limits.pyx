# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The physical limits, and a ring in Cython that takes no precautions, for Python to call (bare.h says what they do).

``BareRing`` is what one gets by writing a ring in an afternoon: the index protocol and Python's objects, nothing else.
It spins for ever with the GIL held, sees no signal, checks no argument, and its views dangle.  ``Native`` runs whole
loops in C on the same memory.  The functions at the end are what every contender's receiver checks with.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

import numpy as np

cimport numpy as cnp

cnp.import_array()


cdef extern from "queues.h" nogil:
    int c_queue_send "queue_send"(int queue, int sysv, double *source, uint64_t items, uint64_t count, double first)
    long long c_queue_receive "queue_receive"(int queue, int sysv, uint64_t items, uint64_t count, double first)

cdef extern from "framed.h" nogil:
    int c_framed_send "framed_send"(int fd, double *source, uint64_t items, uint64_t count, double first)
    long long c_framed_receive "framed_receive"(int fd, uint64_t items, uint64_t count, double first)

cdef extern from "bare.h" nogil:
    int c_stream_send "stream_send"(int fd, double *source, uint64_t items, uint64_t count, double first)
    long long c_stream_receive "stream_receive"(int fd, double *into, uint64_t items, uint64_t count, double first)
    ctypedef struct end_t:
        uint64_t *tail
        uint64_t *head
        uint64_t slots
        uint64_t position
        uint64_t seen
    void end_open(end_t *end, void *memory, uint64_t slots, uint64_t stride, uint64_t pauses)
    bint end_has_room(end_t *end)
    bint end_has_item(end_t *end)
    unsigned char *end_reserve(end_t *end)
    unsigned char *end_slot(end_t *end)
    void end_step(end_t *end)
    void end_commit(end_t *end)
    unsigned char *end_view(end_t *end)
    void end_release(end_t *end)
    void stamp_ends(double *data, uint64_t items, double value)
    bint ends_are(const double *data, uint64_t items, double value)
    void produce_small(end_t *end, uint64_t count, uint64_t size, uint64_t first)
    uint64_t consume_small(end_t *end, uint64_t count, uint64_t size, uint64_t first)
    void produce_batches(end_t *end, uint64_t count, uint64_t size, uint64_t batch, const void *block)
    uint64_t consume_batches(end_t *end, uint64_t count, uint64_t size, uint64_t batch, const void *block, void *into)
    void produce_frames(end_t *end, uint64_t count, double *source, uint64_t items, double first)
    void produce_in_place(end_t *end, uint64_t count, uint64_t items, double first)
    uint64_t consume_frames(end_t *end, uint64_t count, uint64_t items, double first, double inner)
    uint64_t ring_client(end_t *forth, end_t *back, uint64_t count, uint64_t block, double *samples)
    void ring_server(end_t *forth, end_t *back, uint64_t count)
    uint64_t word_client(uint64_t *forth, uint64_t *back, uint64_t count, uint64_t block, uint64_t first,
                         double *samples)
    void word_server(uint64_t *forth, uint64_t *back, uint64_t count, uint64_t first)
    void futex_client(uint32_t *forth, uint32_t *back, uint64_t count, uint32_t first, uint64_t gap, double *samples)
    void futex_server(uint32_t *forth, uint32_t *back, uint64_t count, uint32_t first, uint64_t gap, double *held)
    void futex_caller(uint32_t *word, uint64_t count, uint32_t first, uint64_t gap, double *called)
    void futex_sleeper(uint32_t *word, uint64_t count, uint32_t first, double *awake)
    void bare_acquire(uint64_t *word)
    void bare_release(uint64_t *word)
    double line_round_trip(int cpu_a, int cpu_b, uint64_t blocks, uint64_t block, double *samples)
    double segment_cycles_c "segment_cycles"(const char *name, uint64_t size, uint64_t count,
                                                 bint reserved)


cdef class End:
    """One end of a ring of fixed slots over a writable buffer."""

    cdef end_t end
    cdef Py_buffer memory
    cdef readonly uint64_t size
    cdef cnp.npy_intp shape[1]

    def __cinit__(self, buffer, uint64_t slots, uint64_t size, uint64_t pauses=1):
        PyObject_GetBuffer(buffer, &self.memory, PyBUF_SIMPLE | PyBUF_WRITABLE)
        self.size = size
        self.shape[0] = size // 8
        end_open(&self.end, self.memory.buf, slots, (size + 63) // 64 * 64, pauses)

    def __dealloc__(self):
        PyBuffer_Release(&self.memory)


cdef class BareRing(End):
    # -- bytes, one by one

    def try_send(self, bytes message):
        if not end_has_room(&self.end):
            return False
        memcpy(end_slot(&self.end), PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message))
        end_commit(&self.end)
        return True

    def send(self, bytes message):
        memcpy(end_reserve(&self.end), PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message))
        end_commit(&self.end)

    def try_recv(self):
        if not end_has_item(&self.end):
            return None
        message = PyBytes_FromStringAndSize(<const char *>end_slot(&self.end), self.size)
        end_release(&self.end)
        return message

    def recv(self):
        message = PyBytes_FromStringAndSize(<const char *>end_view(&self.end), self.size)
        end_release(&self.end)
        return message

    # -- many at once: one store of the index for all of them

    def send_many(self, list messages):
        cdef Py_ssize_t i, last = PyList_GET_SIZE(messages) - 1
        for i in range(last + 1):
            memcpy(end_reserve(&self.end), PyBytes_AS_STRING(<object>PyList_GET_ITEM(messages, i)), self.size)
            if i == last or self.end.position + 1 - self.end.seen == self.end.slots:
                end_commit(&self.end)
            else:
                end_step(&self.end)

    def recv_many(self, Py_ssize_t most):
        cdef list messages = []
        cdef Py_ssize_t i, here
        end_view(&self.end)
        here = self.end.seen - self.end.position
        if here > most:
            here = most
        for i in range(here):
            messages.append(PyBytes_FromStringAndSize(<const char *>end_slot(&self.end), self.size))
            if i == here - 1:
                end_release(&self.end)
            else:
                end_step(&self.end)
        return messages

    def send_block(self, const unsigned char[::1] block):
        cdef Py_ssize_t i, last = block.shape[0] // self.size - 1
        for i in range(last + 1):
            memcpy(end_reserve(&self.end), &block[i * self.size], self.size)
            if i == last or self.end.position + 1 - self.end.seen == self.end.slots:
                end_commit(&self.end)
            else:
                end_step(&self.end)

    def recv_block(self, unsigned char[::1] into):
        cdef Py_ssize_t i, here, most = into.shape[0] // self.size
        end_view(&self.end)
        here = self.end.seen - self.end.position
        if here > most:
            here = most
        for i in range(here):
            memcpy(&into[i * self.size], end_slot(&self.end), self.size)
            if i == here - 1:
                end_release(&self.end)
            else:
                end_step(&self.end)
        return here

    # -- arrays of float64 that fill a slot

    def send_array(self, cnp.ndarray array):
        memcpy(end_reserve(&self.end), cnp.PyArray_DATA(array), self.size)
        end_commit(&self.end)

    cdef slot_array(self, void *slot):
        cdef cnp.ndarray array = cnp.PyArray_SimpleNewFromData(1, self.shape, cnp.NPY_DOUBLE, slot)
        cnp.set_array_base(array, self)
        return array

    def reserve(self):
        return self.slot_array(end_reserve(&self.end))

    def commit(self):
        end_commit(&self.end)

    def view(self):
        return self.slot_array(end_view(&self.end))

    def release(self):
        end_release(&self.end)


cdef class Native(End):
    """Whole loops in C.  Each returns how many messages were wrong."""

    cdef uint64_t sent
    cdef uint64_t received

    def produce_small(self, uint64_t count):
        with nogil:
            produce_small(&self.end, count, self.size, self.sent)
        self.sent += count

    def consume_small(self, uint64_t count):
        with nogil:
            wrong = consume_small(&self.end, count, self.size, self.received)
        self.received += count
        return wrong

    def produce_batches(self, uint64_t count, const unsigned char[::1] block):
        with nogil:
            produce_batches(&self.end, count, self.size, block.shape[0] // self.size, &block[0])

    def consume_batches(self, uint64_t count, const unsigned char[::1] block, unsigned char[::1] into):
        with nogil:
            wrong = consume_batches(&self.end, count, self.size, block.shape[0] // self.size, &block[0], &into[0])
        return wrong

    def produce_frames(self, uint64_t count, double[::1] source, double first):
        with nogil:
            produce_frames(&self.end, count, &source[0], source.shape[0], first)

    def produce_in_place(self, uint64_t count, double first):
        with nogil:
            produce_in_place(&self.end, count, self.size // 8, first)

    def consume_frames(self, uint64_t count, double first, double inner):
        with nogil:
            wrong = consume_frames(&self.end, count, self.size // 8, first, inner)
        return wrong

    def client(self, Native back, uint64_t block, double[::1] samples):
        with nogil:
            wrong = ring_client(&self.end, &back.end, samples.shape[0], block, &samples[0])
        return wrong

    def server(self, Native back, uint64_t count):
        with nogil:
            ring_server(&self.end, &back.end, count)


cdef class Words:
    """Two words that go to and fro between two processes: spun on, or slept on."""

    cdef Py_buffer memory
    cdef uint64_t *forth
    cdef uint64_t *back
    cdef uint64_t number

    def __cinit__(self, buffer):
        PyObject_GetBuffer(buffer, &self.memory, PyBUF_SIMPLE | PyBUF_WRITABLE)
        self.forth = <uint64_t *>self.memory.buf
        self.back = <uint64_t *>(<char *>self.memory.buf + 128)
        self.number = 1

    def __dealloc__(self):
        PyBuffer_Release(&self.memory)

    def spin_client(self, uint64_t block, double[::1] samples):
        with nogil:
            word_client(self.forth, self.back, samples.shape[0], block, self.number, &samples[0])
        self.number += samples.shape[0] * block

    def spin_server(self, uint64_t count):
        with nogil:
            word_server(self.forth, self.back, count, self.number)
        self.number += count

    def sleep_client(self, uint64_t gap, double[::1] samples):
        with nogil:
            futex_client(<uint32_t *>self.forth, <uint32_t *>self.back, samples.shape[0], <uint32_t>self.number, gap,
                         &samples[0])
        self.number += samples.shape[0]

    def sleep_server(self, uint64_t gap, double[::1] held):
        with nogil:
            futex_server(<uint32_t *>self.forth, <uint32_t *>self.back, held.shape[0], <uint32_t>self.number, gap,
                         &held[0])
        self.number += held.shape[0]

    def call(self, uint64_t gap, double[::1] called):
        with nogil:
            futex_caller(<uint32_t *>self.forth, called.shape[0], <uint32_t>self.number, gap, &called[0])
        self.number += called.shape[0]

    def sleep(self, double[::1] awake):
        with nogil:
            futex_sleeper(<uint32_t *>self.forth, awake.shape[0], <uint32_t>self.number, &awake[0])
        self.number += awake.shape[0]


cdef class BareLock:
    """A word that is compared and swapped; who does not get it spins, for ever."""

    cdef Py_buffer memory
    cdef uint64_t *word

    def __cinit__(self, buffer):
        PyObject_GetBuffer(buffer, &self.memory, PyBUF_SIMPLE | PyBUF_WRITABLE)
        self.word = <uint64_t *>self.memory.buf

    def __dealloc__(self):
        PyBuffer_Release(&self.memory)

    def acquire(self):
        bare_acquire(self.word)

    def release(self):
        bare_release(self.word)

    def __enter__(self):
        bare_acquire(self.word)

    def __exit__(self, kind, error, traceback):
        bare_release(self.word)


def stream_send(int fd, double[::1] source, uint64_t count, double first):
    """Frames into a descriptor, each stamped with its number."""
    cdef int error
    with nogil:
        error = c_stream_send(fd, &source[0], source.shape[0], count, first)
    if error:
        raise OSError(error, "stream_send")


def stream_receive(int fd, double[::1] into, uint64_t count, double first):
    """As many out of it; how many of them were wrong."""
    cdef long long wrong
    with nogil:
        wrong = c_stream_receive(fd, &into[0], into.shape[0], count, first)
    if wrong < 0:
        raise OSError("stream_receive: the stream has ended")
    return wrong


def framed_send(int fd, double[::1] source, uint64_t count, double first):
    """Frames into a stream, each stamped with its number, and after its length."""
    cdef int error
    with nogil:
        error = c_framed_send(fd, &source[0], source.shape[0], count, first)
    if error:
        raise OSError(error, "framed_send")


def framed_receive(int fd, double[::1] like, uint64_t count, double first):
    """As many out of it, each into memory of its own; how many of them were wrong."""
    cdef long long wrong
    with nogil:
        wrong = c_framed_receive(fd, like.shape[0], count, first)
    if wrong < 0:
        raise OSError("framed_receive: the stream has ended")
    return wrong


def queue_send(int queue, bint sysv, double[::1] source, uint64_t count, double first):
    """Frames into a queue of the kernel, each stamped with its number."""
    cdef int error
    with nogil:
        error = c_queue_send(queue, sysv, &source[0], source.shape[0], count, first)
    if error:
        raise OSError(error, "queue_send")


def queue_receive(int queue, bint sysv, double[::1] like, uint64_t count, double first):
    """As many out of it; how many of them were wrong."""
    cdef long long wrong
    with nogil:
        wrong = c_queue_receive(queue, sysv, like.shape[0], count, first)
    if wrong < 0:
        raise OSError("queue_receive: the queue has failed")
    return wrong


def line_ns(int cpu_a, int cpu_b, int blocks=15, int block=200):
    """Median nanoseconds of a cache line's way from one CPU to the other and back."""
    cdef double[::1] samples = np.empty(blocks)
    with nogil:
        failed = line_round_trip(cpu_a, cpu_b, blocks, block, &samples[0])
    if failed < 0:
        raise OSError("no second thread for the core-distance probe")
    return float(np.median(samples))


def segment_cycles(name, uint64_t size, uint64_t count, bint reserved=False):
    """Nanoseconds of one create, map, close, unlink in C; ``name`` None: a memfd."""
    cdef bytes text = b"" if name is None else name.encode()
    cdef double taken = segment_cycles_c(NULL if name is None else PyBytes_AS_STRING(text), size, count, reserved)
    if taken < 0:
        raise OSError(<int>-taken, "segment_cycles", name)
    return taken


# -- what every receiver checks with: plain Python would spend more on boxing two numbers than a ring on the message


def stamp(cnp.ndarray array, double value):
    """Writes ``value`` to the first and the last item of a float64 array."""
    stamp_ends(<double *>cnp.PyArray_DATA(array), cnp.PyArray_SIZE(array), value)


def is_stamped(cnp.ndarray array, double value, Py_ssize_t items):
    """Whether it is an array of so many float64, the first and the last of which are ``value``."""
    return (
        cnp.PyArray_TYPE(array) == cnp.NPY_DOUBLE
        and cnp.PyArray_SIZE(array) == items
        and ends_are(<const double *>cnp.PyArray_DATA(array), items, value)
    )


def same_bytes(const unsigned char[::1] one, const unsigned char[::1] other, Py_ssize_t size):
    """Whether the first ``size`` bytes are the same."""
    return memcmp(&one[0], &other[0], size) == 0
