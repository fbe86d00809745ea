"""Segments of System V shared memory, for programs that speak nothing else; sysv_ipc makes, finds and removes them.

A SysV segment's name is a number, the key, and it exists before it is laid out: its header's magic comes last, and an
attacher waits for it a little.  It has no file whose locks could say who uses it, so shmkit gives each one a companion,
``/dev/shm/shmkit.lease.<identity>``, made first and removed last, which bears the leases.  A raw segment has none.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from _blake2 import blake2b  # hashlib's own; that one loads OpenSSL, and each child would wait for it
from typing import Any, NamedTuple

from shmkit import _header, _make
from shmkit._foreign import sysv_ipc
from shmkit._header import HEADER_SIZE, PAGE_SIZE, Header
from shmkit._map import Mapping, process_start
from shmkit.errors import (
    LayoutMismatch,
    NotReady,
    SegmentExists,
    SegmentNotFound,
    SegmentPermission,
    ShmkitError,
)
from shmkit.segment import file, header, memfd, posix
from shmkit.segment.trouble import Name, check_room, explain, label, no_space

__all__ = ["Entry", "attach", "attach_id", "collect", "create", "entries", "key_of", "peek", "unlink", "unlink_id"]

PRIVATE = 0
# How long an attacher waits for a creator that is still at work.
PATIENCE = 1.0


class Entry(NamedTuple):
    """A line of the kernel's table of SysV segments."""

    key: int
    shmid: int
    mode: int
    size: int
    creator_pid: int
    attached: int
    uid: int

    @property
    def removed(self) -> bool:
        """Whether it goes with the last process that has it attached."""
        return bool(self.mode & 0o1000)


def entries() -> list[Entry]:
    """The kernel's table; empty where it is not shown."""
    try:
        with open("/proc/sysvipc/shm") as table:
            rows = [line.split() for line in list(table)[1:]]
    except (FileNotFoundError, PermissionError):
        return []
    # key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime …
    return [
        Entry(*(int(row[at], 8 if at == 2 else 10) for at in (0, 1, 2, 3, 4, 6, 7)))  # the mode is octal
        for row in rows
    ]


def key_of(name: object, what: str = "segment") -> int:
    """The key that ``name`` means: itself, if it is a number, or a hash of it.  ``what`` errors say that it names."""
    if isinstance(name, str):
        if not name or "\0" in name or len(name) > 255:
            raise ValueError(f"the name of a SysV {what} has 1 to 255 letters and no NUL: got {name!r}")
        digest = blake2b(name.encode("utf-8", "surrogateescape"), digest_size=4, person=b"shmkit").digest()
        return (int.from_bytes(digest, "little") & 0x7FFFFFFF) or 1
    if isinstance(name, int) and not isinstance(name, bool):
        if not 0 < name <= 0x7FFFFFFF:
            raise ValueError(f"the key of a SysV {what} is a number from 1 to 2**31 - 1: got {name}")
        return name
    raise TypeError(f"the name of a SysV {what} is text, or a number (its key): got {name!r}")


def _companion_path(identity: int) -> str:
    return f"{posix.FOLDER}/{posix.COMPANION}{identity:016x}"


# ------------------------------------------------------------------------------------------------------------- create


