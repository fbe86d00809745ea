"""An alarm for one thread: a time-out for system calls that have none, such as ``msgrcv`` and ``flock``.

A timer of the kernel sends the waiting thread a signal whose handler does nothing, so that the call returns with EINTR.
The thread sleeps in the kernel until then, and wakes as fast as the kernel wakes it; it polls nothing and needs no
helper.  The timer rings again every few milliseconds until it is cleared, since the first signal may come between the
setting and the call.

The signal is SIGURG where the program has no handler of its own for it, as it is ignored by default: should the program
reset all handlers, nothing dies of it.  Otherwise it is the last real-time signal that nobody handles.  Its handler is
a function of the C library without effects, since a handler written in Python would only run after the call.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from shmkit.waiting import Deadline

__all__ = ["Alarm", "blocking", "thread_alarm"]

T = TypeVar("T")

# A signal handler in Python runs when the call has returned: one that came just before the call began waits this long.
SLICE = 1.0
REPEAT = 0.005
# Without a timer (too many signals are pending, for which the kernel counts timers too) one tries again and again.
TRY_FIRST, TRY_MOST = 0.0001, 0.02

_SIGEV_THREAD_ID = 4
_SIG_UNBLOCK, _SIG_SETMASK = int(signal.SIG_UNBLOCK), int(signal.SIG_SETMASK)


class _SigEvent(ctypes.Structure):
    """struct sigevent; the kernel's is 64 bytes long."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("thread", ctypes.c_int),
        ("rest", ctypes.c_int * 11),
    )


