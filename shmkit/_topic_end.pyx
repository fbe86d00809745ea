# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""TopicEnd: what the publisher and the subscribers of a topic have in common (``_topic_layout.h``, ``_topic.h``)."""

from libc.stdint cimport uint64_t

cimport cython

from shmkit._core cimport *
from shmkit._core_topic cimport *
from shmkit._core_watch cimport sender_close
from shmkit._map cimport fork_generation

from shmkit import errors
from shmkit.segment import Segment

cdef const uint64_t *generation = fork_generation()
cdef uint64_t NEVER = <uint64_t>-1


@cython.no_gc_clear
cdef class TopicEnd:
    """The base of Publisher and Subscriber; see there."""

    def __cinit__(self, *args, **kwargs):
        self.generation = NEVER

    def __dealloc__(self):
        sender_close(&self.c.sender)

    cdef int bind(self, object segment) except -1:
        self.segment = segment
        self.mapping = segment.mapping
        if topic_open(&self.c, self.mapping.own.addr + self.mapping.payload_at, self.mapping.payload_size) != OK:
            raise errors.LayoutMismatch(f"{self._label()} contradicts itself")
        return 0

    cdef int usable(self) except -1:
        if self.shut:
            raise errors.Closed(f"{self._label()} was closed by this process")
        if self.mapping is None:
            raise TypeError(f"{type(self).__name__}.__init__ was not called")
        return 0

    def _label(self):
        name = None if self.segment is None else self.segment.name
        return f"the {type(self).__name__.lower()} of " + ("an anonymous topic" if name is None else f"topic {name!r}")

    @property
    def name(self):
        """What the topic is attached by; None: it is anonymous."""
        return None if self.segment is None else self.segment.name

    @property
    def closed(self) -> bool:
        """Whether this handle was closed."""
        return self.shut

    @property
    def slots(self) -> int:
        """How many of the latest values are kept."""
        return self.c.slots

    @property
    def slot_size(self) -> int:
        """Bytes of the largest value."""
        return self.c.slot_size

    @property
    def published(self) -> int:
        """How many values there were so far."""
        self.usable()
        return topic_published(&self.c)

    def unlink(self) -> None:
        """Remove the topic's name; whoever is attached goes on.  ValueError for one that has none."""
        if self.name is None:
            raise ValueError(f"{self._label()} has no name to remove")
        self.segment.unlink()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed " if self.shut else ""
        name = "" if self.name is None else f" {self.name!r}"
        return f"<{state}shmkit.{type(self).__name__}{name} at {id(self):#x}>"


def make_segment(name, slots, slot_size, mode, lifetime, backing):
    """A new segment with a topic in it."""
    def init(mapping, offset):
        format_topic(mapping, slots, slot_size)

    return Segment._create(
        name, PAGE + slots * topic_slot_bytes(slot_size), backing=backing, mode=mode, lifetime=lifetime,
        kind=SEGMENT_KIND_TOPIC, meta={"topic": slots}, init=init,
    )


cdef int format_topic(object mapping, uint64_t slots, uint64_t slot_size) except -1:
    cdef TopicEnd made = TopicEnd.__new__(TopicEnd)
    made.mapping = mapping
    topic_format(made.mapping.own.addr + made.mapping.payload_at, <uint32_t>slots, slot_size)
    return 0


def find_segment(name, backing, owner):
    """The segment of the topic of that name."""
    return Segment._attach(name, backing=backing, owner=owner, kind=SEGMENT_KIND_TOPIC)
