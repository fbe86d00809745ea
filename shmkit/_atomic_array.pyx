# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""AtomicArray: many words that processes share, for users; each is what an AtomicInt64 or AtomicUInt64 is."""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint64_t, uintptr_t

from shmkit._atomic cimport bits_of, change, compare_exchange, load, store, wake
from shmkit._core cimport *
from shmkit._deadline cimport deadline_of
from shmkit._primitive cimport SPIN_WITH_GIL_NS

import numpy as np

from shmkit.array import SharedArray


cdef class AtomicArray:
    """Each element of an array of int64 or uint64 as an `AtomicInt64` or `AtomicUInt64`.

    ``AtomicArray(array)`` is over the memory of any writable one-dimensional array or buffer of such integers,
    contiguous and in this machine's byte order: shared (``shmkit.zeros(100, "int64")``, or a named array) or not.  It
    is pickled as a reference if the array is shared, and not at all otherwise.  Every method is that of an
    `AtomicInt64`, with the index first; ``words[3]`` and ``words[3] = 7`` are a load and a store.
    """

    cdef object memory  # the array that it is over
    cdef uint64_t *words
    cdef Py_ssize_t length
    cdef bint signed

    def __init__(self, array):
        if not isinstance(array, np.ndarray):
            array = np.asarray(memoryview(array))
        if array.dtype.kind not in "iu" or array.dtype.itemsize != 8 or not array.dtype.isnative:
            raise TypeError(
                f"an AtomicArray is over native int64 or uint64: got {array.dtype} "
                "(numpy.frombuffer(buffer, 'int64') sees bytes as such)"
            )
        if array.ndim != 1 or not array.flags.c_contiguous:
            raise ValueError(
                f"an AtomicArray is over one contiguous dimension: got shape {array.shape}, strides {array.strides}"
            )
        if not array.flags.writeable:
            raise ValueError("an AtomicArray is over memory that can be written: got a read-only array")
        if array.ctypes.data % sizeof(uint64_t):
            raise ValueError(f"an AtomicArray stands on a multiple of 8: got address {array.ctypes.data:#x}")
        self.memory = array
        self.words = <uint64_t *><uintptr_t>array.ctypes.data
        self.length = array.size
        self.signed = array.dtype.kind == "i"

    @classmethod
    def attach_at(cls, segment, offset=0, length=None, dtype="int64"):
        """Over `length` words from `offset` of a segment, a multiple of 8; all that fit if no length is given."""
        if offset < 0 or offset % 8:
            raise ValueError(f"an AtomicArray stands on a multiple of 8 within its segment: got offset {offset}")
        if length is None:
            length = max(segment.size - offset, 0) // 8
        return cls(segment.ndarray(length, dtype, offset))

    def __reduce__(self):
        shared = self.memory.view(SharedArray)
        if not shared.shared:
            raise TypeError("an AtomicArray over memory that is not shared cannot be pickled: use shmkit.zeros")
        return type(self), (shared,)

    @property
    def array(self):
        """The array that it is over: what NumPy does with it is not atomic."""
        return self.memory

    cdef uint64_t *word(self, object where) except NULL:
        cdef Py_ssize_t at
        if self.words == NULL:
            raise TypeError(f"{type(self).__name__}.__init__ was not called")
        try:
            at = where
        except OverflowError:
            at = self.length
        if at < 0:
            at += self.length
        if not 0 <= at < self.length:
            raise IndexError(f"an AtomicArray of {self.length} has no element {where}")
        return &self.words[at]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, where) -> int:
        return load(self.word(where), self.signed, "seq_cst")

    def __setitem__(self, where, value) -> None:
        store(self.word(where), self.signed, value, "seq_cst")

    def __iter__(self):
        cdef Py_ssize_t at
        for at in range(self.length):
            yield load(self.word(at), self.signed, "seq_cst")

    def load(self, where, order="seq_cst") -> int:
        """The value of an element now."""
        return load(self.word(where), self.signed, order)

    def store(self, where, value, order="seq_cst") -> None:
        """Replace the value of an element."""
        store(self.word(where), self.signed, value, order)

    def exchange(self, where, value, order="seq_cst") -> int:
        """Replace the value of an element; the value before."""
        return change(word_exchange, self.word(where), self.signed, value, order)

    def add(self, where, value=1, order="seq_cst") -> int:
        """Add to an element; the value *before*."""
        return change(word_add, self.word(where), self.signed, value, order)

    def sub(self, where, value=1, order="seq_cst") -> int:
        """Subtract from an element; the value *before*."""
        return change(word_sub, self.word(where), self.signed, value, order)

    def and_(self, where, value, order="seq_cst") -> int:
        """Keep only the bits of an element that `value` has too; the value *before*."""
        return change(word_and, self.word(where), self.signed, value, order)

    def or_(self, where, value, order="seq_cst") -> int:
        """Set the bits of `value` in an element; the value *before*."""
        return change(word_or, self.word(where), self.signed, value, order)

    def xor(self, where, value, order="seq_cst") -> int:
        """Turn the bits of `value` in an element over; the value *before*."""
        return change(word_xor, self.word(where), self.signed, value, order)

    def compare_exchange(self, where, expected, desired, order="seq_cst", failure=None) -> tuple:
        """Replace the value of an element by `desired` if it is `expected`; (whether it was, the value there)."""
        return compare_exchange(self.word(where), self.signed, expected, desired, order, failure)

    def wait(self, where, value, timeout=None) -> bool:
        """Sleep while an element is `value`; True, or False if it still was after `timeout` seconds."""
        cdef word_wait_t wait
        cdef waiter_t waiter
        cdef status_t status
        cdef uint64_t deadline = deadline_of(timeout)
        wait.word = self.word(where)
        wait.value = bits_of(value, self.signed)
        wait.wide = True
        if word_spin(&wait, SPIN_WITH_GIL_NS):
            return True
        waiter_init(&waiter)
        while True:
            with nogil:
                status = word_round(&wait, &waiter, deadline)
            if status != INTERRUPTED and status != SLICE_OVER:
                return status == OK
            PyErr_CheckSignals()

    def notify(self, where, n=1) -> None:
        """Wake up to `n` of those who wait for an element.  Call it after the change."""
        wake(self.word(where), n)

    def notify_all(self, where) -> None:
        """Wake all who wait for an element.  Call it after the change."""
        word_wake(self.word(where), WORD_ALL)

    def __repr__(self) -> str:
        return f"<shmkit.AtomicArray at {id(self):#x}: {self.length} × {'int64' if self.signed else 'uint64'}>"
