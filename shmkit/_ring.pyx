"""Ring: a lock-free stream of records, of any size, from one process to another.

One process sends, one receives; which ones is decided by the kernel (a lease per role), taken at first use, freed when
the process ends however it ends.  Any thread of those processes may call any method: threads take turns at an end.

The layout is "ring" and "record" in ``_layout.h``, the protocol ``_ring.h``.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release
from libc.stdint cimport int64_t, uint8_t, uint64_t

cimport cython

from shmkit._buffers cimport get_bytes
from shmkit._core cimport (
    OK, RING_DATA_AT, RING_MIN_CAPACITY, RING_ROWS_BATCH, RING_VIEWS_MOST, ROLE_OPEN, SEGMENT_KIND_RING,
    load_acquire_u64, load_relaxed_u32, load_relaxed_u64, load_seq_u32, record_data_at, record_nbytes,
    ring_format, ring_header_t, ring_hold, ring_next, ring_pass, ring_record, ring_recv_rows,
    ring_release_passed, ring_role_t, ring_step, status_t,
)
from shmkit._describe cimport Memo
from shmkit._end cimport end_recv
from shmkit._map cimport Mapping
from shmkit._record cimport RecordView, copy, copy_out, read_form
from shmkit._ring_awaited cimport AwaitedEnd
from shmkit._send cimport positive_size

from shmkit import errors
from shmkit.segment import Segment
from shmkit.sizes import format_size, parse_size
from shmkit.statistics import RingStatistics


cdef uint64_t ANY_SIZE = <uint64_t>1 << 62


cdef int check_role(object role) except -1:
    if role is not None and role != "producer" and role != "consumer":
        raise ValueError(f"role must be 'producer', 'consumer' or None: got {role!r}")
    return 0


cdef object role_pid(const ring_role_t *role):
    return load_relaxed_u32(&role.pid) if load_seq_u32(&role.state) == ROLE_OPEN else None


@cython.no_gc_clear
cdef class Ring(AwaitedEnd):
    """A stream of records from one process to another, through shared memory.

    ``Ring.create`` makes one, ``Ring.attach`` finds one by name; a ring made before a fork, or passed to a child (or in
    any pickle to a process of the same user), needs no name.  The first process that sends becomes its producer, the
    first that receives its consumer, each until it closes or ends; then another may take over.

    A record is bytes, or an array, which arrives with its dtype and shape; it is whole or it is not there.  ``recv``
    waits with ``timeout`` in seconds, None for ever, and raises TimeoutError; EndOfStream once the producer has closed
    and all is received; PeerDied once it was killed and all that it had committed is received.  ``try_recv`` never
    waits.

    Threads of one process take turns at an end; the ``try_`` methods do not wait for a turn either.
    """

    cdef Memo received
    cdef uint64_t most  # bytes of a record that is received

    def __cinit__(self, segment):
        self.received = Memo()
        self.most = ANY_SIZE

    # --- making and finding ------------------------------------------------------------------------------------

    @staticmethod
    def create(name=None, capacity="64 MiB", *, backing=None, mode=0o600, lifetime=None, hugepages=False, role=None):
        """Make a ring of `capacity` bytes, a power of two, and return it.

        `name` None makes an anonymous one, which goes with its last process.  `backing`, `mode`, `lifetime` and
        `hugepages` are those of `Segment.create`.  `role` ("producer" or "consumer") takes that end at once.  Each
        record takes 8 bytes more than its payload (arrays up to some 100), rounded up.

        Raises SegmentExists, NoSpace, ValueError for a capacity that is not a power of two.
        """
        cdef uint64_t nbytes = parse_size(capacity)
        check_role(role)
        if nbytes < RING_MIN_CAPACITY or nbytes & (nbytes - 1):
            better = max(int(RING_MIN_CAPACITY), 1 << int(nbytes - 1).bit_length() if nbytes else 0)
            raise ValueError(
                f"capacity must be a power of two, at least {RING_MIN_CAPACITY}: got {capacity!r} (ring {name!r}); "
                f"the next one is {format_size(better)}"
            )

        def init(mapping, offset):
            ring_format(<uint8_t *>(<Mapping>mapping).own.addr + <uint64_t>offset, nbytes)

        segment = Segment._create(
            name, RING_DATA_AT + nbytes, backing=backing, mode=mode, lifetime=lifetime, hugepages=hugepages,
            kind=SEGMENT_KIND_RING, init=init,
        )
        ring = Ring(segment)
        ring._take_role(role)
        return ring

    @staticmethod
    def attach(name, *, backing=None, role=None, owner=None):
        """Find the ring `name` and return a handle on it.

        `role` ("producer" or "consumer") takes that end at once, so that the other side can tell when this process dies
        even before it has sent or received.  Raises SegmentNotFound, SegmentPermission, LayoutMismatch, NotReady;
        RoleTaken.
        """
        check_role(role)
        ring = Ring(Segment._attach(name, backing=backing, owner=owner, kind=SEGMENT_KIND_RING))
        ring._take_role(role)
        return ring

    @staticmethod
    def create_or_attach(name, capacity="64 MiB", *, backing=None, mode=0o600, lifetime=None, role=None):
        """Find the ring `name`, or make it; ValueError if it exists with another capacity."""
        while True:
            try:
                return Ring.create(name, capacity, backing=backing, mode=mode, lifetime=lifetime, role=role)
            except errors.SegmentExists:
                pass
            try:
                ring = Ring.attach(name, backing=backing)
            except errors.SegmentNotFound:
                continue  # it went between the two: make it
            if ring.capacity != parse_size(capacity):
                ring.close()
                raise ValueError(f"ring {name!r} exists with capacity {ring.capacity}: got {capacity!r}")
            ring._take_role(role)
            return ring

    def _take_role(self, role):
        if role == "producer":
            self.claim_producer()
        elif role == "consumer":
            self.claim_consumer()

    def __reduce__(self):
        return Ring, (self.segment,)

    # --- receiving ---------------------------------------------------------------------------------------------

    cdef object named(self, object error):
        return errors.RecordCorrupt(f"{self.label}, record at position {self.c.next}: {error}")

    cdef object copied(self, uint64_t word):
        """A copy of the record at next, which is still the ring's."""
        try:
            item = copy_out(ring_record(&self.c), word, self.received)
        except errors.RecordCorrupt as error:
            raise self.named(error) from None
        if not self.consumes:
            self.usable()  # a handler or the garbage collector ran something that closed the ring
        return item

    @cython.final
    cdef object receive(self, object timeout, bint wait):
        """The next record; None: there is none, and `wait` is False.  Of one beyond the limit, its bytes' number."""
        cdef uint64_t word, nbytes
        if not self.begin_recv(timeout, wait):
            return None
        try:
            if wait:
                self.next(&word, timeout)
            elif not self.try_next(&word):
                return None
            nbytes = record_nbytes(word)
            item = self.copied(word) if nbytes <= self.most else nbytes
            ring_pass(&self.c, nbytes)
            return item
        finally:
            end_recv(self)

    def recv(self, timeout=None):
        """Receive the next record as an object of one's own: bytes, or an ndarray.

        For large arrays `recv_view` and `recv_into` are faster: they touch no fresh memory.
        """
        return self.receive(timeout, True)

    def try_recv(self):
        """Receive the next record if there is one; None if not (or if another thread is receiving)."""
        return self.receive(None, False)

    def _pass_over(self, uint64_t most):
        """From now on `recv` and `try_recv` pass over a record of more than `most` bytes, and give how many it has."""
        self.most = most

    def peek(self):
        """A copy of the next record, which stays where it is; None if there is none."""
        cdef uint64_t word
        if not self.begin_recv(None, False):
            return None
        try:
            if not self.try_next(&word):
                return None
            return copy_out(ring_record(&self.c), word, self.received)
        except errors.RecordCorrupt as error:
            raise self.named(error) from None
        finally:
            end_recv(self)

    def recv_into(self, buffer, timeout=None) -> int:
        """Receive the next record's bytes into a writable contiguous buffer; return how many.

        ValueError, and the record stays, if it is longer than the buffer.
        """
        cdef uint64_t word, nbytes
        cdef Py_buffer view
        get_bytes(buffer, &view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        try:
            self.begin_recv(timeout, True)
            try:
                self.next(&word, timeout)
                nbytes = record_nbytes(word)
                if nbytes > <uint64_t>view.len:
                    raise ValueError(
                        f"a record of {nbytes} bytes does not fit a buffer of {view.len} ({self.label})"
                    )
                copy(view.buf, ring_record(&self.c) + record_data_at(word), nbytes)
                ring_pass(&self.c, nbytes)
                return nbytes
            finally:
                end_recv(self)
        finally:
            PyBuffer_Release(&view)

    def recv_many(self, max_items=None, timeout=None) -> list:
        """Receive what is there, at most `max_items` records, as a list; waits for the first only."""
        cdef uint64_t word, end, most = (<uint64_t>1 << 62) if max_items is None else positive_size(max_items)
        cdef list items = []
        self.begin_recv(timeout, True)
        try:
            self.next(&word, timeout)
            end = load_acquire_u64(&self.c.shared.tail)  # what is there now; what comes meanwhile is the next call's
            while True:
                items.append(self.copied(word))  # kept before it is passed: memory may run out
                ring_step(&self.c, record_nbytes(word))
                if <uint64_t>len(items) >= most or <int64_t>(self.c.next - end) >= 0:
                    return items
                if ring_next(&self.c, &word) != OK:
                    return items
                if len(items) % RING_ROWS_BATCH == 0:
                    ring_release_passed(&self.c)
        except Exception:
            if items:
                return items  # what is wrong with the next record is the next call's
            raise
        finally:
            if items and self.consumes:
                ring_release_passed(&self.c)
            end_recv(self)

    def recv_many_into(self, buffer, itemsize, timeout=None) -> int:
        """Receive records of `itemsize` bytes one after the other into a buffer; return how many.

        Waits for the first, then takes what is there.  ValueError, and the record stays, if the next has another size;
        a later one of another size ends the call.
        """
        cdef uint64_t word, size = positive_size(itemsize)
        cdef Py_ssize_t count
        cdef Py_buffer view
        cdef status_t status
        get_bytes(buffer, &view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        try:
            if <uint64_t>view.len < size:
                raise ValueError(f"a buffer of {view.len} bytes has no room for one record of itemsize {itemsize}")
            self.begin_recv(timeout, True)
            try:
                self.next(&word, timeout)
                if record_nbytes(word) != size:
                    raise ValueError(
                        f"the next record has {record_nbytes(word)} bytes: itemsize is {itemsize} ({self.label})"
                    )
                if self.c.views_count == 0:
                    with nogil:
                        count = ring_recv_rows(&self.c, <uint8_t *>view.buf, size, view.len // size, &status)
                else:  # views may die meanwhile, under the GIL (without one, ring_within orders that)
                    count = ring_recv_rows(&self.c, <uint8_t *>view.buf, size, view.len // size, &status)
                return count
            finally:
                end_recv(self)
        finally:
            PyBuffer_Release(&view)

    def recv_view(self, timeout=None) -> RecordView:
        """Receive the next record in place, without a copy; it stays in the ring until the view is released.

        Several may be held; room becomes free in the order of sending.  Holding on to one for long stops the producer.
        """
        cdef uint64_t word
        cdef RecordView view = RecordView.__new__(RecordView)
        self.begin_recv(timeout, True)
        try:
            self.next(&word, timeout)
            view.form = read_form(ring_record(&self.c), word, self.received)
            view.data = ring_record(&self.c) + record_data_at(word)
            view.nbytes = record_nbytes(word)
            if not self.consumes:
                self.usable()
            if ring_hold(&self.c, view.nbytes, &view.ticket) != OK:
                raise RuntimeError(f"{self.label}: {RING_VIEWS_MOST} views are held already; release some")
            view.consumer = &self.c
            view.current, view.session = &self.session, self.session
            view.ring, view.mapping = self, self.mapping
            return view
        except errors.RecordCorrupt as error:
            raise self.named(error) from None
        finally:
            end_recv(self)

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self.recv()
        except errors.EndOfStream:
            raise StopIteration from None

    # --- state -------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the ring's segment."""
        return self.segment.name

    @property
    def capacity(self) -> int:
        """Bytes that the ring holds, a power of two."""
        return self.ring_capacity

    @property
    def free(self) -> int:
        """Bytes that are not in use now; a record needs 8 more than its payload, and must not wrap."""
        return self.ring_capacity - self.statistics().used

    @property
    def closed(self) -> bool:
        """Whether this process has closed its handle."""
        return self.shut

    def __len__(self) -> int:
        """Records that wait to be received."""
        return self.statistics().waiting

    def __bool__(self) -> bool:
        return True

    def statistics(self) -> RingStatistics:
        """The ring's counters now, of all processes together.  Closed after close()."""
        cdef Mapping _kept = self.mapped()
        cdef ring_header_t *ring = <ring_header_t *>self.payload
        # relaxed: each is whole; together they are of one moment only when both ends rest
        cdef uint64_t received = load_relaxed_u64(&ring.consumer_count.records)
        cdef uint64_t sent = load_relaxed_u64(&ring.producer_count.records)
        cdef uint64_t head = load_acquire_u64(&ring.head)
        cdef uint64_t tail = load_acquire_u64(&ring.tail)
        return RingStatistics(
            capacity=self.ring_capacity,
            used=min(tail - head, self.ring_capacity) if tail >= head else 0,
            waiting=min(sent - received, self.ring_capacity // 8) if sent >= received else 0,
            sent=sent,
            received=received,
            bytes_sent=load_relaxed_u64(&ring.producer_count.bytes),
            bytes_received=load_relaxed_u64(&ring.consumer_count.bytes),
            producer_waits=load_relaxed_u64(&ring.producer_count.parks),
            consumer_waits=load_relaxed_u64(&ring.consumer_count.parks),
            producer_wakes=load_relaxed_u64(&ring.producer_count.wakes),
            consumer_wakes=load_relaxed_u64(&ring.consumer_count.wakes),
            producer_pid=role_pid(&ring.producer_role),
            consumer_pid=role_pid(&ring.consumer_role),
        )

    def unlink(self) -> None:
        """Remove the ring's name; whoever is attached goes on."""
        self.segment.unlink()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.shut:
            return f"<Ring: {self.label}, closed>"
        try:
            now = self.statistics()
        except errors.Closed:  # by another thread, just now
            return f"<Ring: {self.label}, closed>"
        return f"<Ring: {self.label}, {format_size(self.ring_capacity)}, {now.waiting} records waiting>"
