"""Files that are replaced at once: who reads finds the old one or all of the new one."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import IO, Any

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(
    path: str | os.PathLike[str],
    mode: str = "wb",
    *,
    permissions: int | None = None,
    durable: bool = True,
    **options: Any,
) -> Iterator[IO[Any]]:
    """A file to write, which takes the place of ``path`` when the block is left: at once, and only if all went well.

    Who opens ``path`` finds the old file or the whole new one, also after a loss of power (without ``durable``, after a
    crash of this program only, and faster).  If the block raises, ``path`` is as it was.  A symbolic link is followed.
    The new file has the old one's permissions, unless told; ``mode`` is "wb" or "w", ``options`` are those of ``open``.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"a file that replaces another is written: mode is 'w' or 'wb', got {mode!r}")
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    making = os.path.join(folder, f".{name[:200]}.{os.getpid()}.{os.urandom(4).hex()}")
    fd = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, mode, **options) as file:
            yield file
            file.flush()
            os.fchmod(fd, _permissions(target) if permissions is None else permissions)
            if durable:
                os.fsync(fd)
        os.replace(making, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(making)
        raise
    if durable:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _permissions(path: str) -> int:
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        return 0o666 & ~_umask()


def _umask() -> int:
    """This process's, without changing it for a moment, as the only system call for it would."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o077
