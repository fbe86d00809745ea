# cython: language_level=3, embedsignature=True, freethreading_compatible=True
"""AwaitedEnd: a ring that is waited for with a descriptor, or in an event loop: no thread, and any number of tasks."""

cimport cython

from shmkit._core cimport turn_try
from shmkit._core_watch cimport LEASE_CONSUMER, LEASE_PRODUCER, ring_records_ready, ring_room_ready
from shmkit._end cimport end_recv, end_send
from shmkit._map cimport Mapping
from shmkit._ring_watch cimport RingWatch, new_ring_watch

from weakref import WeakKeyDictionary

cdef enum:
    ALL_TASKS = 1 << 30


@cython.no_gc_clear
cdef class AwaitedEnd(SendingEnd):
    """The base of Ring."""

    def fileno(self) -> int:
        """A descriptor that is readable while `recv` would not wait, for select, epoll or an event loop.

        This process becomes the consumer.  The descriptor is its own, made at the first call; it is readable too when
        the producer has closed the ring, or was killed, so `try_recv` is to be called whenever it is.  It cannot be
        read from.  The producer is reached within one network namespace.  RoleTaken; Closed.
        """
        return self.watch_records().fd

    def _room_fileno(self) -> int:
        """A descriptor that becomes readable when there may be room, once a try_send has found none."""
        return self.watch_room().fd

    def _watched(self, int which):
        """What keeps the descriptor open (0: of what is to be received; 1: of room), even if the ring is closed."""
        return (self.watch_room() if which else self.watch_records()).opened

    cdef RingWatch watch_records(self):
        cdef RingWatch watch, made
        self.become(&self.recv_turn, &self.consumes, False)
        with cython.critical_section(self):
            watch = self.records_watch
        if watch is None or not watch.sound():
            made = new_ring_watch(
                &self.c.shared.consumer_bell, &self.c.shared.producer_role, ring_records_ready, &self.c,
                self.mapped(), self.lease_key, LEASE_PRODUCER, self.label,
            )
            with cython.critical_section(self):
                if self.records_watch is watch:  # else another thread was quicker
                    self.usable()
                    self.records_watch = made
                watch = self.records_watch
            if turn_try(&self.recv_turn):  # else another thread receives, and settles it
                end_recv(self)
        return watch

    cdef RingWatch watch_room(self):
        cdef RingWatch watch, made
        self.become(&self.send_turn, &self.produces, True)
        with cython.critical_section(self):
            watch = self.room_watch
        if watch is None or not watch.sound():
            made = new_ring_watch(
                &self.p.shared.producer_bell, &self.p.shared.consumer_role, ring_room_ready, &self.p,
                self.mapped(), self.lease_key, LEASE_CONSUMER, self.label,
            )
            with cython.critical_section(self):
                if self.room_watch is watch:
                    self.usable()
                    self.room_watch = made
                watch = self.room_watch
            if turn_try(&self.send_turn):
                end_send(self)
        return watch

    def recv_async(self, timeout=None):
        """`recv`, in an event loop of asyncio, for any number of tasks at a time."""
        from shmkit import _awaited  # asyncio is large: it is imported when it is used

        return _awaited.recv(self, timeout)

    def send_async(self, data, timeout=None):
        """`send`, in an event loop of asyncio.  The task that waits longest is the first to try again."""
        from shmkit import _awaited

        return _awaited.send(self, data, timeout)

    def __aiter__(self):
        return self

    def __anext__(self):
        from shmkit import _awaited

        return _awaited.following(self)

    def _recv_now(self):
        item = self.try_recv()
        if item is None:
            raise TimeoutError(f"{self.label} was empty for all of the time-out")
        return item

    def _send_now(self, data):
        if not self.try_send(data):
            raise TimeoutError(f"{self.label} was full for all of the time-out")

    def _served(self):
        """How many tasks that wait for a record to wake: all, if what has come is not one."""
        return len(self) or ALL_TASKS

    def _tasks(self, int which):
        """The tasks of the event loop that runs which wait to receive (0), or to send (1)."""
        from shmkit import _awaited

        with cython.critical_section(self):
            if self.awaiting is None:
                self.awaiting = (WeakKeyDictionary(), WeakKeyDictionary())
        return _awaited.awaiting_in(self.awaiting[which])

    def close(self) -> None:
        """Leave the ring: the other end is told, the role is free for a successor.  It never waits.  Idempotent.

        Views that are still held become invalid: their arrays stay readable, but the producer may write there.  Tasks
        that wait for it raise Closed.
        """
        self.close_end()
        if self.awaiting is not None:
            from shmkit import _awaited

            _awaited.end_all(self.awaiting[0])
            _awaited.end_all(self.awaiting[1])

    @cython.critical_section
    cdef Mapping mapped(self):
        """The mapping, which stays as long as the caller has it.  Closed."""
        if self.mapping is None:
            self.usable()
        return self.mapping
