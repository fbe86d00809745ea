"""What the kernel can do: each thing that shmkit stands on is tried."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
from collections.abc import Iterator

from shmkit.segment import posix
from shmkit.survey.locks import Leases
from shmkit.survey.machine import Check, Finding, Machine

__all__ = ["CHECKS"]

_OLDEST = (5, 4)
_FUTEX_WAITV = 449  # on every architecture
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def _version(machine: Machine) -> Iterator[Finding]:
    release = platform.release()
    parts = release.replace("-", ".").split(".")
    try:
        version = int(parts[0]), int(parts[1])
    except (ValueError, IndexError):
        yield Finding("note", "kernel", f"Linux {release}")
        return
    if version < _OLDEST:
        yield Finding("problem", "kernel", f"Linux {release}: at least 5.4 is needed", "a newer kernel")
    else:
        yield Finding("ok", "kernel", f"Linux {release}, {platform.machine()}")


def _memfd(machine: Machine) -> Iterator[Finding]:
    try:
        fd = os.memfd_create("shmkit-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        remedy = "let memfd_create through the container's seccomp profile"
        yield Finding("problem", "anonymous memory", f"memfd_create: {error.strerror}", remedy)
        return
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        yield Finding("ok", "anonymous memory", "memfd_create, with seals")
    except OSError as error:
        yield Finding("problem", "anonymous memory", f"it cannot be sealed: {error.strerror}", "a newer kernel")
    finally:
        os.close(fd)


def _leases(machine: Machine) -> Iterator[Finding]:
    fd = os.memfd_create("shmkit-doctor", os.MFD_CLOEXEC)
    try:
        other = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        try:
            lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 2**61, 1, 0)
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, lock)
            held = struct.unpack("hhqqi4x", fcntl.fcntl(other, fcntl.F_OFD_GETLK, lock))[0] != fcntl.F_UNLCK
        finally:
            os.close(other)
    except OSError as error:
        remedy = "a newer kernel; and /proc mounted"
        yield Finding("problem", "leases", f"locks of open files: {error.strerror}", remedy)
        return
    finally:
        os.close(fd)
    if not held:
        text = "locks of open files are granted, but not kept: nobody could tell who lives"
        yield Finding("problem", "leases", text, "a kernel that has them (gVisor and WSL 1 do not)")
        return
    yield Finding("ok", "leases", "locks of open files")
    if not Leases().known:
        text = "/proc/locks does not show this process's locks: shmkit ls cannot tell who holds leases"
        yield Finding("note", "/proc/locks", text)


def _nameless(machine: Machine) -> Iterator[Finding]:
    try:
        os.close(os.open(posix.FOLDER, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            text = "not in /dev/shm: a crash in the making leaves a half-made file, until the next collection"
            yield Finding("note", "nameless files", text)
        return
    yield Finding("ok", "nameless files", "O_TMPFILE in /dev/shm")


def _calls(machine: Machine) -> Iterator[Finding]:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(ctypes.c_long(_FUTEX_WAITV), None, 0, 0, None, 0)
    waitv = ctypes.get_errno() != errno.ENOSYS
    yield Finding("ok", "futex_waitv", "there is one" if waitv else "none before Linux 5.16; nothing needs it")
    try:
        os.close(os.pidfd_open(os.getpid()))
        yield Finding("ok", "pidfd", "pidfd_open")
    except OSError as error:
        yield Finding("note", "pidfd", f"pidfd_open: {error.strerror}")


def _processes(machine: Machine) -> Iterator[Finding]:
    for line in (machine.text("/proc/self/mountinfo") or "").splitlines():
        words = line.split()
        if len(words) > 5 and words[4] == "/proc" and "hidepid=" in line and "hidepid=0" not in line:
            text = "it hides other users' processes: shmkit ls sees only what this user's use"
            yield Finding("note", "/proc", text, "as root: mount -o remount,hidepid=0 /proc")


CHECKS: tuple[Check, ...] = (_version, _memfd, _leases, _nameless, _calls, _processes)
