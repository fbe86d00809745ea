"""Programs as another user runs them: no capability left, a home of their own, and an interpreter that they may read.

What the tests run may lie where root alone may go (a virtual environment below /root, say).  The program sees it all
the same: in a mount namespace of its own, a folder that is closed to others is an empty one that is open, with what
the tests need of it at its old place.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from .isolation import CLONE_NEWNS, MS_NODEV, MS_NOSUID, MS_PRIVATE, MS_REC
from .places import PACKAGE
from .processes import die_with_parent

MS_BIND = 0x1000

_libc = ctypes.CDLL(None, use_errno=True)


def become(uid: int) -> None:
    """Turns this process into one of that user, who may run the interpreter and read the package; for good.

    For a child that is about to exec (``preexec_fn``).

    Raises:
        OSError: the kernel lets this process make no namespace.
    """
    die_with_parent()
    _open_the_way([Path(sys.prefix), Path(sys.base_prefix), PACKAGE, Path(__file__).parent.parent])
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def home_of(uid: int) -> Path:
    """An empty folder that is theirs, and that they may go to; whoever asked for it removes it."""
    home = Path(tempfile.mkdtemp(prefix="shmkit-tests-"))
    os.chown(home, uid, uid)
    return home


def _open_the_way(needed: Iterable[Path]) -> None:
    closed: dict[Path, set[Path]] = {}
    for path in {path.resolve() for path in needed}:
        for folder in (*reversed(path.parents), path):
            if not folder.stat().st_mode & stat.S_IXOTH:
                closed.setdefault(folder, set()).add(path)
                break
    if not closed:
        return
    if _libc.unshare(CLONE_NEWNS) != 0 or _libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        raise OSError(ctypes.get_errno(), "a program of another user needs a mount namespace")
    for folder, paths in closed.items():
        # Held open, they can still be named when the folder is covered.
        held = {path: os.open(path, os.O_PATH | os.O_DIRECTORY) for path in sorted(paths)}
        _mount(b"shmkit-tests", folder, b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=755")
        for path, descriptor in held.items():
            path.mkdir(parents=True, exist_ok=True)
            _mount(f"/proc/self/fd/{descriptor}".encode(), path, None, MS_BIND | MS_REC, None)
            os.close(descriptor)


def _mount(source: bytes, where: Path, kind: bytes | None, flags: int, options: bytes | None) -> None:
    if _libc.mount(source, os.fsencode(where), kind, flags, options) != 0:
        raise OSError(ctypes.get_errno(), f"cannot mount on {where}")
