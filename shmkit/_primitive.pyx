# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Primitive: what locks, semaphores, events, conditions and barriers have in common.

Each is a few words ("cells" in ``_layout.h``) in a segment: in one that all anonymous primitives of a process share,
in one of its own that has a name, or at an offset of the user's.  This file makes and finds them, carries them to
other processes, and waits; what the words mean is in ``_lock.h``, ``_semaphore.h`` and their kin.

Any thread may call anything at any time.  In a forked child a handle goes on under the child's own name
(``_member.h``): what the parent holds, the child does not.

Every wait is a loop: try, spin a microsecond with the GIL, then without it yield, spin and sleep for a slice; after
each slice signals are handled and the kernel is asked whether who is waited for lives.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint32_t, uint64_t

cimport cython

from shmkit._core cimport *
from shmkit._map cimport Mapping, fork_generation, forks_seen
from shmkit._membership cimport Member, member_of
from shmkit._tally cimport tally_of_run, wait_begins, wait_ends

from shmkit import errors
from shmkit.segment import Segment

cdef const uint64_t *generation = fork_generation()
cdef uint64_t **tally = tally_of_run()

cdef enum:
    UNIT = LINE              # what cells are rounded up to
    UNITS = 1024             # in a shared segment
    OWN_SEGMENT = UNITS // 8  # more than that, and a primitive gets a segment of its own

cdef uint64_t NEVER = <uint64_t>-1


# ------------------------------------------------------------------------------------------------- shared segments


@cython.final
cdef class Arena:
    """A segment that anonymous primitives of this process share; children that inherit it only use what is there."""

    cdef object segment
    cdef Member member       # stays one as long as there may be another primitive
    cdef uint64_t generation
    cdef uint64_t used       # units handed out once
    cdef dict free           # units of a room → where such rooms were given back
    cdef object __weakref__

    def __cinit__(self):
        self.segment = Segment._create(None, UNITS * UNIT, kind=SEGMENT_KIND_SYNC)
        self.member = member_of(self.segment.mapping)
        self.generation = generation[0]
        self.free = {}


@cython.final
cdef class Room:
    """A place in an arena.  Given back with its primitive, if nobody else can know of it: it was never pickled, nobody
    asked where it stands, and no fork has copied it.  Otherwise it stays as it is until the whole arena goes."""

    cdef Arena arena
    cdef uint64_t at
    cdef uint64_t units
    cdef uint64_t forks
    cdef bint known

    def __dealloc__(self):
        if self.arena is not None and not self.known and self.forks == forks_seen():
            with cython.critical_section(_places):
                self.arena.free.setdefault(self.units, []).append(self.at)


cdef Arena _arena = None
cdef dict _places = {}  # nothing: whoever takes a place, or gives one back, is in its critical section


def let_go():
    """Has the next anonymous primitive stand in a new segment; the old one goes with the last that stands in it."""
    global _arena
    with cython.critical_section(_places):
        _arena = None


cdef Room take_room(uint64_t size):
    """A place for `size` bytes in this process's arena."""
    global _arena
    cdef uint64_t units = (size + UNIT - 1) // UNIT
    cdef Room room = Room.__new__(Room)
    cdef Arena arena, made = None
    cdef list places
    room.units = units
    room.forks = forks_seen()
    while True:
        with cython.critical_section(_places):
            if made is not None and _arena is arena:  # else another thread was quicker
                _arena = made
            arena = _arena
            if arena is not None and arena.generation == generation[0]:
                places = arena.free.get(units)
                if places:
                    room.at = places.pop()
                    room.arena = arena
                    return room
                if arena.used + units <= UNITS:
                    room.at = arena.used * UNIT
                    arena.used += units
                    room.arena = arena
                    return room
        made = Arena()  # a full one lives on in its primitives


# ------------------------------------------------------------------------------------------------------- primitives


cdef str kind_text(uint32_t kind):
    """A cell's kind as it reads in memory, four letters; a number, if it is something else."""
    text = (<object>kind).to_bytes(4, "little")
    return repr(text.decode()) if text.isalpha() else f"{kind:#x}"


