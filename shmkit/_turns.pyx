"""Turn: whose call at an end of a channel it is, one thread at a time.

An ordinary lock, which nobody takes twice: the thread that has it and asks again (from a signal's handler, or in
another task of the same event loop) is told so, instead of waiting for itself.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint64_t

from shmkit._core cimport turn_ask, turn_end, turn_mine, turn_reset, turn_try, turn_wait

# So long a thread sleeps at once, in seconds: who gives the turn wakes it.
cdef double SLICE = 10.0


cdef class Turn:
    """A lock that notices when the thread that holds it asks again."""

    def __cinit__(self):
        turn_reset(&self.turn)

    cdef bint try_it(self) noexcept:
        return turn_try(&self.turn)

    cdef void leave(self) noexcept:
        turn_end(&self.turn)

    def try_take(self):
        """Whether it is this thread's turn now."""
        return self.try_it()

    def take(self, deadline, str label):
        """Wait for it; False: the time is up.  RuntimeError: this thread has it already."""
        cdef double left
        cdef uint64_t limit
        while not self.try_it():
            if turn_mine(&self.turn):
                raise RuntimeError(f"{label} is in use by this very thread: called from a signal handler, or a task?")
            left = deadline.left()
            if left <= 0:
                return False
            limit = <uint64_t>(min(left, SLICE) * 1e9) + 1
            turn_ask(&self.turn)
            with nogil:
                turn_wait(&self.turn, limit)
            PyErr_CheckSignals()
        return True

    @property
    def mine(self):
        """Whether this very thread has it."""
        return turn_mine(&self.turn)

    def give(self):
        """Let the next one have it."""
        self.leave()
