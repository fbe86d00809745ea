"""Channel: the face that every mechanism has, and the waiting behind it.

A mechanism says how to go one step without waiting (``_send_step``, ``_recv_step``), and which descriptor tells when
the next one is worth a try; here that becomes calls that wait with time-outs, calls that do not wait, and coroutines.
Threads take turns at an end, for sending and for receiving.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from shmkit._ending import close_at_end
from shmkit._owned import exchanged
from shmkit.channel.frame import Frame, Incoming, bytes_frame, encode, room_of
from shmkit.channel.turn import ChannelStatistics, Turn, take_turn
from shmkit.channel.waits import Waits
from shmkit.errors import Broken, Closed, EndOfStream, OneWay, RecordCorrupt, RecordTooLarge
from shmkit.sizes import format_size, parse_size
from shmkit.waiting import Deadline, seconds_of

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Buffer, Self

__all__ = ["LINGER", "MAX_MESSAGE", "Channel", "ChannelStatistics", "generation"]

# What a message may have, unless told otherwise: enough for any frame, and no more than most machines can spare.
MAX_MESSAGE = 2**30
# How long close() waits for a slow receiver to take what has been begun, in seconds.
LINGER = 5.0

_generation = 0


def _forked() -> None:
    global _generation  # noqa: PLW0603
    _generation += 1


os.register_at_fork(after_in_child=_forked)


def generation() -> int:
    """How many forks lie between the first process and this one."""
    return _generation


class Channel(Waits):
    """One end of a channel: messages go in whole at one end and come out whole, in order, at the other.

    Ends are made by ``shmkit.connect``, ``shmkit.listen`` and ``shmkit.pair``.  A message is any object that can be
    pickled; arrays of numbers, bytes and text do without.  ``timeout`` is in seconds, None waits for ever.

    Received are whole messages only: when the other end has closed, what it sent, then EndOfStream; when it was killed,
    what it had sent whole, then PeerDied.  A call that raises TimeoutError, or is interrupted, has not sent or received
    anything, and the next call goes on as if it had not been made.
    """

    # For receivers on another machine, or of another day, shared arrays are what is in them.
    _by_value = False

    def __init__(self, url: str, *, sends: bool, receives: bool, max_message: int | str = MAX_MESSAGE) -> None:
        self._url = url
        self._sends = sends
        self._receives = receives
        self._limit = parse_size(max_message)
        self._where = url
        self._closed = False
        self._send_turn = Turn()
        self._recv_turn = Turn()
        self._held: list[Incoming | RecordCorrupt | RecordTooLarge] = []
        self._generation = _generation
        self._sent = self._received = self._bytes_sent = self._bytes_received = 0
        self._send_waits = self._recv_waits = 0
        close_at_end(self)

    # ------------------------------------------------------------------------------------- what a mechanism has to say

    def _begin_send(self, frame: Frame) -> None:
        """Makes the frame the one that ``_send_step`` sends."""
        raise NotImplementedError

    def _send_step(self) -> bool:
        """Sends as much as there is room for; True: all of it."""
        raise NotImplementedError

    def _give_up(self, keep: bool) -> bool:
        """The frame will not be waited for: whether it counts as sent nevertheless (only if ``keep``)."""
        raise NotImplementedError

    def _recv_step(self, into: memoryview | None) -> Incoming | None:
        """The next message; None: it is not all here.  EndOfStream, PeerDied, RecordCorrupt, RecordTooLarge."""
        raise NotImplementedError

    def _shorten_send(self) -> None:
        """A send is over, with whatever result: says how the next may go.  It is this thread's turn still."""

    def _shorten_recv(self) -> None:
        """The same of receiving."""

    def _after_fork(self) -> None:
        """This process is a forked child that uses the end for the first time."""

    def _close(self, linger: float) -> None:
        """Closes what the mechanism has open."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------------------------------- sending

    def send(self, value: Any, timeout: float | None = None) -> None:
        """Send any object.

        TimeoutError; Broken (PeerDied, if it is known that it was killed): nobody will receive it; RecordTooLarge: it
        never fits; OneWay: this end receives only; Closed.
        """
        self._may_send()
        self._send(encode(value, self._by_value), timeout, True)

    def send_bytes(self, data: Buffer | npt.NDArray[Any], timeout: float | None = None) -> None:
        """Send bytes, or what has the like (an array, a memoryview): they arrive as bytes.  Raises as ``send``."""
        self._may_send()
        self._send(bytes_frame(data), timeout, True)

    def try_send(self, value: Any) -> bool:
        """Send it if there is room now; False: there is none, and nothing has happened.  Raises as ``send``.

        Where a large message has begun to go into a stream, it counts as sent: the rest is kept, and goes with the next
        calls on this end, whichever they are (``flush`` waits for it); until it has gone, nothing else is taken.
        """
        self._may_send()
        return self._send(encode(value, self._by_value), 0, False)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all that was sent has left this process.  TimeoutError; Broken."""
        self._may_send()
        deadline = Deadline(timeout)
        if not self._send_turn.take(deadline, self._where):
            raise TimeoutError(f"{self._where}: another thread was sending for {timeout} s")
        try:
            self._check_open()
            while not self._flush_step():
                if not self._wait_out(deadline):
                    why = self._alone() or "the other end did not take what was sent"
                    raise TimeoutError(f"{self._where}: {why} within {timeout} s")
        finally:
            self._shorten_send()
            self._send_turn.give()

    def _flush_step(self) -> bool:
        return True

    def _may_send(self) -> None:
        if self._closed:
            raise Closed(f"{self._where} was closed by this process")
        if not self._sends:
            raise OneWay(f"this end of {self._where} receives: it cannot send")

    def _check_size(self, frame: Frame) -> None:
        if frame.nbytes > self._limit:
            raise RecordTooLarge(
                f"a message of {frame.nbytes} bytes ({format_size(frame.nbytes)}) is more than {self._where} takes: at "
                f"most {format_size(self._limit)}, unless both ends are given a larger max_message"
            )

    def _send(self, frame: Frame, timeout: float | None, wait: bool) -> bool:
        self._check_size(frame)
        if timeout is not None:
            timeout = seconds_of(timeout)
        if self._generation != _generation:
            self._forked()
        deadline: Deadline | None = None
        if not self._send_turn.try_take():
            deadline = Deadline(timeout)
            if not wait:
                return False
            if not self._send_turn.take(deadline, self._where):
                raise TimeoutError(f"{self._where}: another thread was sending for {timeout} s")
        try:
            self._check_open()
            self._begin_send(frame)
            try:
                while not self._send_step():
                    if not wait:
                        if not self._give_up(True):
                            return False
                        break
                    deadline = deadline or Deadline(timeout)
                    self._send_waits += 1
                    if not self._wait_out(deadline):
                        raise TimeoutError(f"{self._where}: {self._not_sent(frame.nbytes)} within {timeout} s")
            except BaseException:
                self._give_up(False)
                raise
            self._sent += 1
            self._bytes_sent += frame.nbytes
        finally:
            self._shorten_send()
            self._send_turn.give()
        return True

    # -------------------------------------------------------------------------------------------------------- receiving

    def recv(self, timeout: float | None = None) -> Any:
        """Receive the next message: the object that was sent, an array in memory of its own.

        TimeoutError; EndOfStream: the other end has closed; PeerDied: it was killed; RecordCorrupt: what comes is no
        message; RecordTooLarge: it is more than this end's ``max_message``; OneWay: this end sends only; Closed.

        What is too large is passed over by rings, packets, queues and logs.  A byte stream (pipe, fifo, unix, tcp) is
        dead from then on, as nobody knows where its next message begins: every later call raises the same.
        """
        incoming = self._recv(timeout, True)
        return incoming.finish()  # type: ignore[union-attr]

    def recv_bytes(self, timeout: float | None = None) -> bytes:
        """Receive the next message as bytes: those that were sent, or an array's.  Raises as ``recv``.

        TypeError, and the message stays: it is an object of another kind.
        """
        return self._only_bytes(self._recv(timeout, True))

    def recv_into(self, buffer: Buffer | npt.NDArray[Any], timeout: float | None = None) -> int:
        """Receive the next message's bytes into ``buffer``, from its beginning; return how many they are.

        As ``recv_bytes``; ValueError, and the message stays: it is longer than the buffer.
        """
        return self._into(buffer, timeout)

    def _into(self, buffer: Buffer | npt.NDArray[Any], timeout: float | None, deadline: Deadline | None = None) -> int:
        view = room_of(buffer)
        incoming = self._bytes_only(self._recv(timeout, True, view, deadline))
        if incoming.nbytes > view.nbytes:
            self._put_back(incoming)
            raise ValueError(
                f"a message of {incoming.nbytes} bytes does not fit a buffer of {view.nbytes} ({self._where})"
            )
        if incoming.targets and not incoming.direct:
            view[: incoming.nbytes] = incoming.targets[0]
        return incoming.nbytes

    def try_recv(self, default: Any = None) -> Any:
        """Receive the next message if it is here; ``default``: it is not.  Raises as ``recv``."""
        incoming = self._recv(0, False)
        return default if incoming is None else incoming.finish()

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Wait for a message; False: none is here by then.  True as well where ``recv`` would raise at once."""
        if self._held:
            self._may_recv()
            return True
        try:
            incoming = self._recv(timeout, True)
        except TimeoutError:
            return False
        except (EndOfStream, Broken):
            return True
        except (RecordCorrupt, RecordTooLarge) as error:
            # What it is about may have gone: the next call says so.
            self._held.append(error.with_traceback(None))
            return True
        self._put_back(incoming)
        return True

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self.recv()
        except EndOfStream:
            raise StopIteration from None

    def _may_recv(self) -> None:
        if self._closed:
            raise Closed(f"{self._where} was closed by this process")
        if not self._receives:
            raise OneWay(f"this end of {self._where} sends: it cannot receive")

    def _recv(
        self, timeout: float | None, wait: bool, into: memoryview | None = None, deadline: Deadline | None = None
    ) -> Incoming | None:
        if self._closed or not self._receives:
            self._may_recv()
        if timeout is not None:
            timeout = seconds_of(timeout)
        if self._generation != _generation:
            self._forked()
        if not self._recv_turn.try_take():
            deadline = deadline or Deadline(timeout)
            if not wait:
                return None
            if not self._recv_turn.take(deadline, self._where):
                raise TimeoutError(f"{self._where}: another thread was receiving for {timeout} s")
        try:
            self._check_open()
            if self._held:
                return self._counted(self._take_held())
            while True:
                incoming = self._recv_step(into)
                if incoming is not None:
                    return self._counted(incoming)
                if not wait:
                    return None
                deadline = deadline or Deadline(timeout)
                self._recv_waits += 1
                if not self._wait_in(deadline):
                    raise TimeoutError(f"{self._where}: no message within {timeout} s")
        finally:
            if into is not None:
                self._let_go()
            self._shorten_recv()
            self._recv_turn.give()

    def _let_go(self) -> None:
        """The buffer of ``recv_into`` is the caller's again."""

    def _counted(self, incoming: Incoming) -> Incoming:
        self._received += 1
        self._bytes_received += incoming.nbytes
        return incoming

    def _take_held(self) -> Incoming:
        found = self._held.pop()
        if isinstance(found, Exception):
            raise found
        return found

    def _put_back(self, incoming: Incoming | None) -> None:
        assert incoming is not None
        self._held.append(incoming)
        self._received -= 1
        self._bytes_received -= incoming.nbytes

    def _only_bytes(self, incoming: Incoming | None) -> bytes:
        found = self._bytes_only(incoming)
        return bytes(found.targets[0]) if found.targets else b""

    def _bytes_only(self, incoming: Incoming | None) -> Incoming:
        assert incoming is not None
        if not incoming.raw:
            self._put_back(incoming)
            raise TypeError(f"the next message of {self._where} is {incoming.name}, not bytes: recv() takes it")
        return incoming

    # ---------------------------------------------------------------------------------------------------------- asyncio

    async def send_async(self, value: Any, timeout: float | None = None) -> None:
        """``send`` for coroutines: the event loop goes on meanwhile.  Cancelled, it has sent nothing."""
        self._may_send()
        frame = encode(value, self._by_value)
        self._check_size(frame)
        deadline = Deadline(timeout)
        if self._generation != _generation:
            self._forked()
        await take_turn(self._send_turn, self._where, deadline, "sending")
        try:
            self._begin_send(frame)
            try:
                await self._until(self._send_step, self._out_fd, True, deadline, lambda: self._not_sent(frame.nbytes))
            except BaseException:
                self._give_up(False)
                raise
            self._sent += 1
            self._bytes_sent += frame.nbytes
        finally:
            self._shorten_send()
            self._send_turn.give()

    async def recv_async(self, timeout: float | None = None) -> Any:
        """``recv`` for coroutines: the event loop goes on meanwhile.  Cancelled, it has received nothing."""
        self._may_recv()
        deadline = Deadline(timeout)
        if self._generation != _generation:
            self._forked()
        await take_turn(self._recv_turn, self._where, deadline, "receiving")
        try:
            incoming = self._take_held() if self._held else None
            if incoming is None:
                step = lambda: self._recv_step(None)  # noqa: E731
                incoming = await self._until(step, self._in_fd, False, deadline, lambda: "no message")
        finally:
            self._shorten_recv()
            self._recv_turn.give()
        return self._counted(incoming).finish()

    # -------------------------------------------------------------------------------------------------------- the rest

    @property
    def url(self) -> str:
        """Where the other end finds this one, as it is: with the port that was chosen, say."""
        return self._url

    @property
    def duplex(self) -> bool:
        """Whether this end both sends and receives."""
        return self._sends and self._receives

    @property
    def sends(self) -> bool:
        """Whether this end sends."""
        return self._sends

    @property
    def receives(self) -> bool:
        """Whether this end receives."""
        return self._receives

    @property
    def closed(self) -> bool:
        """Whether this process has closed it."""
        return self._closed

    @property
    def max_message(self) -> int:
        """The most bytes that a message's payload may have, at this end."""
        return self._limit

    def fileno(self) -> int:
        """A descriptor for select, poll and event loops: readable (at an end that only sends: writable) when a call is
        worth a try.  Messages wait in the kernel, not here, but for one that ``poll`` has found or a call has refused.

        Closed; OSError: this mechanism has none.
        """
        if self._closed:
            raise Closed(f"{self._where} was closed by this process")
        fd = self._in_fd() if self._receives else self._out_fd()
        if fd < 0:
            raise OSError(f"{self._where} has no descriptor")
        return fd

    def meet(self, timeout: float | None = None) -> None:
        """At an end that listens: wait until another has connected, and is there or has sent something.

        At other ends, and at a file, which is read whether anybody is there or not, there is nothing to wait for.
        TimeoutError; Closed.
        """
        self._check_open()
        if self._generation != _generation:
            self._forked()
        self._meet(timeout)

    def statistics(self) -> ChannelStatistics:
        """What this end has counted, in this process."""
        return ChannelStatistics(
            self._sent, self._received, self._bytes_sent, self._bytes_received, self._send_waits, self._recv_waits
        )

    def close(self, linger: float = LINGER) -> None:
        """Close this end; the other one receives what was sent, and then EndOfStream.  Again changes nothing.

        The rest of a message that ``try_send`` has begun is waited for, ``linger`` seconds at most: TimeoutError, but
        closed, if the other end has not taken it by then.  TypeError, ValueError, and open: ``linger`` is no time.
        """
        seconds_of(linger, "linger")  # complains before anything is closed
        if exchanged(self, "_closed", True):
            return
        # In a forked child that has not used it, those who wait are the parent's.
        within = self._generation == _generation and self._evict()
        self._leaving = threading.get_ident()
        self._held.clear()
        try:
            self._close(linger)
        finally:
            self._leaving = 0
            if not within:
                self._drop_waker()

    def _forked(self) -> None:
        self._send_turn, self._recv_turn = Turn(), Turn()
        self._drop_waker()  # the parent's
        if self._held:
            raise RecordCorrupt(f"{self._where} held a message when this process was forked: it is the parent's")
        self._after_fork()
        self._generation = _generation
        close_at_end(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Without a wait: nobody expects one here.
        if not getattr(self, "_closed", True):
            try:
                self.close(0.0)
            except TimeoutError:
                pass
        self._drop_waker()

    def __repr__(self) -> str:
        way = "sends and receives" if self.duplex else "sends" if self._sends else "receives"
        return f"<{type(self).__name__} {self._url}: {way}{', closed' if self._closed else ''}>"
