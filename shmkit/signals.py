"""Signals between processes: sent to the process that was meant, with a value, and collected where they are wanted.

::

    with collecting(signal.SIGTERM, signal.SIGRTMIN) as signals:
        for came in signals:  # no handler runs, and nothing is interrupted
            if came.number == signal.SIGTERM:
                break
            print(came.value, "from process", came.pid)

A signal is no message: of those below SIGRTMIN one at a time waits, and others that come meanwhile are lost in it.
Those from SIGRTMIN on are queued, in the order of their numbers, up to RLIMIT_SIGPENDING.
"""

from __future__ import annotations

import ctypes
import errno
import operator
import os
import select
import signal
import struct
import threading
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from shmkit._catcher import Catcher
from shmkit._owned import Owner
from shmkit.errors import Closed
from shmkit.sizes import whole_number
from shmkit.waiting import Deadline, still_readable, still_readable_async

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ProcessHandle", "Signal", "collecting", "queue"]

_libc = ctypes.CDLL(None, use_errno=True)
_SigSet = ctypes.c_ulong * 16
_SFD_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK
# struct signalfd_siginfo, 128 bytes: number, errno, code, pid, uid, …, status, int.
_INFO = struct.Struct("=IiiII24xi80x")
_INFO_SIZE = 128
# The same on x86-64 and aarch64.
_SYS_PIDFD_GETFD = 438
# Not to be collected: the first two cannot be blocked, and the rest are what a thread did to itself.
_NOT_COLLECTED = {
    signal.SIGKILL,
    signal.SIGSTOP,
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
}
# What a thread that does not block the signal has written down: number, value, pid, uid.
_CAUGHT = struct.Struct("=iiiI")


class Signal(NamedTuple):
    """A signal that came."""

    number: int
    """Which: ``signal.SIGTERM`` and the like."""
    value: int
    """What it was queued with; 0 if it was not queued."""
    pid: int
    """Who sent it; 0: the kernel, or it is not known."""
    uid: int
    """The user who sent it."""


def _number_of(given: Any) -> int:
    found = getattr(signal, given if given.startswith("SIG") else f"SIG{given}", 0) if isinstance(given, str) else given
    try:
        number = operator.index(found) if not isinstance(found, bool) else 0
    except TypeError:
        number = 0
    if not 0 < number <= signal.SIGRTMAX or (isinstance(given, str) and not isinstance(found, signal.Signals)):
        most = int(signal.SIGRTMAX)
        raise ValueError(f"a signal is a number from 1 to {most}, or a name such as 'SIGTERM' or 'TERM': got {given!r}")
    return number


def _pid_of(given: Any) -> int:
    pid = whole_number(given, "a pid")
    if not 0 < pid < 2**31:
        raise ValueError(f"a pid is a number from 1 to 2**31 - 1: got {pid}")
    return pid


def queue(pid: int, number: int | str, value: int = 0) -> None:
    """Send a signal (its number, or its name) with a number of 32 bits (``sigqueue``); ``collecting`` receives both.

    ProcessLookupError; PermissionError; BlockingIOError: so many wait for that process's user already
    (RLIMIT_SIGPENDING); ValueError; TypeError.
    """
    value = whole_number(value, "a signal's value")
    if not -(2**31) <= value < 2**31:
        raise ValueError(f"a signal's value has 32 bits: got {value}")
    pid, number = _pid_of(pid), _number_of(number)
    word = ctypes.c_long(ctypes.c_int(value).value & 0xFFFFFFFF)
    if _libc.sigqueue(ctypes.c_int(pid), ctypes.c_int(number), word) != 0:
        code = ctypes.get_errno()
        why = ": the receiver's user has as many waiting as RLIMIT_SIGPENDING allows" if code == errno.EAGAIN else ""
        raise OSError(code, f"{os.strerror(code)}: signal {number} to process {pid}{why}")


