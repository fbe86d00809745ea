"""Time-outs, as what is left of them, or as the instant when they are up."""

from libc.stdint cimport uint64_t

from shmkit._core cimport FOREVER, clock_ns

from numbers import Integral, Rational, Real


cdef uint64_t deadline_of(object timeout) except? 0:
    """The monotonic instant, in ns, that is `timeout` seconds away; None: never.  Negative counts as 0.

    What Python converts to a float is a number here, as for the standard library's locks.
    """
    if timeout is None:
        return FOREVER
    cdef double seconds
    try:
        seconds = timeout
    except OverflowError:  # an int that no float holds
        seconds = 1e300 if timeout > 0 else 0.0
    if seconds != seconds:
        raise ValueError("timeout must be a number of seconds or None: got nan")
    cdef uint64_t now = clock_ns()
    if seconds <= 0:
        return now
    return FOREVER if seconds > 1e9 else now + <uint64_t>(seconds * 1e9)


cdef int check_timeout(object timeout) except -1:
    """Raises what `deadline_of` would."""
    if (type(timeout) is not float or timeout != timeout) and type(timeout) is not int:
        deadline_of(timeout)
    return 0


cdef uint64_t deadline_after(object timeout) except? 0:
    """The same of an int, a float or one of NumPy's: a flag that stands in the wrong place is refused."""
    if timeout is None or type(timeout) is float or type(timeout) is int or is_plain_number(timeout):
        return deadline_of(timeout)
    raise TypeError(f"timeout must be a number of seconds or None: got {timeout!r}")


cdef bint is_plain_number(object value) except -1:
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return isinstance(value, Integral) or not isinstance(value, Rational)


cdef object timeout_clock(object timeout):
    """A function that says how many seconds are left of `timeout`."""
    cdef uint64_t deadline = deadline_after(timeout)

    def left():
        now = clock_ns()
        return (deadline - now) / 1e9 if deadline > now else 0.0

    return left
