"""Channels over rings: shared memory, and no system call per message.

Arrays and bytes are records as any other user of the ring sends them; every other object is a record of a dtype of its
own, with a frame in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from shmkit._fields import RING_MIN
from shmkit._ring import Ring
from shmkit.channel.base import Channel
from shmkit.channel.frame import ARRAY, BYTES, HEADER, META_MOST, Frame, Incoming, parse, too_large
from shmkit.channel.options import Rules, size
from shmkit.channel.unused_peer import UnusedPeer, peer_sockets
from shmkit.channel.url import Address
from shmkit.errors import NoPeer, SegmentNotFound
from shmkit.files.watching import Hint
from shmkit.segment.posix import path_of
from shmkit.waiting import Deadline, seconds_of

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RingChannel", "connect_ring", "listen_ring", "pair_ring"]

RING_OPTIONS: Rules = {"capacity": size(RING_MIN, 2**46, power=True)}
CAPACITY = "64 MiB"
T = TypeVar("T")
_MESSAGE = np.dtype([("shmkit.message", "u1")])


class RingChannel(Channel):
    """One end of a ring."""

    _listens = False

    def __init__(self, ring: Ring, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._ring = ring
        # With all that a message says of itself.
        ring._pass_over(HEADER.size + META_MOST + self._limit)
        self._native: Any = None
        self._frame: Frame | None = None
        # Of a ring without a name: whether somebody could still use the other end.
        self._peer: UnusedPeer | None = None
        self._presence: Any = None

    # ---------------------------------------------------------------------------------------------------------- sending

    def send(self, value: Any, timeout: float | None = None) -> None:
        if type(value) is np.ndarray and not value.dtype.hasobject and self._send_array(value, timeout):
            return
        super().send(value, timeout)

    def _send_array(self, array: np.ndarray[Any, Any], timeout: float | None) -> bool:
        self._may_send()
        self._check_size(Frame(ARRAY, b"", [], array.nbytes))
        try:
            self._put(array, timeout)
        except TypeError:
            return False  # no dtype that a record can have, or no time-out: the long way says which
        self._count(array.nbytes)
        return True

    def _count(self, nbytes: int) -> None:
        self._sent += 1
        self._bytes_sent += nbytes

    def _send(self, frame: Frame, timeout: float | None, wait: bool) -> bool:
        self._check_size(frame)
        ring = self._ring
        if frame.kind == BYTES:
            if not wait:
                if not ring.try_send(frame.buffers[0]) and not (self._deserted() and ring.try_send(frame.buffers[0])):
                    return False
            else:
                self._put(frame.buffers[0], timeout)
        elif not wait:
            if not self._try_fill(frame) and not (self._deserted() and self._try_fill(frame)):
                return False
        else:
            seconds_of(timeout)
            if not self._try_fill(frame):
                self._send_waits += 1
                self._waited(lambda timeout: self._fill(frame, timeout), timeout)
        self._count(frame.nbytes)
        return True

    def _put(self, record: Any, timeout: float | None) -> None:
        seconds_of(timeout)
        if not self._ring.try_send(record):
            self._send_waits += 1
            self._waited(lambda timeout: self._ring.send(record, timeout), timeout)

    def _waited(self, call: Callable[[float | None], T], timeout: float | None) -> T:
        peer = self._peer
        return call(timeout) if peer is None or not peer.watched else peer.wait(call, timeout)

    def _deserted(self) -> bool:
        """Whether nobody can use the other end any more, and nobody has: the ring says so from now on."""
        return self._peer is not None and self._peer.check()

    def _take(self, timeout: float | None, wait: bool = True) -> Any:
        """The next record; None: there is none, and nobody waits.  What is too large to be a message is passed over."""
        ring = self._ring
        record = ring.try_recv()
        if record is None and wait:
            self._recv_waits += 1
            record = self._waited(ring.recv, timeout)
        elif record is None and self._deserted():
            record = ring.try_recv()
        if type(record) is int:
            raise too_large(record, self._limit, self._where)
        return record

    def _fill(self, frame: Frame, timeout: float | None) -> None:
        with self._ring.reserve((frame.size,), _MESSAGE, timeout) as array:
            view = memoryview(array.view(np.uint8))
            done = 0
            for part in (frame.header(), frame.meta, *frame.buffers):
                view[done : done + len(part)] = part
                done += len(part)

    def _try_fill(self, frame: Frame) -> bool:
        # A reservation has no way not to wait; it does not wait long.
        if frame.size <= 65536:
            data = np.frombuffer(b"".join((frame.header(), frame.meta, *frame.buffers)), _MESSAGE)
            return self._ring.try_send(data)
        try:
            self._fill(frame, 0)
        except TimeoutError:
            return False
        return True

    def _begin_send(self, frame: Frame) -> None:
        self._frame = frame

    def _send_step(self) -> bool:
        frame = self._frame
        assert frame is not None
        return self._ring.try_send(frame.buffers[0]) if frame.kind == BYTES else self._try_fill(frame)

    def _give_up(self, keep: bool) -> bool:
        self._frame = None
        return False

    # -------------------------------------------------------------------------------------------------------- receiving

    def _recv(
        self, timeout: float | None, wait: bool, into: memoryview | None = None, deadline: Deadline | None = None
    ) -> Incoming | None:
        if self._closed or not self._receives:
            self._may_recv()
        if self._held:
            return self._counted(self._take_held())
        seconds_of(timeout)
        record = self._take(timeout, wait)
        return None if record is None else self._counted(self._opened(record))

    def recv(self, timeout: float | None = None) -> Any:
        # Bytes and arrays are what the ring has, and pass through.
        if self._closed or not self._receives or self._held:
            return super().recv(timeout)
        seconds_of(timeout)
        record = self._take(timeout)
        if type(record) is np.ndarray and record.dtype.names is not None and record.dtype == _MESSAGE:
            return self._counted(self._opened(record)).finish()
        nbytes = len(record) if type(record) is bytes else record.nbytes
        self._check_came(nbytes)
        self._received += 1
        self._bytes_received += nbytes
        return record

    def _check_came(self, nbytes: int) -> None:
        if nbytes > self._limit:
            raise too_large(nbytes, self._limit, self._where)

    def _opened(self, record: Any) -> Incoming:
        if type(record) is bytes:
            self._check_came(len(record))
            return Incoming(BYTES, len(record), [memoryview(record)] if record else [], lambda: record)
        if record.dtype.names is not None and record.dtype == _MESSAGE:
            return parse(memoryview(record.view(np.uint8)), self._limit, self._where)
        self._check_came(record.nbytes)
        rows = record if record.flags.c_contiguous else record.T
        flat = [memoryview(rows.reshape(-1).view(np.uint8))] if record.nbytes else []
        return Incoming(ARRAY, record.nbytes, flat, lambda: record)

    def _recv_step(self, into: memoryview | None) -> Incoming | None:
        record = self._take(None, False)
        return None if record is None else self._opened(record)

    def _somebody(self) -> bool:
        if not self._listens or self._received:
            return True
        found = self._ring.statistics()
        return found.producer_pid is not None or found.waiting > 0

    def _wait_for_somebody(self, deadline: Deadline) -> None:
        # No descriptor tells who has become the producer.
        self._wait(-1, 0, deadline)

    def _in_fd(self) -> int:
        fd = self._ring.fileno()
        return fd if self._peer is None else self._peer.beside(fd)

    def _out_fd(self) -> int:
        return self._ring._room_fileno()

    def fileno(self) -> int:
        if not self._closed and not self._receives:
            raise OSError(f"{self._where} has no descriptor at the end that sends")
        return super().fileno()

    async def _until(self, step: Callable[[], Any], descriptor: Callable[[], int], out: bool, *rest: Any) -> Any:
        # Whichever the end waits for, its descriptor becomes readable.
        return await super()._until(step, descriptor, False, *rest)

    # --------------------------------------------------------------------------------------------------------- the rest

    def flush(self, timeout: float | None = None) -> None:
        self._may_send()  # what has been sent is in shared memory

    def _close(self, linger: float) -> None:
        self._ring.close()
        if self._peer is not None:
            self._peer.close()

    def __reduce__(self) -> tuple[Any, ...]:
        options = {"sends": self._sends, "receives": self._receives, "max_message": self._limit}
        peer = None if self._peer is None else self._peer.handed_on()
        return _ring_again, (self._ring, self._url, options, peer)

    def _with_peer(self, fd: int) -> Self:
        self._peer = self._presence = UnusedPeer(fd, self._ring, "producer" if self._receives else "consumer")
        return self


def _ring_again(ring: Ring, url: str, options: dict[str, Any], peer: Any) -> RingChannel:
    made = RingChannel(ring, url, **options)
    return made if peer is None else made._with_peer(peer.detach())


def _name(address: Address) -> str:
    if not address.place:
        raise ValueError(f"{address.url!r} has no name: it is written ring://name")
    return address.place


def listen_ring(address: Address, options: dict[str, Any], common: dict[str, Any]) -> Channel:
    """The receiving end of a ring, which is made if there is none; one that is there may have any capacity."""
    name = _name(address)
    ring = None if "capacity" in options else _attached(name, "consumer")
    if ring is None:
        capacity = options.get("capacity", CAPACITY)
        ring = Ring.create_or_attach(name, capacity, lifetime="leased", role="consumer")
    made = RingChannel(ring, address.url, sends=False, receives=True, **common)
    made._listens = True
    return made


def connect_ring(
    address: Address, options: dict[str, Any], common: dict[str, Any], timeout: float | None = 0.0
) -> Channel:
    """The sending end of a ring that somebody has made."""
    deadline = Deadline(timeout)
    name = _name(address)
    ring = _attached(name, "producer")
    if ring is None and not deadline.passed:
        with Hint.of_name(path_of(name)) as hint:
            while (ring := _attached(name, "producer")) is None and not deadline.passed:
                hint.pause(deadline)
    if ring is None:
        raise NoPeer(f"nobody listens at {address.url}: there is no ring of that name")
    return RingChannel(ring, address.url, sends=True, receives=False, **common)


def _attached(name: str, role: Literal["producer", "consumer"]) -> Ring | None:
    try:
        return Ring.attach(name, role=role)
    except SegmentNotFound:
        return None


def pair_ring(address: Address, options: dict[str, Any], common: dict[str, Any]) -> tuple[Channel, Channel]:
    """The end that receives and the end that sends, of a ring without a name."""
    import pickle

    ring = Ring.create(capacity=options.get("capacity", CAPACITY))
    other = pickle.loads(pickle.dumps(ring))  # a handle of its own for each end
    here, there = peer_sockets()
    return (
        RingChannel(ring, address.url, sends=False, receives=True, **common)._with_peer(here),
        RingChannel(other, address.url, sends=True, receives=False, **common)._with_peer(there),
    )