class ProcessHandle(Owner):
    """A process, and no other that gets its pid later (a pidfd).

    ``send`` signals it, ``wait`` waits for its end, whosever child it is.  ProcessLookupError: there is none now;
    ValueError, TypeError: it is no pid.
    """

    def __init__(self, pid: int) -> None:
        self._fd = -1
        self.pid = _pid_of(pid)
        """The number it has, or had."""
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            raise ProcessLookupError(errno.ESRCH, f"there is no process {pid}") from None

    def _what(self) -> str:
        return f"the handle of process {self.pid}"

    def fileno(self) -> int:
        """A descriptor that is readable when the process has ended.  Closed."""
        return super().fileno()

    def send(self, number: int | str) -> None:
        """Send it a signal: ``signal.SIGTERM``, or "TERM".

        ProcessLookupError: it has ended, whoever has its pid now; PermissionError; ValueError: there is no such signal.
        """
        try:
            signal.pidfd_send_signal(self.fileno(), _number_of(number))
        except ProcessLookupError:
            raise ProcessLookupError(errno.ESRCH, f"process {self.pid} has ended") from None

    @property
    def alive(self) -> bool:
        """Whether it runs (a zombie does not)."""
        return not still_readable(self, Deadline(0))

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it has ended.  TimeoutError."""
        if not still_readable(self, Deadline(timeout)):
            raise TimeoutError(f"process {self.pid} did not end within {timeout} s")

    async def wait_async(self, timeout: float | None = None) -> None:
        """``wait`` for coroutines: the event loop goes on meanwhile."""
        if not await still_readable_async(self, Deadline(timeout)):
            raise TimeoutError(f"process {self.pid} did not end within {timeout} s")

    def reap(self, timeout: float | None = None) -> int:
        """Wait until a child of this process has ended, take it off the system's list, and return its exit status.

        As ``subprocess`` has it: what it said, or the negative number of the signal that ended it.  TimeoutError;
        ChildProcessError: it is no child of this process, or somebody else has reaped it.
        """
        self.wait(timeout)
        try:
            found = os.waitid(os.P_PIDFD, self.fileno(), os.WEXITED)
        except ChildProcessError:
            raise ChildProcessError(
                errno.ECHILD, f"process {self.pid} is no child of process {os.getpid()}, or was reaped before"
            ) from None
        assert found is not None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def getfd(self, fd: int) -> int:
        """A descriptor, of this process's own, of what that process has open as ``fd`` (Linux 5.6).

        PermissionError: the kernel lets only who may trace a process look into it (see ptrace_scope);
        ProcessLookupError; OSError (EBADF): it has no such descriptor.
        """
        found = _libc.syscall(
            ctypes.c_long(_SYS_PIDFD_GETFD), ctypes.c_int(self.fileno()), ctypes.c_int(fd), ctypes.c_uint(0)
        )
        if found >= 0:
            return int(found)
        code = ctypes.get_errno()
        if code == errno.EPERM:
            raise PermissionError(
                code,
                f"the kernel does not let this process look into process {self.pid}: it must be of the same user, and "
                "/proc/sys/kernel/yama/ptrace_scope, where there is one, 0 (or this process its parent, where it is 1)",
            )
        raise OSError(code, f"{os.strerror(code)}: descriptor {fd} of process {self.pid}")

    def __repr__(self) -> str:
        return f"<ProcessHandle of process {self.pid}{', closed' if self._fd < 0 else ''}>"


class collecting:  # noqa: N801 (read as a statement)
    """Within the block, these signals run no handler and end nothing: they wait until they are asked for.

    ``wait(timeout)``, ``try_wait()``, iteration (which never ends by itself), ``await wait_async()`` and ``async for``.
    Afterwards handlers and the mask are as before; what came and was not asked for is then treated as ever.

    A signal is given by its number, or by its name ("SIGTERM" or "TERM").

    Whichever thread of the process the kernel gives a signal to: what others get than the one that has entered the
    block is collected too, with its sender and value (`lost` counts what there was no room for).  Signals of the same
    number that several threads get may come in another order than they were sent in.  A forked child collects its own.
    """

    def __init__(self, *numbers: int | str) -> None:
        if not numbers:
            raise ValueError("which signals are to be collected?")
        self._numbers = {_number_of(number) for number in numbers}
        for number in sorted(self._numbers & _NOT_COLLECTED):
            raise ValueError(f"{signal.Signals(number).name} cannot be collected")
        # Readable when one of the two others is: what waits for a thread that blocks it, and what others got.
        self._fd = -1
        self._waiting = -1
        self._elsewhere: Catcher | None = None
        self._mask: Any = None

    def __enter__(self) -> Self:
        if self._fd >= 0:
            raise RuntimeError("these signals are being collected already")
        waiting = _listen(-1, self._numbers)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        elsewhere = None
        try:
            elsewhere = Catcher(self._numbers)
            self._fd = _either(waiting, elsewhere.fileno())
        except BaseException:
            if elsewhere is not None:
                elsewhere.stop()
            os.close(waiting)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            raise
        self._mask, self._waiting, self._elsewhere = before, waiting, elsewhere
        _share_out(enters=self)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._elsewhere is not None
        _share_out(leaves=self)
        fds = self._fd, self._waiting
        self._fd = self._waiting = -1
        self._elsewhere.stop()
        for fd in fds:
            os.close(fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    @property
    def lost(self) -> int:
        """How many signals came to other threads when 65,536 (for some users 4,096) were waiting there already."""
        return 0 if self._elsewhere is None else self._elsewhere.lost

    def fileno(self) -> int:
        """A descriptor that is readable when a signal has come.  Closed."""
        if self._fd < 0:
            raise Closed("signals are collected within the with block only")
        return self._fd

    def try_wait(self) -> Signal | None:
        """The next signal, if one has come; None."""
        self.fileno()
        assert self._elsewhere is not None
        try:
            return Signal(*_CAUGHT.unpack(os.read(self._elsewhere.fileno(), _CAUGHT.size)))
        except BlockingIOError:
            pass
        try:
            text = os.read(self._waiting, _INFO_SIZE)
        except BlockingIOError:
            return None
        number, _, code, pid, uid, value = _INFO.unpack(text)
        return Signal(number, value if code == _SI_QUEUE else 0, pid, uid)

    def wait(self, timeout: float | None = None) -> Signal:
        """The next signal; waits for it.  TimeoutError."""
        deadline = Deadline(timeout)
        while True:
            came = self.try_wait()
            if came is not None:
                return came
            if deadline.passed:
                raise TimeoutError(f"no signal came within {timeout} s")
            still_readable(self, deadline)

    async def wait_async(self, timeout: float | None = None) -> Signal:
        """``wait`` for coroutines: the event loop goes on meanwhile.  One at a time."""
        deadline = Deadline(timeout)
        while True:
            came = self.try_wait()
            if came is not None:
                return came
            if deadline.passed:
                raise TimeoutError(f"no signal came within {timeout} s")
            await still_readable_async(self, deadline)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Signal:
        return self.wait()

    async def __aiter__(self) -> AsyncIterator[Signal]:
        while True:
            yield await self.wait_async()

    def __repr__(self) -> str:
        names = ", ".join(sorted(_name(number) for number in self._numbers))
        return f"<collecting {names}{'' if self._fd >= 0 else ', not now'}>"


# What the kernel says of a signal that was queued with a value.
_SI_QUEUE = -1


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


# In the order in which they were entered, and what keeps that order.
_active: list[collecting] = []
_turn = threading.RLock()


def _listen(fd: int, numbers: set[int]) -> int:
    """Has a descriptor (-1: a new one) be readable when a thread that blocks one of these signals has it waiting."""
    mask = _SigSet()
    for number in numbers:
        mask[(number - 1) // 64] |= 1 << (number - 1) % 64
    made: int = _libc.signalfd(fd, mask, _SFD_FLAGS)
    if made < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"signalfd: {os.strerror(code)}")
    return made


def _share_out(enters: collecting | None = None, leaves: collecting | None = None) -> None:
    """The newest that wants a signal has it, also where it waits for a thread that blocks it; the others do not."""
    with _turn:
        if enters is not None:
            _active.append(enters)
        if leaves is not None:
            _active.remove(leaves)
        taken: set[int] = set()
        for one in reversed(_active):
            _listen(one._waiting, one._numbers - taken)
            taken |= one._numbers


def _either(one: int, other: int) -> int:
    """A descriptor that is readable when one of two is; whoever calls this closes it."""
    poller = select.epoll()
    try:
        for fd in (one, other):
            poller.register(fd, select.EPOLLIN)
        return os.dup(poller.fileno())
    finally:
        poller.close()


def _renew() -> None:
    """In a forked child: the kernel tells the parent's descriptor of what comes to the parent."""
    global _turn  # noqa: PLW0603
    _turn = threading.RLock()
    for one in _active:
        assert one._elsewhere is not None
        made = _either(one._waiting, one._elsewhere.fileno())
        os.dup2(made, one._fd, inheritable=False)
        os.close(made)


os.register_at_fork(after_in_child=_renew)