class _SigAction(ctypes.Structure):
    """struct sigaction, as glibc and musl have it on 64-bit machines."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class _ITimerSpec(ctypes.Structure):
    """struct itimerspec."""

    _fields_ = (
        ("interval", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


_SigSet = ctypes.c_ulong * 16
_libc = ctypes.CDLL(None, use_errno=True)
# Before glibc 2.34 timers were in a library of their own.
_librt = _libc if hasattr(_libc, "timer_create") else ctypes.CDLL("librt.so.1", use_errno=True)
_timer_create, _timer_settime, _timer_delete = _librt.timer_create, _librt.timer_settime, _librt.timer_delete
_timer_create.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_timer_settime.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_timer_delete.argtypes = (ctypes.c_void_p,)
_sigaction, _sigmask = _libc.sigaction, _libc.pthread_sigmask
_sigaction.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_sigmask.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
# void (*)(int) that may be called from anywhere, and does nothing: abs computes what nobody reads.
_NOTHING = ctypes.cast(_libc.abs, ctypes.c_void_p).value

_local = threading.local()


def _handler_of(number: int) -> int | None:
    """The address of the handler; None: the default."""
    present = _SigAction()
    _sigaction(number, None, ctypes.addressof(present))
    handler: int | None = present.handler
    return handler


def _choose() -> int:
    """The signal that alarms use, its handler installed; 0 where no signal is free."""
    for number in (int(signal.SIGURG), *range(signal.SIGRTMAX - 1, signal.SIGRTMIN, -1)):
        if _handler_of(number) in (None, _NOTHING):
            # Without SA_RESTART: flock would go on waiting.
            ours = _SigAction(_NOTHING)
            _sigaction(number, ctypes.addressof(ours), None)
            return int(number)
    return 0


class Alarm:
    """The alarm of the thread that made it."""

    __slots__ = (
        "_action",
        "_at_action",
        "_at_mask",
        "_at_only",
        "_at_spec",
        "_blocked",
        "_mask",
        "_number",
        "_only",
        "_spec",
        "_timer",
        "_where",
        "depth",
    )

    def __init__(self) -> None:
        self._timer: int | None = None
        self._number = 0
        self._blocked = False
        self.depth = 0
        self._where = os.getpid(), threading.get_native_id()
        self._action = _SigAction()
        self._spec = _ITimerSpec(0, int(REPEAT * 1e9), 0, 0)
        self._mask, self._only = _SigSet(), _SigSet()
        # Where they are in memory: a call that is handed numbers takes half the time.
        self._at_action, self._at_spec = ctypes.addressof(self._action), ctypes.addressof(self._spec)
        self._at_mask, self._at_only = ctypes.addressof(self._mask), ctypes.addressof(self._only)

    def _make(self, number: int) -> bool:
        self._drop()
        timer = ctypes.c_void_p()
        event = _SigEvent(None, number, _SIGEV_THREAD_ID, self._where[1])
        if _timer_create(time.CLOCK_MONOTONIC, ctypes.addressof(event), ctypes.addressof(timer)) != 0:
            return False
        # The first timer of a process is number 0.
        self._timer, self._number = timer.value or 0, number
        self._only[0] = 1 << (number - 1)
        return True

    def _usable(self) -> bool:
        """Whether there is a timer, whose signal has a handler that does nothing."""
        number = self._number
        if number:
            _sigaction(number, None, self._at_action)
            if self._action.handler == _NOTHING:
                return True
        number = _choose()
        return bool(number) and (number == self._number or self._make(number))

    def set(self, seconds: float) -> bool:
        """From ``seconds`` on, and again and again, interrupt the call that this thread is in; False: it cannot.

        Each call is followed by one of ``clear``, whatever it returned.
        """
        self.depth += 1
        if not self._usable():
            return False
        if self.depth == 1:
            _sigmask(_SIG_UNBLOCK, self._at_only, self._at_mask)
            self._blocked = bool(self._mask[0] & self._only[0])
        return self._ring_in(seconds)

    def clear(self) -> None:
        """Interrupt nothing any more."""
        self.depth -= 1
        if self.depth > 0:
            # A handler of a signal waited, while what it interrupted was about to: that one looks again.
            self._ring_in(REPEAT)
        elif self._timer is not None:
            self._ring_in(0.0)
            if self._blocked:
                self._blocked = False
                _sigmask(_SIG_SETMASK, self._at_mask, None)

    def _ring_in(self, seconds: float) -> bool:
        spec = self._spec
        whole = int(seconds)
        spec.value = whole
        spec.value_ns = int((seconds - whole) * 1e9)
        return bool(_timer_settime(self._timer, 0, self._at_spec, None) == 0)

    def _drop(self, getpid: Callable[[], int] = os.getpid, delete: Callable[[int], int] = _timer_delete) -> None:
        timer, self._timer, self._number = self._timer, None, 0
        # A forked child has its parent's numbers of timers, but none of the timers.
        if timer is not None and self._where[0] == getpid():
            delete(timer)

    def __del__(self) -> None:
        self._drop()


def thread_alarm() -> Alarm:
    """This thread's alarm."""
    alarm: Alarm | None = getattr(_local, "alarm", None)
    if alarm is None:
        alarm = _local.alarm = Alarm()
    return alarm


def _forget() -> None:
    """A forked child has no timers."""
    _local.__dict__.clear()


os.register_at_fork(after_in_child=_forget)


def blocking(call: Callable[[bool], T | None], deadline: Deadline) -> T | None:
    """What ``call(True)`` gives, which waits in the kernel; None if the time is up.

    ``call`` returns None where it was interrupted (EINTR); ``call(False)``, which does not wait, if there is nothing.
    Handlers of signals run in between, and what they raise is raised.
    """
    if deadline.end == math.inf:
        while True:
            result = call(True)
            if result is not None:
                return result
    alarm = thread_alarm()
    pause = TRY_FIRST
    while True:
        left = deadline.left()
        if left <= 0:
            return call(False)
        # 0 would be no alarm at all.
        seconds = max(min(left, SLICE), 1e-6)
        depth = alarm.depth
        rings = False
        try:
            rings = alarm.set(seconds)
            result = call(rings)
        finally:
            if alarm.depth > depth:
                alarm.clear()
        if result is not None:
            return result
        if not rings:
            time.sleep(min(pause, left))
            pause = min(2 * pause, TRY_MOST)
