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

import asyncio
import ctypes
import errno
import math
import os
import signal
import struct
import threading
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from shmkit._owned import Owner
from shmkit.errors import Closed
from shmkit.waiting import Deadline, readable, readable_async

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
# How long a wait goes on at a time where a thread of somebody else's may have got the signal instead.
_SLICE = 0.05


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


def _number_of(number: Any) -> int:
    found = int(number) if not isinstance(number, bool) else 0
    if not 0 < found <= signal.SIGRTMAX:
        raise ValueError(f"a signal is a number from 1 to {int(signal.SIGRTMAX)}: got {number!r}")
    return found


def queue(pid: int, number: int, value: int = 0) -> None:
    """Send a signal with a number of 32 bits (``sigqueue``); ``collecting`` receives both.

    ProcessLookupError; PermissionError; BlockingIOError: so many wait for that process's user already
    (RLIMIT_SIGPENDING); ValueError.
    """
    if not -(2**31) <= value < 2**31:
        raise ValueError(f"a signal's value has 32 bits: got {value}")
    if pid < 1:
        raise ValueError(f"a process has a pid from 1 on: got {pid}")
    word = ctypes.c_long(ctypes.c_int(value).value & 0xFFFFFFFF)
    if _libc.sigqueue(ctypes.c_int(pid), ctypes.c_int(_number_of(number)), word) != 0:
        code = ctypes.get_errno()
        why = ": the receiver's user has as many waiting as RLIMIT_SIGPENDING allows" if code == errno.EAGAIN else ""
        raise OSError(code, f"{os.strerror(code)}: signal {int(number)} to process {pid}{why}")


class ProcessHandle(Owner):
    """A process, and no other that gets its pid later (a pidfd).

    ``send`` signals it, ``wait`` waits for its end, whosever child it is.  ProcessLookupError: there is none now.
    """

    def __init__(self, pid: int) -> None:
        self._fd = -1
        self.pid = pid
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

    def send(self, number: int) -> None:
        """Send it a signal.  ProcessLookupError: it has ended, whoever has its pid now; PermissionError."""
        try:
            signal.pidfd_send_signal(self.fileno(), _number_of(number))
        except ProcessLookupError:
            raise ProcessLookupError(errno.ESRCH, f"process {self.pid} has ended") from None

    @property
    def alive(self) -> bool:
        """Whether it runs (a zombie does not)."""
        return not readable(self.fileno(), Deadline(0))

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it has ended.  TimeoutError."""
        if not readable(self.fileno(), Deadline(timeout)):
            raise TimeoutError(f"process {self.pid} did not end within {timeout} s")

    async def wait_async(self, timeout: float | None = None) -> None:
        """``wait`` for coroutines: the event loop goes on meanwhile."""
        if not await readable_async(self.fileno(), Deadline(timeout)):
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

    Threads that are started within the block do not take the signals away.  Where there are others that may, enter it
    in the main thread: what they get is collected too, without its sender and value.  RuntimeError in other threads.
    """

    def __init__(self, *numbers: int) -> None:
        if not numbers:
            raise ValueError("which signals are to be collected?")
        self._numbers = {_number_of(number) for number in numbers}
        for number in sorted(self._numbers & _NOT_COLLECTED):
            raise ValueError(f"{signal.Signals(number).name} cannot be collected")
        self._fd = -1
        self._mask: Any = None
        self._handlers: dict[int, Any] = {}
        self._elsewhere: deque[int] = deque()

    def __enter__(self) -> Self:
        if self._fd >= 0:
            raise RuntimeError("these signals are being collected already")
        others = _threads_that_take(self._numbers)
        if others and threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                f"thread {others[0]} of this process does not block these signals, and would get them: collect them in "
                "the main thread, before other threads are started"
            )
        mask = _SigSet()
        for number in self._numbers:
            mask[(number - 1) // 64] |= 1 << (number - 1) % 64
        fd = _libc.signalfd(-1, mask, _SFD_FLAGS)
        if fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"signalfd: {os.strerror(code)}")
        self._fd = fd
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        if others:
            for number in self._numbers:
                self._handlers[number] = signal.signal(number, lambda came, _: self._elsewhere.append(came))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            # None: it was not installed from Python, which cannot install it again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._handlers.clear()
        fd, self._fd = self._fd, -1
        os.close(fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def fileno(self) -> int:
        """A descriptor that is readable when a signal has come.  Closed."""
        if self._fd < 0:
            raise Closed("signals are collected within the with block only")
        return self._fd

    def try_wait(self) -> Signal | None:
        """The next signal, if one has come; None."""
        if self._elsewhere:
            return Signal(self._elsewhere.popleft(), 0, 0, 0)
        try:
            text = os.read(self.fileno(), _INFO_SIZE)
        except BlockingIOError:
            return None
        number, _, code, pid, uid, value = _INFO.unpack(text)
        return Signal(number, value if code == _SI_QUEUE else 0, pid, uid)

    def _pause(self, deadline: Deadline) -> float:
        """How long a wait may go on before it looks whether another thread got the signal."""
        return min(_SLICE, deadline.left()) if self._handlers else deadline.left()

    def wait(self, timeout: float | None = None) -> Signal:
        """The next signal; waits for it.  TimeoutError."""
        deadline = Deadline(timeout)
        while True:
            came = self.try_wait()
            if came is not None:
                return came
            if deadline.passed:
                raise TimeoutError(f"no signal came within {timeout} s")
            pause = self._pause(deadline)
            readable(self._fd, Deadline(None if pause == math.inf else pause))

    async def wait_async(self, timeout: float | None = None) -> Signal:
        """``wait`` for coroutines: the event loop goes on meanwhile.  One at a time."""
        deadline = Deadline(timeout)
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self.fileno(), ready.set)
        try:
            while True:
                came = self.try_wait()
                if came is not None:
                    return came
                if deadline.passed:
                    raise TimeoutError(f"no signal came within {timeout} s")
                ready.clear()
                pause = self._pause(deadline)
                try:
                    await asyncio.wait_for(ready.wait(), None if pause == math.inf else pause)
                except asyncio.TimeoutError:
                    continue
        finally:
            loop.remove_reader(self._fd)

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


def _threads_that_take(numbers: set[int]) -> list[int]:
    """The other threads of this process that do not block all of the signals."""
    wanted = sum(1 << (number - 1) for number in numbers)
    found: list[int] = []
    for tid in map(int, os.listdir("/proc/self/task")):
        if tid == threading.get_native_id():
            continue
        try:
            with open(f"/proc/self/task/{tid}/status") as status:
                blocked = next(int(line.split()[1], 16) for line in status if line.startswith("SigBlk:"))
        except (OSError, StopIteration):
            continue  # it ended meanwhile
        if wanted & ~blocked:
            found.append(tid)
    return found
