"""Segments in files: named by a path, they persist.  ``posix`` uses the same code for the files of /dev/shm.

A file is made without a name, laid out, and linked when it is whole.  Attaching believes nothing: it opens what is
there without following links or waiting, and reads and checks the header before it maps anything.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from fcntl import LOCK_NB, LOCK_SH, flock

from shmkit import _header, _make
from shmkit._header import HEADER_SIZE, PAGE_SIZE
from shmkit._map import Facts, Mapping
from shmkit.errors import LayoutMismatch, NotReady, SegmentNotFound, SegmentPermission, ShmkitError
from shmkit.segment import header
from shmkit.segment.room import LARGE
from shmkit.segment.trouble import Name, check_room, explain, label

__all__ = [
    "UNFINISHED",
    "attach",
    "attach_at",
    "create",
    "create_at",
    "open_checked",
    "path_of",
    "share_lease",
    "sync_folder",
    "unlink_at",
    "unlink_file",
]

Init = Callable[[Mapping, int], object]

# What a file is called before it is whole, where the file system knows no unnamed ones.
UNFINISHED = ".shmkit-unfinished-"
# False in tests: makes files as on file systems that know no unnamed ones.
NAMELESS = True

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
}


def path_of(name: object) -> str:
    """The absolute path that ``name`` means."""
    if not isinstance(name, (str, os.PathLike)):
        raise TypeError(f"the name of a segment in a file is its path: got {name!r}")
    path = os.fspath(name)
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError(f"a path must be text, not empty and without NUL: got {path!r}")
    return os.path.abspath(path)


def create(
    name: object,
    size: int,
    kind: int,
    meta: bytes,
    mode: int,
    leased: bool,
    raw: bool,
    reserve: bool,
    init: Init | None,
) -> Mapping:
    """Makes the file and maps it."""
    path = path_of(name)
    return create_at(path, "file", path, size, kind, meta, mode, leased, raw, reserve, init)


def create_at(
    path: str,
    backing: str,
    name: str,
    size: int,
    kind: int,
    meta: bytes,
    mode: int,
    leased: bool,
    raw: bool,
    reserve: bool,
    init: Init | None,
) -> Mapping:
    """Makes the file at ``path`` and maps it; its descriptor is kept for a ring."""
    # A large reservation is compared with the room there is; a smaller one, the kernel may refuse itself.
    if reserve and size >= LARGE:
        check_room(name, size + PAGE_SIZE, os.path.dirname(path))
    where = os.fsencode(path)
    try:
        return _make.create_file(
            where[: where.rindex(b"/")] or b"/",
            where,
            backing,
            name,
            mode,
            size,
            kind,
            meta,
            raw,
            leased,
            reserve,
            kind in header.ASKING,
            init,
            NAMELESS,
        )
    except ShmkitError:
        raise
    except OSError as error:
        raise explain(error, name, size + PAGE_SIZE, os.path.dirname(path)) from None


def attach(name: object, readonly: bool, raw: bool, owner: int | None, kind: int | None) -> Mapping:
    """Maps the file that is there."""
    path = path_of(name)
    return attach_at(path, "file", path, readonly, raw, owner, kind)


def attach_at(
    path: str, backing: str, name: str, readonly: bool, raw: bool, owner: int | None, kind: int | None
) -> Mapping:
    """Maps the file at ``path`` once it has been checked."""
    while True:
        fd, status = open_checked(path, name, readonly, owner)
        try:
            size = status.st_size
            if raw:
                if size == 0:
                    raise LayoutMismatch(f"a segment has at least one byte: got 0 ({label(name)})")
                text, meta = b"", None
            else:
                # Ordinary reads: were the file truncated meanwhile, they come out short; a mapping would be SIGBUS.
                text = os.pread(fd, header.READ_SIZE, 0)
                checked = header.check(text, size, name, kind)
                meta = header.parse_meta(text, checked, name)
                if checked.flags & _header.LEASED and not share_lease(fd, path, status, name):
                    os.close(fd)
                    continue
                kind, size = checked.kind, checked.header_size + checked.payload_size
        except BaseException as error:
            os.close(fd)
            if isinstance(error, OSError) and not isinstance(error, ShmkitError):
                raise explain(error, name) from None
            raise
        try:
            mapping = _make.attach_file(
                fd,
                status.st_dev,
                status.st_ino,
                text[:HEADER_SIZE],
                size,
                readonly,
                kind in header.ASKING,
                backing,
                name,
                os.fsencode(path),
            )
        except OSError as error:
            raise explain(error, name, size) from None
        mapping.facts.meta = meta
        return mapping


def open_checked(path: str, name: Name, readonly: bool, owner: int | None) -> tuple[int, os.stat_result]:
    """Opens ``path`` if it is a regular file of this user's, or of ``owner``."""
    flags = os.O_RDONLY if readonly else os.O_RDWR
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(error, path, name, readonly) from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _not_regular(status.st_mode, name)
        if status.st_uid not in (os.geteuid(), owner):
            raise SegmentPermission(
                f"{label(name)} belongs to user {status.st_uid}, and this process to user {os.geteuid()}: "
                f"owner={status.st_uid} accepts that"
            )
    except BaseException:
        os.close(fd)
        raise
    return fd, status


def _not_regular(mode: int, name: Name) -> LayoutMismatch:
    what = _KINDS.get(stat.S_IFMT(mode), "no file")
    return LayoutMismatch(f"a segment is a regular file: got {what} ({label(name)})")


def _refused(error: OSError, path: str, name: Name, readonly: bool) -> Exception:
    if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
        try:
            return _not_regular(os.lstat(path).st_mode, name)
        except OSError:
            pass
    if error.errno == errno.EACCES and not readonly and os.access(path, os.R_OK):
        return SegmentPermission(f"{label(name)} may only be read by user {os.geteuid()}: readonly=True attaches to it")
    if error.errno == errno.ENOTDIR:
        return SegmentNotFound(f"there is no {label(name)}: a part of its path is no folder")
    return explain(error, name)


def share_lease(fd: int, path: str, status: os.stat_result, name: Name) -> bool:
    """Joins those who use a leased segment; False if the last of them removed it just before."""
    give_up = time.monotonic() + 5.0
    while True:
        try:
            flock(fd, LOCK_SH | LOCK_NB)
            break
        except BlockingIOError:
            # Somebody makes sure that nobody uses it any more, which takes microseconds.
            if time.monotonic() > give_up:
                raise NotReady(f"somebody holds the lease of {label(name)}, but neither uses nor removes it") from None
            time.sleep(0.0001)
    return bool(_make.is_at(os.fsencode(path), status.st_dev, status.st_ino))


def unlink_at(path: str, name: Name) -> None:
    """Removes the name."""
    try:
        os.unlink(path)
    except IsADirectoryError:
        raise _not_regular(stat.S_IFDIR, name) from None
    except OSError as error:
        raise explain(error, name) from None


def unlink_file(facts: Facts) -> None:
    """Removes the name of this very file."""
    try:
        _make.unlink_file(facts)
    except FileNotFoundError:
        raise SegmentNotFound(f"there is no {label(facts.name)}, or another one has its name by now") from None
    except OSError as error:
        raise explain(error, facts.name) from None


def sync_folder(path: str) -> None:
    """Makes the file's name as durable as its contents."""
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
