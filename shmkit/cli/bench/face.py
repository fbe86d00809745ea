"""What every contender looks like to the loops in ``patterns``.

A contender makes one-way channels.  A channel is made before the fork; one child takes its sender, the other its
receiver.  A sender or receiver has only the methods of the patterns that its contender names:

===============  ==================================  ========================================================
kind of pattern  sender                              receiver
===============  ==================================  ========================================================
``one by one``   ``send(bytes)``                     ``recv() -> bytes``
``round trip``   the same: ``recv`` waits as the library waits by default
``sleeps``       the same: ``recv`` gives the CPU away after a while
``objects``      ``send(object)``                    ``recv() -> object``
``crowd``        the same, by several processes each
``polled``       ``send(bytes)``                     ``try_recv() -> bytes | None``
``lists``        ``send_many(list[bytes])``          ``recv_many(most) -> list[bytes]``
``blocks``       ``send_block(uint8 array)``         ``recv_block(uint8 array) -> messages``
``frames``       ``send_array(float64 array)``       ``arrays(count)`` yields them, each valid until the next
``frame trips``  the same, both ways
``tasks``        ``runs(work, arguments)``           none
``in place``     ``slots(count)`` yields arrays      ``arrays(count)``
``cycles``       ``cycles(count)``                   none
``attaches``     ``cycles(count)``                   none
``lock``         ``lock``                            none
``contended``    ``lock``, ``words``                 the same
``signals``      ``send(b"")``                       ``recv() -> b""``
``asks``         ``ask() -> bool``                   none
===============  ==================================  ========================================================

All of them wait as long as it takes.  ``arrays`` and ``slots`` are generators so that each library is used as its
own documentation does it (a ``with`` block, a ``release`` call, nothing) and the loop around them is the same.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Channel", "Contender", "Job", "Link"]


class Job(NamedTuple):
    """The size of things: bytes of a message, and of the buffer between the two processes."""

    size: int
    capacity: int = 1 << 20

    @property
    def slots(self) -> int:
        """How many messages fit, if each takes a little more than its size: the same for every ring of slots."""
        return max(2, self.capacity // (self.size + (64 if self.size >= 1024 else 8)))


class Channel:
    """One way from one process to another."""

    # Messages after which every page that will ever be used has been touched.
    warm = 1

    def sender(self) -> Any:
        raise NotImplementedError

    def receiver(self) -> Any:
        raise NotImplementedError

    def native(self, pattern: Any, role: int, back: Channel | None) -> Callable[[int], Any] | None:
        """A limit in C brings the whole loop: called with a count, it returns what the pattern's loop would."""
        return None

    def forked(self) -> None:
        """Called in a process that was forked from one that had the sender already."""

    def flush(self) -> None:
        """Called in a process that only sends, before it ends: returns when what it sent is on its way."""

    def leave(self) -> None:
        """Called in a child, on what ``sender`` or ``receiver`` returned, when its work is done."""

    def close(self) -> None:
        """Called in the parent when both children have gone."""


class Contender:
    """One way to do it.  ``family`` is shmkit, limit, stdlib, kernel or peer."""

    name = ""
    family = "peer"
    kinds: frozenset[str] = frozenset()
    # The largest message that it takes.
    largest = 1 << 40
    # Whether the bytes of a message are moved at all.
    copies = True
    # The module without which it cannot run, and what pip calls that.
    module: str | None = None
    package: str | None = None

    def supports(self, pattern: Any, job: Job) -> bool:
        return pattern.kind in self.kinds and job.size <= self.largest

    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        if self.module is None:
            return None
        try:
            importlib.import_module(self.module)
        except ImportError as error:
            return f"{self.name} is not installed: {error}"
        return None

    def channel(self, job: Job, pattern: Any) -> Channel:
        raise NotImplementedError

    def link(self, job: Job, pattern: Any) -> Link:
        forth = self.channel(job, pattern)
        try:
            return Link(job, forth, self.channel(job, pattern) if pattern.both_ways else None)
        except BaseException:
            forth.close()
            raise


class Link:
    """The channels of one cell: forth from role 0 to role 1, and back where the pattern wants it."""

    def __init__(self, job: Job, forth: Channel, back: Channel | None) -> None:
        self.job = job
        self.forth = forth
        self.back = back
        self.warm = forth.warm

    def close(self) -> None:
        self.forth.close()
        if self.back is not None:
            self.back.close()
