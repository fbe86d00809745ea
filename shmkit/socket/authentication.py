"""Proof that both sides of a connection know the same key, before anything else is read from either.

Challenge and response as in `multiprocessing.connection`, with SHA-256 on every version of Python, and in one exchange
for both directions: each side sends a nonce, and answers the other's with an HMAC over who answers and both nonces.  So
neither side's answer can be played back to it, nor a recorded one used again.  All messages have a fixed size; nothing
is unpickled.  The key is never sent; what follows is neither encrypted nor signed.

::

    listener → connector     MAGIC, nonce L (32)
    connector → listener     MAGIC, nonce C (32), HMAC(key, "connector" L C)
    listener → connector     HMAC(key, "listener" L C)
"""

from __future__ import annotations

import hashlib
import hmac
import os
import select
import socket
from typing import TYPE_CHECKING, Literal

from shmkit.errors import Refused
from shmkit.waiting import Deadline, wait_for

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["HANDSHAKE_SECONDS", "KEY_LEAST", "MAGIC", "Handshake", "authenticate"]

MAGIC = b"shmkit\x00\x01"
NONCE = 32
DIGEST = 32
# Shorter keys can be tried out, from one recorded exchange.
KEY_LEAST = 8
# How long a connection may take to prove itself.
HANDSHAKE_SECONDS = 10.0

Side = Literal["listener", "connector"]

_BOTH = "both are given the same one, as key=…, unless one program has started the other"


class Handshake:
    """One side of the exchange on a connected stream socket, step by step.

    ``step()`` goes as far as it can without waiting and says whether the other side has proved itself;
    ``wants_to_write`` says what it waits for.  Refused: it did not.
    """

    def __init__(self, sock: socket.socket, key: Buffer, side: Side) -> None:
        self._sock = sock
        self._key = bytes(memoryview(key))
        if len(self._key) < KEY_LEAST:
            raise ValueError(f"a key has at least {KEY_LEAST} bytes: got {len(self._key)}")
        if side not in ("listener", "connector"):
            raise ValueError(f"side is 'listener' or 'connector': got {side!r}")
        self._side = side
        self._nonce = os.urandom(NONCE)
        self._other = b""
        self._incoming = b""
        self._outgoing = MAGIC + self._nonce if side == "listener" else b""
        self._missing = len(MAGIC) + NONCE + (DIGEST if side == "listener" else 0)
        self._answered = False
        self.done = False

    @property
    def wants_to_write(self) -> bool:
        """Whether it waits for room to write, rather than for something to read."""
        return bool(self._outgoing)

    def _digest(self, side: Side) -> bytes:
        nonces = (self._nonce, self._other) if self._side == "listener" else (self._other, self._nonce)
        return hmac.new(self._key, side.encode() + nonces[0] + nonces[1], hashlib.sha256).digest()

    def step(self) -> bool:
        """Go on without waiting; True: the other side has proved itself, and this one has sent its own proof."""
        while not self.done:
            try:
                if self._outgoing:
                    self._outgoing = self._outgoing[self._sock.send(self._outgoing, _FLAGS) :]
                    continue
                if not self._missing:
                    self.done = True
                    break
                data = self._sock.recv(self._missing, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except ConnectionError as error:
                raise Refused(f"the other side left while it was asked for its key: {error}") from None
            if not data:
                raise Refused(
                    f"the other side left while it was asked for its key: it may have refused this one's ({_BOTH})"
                )
            self._incoming += data
            self._missing -= len(data)
            self._check()
        return True

    def _check(self) -> None:
        # What cannot become right is refused at its first byte: a stranger need not say all it has to say.
        if not self._other:
            if not MAGIC.startswith(self._incoming[: len(MAGIC)]):
                raise Refused("the other side is no shmkit channel: it did not begin as one")
            if len(self._incoming) < len(MAGIC) + NONCE:
                return
            self._other = self._incoming[len(MAGIC) : len(MAGIC) + NONCE]
            if self._side == "connector":
                self._incoming = b""
                self._outgoing = MAGIC + self._nonce + self._digest("connector")
                self._missing = DIGEST
                return
        if self._missing:
            return
        theirs: Side = "connector" if self._side == "listener" else "listener"
        if not hmac.compare_digest(self._incoming[-DIGEST:], self._digest(theirs)):
            raise Refused(f"the other side does not know the key ({_BOTH})")
        if self._side == "listener":
            self._outgoing = self._digest("listener")


_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


def authenticate(sock: socket.socket, key: Buffer, side: Side, timeout: float | None = HANDSHAKE_SECONDS) -> None:
    """Has both sides of a connected stream prove that they know ``key``: one as "listener", the other as "connector".

    Refused: the other side does not, is something else, or has left.  TimeoutError: it says nothing.
    """
    deadline = Deadline(timeout)
    handshake = Handshake(sock, key, side)
    while not handshake.step():
        if not wait_for(sock.fileno(), select.POLLOUT if handshake.wants_to_write else select.POLLIN, deadline):
            raise TimeoutError(f"the other side did not prove that it knows the key within {timeout} s")
