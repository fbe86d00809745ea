"""``multiprocessing.synchronize`` with shmkit's primitives: no system call unless one waits, no wait for the dead.

A lock whose holder was killed goes to the next who asks, where the standard library's stays locked for ever.  The
classes are subclasses of the standard library's; what those do with what is beneath them (``_semlock``) they do here.
"""

from __future__ import annotations

import multiprocessing.synchronize as _theirs
import threading
from collections.abc import Callable
from multiprocessing import util
from typing import Any

from shmkit._barrier import Barrier as _Barrier
from shmkit._condition import Condition as _Condition
from shmkit._event import Event as _Event
from shmkit.multiprocessing._beneath import BoundedBeneath, LockBeneath, RLockBeneath, SemaphoreBeneath
from shmkit.multiprocessing._same import attributes_of
from shmkit.multiprocessing._spawning import check_spawning, is_for_forks

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

__getattr__, __dir__ = attributes_of(_theirs)


class _OnBeneath:
    """The standard library's lock or semaphore, on one of shmkit's."""

    _is_fork_ctx: bool
    _semlock: Any
    _make_methods: Callable[[], None]

    def _stand_on(self, semlock: Any, ctx: Any) -> None:
        self._is_fork_ctx = is_for_forks(ctx)
        self._semlock = semlock
        self._make_methods()
        util.debug("created %r", semlock)

    # Without the standard library's detour: `with` is what most programs use.

    acquire: Callable[..., bool]
    release: Callable[[], None]

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.release()

    def __getstate__(self) -> Any:
        check_spawning(self, self._is_fork_ctx)
        return self._semlock

    def __setstate__(self, semlock: Any) -> None:
        self._semlock = semlock
        self._is_fork_ctx = False
        self._make_methods()


class Lock(_OnBeneath, _theirs.Lock):
    """A lock of one holder at a time, which any thread or process may release."""

    def __init__(self, *, ctx: Any) -> None:
        self._stand_on(LockBeneath(), ctx)


class RLock(_OnBeneath, _theirs.RLock):
    """A lock that the thread which holds it may acquire again."""

    def __init__(self, *, ctx: Any) -> None:
        self._stand_on(RLockBeneath(), ctx)


class Semaphore(_OnBeneath, _theirs.Semaphore):
    """A number of permits."""

    def __init__(self, value: int = 1, *, ctx: Any) -> None:
        self._stand_on(SemaphoreBeneath(value), ctx)


class BoundedSemaphore(_OnBeneath, _theirs.BoundedSemaphore):
    """A number of permits that never grows beyond the first."""

    def __init__(self, value: int = 1, *, ctx: Any) -> None:
        self._stand_on(BoundedBeneath(value), ctx)


def _looked_at(name: str) -> Any:
    """What the standard library's own tests look at: how many sleep now."""

    def get(self: Any) -> Any:
        own = self.__dict__.get(name)
        return own if own is not None else _Looked(getattr(self._ours, name).get_value())

    def put(self: Any, value: Any) -> None:
        self.__dict__[name] = value

    return property(get, put)


class Condition(_theirs.Condition):
    """Waiting, under a lock, until somebody says what changed.

    With a lock that is not the drop-in's (the standard library's, say, made before ``shmkit.install()``) it is the
    standard library's condition, on semaphores of ours.
    """

    _ours: _Condition | None
    acquire: Callable[..., bool]
    release: Callable[[], None]
    _make_methods: Callable[[], None]
    _sleeping_count = _looked_at("_sleeping_count")
    _woken_count = _looked_at("_woken_count")
    _wait_semaphore = _looked_at("_wait_semaphore")

    def __init__(self, lock: Any = None, *, ctx: Any) -> None:
        self._lock: Any = lock or ctx.RLock()
        self._is_fork_ctx = is_for_forks(ctx)
        if isinstance(getattr(self._lock, "_semlock", None), LockBeneath):
            self._stand_on(_Condition(self._lock._semlock))
        else:
            self._ours = None
            self._sleeping_count = ctx.Semaphore(0)
            self._woken_count = ctx.Semaphore(0)
            self._wait_semaphore = ctx.Semaphore(0)
            self._make_methods()

    def _stand_on(self, ours: _Condition) -> None:
        self._ours = ours
        self._make_methods()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.release()

    def __getstate__(self) -> Any:
        if self._ours is None:
            theirs: Any = _theirs.Condition
            return (None, theirs.__getstate__(self))
        check_spawning(self, self._is_fork_ctx)
        return (self._ours, self._lock)

    def __setstate__(self, state: Any) -> None:
        ours, rest = state
        self._is_fork_ctx = False
        if ours is None:
            self._ours = None
            _theirs.Condition.__setstate__(self, rest)  # type: ignore[attr-defined]
        else:
            self._lock = rest
            self._stand_on(ours)

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait to be notified, and acquire it again; False if that took `timeout` seconds."""
        return super().wait(timeout) if self._ours is None else self._ours.wait(timeout)

    def notify(self, n: int = 1) -> None:
        """Wake `n` of those who wait."""
        if self._ours is None:
            super().notify(n)
        else:
            self._ours.notify(n)


class _Looked:
    """A number that looks like a semaphore's value."""

    def __init__(self, value: int) -> None:
        self._semlock = self
        self.value = value

    def get_value(self) -> int:
        return self.value

    _get_value = get_value


