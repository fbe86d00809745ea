"""Channels over byte streams: pipes, FIFOs, stream sockets.

A frame is written from where its parts lie (scatter/gather) and read straight to where they belong.  Nothing is read
ahead but the next frame's header (``_ahead.pyx``): so between messages the descriptor says exactly what is there, for
select and for another process that takes the end over.  The state of a frame that is half-way through stays in the end,
whatever comes out of the call.

Ends tell each other that they are there: a greeting before a process's first message (on two-way streams also before it
first receives; through a FIFO when it connects), a farewell when it closes.  So the end of a stream is the end in order
if everybody who greeted has taken leave, and a death otherwise; a process that was killed before it had used its end
was never there.
"""

from __future__ import annotations

import contextlib
from typing import Any

from shmkit._ahead import Ahead
from shmkit.channel.base import generation
from shmkit.channel.frame import (
    FAREWELL,
    GREETING,
    HEADER,
    MARK,
    TAKEN_BACK,
    WHOLE,
    Frame,
    Incoming,
    begin,
    into_buffer,
    message_of,
    note,
    open_header,
)
from shmkit.channel.presence import Presence
from shmkit.channel.quick import QuickChannel, feed
from shmkit.channel.transport import PipeStream, SocketStream
from shmkit.errors import Broken, ChannelError, EndOfStream, PeerDied, RecordCorrupt, RecordTooLarge
from shmkit.waiting import Deadline

__all__ = ["StreamChannel"]

# Smaller frames are quicker put into one piece than handed over in several.
_JOINED_MOST = 16384
# The kernel's IOV_MAX.
_PARTS_MOST = 1024


