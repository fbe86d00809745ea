# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""AtomicInt64, AtomicUInt64 and AtomicFlag: words that processes share, for users.

Every access says its memory order; "seq_cst" unless told otherwise.  In memory there is nothing but the word, so that a
C program can share it.  The operations, and how one waits, are in ``_word.h``; what the orders mean is in
docs/memory-model.md.

Any thread may call anything at any time; nobody holds anything, so nobody's death matters.
"""

from cpython.long cimport PyLong_AsLongLong, PyLong_AsUnsignedLongLong
from libc.stdint cimport int64_t, uint32_t, uint64_t

cimport cython

from shmkit._core cimport *
from shmkit._deadline cimport deadline_of
from shmkit._primitive cimport SPIN_WITH_GIL_NS, Primitive

from operator import index

from shmkit import errors
from shmkit.segment import Segment

cdef uint64_t NEVER = <uint64_t>-1

cdef int FOR_LOAD = 1 << RELAXED | 1 << ACQUIRE | 1 << SEQ_CST
cdef int FOR_STORE = 1 << RELAXED | 1 << RELEASE | 1 << SEQ_CST
cdef int FOR_CHANGE = FOR_LOAD | FOR_STORE | 1 << ACQ_REL

cdef tuple ORDERS = ("relaxed", "acquire", "release", "acq_rel", "seq_cst")  # by order_t


cdef int order_of(object order, int admitted, str what) except -1:
    """The order of that name; ValueError if there is none, or `what` cannot have it."""
    cdef int number
    if order is "seq_cst":
        return SEQ_CST
    for number in range(5):
        if order == ORDERS[number]:
            if admitted >> number & 1:
                return number
            break
    names = ", ".join(repr(name) for number, name in enumerate(ORDERS) if admitted >> number & 1)
    raise ValueError(f"the order of {what} is one of {names}: got {order!r}")


cdef uint64_t bits_of(object value, bint signed) except? 0x5a5a5a5a5a5a5a5a:
    """An integer as it stands in a word; OverflowError if none can hold it."""
    number = value if type(value) is int else index(value)
    try:
        return <uint64_t>PyLong_AsLongLong(number) if signed else PyLong_AsUnsignedLongLong(number)
    except OverflowError:
        pass
    if signed:
        raise OverflowError(f"an atomic int64 holds from -2**63 to 2**63 - 1: got {number}")
    raise OverflowError(f"an atomic uint64 holds from 0 to 2**64 - 1: got {number}")


cdef object number_of(uint64_t bits, bint signed):
    return <int64_t>bits if signed else bits


cdef object load(uint64_t *word, bint signed, object order):
    return number_of(word_load_u64(word, <order_t>order_of(order, FOR_LOAD, "a load")), signed)


cdef int store(uint64_t *word, bint signed, object value, object order) except -1:
    cdef uint64_t bits = bits_of(value, signed)
    word_store_u64(word, bits, <order_t>order_of(order, FOR_STORE, "a store"))
    return 0


cdef object change(change_t how, uint64_t *word, bint signed, object value, object order):
    """Changes the word by `value`; what it was before."""
    cdef uint64_t bits = bits_of(value, signed)
    return number_of(how(word, bits, <order_t>order_of(order, FOR_CHANGE, "a change")), signed)


cdef object compare_exchange(uint64_t *word, bint signed, object expected, object desired, object order,
                             object failure):
    cdef uint64_t seen = bits_of(expected, signed)
    cdef uint64_t bits = bits_of(desired, signed)
    cdef order_t success = <order_t>order_of(order, FOR_CHANGE, "a change")
    cdef order_t otherwise = order_of_failure(success) if failure is None else (
        <order_t>order_of(failure, FOR_LOAD, "a change that fails")
    )
    cdef bint done = word_cas(word, &seen, bits, success, otherwise)
    return done, number_of(seen, signed)


cdef int wake(void *word, object n) except -1:
    count = index(n)
    if count < 1:
        raise ValueError(f"n must be one or more: got {n}")
    word_wake(word, WORD_ALL if count > WORD_ALL else count)
    return 0


cdef status_t round_of_word(void *of, waiter_t *waiter, uint64_t deadline_ns) noexcept nogil:
    return word_round(<word_wait_t *>of, waiter, deadline_ns)


# ------------------------------------------------------------------------------------------------------- one word


cdef class Word(Primitive):
    """What the atomics of one word have in common: where they stand, and how one waits for them."""

    cdef bint readonly
    cdef uint64_t first  # what a new one holds

    # --- making and finding ------------------------------------------------------------------------------------

    @classmethod
    def attach_at(cls, segment, offset=0):
        """Find the word at `offset` of a segment, raw or not, whoever put it there: any word will do.

        `offset` is a multiple of `nbytes`.  In a segment that was attached for reading it can be loaded and waited for.
        """
        return (<Primitive>cls.__new__(cls))._find_at(segment, offset)

    def _find_named(self, name, backing, owner):
        segment = Segment._attach(name, backing=backing, owner=owner, kind=SEGMENT_KIND_SYNC)
        made = (segment.mapping.facts.meta or {}).get("primitive")
        # The word itself says nothing of its kind.
        if made not in [kind.__name__ for kind in type(self).__mro__]:
            raise errors.LayoutMismatch(
                f"segment {name!r} must have been created by {type(self).__name__}.create: got {made}"
            )
        return self._find_at(segment, 0)

    def _offset_in(self, segment, offset):
        cdef int64_t size = self.size()
        if not isinstance(segment, Segment):
            raise TypeError(f"an {type(self).__name__} is placed in a shmkit.Segment: got {segment!r}")
        if offset < 0 or offset % size or offset + size > segment.size:
            raise ValueError(
                f"an {type(self).__name__} stands on a multiple of {size} within its segment: got offset {offset} in "
                f"{segment.size} bytes"
            )
        return offset

    cdef int check(self, uint64_t room) except -1:
        return 0  # _offset_in has seen that there is room, and any word will do

    cdef int bind(self) except -1:
        return 0

    cdef int enter(self) except -1:
        """Raises Closed.  Nobody needs to be a member: no word names anybody."""
        if self.shut:
            raise errors.Closed(f"{self._label()} was closed by this process")
        if self.mapping is None:
            raise TypeError(f"{type(self).__name__}.__init__ was not called")
        self.readonly = self.mapping.readonly
        self.generation = 0
        return 0

    @cython.final
    cdef inline void *for_loading(self) except NULL:
        if self.generation == NEVER:
            self.enter()
        return self.cell

    @cython.final
    cdef inline void *for_changing(self) except NULL:
        if self.generation == NEVER:
            self.enter()
        if self.readonly:
            raise ValueError(f"the segment of {self._label()} was attached for reading only")
        return self.cell

    # --- waiting -----------------------------------------------------------------------------------------------

    cdef bint wait_while(self, uint64_t value, bint wide, object timeout) except -1:
        cdef word_wait_t wait
        cdef uint64_t deadline = deadline_of(timeout)
        wait.word = self.for_loading()
        wait.value = value
        wait.wide = wide
        if word_spin(&wait, SPIN_WITH_GIL_NS):
            return True
        return self.wait_rounds(round_of_word, &wait, deadline) == OK

    def notify(self, n=1) -> None:
        """Wake up to `n` of those who wait here, to look whether the value has changed.  Call it after the change."""
        wake(self.for_loading(), n)

    def notify_all(self) -> None:
        """Wake all who wait here, to look whether the value has changed.  Call it after the change."""
        word_wake(self.for_loading(), WORD_ALL)

    cdef object shown(self):
        raise TypeError("a Word is an AtomicInt64 or one of its kin")

    def __repr__(self) -> str:
        cdef str what = f"shmkit.{type(self).__name__}"
        if self.name is not None:
            what += f" {self.name!r}"
        if self.shut or self.mapping is None:
            return f"<{what} at {id(self):#x}: closed>"
        return f"<{what} at {id(self):#x}: {self.shown()}>"


cdef class Integer(Word):
    """What AtomicInt64 and AtomicUInt64 have in common; see there."""

    cdef bint signed

    def __cinit__(self):
        self.signed = isinstance(self, AtomicInt64)

    def __init__(self, value=0):
        self.first = bits_of(value, self.signed)
        self.settle()

    @classmethod
    def create(cls, name, value=0, *, backing=None, mode=0o600, lifetime=None):
        """Make one under a name, in a segment of its own (see `Segment.create`).  SegmentExists, NoSpace."""
        cdef Integer made = cls.__new__(cls)
        made.first = bits_of(value, made.signed)
        return made._make_named(name, backing, mode, lifetime)

    @classmethod
    def create_or_attach(cls, name, value=0, *, backing=None, mode=0o600, lifetime=None):
        """Find the one of that name, whatever its value by now, or make it."""
        cdef Integer made = cls.__new__(cls)
        made.first = bits_of(value, made.signed)
        return made._create_or_attach(name, backing, mode, lifetime)

    @classmethod
    def create_at(cls, segment, offset=0, value=0):
        """Store `value` at `offset` of a segment, a multiple of 8; best a line of 128 bytes has one busy word."""
        cdef Integer made = cls.__new__(cls)
        made.first = bits_of(value, made.signed)
        return made._make_at(segment, offset)

    cdef uint64_t size(self) except 0:
        return sizeof(uint64_t)

    cdef int format(self) except -1:
        word_store_u64(<uint64_t *>self.cell, self.first, SEQ_CST)
        return 0

    cdef object shown(self):
        return load(<uint64_t *>self.for_loading(), self.signed, "seq_cst")

    def load(self, order="seq_cst") -> int:
        """The value now.  `order`: relaxed, acquire or seq_cst."""
        return load(<uint64_t *>self.for_loading(), self.signed, order)

    def store(self, value, order="seq_cst") -> None:
        """Replace the value.  `order`: relaxed, release or seq_cst."""
        store(<uint64_t *>self.for_changing(), self.signed, value, order)

    def exchange(self, value, order="seq_cst") -> int:
        """Replace the value; the value before."""
        return change(word_exchange, <uint64_t *>self.for_changing(), self.signed, value, order)

    def add(self, value=1, order="seq_cst") -> int:
        """Add, and wrap around as C does; the value *before*, as C's atomic_fetch_add."""
        return change(word_add, <uint64_t *>self.for_changing(), self.signed, value, order)

    def sub(self, value=1, order="seq_cst") -> int:
        """Subtract, and wrap around as C does; the value *before*."""
        return change(word_sub, <uint64_t *>self.for_changing(), self.signed, value, order)

    def and_(self, value, order="seq_cst") -> int:
        """Keep only the bits that `value` has too; the value *before*."""
        return change(word_and, <uint64_t *>self.for_changing(), self.signed, value, order)

    def or_(self, value, order="seq_cst") -> int:
        """Set the bits of `value`; the value *before*."""
        return change(word_or, <uint64_t *>self.for_changing(), self.signed, value, order)

    def xor(self, value, order="seq_cst") -> int:
        """Turn the bits of `value` over; the value *before*."""
        return change(word_xor, <uint64_t *>self.for_changing(), self.signed, value, order)

    def compare_exchange(self, expected, desired, order="seq_cst", failure=None) -> tuple:
        """Replace the value by `desired` if it is `expected`; (whether it was, the value that was there).

        `failure` is the order where it was not: relaxed, acquire or seq_cst; what `order` has of a load if not given.
        """
        return compare_exchange(<uint64_t *>self.for_changing(), self.signed, expected, desired, order, failure)

    def wait(self, value, timeout=None) -> bool:
        """Sleep while the value is `value`; True, or False if it still was after `timeout` seconds.

        Whoever changes it calls `notify` or `notify_all`.  A value that changes and changes back may go unseen.
        """
        return self.wait_while(bits_of(value, self.signed), True, timeout)


