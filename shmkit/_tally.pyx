# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Tally: what ``shmkit run --stats`` counts, in words that all processes of a run share.

A pointer says where they are: NULL, and nothing is counted, in every other process.  Whoever counts looks at it where
a message has arrived or a wait begins, and at nothing else.
"""

from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint64_t

from shmkit._core cimport add_relaxed_u64, load_relaxed_u64

cdef uint64_t *words = NULL
cdef Py_ssize_t count = 0

RUN_WORDS = TALLY_WORDS
TASKS = ROLE_TASKS
ANSWERS = ROLE_ANSWERS


cdef uint64_t **tally_of_run() noexcept nogil:
    return &words


def begin(memory) -> None:
    """From now on, and in children that are forked, it is counted there: in writable memory of whole words."""
    global words, count
    cdef uint64_t[::1] view = memoryview(memory).cast("B").cast("Q")
    if view.shape[0] < TALLY_WORDS:
        raise ValueError(f"a tally has {<int>TALLY_WORDS} words or more: got {view.shape[0]}")
    Py_INCREF(memory)  # other threads count until the process has ended
    count = view.shape[0]
    words = &view[0]


def is_on() -> bool:
    """Whether anything is counted."""
    return words != NULL


def add(Py_ssize_t place, uint64_t amount=1) -> None:
    """Counts, if anything is counted."""
    if words == NULL:
        return
    if not 0 <= place < count:
        raise IndexError(f"a tally of {count} words has no word {place}")
    add_relaxed_u64(&words[place], amount)  # relaxed: a count


def read() -> list:
    """All words."""
    return [load_relaxed_u64(&words[place]) for place in range(count)]  # relaxed: counts