def _same_again(one: Any) -> Any:
    """What `copy.copy` makes of the standard library's: another object, for the same."""
    made: Any = one.__class__.__new__(one.__class__)
    made.__dict__.update(one.__dict__)
    if isinstance(one, Event):
        made._take(one._ours)
    return made


class Event(_theirs.Event):
    """A flag that processes and threads wait for."""

    def __init__(self, *, ctx: Any) -> None:
        self._is_fork_ctx = is_for_forks(ctx)
        self._take(_Event())

    def _take(self, ours: _Event) -> None:
        self._ours = ours
        # Without a step in between, where a derived class has no words of its own for it.
        for name, own in _OF_EVENT.items():
            if getattr(type(self), name) is own:
                self.__dict__[name] = getattr(ours, name)

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._ours.is_set()

    def set(self) -> None:
        """Set it, and wake all who wait."""
        self._ours.set()

    def clear(self) -> None:
        """Have whoever comes wait again."""
        self._ours.clear()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; False if that took `timeout` seconds."""
        return self._ours.wait(timeout)

    def __copy__(self) -> Any:
        return _same_again(self)

    def __getstate__(self) -> Any:
        check_spawning(self, self._is_fork_ctx)
        # With what a derived class has beside it, as of the standard library's classes this one's goes along.
        return self._ours, {name: v for name, v in self.__dict__.items() if name not in _INSIDE_EVENT} or None

    def __setstate__(self, state: tuple[_Event, dict[str, Any] | None]) -> None:
        ours, beside = state
        self._is_fork_ctx = False
        if beside:
            self.__dict__.update(beside)
        self._take(ours)

    def __repr__(self) -> str:
        if _theirs.Event.__repr__ is object.__repr__:  # Python 3.10
            return object.__repr__(self)
        return f"<{type(self).__qualname__} at {id(self):#x} {'set' if self.is_set() else 'unset'}>"


_OF_EVENT = {name: getattr(Event, name) for name in ("is_set", "set", "clear", "wait")}
_INSIDE_EVENT = {"_is_fork_ctx", "_ours", *_OF_EVENT}


PARTIES_MOST = 4096


class Barrier(_theirs.Barrier):
    """A point that nobody passes until all have come.  It breaks when one of those who came is killed."""

    def __init__(
        self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None, *, ctx: Any
    ) -> None:
        self._is_fork_ctx = is_for_forks(ctx)
        self._parties = parties
        if parties < 1:
            # Where the standard library makes one, as before Python 3.14, nobody ever passes it.
            threading.Barrier(parties)
        self._ours = _Barrier(parties if parties >= 1 else PARTIES_MOST, action, timeout)

    def __copy__(self) -> Any:
        return _same_again(self)

    def __getstate__(self) -> Any:
        check_spawning(self, self._is_fork_ctx)
        return self._ours, self._parties

    def __setstate__(self, state: Any) -> None:
        self._is_fork_ctx = False
        self._ours, self._parties = state

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the others; a number from 0 to parties - 1, another one for each."""
        return self._ours.wait(timeout)

    def reset(self) -> None:
        """Back to the beginning; whoever waits gets BrokenBarrierError."""
        self._ours.reset()

    def abort(self) -> None:
        """Break it: whoever waits, or will, gets BrokenBarrierError."""
        self._ours.abort()

    @property
    def parties(self) -> int:
        """How many have to come."""
        return self._parties

    @property
    def n_waiting(self) -> int:
        """How many wait now."""
        return self._ours.n_waiting

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        return self._ours.broken

    def __repr__(self) -> str:
        if threading.Barrier.__repr__ is object.__repr__:  # Python 3.10
            return object.__repr__(self)
        state = "broken" if self.broken else f"waiters={self.n_waiting}/{self.parties}"
        return f"<{type(self).__module__}.{type(self).__qualname__} at {id(self):#x}: {state}>"


assert issubclass(Barrier, threading.Barrier)