cdef class AtomicInt64(Integer):
    """An integer from -2**63 to 2**63 - 1 that processes and threads change without a lock: C's ``_Atomic int64_t``.

    ``AtomicInt64(0)`` makes an anonymous one, for children (under any start method) and whoever gets it in a pickle;
    ``create`` and ``attach`` share one by name; ``create_at`` and ``attach_at`` place it in a segment of one's own,
    where it is eight bytes and nothing else.

    Each operation takes its memory order last: "relaxed", "acquire", "release", "acq_rel" or "seq_cst", the default,
    which is always right.  ValueError for one that an operation cannot have.  Additions wrap around, as C's do; a value
    or an operand that 64 bits cannot hold is an OverflowError, and nothing is stored.
    """


cdef class AtomicUInt64(Integer):
    """An integer from 0 to 2**64 - 1 that processes and threads change without a lock: C's ``_Atomic uint64_t``.

    All else is as with `AtomicInt64`; ``sub`` is how to subtract, as operands are not negative either.
    """


cdef class AtomicFlag(Word):
    """A flag that processes and threads set and test without a lock; it is clear at first.

    Four bytes, C's ``_Atomic uint32_t``: 0 is clear, 1 is set.  Made, found and ordered as an `AtomicInt64` is.
    """

    def __init__(self):
        self.settle()

    @classmethod
    def create(cls, name, *, backing=None, mode=0o600, lifetime=None):
        """Make one under a name, in a segment of its own (see `Segment.create`).  SegmentExists, NoSpace."""
        return (<Primitive>cls.__new__(cls))._make_named(name, backing, mode, lifetime)

    @classmethod
    def create_or_attach(cls, name, *, backing=None, mode=0o600, lifetime=None):
        """Find the one of that name, set or clear, or make it."""
        return (<Primitive>cls.__new__(cls))._create_or_attach(name, backing, mode, lifetime)

    @classmethod
    def create_at(cls, segment, offset=0):
        """Store a clear flag at `offset` of a segment, a multiple of 4."""
        return (<Primitive>cls.__new__(cls))._make_at(segment, offset)

    cdef uint64_t size(self) except 0:
        return sizeof(uint32_t)

    cdef int format(self) except -1:
        word_store_u32(<uint32_t *>self.cell, 0, SEQ_CST)
        return 0

    cdef object shown(self):
        return "set" if self.test() else "clear"

    def test_and_set(self, order="seq_cst") -> bool:
        """Set it; whether it was set before."""
        cdef uint32_t *word = <uint32_t *>self.for_changing()
        return word_set_flag(word, <order_t>order_of(order, FOR_CHANGE, "a change"))

    def test(self, order="seq_cst") -> bool:
        """Whether it is set.  `order`: relaxed, acquire or seq_cst."""
        cdef uint32_t *word = <uint32_t *>self.for_loading()
        return word_load_u32(word, <order_t>order_of(order, FOR_LOAD, "a load")) != 0

    def clear(self, order="seq_cst") -> None:
        """Clear it.  `order`: relaxed, release or seq_cst."""
        cdef uint32_t *word = <uint32_t *>self.for_changing()
        word_store_u32(word, 0, <order_t>order_of(order, FOR_STORE, "a store"))

    def wait(self, value=False, timeout=None) -> bool:
        """Sleep while it is clear (`value` true: set); True, or False if it still was after `timeout` seconds.

        Whoever changes it calls `notify` or `notify_all`.
        """
        return self.wait_while(1 if value else 0, False, timeout)
