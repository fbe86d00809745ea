"""Catcher: what other threads than the one that collects signals get of them, in a pipe.

The protocol is in ``_catch.h``.  Any thread may start and stop one; a forked child has a pipe of its own under the same
number.
"""

cimport cython
from libc.stdlib cimport calloc, free
from posix.unistd cimport close

from shmkit._core_signals cimport (
    catch_pipe,
    catch_return,
    catch_start,
    catch_stop,
    catch_watch_forks,
    catcher_t,
    sigaddset,
    sigemptyset,
)

import os

cdef int failed = catch_watch_forks()
if failed:
    raise OSError(failed, os.strerror(failed))


cdef class Catcher:
    """The signals of these numbers that come to threads which do not block them, from now until ``stop``.

    OSError: no descriptor is left; ValueError: the C library keeps one of the signals for itself.
    """

    # Outside of the object: a handler may look at it while that is being made or freed.
    cdef catcher_t *one
    cdef bint running

    def __cinit__(self, numbers):
        cdef int error
        self.one = <catcher_t *>calloc(1, sizeof(catcher_t))
        if self.one == NULL:
            raise MemoryError
        self.one.from_ = self.one.into = -1
        sigemptyset(&self.one.numbers)
        for number in numbers:
            if sigaddset(&self.one.numbers, number) != 0:
                raise ValueError(f"the C library keeps signal {number} for itself")
        error = catch_pipe(self.one)
        if error:
            raise OSError(error, os.strerror(error))
        error = catch_start(self.one)
        if error:
            raise ValueError(f"one of the signals {sorted(numbers)} cannot be collected: {os.strerror(error)}")
        self.running = True

    def __dealloc__(self):
        if self.one == NULL:
            return
        self.end()
        free(self.one)

    @cython.critical_section
    cdef void end(self) noexcept:
        if self.running:
            self.running = False
            catch_stop(self.one)
            catch_return(self.one)
        if self.one.from_ >= 0:
            close(self.one.from_)
            close(self.one.into)
            self.one.from_ = self.one.into = -1

    def fileno(self):
        """What is readable when one has come: 16 bytes each, number, value, pid and uid."""
        return self.one.from_

    @property
    def lost(self):
        """How many found the pipe full."""
        return self.one.lost

    def stop(self):
        """Bring back the actions that were before; what was not read is sent to this process again."""
        self.end()