@cython.no_gc_clear
cdef class Primitive:
    """The base of Lock, Semaphore and their kin; see there."""

    def __cinit__(self):
        self.generation = NEVER
        self.spin_ns = 0

    # --- what each says of itself ------------------------------------------------------------------------------

    cdef uint64_t size(self) except 0:
        """Bytes of its cells."""
        raise TypeError("a Primitive is a Lock, a Semaphore or one of their kin")

    cdef int format(self) except -1:
        """Writes new cells; kind last."""
        raise TypeError("a Primitive is a Lock, a Semaphore or one of their kin")

    cdef int check(self, uint64_t room) except -1:
        """Learns what the cells say of it; LayoutMismatch if they are not of its kind.  `room` bytes are there."""
        raise TypeError("a Primitive is a Lock, a Semaphore or one of their kin")

    cdef int bind(self) except -1:
        """Takes note of the cell's address and of the Member, which has changed."""
        raise TypeError("a Primitive is a Lock, a Semaphore or one of their kin")

    # --- making and finding ------------------------------------------------------------------------------------

    cdef int fresh(self) except -1:
        """Raises TypeError if it has a place already: __init__ was called again."""
        if self.mapping is not None:
            raise TypeError(f"{type(self).__name__}.__init__ called again")
        return 0

    cdef int settle(self) except -1:
        """Finds a place among this process's anonymous primitives, and formats it."""
        cdef uint64_t size = self.size()
        cdef Room room
        self.fresh()
        if size > OWN_SEGMENT * UNIT:
            segment = Segment._create(None, size, kind=SEGMENT_KIND_SYNC)
            self.settle_at(segment.mapping, segment, 0)
        else:
            room = take_room(size)
            self.room = room
            self.settle_at(room.arena.segment.mapping, room.arena.segment, room.at)
        self.format()
        return self.enter()

    cdef int settle_at(self, Mapping mapping, object segment, uint64_t at) except -1:
        self.mapping = mapping
        self.segment = segment
        self.at = at
        self.cell = mapping.own.addr + mapping.payload_at + at
        self.generation = NEVER
        return 0

    def _make_named(self, name, backing, mode, lifetime):
        def init(mapping, offset):
            self.settle_at(mapping, None, 0)
            self.format()

        if name is None:
            what = type(self).__name__
            raise TypeError(f"{what}.create needs a name; {what}() makes an anonymous one")
        self.segment = Segment._create(
            name, self.size(), backing=backing, mode=mode, lifetime=lifetime, kind=SEGMENT_KIND_SYNC,
            meta={"primitive": type(self).__name__}, init=init,
        )
        self.enter()
        return self

    def _find_named(self, name, backing, owner):
        segment = Segment._attach(name, backing=backing, owner=owner, kind=SEGMENT_KIND_SYNC)
        return self._find_at(segment, 0)

    def _make_at(self, segment, offset):
        offset = self._offset_in(segment, offset)
        self.settle_at(segment.mapping, segment, offset)
        if self.size() > <uint64_t>(segment.size - offset):
            raise ValueError(
                f"a {type(self).__name__} has {self.size()} bytes: got offset {offset} in {segment.size} bytes "
                f"({self._label()})"
            )
        if segment.readonly:
            raise ValueError(f"{self._label()} was attached for reading only: a {type(self).__name__} must be written")
        self.format()
        self.enter()
        return self

    def _find_at(self, segment, offset):
        offset = self._offset_in(segment, offset)
        self.settle_at(segment.mapping, segment, offset)
        self.check(segment.size - offset)
        self.enter()
        return self

    def _offset_in(self, segment, offset):
        if not isinstance(segment, Segment):
            raise TypeError(f"a primitive is placed in a shmkit.Segment: got {segment!r}")
        if offset < 0 or offset % 8 or offset + 8 > segment.size:
            raise ValueError(
                f"a primitive stands on a multiple of 8 within its segment: got offset {offset} in {segment.size} bytes"
            )
        return offset

    @classmethod
    def attach(cls, name, *, backing=None, owner=None):
        """Find the one that was created under `name`.

        Raises SegmentNotFound, SegmentPermission, LayoutMismatch (it is something else).
        """
        return (<Primitive>cls.__new__(cls))._find_named(name, backing, owner)

    @classmethod
    def attach_at(cls, segment, offset=0):
        """Find the one that was created at `offset` of a segment; LayoutMismatch if there is none of this kind."""
        return (<Primitive>cls.__new__(cls))._find_at(segment, offset)

    def _create_or_attach(self, name, backing, mode, lifetime):
        while True:
            try:
                return (<Primitive>self)._make_named(name, backing, mode, lifetime)
            except errors.SegmentExists:
                pass
            try:
                return (<Primitive>type(self).__new__(type(self)))._find_named(name, backing, None)
            except errors.SegmentNotFound:
                continue  # it went between the two: make it

    # --- travelling --------------------------------------------------------------------------------------------

    def __reduce__(self):
        if self.shut:
            raise errors.Closed(f"{self._label()} was closed by this process")
        if self.mapping is None:
            raise TypeError(f"{type(self).__name__}.__init__ was not called")
        if self.room is not None:
            (<Room>self.room).known = True
        return _restore, (type(self), self.segment, self.at)

    # --- living ------------------------------------------------------------------------------------------------

    cdef str called(self):
        """What it is called in messages: its class's name, unless that says another."""
        return getattr(type(self), "_called", type(self).__name__)

    def _label(self):
        name = None if self.segment is None else self.segment.name
        what = self.called()
        return f"the anonymous {what}" if name is None else f"{what} {name!r}" if self.at == 0 else (
            f"{what} at {self.at} of segment {name!r}"
        )

    cdef int refuse(self, str rule, object value) except -1:
        raise errors.LayoutMismatch(f"{rule}: got {value} ({self._label()})")

    cdef int check_kind(self, uint64_t room, uint64_t size, uint32_t kind) except -1:
        """LayoutMismatch unless there is room for the cell's first `size` bytes, and it is of that kind."""
        if room < size:
            self.refuse(f"a {self.called()} has at least {size} bytes", room)
        found = cell_kind(self.cell)
        if found != kind:
            self.refuse(f"the kind of a {self.called()} is {kind_text(kind)}", kind_text(found))
        return 0

    cdef int enter(self) except -1:
        """Raises Closed; makes this process a member, anew in a forked child."""
        if self.shut:
            raise errors.Closed(f"{self._label()} was closed by this process")
        if self.generation != generation[0]:
            if self.mapping is None:
                raise TypeError(f"{type(self).__name__}.__init__ was not called")
            with cython.critical_section(self):
                self.member = member_of(self.mapping)
                self.bind()
                if not self.shut:  # by another thread, meanwhile
                    self.generation = generation[0]
        return 0

    cdef int wait_rounds(self, round_t round, void *of, uint64_t deadline_ns) except -1:
        """Waits, round by round, until one says more than that a signal came or a slice is over."""
        cdef waiter_t waiter
        cdef status_t status
        cdef uint64_t since
        waiter_init(&waiter)
        if self.spin_ns:
            waiter.spin_ns = self.spin_ns
        while True:
            since = wait_begins(tally)
            with nogil:
                status = round(of, &waiter, deadline_ns)
            wait_ends(tally, since)
            if status != INTERRUPTED and status != SLICE_OVER:
                self.spin_ns = waiter.spin_ns
                return status
            PyErr_CheckSignals()
            # Closed meanwhile; or a handler forked, and this is the child, which waits under its own name.
            if self.shut or self.generation != generation[0]:
                self.enter()

    def close(self) -> None:
        """End the use of this handle; others, here and elsewhere, are not touched.  Idempotent.

        Nothing is released: what this process holds it still holds.  The memory goes when the handle does.
        """
        with cython.critical_section(self):
            self.shut = True
            self.generation = NEVER

    @property
    def closed(self) -> bool:
        """Whether this handle was closed."""
        return self.shut

    @property
    def name(self):
        """What it is attached by; None: it has no name of its own."""
        return None if self.room is not None or self.at != 0 or self.segment is None else self.segment.name

    @property
    def offset(self) -> int:
        """Where it stands in its segment's payload."""
        if self.room is not None:
            (<Room>self.room).known = True  # whoever knows where it stands can attach to it
        return self.at

    @property
    def nbytes(self) -> int:
        """Bytes that it occupies there."""
        return self.size()

    def unlink(self) -> None:
        """Remove its name; whoever is attached goes on.  ValueError for one that has none."""
        if self.name is None:
            raise ValueError(f"{self._label()} has no name of its own to remove")
        self.segment.unlink()


def _restore(kind, segment, at):
    """What a pickle calls."""
    cdef Primitive made = kind.__new__(kind)
    return made._find_at(segment, at)