class StreamChannel(QuickChannel):
    """A channel over a byte stream.

    What is no message, or a larger one than this end takes, is not read to its end, which nobody need believe in: so
    the next message is not found either, and every later call that receives raises the same.
    """

    # The last one's farewell is the end, though somebody may have the other end open (a child that inherited it).
    _leave_ends = True

    def __init__(self, stream: PipeStream | SocketStream | None, url: str, local: bool = True, **options: Any) -> None:
        super().__init__(url, **options)
        self._local = local
        self._by_value = not local
        self._greeted = False
        # What is still to be written of frames that nobody waits for any more, and of the present one.
        self._left: list[Any] = []
        self._out: list[Any] = []
        self._begun = False
        self._broken = False
        self._presence: Presence = Presence(local)
        self._head = bytearray(HEADER.size)
        self._head_view = memoryview(self._head)
        self._tail = bytearray(1)
        self._tail_view = memoryview(self._tail)
        self._want: list[memoryview] = [self._head_view]
        self._partial = False
        self._meta = b""
        self._sizes: tuple[int, int, int] | None = None
        self._in: Incoming | None = None
        self._fault: Exception | None = None
        self._ahead = Ahead()
        self._read_ahead(self._ahead)
        self._take(stream)

    def _take(self, stream: PipeStream | SocketStream | None) -> None:
        # Without a stream yet, the end waits for somebody to connect.
        self._stream = stream

    def _in_fd(self) -> int:
        return self._stream.receiving if self._stream is not None else -1

    def _out_fd(self) -> int:
        return self._stream.sending if self._stream is not None else -1

    def _connect_step(self) -> bool:
        """Whether there is a stream by now."""
        return self._stream is not None

    def _shorten_send(self) -> None:
        stream = self._stream
        if stream is None or not self._greeted or self._left or self._broken:
            self._open_send(-1, 0, 0)
        else:
            self._open_send(stream.sending, stream.quick, self._limit)

    def _shorten_recv(self) -> None:
        stream = self._stream
        if stream is None or self._partial or self._fault is not None or (self._sends and not self._greeted):
            self._open_recv(-1, 0, 0)
        else:
            if self._fed and len(self._fed) == 1 and len(self._fed[0]) <= HEADER.size:
                self._ahead.put_back(self._fed.pop())
            self._open_recv(stream.receiving, stream.quick, self._limit)

    # ---------------------------------------------------------------------------------------------------------- sending

    def _begin_send(self, frame: Frame) -> None:
        if self._broken:
            raise self._nobody()
        if not self._greeted:
            self._greet()
        if frame.size <= _JOINED_MOST:
            self._out = [b"".join((frame.header(), frame.meta, *frame.buffers, WHOLE))]
        else:
            self._out = [frame.header() + frame.meta, *(part for part in frame.buffers if len(part)), WHOLE]
        self._begun = False

    def _greet(self) -> None:
        self._left.append(note(GREETING) + WHOLE)
        self._greeted = True

    def _send_step(self) -> bool:
        if self._stream is None and not self._connect_step():
            return False
        if self._left and not self._write(self._left):
            return False
        return self._write(self._out)

    def _flush_step(self) -> bool:
        return not self._left or (self._connect_step() and self._write(self._left))

    def _write(self, parts: list[Any]) -> bool:
        """Writes parts, taking out what has gone; True: all."""
        stream = self._stream
        assert stream is not None
        while parts:
            try:
                count = stream.write(parts if len(parts) <= _PARTS_MOST else parts[:_PARTS_MOST])
            except BrokenPipeError:
                self._broken = True
                self._left.clear()
                raise self._nobody() from None
            if not count:
                if self._presence.abandoned:
                    self._broken = True
                    raise self._nobody()
                return False
            if parts is self._out:
                self._begun = True
            _advance(parts, count)
        return True

    def _give_up(self, keep: bool) -> bool:
        out, self._out = self._out, []
        if self._broken or not self._begun or not out:
            return False
        rest = b"".join(out)
        # The last byte says whether the frame counts.
        self._left.append(rest if keep else rest[:-1] + TAKEN_BACK)
        self._begun = False
        return keep

    def _nobody(self) -> Exception:
        pid = self._presence.died()
        if pid:
            return PeerDied(f"process {pid}, at the other end of {self._where}, died", pid)
        return Broken(f"nobody receives from {self._where} any more")

    def _send_rest(self, rest: list[Any], nbytes: int, timeout: float | None, deadline: Deadline) -> None:
        """Of a frame that has begun to go."""
        self._out, self._begun = rest, True
        try:
            while not self._send_step():
                self._send_waits += 1
                if not self._wait_out(deadline):
                    raise TimeoutError(f"{self._where}: no room for {nbytes} bytes within {timeout} s")
        except BaseException:
            self._give_up(False)
            raise

    def _keep_rest(self, rest: list[Any]) -> None:
        """Of a frame that has begun to go, and counts."""
        self._out, self._begun = rest, True
        self._give_up(True)

    def _take_back(self, rest: list[Any]) -> None:
        """A frame that has begun to go, and does not count."""
        self._out, self._begun = rest, True
        self._give_up(False)

    # -------------------------------------------------------------------------------------------------------- receiving

    def _recv_step(self, into: memoryview | None) -> Incoming | None:
        if self._fault is not None:
            raise self._again(self._fault)
        stream = self._stream
        if stream is None:
            if not self._connect_step():
                return None
            stream = self._stream
            assert stream is not None
        if self._sends and not self._greeted:
            self._greet_first()
        self._take_ahead()
        while True:
            want = self._want
            while want:
                if self._fed:
                    count: int | None = feed(self._fed, want[0])
                else:
                    count = stream.read(want if len(want) <= _PARTS_MOST else want[:_PARTS_MOST])
                if count is None:
                    if self._presence.abandoned or (self._leave_ends and self._presence.left and not self._partial):
                        raise self._ended()
                    return None
                if count == 0:
                    raise self._ended()
                self._partial = True
                _advance(want, count)
                if want and self._sizes is None and self._head[0] != MARK:
                    came = bytes(self._head[: HEADER.size - len(want[0])])
                    self._fault = RecordCorrupt(
                        f"what came through {self._where} is no message: it begins with {came!r}"
                    )
                    raise self._again(self._fault)
            try:
                incoming = self._next_stage(into)
            except (RecordCorrupt, RecordTooLarge) as error:
                # Nobody knows where the next message begins.
                self._fault = error
                raise
            if incoming is not None:
                return incoming

    def _take_ahead(self) -> None:
        """What was read of the next message goes this way; it follows what else was read."""
        self._check_ahead()
        header = self._ahead.take()
        if header:
            self._fed.append(header)

    def _check_ahead(self) -> None:
        if self._ahead.given:
            raise ChannelError(f"{self._where} was handed on, and with it the beginning of the next message")

    def _greet_first(self) -> None:
        """Says that this process is there, if that can be said without waiting for a turn, or for room."""
        if self._send_turn.try_take():
            try:
                self._greet()
                with contextlib.suppress(Broken):
                    self._flush_step()
            finally:
                self._send_turn.give()

    def _next_stage(self, into: memoryview | None) -> Incoming | None:
        """What has been wanted is here: wants the next part, or has a message."""
        if self._in is not None:
            return self._finished()
        if self._sizes is None:
            self._sizes = open_header(self._head, self._limit, self._where)
            if self._sizes[1]:
                self._meta = bytearray(self._sizes[1])  # type: ignore[assignment]
                self._want = [memoryview(self._meta)]
                return None
        kind, _, nbytes = self._sizes
        self._in = into_buffer(kind, nbytes, into) or begin(kind, bytes(self._meta), nbytes, self._where)
        self._want = [*self._in.targets, self._tail_view]
        return None

    def _finished(self) -> Incoming | None:
        incoming, self._in = self._in, None
        self._sizes, self._meta, self._want, self._partial = None, b"", [self._head_view], False
        if self._tail == TAKEN_BACK:
            return None
        if self._tail != WHOLE:
            raise RecordCorrupt(f"a message that came through {self._where} does not end where it should")
        assert incoming is not None
        return message_of(incoming, self._presence)

    def _let_go(self) -> None:
        incoming = self._in
        if incoming is None or not incoming.direct:
            return
        # Half of a message is in the caller's buffer: it goes on in memory of its own.
        assert self._sizes is not None
        kind, _, nbytes = self._sizes
        done = nbytes - sum(view.nbytes for view in self._want[:-1])
        own = begin(kind, bytes(self._meta), nbytes, self._where)
        if done:
            own.targets[0][:done] = incoming.targets[0][:done]
        self._in = own
        self._want = [*([own.targets[0][done:]] if done < nbytes else []), self._tail_view]

    def _ended(self) -> Exception:
        if self._presence.anybody or self._partial:
            pid = self._presence.pid
            who = f"process {pid}" if pid else "the process"
            middle = " in the middle of a message" if self._partial else ""
            return PeerDied(f"{who} at the other end of {self._where} died{middle}", pid)
        return EndOfStream(f"the other end of {self._where} has closed, and all is received")

    def _again(self, fault: Exception) -> Exception:
        return type(fault)(str(fault))

    # --------------------------------------------------------------------------------------------------------- the rest

    def _after_fork(self) -> None:
        if self._left or self._partial or self._fed:
            raise ChannelError(f"{self._where} was in the middle of a message when this process was forked")
        self._greeted = False
        self._out = []

    def _close(self, linger: float) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        late = False
        try:
            if self._sends and not self._broken and self._generation == generation():
                late = not self._take_leave(stream, linger)
        finally:
            stream.close()
        if late:
            raise TimeoutError(f"{self._where}: the other end did not take the rest of a message within {linger} s")

    def _take_leave(self, stream: PipeStream | SocketStream, linger: float) -> bool:
        """Sends what is left, and a farewell; False: the rest of a message did not go."""
        important = bool(self._left)
        if self._greeted:
            self._left.append(note(FAREWELL) + WHOLE)
        self._stream = stream
        deadline = Deadline(linger)
        try:
            while not self._write(self._left):
                if not self._wait_out(deadline):
                    return not important
            stream.shut(deadline.left())
        except (Broken, OSError):
            pass  # nobody is there to take leave from
        finally:
            self._stream = None
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        if self._closed or self._stream is None:
            raise ChannelError(
                f"{self._where} is {'closed' if self._closed else 'not connected'}: it cannot be handed on"
            )
        if self._left or self._partial or self._held or self._fed:
            raise ChannelError(f"{self._where} is in the middle of a message: it cannot be handed on")
        self._check_ahead()
        options = {"sends": self._sends, "receives": self._receives, "max_message": self._limit}
        stream = self._stream.__reduce__()  # first: there may be no descriptors left
        header = self._ahead.hand_on()
        return _again, (type(self), stream, self._url, self._local, options, self._presence, header)

    def fileno(self) -> int:
        """As ``Channel``; who asks may read there, so that this end reads nothing ahead any more."""
        self._ahead.share()
        return super().fileno()


def _again(
    kind: type[StreamChannel],
    stream: tuple[Any, ...],
    url: str,
    local: bool,
    options: dict[str, Any],
    presence: Presence,
    header: bytes,
) -> StreamChannel:
    make, given = stream
    made = kind(make(*given), url, local, **options)
    made._presence = presence
    made._ahead.put_back(header)
    made._ahead.share()
    return made


def _advance(parts: list[Any], count: int) -> None:
    """Takes the first ``count`` bytes out of the list."""
    gone = 0
    for part in parts:
        size = len(part)
        if count < size:
            break
        count -= size
        gone += 1
    del parts[:gone]
    if count:
        parts[0] = memoryview(parts[0])[count:]
