"""Segments of POSIX shared memory: files of /dev/shm, each named without a slash.

Raw ones, shared with programs that know nothing of shmkit, are made as those programs make them, by shm_open.
"""

from __future__ import annotations

import errno
import os
import re

from shmkit import _header, _make
from shmkit._map import Mapping
from shmkit.segment import file
from shmkit.segment.trouble import check_room, explain

__all__ = [
    "COMPANION",
    "FOLDER",
    "QUEUE_COMPANION",
    "attach",
    "create",
    "create_raw",
    "generated_name",
    "path_of",
    "unlink",
]

FOLDER = "/dev/shm"
# What most names look like, and nothing that would need a closer look.
_ORDINARY = re.compile(r"(?!shmkit\.lease\.)[A-Za-z0-9_-][A-Za-z0-9_.-]{0,62}")
# How the names of the companions of SysV segments begin.
COMPANION = "shmkit.lease."
# And of System V queues that channels receive from.
QUEUE_COMPANION = f"{COMPANION}queue-"


def path_of(name: object) -> str:
    """The file that ``name`` means; a leading slash, as shm_open has it, is no part of the name."""
    if type(name) is str and ((name.isidentifier() and name.isascii() and len(name) < 64) or _ORDINARY.fullmatch(name)):
        return f"{FOLDER}/{name}"
    if not isinstance(name, str):
        raise TypeError(f"the name of a POSIX segment is text: got {name!r}")
    bare = name[1:] if name.startswith("/") else name
    if not bare or "/" in bare or "\0" in bare or bare in (".", ".."):
        raise ValueError(
            f"the name of a POSIX segment is neither empty nor '.' or '..', and has no slash or NUL: got {name!r} "
            "(backing='file' takes a path)"
        )
    if bare.startswith((COMPANION, file.UNFINISHED)):
        raise ValueError(f"names that begin with {COMPANION!r} or {file.UNFINISHED!r} are shmkit's own: got {name!r}")
    if len(bare) > 63 and len(os.fsencode(bare)) > 255:
        raise ValueError(f"the name of a POSIX segment takes at most 255 bytes: got {len(os.fsencode(bare))}, {name!r}")
    return f"{FOLDER}/{bare}"


def generated_name() -> str:
    """A name that nobody else has."""
    return f"shmkit.{_header.token():016x}"


def create(
    name: object,
    size: int,
    kind: int,
    meta: bytes,
    mode: int,
    leased: bool,
    raw: bool,
    reserve: bool,
    init: file.Init | None,
) -> Mapping:
    """Makes the segment and maps it."""
    if raw:
        return create_raw(name, size, mode, reserve)
    path = path_of(name)
    return file.create_at(path, "posix", path[len(FOLDER) + 1 :], size, kind, meta, mode, leased, raw, reserve, init)


def create_raw(name: object, size: int, mode: int = 0o600, reserve: bool = True) -> Mapping:
    """Makes a segment without a header, as shm_open does, and maps it."""
    path = path_of(name)
    bare = path[len(FOLDER) + 1 :]
    if reserve:
        check_room(bare, size, FOLDER)
    try:
        where = path.encode() if path.isascii() else os.fsencode(path)
        return _make.create_raw(where, "posix", bare, mode, size, reserve)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise FileNotFoundError(
                errno.ENOENT, f"there is no {FOLDER}: mount a tmpfs there, or use backing 'memfd' or 'file'", bare
            ) from None
        raise explain(error, bare, size, FOLDER) from None


def attach(name: object, readonly: bool, raw: bool, owner: int | None, kind: int | None) -> Mapping:
    """Maps the segment that is there."""
    path = path_of(name)
    return file.attach_at(path, "posix", path[len(FOLDER) + 1 :], readonly, raw, owner, kind)


def unlink(name: object) -> None:
    """Removes the name."""
    path = path_of(name)
    file.unlink_at(path, path[len(FOLDER) + 1 :])
