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

    ValueError: ``path`` is no regular file (a FIFO, say, which others have open), and stays.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"a file that replaces another is written: mode is 'w' or 'wb', got {mode!r}")
    target = os.path.realpath(path)
    _refuse_others(target)
    folder, name = os.path.split(target)
    # Names are counted in bytes, up to 255, of which what is added takes 20 at most.
    short = os.fsencode(name)[:200].decode(errors="ignore")
    making = os.path.join(folder, f".{short}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        fd = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OSError(error.errno, error.strerror, target) from None
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


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _refuse_others(path: str) -> None:
    """ValueError, where a file would take the place of something that is none."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except FileNotFoundError:
        return
    if kind != stat.S_IFREG:
        raise ValueError(f"only a regular file is replaced: {path!r} is {_KINDS.get(kind, 'none')}")


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