def create(
    name: Any,
    size: int,
    kind: int,
    meta: dict[str, Any],
    mode: int,
    leased: bool,
    raw: bool,
    hugepages: bool,
    init: file.Init | None,
) -> Mapping:
    """Makes the segment and maps it.  Its room is always reserved: sysv_ipc fills it with zeros."""
    key = PRIVATE if name is None else key_of(name)
    if isinstance(name, str):
        meta = {**meta, "name": name}
    text = header.format_meta(meta)
    total = size if raw else -(-(HEADER_SIZE + len(text)) // PAGE_SIZE) * PAGE_SIZE + size
    check_room(name, total, None)
    if raw:
        return _create_raw(name, key, total, mode, hugepages)
    identity = _header.token()
    path = _companion_path(identity)
    line = f"{key} {os.getpid()} {process_start()} {identity}\n".encode()
    try:
        fd = _make.create_companion(os.fsencode(posix.FOLDER), os.fsencode(path), mode, line)
    except OSError as error:
        raise explain(error, name, PAGE_SIZE, posix.FOLDER) from None
    shmid = -1
    try:
        memory = _make_memory(name, key, total, mode, hugepages)
        shmid = memory.id
        mapping = _make.attach_sysv(shmid, total, False)
        memory.detach()
        if name is None:
            # From here on the kernel frees it with its last process; it can still be attached to by its id.
            sysv_ipc.remove_shared_memory(shmid)
        flags = (_header.LEASED if leased else 0) | (_header.HUGE if hugepages else 0)
        checked = _make.format_sysv(mapping, size, kind, flags, text, identity, init)
        status = os.fstat(fd)
    except BaseException as error:
        if shmid >= 0:
            _remove(shmid)
        os.unlink(path)
        os.close(fd)
        if isinstance(error, OSError) and not isinstance(error, ShmkitError):
            raise explain(error, name, total) from None
        raise
    _make.adopt_sysv(
        mapping,
        checked,
        name,
        shmid,
        fd,
        status.st_dev,
        status.st_ino,
        os.fsencode(path),
        leased,
        name is None,
        kind in header.ASKING,
    )
    return mapping


def _create_raw(name: Name, key: int, size: int, mode: int, hugepages: bool) -> Mapping:
    memory = _make_memory(name, key, size, mode, hugepages)
    try:
        mapping = _make.attach_sysv(memory.id, size, False)
    except OSError as error:
        memory.remove()
        raise explain(error, name, size) from None
    finally:
        memory.detach()
        if key == PRIVATE:
            _remove(memory.id)
    _make.adopt_sysv(mapping, b"", name, memory.id, -1, 0, 0, None, False, key == PRIVATE, False)
    return mapping


def _make_memory(name: Name, key: int, size: int, mode: int, hugepages: bool) -> Any:
    flags = sysv_ipc.IPC_CREX | (sysv_ipc.SHM_HUGETLB if hugepages else 0)

    def make() -> Any:
        # Filled with zeros: the fill reserves the room, and zero is the magic of what is not ready.
        return sysv_ipc.SharedMemory(key or None, flags, mode, size, b"\0")

    try:
        try:
            return make()
        except sysv_ipc.ExistentialError:
            # Perhaps a crash left it.
            collect(key)
            return make()
    except sysv_ipc.ExistentialError:
        raise SegmentExists(
            f"{label(name)} exists (SysV key {key:#x}): attach to it, unlink it, or use create_or_attach"
        ) from None
    except sysv_ipc.PermissionsError:
        raise SegmentPermission(f"{label(name)}: user {os.geteuid()} may not use SysV key {key:#x}") from None
    except (MemoryError, ValueError, OSError, sysv_ipc.Error) as error:
        if hugepages:
            raise memfd.no_huge_pages(-(-size // memfd.huge_page_size()), memfd.huge_page_size()) from None
        failed = no_space(name, size, None)
        failed.strerror = f"{failed.strerror} ({error}; kernel.shmmax, shmall and shmmni bound SysV segments)"
        raise failed from None


# ------------------------------------------------------------------------------------------------------------- attach


def _find(name: Any) -> Entry:
    key = key_of(name)
    try:
        table = entries()
    except OSError as error:
        raise explain(error, name) from None
    for entry in table:
        if entry.key == key and not entry.removed:
            return entry
    raise SegmentNotFound(f"there is no {label(name)} (SysV key {key:#x})")


def attach(name: Any, readonly: bool, raw: bool, owner: int | None, kind: int | None) -> Mapping:
    """Maps the segment that is there."""
    entry = _find(name)
    if entry.uid not in (os.geteuid(), owner):
        raise SegmentPermission(
            f"{label(name)} belongs to user {entry.uid}, and this process to user {os.geteuid()}: "
            f"owner={entry.uid} accepts that"
        )
    return attach_id(entry, name, readonly, raw, kind)


def attach_id(entry: Entry, name: Name, readonly: bool, raw: bool, kind: int | None, identity: int = 0) -> Mapping:
    """Maps the segment of that table entry; of that identity, if one is given."""
    try:
        mapping = _make.attach_sysv(entry.shmid, entry.size, readonly)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EIDRM):
            raise SegmentNotFound(f"there is no {label(name)} any more (SysV id {entry.shmid})") from None
        raise explain(error, name, entry.size) from None
    if raw:
        _make.adopt_sysv(mapping, b"", name, entry.shmid, -1, 0, 0, None, False, False, False)
        return mapping
    text = _wait_for_header(mapping, entry, name)
    checked = header.check(text, entry.size, name, kind)
    meta = header.parse_meta(text, checked, name)
    if identity not in (0, checked.identity):
        raise SegmentNotFound(f"{label(name)} is gone: another segment has its SysV id {entry.shmid} by now")
    if isinstance(name, str) and meta.get("name") != name:
        raise SegmentNotFound(
            f"there is no {label(name)}: its SysV key {entry.key:#x} is that of segment {meta.get('name', entry.key)!r}"
        )
    leased = bool(checked.flags & _header.LEASED)
    path = _companion_path(checked.identity)
    fd, status = _companion(path, checked, entry, name, readonly)
    _make.adopt_sysv(
        mapping,
        text[:HEADER_SIZE],
        name,
        entry.shmid,
        fd,
        status.st_dev,
        status.st_ino,
        os.fsencode(path),
        leased,
        entry.removed,
        checked.kind in header.ASKING,
    )
    mapping.facts.meta = meta
    return mapping


def _wait_for_header(mapping: Mapping, entry: Entry, name: Name) -> bytes:
    give_up = time.monotonic() + PATIENCE
    while True:
        text = mapping.peek()
        if text is not None:
            return text
        if not process_start(entry.creator_pid):
            raise NotReady(
                f"{label(name)} has no header: its creator, process {entry.creator_pid}, ended before it wrote one"
            )
        if time.monotonic() > give_up:
            raise NotReady(
                f"{label(name)} has no header after {PATIENCE:g} s: process {entry.creator_pid} has not written one "
                "(raw=True attaches to memory without a header)"
            )
        time.sleep(0.0005)


def _companion(path: str, checked: Header, entry: Entry, name: Name, readonly: bool) -> tuple[int, os.stat_result]:
    """Opens the companion file and takes a share in its lease."""
    while True:
        try:
            fd, status = file.open_checked(path, name, readonly, entry.uid)
        except SegmentNotFound:
            if checked.flags & _header.LEASED or entry.uid != os.geteuid():
                raise SegmentNotFound(f"there is no {label(name)} any more: its last user has just left") from None
            # Somebody cleaned /dev/shm; a segment that lives until it is unlinked gets a new one.
            line = f"{entry.key} {checked.creator_pid} {checked.creator_start} {checked.identity}\n".encode()
            try:
                fd = _make.create_companion(os.fsencode(posix.FOLDER), os.fsencode(path), entry.mode & 0o777, line)
            except FileExistsError:
                continue
            except OSError as error:
                raise explain(error, name, PAGE_SIZE, posix.FOLDER) from None
            return fd, os.fstat(fd)
        try:
            if file.share_lease(fd, path, status, name):
                return fd, status
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


# ------------------------------------------------------------------------------------------------------------- remove


def _remove(shmid: int) -> None:
    try:
        sysv_ipc.remove_shared_memory(shmid)
    except sysv_ipc.ExistentialError:
        pass


def peek(entry: Entry) -> tuple[Header, dict[str, Any]] | None:
    """Header and meta of the segment of that table entry; None: it has none, or is not to be read."""
    try:
        text = _make.attach_sysv(entry.shmid, entry.size, True).peek()
        if text is None:
            return None
        checked = header.check(text, entry.size, entry.key)
        return checked, header.parse_meta(text, checked, entry.key)
    except (OSError, LayoutMismatch):
        return None


def unlink(name: Any) -> None:
    """Removes the segment's key; who has it attached keeps it."""
    entry = _find(name)
    found = peek(entry)
    unlink_id(entry.shmid, name, None if found is None else _companion_path(found[0].identity))


def unlink_id(shmid: int, name: Name, path: str | None) -> None:
    """Removes the segment of that id, and its companion."""
    if not any(entry.shmid == shmid and not entry.removed for entry in entries()):
        raise SegmentNotFound(f"there is no {label(name)} any more (SysV id {shmid})")
    try:
        sysv_ipc.remove_shared_memory(shmid)
    except sysv_ipc.ExistentialError:
        raise SegmentNotFound(f"there is no {label(name)} (SysV id {shmid})") from None
    except sysv_ipc.PermissionsError:
        raise SegmentPermission(f"{label(name)}: user {os.geteuid()} may not remove it") from None
    if path is not None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass


def collect(wanted: int | None = None) -> list[str]:
    """Removes what crashes left, and returns what that was; of the key ``wanted`` only, if one is given.

    That is half-made segments, leased ones without users, and companions without segments or receivers.
    """
    removed: list[str] = []
    try:
        names = [name for name in os.listdir(posix.FOLDER) if name.startswith(posix.COMPANION)]
    except OSError:
        return removed
    for name in names:
        path = f"{posix.FOLDER}/{name}"
        try:
            fd, status = file.open_checked(path, name, True, None)
        except (ShmkitError, OSError):
            continue
        try:
            words = os.read(fd, 200).split()
            # A queue's says nothing but who uses it.
            queue = name.startswith(posix.QUEUE_COMPANION)
            key, pid, _, identity = (int(word) for word in ([0] * 4 if queue else words[:4]))
            if wanted not in (None, key):
                continue
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _make.is_at(os.fsencode(path), status.st_dev, status.st_ino) and (
                queue or _abandoned(key, pid, identity, removed)
            ):
                os.unlink(path)
                removed.append(path)
        except (OSError, ValueError):
            # In use, or not one of ours.
            continue
        finally:
            os.close(fd)
    return removed


def _abandoned(key: int, pid: int, identity: int, removed: list[str]) -> bool:
    """Whether a companion that nobody uses has no business any more; a segment that has none either is removed."""
    for entry in entries():
        if entry.uid != os.geteuid() or (entry.key != key and not entry.removed):
            continue
        try:
            text = _make.attach_sysv(entry.shmid, entry.size, True).peek()
        except OSError:
            continue
        if text is None:
            # Zeros only.  If this is its creator's companion, the creator was killed at work.
            if entry.creator_pid != pid:
                continue
            if entry.attached:
                return False
        else:
            checked = _header.parse_header(text) if len(text) >= HEADER_SIZE else None
            if checked is None or checked.magic != _header.MAGIC or checked.identity != identity:
                continue
            if not checked.flags & _header.LEASED:
                return False
        _remove(entry.shmid)
        removed.append(f"SysV segment {entry.shmid}")
    return True
