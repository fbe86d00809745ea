# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Event: a flag that processes and threads wait for.  The word and the protocol are in ``_event.h``."""

from libc.stdint cimport uint64_t

from shmkit._core cimport *
from shmkit._deadline cimport deadline_of
from shmkit._primitive cimport SPIN_WITH_GIL_NS, Primitive


cdef status_t round_of_event(void *of, waiter_t *waiter, uint64_t deadline_ns) noexcept nogil:
    return event_round(<event_wait_t *>of, waiter, deadline_ns)


cdef class Event(Primitive):
    """A flag that processes and threads wait for; it is down at first.

    ``Event()`` makes an anonymous one; ``create``, ``attach``, ``create_at`` and ``attach_at`` are those of `Lock`.  A
    flag that goes up and down at once has woken all who waited for it then.  Nobody holds it, so nobody's death
    matters.
    """

    def __init__(self):
        self.settle()

    @classmethod
    def create(cls, name, *, backing=None, mode=0o600, lifetime=None):
        """Make one under a name, in a segment of its own (see `Segment.create`).  SegmentExists, NoSpace."""
        return (<Primitive>cls.__new__(cls))._make_named(name, backing, mode, lifetime)

    @classmethod
    def create_or_attach(cls, name, *, backing=None, mode=0o600, lifetime=None):
        """Find the one of that name, or make it."""
        return (<Primitive>cls.__new__(cls))._create_or_attach(name, backing, mode, lifetime)

    @classmethod
    def create_at(cls, segment, offset=0):
        """Make one at `offset` of a segment, a multiple of 8, and best of 128.  What stood there is overwritten."""
        return (<Primitive>cls.__new__(cls))._make_at(segment, offset)

    cdef uint64_t size(self) except 0:
        return sizeof(event_cell_t)

    cdef int format(self) except -1:
        cell_clear(self.cell, sizeof(event_cell_t), 0)
        cell_publish(self.cell, CELL_EVENT)
        return 0

    cdef int check(self, uint64_t room) except -1:
        return self.check_kind(room, sizeof(event_cell_t), CELL_EVENT)

    cdef int bind(self) except -1:
        return 0

    def is_set(self) -> bool:
        """Whether the flag is up."""
        self.enter()
        return event_is_up(<event_cell_t *>self.cell)

    def set(self) -> None:
        """Put the flag up, and wake all who wait for it."""
        self.enter()
        event_set(<event_cell_t *>self.cell)

    def clear(self) -> None:
        """Take the flag down."""
        self.enter()
        event_clear(<event_cell_t *>self.cell)

    def wait(self, timeout=None) -> bool:
        """Wait until the flag is up; True, or False if it was not within `timeout` seconds."""
        cdef event_wait_t wait
        cdef uint64_t deadline = deadline_of(timeout)
        self.enter()
        if event_begin(&wait, <event_cell_t *>self.cell) or event_spin(&wait, SPIN_WITH_GIL_NS):
            return True
        return self.wait_rounds(round_of_event, &wait, deadline) == OK

    def __repr__(self) -> str:
        cdef str what = "Event" if self.name is None else f"Event {self.name!r}"
        if self.shut or self.mapping is None:
            return f"<{what} at {id(self):#x} closed>"
        return f"<{what} at {id(self):#x} {'set' if self.is_set() else 'unset'}>"
