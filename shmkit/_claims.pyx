# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""Claims: which tasks are to be done, and who does each: one shared word for each task that is on its way.

A queue says what the tasks are; this says, beside it, what has become of each.  The word is the fact: whoever changes
it from "waits" runs the task, or keeps it from being run, and nobody else does.  So a task may stand in a queue twice,
or in none because who took it out died at once, and it still runs at most once, and is known to have begun, by whom::

    WAITS ── claim(worker) ──> worker     the task is run by that worker, by nobody else, and never again
      │                           └──── answer() ────> ANSWERED   what came of it is on its way back
      └───── withdraw() ─────> WITHDRAWN  it is not run

A word is ``count << 12 | who``, where ``count`` is another one for each task; a ticket, which stands for the task in
messages, is ``count << 12 | place``.  So what is said of an old ticket is not taken for the place's new one.

Places are given out and taken back by the one process that made the table, by any of its threads; what anybody may do
at any time is `claim`.
"""

from libc.stdint cimport int32_t, int64_t, uint64_t, uintptr_t

cimport cython

from shmkit._core cimport *

from shmkit.segment import Segment

cdef enum:
    BITS = 12
    MASK = 0xfff  # of a place in a ticket, and of who in a word
    WITHDRAWN = MASK
    ANSWERED = WITHDRAWN - 1

PLACES_MOST = MASK + 1
WORKERS_MOST = ANSWERED - 1


cdef class Claims:
    """The words of as many tasks as there are places; it is passed to workers as a queue is."""

    def __init__(self, Py_ssize_t places):
        if not 1 <= places <= PLACES_MOST:
            raise ValueError(f"a table of claims has 1 to {PLACES_MOST} places: got {places}")
        self.bind(Segment.create(size=8 * places))
        self.free = list(range(self.places - 1, -1, -1))

    cdef int bind(self, object segment) except -1:
        self.segment = segment
        self.words = <uint64_t *><uintptr_t>segment.mapping.address
        self.places = segment.size // 8
        return 0

    def __reduce__(self):
        return _restore, (self.segment,)

    cdef uint64_t *word(self, uint64_t ticket) except NULL:
        if <Py_ssize_t>(ticket & MASK) >= self.places:
            raise ValueError(f"a table of {self.places} claims has no place for ticket {ticket}")
        return &self.words[ticket & MASK]

    @property
    def used(self) -> int:
        """How many tasks are on their way."""
        return self.places - len(self.free)

    @cython.critical_section
    cpdef int64_t offer(self) except -1:
        """A ticket for one more task, which waits to be claimed; 0: there is no place for it now."""
        cdef int64_t place
        if not self.free:
            return 0
        place = self.free.pop()
        self.count += 1
        # SYNC task-offered: pairs with cas_seq in claim; whoever learns of the ticket, by a queue, sees it
        store_release_u64(&self.words[place], self.count << BITS)
        return <int64_t>(self.count << BITS | <uint64_t>place)

    @cython.critical_section
    cpdef object settle(self, uint64_t ticket):
        """Nothing more will be heard of the task: its place is for another."""
        self.word(ticket)
        self.free.append(<int64_t>(ticket & MASK))

    cpdef bint claim(self, uint64_t ticket, uint64_t worker) except -1:
        """Whether `worker` is the one that runs the task; else it was claimed, withdrawn or settled before."""
        cdef uint64_t seen = ticket >> BITS << BITS
        # SYNC task-offered: pairs with store_release in offer; the change itself publishes nothing else
        return cas_seq_u64(self.word(ticket), &seen, seen | worker) != 0

    cpdef object answer(self, uint64_t ticket, uint64_t worker):
        """Said by who claimed it, once what came of it is on its way: from here on its death takes nothing along.

        It may have been received by now, and its place be another task's, of which nothing is said then.
        """
        cdef uint64_t seen = ticket >> BITS << BITS | worker
        # SYNC task-answered: pairs with load_acquire in was_answered; what was put on a queue before is there
        cas_seq_u64(self.word(ticket), &seen, ticket >> BITS << BITS | ANSWERED)

    def was_answered(self, uint64_t ticket) -> bool:
        """Whether what came of it is on its way back."""
        # SYNC task-answered: pairs with cas_seq in answer
        return load_acquire_u64(self.word(ticket)) == (ticket >> BITS << BITS | ANSWERED)

    def withdraw(self, uint64_t ticket) -> bool:
        """Whether the task will not be run: nobody had claimed it."""
        cdef uint64_t seen = ticket >> BITS << BITS
        # SYNC task-offered: pairs with store_release in offer
        return cas_seq_u64(self.word(ticket), &seen, seen | WITHDRAWN) != 0

    def holder(self, uint64_t ticket) -> int:
        """Who claimed the task, as a number; 0: nobody yet; -1: nobody any more, as it was
        answered, withdrawn or settled.
        """
        # relaxed: the word is all there is to know
        cdef uint64_t seen = load_relaxed_u64(self.word(ticket))
        if seen >> BITS != ticket >> BITS or seen & MASK >= ANSWERED:
            return -1
        return <int32_t>(seen & MASK)


def _restore(segment):
    cdef Claims made = Claims.__new__(Claims)
    made.bind(segment)
    return made
