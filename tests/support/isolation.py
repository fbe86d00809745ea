"""A /dev/shm and a SysV table of the tests' own, where the kernel lets us have them.

Other programs, another run of these tests above all, then neither show up in the books nor collect what a test means to
find.  It needs root; without it the tests share the machine's, and the books tell by use whose a thing is.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile

CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 2

# The folder of the POSIX message queues, open; None: they cannot be seen.
message_queues: int | None = None


def isolate() -> str:
    """Moves this process, and whatever it will start, into namespaces of its own; says in words what came of it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWIPC) != 0:
        return f"shared with other programs ({os.strerror(ctypes.get_errno())})"
    # Private first: the new mount must not propagate to where everybody else would see it.
    if libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        return f"shared with other programs ({os.strerror(ctypes.get_errno())}); the SysV table is private"
    if libc.mount(b"shmkit-tests", b"/dev/shm", b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=1777") != 0:
        return f"shared with other programs ({os.strerror(ctypes.get_errno())}); the SysV table is private"
    _see_message_queues(libc)
    return "private"


def _see_message_queues(libc: ctypes.CDLL) -> None:
    """Opens the folder of this namespace's queues, by a mount that nobody sees again."""
    global message_queues
    where = tempfile.mkdtemp()
    if libc.mount(b"shmkit-tests", os.fsencode(where), b"mqueue", MS_NOSUID | MS_NODEV, None) == 0:
        with contextlib.suppress(OSError):
            message_queues = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
        libc.umount2(os.fsencode(where), MNT_DETACH)
    os.rmdir(where)
