"""Time-outs, as what is left of them, or as the instant when they are up."""

from libc.stdint cimport uint64_t

from shmkit._core cimport FOREVER, clock_ns

import numpy as np


cdef uint64_t deadline_after(object timeout) except? 0:
    """The monotonic instant, in ns, that is `timeout` seconds away; None: never."""
    if timeout is None:
        return FOREVER
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float, np.integer, np.floating)):
        raise TypeError(f"timeout must be a number of seconds or None: got {timeout!r}")
    cdef double seconds
    try:
        seconds = timeout
    except OverflowError:
        seconds = 1e300 if timeout > 0 else 0.0
    if seconds != seconds:
        raise ValueError("timeout must be a number of seconds or None: got nan")
    cdef uint64_t now = clock_ns()
    if seconds <= 0:
        return now
    return FOREVER if seconds > 1e9 else now + <uint64_t>(seconds * 1e9)


cdef object timeout_clock(object timeout):
    """A function that says how many seconds are left of `timeout`."""
    cdef uint64_t deadline = deadline_after(timeout)

    def left():
        now = clock_ns()
        return (deadline - now) / 1e9 if deadline > now else 0.0

    return left
