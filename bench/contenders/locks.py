"""Locks, semaphores, events and conditions: shmkit's, the standard library's, posix_ipc's, and a bare word."""

from __future__ import annotations

import mmap
import multiprocessing
import os
from collections.abc import Callable
from typing import Any

from limits import compiled
from shmkit.cli.bench.face import Channel, Contender, Job

_context = multiprocessing.get_context("fork")


def _shmkit(name: str) -> Callable[[], Any]:
    def make() -> Any:
        import shmkit

        return getattr(shmkit, name)()

    return make


def _posix() -> Any:
    import posix_ipc

    semaphore = posix_ipc.Semaphore(None, posix_ipc.O_CREX, initial_value=1)
    semaphore.unlink()
    return semaphore


class _Contest(Channel):
    """A lock, and words in which its users count what they do."""

    READY, CHECKS, PAIRS, CHECK = 0, 8, 16, 24
    most = 8

    def __init__(self, lock: Any, most: int) -> None:
        self.lock = lock
        self.most = most
        self.memory = mmap.mmap(-1, mmap.PAGESIZE)
        self.words = memoryview(self.memory).cast("Q")

    def workers(self, wanted: int) -> int:
        return min(wanted, self.most)

    def sender(self) -> Any:
        return self

    receiver = sender

    def leave(self) -> None:
        pass


class Lock(Contender):
    """Any lock that can be made before a fork."""

    kinds = frozenset({"lock", "contended"})

    def __init__(self, name: str, family: str, make: Callable[[], Any], *, most: int = 8, kinds: Any = None) -> None:
        self.name, self.family, self.make, self.most = name, family, make, most
        if kinds is not None:
            self.kinds = frozenset(kinds)

    def missing(self) -> str | None:
        try:
            self.make()
        except (ImportError, AttributeError) as error:
            return f"{self.name} cannot be had: {error}"
        return None

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Contest(self.make(), self.most)


class _Signal(Channel):
    """One way: whoever sends puts a semaphore or an event up, or notifies."""

    def __init__(self, send: Callable[[], Any], wait: Callable[[], Any]) -> None:
        self._send, self._wait = send, wait

    def sender(self) -> Any:
        return self

    receiver = sender

    def send(self, message: bytes) -> None:
        self._send()

    def recv(self) -> bytes:
        self._wait()
        return b""

    def leave(self) -> None:
        pass


def _by_semaphore(semaphore: Any) -> _Signal:
    semaphore.acquire()  # made with one permit
    return _Signal(semaphore.release, semaphore.acquire)


def _by_event(event: Any) -> _Signal:
    def wait() -> None:
        event.wait()
        event.clear()

    return _Signal(event.set, wait)


def _by_condition(condition: Any) -> _Signal:
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    words = memoryview(memory).cast("Q")  # words[0]: signals given; words[1]: signals seen

    def send() -> None:
        with condition:
            words[0] += 1
            condition.notify()

    def wait() -> None:
        with condition:
            while words[0] == words[1]:
                condition.wait()
            words[1] += 1

    return _Signal(send, wait)


class Signal(Contender):
    """A semaphore, an event or a condition between two processes."""

    def __init__(
        self, name: str, family: str, make: Callable[[], Any], use: Callable[[Any], _Signal], *, both_ways: bool = False
    ) -> None:
        self.name, self.family, self.make, self.use = name, family, make, use
        self.kinds = frozenset({"signals", "signals to and fro"} if both_ways else {"signals"})

    def missing(self) -> str | None:
        try:
            self.make()
        except (ImportError, AttributeError) as error:
            return f"{self.name} cannot be had: {error}"
        return None

    def channel(self, job: Job, pattern: Any) -> Channel:
        return self.use(self.make())


class _Asked(Channel):
    def __init__(self, ask: Callable[[], bool]) -> None:
        self.ask = ask

    def sender(self) -> Any:
        return self

    receiver = sender

    def leave(self) -> None:
        pass


class AskMember(Contender):
    """The lease of the process that made the segment, asked for by one that inherited it."""

    name = "shmkit, a lease"
    family = "shmkit"
    kinds = frozenset({"asks"})

    def channel(self, job: Job, pattern: Any) -> Channel:
        import shmkit
        from shmkit._membership import member

        lock = shmkit.Lock()
        owner = member(lock.segment.mapping).id
        mine: list[Any] = []

        def ask() -> bool:
            if not mine:
                lock.acquire(False)  # this process becomes a member of its own
                mine.append(member(lock.segment.mapping))
            return not mine[0].died(owner)

        return _Asked(ask)


class AskKill(Contender):
    """``kill(pid, 0)``, which a reused pid fools."""

    name = "os.kill(pid, 0)"
    family = "stdlib"
    kinds = frozenset({"asks"})

    def channel(self, job: Job, pattern: Any) -> Channel:
        pid, kill = os.getpid(), os.kill

        def ask() -> bool:
            kill(pid, 0)
            return True

        return _Asked(ask)


def _bare() -> Any:
    return compiled.BareLock(mmap.mmap(-1, mmap.PAGESIZE))


LOCKS: list[Contender] = [
    Lock("shmkit.Lock", "shmkit", _shmkit("Lock")),
    Lock("mp.Lock", "stdlib", _context.Lock),
    Lock("LIMIT bare Cython lock", "limit", _bare),
    Lock("shmkit.RLock", "shmkit", _shmkit("RLock"), kinds={"lock"}),
    Lock("mp.RLock", "stdlib", _context.RLock, kinds={"lock"}),
    Lock("shmkit.Semaphore", "shmkit", _shmkit("Semaphore")),
    Lock("mp.Semaphore", "stdlib", _context.Semaphore),
    Lock("posix_ipc.Semaphore", "peer", _posix),
    Lock("shmkit.Lock, two of them", "shmkit", _shmkit("Lock"), most=2, kinds={"contended"}),
]
SIGNALS: list[Contender] = [
    Signal("shmkit.Semaphore", "shmkit", _shmkit("Semaphore"), _by_semaphore, both_ways=True),
    Signal("mp.Semaphore", "stdlib", _context.Semaphore, _by_semaphore, both_ways=True),
    Signal("posix_ipc.Semaphore", "peer", _posix, _by_semaphore, both_ways=True),
    Signal("shmkit.Event", "shmkit", _shmkit("Event"), _by_event),
    Signal("mp.Event", "stdlib", _context.Event, _by_event),
    Signal("shmkit.Condition", "shmkit", _shmkit("Condition"), _by_condition),
    Signal("mp.Condition", "stdlib", _context.Condition, _by_condition),
]
ASKING: list[Contender] = [AskMember(), AskKill()]
