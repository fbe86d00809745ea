"""Who is at the other end: what processes that use an end say of themselves, and whether they live.

A greeting names the process by its pid, the time of its start, and its pid namespace, so that neither a pid that is
used again nor one of another container is taken for it.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

__all__ = ["NOTE_SIZE", "Identity", "Presence", "lives", "myself"]

_NOTE = struct.Struct("<QQQQ")
NOTE_SIZE = _NOTE.size


class Identity(NamedTuple):
    """An end in a process, as no other has ever been on this machine."""

    pid: int
    start: int
    namespace: int
    end: int
    """Which of the process's ends, where several of them can send to the same receiver."""


def _state(pid: int | str) -> tuple[bytes, int]:
    """A process's state, and when it started, in ticks since the machine did; (b"X", 0): there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return b"X", 0
    return fields[0], int(fields[19])


def _namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


_known: dict[int, tuple[int, int, int]] = {}


def myself(end: int = 0) -> bytes:
    """What this process says of itself, and of its end of that number."""
    pid = os.getpid()
    words = _known.get(pid)
    if words is None:
        _known.clear()
        words = _known[pid] = (pid, _state("self")[1], _namespace())
    return _NOTE.pack(*words, end)


class Presence:
    """Those who greeted and have not taken leave."""

    __slots__ = ("_local", "_there", "abandoned", "left", "watched")

    def __init__(self, local: bool) -> None:
        self._local = local
        self._there: dict[Identity, None] = {}
        self.left = False
        """Somebody took leave, and nobody has greeted since."""
        self.abandoned = False
        """All who are there have died."""
        self.watched = False
        """Somebody is there, and this process can tell if those who are live."""

    def come(self, words: bytes | bytearray) -> None:
        """A greeting came."""
        self._there[Identity(*_NOTE.unpack(words))] = None
        self.left = self.abandoned = False
        self._look()

    def leave(self, words: bytes | bytearray) -> None:
        """A farewell came."""
        self._there.pop(Identity(*_NOTE.unpack(words)), None)
        self.left = not self._there
        self._look()

    def _look(self) -> None:
        # A pid means something in its namespace only.
        there = self._there
        self.watched = self._local and bool(there) and {who.namespace for who in there} == {_namespace()}

    @property
    def anybody(self) -> bool:
        """Whether there is somebody."""
        return bool(self._there)

    @property
    def pid(self) -> int:
        """The pid of one of them; 0: there is nobody."""
        return next((who.pid for who in self._there), 0)

    def died(self) -> int:
        """The pid of one of them who is known to be dead; 0: none is."""
        if not self.watched:
            return 0
        return next((who.pid for who in self._there if _dead(who)), 0)

    def check(self) -> bool:
        """Whether all of them are dead."""
        self.abandoned = self.watched and all(_dead(who) for who in self._there)
        return self.abandoned

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (self._local, list(self._there), self.left)


def _again(local: bool, there: list[Identity], left: bool) -> Presence:
    made = Presence(local)
    made._there = dict.fromkeys(there)
    made.left = left
    made._look()
    return made


def lives(pid: int) -> bool:
    """Whether a process has this number now; not whether it is the one that was meant."""
    return _state(pid)[0] not in (b"Z", b"X")


def _dead(who: Identity) -> bool:
    state, start = _state(who.pid)
    return state in (b"Z", b"X") or start != who.start
