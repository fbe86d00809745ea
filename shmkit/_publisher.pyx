# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Publisher: the one who says something on a topic, and never waits for those who listen (``_topic.h``)."""

from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

cimport cython
cimport numpy as cnp

from shmkit._core cimport *
from shmkit._core_topic cimport *
from shmkit._decode_arrays cimport new_array
from shmkit._encode cimport Parcel, pack_lent, pack_small
from shmkit._map cimport fork_generation
from shmkit._membership cimport Member, member_of
from shmkit._topic_end cimport TopicEnd

from operator import index
from threading import RLock

import numpy as np

from shmkit import errors
from shmkit._make_array import check_dtype
from shmkit._subscriber import Subscriber
from shmkit._topic_end import find_segment, make_segment
from shmkit.sizes import format_size, parse_size

cnp.import_array()

cdef const uint64_t *generation = fork_generation()
cdef uint64_t NEVER = <uint64_t>-1


@cython.no_gc_clear
cdef class Publisher(TopicEnd):
    """The one process that publishes on a topic.

    ``Publisher(slots=…, slot_size=…)`` makes an anonymous topic, for children that get a ``subscriber()``;
    ``Publisher.create`` gives it a name, and ``Publisher.attach`` goes on with one that exists, after the publisher
    before has left or was killed: the count of values goes on too.  ``slots`` is how many of the latest values are
    kept, ``slot_size`` how large the largest may be.

    Publishing never waits: a subscriber that is too slow loses the oldest values, and is told how many.
    """

    cdef Member member
    cdef lock_t role
    cdef topic_slot_t *loaned  # being written; NULL: none is
    cdef object turn           # of this process's threads

    def __init__(self, *, slots=8, slot_size="1 MiB"):
        if self.mapping is not None:
            raise TypeError("Publisher.__init__ called again")
        slots, slot_size = check_sizes(slots, slot_size)
        self._begin(make_segment(None, slots, slot_size, 0o600, None, None))

    @classmethod
    def create(cls, name, *, slots=8, slot_size="1 MiB", backing=None, mode=0o600, lifetime=None):
        """Make a topic under a name.  SegmentExists, NoSpace."""
        if name is None:
            raise TypeError("Publisher.create needs a name; Publisher() makes an anonymous topic")
        slots, slot_size = check_sizes(slots, slot_size)
        made = cls.__new__(cls)
        made._begin(make_segment(name, slots, slot_size, mode, lifetime, backing))
        return made

    @classmethod
    def attach(cls, name, *, backing=None, owner=None):
        """Become the publisher of a topic that exists.  SegmentNotFound; RoleTaken if another process is."""
        made = cls.__new__(cls)
        made._begin(find_segment(name, backing, owner))
        return made

    @classmethod
    def create_or_attach(cls, name, *, slots=8, slot_size="1 MiB", backing=None, mode=0o600):
        """Go on with the topic of that name, or make it.  ValueError if it exists with other sizes."""
        while True:
            try:
                made = cls.attach(name, backing=backing)
            except errors.SegmentNotFound:
                try:
                    return cls.create(name, slots=slots, slot_size=slot_size, backing=backing, mode=mode)
                except errors.SegmentExists:
                    continue
            if (made.slots, made.slot_size) != check_sizes(slots, slot_size):
                made.close()
                raise ValueError(
                    f"topic {name!r} exists with {made.slots} slots of {made.slot_size} bytes: got {slots!r}, "
                    f"{slot_size!r}"
                )
            return made

    def _begin(self, segment):
        self.bind(segment)
        self.take_role()
        topic_reopen(&self.c)

    @cython.critical_section
    cdef int take_role(self) except -1:
        cdef lock_wait_t wait
        self.usable()
        if self.generation == generation[0]:
            return 0
        self.loaned = NULL  # that of a parent was not this process's
        self.turn = RLock()
        self.member = member_of(self.mapping)
        memset(&self.role, 0, sizeof(self.role))
        self.role.cell = &self.c.header.publisher
        self.role.member = &self.member.own
        self.role.held = member_word(self.member.own.id)
        wait.lock = &self.role
        if lock_try(&wait) != OK:
            raise self.taken()
        self.generation = generation[0]
        return 0

    cdef object taken(self):
        return errors.RoleTaken(f"{self._label()} is process {member_pid(member_of_word(self.role.cell.word))}")

    cdef object busy(self):
        return RuntimeError(f"{self._label()} has a loan, or is publishing: that has to end first")

    @cython.critical_section
    cdef topic_slot_t *begin(self) except NULL:
        if self.generation != generation[0]:
            self.take_role()
        if self.loaned != NULL:
            raise self.busy()
        self.loaned = topic_loan(&self.c)
        return self.loaned

    def publish(self, obj) -> None:
        """Publish a value: any object, as `Queue.put` takes it; a SharedArray is copied as other arrays are.

        RecordTooLarge if it needs more than `slot_size`; what pickling raises; RoleTaken in a forked child.
        """
        cdef unsigned char head[TOPIC_HEAD]
        cdef topic_slot_t *slot
        cdef Parcel parcel = None
        cdef uint64_t body = 0
        cdef int size = pack_small(obj, head, TOPIC_HEAD, True)
        if size <= 0:
            parcel = Parcel.__new__(Parcel)
            parcel.pack(obj, head, TOPIC_HEAD, True)
            size = <int>parcel.head_size
            body = parcel.body_size
            if body > self.c.slot_size:
                raise errors.RecordTooLarge(
                    f"a value must fit into a slot: got {format_size(body)}, slots have "
                    f"{format_size(self.c.slot_size)} ({self._label()})"
                )
        if self.generation != generation[0]:
            self.take_role()
        with self.turns():
            slot = self.begin()
            try:
                memcpy(slot.head, head, size)
                slot.head_size = size
                slot.body_size = body
                if body:
                    parcel.write(<unsigned char *>slot + sizeof(topic_slot_t))
                topic_publish(&self.c, slot)
            except BaseException:
                topic_return(&self.c, slot)
                raise
            finally:
                self.loaned = NULL
        if parcel is not None:
            parcel.clear()

    def loan(self, shape, dtype="float64"):
        """An array in the topic's own memory, to be filled in a ``with`` block; published when that ends, and not if
        it raises.

        RecordTooLarge; RoleTaken in a forked child.
        """
        return Loan(self, shape, dtype)

    cdef object lend(self, object shape, object dtype):
        cdef cnp.npy_intp sides[64]
        cdef cnp.dtype kind = check_dtype(dtype)
        cdef uint64_t nbytes = kind.itemsize
        cdef int axis
        cdef tuple wanted = (shape,) if isinstance(shape, (int, np.integer)) else tuple([index(side) for side in shape])
        if len(wanted) > 64:
            raise ValueError(f"an array has at most 64 dimensions: got {len(wanted)}")
        total = kind.itemsize
        for axis in range(len(wanted)):
            if wanted[axis] < 0:
                raise ValueError(f"no dimension of an array can be negative: got shape {shape!r}")
            total *= wanted[axis]
        if total > self.c.slot_size:
            raise errors.RecordTooLarge(
                f"a value must fit into a slot: got {format_size(total)}, slots have {format_size(self.c.slot_size)} "
                f"({self._label()})"
            )
        for axis in range(len(wanted)):
            sides[axis] = wanted[axis]
        nbytes = total
        cdef topic_slot_t *slot = self.begin()
        cdef cnp.ndarray array = new_array(kind, len(wanted), sides, <char *>slot + sizeof(topic_slot_t), False)
        cnp.set_array_base(array, self.mapping)
        cdef int size = pack_lent(array, 0, slot.head, TOPIC_HEAD)
        if size < 0:
            topic_return(&self.c, slot)
            self.loaned = NULL
            raise TypeError(f"an array of dtype {dtype!r} cannot be lent: its description is too long; publish it")
        slot.head_size = size
        slot.body_size = nbytes
        return array

    cdef object turns(self):
        """The lock of this process's threads."""
        with cython.critical_section(self):
            self.usable()
            return self.turn

    cdef int settle(self, cnp.ndarray array, bint publish) except -1:
        # What is published is not changed any more.
        array.flags.writeable = False
        with cython.critical_section(self):
            return self.give_back(publish)

    cdef int give_back(self, bint publish) except -1:
        cdef topic_slot_t *slot = self.loaned
        if slot == NULL:
            return 0  # the publisher was closed meanwhile
        self.loaned = NULL
        if self.generation != generation[0]:
            return 0  # a forked child has a copy of the handle, and nothing to give back
        if publish:
            topic_publish(&self.c, slot)
        else:
            topic_return(&self.c, slot)
        return 0

    def subscriber(self, *, replay=False):
        """A Subscriber of this topic, to be inherited by, or pickled to, a child."""
        self.usable()
        return Subscriber._of(self.segment, replay)

    def close(self) -> None:
        """Leave: subscribers get EndOfStream after the last value, unless another publisher comes.  Idempotent."""
        if self.shut:
            return
        if self.turn is None or self.generation != generation[0]:
            self.leave()
        else:
            with self.turns():  # what another thread publishes just now is whole first
                self.leave()

    @cython.critical_section
    cdef int leave(self) except -1:
        if self.shut:
            return 0
        if self.mapping is not None and self.generation == generation[0]:
            if self.loaned != NULL:
                topic_return(&self.c, self.loaned)
                self.loaned = NULL
            topic_close(&self.c)
            lock_give(&self.role)
        self.shut = True
        self.generation = NEVER
        return 0


cdef class Loan:
    """What ``Publisher.loan`` returns: a context manager that gives an array and publishes it."""

    cdef Publisher publisher
    cdef object shape
    cdef object dtype
    cdef object array

    def __init__(self, Publisher publisher, shape, dtype):
        self.publisher = publisher
        self.shape = shape
        self.dtype = dtype

    def __enter__(self):
        if self.array is not None:
            raise RuntimeError("a loan is made once")
        self.array = self.publisher.lend(self.shape, self.dtype)
        return self.array

    def __exit__(self, kind, error, traceback) -> None:
        with cython.critical_section(self):
            array, self.array = self.array, None
        if array is not None:
            self.publisher.settle(array, kind is None)


def check_sizes(slots, slot_size):
    """(slots, bytes) as numbers; TypeError, ValueError."""
    if isinstance(slots, bool) or not isinstance(slots, (int, np.integer)):
        raise TypeError(f"slots is a whole number: got {slots!r}")
    if not 2 <= slots <= TOPIC_SLOTS_MOST:
        raise ValueError(f"a topic has 2 to {TOPIC_SLOTS_MOST} slots: got {slots}")
    return int(slots), parse_size(slot_size)
