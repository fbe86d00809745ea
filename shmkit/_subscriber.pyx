# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Subscriber: one who listens to a topic, as one of any number, and whom nobody waits for (``_topic.h``)."""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint8_t, uint64_t

cimport cython
cimport numpy as cnp

from shmkit._core cimport *
from shmkit._core_topic cimport *
from shmkit._core_watch cimport WATCH_ITEMS, sched_yield
from shmkit._deadline cimport deadline_of
from shmkit._decode cimport unpack
from shmkit._decode_arrays cimport new_array
from shmkit._map cimport fork_generation
from shmkit._membership cimport member_of
from shmkit._primitive cimport SPIN_WITH_GIL_NS
from shmkit._topic_end cimport TopicEnd
from shmkit._watch cimport Watch, coming_t, new_watch

from weakref import WeakKeyDictionary

from shmkit import errors
from shmkit._topic_end import find_segment
from shmkit.segment.trust import is_trusted

cnp.import_array()

cdef const uint64_t *generation = fork_generation()
cdef uint64_t NEVER = <uint64_t>-1

cdef enum:
    COMING_NS = 20_000_000  # who was told of a value waits for it so long, even if it does not wait for any
    ALL_TASKS = 1 << 30


@cython.no_gc_clear
cdef class Subscriber(TopicEnd):
    """One who listens to a topic.

    ``Subscriber.attach(name)`` hears what is published from then on; with ``replay=True`` also the latest values that
    are still there.  What is received is a copy, whole and never torn.  Subscribers come, go, lag and crash without
    anybody noticing.
    """

    cdef topic_wait_t ahead     # ahead.next: the position of the next value
    cdef Watch watch            # None: nobody has asked for a descriptor
    cdef object awaiting        # tasks by event loop; None: there never were any
    cdef uint64_t overtaken     # values that were overwritten before they were received
    cdef uint64_t spin_ns
    cdef uint64_t received      # the position of the value that was received last
    cdef bint pickles           # nobody but this user may have written to it

    def __init__(self):
        raise TypeError("a Subscriber is made by Subscriber.attach, or Publisher.subscriber")

    @classmethod
    def attach(cls, name, *, replay=False, backing=None, owner=None):
        """Listen to the topic of that name.  SegmentNotFound, SegmentPermission, LayoutMismatch."""
        return cls._of(find_segment(name, backing, owner), replay)

    @classmethod
    def _of(cls, segment, replay):
        cdef Subscriber made = cls.__new__(cls)
        made.bind(segment)
        made.pickles = is_trusted(segment)
        made.ahead.topic = &made.c
        made.ahead.next = topic_published(&made.c)
        if replay:
            made.ahead.next = made.oldest(made.ahead.next)
        made.generation = generation[0]
        return made

    def __reduce__(self):
        self.usable()
        return _restore, (type(self), self.segment, self.ahead.next)

    cdef uint64_t oldest(self, uint64_t published) noexcept:
        """The position of the oldest value that may still be there: the next one goes into the slot of the one
        before."""
        return published - min(published, <uint64_t>self.c.slots - 1)

    cdef object copy(self, uint64_t position, bint *there):
        """The value of that position; `there` is false if it was overwritten meanwhile."""
        cdef topic_slot_t found
        cdef cnp.npy_intp side
        cdef cnp.ndarray body = None
        cdef uint8_t *at = NULL
        cdef status_t status = topic_peek(&self.c, position, &found)
        there[0] = status == OK
        if status != OK:
            return None
        if found.body_size:
            side = found.body_size
            body = new_array(cnp.PyArray_DescrFromType(cnp.NPY_UINT8), 1, &side, NULL, False)
            at = <uint8_t *>cnp.PyArray_DATA(body)
            if found.body_size >= 1 << 16:
                with nogil:
                    status = topic_read(&self.c, position, &found, at)
            else:
                status = topic_read(&self.c, position, &found, at)
            there[0] = status == OK
            if status != OK:
                return None
        return unpack(found.head, found.head_size, at, found.body_size, body, self.pickles)

    cdef object corrupt(self, uint64_t position):
        return errors.RecordCorrupt(f"value {position} of {self._label()} contradicts itself; it is lost")

    def recv(self, timeout=None):
        """The next value; waits for one, at most `timeout` seconds.

        Values that were overwritten before they could be received are counted in `lost`.  TimeoutError; EndOfStream
        after the last value of a publisher that has left in order.  (After one that was killed another may come: this
        goes on waiting.)
        """
        with cython.critical_section(self):  # while it does not wait, other threads do
            return self.next_value(timeout)

    cdef object next_value(self, object timeout):
        cdef uint64_t published, oldest, deadline = deadline_of(timeout)
        cdef bint there
        cdef waiter_t waiter
        cdef status_t status
        self.usable()
        waiter_init(&waiter)
        if self.spin_ns:
            waiter.spin_ns = self.spin_ns
        while True:
            published = topic_published(&self.c)
            while self.ahead.next < published:
                oldest = self.oldest(published)
                if self.ahead.next < oldest:
                    self.overtaken += oldest - self.ahead.next
                    self.ahead.next = oldest
                # Passed before it is opened: what cannot be unpickled is an error once.
                self.ahead.next += 1
                value = self.copy(self.ahead.next - 1, &there)
                if there:
                    self.received = self.ahead.next - 1
                    self.spin_ns = waiter.spin_ns
                    if self.watch is not None:
                        self.watch.settle()
                    return value
                if topic_published(&self.c) == published:
                    # Nobody writes there before `published` has moved.
                    self.overtaken += 1
                    raise self.corrupt(self.ahead.next - 1)
                self.ahead.next -= 1
                published = topic_published(&self.c)
            if waiter.begun_ns == 0 and topic_spin(&self.ahead, SPIN_WITH_GIL_NS):
                if topic_published(&self.c) > self.ahead.next:
                    continue
            if self.c.header.state != TOPIC_OPEN and topic_published(&self.c) <= self.ahead.next:
                raise errors.EndOfStream(f"{self._label()}: its publisher has left")
            with nogil:
                status = topic_round(&self.ahead, &waiter, deadline)
            if status == TIMED_OUT:
                if self.watch is not None and self.is_published():
                    continue
                # Coroutines look with 0 when their time is up, however long that was.
                within = f"within {timeout} s" if timeout else "is there"
                raise TimeoutError(f"{self._label()}: no value {within}")
            if status != OK:
                PyErr_CheckSignals()
                self.usable()

    cdef bint is_published(self) except -1:
        """Nothing is there: waits for what was announced, if anything was, and sets the descriptor right."""
        cdef uint64_t word, until = clock_ns() + COMING_NS
        if self.watch.generation != generation[0]:
            self.watch = None  # it is of the process that forked
            return False
        while topic_is_coming(&self.ahead):
            if topic_has(&self.ahead):
                return True
            with nogil:
                sched_yield()
            PyErr_CheckSignals()
            if clock_ns() > until:
                # Whoever died like that has not published it; the word is another's as soon as somebody takes over.
                word = topic_publisher(&self.c)
                if word != 0 and member_died(&member_of(self.mapping).own, member_of_word(word)):
                    self.ahead.dead = word
                break
        self.watch.empty()
        return False

    def fileno(self) -> int:
        """A descriptor that is readable while `recv` would not wait, for select, epoll or an event loop.

        It is this process's own, made at the first call.  `try_recv` is to be called whenever it is readable; it waits
        for a value that is being published at that moment, 20 ms at most.  The descriptor cannot be read from.  The
        publisher is reached within one network namespace.  ChannelError if 64 descriptors watch the topic already.
        """
        return (<Watch>self._watched(0)).fd

    @cython.critical_section
    def _watched(self, int which):
        """What keeps the descriptor open, even if this handle is closed."""
        cdef Watch made
        self.usable()
        if self.watch is None or self.watch.generation != generation[0] or not self.watch.sound():
            self.watch = None
            made = new_watch(
                &self.c.header.watched, self.c.header.watchers, TOPIC_WATCHERS, WATCH_ITEMS,
                <coming_t>topic_is_coming, &self.ahead, self.mapping, self._label(),
            )
            self.usable()
            if self.watch is None:  # else another thread was quicker
                self.watch = made
        return self.watch

    def recv_async(self, timeout=None):
        """`recv`, in an event loop of asyncio."""
        from shmkit import _awaited  # asyncio is large: it is imported when it is used

        return _awaited.recv(self, timeout)

    def __aiter__(self):
        return self

    def __anext__(self):
        from shmkit import _awaited

        return _awaited.following(self)

    def _recv_now(self):
        return self.recv(0)

    def _served(self):
        """How many tasks to wake: all, if what has come is not a value."""
        return self.pending or ALL_TASKS

    def _tasks(self, which):
        """The tasks of the event loop that runs which wait for a value."""
        from shmkit import _awaited

        with cython.critical_section(self):
            if self.awaiting is None:
                self.awaiting = WeakKeyDictionary()
        return _awaited.awaiting_in(self.awaiting)

    def try_recv(self):
        """The next value, or None if there is none yet."""
        try:
            return self.recv(0)
        except TimeoutError:
            return None

    def latest(self, timeout=0):
        """The newest value, whether it was received already or not; waits at most `timeout` seconds for the first one.

        Later calls of `recv` return what comes after it.  TimeoutError if nothing was published yet.
        """
        with cython.critical_section(self):
            return self.newest(timeout)

    cdef object newest(self, object timeout):
        cdef uint64_t published
        cdef bint there
        self.usable()
        while True:
            published = topic_published(&self.c)
            if published == 0:
                self.ahead.next = 0
                return self.next_value(timeout)
            value = self.copy(published - 1, &there)
            if there:
                self.received = published - 1
                self.ahead.next = published
                if self.watch is not None:
                    self.watch.settle()
                return value
            if topic_published(&self.c) == published:
                raise self.corrupt(published - 1)
            PyErr_CheckSignals()

    @property
    def position(self) -> int:
        """Which value was received last, counted from 0."""
        return self.received

    @property
    def lost(self) -> int:
        """How many values were overwritten before they could be received."""
        return self.overtaken

    @property
    def pending(self) -> int:
        """How many values are there that were not received yet, those that are lost by now not counted."""
        self.usable()
        cdef uint64_t published = topic_published(&self.c)
        return published - min(published, max(self.ahead.next, self.oldest(published)))

    @property
    def publisher_alive(self) -> bool:
        """Whether there is a publisher now that lives."""
        self.usable()
        cdef uint64_t word = topic_publisher(&self.c)
        return word != 0 and not member_died(&member_of(self.mapping).own, member_of_word(word))

    def statistics(self) -> dict:
        """Counts of this subscriber, and of the topic."""
        return {
            "published": self.published, "lost": self.overtaken, "pending": self.pending, "slots": self.c.slots,
            "slot_size": self.c.slot_size,
        }

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self.recv()
        except errors.EndOfStream:
            raise StopIteration from None

    def close(self) -> None:
        """End the use of this handle; tasks that wait for it raise Closed.  Idempotent."""
        with cython.critical_section(self):
            self.shut = True
            self.generation = NEVER
            self.watch = None
        if self.awaiting is not None:
            from shmkit import _awaited

            _awaited.end_all(self.awaiting)


def _restore(kind, segment, next):
    """What a pickle calls: a subscriber that goes on where the pickled one was."""
    cdef Subscriber made = kind._of(segment, False)
    made.ahead.next = min(<uint64_t>next, made.ahead.next)
    return made
