"""Small messages over byte streams, with one call of C each way; what is not small and plain goes the longer way.

Nothing is read ahead here either: a header, and then just what it says.
"""

from __future__ import annotations

import pickle
from signal import SIG_IGN, SIGPIPE, getsignal
from typing import Any

from shmkit._small import PIPE, recv_small, send_small
from shmkit.channel.base import Channel, generation
from shmkit.channel.frame import WHOLE
from shmkit.waiting import Deadline

__all__ = ["QuickChannel", "feed"]

# So long a small message is waited for before one looks at more than the descriptor.
_QUICK, _QUICK_MS = 0.05, 50


class QuickChannel(Channel):
    """What a StreamChannel does first."""

    _stream: Any
    _greeted: bool
    _partial: bool
    _begun: bool
    _fault: Exception | None
    _left: list[Any]
    _out: list[Any]
    # What was read of a message that turned out not to be small.
    _fed: list[bytes]

    def send(self, value: Any, timeout: float | None = None) -> None:
        stream = self._stream
        if (
            stream is None
            or not self._greeted
            or self._left
            or self._closed
            or self._generation != generation()
            or not (timeout is None or (type(timeout) is float and timeout == timeout))
            or (stream.quick == PIPE and getsignal(SIGPIPE) != SIG_IGN)
            or not self._send_turn.try_take()
        ):
            super().send(value, timeout)
            return
        try:
            sent = None if self._left or self._closed else send_small(stream.sending, stream.quick, value, self._limit)
            if type(sent) is bytes:
                sent = self._send_rest(sent, timeout)
        finally:
            self._send_turn.give()
        if sent is None:
            super().send(value, timeout)
        else:
            self._sent += 1
            self._bytes_sent += sent  # type: ignore[operator]

    def _send_rest(self, rest: bytes, timeout: float | None) -> int:
        """Of a frame that has begun to go."""
        deadline = Deadline(timeout)
        self._out, self._begun = [rest], True
        try:
            while not self._send_step():
                self._send_waits += 1
                if not self._wait_out(deadline):
                    raise TimeoutError(f"{self._where}: no room for a small message within {timeout} s")
        except BaseException:
            self._give_up(False)
            raise
        return len(rest) - len(WHOLE)

    def _rests(self) -> bool:
        """Whether this end is between two messages: asked again when it is this thread's turn."""
        return not (self._partial or self._held or self._fed or self._closed)

    def recv(self, timeout: float | None = None) -> Any:
        stream = self._stream
        if (
            stream is None
            or not stream.quick
            or not self._rests()
            or (self._sends and not self._greeted)
            or not self._receives
            or self._fault is not None
            or self._generation != generation()
            or not (timeout is None or (type(timeout) is float and timeout == timeout))
            or not self._recv_turn.try_take()
        ):
            return super().recv(timeout)
        deadline = None if timeout is None else Deadline(timeout)
        try:
            found: Any = NotImplemented
            if self._rests():
                wait = _QUICK_MS if timeout is None or timeout >= _QUICK else int(max(0.0, timeout) * 1000)
                found = recv_small(stream.receiving, stream.quick, self._waker_fd(), wait, self._limit, self._fed)
        finally:
            self._recv_turn.give()
        if found is NotImplemented:
            return self._recv(timeout, True, None, deadline).finish()  # type: ignore[union-attr]
        self._received += 1
        if type(found) is tuple:
            self._bytes_received += len(found[0])
            return pickle.loads(found[0])
        self._bytes_received += _size_of(found)
        return found


def feed(fed: list[bytes], into: memoryview) -> int:
    """Takes what was read before."""
    count = min(len(fed[0]), len(into))
    into[:count] = fed[0][:count]
    if count == len(fed[0]):
        del fed[0]
    else:
        fed[0] = fed[0][count:]
    return count


def _size_of(value: Any) -> int:
    """The bytes of a plain value's payload."""
    kind = type(value)
    if kind is bytes:
        return len(value)
    if kind is int:
        return int(value.bit_length()) // 8 + 1
    if kind is str:
        return len(value) if value.isascii() else len(value.encode())
    return 8 if kind is float else 0 if value is None else 1
