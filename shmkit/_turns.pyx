"""Turn: whose call at an end of a channel it is, one thread at a time.

An ordinary lock, which nobody takes twice: the thread that has it and asks again (from a signal's handler, or in
another task of the same event loop) is told so, instead of waiting for itself.
"""

from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport (
    NOWAIT_LOCK,
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_get_thread_ident,
    PyThread_release_lock,
)
from libc.math cimport INFINITY

from shmkit._core_threads cimport PY_LOCK_ACQUIRED, PY_LOCK_INTR, PyLockStatus, PyThread_acquire_lock_timed

# A wait is no longer than this, in seconds: the lock counts microseconds.
cdef double LONGEST = 1e6


cdef class Turn:
    """A lock that notices when the thread that holds it asks again."""

    def __cinit__(self):
        self.lock = PyThread_allocate_lock()
        if self.lock == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.lock != NULL:
            # Freed unlocked, as the system's locks want it.
            PyThread_acquire_lock(self.lock, NOWAIT_LOCK)
            PyThread_release_lock(self.lock)
            PyThread_free_lock(self.lock)

    cdef bint try_it(self) noexcept:
        if not PyThread_acquire_lock(self.lock, NOWAIT_LOCK):
            return False
        self.owner = PyThread_get_thread_ident()
        return True

    cdef void leave(self) noexcept:
        self.owner = 0
        PyThread_release_lock(self.lock)

    def try_take(self):
        """Whether it is this thread's turn now."""
        return self.try_it()

    def take(self, deadline, str label):
        """Wait for it; False: the time is up.  RuntimeError: this thread has it already."""
        cdef PyLockStatus status
        cdef double left
        cdef long long microseconds
        while not self.try_it():
            if self.owner == <unsigned long>PyThread_get_thread_ident():
                raise RuntimeError(f"{label} is in use by this very thread: called from a signal handler, or a task?")
            left = deadline.left()
            microseconds = -1 if left == INFINITY else <long long>(min(left, LONGEST) * 1e6)
            with nogil:
                status = PyThread_acquire_lock_timed(self.lock, microseconds, 1)
            if status == PY_LOCK_ACQUIRED:
                self.owner = PyThread_get_thread_ident()
                return True
            if status == PY_LOCK_INTR:
                PyErr_CheckSignals()
            elif deadline.passed:
                return False
        return True

    @property
    def mine(self):
        """Whether this very thread has it."""
        return self.owner == <unsigned long>PyThread_get_thread_ident()

    def give(self):
        """Let the next one have it."""
        self.leave()
