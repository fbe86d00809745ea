"""How many system calls a round takes: counted in a run of its own, whose processes are traced.

What the kernel's counters would tell takes root, or a kernel that lets everybody look.  ``ptrace`` takes neither, but
stops a process at every call, for some 10 µs: so nothing is timed meanwhile, and who waits adaptively may sleep more
often than it does untraced.  Only the calls within the round are counted.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
from collections.abc import Callable

__all__ = ["Tracer", "why_not"]

_SYSCALL, _GETEVENTMSG, _SEIZE, _INTERRUPT, _LISTEN, _GET_SYSCALL_INFO = (
    24, 0x4201, 0x4206, 0x4207, 0x4208, 0x420E,
)  # fmt: skip
# Calls are told from signals; threads and children are traced too; who is traced ends with the tracer.
_OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x100000
_EVENT_FORK, _EVENT_VFORK, _EVENT_CLONE, _EVENT_STOP = 1, 2, 3, 128
_ENTRY = 1
_WALL = 0x40000000
_GROUP_STOPS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

_libc = ctypes.CDLL(None, use_errno=True)
_ptrace = _libc.ptrace
_ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_ptrace.restype = ctypes.c_long


def _ask(request: int, pid: int, address: int = 0, data: int = 0) -> None:
    if _ptrace(request, pid, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def why_not() -> str | None:
    """Why nobody may be traced here; None: it goes."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    try:
        _ask(_SEIZE, pid, 0, _OPTIONS)
        return None
    except OSError as error:
        return f"system calls cannot be counted here: ptrace: {error.strerror}"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class Tracer:
    """Traces processes, and what they start; ``counts(role)`` says whether a role's calls count just now."""

    def __init__(self, counts: Callable[[int], bool]) -> None:
        self._counts = counts
        self._roles: dict[int, int] = {}
        self._children: set[int] = set()
        self._info = (ctypes.c_uint8 * 128)()
        self.calls = 0

    def seize(self, pid: int, role: int) -> None:
        """A child of this process, from now on."""
        _ask(_SEIZE, pid, 0, _OPTIONS)
        self._roles[pid] = role
        self._children.add(pid)
        _ask(_INTERRUPT, pid)

    def serve(self) -> None:
        """Lets go on whoever has stopped."""
        busy = True
        while busy:
            busy = False
            for pid in list(self._roles):
                busy |= self._look(pid)

    def _look(self, pid: int) -> bool:
        """Whether it had stopped, or was gone."""
        try:
            if pid in self._children:
                # Its end is for whoever made it.
                found = os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT | _WALL)
                if found is None:
                    return False
                if found.si_code in (os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED):
                    del self._roles[pid]
                    return True
            same, status = os.waitpid(pid, _WALL | os.WNOHANG)
        except ChildProcessError:
            del self._roles[pid]
            return True
        if not same:
            return False
        if not os.WIFSTOPPED(status):
            del self._roles[pid]
            return True
        try:
            self._stopped(pid, status)
        except OSError as error:
            if error.errno != errno.ESRCH:  # it was killed meanwhile
                raise
        return True

    def _stopped(self, pid: int, status: int) -> None:
        event, number, role = status >> 16, os.WSTOPSIG(status), self._roles[pid]
        if event in (_EVENT_FORK, _EVENT_VFORK, _EVENT_CLONE):
            made = ctypes.c_ulong()
            _ask(_GETEVENTMSG, pid, 0, ctypes.addressof(made))
            self._roles[made.value] = role
            _ask(_SYSCALL, pid)
        elif event == _EVENT_STOP:
            # Stopped by somebody: it stays so.  By us, or just made: it goes on.
            _ask(_LISTEN if number in _GROUP_STOPS else _SYSCALL, pid)
        elif number == signal.SIGTRAP | 0x80:
            if self._counts(role):
                _ask(_GET_SYSCALL_INFO, pid, len(self._info), ctypes.addressof(self._info))
                self.calls += self._info[0] == _ENTRY
            _ask(_SYSCALL, pid)
        else:
            _ask(_SYSCALL, pid, 0, 0 if event else number)

    def end(self) -> None:
        """Kills all of them.  A child is left to whoever made it, who can only bury it after its threads."""
        for pid in self._roles:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for pid in set(self._roles) - self._children:
            with contextlib.suppress(OSError):
                os.waitpid(pid, _WALL)
        self._roles.clear()
